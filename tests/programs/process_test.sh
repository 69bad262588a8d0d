# Which processes the server knows: children are their parents', and an exec keeps the process.
# shellcheck shell=bash disable=SC2034,SC2154
need "$python=python3"
says() { grep -q -- "$2" "$tmp/$1.log"; }
mkfifo "$tmp/lines"
exec {lines}<>"$tmp/lines"
go_on() { echo >&"$lines"; }
# processes: "PID PPID COMMAND" of each.
processes() { "$rump" ps | awk 'NR > 1 { print $1, $2, $3 }'; }

# expect_child HOW PARENT: HOW's child is known as PARENT's.
expect_child() {
  start "$1" "$python" tests/programs/processes.py "$1" <&"$lines"
  wait_for "$1" says "$1" ready
  local list parent
  list=$(processes)
  parent=$(awk '$2 == 1 { print $1 }' <<<"$list")
  [[ $list == *" $parent python3"* ]] || fail "$1: no child of $parent in: $list"
  go_on
  go_on
  finish "$1"
  check_server
}
expect_child fork
expect_child _Fork
