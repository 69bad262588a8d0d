/*
 * A web server for one request, whose sockets live in a rump_server.
 *
 *   cc hello_server.c $(pkg-config --cflags --libs rumpclient) -o hello_server
 */
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <rump/rump_syscalls.h>
#include <rump/rumpclient.h>

static int check(int result, const char *what) {
  if (result >= 0) return result;
  perror(what);
  exit(1);
}

int main(void) {
  const struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(8080)};
  const char *answer = "HTTP/1.0 200 OK\r\n\r\nHello from a kernel in another process\n";
  const int on = 1;
  char request[4096];

  if (rumpclient_init() != 0) return 1; /* It has said why. */
  int listener = check(rump_sys_socket(AF_INET, SOCK_STREAM, 0), "socket");
  check(rump_sys_setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on), "setsockopt");
  check(rump_sys_bind(listener, (const struct sockaddr *)&address, sizeof address), "bind");
  check(rump_sys_listen(listener, 1), "listen");
  puts("listening on port 8080");
  fflush(stdout);
  int client = check(rump_sys_accept(listener, NULL, NULL), "accept");
  check(rump_sys_read(client, request, sizeof request), "read");
  check(rump_sys_write(client, answer, strlen(answer)), "write");
  printf("process %d of the server has answered\n", rump_sys_getpid());
  return 0;
}
