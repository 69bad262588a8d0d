/* The headers are C, and the static library is all that a C program links. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "rump/rump_syscalls.h"
#include "rump/rumpclient.h"

#define CHECK(condition)                                     \
  do {                                                       \
    if (!(condition)) {                                      \
      fprintf(stderr, "%d: not %s\n", __LINE__, #condition); \
      return 1;                                              \
    }                                                        \
  } while (0)

int main(void) {
  long retval[2];
  unsetenv("RUMP_SERVER");
  CHECK(rumpclient_init() == -1 && errno == ENOENT);
  CHECK(rumpclient_syscall(39, NULL, 0, retval) == ENOTCONN);
  CHECK(rump_sys_socket(AF_INET, SOCK_STREAM, 0) == -1 && errno == ENOTCONN);
  return 0;
}
