#!/bin/bash
# Every row of the benchmarks' table yields a number, and what is kept of them are rows. How good the
# numbers are is not for a test.
set -euo pipefail
# shellcheck source=tests/private_network.sh
source tests/private_network.sh

report() { /usr/bin/python3 tests/bench/report.py "$PWD" "$@"; }
fail() { echo "FAILED: $*"; exit 1; }

report --quick --json >"$TEST_TMPDIR/report.json"
