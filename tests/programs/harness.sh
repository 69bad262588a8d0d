#!/bin/bash
# harness.sh MODE SCRIPT [OPTION...]: runs the script of a program_test with programs whose network is
# the host's loopback (MODE native) or that of a rump_server of this test alone, started with the
# options (hijacked; symbols: the same without rewriting libc; audited: the same as hijacked under
# `rump check --audit`, which no call may escape). For the script:
#
#   need PROGRAM=PACKAGE...    fails unless all are installed
#   on_net PROGRAM ARG...      runs it on the network
#   start NAME PROGRAM ARG...  the same in the background: ${pids[NAME]}, output in $tmp/NAME.log;
#                              the standard input is the caller's
#   wait_for NAME COMMAND...   repeats it until it succeeds, as long as NAME runs
#   finish NAME [STATUS]       waits for NAME, which has to exit with STATUS, 0 unless given
#   stop NAME [SIGNAL]         ends NAME with SIGNAL, TERM unless given
#   same FILE FILE             fails unless the two have the same bytes
#   equal VALUE EXPECTED       fails unless the two strings are equal
#   check_server               hijacked: fails unless the server is alive, with nothing left of
#                              programs that have ended, and no socket is the host's
#   fail WORDS                 ends the test, showing all logs
#
# $tmp is a directory for the script's files. After the script everything that it started is stopped,
# and the server checked and halted.
set -euo pipefail
# shellcheck source=tests/private_network.sh
source tests/private_network.sh

case $1 in
  native) hijack_entry='' ;;
  hijacked) hijack_entry=rewrite ;;
  symbols) hijack_entry=symbols ;;
  audited) hijack_entry=rewrite ;;
  *) echo "unknown mode $1"; exit 1 ;;
esac
[[ $1 != audited ]] || audited=1
# For the script, native or hijacked.
mode=${hijack_entry:+hijacked}
readonly mode=${mode:-native} hijack_entry
# shellcheck disable=SC2034
readonly python=/usr/bin/python3
readonly server_options=("${@:3}")
# Scripts may change the working directory.
readonly rump=$PWD/tools/rump
# Seconds; machines that do much else at the time need many of them.
readonly patience=60
tmp=$(mktemp -d /tmp/rhXXXXXX)
readonly tmp
# Servers are in sbin, which Bazel's PATH leaves out.
PATH=$PATH:/usr/sbin:/sbin
declare -A pids=()
net=()
server=

fail() {
  echo "FAILED ($mode${hijack_entry:+ by $hijack_entry}): $*"
  exit 1
}

need() {
  local pair missing=()
  for pair in "$@"; do
    command -v "${pair%%=*}" >/dev/null || missing+=("${pair#*=}")
  done
  ((${#missing[@]} == 0)) || fail "Debian packages are missing: ${missing[*]}"
}

on_net() { "${net[@]}" "$@"; }

# The program itself is the background process: `rump run` becomes it.
start() {
  local name=$1
  shift
  "${net[@]}" "$@" >"$tmp/$name.log" 2>&1 <&0 &
  pids[$name]=$!
}

running() { kill -0 "$1" 2>/dev/null; }

# wait_while PID COMMAND...: repeats the command until it succeeds, as long as the process is there.
wait_while() {
  local pid=$1 end=$((SECONDS + patience))
  shift
  until "$@" >"$tmp/last_try.log" 2>&1; do
    running "$pid" || return 1
    ((SECONDS < end)) || return 1
    sleep 0.02
  done
}

wait_for() {
  local name=$1
  shift
  wait_while "${pids[$name]}" "$@" || fail "$name has ended, or in vain for $patience s: $*"
}

gone() { ! running "$1"; }

finish() {
  local name=$1 expected=${2:-0} status=0 pid=${pids[$1]}
  wait_while $$ gone "$pid" || fail "$name does not end"
  wait "$pid" || status=$?
  unset "pids[$name]"
  ((status == expected)) || fail "$name has exited with $status instead of $expected"
}

stop() {
  local name=$1 pid=${pids[$1]}
  kill -s "${2:-TERM}" "$pid" || fail "$name was to be stopped, but has ended"
  wait_while $$ gone "$pid" || fail "$name does not end by SIG${2:-TERM}"
  wait "$pid" 2>/dev/null || true
  unset "pids[$name]"
}

equal() { [[ $1 == "$2" ]] || fail "'$1' instead of '$2'"; }
same() { cmp "$1" "$2" || fail "$1 and $2 differ"; }

server_fds() {
  local fds=("/proc/$server/fd/"*)
  echo ${#fds[@]}
}

# What there is in the server now, line by line; never its own.
server_holds() { "$rump" stats | grep -E '^(preforks|objects|fd entries|memory|closing) +[1-9]'; }

# Nothing is left of programs that have ended: no process, no object, and no descriptor.
server_idle() {
  [[ $("$rump" ps | wc -l) -eq 1 && $(server_fds) -le $idle_fds ]] && ! server_holds
}

# What has slipped past the library is on the sandbox's own loopback.
check_host_unused() {
  local sockets
  sockets=$(sed --separate 1d /proc/net/{tcp,udp}{,6})
  [[ -z $sockets ]] || fail "sockets of the host are used: $sockets"
}

check_server() {
  [[ $mode == hijacked ]] || return 0
  check_host_unused
  running "$server" || fail "the server has died"
  wait_while "$server" server_idle || {
    "$rump" ps
    server_holds || true
    ls -l "/proc/$server/fd"
    fail "the server keeps something of programs that have ended ($idle_fds descriptors at first)"
  }
}

start_server() {
  export RUMP_SERVER=unix://$tmp/s RUMPHIJACK_ENTRY=$hijack_entry
  "$rump" server -s "${server_options[@]}" "$RUMP_SERVER" >"$tmp/rump_server.log" 2>&1 &
  server=$!
  wait_while "$server" "$rump" ps || fail "the server does not start"
  idle_fds=$(server_fds)
  net=("$rump" run --)
  [[ ! ${audited:-} ]] || net=("$rump" check --audit --output "$tmp/audit" --)
}

check_audit() {
  [[ ${audited:-} ]] || return 0
  [[ -s $tmp/audit ]] || fail "nothing has been audited"
  ! grep -vE '^0 of [1-9]|, without the library$' "$tmp/audit" || fail "system calls have escaped the library"
}

halt_server() {
  local status=0
  "$rump" halt
  wait "$server" || status=$?
  server=
  ((status == 0)) || fail "the server has exited with $status"
  [[ ! -s $tmp/rump_server.log ]] || fail "the server has written something"
}

show_logs() {
  local log
  for log in "$tmp"/*.log; do
    [[ -s $log ]] || continue
    echo "--- ${log##*/}"
    tail -c 4000 "$log"
  done
}

clean_up() {
  local status=$? pid
  trap - EXIT
  ((status == 0)) || show_logs
  for pid in "${pids[@]}" $server; do kill -KILL "$pid" 2>/dev/null || true; done
  rm -rf "$tmp"
  exit "$status"
}
trap clean_up EXIT
trap 'exit 143' TERM INT

[[ $mode == native ]] || start_server
# shellcheck source=/dev/null
source "$2"
if [[ $mode == hijacked ]]; then check_host_unused; fi
for name in "${!pids[@]}"; do stop "$name"; done
if [[ $mode == hijacked ]]; then
  check_server
  halt_server
  check_audit
fi
if grep -E 'ERROR: (Address|Leak)Sanitizer|: runtime error:' "$tmp"/*.log; then
  fail "a sanitizer has something to say"
fi
