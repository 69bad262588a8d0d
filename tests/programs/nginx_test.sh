# nginx, two workers that share a listener, with edge-triggered epoll: sendfile, keep-alive, and new
# workers under load.
# shellcheck shell=bash disable=SC2154
need nginx=nginx-light curl=curl wget=wget
web=http://127.0.0.1:8000
get() { on_net curl --noproxy '*' --fail --silent --show-error --max-time 40 "$@"; }

mkdir "$tmp/www" "$tmp/copies"
echo "a page" >"$tmp/www/page"
for ((i = 0; i < 50; i++)); do
  head -c 100000 /dev/urandom >"$tmp/www/file$i"
done
head -c 100M /dev/urandom >"$tmp/www/100MB"
cat >"$tmp/nginx.conf" <<END
daemon off;
user root;
pid $tmp/nginx.pid;
error_log stderr;
worker_processes 2;
events { worker_connections 256; use epoll; }
http {
  access_log off;
  sendfile on;
  tcp_nopush on;
  client_body_temp_path $tmp/body;
  proxy_temp_path $tmp/proxy;
  fastcgi_temp_path $tmp/fastcgi;
  uwsgi_temp_path $tmp/uwsgi;
  scgi_temp_path $tmp/scgi;
  server {
    listen 127.0.0.1:8000;
    root $tmp/www;
  }
}
END
start nginx nginx -c "$tmp/nginx.conf" -e stderr
wait_for nginx get "$web/page"
equal "$(get "$web/page")" "a page"
# What wget has not got at the first try.
head -c 40M "$tmp/www/100MB" >"$tmp/copies/100MB"
on_net wget --no-proxy --quiet --tries=1 --continue --directory-prefix="$tmp/copies" "$web/100MB"
same "$tmp/copies/100MB" "$tmp/www/100MB"

equal "$(get --write-out '%{num_connects}' --output /dev/null "$web/page" --output /dev/null "$web/file1" \
  --output /dev/null "$web/file2")" 100
get --parallel --parallel-immediate --parallel-max 50 --output "$tmp/copies/file#1" "$web/file[0-49]"
for ((i = 0; i < 50; i++)); do same "$tmp/copies/file$i" "$tmp/www/file$i"; done
equal "$(get "$web/100MB" | sha256sum)" "$(sha256sum <"$tmp/www/100MB")"

# New workers take over while the old ones finish, and no request fails: one connection for each.
workers() { pgrep --parent "$(<"$tmp/nginx.pid")"; }
load() {
  get --header 'Connection: close' --parallel --parallel-max 8 --output /dev/null "$web/file[0-49]?[1-8]"
}
replaced() { ! workers | grep -qxF "$1"; }
equal "$(workers | wc -l)" 2
for round in 1 2 3; do
  old=$(workers)
  load >"$tmp/load$round.log" 2>&1 &
  # shellcheck disable=SC2034
  pids[load]=$!
  kill -HUP "$(<"$tmp/nginx.pid")"
  wait_for nginx replaced "$old"
  finish load
done
equal "$(workers | wc -l)" 2
equal "$(get "$web/page")" "a page"
stop nginx QUIT
