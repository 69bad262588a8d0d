// One client's connection, from its banner to its end: frames in, frames out, calls in flight.
#ifndef SP_SERVER_SERVER_SESSION_H_
#define SP_SERVER_SERVER_SESSION_H_

#include <stddef.h>
#include <stdint.h>

#include <deque>
#include <list>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "protocol/frame.h"
#include "sp_server/loop/event_loop.h"
#include "sp_server/loop/unique_fd.h"
#include "sp_server/server/kernel_interface.h"
#include "sp_server/server/listener.h"

namespace rump {

class Server;

// Limits on what one client can make the server hold.
struct SessionLimits {
  // Calls in flight; one more is answered with the error TRYAGAIN.
  size_t calls_in_flight = 4096;
  // Bytes waiting to be read by the client; beyond them the client is cut off. When half of them
  // do, calls that have much to copy out wait, so that this meets only who does not read.
  size_t output_bytes = 16 << 20;
  // Descriptors received with one frame; beyond them the client is cut off.
  size_t received_fds = 16;
};

class Session final : public ClientInfo, private EventLoop::Watcher, private EventLoop::LateWork {
 public:
  // Takes over an accepted connection and sends the banner. `server` outlives the session. A client
  // that is `refused` is told to try again later, whatever it says first.
  Session(Server* server, UniqueFd socket, Peer peer, bool refused);
  // For the child of a client that forks: `process` is the copy, and the child will be handed the
  // other end of `socket`. Until it has sent something it is described as its parent.
  Session(Server* server, UniqueFd socket, Peer parent, std::unique_ptr<KernelProcess> process);
  ~Session() override;

  std::string Describe() const override { return peer_.description; }
  bool trusted() const override { return peer_.trusted; }
  size_t calls_in_flight() const override { return calls_.size(); }
  uint64_t bytes_moved() const override { return bytes_moved_; }
  bool refused() const { return refused_; }

 private:
  class SessionCall;
  enum class State { kFresh, kRunning, kInExec };
  // What the client was asked for, and who waits for it.
  struct PendingAnswer {
    CopyInSink* sink;
    size_t max;
    FrameType type;
  };
  // Those that outlive their frame, by the reqno that the client gave. It need not be unique: that
  // harms the client alone.
  using CallMap = std::unordered_multimap<uint64_t, SessionCall*>;
  // Edges: to be told again of what is known costs epoll a look at the socket in every turn.
  static constexpr uint32_t kInputEvents = EPOLLIN | EPOLLRDHUP | EPOLLET;
  // A descriptor that goes with the byte at `position` of the output or of the input, counted from
  // the first ever.
  struct PendingFd {
    uint64_t position;
    UniqueFd fd;
  };
  // The response of an INLINE request that is being made at the end of the output.
  struct OpenAnswer {
    const SessionCall* call = nullptr;
    size_t begin = 0;  // in output_
    size_t blocks = 0;
    size_t bytes = 0;  // of all blocks
  };

  void OnEvents(uint32_t events) override;
  void OnLate() override;
  // Each of these returns false when the connection must end (once its output is written).
  bool Receive(bool at_end);
  // Keeps descriptors for the frame that they belong to, the one with the input's byte `last`.
  bool KeepFds(std::vector<UniqueFd> fds, uint64_t last);
  // The first one that came with the input up to the end of the frame just parsed.
  UniqueFd TakeFrameFd();
  // Handles what there is of whole frames, and sets *used to their bytes.
  bool ParseFrames(std::span<const std::byte> bytes, size_t* used);
  // Keeps `rest`, an unfinished frame or nothing, with room for the rest of the frame.
  void KeepInput(std::span<const std::byte> rest);
  bool HandleFrame(const FrameHeader& header, std::span<const std::byte> payload);
  bool HandleHandshake(const FrameHeader& header, std::span<const std::byte> payload);
  bool HandleFork(const FrameHeader& header, const ForkRequest& request);
  void HandleSyscall(const FrameHeader& header, std::span<const std::byte> args,
                     std::span<const std::byte> blocks = {});
  bool HandlePrefork(const FrameHeader& header);
  // Answers a PREFORK by a connection that is `child`'s.
  void HandOut(uint64_t reqno, std::unique_ptr<KernelProcess> child);
  // Notes who the client is, which its first bytes tell.
  void Identify(const ucred& sender);
  void HandleCancel(const CancelRequest& request);
  void HandleAnswer(const FrameHeader& header, std::span<const std::byte> data);
  static Errno CheckAnswer(const PendingAnswer& asked, std::span<const std::byte> data);

  void SendError(const FrameHeader& request, WireError error);
  void SendHandshakeResponse(uint64_t reqno, Errno error);
  // Appends a frame made of header fields and up to two pieces of payload to the output.
  void Append(FrameHeader header, std::span<const std::byte> first,
              std::span<const std::byte> second = {});
  // Puts bytes that `call` copies out into its response, which is the end of the output until
  // something else is appended. False: they are too many for one.
  bool AddToAnswer(SessionCall* call, uint64_t addr, std::span<const std::byte> data);
  // Appends the response, or completes the one that AddToAnswer has begun.
  void FinishAnswer(SessionCall* call, const FrameHeader& header,
                    const SyscallResultPayload& result, UniqueFd fd);
  // Makes COPYOUTs of what AddToAnswer has gathered: the response is not to come next.
  void CloseAnswer();
  void CloseAnswer(const SessionCall* call) {
    if (answer_.call == call) CloseAnswer();
  }
  // Whether `size` more bytes of output may wait; the client is cut off if they may not.
  bool MayAppend(size_t size);
  size_t unread() const { return output_.size() - output_begin_; }
  bool HasOutputRoom() const;
  // Lets the calls that wait for room go on, one in each turn of the loop, so that what it sends
  // counts before the next one.
  void GrantOutput();
  void ScheduleFlush();
  // Writes what the socket takes. False if the connection is broken.
  bool Flush();
  // One send(2) of the output, and whether the first of output_fds_ goes with it.
  ssize_t SendSome(bool* with_fd);
  void UpdateEvents();
  // Ends the session: now, or once the output is written if `drain`.
  void Close(bool drain);
  // Forgets the client: its calls and its process. The connection itself stays.
  void Detach();

  Server* const server_;
  UniqueFd socket_;
  Peer peer_;
  const bool refused_;
  bool identified_ = true;
  State state_ = State::kFresh;
  bool closed_ = false;
  std::unique_ptr<KernelProcess> process_;

  // What the frame that is being looked at has been received into, if that can be kept.
  const std::shared_ptr<std::byte[]>* received_into_ = nullptr;
  std::vector<std::byte> input_;  // an unfinished frame, as long as its header says; empty if none
  size_t input_size_ = 0;         // bytes of it that are here
  uint64_t input_position_ = 0;   // of the first byte not handled yet, counted from the first ever
  std::deque<PendingFd> received_fds_;
  UniqueFd frame_fd_;  // came with the frame that is being handled

  std::vector<std::byte> output_;
  size_t output_begin_ = 0;
  uint64_t output_position_ = 0;  // of output_[output_begin_], counted from the first byte ever
  std::deque<PendingFd> output_fds_;
  OpenAnswer answer_;
  bool flush_scheduled_ = false;
  std::list<SessionCall*> output_queue_;  // calls that wait for room
  bool grant_scheduled_ = false;
  uint32_t watched_events_ = 0;

  uint64_t next_reqno_ = 0;
  uint64_t bytes_moved_ = 0;
  std::unordered_map<uint64_t, PendingAnswer> asked_;  // by our reqno
  CallMap calls_;
  // Tells deferred work that the session is gone.
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace rump

#endif  // SP_SERVER_SERVER_SESSION_H_
