// The names of AF_UNIX sockets.
#ifndef SP_SERVER_KERNEL_UNIX_NAMES_H_
#define SP_SERVER_KERNEL_UNIX_NAMES_H_

#include <stdint.h>

#include <map>
#include <memory>
#include <string>
#include <utility>

#include "protocol/errno.h"
#include "sp_server/kernel/budget.h"
#include "sp_server/kernel/socket.h"

namespace rump {

class UnixSocket;

// The names that sockets are bound to. A path lives as long as its socket: there is no unlink(2).
class UnixNames {
 public:
  // Abstract names are those of one type of socket; paths are everybody's, under type 0.
  using Name = std::pair<int, std::string>;

  // `memory`: what the queues of the family's sockets come out of; nullptr: without a limit.
  explicit UnixNames(std::shared_ptr<Budget> memory) : memory_(std::move(memory)) {}

  const std::shared_ptr<Budget>& memory() const { return memory_; }
  // The name in an address given to a socket of `type`: EINVAL if there is none.
  static Result<Name> Parse(int type, const SocketAddress& address);
  static SocketAddress AddressOf(const Name& name);

  // EADDRINUSE.
  Errno Bind(const Name& name, UnixSocket* socket);
  // A free abstract name, as bind(2) without one gives it.
  Result<Name> BindAny(int type, UnixSocket* socket);
  void Unbind(const Name& name) { sockets_.erase(name); }
  // nullptr if nobody is bound to it.
  std::shared_ptr<UnixSocket> Find(const Name& name) const;

 private:
  const std::shared_ptr<Budget> memory_;
  std::map<Name, UnixSocket*> sockets_;
  uint32_t next_ = 0;
};

}  // namespace rump

#endif  // SP_SERVER_KERNEL_UNIX_NAMES_H_
