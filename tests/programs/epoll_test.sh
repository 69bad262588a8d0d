# Two dozen programs whose connections and timers are in epoll sets, level- and edge-triggered, at a
# server of the same kind: no wake-up and no byte is lost, and nothing is left.
# shellcheck shell=bash disable=SC2154
seconds=10
[[ $hijack_entry != rewrite ]] || seconds=60

start server tests/programs/epoll_server 7000
listens() { grep -q listening "$tmp/server.log"; }
wait_for server listens
for i in {1..24}; do start "client$i" tests/programs/epoll_client 7000 "$seconds" "$i"; done
for i in {1..24}; do
  # For longer than finish does: a client that is stuck ends itself.
  wait "${pids[client$i]}" || true
  finish "client$i"
done
kill -s TERM "${pids[server]}"
finish server
check_server
