# Without a server there are errors, at once, and never a program that hangs.
# shellcheck shell=bash disable=SC2034,SC2154
need nc=netcat-openbsd curl=curl "$python=python3"
reset_while_receiving=56
web=http://127.0.0.1:8000
nowhere=unix://$tmp/nowhere

# Nobody listens where RUMP_SERVER points, and no `rump run` looks at that first.
status=0
RUMP_SERVER=$nowhere LD_PRELOAD=$PWD/hijack/librumphijack.so timeout 10 \
  curl --noproxy '*' --silent "$web" >"$tmp/curl.out" 2>"$tmp/curl.log" || status=$?
((status != 0 && status != 124)) || fail "curl without a server exits with $status"
equal "$(wc -l <"$tmp/curl.log")" 1
grep -qF "RUMP_SERVER=$nowhere" "$tmp/curl.log" || fail "the line does not name RUMP_SERVER"

status=0
"$rump" run --server "$nowhere" -- curl --silent "$web" 2>"$tmp/run.log" || status=$?
equal "$status" 125

net=("$rump" run --server "unix://$tmp/mortal" --)
serve() {
  rm -f "$tmp/mortal"
  "$rump" server -s "$@" "unix://$tmp/mortal" >"$tmp/mortal.log" 2>&1 &
  pids["mortal"]=$!
  wait_for mortal "$rump" ps --server "unix://$tmp/mortal"
}

# A server that dies under its programs, which stand by its stack.
serve --no-direct
mkdir "$tmp/www"
truncate -s 100M "$tmp/www/100MB"
start web_server "$python" tests/programs/http_server.py 8000 "$tmp/www"
get() { on_net curl --noproxy '*' --silent --show-error --max-time 60 "$@"; }
wait_for web_server get --head "$web/100MB"
start transfer curl --noproxy '*' --silent --max-time 60 --limit-rate 10M --output "$tmp/copy" "$web/100MB"
begun() { [[ -s $tmp/copy ]]; }
wait_for transfer begun
start listener nc -v -l 127.0.0.1 7001
start idle nc -v -d 127.0.0.1 8000
says() { grep -qE "$2" "$tmp/$1.log"; }
wait_for listener says listener Listening
wait_for idle says idle succeeded
stop mortal KILL
finish transfer "$reset_while_receiving"
finish idle
finish listener 1
wait_for web_server says web_server "(ConnectionReset|BrokenPipe)Error"
stop web_server

# A server that stalls keeps no program from being ended, in a call or while it connects.
serve
start caller "$python" -c 'import socket
s = socket.socket()
print("begins", flush=True)
while True: s.getsockname()'
begins() { [[ -s $tmp/$1.log ]]; }
wait_for caller begins caller
kill -s STOP "${pids["mortal"]}"
stopped() { grep -q '^State:.*T' "/proc/${pids["mortal"]}/status"; }
wait_for mortal stopped
start newcomer "$python" -c 'import socket
print("begins", flush=True)
socket.socket()'
wait_for newcomer begins newcomer
# The library's own descriptor, which it has when it waits for the server.
connects() { [[ -e /proc/${pids["newcomer"]}/fd/1000 ]]; }
wait_for newcomer connects
soon=$((SECONDS + 8))
kill "${pids["caller"]}" "${pids["newcomer"]}"
finish caller 143
finish newcomer 143
((SECONDS < soon)) || fail "a program has ended only when it had lost patience with its server"
stop mortal KILL

# A direct pair stands by itself.
serve
truncate -s 20M "$tmp/www/20MB"
start web_server "$python" tests/programs/http_server.py 8000 "$tmp/www"
wait_for web_server get --head "$web/20MB"
rm "$tmp/copy"
start transfer curl --noproxy '*' --silent --max-time 60 --limit-rate 10M --output "$tmp/copy" "$web/20MB"
wait_for transfer begun
stop mortal KILL
finish transfer 0
same "$tmp/copy" "$tmp/www/20MB"
stop web_server
