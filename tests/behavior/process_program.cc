// process_program STREAM LISTENER DATAGRAM: uses the sockets that it inherits at these numbers.
#include <stdlib.h>

#include "tests/behavior/process_sockets.h"

int main(int argc, char** argv) {
  if (argc != 4) return 100;
  return rump::UseSockets({atoi(argv[1]), atoi(argv[2]), atoi(argv[3])});
}
