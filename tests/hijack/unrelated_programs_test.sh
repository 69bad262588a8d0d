#!/bin/sh
# Programs without network sockets must not notice the library: same output, same exit status, with
# and without the library's variables in the environment, and no server anywhere.
library=$(realpath "$1")
directory=$(mktemp -d /tmp/rhXXXXXX) || exit 1
trap 'rm -rf "$directory"' EXIT
failed=0

# same COMMAND...: runs it plainly and preloaded.
same() {
  "$@" >"$directory/expected" 2>&1 </dev/null
  expected=$?
  for environment in "NONE=" "RUMP_SERVER=unix://$directory/none" "RUMPHIJACK=socket=inet"; do
    env "$environment" LD_PRELOAD="$library" "$@" >"$directory/actual" 2>&1 </dev/null
    actual=$?
    if [ $actual -ne $expected ]; then
      failed=1
      echo "'$*' ($environment) exits with $actual instead of $expected"
    fi
    diff "$directory/expected" "$directory/actual" || {
      failed=1
      echo "'$*' ($environment) writes something else"
    }
  done
}

# if_there COMMAND...: the same for programs that not every machine has.
if_there() {
  if command -v "$1" >/dev/null; then same "$@"; fi
}

same ls /
same ls "$directory/missing"
same sh -c 'echo a | cat'
same sh -c 'exit 7'
same sh -c 'kill -TERM $$'
same sh -c 'exec 7>&1 8>&7 1>&8; echo moved >&7; exec 7>&-; echo closed >&8'
same sh -c 'printf "b\na\n" | sort | tr ab xy'
same env -i /bin/sh -c 'echo empty'
same tar -cf - -C / etc/hostname
if_there git --version
if_there /usr/bin/python3 -c ''
if_there /usr/bin/python3 -c '
import os, socket, subprocess
a, b = socket.socketpair()
r, w = os.pipe()
socket.send_fds(a, [b"x"], [r])
message, fds, _, _ = socket.recv_fds(b, 1, 4)
os.write(w, b"passed")
print(os.read(fds[0], 6))
print(subprocess.run(["echo", "spawned"], capture_output=True, close_fds=True).stdout)
pid = os.fork()
if pid == 0:
    os.dup2(w, 20)
    os.write(20, b"forked")
    os.closerange(3, 64)
    os._exit(3)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), os.read(r, 6))
'
exit $failed
