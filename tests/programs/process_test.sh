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

# A server that stalls holds a fork up, but not for ever.
start stalled "$python" tests/programs/forks_in_vain.py "$server"
finish stalled
check_server

# run_exec HOW ENVIRONMENT: exec.py, until its program is there.
run_exec() {
  rm -f "$tmp/$1.log"
  start "$1" "$python" tests/programs/exec.py "$1" "$2" <&"$lines"
  wait_for "$1" says "$1" ready
  before=$(processes)
  go_on
  wait_for "$1" says "$1" "is hijacked"
}
end_exec() {
  go_on
  finish "$1"
  check_server
}

# The process stays.
expect_kept() {
  run_exec "$1" "$2"
  equal "$(processes)" "${before/python3/renamed}"
  end_exec "$1"
}
for how in execve fexecve; do expect_kept "$how" kept; done

# Children that exec are processes of their own, those that do so on their parent's memory new ones.
expect_other() {
  run_exec "$1" "$2"
  [[ $(processes) == "$before"*renamed* ]] || fail "$1 $2: $(processes)"
  end_exec "$1"
}
for how in fork posix_spawn vfork; do expect_other "$how" kept; done

# A server's URL that is relative to a directory is good elsewhere, too.
(
  net=(env LD_PRELOAD="$PWD/hijack/librumphijack.so" RUMP_SERVER=unix://s)
  ln -s "$PWD/tests" "$tmp"
  cd "$tmp" || exit
  expect_kept execve moved
  expect_other posix_spawn moved
)

# Without their environment they are the host's, unless the library follows.
export RUMPHIJACK_FOLLOW=yes
expect_kept execve empty
expect_kept fexecve empty
for how in fork posix_spawn vfork; do expect_other "$how" empty; done
export RUMPHIJACK_FOLLOW=no
start lost "$python" tests/programs/exec.py execve empty <&"$lines"
wait_for lost says lost ready
go_on
finish lost 1
unset RUMPHIJACK_FOLLOW
