#!/bin/bash
# Builds everything optimised, runs the benchmarks and prints one table.
# Usage: tests/bench/run.sh [--rounds=N] [--only=TEXT] [--json] [--check] [--update] [--quick]
set -euo pipefail
cd "$(dirname "$0")/../.."

bazel build -c opt --ui_event_filters=-info --noshow_progress //tests/bench:programs >&2
exec /usr/bin/python3 tests/bench/report.py "$(bazel info -c opt bazel-bin 2>/dev/null)" "$@"
