#!/bin/bash
# Runs a behaviour test with its sockets on a rump_server of its own.
set -euo pipefail
# shellcheck source=tests/private_network.sh
source tests/private_network.sh
exec tools/rump run -- "$1"
