#!/bin/bash
# run_hijacked.sh TEST ENTRY: runs a behaviour test with its sockets on a rump_server of its own.
set -euo pipefail
# shellcheck source=tests/private_network.sh
source tests/private_network.sh
RUMPHIJACK_ENTRY=$2 exec tools/rump run -- "$1"
