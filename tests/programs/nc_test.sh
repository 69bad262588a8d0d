# OpenBSD's nc, listening and connecting: one direction with a half-close, then both.
# shellcheck shell=bash disable=SC2154
need nc=netcat-openbsd
[[ $(nc -h 2>&1) == OpenBSD* ]] || fail "nc is another one than that of netcat-openbsd"

# The only connection of a listening nc cannot be spent on a probe: the real one is tried until it is
# there, and its input read anew.
send() { on_net nc -N 127.0.0.1 "$1" <"$2" >"$3"; }

head -c 3M /dev/urandom >"$tmp/request"
head -c 2M /dev/urandom >"$tmp/answer"

start receiver nc -l 127.0.0.1 7001 </dev/null
wait_for receiver send 7001 "$tmp/request" /dev/null
finish receiver
same "$tmp/receiver.log" "$tmp/request"

# -N is what lets both ends know that the other has sent everything.
start answerer nc -N -l 127.0.0.1 7002 <"$tmp/answer"
wait_for answerer send 7002 "$tmp/request" "$tmp/got"
finish answerer
same "$tmp/answerer.log" "$tmp/request"
same "$tmp/got" "$tmp/answer"

# One after the other at the same listener.
start keeper nc -k -l 127.0.0.1 7003 </dev/null
for i in 1 2 3; do
  echo "line $i" >"$tmp/line"
  wait_for keeper send 7003 "$tmp/line" /dev/null
done
arrived() { [[ $(wc -l <"$tmp/keeper.log") -eq 3 ]]; }
wait_for keeper arrived
stop keeper

start datagrams nc -u -l 127.0.0.1 7004 </dev/null
datagram_arrives() {
  echo datagram | on_net nc -u -w 1 127.0.0.1 7004
  grep -q datagram "$tmp/datagrams.log"
}
wait_for datagrams datagram_arrives
stop datagrams

! on_net nc -z 127.0.0.1 7009 || fail "nc has connected to a port where nobody listens"
