# git: clone by http from a server of plain files; clone, fetch and push by http and by git daemon from
# programs that have the socket as their standard streams, one for each connection.
# shellcheck shell=bash disable=SC2154
need git=git "$python=python3"
export GIT_CONFIG_NOSYSTEM=1 HOME=$tmp no_proxy='*' GIT_TERMINAL_PROMPT=0
git config --global user.name tester
git config --global user.email tester@example
git config --global init.defaultBranch main

# commit FOLDER FILE: one more commit, of some random bytes.
commit() {
  head -c 200000 /dev/urandom >"$1/$2"
  git -C "$1" add "$2"
  git -C "$1" commit --quiet --message "$2"
}
head_of() { git -C "$1" rev-parse main; }
# whole CLONE: has all that the served repository has, in order.
whole() {
  equal "$(head_of "$1")" "$(head_of "$repository")"
  git -C "$1" fsck --full --strict >"$tmp/fsck.log" 2>&1 || fail "$1 is damaged"
}

mkdir "$tmp/served"
readonly repository=$tmp/served/repository.git
git init --quiet "$tmp/work"
for i in 1 2 3 4 5; do commit "$tmp/work" "file$i"; done
git clone --quiet --bare "$tmp/work" "$repository"
git -C "$repository" update-server-info

start http "$python" tests/programs/http_server.py 8000 "$tmp/served"
clone() { on_net git clone --quiet "$1" "$2" || { rm -rf "$2" && false; }; }
wait_for http clone http://127.0.0.1:8000/repository.git "$tmp/by_http"
whole "$tmp/by_http"
! clone http://127.0.0.1:8000/none.git "$tmp/none" 2>"$tmp/none.log" || fail "clones what is not there"

mkdir "$tmp/cgi-bin"
ln -s "$(git --exec-path)/git-http-backend" "$tmp/cgi-bin/git"
git -C "$repository" config http.receivepack true
GIT_PROJECT_ROOT=$tmp/served GIT_HTTP_EXPORT_ALL=1 \
  start cgi "$python" tests/programs/cgi_server.py 8001 "$tmp"
wait_for cgi clone http://127.0.0.1:8001/cgi-bin/git/repository.git "$tmp/by_cgi"
whole "$tmp/by_cgi"
commit "$tmp/by_cgi" pushed_by_http
on_net git -C "$tmp/by_cgi" push --quiet
whole "$tmp/by_cgi"

start daemon git daemon --listen=127.0.0.1 --port=9418 --base-path="$tmp/served" --export-all \
  --enable=receive-pack --reuseaddr --log-destination=stderr
wait_for daemon clone git://127.0.0.1/repository.git "$tmp/by_git"
whole "$tmp/by_git"
commit "$tmp/by_git" file6
on_net git -C "$tmp/by_git" push --quiet
whole "$tmp/by_git"

# Several at a time.
for i in 1 2 3 4; do start "clone$i" git clone --quiet git://127.0.0.1/repository.git "$tmp/clone$i"; done
for i in 1 2 3 4; do
  finish "clone$i"
  whole "$tmp/clone$i"
done
git -C "$tmp/work" remote add by_git git://127.0.0.1/repository.git
on_net git -C "$tmp/work" fetch --quiet by_git
equal "$(git -C "$tmp/work" rev-parse by_git/main)" "$(head_of "$repository")"
