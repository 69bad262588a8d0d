# What programs see when their server is lost, and how RUMPHIJACK_RETRYCONNECT gets them another.
# shellcheck shell=bash disable=SC2034,SC2154
need nginx=nginx-light curl=curl "$python=python3"
mortal=unix://$tmp/mortal
net=("$rump" run --server "$mortal" --)
says() { grep -q -- "$2" "$tmp/$1.log"; }
lines_of() { wc -l <"$tmp/$1.log"; }

serve() {
  # One that was killed has left its socket.
  rm -f "$tmp/mortal"
  # Direct pairs outlive their server.
  "$rump" server -s --no-direct "$mortal" >"$tmp/mortal.log" 2>&1 &
  pids["mortal"]=$!
  wait_for mortal "$rump" ps --server "$mortal"
}

mkfifo "$tmp/lines"
exec {lines}<>"$tmp/lines"
next_line() { echo >&"$lines"; }
# lose RETRY AFTER...: lost_server.py under that policy, its server lost.
lose() {
  # What the one before has said.
  rm -f "$tmp/program.log"
  serve
  start program env RUMPHIJACK_RETRYCONNECT="$1" "$python" tests/programs/lost_server.py "${@:2}" \
    <&"$lines"
  wait_for program says program ready
  stop mortal KILL
  next_line
}
expect_done() {
  finish program
  says program "done" || fail "lost_server.py has not done all"
}

lose "" down wait down
wait_for program says program down
says program RUMPHIJACK_RETRYCONNECT=once || fail "the line does not say what to do"
serve
next_line
expect_done
equal "$(grep -c rumphijack: "$tmp/program.log")" 1
stop mortal

lose once down wait up
wait_for program says program down
says program "connection refused" || fail "the line does not say what is wrong"
serve
next_line
expect_done
stop mortal

lose 1 down
expect_done
says program "reconnecting" || fail "no line about reconnecting"

for retry in 600 inftime; do
  lose $retry up
  wait_for program says program reconnecting
  serve
  expect_done
  says program "connected again" || fail "no line about being connected again"
  stop mortal

  lose $retry up
  wait_for program says program reconnecting
  stop program
done

lose die up
finish program 1
says program "is lost: exiting" || fail "no line about the end"

# Servers meet the loss where they wait, and go on asking for connections: seldom.
mkdir "$tmp/www"
cat >"$tmp/nginx.conf" <<END
daemon off;
user root;
pid $tmp/nginx.pid;
error_log stderr;
worker_processes 2;
events { worker_connections 64; }
http {
  access_log off;
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
web_servers=(
  "nginx -c $tmp/nginx.conf -e stderr"
  "$python -m http.server --bind 127.0.0.1 8000 --directory $tmp/www"
)
get() { on_net curl --noproxy '*' --silent --show-error "http://127.0.0.1:8000/" -o /dev/null; }
for web_server in "${web_servers[@]}"; do
  serve
  # shellcheck disable=SC2086
  start web_server $web_server
  wait_for web_server get
  stop mortal KILL
  sleep 2
  # Two workers of nginx that try ten times a second write 40 lines.
  (($(lines_of web_server) < 200)) || fail "$web_server writes $(lines_of web_server) lines"
  read -ra usage <"/proc/${pids[web_server]}/stat"
  ((usage[13] + usage[14] < 100)) || fail "$web_server is busy without its server"
  stop web_server

  serve
  # shellcheck disable=SC2086
  start web_server env RUMPHIJACK_RETRYCONNECT=die $web_server
  wait_for web_server get
  stop mortal KILL
  wait_while $$ gone "${pids[web_server]}" || fail "$web_server survives its server"
  wait "${pids[web_server]}" || true
  unset "pids[web_server]"
done
