// A program of librumpclient's on a server that speaks plain 0.4.
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/socket.h>

#include <string>

#include "gtest/gtest.h"
#include "rump/rump_syscalls.h"
#include "rump/rumpclient.h"
#include "tests/sp_server/server_thread.h"

namespace rump {
namespace {

ServerOptions PlainOptions() {
  ServerOptions options;
  options.extensions = 0;
  return options;
}

TEST(PlainServer, ServesARumpclientProgram) {
  const ServerThread server(PlainOptions());
  ASSERT_EQ(setenv("RUMP_SERVER", server.url().c_str(), 1), 0);
  ASSERT_EQ(rumpclient_init(), 0);
  EXPECT_GT(rump_sys_getpid(), 1);

  const int listener = rump_sys_socket(AF_INET, SOCK_STREAM, 0);
  ASSERT_GE(listener, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  auto* name = reinterpret_cast<sockaddr*>(&address);
  socklen_t size = sizeof address;
  ASSERT_EQ(rump_sys_bind(listener, name, size), 0);
  ASSERT_EQ(rump_sys_listen(listener, 1), 0);
  ASSERT_EQ(rump_sys_getsockname(listener, name, &size), 0);
  const int client = rump_sys_socket(AF_INET, SOCK_STREAM, 0);
  ASSERT_EQ(rump_sys_connect(client, name, size), 0);
  const int accepted = rump_sys_accept(listener, nullptr, nullptr);
  ASSERT_GE(accepted, 0);
  const std::string sent(100'000, 'x');
  ASSERT_EQ(rump_sys_write(client, sent.data(), sent.size()), static_cast<ssize_t>(sent.size()));
  ASSERT_EQ(rump_sys_close(client), 0);
  std::string got;
  char part[4096];
  ssize_t n;
  while ((n = rump_sys_read(accepted, part, sizeof part)) > 0) got.append(part, n);
  EXPECT_EQ(n, 0);
  EXPECT_EQ(got, sent);
  EXPECT_EQ(rump_sys_read(accepted, nullptr, 4096), 0);
}

}  // namespace
}  // namespace rump
