# iperf3: a stream each way for a second.
# shellcheck shell=bash disable=SC2154
need iperf3=iperf3
start server iperf3 --server --bind 127.0.0.1 --port 7001
measure() {
  on_net iperf3 --client 127.0.0.1 --port 7001 --time 1 --connect-timeout 5000 "$@" >"$tmp/client.log" 2>&1
}
# Between two measurements the server opens its port anew.
wait_for server measure
grep -q receiver "$tmp/client.log" || fail "iperf3 has measured nothing"
wait_for server measure --reverse
grep -q receiver "$tmp/client.log" || fail "iperf3 --reverse has measured nothing"
