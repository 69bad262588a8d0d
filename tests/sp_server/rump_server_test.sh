#!/bin/bash
# rump_server as a command: going to the background, what it says when it cannot start, its end.
set -uo pipefail
server=$PWD/sp_server/rump_server
rump=$PWD/tools/rump
dir=$(mktemp -d /tmp/rhXXXXXX)
trap '"$rump" halt --server "unix://$dir/s" >/dev/null 2>&1; rm -rf "$dir"' EXIT
failures=0
fail() { echo "FAILED: $*" >&2; failures=$((failures + 1)); }

# expect STATUS PATTERN COMMAND...: exit status, and what it says on stderr
expect() {
  local status=$1 pattern=$2 said got
  shift 2
  said=$("$@" 2>&1 >/dev/null)
  got=$?
  [[ $got == "$status" ]] || fail "$*: exit status $got, not $status ($said)"
  [[ $said =~ $pattern ]] || fail "$*: says '$said', not '$pattern'"
}

expect 2 'no URL' "$server"
expect 2 'unknown option --nonsense' "$server" --nonsense
expect 0 '^$' "$server" --help
expect 1 'bad URL nonsense' "$server" nonsense
expect 1 'bad URL http://x' "$server" http://x
expect 1 '/nonexistent/dir/s: No such file' "$server" unix:///nonexistent/dir/s
touch "$dir/plain"
expect 1 "$dir/plain exists and is not a socket" "$server" "unix://$dir/plain"
expect 1 'not loopback.*--allow-remote' "$server" tcp://0.0.0.0:7000/
expect 1 'Address already in use|address in use' "$server" "unix://$dir/a" "unix://$dir/a"
[[ ! -e $dir/a ]] || fail "a server that failed left its socket"

# It accepts connections when the command returns.
expect 0 '^$' "$server" "unix://$dir/s"
expect 0 '^$' "$rump" ps --server "unix://$dir/s"
expect 1 "address in use by process [0-9]+" "$server" "unix://$dir/s"
expect 0 '^$' "$rump" halt --server "unix://$dir/s"
[[ ! -e $dir/s ]] || fail "halt left the socket"

# A stale socket is replaced, a relative path works, and SIGTERM is a clean end; SIGHUP is none.
"$server" -s "unix://$dir/s" & pid=$!
until "$rump" ps --server "unix://$dir/s" >/dev/null 2>&1; do kill -0 $pid || break; done
kill -9 $pid; wait $pid 2>/dev/null
[[ -S $dir/s ]] || fail "no stale socket to replace"
(cd "$dir" && exec "$server" -s unix://s) & pid=$!
until "$rump" ps --server "unix://$dir/s" >/dev/null 2>&1; do kill -0 $pid || break; done
kill -HUP $pid
expect 0 '^$' "$rump" ps --server "unix://$dir/s"
kill -TERM $pid
wait $pid || fail "SIGTERM: exit status $?"
[[ ! -e $dir/s ]] || fail "SIGTERM left the socket"

((failures == 0)) && echo "all passed"
exit $((failures > 0))
