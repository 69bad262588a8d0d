#!/bin/bash
# How the library gets into a program's calls: what RUMPHIJACK_ENTRY asks for, what is done where that
# is impossible, and what is said about it.
set -euo pipefail
library=$(realpath "$1")
probe=$(realpath "$2")
without_new_code=$(realpath "$3")
directory=$(mktemp -d /tmp/rhXXXXXX)
trap 'rm -rf "$directory"' EXIT
failed=0

fail() {
  failed=1
  echo "$*"
  cat "$directory/out" "$directory/err"
}

# run COMMAND...: the variables and the program, preloaded; it must hijack its sockets.
run() {
  status=0
  env -i LD_PRELOAD="$library" "$@" >"$directory/out" 2>"$directory/err" || status=$?
}

# expect WORDS LINES: hijacked, and LINES on stderr, one of them with WORDS. One line is about the
# server that is not there.
expect() {
  ((status == 0)) || fail "exit status $status"
  [[ $(<"$directory/out") == "ENETDOWN ENETDOWN" ]] || fail "the sockets are not hijacked"
  [[ $(wc -l <"$directory/err") -eq $2 ]] || fail "not $2 lines on stderr"
  grep -qF -- "$1" "$directory/err" || fail "stderr does not say '$1'"
}

# expect_end WORDS: the program did not run, and one line says why.
expect_end() {
  ((status == 1)) || fail "exit status $status"
  [[ ! -s $directory/out ]] || fail "the program ran"
  [[ $(wc -l <"$directory/err") -eq 1 ]] || fail "not one line on stderr"
  grep -qF -- "$1" "$directory/err" || fail "stderr does not say '$1'"
}

by_table="libc is rewritten, by the table"
by_scan="libc is rewritten, by what a scan has found"
server="RUMP_SERVER is not set"

run "$probe"
expect "$server" 1
run RUMPHIJACK_VERBOSE=1 "$probe"
expect "$by_table" 2
grep -qE '^rumphijack: socket_probe[a-z_]*\[[0-9]+\]: libc' "$directory/err" || fail "no name and process id"
run RUMPHIJACK_VERBOSE=1 RUMPHIJACK_ENTRY=auto "$probe"
expect "$by_table" 2
run RUMPHIJACK_VERBOSE=1 RUMPHIJACK_ENTRY=rewrite "$probe"
expect "$by_table" 2
run RUMPHIJACK_VERBOSE=1 RUMPHIJACK_ENTRY=symbols "$probe"
expect "libc is not rewritten" 2
for bad in Rewrite symbol 1; do
  run RUMPHIJACK_ENTRY="$bad" "$probe"
  expect_end "RUMPHIJACK_ENTRY: unknown value \"$bad\" (wanted: auto, rewrite or symbols)"
done

# Where memory cannot become code, as under MemoryDenyWriteExecute=yes of systemd.
run "$without_new_code" "$probe"
expect "$server" 1
run RUMPHIJACK_VERBOSE=1 "$without_new_code" "$probe"
expect "libc is not rewritten: new code is forbidden here" 3
run RUMPHIJACK_ENTRY=rewrite "$without_new_code" "$probe"
expect_end "RUMPHIJACK_ENTRY=rewrite: libc cannot be rewritten"

# A libc of another build: the installed one, with another build-id.
libc=/lib/x86_64-linux-gnu/libc.so.6
cp "$libc" "$directory/libc.so.6"
id=$(readelf -n "$libc" | sed -n 's/.*Build ID: //p')
other=$(tr 0-9a-f 1-9a-f0 <<<"$id")
python3 - "$directory/libc.so.6" "$id" "$other" <<'EOF'
import sys
path, old, new = sys.argv[1:]
data = open(path, "rb").read()
assert data.count(bytes.fromhex(old)) == 1
open(path, "wb").write(data.replace(bytes.fromhex(old), bytes.fromhex(new)))
EOF
run RUMPHIJACK_VERBOSE=1 LD_LIBRARY_PATH="$directory" "$probe"
expect "$by_scan" 2
run RUMPHIJACK_VERBOSE=1 LD_LIBRARY_PATH="$directory" RUMPHIJACK_ENTRY=rewrite "$probe"
expect "$by_scan" 2

exit $failed
