# CPython's own tests of what is built on sockets. Natively all pass; hijacked only those may fail that
# cpython_known.txt names, each with the reason, and they are at most 3 %.
# shellcheck shell=bash disable=SC2154
need "$python=python3"
[[ -e /usr/lib/python3.11/test/test_socket.py ]] || fail "Debian packages are missing: libpython3.11-testsuite"

modules=(test_asyncio test_socket test_ssl test_httplib test_socketserver test_selectors test_select
  test_epoll test_poll)
count=$(on_net "$python" tests/programs/cpython_suite.py "$tmp/failed" "${modules[@]}" 2>"$tmp/cpython.log")
[[ $mode == native ]] || sed '/^#/d; s/ .*//' tests/programs/cpython_known.txt >"$tmp/known"
touch "$tmp/known"
grep --invert-match --line-regexp --fixed-strings --file="$tmp/known" "$tmp/failed" >"$tmp/unexpected" || true
[[ ! -s $tmp/unexpected ]] || fail "of $count tests these fail: $(<"$tmp/unexpected")"
known=$(wc -l <"$tmp/known")
((count > 3000)) || fail "only $count tests have run"
((known * 100 <= count * 3)) || fail "$known of $count tests are known to fail, which is more than 3 %"
