#include "sp_server/kernel/fd_table.h"

#include <algorithm>
#include <utility>

namespace rump {

Result<int> FdTable::Add(std::shared_ptr<File> file, bool close_on_exec, int min) {
  if (min < 0 || min >= kMaxFds) return Errno(EINVAL);
  int fd = min;
  while (IsOpen(fd)) ++fd;
  if (fd >= kMaxFds) return Errno(EMFILE);
  if (entries_.size() <= static_cast<size_t>(fd)) entries_.resize(fd + 1);
  entries_[fd] = {std::move(file), close_on_exec};
  return fd;
}

Errno FdTable::Set(int fd, std::shared_ptr<File> file, bool close_on_exec) {
  if (fd < 0 || fd >= kMaxFds) return Errno(EBADF);
  if (entries_.size() <= static_cast<size_t>(fd)) entries_.resize(fd + 1);
  entries_[fd] = {std::move(file), close_on_exec};
  return kOk;
}

Result<std::shared_ptr<File>> FdTable::Get(int fd) const {
  if (!IsOpen(fd)) return Errno(EBADF);
  return entries_[fd].file;
}

Errno FdTable::Close(int fd) {
  if (!IsOpen(fd)) return Errno(EBADF);
  entries_[fd] = {};
  return kOk;
}

Result<bool> FdTable::CloseOnExec(int fd) const {
  if (!IsOpen(fd)) return Errno(EBADF);
  return entries_[fd].close_on_exec;
}

Errno FdTable::SetCloseOnExec(int fd, bool close_on_exec) {
  if (!IsOpen(fd)) return Errno(EBADF);
  entries_[fd].close_on_exec = close_on_exec;
  return kOk;
}

void FdTable::Exec() {
  for (Entry& entry : entries_) {
    if (entry.close_on_exec) entry = {};
  }
}

size_t FdTable::count() const {
  return std::ranges::count_if(entries_, [](const Entry& e) { return e.file != nullptr; });
}

}  // namespace rump
