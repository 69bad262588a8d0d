# Programs whose standard input and output are a connection that another program has accepted: some
# have the library and find out what they have, busybox is static and only moves bytes.
# shellcheck shell=bash disable=SC2154
need busybox=busybox-static socat=socat "$python=python3"
[[ $(file -b "$(command -v busybox)") == *"statically linked"* ]] || fail "busybox is not static"

inetd() { start "$1" "$python" tests/programs/inetd.py "${@:2}" </dev/null; }
talk() { on_net socat -t 10 - "TCP:127.0.0.1:$1"; }
answers() { [[ $(echo probe | talk "$1") ]]; }

head -c 5M /dev/urandom >"$tmp/data"

# What comes back is what was sent, and its end is the end.
inetd cat 7001 busybox cat
wait_for cat answers 7001
talk 7001 <"$tmp/data" >"$tmp/echoed"
same "$tmp/echoed" "$tmp/data"
clients=()
for i in {1..10}; do
  talk 7001 <"$tmp/data" >"$tmp/echoed$i" &
  clients+=($!)
done
for client in "${clients[@]}"; do wait "$client" || fail "a client of ten has failed"; done
for i in {1..10}; do same "$tmp/echoed$i" "$tmp/data"; done

# A shell, with children of its own on the same connection.
inetd shell 7002 busybox sh
wait_for shell answers 7002 <<<'echo probe'
cat >"$tmp/commands" <<END
echo piped | busybox tr a-z A-Z
busybox wc -c <$tmp/data
exit
END
equal "$(talk 7002 <"$tmp/commands")" $'PIPED\n5242880'

inetd peer 7003 "$python" tests/programs/inetd_peer.py
wait_for peer answers 7003
equal "$(printf 'a line\nthe last' | talk 7003)" $'127.0.0.1 AF_INET SOCK_STREAM\nA LINE\nTHE LAST'

for name in cat shell peer; do stop "$name"; done
[[ ! ${audited:-} ]] || grep -q ' by busybox, without the library$' "$tmp/audit" ||
  fail "the list does not tell of busybox"
