# rsync over ssh: a tree there, again with changes, and back.
# shellcheck shell=bash disable=SC2154
need rsync=rsync
# shellcheck source=tests/programs/sshd.sh
source tests/programs/sshd.sh

copy() { on_net rsync -e "ssh -F $tmp/ssh_config" --archive --delete --stats "$@"; }
same_trees() { diff -r "$1" "$2" || fail "$1 and $2 differ"; }

mkdir -p "$tmp/tree/empty" "$tmp/tree/many"
for i in {1..300}; do echo "file $i" >"$tmp/tree/many/$i"; done
head -c 20M /dev/urandom >"$tmp/tree/large"
ln -s many/1 "$tmp/tree/link"

copy "$tmp/tree/" "server:$tmp/there/" >"$tmp/first.log"
same_trees "$tmp/tree" "$tmp/there"

# Only what has changed is sent.
printf changed | dd of="$tmp/tree/large" bs=1 seek=10M conv=notrunc status=none
# Of the same size, in the same second it would pass for the old one.
touch -d "1 hour ago" "$tmp/tree/large"
rm "$tmp/tree/many/7"
copy "$tmp/tree/" "server:$tmp/there/" >"$tmp/second.log"
same_trees "$tmp/tree" "$tmp/there"
grep -q 'Number of regular files transferred: 1$' "$tmp/second.log" || fail "more than one file is sent"

copy "server:$tmp/there/" "$tmp/back/" >"$tmp/third.log"
same_trees "$tmp/tree" "$tmp/back"
stop sshd
