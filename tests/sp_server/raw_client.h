// A client that speaks frames by hand: for what a well-behaved client would never send.
#ifndef TESTS_SP_SERVER_RAW_CLIENT_H_
#define TESTS_SP_SERVER_RAW_CLIENT_H_

#include <cstdint>
#include <initializer_list>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "protocol/frame.h"
#include "sp_server/loop/unique_fd.h"

namespace rump {

struct RawFrame {
  FrameHeader header;
  std::string payload;
};

class RawClient {
 public:
  // Connects to the unix socket at `path` and reads the banner.
  explicit RawClient(const std::string& path);
  // On a connection that needs no handshake any more.
  explicit RawClient(UniqueFd fd) : fd_(std::move(fd)) {}

  const std::string& banner() const { return banner_; }
  bool connected() const { return fd_.valid(); }
  int fd() const { return fd_.get(); }

  // Sends bytes as they are.
  void SendBytes(std::string_view bytes);
  // Sends a frame; header.len is computed. `fd`, if not -1, goes with it.
  void Send(FrameHeader header, std::string_view payload = {}, int fd = -1);
  // The next frame from the server; nullopt when it closed the connection.
  std::optional<RawFrame> Receive();
  // True if the server closes the connection without another frame.
  bool AtEnd() { return !Receive().has_value(); }

  // GUEST handshake under `command`; true if it was granted.
  bool Guest(std::string_view command = "test");
  // From now on system calls are INLINE requests, with what of *memory is at their arguments.
  void CarryMemory(const std::string* memory) { carried_ = memory; }
  // Sends a system call; returns its reqno.
  uint64_t SendCall(uint32_t number, std::initializer_list<uint64_t> args, int fd = -1);
  // The result of a call that needs no copies.
  SyscallResultPayload CallResult(uint32_t number, std::initializer_list<uint64_t> args);
  // Receives frames up to the response of `reqno`, serving each COPYIN with `memory` (addresses are
  // offsets into it) and each COPYOUT into it. Responses of other calls are kept for their turn.
  SyscallResultPayload Finish(uint64_t reqno, std::string* memory);
  // Whether Finish has met the response of `reqno` already.
  bool HasFinished(uint64_t reqno) const { return finished_.contains(reqno); }
  // Signals of RAISE frames that Finish has met, in order.
  const std::vector<int>& raised() const { return raised_; }
  // The descriptor that came last with a frame.
  UniqueFd TakeFd() { return std::move(received_); }
  void Close() { fd_.reset(); }

 private:
  bool ReadExactly(void* data, size_t size);
  std::string CarriedBlocks(std::initializer_list<uint64_t> args) const;
  static void TakeBlocks(std::string_view blocks, std::string* memory);

  UniqueFd fd_;
  std::string banner_;
  UniqueFd received_;
  uint64_t next_reqno_ = 1;
  const std::string* carried_ = nullptr;
  std::map<uint64_t, SyscallResultPayload> finished_;
  std::vector<int> raised_;
};

// One as INLINE requests and responses carry it; also what a COPYOUT has behind its header.
std::string Block(uint64_t addr, std::string_view bytes);

}  // namespace rump

#endif  // TESTS_SP_SERVER_RAW_CLIENT_H_
