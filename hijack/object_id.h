// Which object of the server a descriptor holds the program's end of.
#ifndef HIJACK_OBJECT_ID_H_
#define HIJACK_OBJECT_ID_H_

namespace rump::hijack {

// Asks the kernel, 0.2 µs: the object's id, 0 if `fd` is the host's, -EBADF if it is not open.
long ObjectOf(int fd);

}  // namespace rump::hijack

#endif  // HIJACK_OBJECT_ID_H_
