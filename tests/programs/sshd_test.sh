# OpenSSH, as Debian builds it: sshd executes itself for each connection, authenticates in a chroot
# with a seccomp filter, and closes all descriptors that it does not know, several times.
# shellcheck shell=bash disable=SC2154
need scp=openssh-client
# shellcheck source=tests/programs/sshd.sh
source tests/programs/sshd.sh

# What there is when nobody is logged in: sshd's descriptors and children, and the server's.
connections() { [[ $mode == native ]] || "$rump" ps | wc -l; }
state() {
  local fds=("/proc/${pids[sshd]}/fd/"*)
  echo "${#fds[@]} $(pgrep -c -P "${pids[sshd]}") $(connections) ${server:+$(server_fds)}"
}
at_rest() { [[ $(state) == "$rest" ]]; }
nobody_logged_in() { [[ $(pgrep -c -P "${pids[sshd]}") -eq 0 && $(connections) -le 2 ]]; }
wait_for sshd nobody_logged_in
rest=$(state)

# A command: its standard input and output, its status.
head -c 5M /dev/urandom >"$tmp/data"
status=0
remote server 'cat; echo to stderr >&2; exit 7' <"$tmp/data" >"$tmp/copy" 2>"$tmp/errors" || status=$?
equal "$status" 7
same "$tmp/copy" "$tmp/data"
equal "$(<"$tmp/errors")" "to stderr"

# A session on a terminal, in which a program is interrupted.
coproc TERMINAL {
  exec "${net[@]}" ssh -F "$tmp/ssh_config" -tt server 'PS1= PS2= ENV= exec sh -i' 2>&1
}
pids[terminal]=$TERMINAL_PID
# expect LINE: the terminal shows it.
expect() {
  local line
  while IFS= read -r -t "$patience" -u "${TERMINAL[0]}" line; do
    [[ ${line%$'\r'} != "$1" ]] || return 0
    echo "$line" >>"$tmp/terminal.log"
  done
  fail "the terminal does not show '$1'"
}
keys() { printf '%b' "$1" >&"${TERMINAL[1]}"; }
keys 'stty -echo rows 40 columns 99; tty | sed s/[0-9]*$/N/; stty size\n'
expect /dev/pts/N
expect "40 99"
keys 'sh -c "echo waits; exec sleep 1000"\n'
expect waits
keys '\003echo status $?\n'
expect "status 130"
keys 'exit 5\n'
finish terminal 5

# Many logins, one after the other.
for i in {1..50}; do equal "$(remote server echo "login $i")" "login $i"; done
wait_for sshd at_rest

head -c 200M /dev/urandom >"$tmp/data"
on_net scp -q -F "$tmp/ssh_config" "$tmp/data" "server:$tmp/copy"
same "$tmp/copy" "$tmp/data"
wait_for sshd at_rest
stop sshd
