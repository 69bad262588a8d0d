#!/bin/bash
# Runs a behaviour test on the host kernel.
set -euo pipefail
# shellcheck source=tests/private_network.sh
source tests/private_network.sh
exec "$1"
