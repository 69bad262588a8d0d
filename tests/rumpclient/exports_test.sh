#!/bin/sh
# What the shared and the static library offer is what the public headers declare, no more.
set -eu
shared=$1
static=$2
shift 2

# Declarations only: the comments also speak of functions.
declared=$(grep -hE '^[a-z][^(]*\(' "$@" | grep -oE '(rumpclient|rump_sys)_[a-z0-9_]+\(' |
  tr -d '(' | sort -u)
exported=$(nm --dynamic --defined-only --format=posix --without-symbol-versions "$shared" |
  cut -d' ' -f1 | grep -vx RUMPCLIENT_1 | sort)
global=$(nm --extern-only --defined-only --format=posix "$static" |
  sed -n 's/^\([^ ]*\) [A-Zu] .*/\1/p' | sort)

check() {
  [ "$declared" = "$2" ] && return
  printf '%s\nhas: %s\nnot: %s\n' "$1" "$2" "$declared" >&2
  exit 1
}
check "$shared" "$exported"
check "$static" "$global"
readelf --dynamic "$shared" | grep -q 'soname: \[librumpclient.so.1\]'
