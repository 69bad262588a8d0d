// io_uring(7), which a program uses if it is there.
#include <linux/io_uring.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "tests/behavior/sockets.h"

namespace rump {
namespace {

// A ring for one request at a time, without liburing.
class Ring {
 public:
  Ring() : fd_(static_cast<int>(syscall(SYS_io_uring_setup, 1, &params_))) {
    if (fd_.get() < 0) return;
    ring_ = static_cast<char*>(Map(IORING_OFF_SQ_RING));
    request_ = static_cast<io_uring_sqe*>(Map(IORING_OFF_SQES));
  }
  ~Ring() {
    if (ring_ != nullptr) munmap(ring_, kSize);
    if (request_ != nullptr) munmap(request_, kSize);
  }
  bool open() const { return fd_.get() >= 0; }

  // The result of an accept(2).
  int Accept(const Fd& listener) {
    *request_ = {};
    request_->opcode = IORING_OP_ACCEPT;
    request_->fd = listener.get();
    *At<unsigned>(params_.sq_off.array) = 0;
    __atomic_fetch_add(At<unsigned>(params_.sq_off.tail), 1, __ATOMIC_RELEASE);
    EXPECT_EQ(syscall(SYS_io_uring_enter, fd_.get(), 1, 1, IORING_ENTER_GETEVENTS, nullptr, 0), 1);
    return At<io_uring_cqe>(params_.cq_off.cqes)->res;
  }

 private:
  static constexpr size_t kSize = 4096;

  void* Map(off_t offset) const {
    void* const memory =
        mmap(nullptr, kSize, PROT_READ | PROT_WRITE, MAP_SHARED, fd_.get(), offset);
    EXPECT_NE(memory, MAP_FAILED);
    return memory;
  }
  template <typename T>
  T* At(unsigned offset) const {
    return reinterpret_cast<T*>(ring_ + offset);
  }

  io_uring_params params_ = {};
  Fd fd_;
  char* ring_ = nullptr;
  io_uring_sqe* request_ = nullptr;
};

TEST(IoUring, AcceptsIfItIsThere) {
  Ring ring;
  if (!ring.open()) {
    EXPECT_EQ(errno, ENOSYS);
    return;
  }
  const Fd listener = Listen();
  const Fd client = Connect(PortOf(listener));
  const Fd server(ring.Accept(listener));
  ASSERT_GE(server.get(), 0) << strerror(-server.get());
  ASSERT_EQ(write(server.get(), "x", 1), 1);
  EXPECT_EQ(ReadExactly(client.get(), 1), "x");
}

}  // namespace
}  // namespace rump
