#!/bin/sh
# The core runs inside other people's programs: this is all that its objects may ask a linker for.
set -eu
allowed='memcpy|memmove|memset|memcmp'
# What the compiler's own libraries bring when they check the code.
allowed="$allowed|__(a|t|ub)san_.*|_GLOBAL_OFFSET_TABLE_"
# Strings and spans of namespace rump, defined in the same archives.
allowed="$allowed|_ZNK?4rump.*"

for archive in "$@"; do
  nm --undefined-only --format=posix "$archive" >"$TEST_TMPDIR/undefined"
  extra=$(grep ' U' "$TEST_TMPDIR/undefined" | cut -d' ' -f1 | grep -vxE "$allowed" || true)
  if [ -n "$extra" ]; then
    echo "$archive asks for: $extra" >&2
    exit 1
  fi
done
[ $# -gt 0 ] || { echo 'no archives were given' >&2; exit 1; }
