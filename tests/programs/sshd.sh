# shellcheck shell=bash disable=SC2154
# Sourced by tests that need an sshd: starts one as `sshd`, for `remote server COMMAND`, or for another
# program that runs `ssh -F $tmp/ssh_config server`. Its sandbox, its user and its keys are real, its
# shells are the host's, without root's own start-up files.
need sshd=openssh-server ssh=openssh-client
setpriv --reuid sshd --regid nogroup --clear-groups true ||
  fail "sshd cannot become its own user: the test needs root, outside of Bazel's sandbox"

ssh-keygen -q -t ed25519 -N '' -f "$tmp/host_key"
ssh-keygen -q -t ed25519 -N '' -f "$tmp/key"
echo "[127.0.0.1]:2222 $(<"$tmp/host_key.pub")" >"$tmp/known_hosts"
cat >"$tmp/sshd_config" <<END
ListenAddress 127.0.0.1:2222
HostKey $tmp/host_key
AuthorizedKeysFile $tmp/key.pub
StrictModes no
PermitRootLogin prohibit-password
PasswordAuthentication no
UsePAM no
PidFile none
PrintMotd no
PrintLastLog no
MaxStartups 100
SetEnv HOME=$tmp
Subsystem sftp /usr/lib/openssh/sftp-server
END
cat >"$tmp/ssh_config" <<END
Host server
  HostName 127.0.0.1
  Port 2222
  User root
  IdentityFile $tmp/key
  IdentitiesOnly yes
  UserKnownHostsFile $tmp/known_hosts
  BatchMode yes
END
remote() { on_net ssh -F "$tmp/ssh_config" "$@"; }

# The package leaves /run/sshd to systemd, and logins are none of the machine's business.
# shellcheck disable=SC2016
start sshd unshare --mount sh -c '
  mount -t tmpfs tmpfs /run && mkdir /run/sshd &&
  mount -t tmpfs tmpfs /var/log && touch /var/log/lastlog && exec "$@"' \
  sh "$(command -v sshd)" -D -e -f "$tmp/sshd_config" </dev/null
wait_for sshd remote server true
