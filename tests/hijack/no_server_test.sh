#!/bin/sh
# What a program sees when there is no server to talk to, or none that it can use: an error at once,
# and one line on stderr that says what to do.
library=$(realpath "$1")
probe=$(realpath "$2")
server=$(realpath "$3")
directory=$(mktemp -d /tmp/rhXXXXXX) || exit 1
trap 'rm -rf "$directory"' EXIT
failed=0

fail() {
  failed=1
  echo "$*"
  cat "$directory/out" "$directory/err"
}

# probe_with VARIABLE...: two sockets under these variables.
probe_with() {
  env -i "$@" LD_PRELOAD="$library" timeout 20 "$probe" >"$directory/out" 2>"$directory/err"
  status=$?
}

# expect_down WORDS...: both failed with ENETDOWN, and the one line has all of WORDS.
expect_down() {
  [ $status -eq 0 ] || fail "exit status $status"
  [ "$(cat "$directory/out")" = "ENETDOWN ENETDOWN" ] || fail "the errors are wrong"
  [ "$(wc -l <"$directory/err")" -eq 1 ] || fail "not one line on stderr"
  for word in "$@"; do
    grep -qF -- "$word" "$directory/err" || fail "stderr does not say '$word'"
  done
}

probe_with
expect_down "RUMP_SERVER is not set"

probe_with "RUMP_SERVER=unix://$directory/none"
expect_down "RUMP_SERVER=unix://$directory/none" "no such socket" "is \"rump_server unix://"

cd "$directory" || exit 1
probe_with "RUMP_SERVER=unix://relative"
expect_down "RUMP_SERVER=unix://relative" "no such socket"

touch "$directory/file"
probe_with "RUMP_SERVER=unix://$directory/file"
expect_down "connection refused"

probe_with "RUMP_SERVER=tcp://127.0.0.1:9/"
expect_down "RUMP_SERVER=tcp://127.0.0.1:9/" "use a unix:// URL"

probe_with "RUMP_SERVER=nonsense"
expect_down "RUMP_SERVER=nonsense" "no URL"

"$server" -s --no-extensions "unix://$directory/plain" &
until nc -zU "$directory/plain" 2>/dev/null; do kill -0 $! || break; done
probe_with "RUMP_SERVER=unix://$directory/plain"
expect_down "RUMP_SERVER=unix://$directory/plain" "hostfd" "without --no-extensions"
kill $!

# Sockets that are not to be hijacked are the host's.
probe_with "RUMPHIJACK=socket=all:noinet:nolocal"
[ "$(cat "$directory/out")" = "0 0" ] || fail "sockets of the host do not work"
[ -s "$directory/err" ] && fail "a line on stderr without need"

# A program that would silently not be hijacked does not run at all.
probe_with "RUMPHIJACK=socket=nonsense"
[ $status -eq 1 ] || fail "exit status $status with a bad RUMPHIJACK"
[ -s "$directory/out" ] && fail "the program ran with a bad RUMPHIJACK"
[ "$(wc -l <"$directory/err")" -eq 1 ] || fail "not one line about RUMPHIJACK"
grep -q 'RUMPHIJACK.*socket' "$directory/err" || fail "the line does not name the key"

exit $failed
