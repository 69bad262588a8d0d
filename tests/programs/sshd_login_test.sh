# One login with a terminal and a file that is copied: little enough to have every system call looked
# at.
# shellcheck shell=bash disable=SC2154
# shellcheck source=tests/programs/sshd.sh
source tests/programs/sshd.sh

equal "$(remote -tt server 'stty size >/dev/null && echo on a terminal' </dev/null 2>"$tmp/ssh.log")" $'on a terminal\r'
head -c 1M /dev/urandom >"$tmp/data"
on_net scp -q -F "$tmp/ssh_config" "$tmp/data" "server:$tmp/copy"
same "$tmp/copy" "$tmp/data"
stop sshd
