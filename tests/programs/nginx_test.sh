# nginx, one worker: sendfile, keep-alive, and a worker that gets the listener from its master.
# shellcheck shell=bash disable=SC2154
need nginx=nginx-light curl=curl
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
worker_processes 1;
events { worker_connections 256; }
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
equal "$(get --write-out '%{num_connects}' --output /dev/null "$web/page" --output /dev/null "$web/file1" \
  --output /dev/null "$web/file2")" 100
get --parallel --parallel-immediate --parallel-max 50 --output "$tmp/copies/file#1" "$web/file[0-49]"
for ((i = 0; i < 50; i++)); do same "$tmp/copies/file$i" "$tmp/www/file$i"; done
equal "$(get "$web/100MB" | sha256sum)" "$(sha256sum <"$tmp/www/100MB")"
stop nginx QUIT
