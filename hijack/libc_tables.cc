#include "hijack/libc_tables.h"

#include <string.h>

namespace rump::hijack {
namespace {

#include "tools/libc_sites/libc_tables.inc"

}  // namespace

const LibcTable* FindLibcTable(std::span<const uint8_t> build_id) {
  for (const LibcTable& table : kLibcTables) {
    if (table.build_id.size() == build_id.size() &&
        memcmp(table.build_id.data(), build_id.data(), build_id.size()) == 0) {
      return &table;
    }
  }
  return nullptr;
}

}  // namespace rump::hijack
