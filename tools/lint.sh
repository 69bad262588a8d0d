#!/bin/bash
# Checks formatting, scripts and C++ for common mistakes.
# Usage: tools/lint.sh [--fix]     --fix writes what clang-format and clang-tidy propose
set -euo pipefail
cd "$(dirname "$0")/.."

fix=
case "${1:-}" in
  '') ;;
  --fix) fix=1 ;;
  *) echo "Usage: tools/lint.sh [--fix]" >&2; exit 2 ;;
esac

tools/setup.sh
mapfile -t cxx < <(git ls-files '*.cc' '*.h')
mapfile -t scripts < <(git ls-files '*.sh' .ci/run)
failed=()

echo "== clang-format: ${#cxx[@]} files"
if [[ $fix ]]; then
  clang-format-14 -i "${cxx[@]}"
else
  clang-format-14 --dry-run -Werror "${cxx[@]}" || failed+=(clang-format)
fi

echo "== shellcheck: ${#scripts[@]} scripts"
shellcheck "${scripts[@]}" || failed+=(shellcheck)

# Whatever Bazel compiles, in the way Bazel compiles it. --keep_going: clang-tidy has the better
# words for what does not compile.
echo "== clang-tidy"
bazel build --noshow_progress --keep_going //... || failed+=(build)
tools/gen_compile_commands.py
tools/clang_tidy.py ${fix:+--fix} || failed+=(clang-tidy)

if ((${#failed[@]})); then
  echo "tools/lint.sh: failed: ${failed[*]}" >&2
  exit 1
fi
echo "tools/lint.sh: clean"
