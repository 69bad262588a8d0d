# curl under valgrind, which sees what the library does with memory in another program.
# shellcheck shell=bash disable=SC2154
need valgrind=valgrind curl=curl "$python=python3"
mkdir "$tmp/www"
head -c 300000 /dev/urandom >"$tmp/www/file"
start server "$python" tests/programs/http_server.py 8000 "$tmp/www"
get() { on_net curl --noproxy '*' --fail --silent --show-error --max-time 40 "$@"; }
wait_for server get --output /dev/null http://127.0.0.1:8000/file

on_net valgrind --vgdb=no --quiet --error-exitcode=9 --leak-check=full --log-file="$tmp/valgrind.log" \
  curl --noproxy '*' --fail --silent --show-error --output "$tmp/copy#1" "http://127.0.0.1:8000/file?[1-3]" ||
  fail "curl fails under valgrind"
[[ ! -s $tmp/valgrind.log ]] || fail "valgrind has something to say"
for i in 1 2 3; do same "$tmp/copy$i" "$tmp/www/file"; done
