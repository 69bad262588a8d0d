// The file descriptors of one process.
#ifndef SP_SERVER_KERNEL_FD_TABLE_H_
#define SP_SERVER_KERNEL_FD_TABLE_H_

#include <stddef.h>

#include <array>
#include <memory>
#include <vector>

#include "protocol/errno.h"
#include "sp_server/kernel/budget.h"
#include "sp_server/kernel/file.h"

namespace rump {

class FdTable {
 public:
  // Descriptors that a process may have, whatever the constructor says.
  static constexpr int kMaxFds = 1 << 20;

  // A table of up to `max_fds` descriptors; one more is EMFILE. Its entries come out of `entries`
  // (nullptr: without a limit): ENFILE when there are none left.
  explicit FdTable(size_t max_fds, std::shared_ptr<Budget> entries = nullptr);
  FdTable(const FdTable&) = delete;
  FdTable& operator=(const FdTable&) = delete;

  int max_fds() const { return max_fds_; }

  // Takes the descriptors of `other`, which refer to the same open files, as after fork(2). Of an
  // empty table. ENFILE.
  Errno CopyFrom(const FdTable& other);
  // Puts `file` at the lowest free number that is at least `min`. EMFILE, ENFILE; EINVAL for a bad
  // `min`.
  Result<int> Add(std::shared_ptr<File> file, bool close_on_exec, int min = 0);
  // Adds both or, with the same errors, none.
  Result<std::array<int, 2>> AddPair(std::shared_ptr<File> first, std::shared_ptr<File> second,
                                     bool close_on_exec);
  // The error that the next Add would have: before something that cannot be undone.
  Errno CheckRoom();
  // Puts `file` at `fd`, closing what was there. EBADF for a number out of range; ENFILE.
  Errno Set(int fd, std::shared_ptr<File> file, bool close_on_exec);
  // EBADF for a closed one.
  Result<std::shared_ptr<File>> Get(int fd) const;
  Errno Close(int fd);
  Result<bool> CloseOnExec(int fd) const;
  Errno SetCloseOnExec(int fd, bool close_on_exec);
  // Closes the close-on-exec ones, as execve(2) does.
  void Exec();
  void CloseAll();
  size_t count() const;

 private:
  struct Entry {
    std::shared_ptr<File> file;
    bool close_on_exec = false;
  };
  bool IsOpen(int fd) const {
    return fd >= 0 && static_cast<size_t>(fd) < entries_.size() && entries_[fd].file != nullptr;
  }
  // Makes an entry for a free number that is at least `min`, and returns it.
  Result<int> MakeRoom(int min);
  // Makes entries up to that of `fd`. ENFILE.
  Errno GrowTo(int fd);
  // Forgets the free entries above the last open one.
  void Trim();

  const int max_fds_;
  Share share_;  // one for each entry
  std::vector<Entry> entries_;
};

}  // namespace rump

#endif  // SP_SERVER_KERNEL_FD_TABLE_H_
