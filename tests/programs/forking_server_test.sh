# A server that forks for each connection: the child's socket is the parent's.
# shellcheck shell=bash disable=SC2154
need "$python=python3" nc=netcat-openbsd
talk() { printf 'a line\nthe last\n' | on_net nc -N 127.0.0.1 7001; }

start server "$python" tests/programs/forking_server.py 7001
wait_for server talk
clients=()
for i in {1..20}; do
  talk >"$tmp/talk$i" &
  clients+=($!)
done
for client in "${clients[@]}"; do wait "$client" || fail "a client has failed"; done
for i in {1..20}; do
  equal "$(sed 1d "$tmp/talk$i")" $'A LINE\nTHE LAST'
done
equal "$(head -q -n 1 "$tmp"/talk* | sort -u | wc -l)" 20
