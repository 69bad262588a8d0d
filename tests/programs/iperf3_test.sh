# iperf3: TCP each way with one stream and with four, and UDP, for a second or as many datagrams.
# shellcheck shell=bash disable=SC2154
need iperf3=iperf3 "$python=python3"
start server iperf3 --server --bind 127.0.0.1 --port 7001
measure() {
  on_net iperf3 --client 127.0.0.1 --port 7001 --connect-timeout 5000 --json "$@" >"$tmp/client.log" 2>&1
  # With --json it exits with 0 in any case.
  ! grep '"error"' "$tmp/client.log"
}
# figures EXPRESSION: of the last measurement, in python.
figures() { "$python" -c "import json, sys; end = json.load(open(sys.argv[1]))['end']; print($1)" "$tmp/client.log"; }

# tcp STREAMS OPTION...: all streams carry bytes.
tcp() {
  # Between two measurements the server opens its port anew.
  wait_for server measure --time 1 --parallel "$@"
  equal "$(figures "len([s for s in end['streams'] if s['receiver']['bytes'] > 100000])")" "$1"
}
tcp 1
tcp 1 --reverse
tcp 4
tcp 4 --reverse

# A thousand datagrams, most of which arrive, each way.
for direction in '' --reverse; do
  # shellcheck disable=SC2086
  wait_for server measure --udp --bitrate 10M --length 1000 --bytes 1000000 $direction
  equal "$(figures "end['sum']['packets'] >= 1000 and end['sum']['lost_percent'] < 50")" True
done
