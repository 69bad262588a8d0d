#!/bin/bash
# check_test.sh PROGRAM: rump check, without and with --audit. PROGRAM's calls escape when asked to.
set -euo pipefail
rump=$PWD/tools/rump
escaping=$(realpath "$1")
tmp=$(mktemp -d /tmp/rhXXXXXX)
trap 'rm -rf "$tmp"' EXIT
failed=0

fail() {
  failed=1
  echo "FAILED: $*"
  cat "$tmp/out" "$tmp/err"
}

# check STATUS WORDS ARGUMENT...: `rump check` exits with STATUS, and says WORDS, if any, somewhere.
check() {
  local expected=$1 words=$2 status=0
  shift 2
  "$rump" check "$@" >"$tmp/out" 2>"$tmp/err" || status=$?
  ((status == expected)) || fail "rump check $* exits with $status instead of $expected"
  [[ -z $words ]] || cat "$tmp/out" "$tmp/err" | grep -qE -- "$words" || fail "rump check $* does not say '$words'"
}

# What a file tells.
printf '#!/bin/sh\n' >"$tmp/script"
printf '#!/nonexistent/shell\n' >"$tmp/lost_script"
printf '\x7fELF\x01\x01' >"$tmp/small"
chmod +x "$tmp"/script "$tmp"/lost_script "$tmp"/small
touch "$tmp/data"
check 0 "^$escaping can be hijacked" "$escaping"
check 0 "libc\.so\.6, build-id [0-9a-f]{40}" "$escaping"
check 0 "entry +libc is rewritten, by the table for it" "$escaping"
check 0 "interpreter +/bin/sh" "$tmp/script"
RUMPHIJACK_ENTRY=symbols check 0 "entry +symbols alone" "$escaping"
check 126 "is statically linked" /bin/busybox
check 126 "is a 32-bit program" "$tmp/small"
check 126 "/nonexistent/shell" "$tmp/lost_script"
check 126 "is not executable" "$tmp/data"
check 127 "no such file" "$tmp/none"
check 127 "is not in any directory of PATH" no-such-program
check 125 "no program is named"
check 125 "only with --audit" "$escaping" argument
check 125 "go with --audit" --server unix:///x "$escaping"
((EUID == 0)) || check 126 "is setuid" /bin/su

# What a run shows.
audit() { check "$1" "$2" --audit -- "$escaping" "${@:3}"; }
audit 7 "^rump check: 0 of [1-9][0-9]* system calls have escaped"
audit 123 "^rump check: 1 of" socket
audit 123 "^ +1  socket\(AF_INET\) by escaping_progra at $escaping\+0x" socket
audit 123 "^ +1  socket\(AF_NETLINK\) by" route
audit 123 "^ +2  getsockname by escaping_progra at $escaping\+0x" name name socket
audit 123 "^ +1  socket\(AF_INET6\) by" child
RUMPHIJACK=socket=inet audit 7 "0 of" child
RUMPHIJACK_ENTRY=symbols audit 7 "0 of"
RUMPHIJACK_ENTRY=symbols audit 123 "1  getsockname by" name
check 123 "" --audit --output "$tmp/list" "$escaping" socket
grep -q "1 of" "$tmp/list" || fail "--output FILE has not the list"
check 125 "/nonexistent/list" --audit --output /nonexistent/list touch "$tmp/ran"
[[ ! -e $tmp/ran ]] || fail "the program has run though its report cannot be written"
RUMPHIJACK=nonsense check 125 "nonsense" --audit "$escaping"

# It ends as the program ends, with all that the program has started.
status=0
"$rump" check --audit -- sh -c 'kill -TERM $$' 2>"$tmp/err" || status=$?
((status == 143)) || fail "a program that SIGTERM ends gives $status"
status=0
timeout -s KILL 30 "$rump" check --audit -- python3 -c 'if True:
  import os, threading
  thread = threading.Thread(target=os.execl, args=("/bin/sh", "sh", "-c", "exit 4"))
  thread.start()
  thread.join()' 2>"$tmp/err" || status=$?
((status == 4)) || fail "a program that a second thread starts gives $status"
"$rump" check --audit -- sh -c 'trap "exit 3" TERM; echo ready >&2; while :; do read x; done' \
  <>"$tmp/data" 2>"$tmp/err" &
until grep -q ready "$tmp/err"; do kill -0 $! || break; done
kill -TERM $!
status=0
wait $! || status=$?
((status == 3)) || fail "a signal to rump is not passed on: $status"
exit $failed
