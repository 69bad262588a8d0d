#include "sp_server/net/port_table.h"

#include "arch/cc.h"

namespace rump {
namespace {

bool Overlap(const ip_addr_t& a, const ip_addr_t& b) {
  if (IP_IS_ANY_TYPE_VAL(a) || IP_IS_ANY_TYPE_VAL(b)) return true;
  if (IP_IS_V6_VAL(a) != IP_IS_V6_VAL(b)) return false;
  return ip_addr_isany_val(a) || ip_addr_isany_val(b) || ip_addr_cmp_zoneless(&a, &b);
}

// Whether `use` may not share its port with `other`.
bool Conflict(const PortUse& use, const PortUse& other) {
  if (!Overlap(use.address, other.address)) return false;
  if (use.reuse_port && other.reuse_port) return false;
  return !use.reuse_address || !other.reuse_address || other.listening;
}

// Visits every ephemeral port once, from a random one on, until `visit` returns true.
template <typename Visit>
bool AnyEphemeralPort(Visit visit) {
  constexpr uint32_t kCount = kLastEphemeralPort - kFirstEphemeralPort + 1;
  const uint32_t start = RumpLwipRandom() % kCount;
  for (uint32_t i = 0; i < kCount; ++i) {
    if (visit(static_cast<uint16_t>(kFirstEphemeralPort + (start + i) % kCount))) return true;
  }
  return false;
}

}  // namespace

void PortUse::Unref() {
  if (--refs_ > 0) return;
  if (table_ != nullptr) table_->Remove(this);
  delete this;
}

Errno PortTable::Claim(PortUse* use) {
  if (use->port != 0) {
    if (Collides(*use)) return Errno(EADDRINUSE);
    Add(use);
    return kOk;
  }
  if (AnyEphemeralPort(
          [&](uint16_t port) { return heads_[port] == nullptr && (use->port = port); }) ||
      AnyEphemeralPort([&](uint16_t port) {
        use->port = port;
        return !Collides(*use);
      })) {
    Add(use);
    return kOk;
  }
  use->port = 0;
  return Errno(EADDRINUSE);
}

Errno PortTable::ClaimForConnect(PortUse* use, const std::function<bool(uint16_t port)>& taken) {
  use->for_connect = true;
  const auto shareable = [&](uint16_t port) {
    for (const PortUse* other = heads_[port]; other != nullptr; other = other->next_) {
      if (!other->for_connect && Overlap(use->address, other->address)) return false;
    }
    return !taken(port);
  };
  if (AnyEphemeralPort(
          [&](uint16_t port) { return heads_[port] == nullptr && (use->port = port); }) ||
      AnyEphemeralPort([&](uint16_t port) { return shareable(port) && (use->port = port); })) {
    Add(use);
    return kOk;
  }
  return Errno(EADDRNOTAVAIL);
}

void PortTable::Add(PortUse* use) {
  PortUse*& head = heads_[use->port];
  use->table_ = this;
  use->next_ = head;
  if (head != nullptr) head->prev_ = use;
  head = use;
}

void PortTable::Remove(PortUse* use) {
  (use->prev_ != nullptr ? use->prev_->next_ : heads_[use->port]) = use->next_;
  if (use->next_ != nullptr) use->next_->prev_ = use->prev_;
}

bool PortTable::Collides(const PortUse& use) const {
  for (const PortUse* other = heads_[use.port]; other != nullptr; other = other->next_) {
    if (other != &use && Conflict(use, *other)) return true;
  }
  return false;
}

}  // namespace rump
