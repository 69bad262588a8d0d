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

# Without extensions there is nothing for rump to use.
"$server" -s --no-extensions "unix://$dir/s" & pid=$!
until [[ -S $dir/s ]]; do kill -0 $pid || break; done
expect 1 'does not offer the control calls.*has them off' "$rump" ps --server "unix://$dir/s"
kill -TERM $pid
wait $pid || fail "--no-extensions: exit status $?"

# Several URLs, limits, and a trace from the start; looked at and traced while it runs.
tcp=tcp://127.$((RANDOM % 200 + 2)).$((RANDOM % 250)).7:$((RANDOM % 20000 + 10000))/
expect 1 "$dir/no/trace: No such file" "$server" --trace "$dir/no/trace" "unix://$dir/s"
expect 2 "needs -s" "$server" --trace - "unix://$dir/s"
expect 2 "takes a number" "$server" --max-clients none "unix://$dir/s"
expect 0 '^$' "$server" --trace "$dir/trace" --max-clients 1 "unix://$dir/s" "$tcp"
for url in "unix://$dir/s" "$tcp"; do
  expect 0 '^$' "$rump" stats --server "$url"
done
"$rump" stats --json --server "unix://$dir/s" | grep -q '"name":"query","calls":3' ||
  fail "stats --json does not count"
[[ $("$rump" ps --json --server "unix://$dir/s") == '[]' ]] || fail "ps --json"
grep -q 'query(2, "clients' "$dir/trace" || fail "no call in the trace"
expect 1 'Operation not permitted' "$rump" trace --server "$tcp" "$dir/other"
(cd "$dir" && expect 0 '^$' "$rump" trace --server "unix://$dir/s" other; exit "$failures") ||
  fail "trace of a relative path"
expect 0 '^$' "$rump" ps --server "unix://$dir/s"
expect 0 '^$' "$rump" trace --server "unix://$dir/s" off
grep -q 'query(0, ' "$dir/other" || fail "no call in the trace that was switched on"
grep -q 'query(0, ' "$dir/trace" && fail "the trace went on"
expect 1 'takes one argument' "$rump" trace --server "unix://$dir/s"
exec 3<>"/dev/tcp/${tcp:6:-7}/${tcp: -6:-1}"
read -r -u 3 banner
expect 1 'has as many clients as it takes' "$rump" ps --server "unix://$dir/s"
[[ $banner == RUMPSP-* ]] || fail "banner '$banner'"
exec 3>&-
expect 0 '^$' "$rump" halt --server "unix://$dir/s"

((failures == 0)) && echo "all passed"
exit $((failures > 0))
