#!/bin/sh
# What librumphijack.so shows to a program, and what it takes from libc. An export too many takes
# libc's place unasked; an import too many may be a function that the program defines for itself.
library=$1
failed=0

# sorted LIST: its words in order, on one line.
sorted() {
  echo "$1" | tr -s '[:space:]' '\n' | LC_ALL=C sort | paste -s -d ' ' | sed 's/^ //'
}

# compare WHAT EXPECTED ACTUAL: two lists, of words.
compare() {
  expected=$(sorted "$2")
  actual=$(sorted "$3")
  [ "$expected" = "$actual" ] && return
  failed=1
  echo "$1 differ:"
  echo "expected: $expected"
  echo "actual:   $actual"
}

exports="
  socket socketpair bind connect listen accept accept4 getsockname getpeername getsockopt setsockopt
  shutdown ioctl
  read readv recv recvfrom recvmsg recvmmsg write writev send sendto sendmsg sendmmsg
  preadv2 preadv64v2 pwritev2 pwritev64v2 sendfile sendfile64 splice
  close close_range closefrom dup dup2 dup3 fcntl fcntl64 pidfd_getfd prctl syscall
  fork _Fork execve execveat execv execvp execvpe execl execle execlp fexecve posix_spawn posix_spawnp
  __close __connect __dup2 __fcntl __fork __read __send __write
  __read_chk __recv_chk __recvfrom_chk"
# errno, and finding libc's own functions.
imports="__errno_location dlsym"

compare "exported symbols" "$exports" \
  "$(nm -D --defined-only "$library" | awk '{ print $3 }')"

# Only what is both allowed and used; weak ones are the compiler's start files'.
used=$(nm -D --undefined-only "$library" | awk '$1 == "U" { sub("@.*", "", $2); print $2 }')
for symbol in $used; do
  case " $imports " in
    *" $symbol "*) ;;
    *) failed=1; echo "imports $symbol" ;;
  esac
done
[ -n "$used" ] || { failed=1; echo "no imports found: nm failed?"; }

compare "needed libraries" "libc.so.6" \
  "$(readelf -d "$library" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p')"

# A version on our symbols would keep them from satisfying the program's.
if nm -D --defined-only "$library" | grep '@'; then
  failed=1
  echo "exports carry versions"
fi

# A system call leaves them as they are, and so must what takes its place.
if objdump -d --no-show-raw-insn "$library" | grep -E '%([xyz]?mm|st|k)[0-9(]|xsave|xrstor' >&2; then
  failed=1
  echo "vector or floating-point registers are used"
fi
exit $failed
