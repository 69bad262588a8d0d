#!/bin/bash
# Builds every fuzz target of //tests/fuzz and runs each for some seconds (10 if not told), starting
# from its corpus. Fails if any did, and keeps the log and the input of each that did.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${1:-10}
if [[ ! $seconds =~ ^[1-9][0-9]*$ ]]; then
  echo "usage: tools/fuzz.sh [seconds]" >&2
  exit 2
fi

mapfile -t targets < <(bazel query 'kind(cc_binary, //tests/fuzz/...)')
if ((${#targets[@]} == 0)); then
  echo "tools/fuzz.sh: no fuzz targets found" >&2
  exit 1
fi
bazel build --config=fuzz "${targets[@]}"
bin=$(bazel info --config=fuzz bazel-bin)

export UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
failed=0
for target in "${targets[@]}"; do
  name=${target##*:}
  dir=$(mktemp -d)
  mkdir "$dir/found"
  if "$bin/tests/fuzz/$name" -max_total_time="$seconds" -print_final_stats=1 \
    -artifact_prefix="$dir/" "$dir/found" "tests/fuzz/corpus/$name" >"$dir/log" 2>&1; then
    echo "ok: $target, $(sed -n 's/^stat::number_of_executed_units: *//p' "$dir/log") inputs"
    rm -rf "$dir"
  else
    failed=1
    tail -n 40 "$dir/log" >&2
    echo "FAILED: $target, see $dir" >&2
  fi
done
exit "$failed"
