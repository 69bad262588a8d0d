#!/bin/bash
# Usage: tools/install.sh [--built FOLDER] PREFIX
#
# Builds the toolkit and installs it: programs in PREFIX/bin, libraries, headers, the pkg-config file
# rumpclient.pc, manual pages and documentation in the usual folders beside it.
#
#   --built FOLDER  installs what has been built before instead: FOLDER is what `bazel info bazel-bin`
#                   names, or a copy. Root needs no Bazel that way.
#
# Variables:
#   DESTDIR         put before PREFIX wherever a file is written, and nowhere into it: for packages
set -euo pipefail

say() { echo "tools/install.sh: $*" >&2; }
fail() {
  say "$@"
  exit 1
}
usage() {
  say "$@"
  echo "See tools/install.sh --help." >&2
  exit 2
}

built=
prefix=
while (($#)); do
  case "$1" in
    -h | --help) sed -n '2,/^set /{/^set /!s/^# \?//p}' "$0"; exit ;;
    --built)
      (($# > 1)) || usage "--built needs a folder"
      [[ -d $2 ]] || fail "--built: there is no folder $2"
      built=$(realpath "$2")
      shift
      ;;
    -*) usage "unknown option $1" ;;
    *)
      [[ -z $prefix ]] || usage "more than one PREFIX: $prefix and $1"
      [[ -n $1 ]] || usage "PREFIX is empty"
      prefix=$(realpath --no-symlinks --canonicalize-missing "$1")
      ;;
  esac
  shift
done
[[ -n $prefix ]] || usage "no PREFIX is given; /usr/local is a usual one"
# The dynamic loader splits LD_PRELOAD at these and knows no way to quote them.
[[ $prefix != *[[:space:]:]* ]] ||
  fail "'$prefix' has a blank or a colon: librumphijack.so could not be preloaded from there"
stage=${DESTDIR:+$(realpath --canonicalize-missing "$DESTDIR")}

cd "$(dirname "$0")/.."
if [[ -z $built ]]; then
  command -v bazel >/dev/null || fail "Bazel is not installed; tools/setup.sh installs it"
  [[ -e third_party/abseil/WORKSPACE && -e third_party/lwip/src ]] ||
    fail "the sources of Abseil and lwIP are missing; tools/setup.sh fetches them"
  bazel build --config=opt --noshow_progress //tools:rump //sp_server:rump_server \
    //hijack:librumphijack.so //rumpclient:librumpclient.so //rumpclient:librumpclient.a \
    //third_party:licenses
  built=$(bazel info --config=opt bazel-bin 2>/dev/null)
fi

readonly root=$stage$prefix
readonly doc=share/doc/rump

# put MODE FOLDER FILE...: into a folder below PREFIX
put() {
  local mode=$1 folder=$2 file
  shift 2
  for file in "$@"; do
    [[ -r $file ]] || fail "cannot read $file: it has not been built, or this tree is not whole"
  done
  install -d -m 755 "$root/$folder" || fail "cannot make the folder $root/$folder"
  install -m "$mode" "$@" "$root/$folder/" || fail "cannot write to $root/$folder"
}

put 755 bin "$built"/tools/rump "$built"/sp_server/rump_server
put 644 lib "$built"/hijack/librumphijack.so "$built"/rumpclient/librumpclient.{so,a}
mv "$root"/lib/librumpclient.so{,.1}
ln -s librumpclient.so.1 "$root/lib/librumpclient.so"
put 644 include/rump rumpclient/include/rump/*.h
for page in man/*.[1-9]; do
  put 644 "share/man/man${page##*.}" "$page"
done
put 644 "$doc" LICENSE "$built"/third_party/LICENSE.{abseil,lwip} docs/rumpclient.md docs/protocol.md
put 644 "$doc/examples" examples/*.c

install -d -m 755 "$root/lib/pkgconfig"
version=$("$built/tools/rump" --version)
cat >"$root/lib/pkgconfig/rumpclient.pc" <<END
prefix=$prefix
includedir=\${prefix}/include
libdir=\${prefix}/lib

Name: rumpclient
Description: System calls of a kernel that runs in another process
Version: $(cut -d' ' -f2 <<<"$version")
Cflags: -I\${includedir}
Libs: -L\${libdir} -lrumpclient
Libs.private: -pthread
END
chmod 644 "$root/lib/pkgconfig/rumpclient.pc"
echo "Installed in $root"
