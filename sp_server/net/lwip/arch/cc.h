// What lwIP asks of compiler and platform; included by lwip/arch.h in C and C++.
#ifndef SP_SERVER_NET_LWIP_ARCH_CC_H_
#define SP_SERVER_NET_LWIP_ARCH_CC_H_

#include <endian.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

// Logs to stderr and aborts: an inconsistent stack must not go on with other programs' data.
__attribute__((noreturn)) void RumpLwipAssert(const char* message, const char* file, int line);
// From the system's random generator.
uint32_t RumpLwipRandom(void);
// As malloc, but small blocks come from a reserve when it fails (see memory.h).
void* RumpLwipMalloc(size_t size);
void* RumpLwipCalloc(size_t count, size_t size);
void RumpLwipFree(void* block);

#ifdef __cplusplus
}
#endif

#define LWIP_PLATFORM_ASSERT(message) RumpLwipAssert(message, __FILE__, __LINE__)
#define LWIP_PLATFORM_DIAG(message)
#define LWIP_RAND() RumpLwipRandom()

#endif  // SP_SERVER_NET_LWIP_ARCH_CC_H_
