// The stack without programs: bytes and connections between two sockets on loopback.
#include <benchmark/benchmark.h>
#include <netinet/in.h>

#include <memory>
#include <vector>

#include "sp_server/net/net_stack.h"
#include "sp_server/net/tcp_socket.h"
#include "sp_server/net/udp_socket.h"

namespace rump {
namespace {

SocketAddress Loopback() {
  SocketAddress address;
  auto& in = reinterpret_cast<sockaddr_in&>(address.storage);
  in.sin_family = AF_INET;
  in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.len = sizeof in;
  return address;
}

void Check(benchmark::State& state, bool ok) {
  if (!ok) state.SkipWithError("socket call failed");
}

void DrainAll() {
  while (NetStack::Get().queued_packets() > 0) NetStack::Get().Drain(1000);
}

struct Connection {
  explicit Connection(benchmark::State& state) {
    NetStack* stack = &NetStack::Get();
    TcpSocket listener(stack, AF_INET, 0);
    Check(state, listener.Bind(Loopback()).ok() && listener.Listen(1).ok());
    client = std::make_shared<TcpSocket>(stack, AF_INET, 0);
    Check(state, client->Connect(*listener.LocalAddress()).value() == EINPROGRESS);
    DrainAll();
    server = *listener.Accept(nullptr);
  }
  std::shared_ptr<TcpSocket> client;
  std::shared_ptr<Socket> server;
};

// Argument: bytes per write and read.
void BM_TcpStream(benchmark::State& state) {
  Connection connection(state);
  std::vector<std::byte> data(static_cast<size_t>(state.range(0)));
  std::vector<std::byte> buffer(data.size());
  int64_t bytes = 0;
  for (auto _ : state) {
    Result<size_t> sent = connection.client->Send(data, nullptr, 0);
    NetStack::Get().Poll();
    while (true) {
      Result<Received> received = connection.server->Receive(buffer, 0);
      if (!received.ok()) break;
      bytes += static_cast<int64_t>(received->copied);
    }
    if (!sent.ok()) NetStack::Get().Poll();
  }
  state.SetBytesProcessed(bytes);
}
BENCHMARK(BM_TcpStream)->Arg(1024)->Arg(16384)->Arg(65536)->Arg(262144);

// As a pump reads: in place.
void BM_TcpStreamInPlace(benchmark::State& state) {
  Connection connection(state);
  auto* server = static_cast<StreamSocket*>(connection.server.get());
  std::vector<std::byte> data(static_cast<size_t>(state.range(0)));
  int64_t bytes = 0;
  iovec iov[16];
  for (auto _ : state) {
    benchmark::DoNotOptimize(connection.client->Send(data, nullptr, 0).ok());
    NetStack::Get().Poll();
    size_t n = 0;
    while ((n = server->PeekReceived(iov)) > 0) {
      size_t length = 0;
      for (size_t i = 0; i < n; ++i) length += iov[i].iov_len;
      server->ConsumeReceived(length);
      bytes += static_cast<int64_t>(length);
    }
  }
  state.SetBytesProcessed(bytes);
}
BENCHMARK(BM_TcpStreamInPlace)->Arg(65536);

void BM_TcpPingPong(benchmark::State& state) {
  Connection connection(state);
  std::byte byte{};
  const auto pass = [&](Socket& from, Socket& to) {
    Check(state, from.Send(std::span(&byte, 1), nullptr, 0).ok());
    NetStack::Get().Poll();
    Check(state, to.Receive(std::span(&byte, 1), 0).ok());
  };
  for (auto _ : state) {
    pass(*connection.client, *connection.server);
    pass(*connection.server, *connection.client);
  }
}
BENCHMARK(BM_TcpPingPong);

void BM_TcpConnectAcceptClose(benchmark::State& state) {
  NetStack* stack = &NetStack::Get();
  TcpSocket listener(stack, AF_INET, 0);
  Check(state, listener.Bind(Loopback()).ok() && listener.Listen(1).ok());
  const SocketAddress where = *listener.LocalAddress();
  for (auto _ : state) {
    TcpSocket client(stack, AF_INET, 0);
    Check(state, client.Connect(where).value() == EINPROGRESS);
    stack->Poll();
    Check(state, listener.Accept(nullptr).ok());
    stack->Poll();
  }
}
BENCHMARK(BM_TcpConnectAcceptClose);

void BM_UdpPingPong(benchmark::State& state) {
  NetStack* stack = &NetStack::Get();
  const auto memory = std::make_shared<Budget>(size_t{1} << 20);
  UdpSocket a(stack, AF_INET, IPPROTO_UDP, 0, memory), b(stack, AF_INET, IPPROTO_UDP, 0, memory);
  Check(state, a.Bind(Loopback()).ok() && b.Bind(Loopback()).ok());
  Check(state, a.Connect(*b.LocalAddress()).ok() && b.Connect(*a.LocalAddress()).ok());
  std::byte byte{};
  for (auto _ : state) {
    for (auto [from, to] : {std::pair{&a, &b}, std::pair{&b, &a}}) {
      Check(state, from->Send(std::span(&byte, 1), nullptr, 0).ok());
      stack->Poll();
      Check(state, to->Receive(std::span(&byte, 1), 0).ok());
    }
  }
}
BENCHMARK(BM_UdpPingPong);

}  // namespace
}  // namespace rump

BENCHMARK_MAIN();
