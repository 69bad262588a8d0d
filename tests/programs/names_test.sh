# Names, asked of a name server on the network by libc, by python, by dig and by curl. Hijacked, the
# server's option --nameserver says where it is.
# shellcheck shell=bash disable=SC2154
need dig=bind9-dnsutils curl=curl "$python=python3"

# Natively a file says so, in place of the host's.
if [[ $mode == native ]]; then
  echo 'nameserver 127.0.0.53' >"$tmp/resolv.conf"
  # shellcheck disable=SC2016,SC2034
  net=(unshare --mount bash -c 'mount --bind "$0" /etc/resolv.conf && exec "$@"' "$tmp/resolv.conf")
fi

addresses() { on_net getent "$1" "$2" | awk '{ print $1 }' | sort -u | xargs; }
ask() { on_net dig +short +tries=1 "$@"; }

start dns "$python" -u tests/programs/dns_server.py 127.0.0.53 53 both.test=192.0.2.1 \
  both.test=192.0.2.2 both.test=2001:db8::1 six.test=2001:db8::6 web.test=127.0.0.1
wait_for dns grep -q ready "$tmp/dns.log"

equal "$(addresses ahosts both.test)" '192.0.2.1 192.0.2.2 2001:db8::1'
equal "$(addresses hosts six.test)" 2001:db8::6
[[ -z $(addresses ahosts none.test) ]] || fail "a name that there is not has addresses"
# An answer that is too long for a datagram is asked for again, over TCP.
equal "$(addresses ahosts long.both.test)" '192.0.2.1 192.0.2.2 2001:db8::1'

equal "$(on_net "$python" -c '
import socket
print(sorted({a[4][0] for a in socket.getaddrinfo("both.test", 80)}),
      socket.gethostbyname("web.test"))')" "['192.0.2.1', '192.0.2.2', '2001:db8::1'] 127.0.0.1"

equal "$(ask both.test A | sort | xargs)" '192.0.2.1 192.0.2.2'
equal "$(ask both.test AAAA)" 2001:db8::1
equal "$(ask long.both.test AAAA)" 2001:db8::1
equal "$(ask +tcp six.test AAAA)" 2001:db8::6

mkdir "$tmp/www"
echo "a page" >"$tmp/www/page"
start web "$python" tests/programs/http_server.py 8000 "$tmp/www"
page() { on_net curl --noproxy '*' --fail --silent --show-error --max-time 20 http://web.test:8000/page; }
wait_for web page
equal "$(page)" "a page"

# Only that file is another, and only to be read.
if [[ $mode == hijacked ]]; then
  equal "$(on_net cat /etc/resolv.conf)" 'nameserver 127.0.0.53'
  ln -s /etc/resolv.conf "$tmp/link"
  # The host may have none.
  equal "$(on_net cat "$tmp/link" 2>&1)" "$(cat "$tmp/link" 2>&1)"
fi
