// The file descriptors of one process.
#ifndef SP_SERVER_KERNEL_FD_TABLE_H_
#define SP_SERVER_KERNEL_FD_TABLE_H_

#include <stddef.h>

#include <memory>
#include <vector>

#include "protocol/errno.h"
#include "sp_server/kernel/file.h"

namespace rump {

class FdTable {
 public:
  // Descriptors that a process may have; one more is EMFILE.
  static constexpr int kMaxFds = 4096;

  FdTable() = default;
  FdTable(const FdTable&) = delete;
  FdTable& operator=(const FdTable&) = delete;

  // Takes the descriptors of `other`, which refer to the same open files, as after fork(2).
  void CopyFrom(const FdTable& other) { entries_ = other.entries_; }
  // Puts `file` at the lowest free number that is at least `min`. EMFILE; EINVAL for a bad `min`.
  Result<int> Add(std::shared_ptr<File> file, bool close_on_exec, int min = 0);
  // Puts `file` at `fd`, closing what was there. EBADF for a number out of range.
  Errno Set(int fd, std::shared_ptr<File> file, bool close_on_exec);
  // EBADF for a closed one.
  Result<std::shared_ptr<File>> Get(int fd) const;
  Errno Close(int fd);
  Result<bool> CloseOnExec(int fd) const;
  Errno SetCloseOnExec(int fd, bool close_on_exec);
  // Closes the close-on-exec ones, as execve(2) does.
  void Exec();
  void CloseAll() { entries_.clear(); }
  size_t count() const;

 private:
  struct Entry {
    std::shared_ptr<File> file;
    bool close_on_exec = false;
  };
  bool IsOpen(int fd) const {
    return fd >= 0 && static_cast<size_t>(fd) < entries_.size() && entries_[fd].file != nullptr;
  }
  std::vector<Entry> entries_;
};

}  // namespace rump

#endif  // SP_SERVER_KERNEL_FD_TABLE_H_
