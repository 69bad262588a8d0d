#include "sp_server/kernel/fd_table.h"

#include <algorithm>
#include <utility>

namespace rump {
namespace {
// Entries that a table may keep memory for without having them.
constexpr size_t kSpare = 64;
}  // namespace

FdTable::FdTable(size_t max_fds, std::shared_ptr<Budget> entries)
    : max_fds_(static_cast<int>(std::min<size_t>(max_fds, kMaxFds))), share_(std::move(entries)) {}

Errno FdTable::CopyFrom(const FdTable& other) {
  if (!share_.Grow(other.entries_.size())) return Errno(ENFILE);
  entries_ = other.entries_;
  return kOk;
}

Errno FdTable::GrowTo(int fd) {
  const size_t size = static_cast<size_t>(fd) + 1;
  if (size <= entries_.size()) return kOk;
  if (!share_.Grow(size - entries_.size())) return Errno(ENFILE);
  entries_.resize(size);
  return kOk;
}

void FdTable::Trim() {
  const size_t before = entries_.size();
  while (!entries_.empty() && entries_.back().file == nullptr) entries_.pop_back();
  share_.Shrink(before - entries_.size());
  // What is no entry any more must not cost memory that nobody counts.
  if (entries_.capacity() > kSpare + 2 * entries_.size()) entries_.shrink_to_fit();
}

Result<int> FdTable::MakeRoom(int min) {
  if (min < 0 || min >= max_fds_) return Errno(EINVAL);
  int fd = min;
  while (IsOpen(fd)) ++fd;
  if (fd >= max_fds_) return Errno(EMFILE);
  if (const Errno error = GrowTo(fd); !error.ok()) return error;
  return fd;
}

Result<int> FdTable::Add(std::shared_ptr<File> file, bool close_on_exec, int min) {
  const Result<int> fd = MakeRoom(min);
  if (fd.ok()) entries_[*fd] = {std::move(file), close_on_exec};
  return fd;
}

Result<std::array<int, 2>> FdTable::AddPair(std::shared_ptr<File> first,
                                            std::shared_ptr<File> second, bool close_on_exec) {
  const Result<int> a = Add(std::move(first), close_on_exec);
  if (!a.ok()) return a.error();
  const Result<int> b = Add(std::move(second), close_on_exec);
  if (!b.ok()) {
    (void)Close(*a);
    return b.error();
  }
  return std::array<int, 2>{*a, *b};
}

Errno FdTable::CheckRoom() {
  const Errno error = MakeRoom(0).error();
  Trim();
  return error;
}

Errno FdTable::Set(int fd, std::shared_ptr<File> file, bool close_on_exec) {
  if (fd < 0 || fd >= max_fds_) return Errno(EBADF);
  if (const Errno error = GrowTo(fd); !error.ok()) return error;
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
  Trim();
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
  Trim();
}

void FdTable::CloseAll() {
  entries_.clear();
  entries_.shrink_to_fit();
  share_.Shrink(share_.size());
}

size_t FdTable::count() const {
  return std::ranges::count_if(entries_, [](const Entry& e) { return e.file != nullptr; });
}

}  // namespace rump
