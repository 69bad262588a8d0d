// Sockets of each kind for a child process to use, whatever way it was made.
#ifndef TESTS_BEHAVIOR_PROCESS_SOCKETS_H_
#define TESTS_BEHAVIOR_PROCESS_SOCKETS_H_

namespace rump {

struct ProcessSockets {
  int stream;    // connected
  int listener;  // with a connection in its queue
  int datagram;  // connected, with a datagram in its queue
};

// Uses all of them, and makes one: 0, or the number of the step that failed. For a child: makes
// system calls and nothing else.
int UseSockets(const ProcessSockets& sockets);

}  // namespace rump

#endif  // TESTS_BEHAVIOR_PROCESS_SOCKETS_H_
