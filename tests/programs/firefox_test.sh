# Firefox, which has processes of its own for its network and its sandboxes, shows a page.
# shellcheck shell=bash disable=SC2154
need firefox-esr=firefox-esr curl=curl "$python=python3"

mkdir -p "$tmp/www" "$tmp/home/profile"
# What is seen is made of three answers.
cat >"$tmp/www/index.html" <<'END'
<!DOCTYPE html>
<link rel="stylesheet" href="style.css">
<img src="picture.png">
END
cat >"$tmp/www/style.css" <<'END'
body { margin: 0; background: #1e90ff; }
img { display: block; width: 100px; height: 50px; }
END
"$python" tests/programs/png.py make "$tmp/www/picture.png" 4 2 32cd32

start server "$python" tests/programs/http_server.py 8000 "$tmp/www"
wait_for server on_net curl --noproxy '*' --fail --silent http://127.0.0.1:8000/
HOME=$tmp/home on_net timeout 120 firefox-esr --headless --no-remote --profile "$tmp/home/profile" \
  --window-size 300,200 --screenshot "$tmp/shot.png" http://127.0.0.1:8000/ >"$tmp/firefox.log" 2>&1 ||
  fail "firefox has failed"
equal "$("$python" tests/programs/png.py show "$tmp/shot.png" 0,0 99,49 100,0 0,50 299,199)" \
  $'32cd32\n32cd32\n1e90ff\n1e90ff\n1e90ff'
