# curl and wget at python's web server.
# shellcheck shell=bash disable=SC2154
need curl=curl wget=wget "$python=python3"
web=http://127.0.0.1:8000
get() { on_net curl --noproxy '*' --fail --silent --show-error --max-time 40 "$@"; }

mkdir "$tmp/www" "$tmp/copies"
echo "a page" >"$tmp/www/page"
for ((i = 0; i < 50; i++)); do
  head -c 100000 /dev/urandom >"$tmp/www/file$i"
done
start server "$python" tests/programs/http_server.py 8000 "$tmp/www"
wait_for server get "$web/page"

equal "$(get "$web/page")" "a page"
equal "$(get --output /dev/null --write-out '%{http_code}' "$web/none" || true)" 404
equal "$(on_net wget --no-proxy --quiet --tries=1 --output-document=- "$web/page")" "a page"

# Several pages over one connection: only the first is a new one.
equal "$(get --write-out '%{num_connects}' --output /dev/null "$web/page" --output /dev/null "$web/file1" \
  --output /dev/null "$web/file2" --output /dev/null "$web/page")" 1000

# Fifty connections at a time.
get --parallel --parallel-immediate --parallel-max 50 --output "$tmp/copies/file#1" "$web/file[0-49]"
for ((i = 0; i < 50; i++)); do same "$tmp/copies/file$i" "$tmp/www/file$i"; done

# All that the list of files names.
on_net wget --no-proxy --quiet --tries=1 --recursive --no-host-directories --directory-prefix="$tmp/mirror" "$web/"
rm "$tmp/mirror/index.html"
diff --recursive "$tmp/mirror" "$tmp/www" || fail "wget has not mirrored everything"

head -c 100M /dev/urandom >"$tmp/www/100MB"
sum=$(sha256sum <"$tmp/www/100MB")
equal "$(get "$web/100MB" | sha256sum)" "$sum"
equal "$(on_net wget --no-proxy --quiet --tries=1 --output-document=- "$web/100MB" | sha256sum)" "$sum"
