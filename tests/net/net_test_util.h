// What the tests of the network stack share: sockets made and driven in one line.
#ifndef TESTS_NET_NET_TEST_UTIL_H_
#define TESTS_NET_NET_TEST_UTIL_H_

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>

#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "sp_server/kernel/socket.h"
#include "sp_server/net/inet_family.h"
#include "sp_server/net/net_stack.h"

namespace rump {

inline SocketAddress Ipv4(const char* ip, uint16_t port) {
  SocketAddress address;
  auto& in = reinterpret_cast<sockaddr_in&>(address.storage);
  in.sin_family = AF_INET;
  in.sin_port = htons(port);
  inet_pton(AF_INET, ip, &in.sin_addr);
  address.len = sizeof in;
  return address;
}

inline SocketAddress Ipv6(const char* ip, uint16_t port) {
  SocketAddress address;
  auto& in6 = reinterpret_cast<sockaddr_in6&>(address.storage);
  in6.sin6_family = AF_INET6;
  in6.sin6_port = htons(port);
  inet_pton(AF_INET6, ip, &in6.sin6_addr);
  address.len = sizeof in6;
  return address;
}

inline uint16_t PortOf(const SocketAddress& address) {
  // sin6_port lies where sin_port does.
  return ntohs(reinterpret_cast<const sockaddr_in&>(address.storage).sin_port);
}

// "ip port".
inline std::string Show(const SocketAddress& address) {
  char text[INET6_ADDRSTRLEN] = "none";
  if (address.family() == AF_INET) {
    inet_ntop(AF_INET, &reinterpret_cast<const sockaddr_in&>(address.storage).sin_addr, text,
              sizeof text);
  } else if (address.family() == AF_INET6) {
    inet_ntop(AF_INET6, &reinterpret_cast<const sockaddr_in6&>(address.storage).sin6_addr, text,
              sizeof text);
  }
  return std::string(text) + " " + std::to_string(PortOf(address));
}

inline std::span<const std::byte> Bytes(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

class NetTest : public testing::Test {
 protected:
  NetTest() { RegisterInet(&families_, &NetStack::Get(), nullptr); }
  ~NetTest() override { Settle(); }

  std::shared_ptr<Socket> Tcp(int domain = AF_INET) { return Make(domain, SOCK_STREAM); }
  std::shared_ptr<Socket> Udp(int domain = AF_INET) { return Make(domain, SOCK_DGRAM); }

  // Lets every packet arrive that is under way.
  void Settle() {
    while (NetStack::Get().queued_packets() > 0) NetStack::Get().Drain(1000);
  }

  // A socket that listens on `ip` and a port of its own.
  std::shared_ptr<Socket> Listener(const SocketAddress& address, int backlog = 16) {
    std::shared_ptr<Socket> listener = Tcp(address.family());
    EXPECT_EQ(listener->Bind(address).value(), 0);
    EXPECT_EQ(listener->Listen(backlog).value(), 0);
    return listener;
  }

  struct Pair {
    std::shared_ptr<Socket> client;
    std::shared_ptr<Socket> server;
    StreamSocket* client_stream() const { return static_cast<StreamSocket*>(client.get()); }
    StreamSocket* server_stream() const { return static_cast<StreamSocket*>(server.get()); }
  };
  Pair ConnectedPair(const char* ip = "127.0.0.1") {
    std::shared_ptr<Socket> listener = Listener(Ipv4(ip, 0));
    Pair pair;
    pair.client = Tcp();
    EXPECT_EQ(pair.client->Connect(*listener->LocalAddress()).value(), EINPROGRESS);
    Settle();
    EXPECT_EQ(pair.client->TakeError().value(), 0);
    Result<std::shared_ptr<Socket>> server = listener->Accept(nullptr);
    // Without its connection no test can go on.
    if (!server.ok()) throw std::runtime_error("no connection");
    pair.server = *server;
    return pair;
  }

  // What can be received now, at most `limit` bytes; nullopt-like "<errno>" text on an error.
  std::string ReceiveText(Socket& socket, size_t limit = 65536, int flags = 0) {
    std::vector<std::byte> buffer(limit);
    Result<Received> received = socket.Receive(buffer, flags);
    if (!received.ok()) return "error " + std::to_string(received.error().value());
    return std::string(reinterpret_cast<const char*>(buffer.data()), received->copied);
  }
  Result<size_t> SendText(Socket& socket, std::string_view text, int flags = 0) {
    return socket.Send(Bytes(text), nullptr, flags);
  }
  Errno SetInt(Socket& socket, int level, int name, int value) {
    return socket.SetOption(level, name, std::as_bytes(std::span(&value, 1)));
  }
  int GetInt(Socket& socket, int level, int name) {
    int value = -12345;
    Result<size_t> size =
        socket.GetOption(level, name, std::as_writable_bytes(std::span(&value, 1)));
    EXPECT_TRUE(size.ok()) << "option " << name << " errno " << size.error().value();
    EXPECT_EQ(size.ok() ? *size : 0, sizeof value);
    return value;
  }

 private:
  std::shared_ptr<Socket> Make(int domain, int type) {
    Result<std::shared_ptr<Socket>> socket = families_.Create(domain, type, 0, 0);
    EXPECT_TRUE(socket.ok());
    return *socket;
  }
  SocketFamilies families_;
};

inline std::string ErrorText(int error) { return "error " + std::to_string(error); }

}  // namespace rump

#endif  // TESTS_NET_NET_TEST_UTIL_H_
