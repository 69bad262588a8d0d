#!/bin/bash
# What tools/install.sh installs is a toolkit: the example builds against it with a plain C compiler,
# and its server, launcher and libraries find each other.
set -euo pipefail
tmp=$(mktemp -d /tmp/rhXXXXXX)
readonly tmp prefix=$tmp/prefix built=$tmp/built
export RUMP_SERVER=unix://$tmp/s
cleanup() {
  "$built/tools/rump" halt >/dev/null 2>&1 || true
  rm -rf "$tmp"
}
trap cleanup EXIT
fail() {
  echo "FAILED: $*" >&2
  exit 1
}
mkdir "$built"
ln -s "$PWD"/{hijack,sp_server,third_party,tools} "$PWD/tests/install" "$built"
mv "$built/install" "$built/rumpclient"
for program in cc pkg-config curl; do
  command -v "$program" >/dev/null || fail "$program is missing; tools/setup.sh installs it"
done

# refuses STATUS PATTERN ARGUMENT...: install.sh ends so, says so, and leaves the folder empty
refuses() {
  local status=$1 pattern=$2 said got=0
  shift 2
  said=$(cd "$tmp/empty" && "$OLDPWD/tools/install.sh" "$@" 2>&1) || got=$?
  [[ $got == "$status" ]] || fail "install.sh $*: exit status $got, not $status ($said)"
  [[ $said =~ $pattern ]] || fail "install.sh $*: says '$said', not '$pattern'"
  [[ -z $(ls "$tmp/empty") ]] || fail "install.sh $*: leaves files"
}
mkdir "$tmp/empty"
touch "$tmp/file"
refuses 0 'Usage: .*PREFIX.*--built FOLDER.*DESTDIR' --help
refuses 2 'no PREFIX is given'
refuses 2 'unknown option --nonsense' --nonsense /nowhere
refuses 2 'more than one PREFIX' /nowhere /elsewhere
refuses 2 '--built needs a folder' --built
refuses 1 'there is no folder /nowhere' --built /nowhere prefix
refuses 1 'has a blank or a colon' --built "$built" "two words"
refuses 1 'tools/rump: it has not been built' --built "$tmp" prefix
refuses 1 "cannot make the folder $tmp/file/bin" --built "$built" "$tmp/file"

# Staged for a package: nothing in it knows the stage. Twice: an upgrade.
for stage in stage "$tmp/stage"; do
  (cd "$tmp" && DESTDIR=$stage "$OLDPWD/tools/install.sh" --built built /opt/rump >/dev/null)
done
[[ $(ls "$tmp/stage") == opt ]] || fail "files outside of PREFIX: $(ls "$tmp/stage")"
[[ -x $tmp/stage/opt/rump/bin/rump ]] || fail "no rump in the stage"
grep -qx 'prefix=/opt/rump' "$tmp/stage/opt/rump/lib/pkgconfig/rumpclient.pc" ||
  fail "rumpclient.pc has another prefix"
if grep -r --binary-files=text --quiet "$tmp/stage" "$tmp/stage"; then
  fail "a file in the stage names it"
fi

tools/install.sh --built "$built" "$prefix" >/dev/null
for file in lib/librumphijack.so include/rump/rumpclient.h include/rump/rump_syscalls.h \
  share/man/man1/rump.1 share/man/man1/rump_server.1 share/man/man3/rumpclient.3 \
  share/man/man7/rump_sp.7 share/doc/rump/LICENSE share/doc/rump/LICENSE.abseil \
  share/doc/rump/LICENSE.lwip share/doc/rump/rumpclient.md; do
  [[ -s $prefix/$file ]] || fail "$file is missing"
done
[[ $(readlink "$prefix/lib/librumpclient.so") == librumpclient.so.1 ]] || fail "librumpclient.so"

export PKG_CONFIG_PATH=$prefix/lib/pkgconfig
[[ "rump $(pkg-config --modversion rumpclient)" == "$("$prefix/bin/rump" --version | cut -d' ' -f1,2)" ]] ||
  fail "rumpclient.pc has another version than rump"

# compile PROGRAM WORD...: of the example, with flags from pkg-config among the words
compile() {
  local program=$1
  shift
  cc -std=c11 -Wall -Wextra -pedantic -Werror -o "$tmp/$program" \
    "$prefix/share/doc/rump/examples/hello_server.c" "$@" || fail "$program does not build"
}
read -ra cflags <<<"$(pkg-config --cflags rumpclient)"
read -ra libs <<<"$(pkg-config --libs rumpclient)"
read -ra static_libs <<<"$(pkg-config --static --libs rumpclient)"
libdir=$(pkg-config --variable=libdir rumpclient)
compile shared "${cflags[@]}" "${libs[@]}" "-Wl,-rpath,$libdir"
compile archive "${cflags[@]}" "$libdir/librumpclient.a"
compile static -static "${cflags[@]}" "${static_libs[@]}"
[[ $(ldd "$tmp/shared") == *"librumpclient.so.1 => $prefix/lib/"* ]] || fail "shared has no library"
needed=$(ldd "$tmp/archive")
[[ ! $needed =~ librumpclient|libstdc ]] || fail "archive needs a shared library: $needed"

"$prefix/bin/rump" server "$RUMP_SERVER"
for program in shared archive static; do
  coproc "$tmp/$program"
  pid=$COPROC_PID
  exec {out}<&"${COPROC[0]}"
  read -r -u "$out" line || fail "$program has ended"
  [[ $line == "listening on port 8080" ]] || fail "$program says '$line'"
  answer=$("$prefix/bin/rump" run -- curl --noproxy '*' -sS http://127.0.0.1:8080/)
  [[ $answer == "Hello from a kernel in another process" ]] || fail "$program answers '$answer'"
  read -r -u "$out" line || fail "$program has ended after its answer"
  [[ $line == process\ *\ of\ the\ server\ has\ answered ]] || fail "$program says '$line'"
  wait "$pid" || fail "$program: exit status $?"
  exec {out}<&-
done
echo "all passed"
