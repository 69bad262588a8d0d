// Reads the .wire recordings in tests/protocol/transcripts/: what two peers sent each other on one
// or more connections, in the order in which it was seen. One event per line:
//
//     # free text
//     1 open                  connection 1 is accepted
//     1 server> 52554d50...   bytes from the server on connection 1, in hex
//     1 client> 2000... +6536 bytes from the client; 6536 more were left out of the file
//     1 server-close          that side closed
#ifndef TESTS_PROTOCOL_WIRE_RECORDING_H_
#define TESTS_PROTOCOL_WIRE_RECORDING_H_

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace rump {

// What stands for the bytes that a recording leaves out.
inline constexpr char kElidedFiller = 'A';

enum class WireSide { kClient, kServer };

struct WireEvent {
  enum class Kind { kOpen, kBytes, kClose };
  Kind kind = Kind::kOpen;
  int connection = 0;
  WireSide side = WireSide::kServer;  // who sent or closed; of no meaning for kOpen
  std::string bytes;                  // kBytes only, elided ones as kElidedFiller
  int line = 0;                       // in the file, from 1
};

// The events of the recording `text`, or nullopt and in *error the line that cannot be read.
std::optional<std::vector<WireEvent>> ParseWireRecording(std::string_view text, std::string* error);

// The same for the file at `path`.
std::optional<std::vector<WireEvent>> ReadWireRecording(const std::string& path,
                                                        std::string* error);

// Paths of all recordings in the test's runfiles, in alphabetical order.
std::vector<std::string> ListWireRecordings();

// All bytes that `side` sent on `connection`, joined.
std::string BytesSent(const std::vector<WireEvent>& events, int connection, WireSide side);

}  // namespace rump

#endif  // TESTS_PROTOCOL_WIRE_RECORDING_H_
