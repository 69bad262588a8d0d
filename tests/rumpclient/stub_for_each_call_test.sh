#!/bin/sh
# stub_for_each_call_test.sh LIBRARY SYSCALL_NAMES: the library has a rump_sys_* for each call of the
# table of system calls, and none besides.
set -eu
library=$1
syscall_names=$2

# A few calls have other names in the manual than in the kernel.
expected=$("$syscall_names" |
  sed -e 's/^\(pread\|pwrite\)64$/\1/' -e 's/^pselect6$/pselect/' -e 's/^/rump_sys_/' | sort)
exported=$(nm --dynamic --defined-only --format=posix --without-symbol-versions "$library" |
  cut -d' ' -f1 | grep '^rump_sys_' | sort)
[ "$expected" != "$exported" ] || exit 0
printf 'in the table:\n%s\nin %s:\n%s\n' "$expected" "$library" "$exported" >&2
exit 1
