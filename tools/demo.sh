#!/bin/bash
# Shows the main job: an unmodified python3 web server and an unmodified curl talk over a TCP/IP
# stack that lives in a third process. Needs nothing prepared, and leaves nothing behind.
set -euo pipefail
cd "$(dirname "$0")/.."

step=0
heading() { printf '\n== %d. %s\n' $((++step)) "$*"; }
fail() {
  echo "tools/demo.sh: $*" >&2
  local log
  for log in ${tmp:+"$tmp"/*.log}; do
    [[ ! -s $log ]] || sed "s/^/  ${log##*/}: /" "$log" >&2
  done
  exit 1
}
# Prints a command the way it could be typed, then runs it.
run() {
  local word line=
  for word in "${@/#$bin\/tools\/rump/rump}"; do
    [[ $word =~ ^[A-Za-z0-9_./:=+-]+$ ]] || word="'$word'"
    line+=" $word"
  done
  printf '$%s\n' "$line"
  "$@"
}
# Waits until a command succeeds; gives up when process $1 has ended, or after 20 s.
wait_for() {
  local pid=$1 tries=0
  shift
  until "$@" >/dev/null 2>&1; do
    kill -0 "$pid" 2>/dev/null || return 1
    ((++tries < 200)) || return 1
    sleep 0.1
  done
}

tmp=
pids=()
cleanup() {
  local status=$?
  trap - EXIT INT TERM HUP
  # The programs first, then the server, which was started first.
  local i
  for ((i = ${#pids[@]} - 1; i >= 0; i--)); do
    kill "${pids[i]}" 2>/dev/null || true
    wait "${pids[i]}" 2>/dev/null || true
  done
  [[ -z $tmp ]] || rm -rf "$tmp"
  exit "$status"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

heading "Set-up and build"
tools/setup.sh
echo "Building; the first time takes some minutes."
quiet=()
[[ -t 2 ]] || quiet=(--noshow_progress)
bazel build --config=opt --ui_event_filters=-info "${quiet[@]}" \
  //tools:rump //hijack:librumphijack.so //sp_server:rump_server
bin=$(bazel info --config=opt bazel-bin 2>/dev/null)
rump=$bin/tools/rump
"$rump" --version

heading "Start a server: a kernel with its own TCP/IP stack, in one process"
tmp=$(mktemp -d /tmp/rump-demo.XXXXXX)
url=unix://$tmp/sock
echo "\$ rump server -s $url &"
"$rump" server -s "$url" >"$tmp/server.log" 2>&1 &
server=$!
pids+=("$server")
wait_for "$server" "$rump" ps --server "$url" ||
  fail "the server does not answer"
echo "process $server"

heading "Start an unmodified web server on it"
port=8000
while [[ -n $(ss -ltnH "sport = :$port") ]]; do ((++port)); done
mkdir "$tmp/www"
echo "A page from a kernel in another process." >"$tmp/www/page.txt"
head -c 100M /dev/urandom >"$tmp/www/100MB.bin"
web=http://127.0.0.1:$port
echo "\$ rump run --server $url -- /usr/bin/python3 -m http.server $port --bind 127.0.0.1 &"
(cd "$tmp/www" && exec "$rump" run --server "$url" -- \
  /usr/bin/python3 -m http.server "$port" --bind 127.0.0.1) >"$tmp/python.log" 2>&1 &
python=$!
pids+=("$python")
curl=("$rump" run --server "$url" -- curl --noproxy '*' -sS)
wait_for "$python" "${curl[@]}" "$web/page.txt" ||
  fail "the web server does not answer"
echo "process $python"

heading "Fetch a page with an unmodified curl"
run "${curl[@]}" "$web/page.txt"

heading "Fetch 100 MB and compare"
run "${curl[@]}" -o "$tmp/copy" -w '%{size_download} bytes in %{time_total} s\n' "$web/100MB.bin"
served=$(sha256sum <"$tmp/www/100MB.bin")
fetched=$(sha256sum <"$tmp/copy")
echo "SHA-256 served   ${served%% *}"
echo "SHA-256 fetched  ${fetched%% *}"
[[ $served == "$fetched" ]] || fail "the two differ"
echo "equal"

heading "What the server sees, while a slow curl runs"
"${curl[@]}" --limit-rate 1M -o /dev/null "$web/100MB.bin" 2>/dev/null &
slow=$!
pids+=("$slow")
curl_is_there() { "$rump" ps --server "$url" | grep -q curl; }
wait_for "$slow" curl_is_there || fail "rump ps does not show curl"
run "$rump" ps --server "$url"
kill "$slow"
wait "$slow" 2>/dev/null || true
pids=("$server" "$python")

heading "The host knows nothing of it"
echo "\$ ss -ltn 'sport = :$port'"
listeners=$(ss -ltnH "sport = :$port")
[[ -z $listeners ]] || fail "the host has a listener on port $port: $listeners"
echo "(no listener on port $port)"
echo "\$ curl $web/page.txt"
if curl --noproxy '*' -sS "$web/page.txt" 2>&1; then
  fail "a plain curl reached the page"
fi

heading "Stop"
kill "$python"
wait "$python" 2>/dev/null || true
run "$rump" halt --server "$url"
wait "$server" || fail "the server ended with an error"
pids=()
echo "server and programs have ended"
