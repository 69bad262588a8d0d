// A socket whose close(2) blocks until somebody else lets it go on.
#ifndef TESTS_SP_SERVER_LINGERING_SOCKET_H_
#define TESTS_SP_SERVER_LINGERING_SOCKET_H_

#include "sp_server/loop/unique_fd.h"

namespace rump {

class LingeringSocket {
 public:
  LingeringSocket();

  // To be given away and closed by somebody else.
  UniqueFd fd;
  // Lets the close of `fd` end.
  void Drain();

 private:
  UniqueFd peer_;
};

}  // namespace rump

#endif  // TESTS_SP_SERVER_LINGERING_SOCKET_H_
