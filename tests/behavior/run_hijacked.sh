#!/bin/bash
# run_hijacked.sh TEST ENTRY [OPTION]: runs a behaviour test with its sockets on a rump_server of its
# own, which has the option of `rump run`.
set -euo pipefail
# shellcheck source=tests/private_network.sh
source tests/private_network.sh
RUMPHIJACK_ENTRY=$2 exec tools/rump run "${@:3}" -- "$1"
