# socat: a forking listener that gives its sockets to other programs, and datagrams.
# shellcheck shell=bash disable=SC2154
need socat=socat

echo_back() { on_net socat -t 10 - "TCP:127.0.0.1:$1"; }
answers() { [[ $(echo probe | echo_back "$1") == probe ]]; }

head -c 5M /dev/urandom >"$tmp/data"

# fork, and exec of a program whose standard input and output are the connection.
start forker socat TCP-LISTEN:7001,bind=127.0.0.1,reuseaddr,fork EXEC:cat,nofork </dev/null
wait_for forker answers 7001
echo_back 7001 <"$tmp/data" >"$tmp/echoed"
same "$tmp/echoed" "$tmp/data"

# The same over a socket pair to the program, and ten at a time.
start relay socat TCP-LISTEN:7002,bind=127.0.0.1,reuseaddr,fork EXEC:cat </dev/null
wait_for relay answers 7002
clients=()
for i in {1..10}; do
  echo_back 7002 <"$tmp/data" >"$tmp/echoed$i" &
  clients+=($!)
done
for client in "${clients[@]}"; do wait "$client" || fail "a client of ten has failed"; done
for i in {1..10}; do same "$tmp/echoed$i" "$tmp/data"; done

# A proxy: a connection in, another out.
start proxy socat TCP-LISTEN:7003,bind=127.0.0.1,reuseaddr,fork TCP:127.0.0.1:7001 </dev/null
wait_for proxy answers 7003
echo_back 7003 <"$tmp/data" >"$tmp/echoed"
same "$tmp/echoed" "$tmp/data"

start datagrams socat UDP-RECVFROM:7004,bind=127.0.0.1,fork EXEC:cat </dev/null
datagram_comes_back() {
  [[ $(echo datagram | on_net socat -t 1 - UDP:127.0.0.1:7004) == datagram ]]
}
wait_for datagrams datagram_comes_back
