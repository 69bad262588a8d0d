# A program that is killed leaves nothing behind: its ports are free at once, its peers see the end,
# and the server forgets it.
# shellcheck shell=bash disable=SC2154
need nc=netcat-openbsd curl=curl redis-server=redis-server redis-benchmark=redis-tools "$python=python3"
partial_transfer=18
web=http://127.0.0.1:8000
get() { on_net curl --noproxy '*' --fail --silent --show-error --max-time 40 "$@"; }

on_net "$python" tests/programs/rebind.py 20 || fail "a killed process keeps its ports"
check_server

# Open connections, with nothing on its way.
start server redis-server --bind 127.0.0.1 --port 7001 --save '' --dir "$tmp"
ping() { on_net redis-cli -p 7001 ping; }
wait_for server ping
for i in {1..5}; do start "idle$i" nc -d 127.0.0.1 7001; done
clients() { [[ $(on_net redis-cli -p 7001 info clients | grep -o 'connected_clients:[0-9]*') == *:6 ]]; }
wait_for server clients
stop server KILL
for i in {1..5}; do finish "idle$i"; done
check_server

# Connections that nobody has accepted.
start deaf "$python" -c 'if True:
  import signal, socket
  listener = socket.create_server(("127.0.0.1", 7002))
  signal.pause()'
waits() { on_net nc -z 127.0.0.1 7002; }
wait_for deaf waits
connected() { grep -q succeeded "$tmp/$1.log"; }
for i in {1..5}; do start "unheard$i" nc -v -d 127.0.0.1 7002; done
for i in {1..5}; do wait_for "unheard$i" connected "unheard$i"; done
stop deaf KILL
for i in {1..5}; do finish "unheard$i"; done
check_server

# Connections in use, of a port that another process takes at once.
start server redis-server --bind 127.0.0.1 --port 7001 --save '' --dir "$tmp"
wait_for server ping
start load redis-benchmark -p 7001 -c 20 -n 100000000 -t set
under_load() { on_net redis-cli -p 7001 exists key:__rand_int__ | grep -q 1; }
wait_for load under_load
stop server KILL
start server redis-server --bind 127.0.0.1 --port 7001 --save '' --dir "$tmp"
finish load 1
wait_for server ping
stop server
check_server

# A transfer whose sender is killed.
mkdir "$tmp/www"
truncate --size 100M "$tmp/www/100MB"
start server "$python" tests/programs/http_server.py 8000 "$tmp/www"
wait_for server get --head "$web/100MB"
begun() { [[ -s $tmp/$1.copy ]]; }
start receiver curl --noproxy '*' --silent --limit-rate 20M --output "$tmp/receiver.copy" "$web/100MB"
wait_for receiver begun receiver
stop server KILL
finish receiver "$partial_transfer"
check_server

# A transfer whose receiver is killed: the sender serves the next.
start server "$python" tests/programs/http_server.py 8000 "$tmp/www"
wait_for server get --head "$web/100MB"
start killed curl --noproxy '*' --silent --limit-rate 20M --output "$tmp/killed.copy" "$web/100MB"
wait_for killed begun killed
stop killed KILL
equal "$(get "$web/100MB" | sha256sum)" "$(sha256sum <"$tmp/www/100MB")"
stop server
check_server
