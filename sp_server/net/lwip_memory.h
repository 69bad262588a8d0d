// lwIP's allocator: libc's, with a reserve for the small blocks whose absence lwIP cannot survive
// (its timers assert that they get one).
#ifndef SP_SERVER_NET_LWIP_MEMORY_H_
#define SP_SERVER_NET_LWIP_MEMORY_H_

#include <stddef.h>

#include <functional>

namespace rump {

// Blocks up to this many bytes may come from the reserve.
inline constexpr size_t kReserveBlockBytes = 40;
inline constexpr size_t kReserveBlocks = 256;

// Tests: decides whether the allocation of `size` bytes shall fail. An empty function ends that.
void SetLwipAllocationFailure(std::function<bool(size_t size)> fails);

// How many blocks of the reserve are in use.
size_t LwipReserveInUse();

}  // namespace rump

#endif  // SP_SERVER_NET_LWIP_MEMORY_H_
