# shellcheck shell=bash
# Sourced first by a test script: gives it, and all that it starts, a loopback of its own, so that
# ports are free and nobody else's traffic is seen. Not left to Bazel's sandbox, which cannot do it
# everywhere (not in a chroot).
if [[ -z ${RUMP_PRIVATE_NETWORK:-} ]]; then
  export RUMP_PRIVATE_NETWORK=1
  private=(unshare --net)
  # Root may have a new network as it is, anybody else one in a new user namespace.
  "${private[@]}" true 2>/dev/null || private+=(--map-root-user)
  # shellcheck disable=SC2016
  exec "${private[@]}" bash -c 'PATH=$PATH:/sbin:/usr/sbin ip link set lo up && exec bash "$0" "$@"' \
    "$0" "$@"
fi
