#!/bin/bash
# Sets up, builds everything and runs the tests.
# Usage: tools/test.sh [--config=asan|ubsan|tsan] [TARGET...]     default: //...
set -euo pipefail
cd "$(dirname "$0")/.."

flags=()
targets=()
for word in "$@"; do
  case "$word" in
    -h | --help) sed -n '2,3s/^# //p' tools/test.sh; exit ;;
    --*) flags+=("$word") ;;
    *) targets+=("$word") ;;
  esac
done
((${#targets[@]})) || targets=(//...)

echo "== Set-up"
tools/setup.sh
echo "== bazel test ${flags[*]} ${targets[*]}"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
status=0
bazel test --keep_going --curses=no --show_progress_rate_limit=10 \
  "${flags[@]}" "${targets[@]}" 2>&1 </dev/null | tee "$log" || status=${PIPESTATUS[0]}

# Bazel's summary has one line for each test: its label, its outcome, its time.
read -r passed failed < <(awk '
  /^\/\/[^ ]+ +(\(cached\) )?(PASSED|FLAKY)/ { passed++ }
  /^\/\/[^ ]+ +(\(cached\) )?(FAILED|TIMEOUT|INCOMPLETE|REMOTE FAILURE|NO STATUS)/ { failed++ }
  END { print passed + 0, failed + 0 }' "$log")
if ((status != 0 && failed == 0)); then
  echo "tools/test.sh: bazel failed with status $status; its messages are above" >&2
fi
echo
echo "$passed passed, $failed failed"
exit "$status"
