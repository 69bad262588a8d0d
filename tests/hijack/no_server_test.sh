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

# Who only reads the host's file of nameservers gets it, and is not ended for a server that never was.
cat /etc/resolv.conf >"$directory/expected" 2>/dev/null
expected=$?
env -i "RUMP_SERVER=unix://$directory/none" RUMPHIJACK_RETRYCONNECT=die LD_PRELOAD="$library" \
  cat /etc/resolv.conf >"$directory/out" 2>"$directory/err"
[ $? -eq $expected ] || fail "cat ends otherwise than without the library"
cmp "$directory/out" "$directory/expected" || fail "cat shows another file"

cd "$directory" || exit 1
probe_with "RUMP_SERVER=unix://relative"
# timeout is hijacked as well, and hands the URL on in a form that is good in any directory.
expect_down "RUMP_SERVER=unix://$directory/relative" "no such socket"

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

# Servers of another kind: one line to each client, or silence, or an end.
cat >"$directory/fake.py" <<'EOS'
import socket, sys
path, line = sys.argv[1:]
listener = socket.socket(socket.AF_UNIX)
listener.bind(path)
listener.listen()
clients = []
while True:
    clients.append(listener.accept()[0])
    if line == "end":
        clients.pop().close()
    else:
        clients[-1].sendall(line.encode())
EOS
# A silent one is waited for, but not for ever; the rest of this test goes on meanwhile.
python3 "$directory/fake.py" "$directory/silent" "" &
silent_server=$!
until [ -S "$directory/silent" ]; do kill -0 $silent_server || break; done
env -i "RUMP_SERVER=unix://$directory/silent" LD_PRELOAD="$library" timeout 40 "$probe" \
  >"$directory/silent.out" 2>"$directory/silent.err" &
silent_probe=$!
probe_fake() {
  rm -f "$directory/fake"
  python3 "$directory/fake.py" "$directory/fake" "$1" &
  until [ -S "$directory/fake" ]; do kill -0 $! || break; done
  probe_with "RUMP_SERVER=unix://$directory/fake" "RUMPHIJACK_RETRYCONNECT=inftime"
  kill $!
}
probe_fake "SSH-2.0-OpenSSH_9.2
"
expect_down "what listens there is not a rump_server"
probe_fake end
expect_down "what listens there is not a rump_server"
probe_fake "RUMPSP-1.0-Linux-6.1/x86_64
"
expect_down "its protocol version is another one"

# Sockets that are not to be hijacked are the host's.
probe_with "RUMPHIJACK=socket=all:noinet:nolocal"
[ "$(cat "$directory/out")" = "0 0" ] || fail "sockets of the host do not work"
[ -s "$directory/err" ] && fail "a line on stderr without need"

# expect_end WORDS: the program did not run, and the one line has WORDS.
expect_end() {
  [ $status -eq 1 ] || fail "exit status $status"
  [ -s "$directory/out" ] && fail "the program ran"
  [ "$(wc -l <"$directory/err")" -eq 1 ] || fail "not one line on stderr"
  grep -qF -- "$1" "$directory/err" || fail "stderr does not say '$1'"
}

# A program that would silently not be hijacked, or not as asked for, does not run at all.
probe_with "RUMPHIJACK=socket=nonsense"
expect_end 'RUMPHIJACK: unknown value "nonsense" in "socket=nonsense"'
probe_with "RUMPHIJACK=sokcet=inet"
expect_end 'RUMPHIJACK: unknown key "sokcet"'
for item in path=/rump blanket=/dev/tap vfs=all sysctl=yes fdoff=128; do
  probe_with "RUMPHIJACK=socket=inet,$item"
  expect_end "RUMPHIJACK: ${item%%=*}= is not supported yet"
done
for families in all local inet:local; do
  probe_with "RUMPHIJACK=socket=$families"
  expect_end "RUMPHIJACK: AF_UNIX sockets cannot be hijacked"
done
probe_with "RUMPHIJACK_FOLLOW=1"
expect_end 'RUMPHIJACK_FOLLOW: unknown value "1" (wanted: yes or no)'
for bad in Die -1 1s; do
  probe_with "RUMPHIJACK_RETRYCONNECT=$bad"
  expect_end "RUMPHIJACK_RETRYCONNECT: unknown value \"$bad\" (wanted: die, inftime, once or"
done

wait $silent_probe
status=$?
mv "$directory/silent.out" "$directory/out"
mv "$directory/silent.err" "$directory/err"
expect_down "RUMP_SERVER=unix://$directory/silent" "what listens there does not answer"
kill $silent_server

exit $failed
