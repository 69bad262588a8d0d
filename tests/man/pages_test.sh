#!/bin/bash
# The manual pages are sound mdoc, and each function and option is in the page of its place.
set -euo pipefail
failures=0
fail() {
  echo "FAILED: $*" >&2
  failures=$((failures + 1))
}
command -v mandoc >/dev/null || {
  echo "FAILED: mandoc is missing; tools/setup.sh installs it" >&2
  exit 1
}

mandoc -T lint -W warning man/*.[1-9] || fail "mandoc -T lint"

# The pages as a reader sees them, without the backspaces of bold and underlined letters.
declare -A text=()
for page in man/*.[1-9]; do
  text[$page]=$(mandoc -T ascii "$page" | sed $'s/.\b//g')
done

# has PAGE WORD: not as a part of another word
has() { grep -E -q -- "(^|[^-_a-z0-9])$2([^-_a-z0-9]|\$)" <<<"${text[$1]}"; }

# Declarations begin a line; what is indented goes on with one, or is a comment.
functions=$(grep -hE '^[a-z][^(]*\(' rumpclient/include/rump/*.h |
  grep -oE '(rumpclient|rump_sys)_[a-z0-9_]+\(' | tr -d '(')
(($(wc -w <<<"$functions") > 50)) || fail "the headers declare only $functions"
for function in $functions; do
  has man/rumpclient.3 "$function" || fail "rumpclient(3) lacks $function"
done

# options COMMAND...: what its help text lists
options() { "$@" | grep -oE '(^|[^-a-z0-9])--?[a-z][-a-z]*' | grep -oE -- '-.*' | sort -u; }

server_options=$(options sp_server/rump_server --help)
(($(wc -w <<<"$server_options") > 5)) || fail "rump_server --help lists only $server_options"
for option in $server_options; do
  has man/rump_server.1 "$option" || fail "rump_server(1) lacks $option"
done

commands=$(tools/rump help | sed -n '/^Commands:/,/^$/s/^  \([a-z]*\) .*/\1/p')
(($(wc -w <<<"$commands") > 4)) || fail "rump help lists only $commands"
for command in $commands; do
  has man/rump.1 "$command" || fail "rump(1) lacks $command"
  for option in $(options tools/rump help "$command") $(options tools/rump help); do
    # Of rump_server's options that page has nothing.
    [[ $command == server ]] || has man/rump.1 "$option" || fail "rump(1) lacks $option of $command"
  done
done

((failures == 0)) && echo "all passed"
exit $((failures > 0))
