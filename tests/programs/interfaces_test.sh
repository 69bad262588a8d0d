# ip(8) and python's list of interfaces show those of the network that the program is on. By symbols
# alone what libc asks by itself (if_nameindex, getifaddrs) is the host's.
# shellcheck shell=bash disable=SC2154
need ip=iproute2
ip link add here0 type veth peer here1

links() { on_net ip -o link | sed -E 's/^[0-9]+: ([^:@]+).*/\1/' | sort | xargs; }
names() { on_net "$python" -c 'import socket; print(*sorted(n for _, n in socket.if_nameindex()))'; }

if [[ $mode == native ]]; then
  equal "$(links)" 'here0 here1 lo'
  equal "$(names)" 'here0 here1 lo'
else
  equal "$(links)" lo
  [[ $hijack_entry == symbols ]] || equal "$(names)" lo
  ! on_net ip -o link show here0 2>/dev/null || fail "an interface of the host is seen"
fi

equal "$(on_net ip -o -4 addr show lo | awk '{ print $4 }')" 127.0.0.1/8
equal "$(on_net ip -o -6 addr show lo | awk '{ print $4 }')" ::1/128
equal "$(on_net ip -o route get 127.0.0.9 | awk '{ print $1, $2 }')" 'local 127.0.0.9'
! on_net ip route get 192.0.2.1 2>"$tmp/unreachable" || fail "there is a route to 192.0.2.1"
grep -q 'Network is unreachable' "$tmp/unreachable" || fail "another error than that there is no route"
if [[ $mode == hijacked ]]; then
  ! on_net ip link set lo mtu 1500 2>"$tmp/refused" || fail "an interface of the server was changed"
  grep -q 'Operation not permitted' "$tmp/refused" || fail "a change is refused with another error"
fi
