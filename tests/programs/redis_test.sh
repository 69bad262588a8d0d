# redis: its server, command line and benchmark.
# shellcheck shell=bash disable=SC2154
need redis-server=redis-server redis-cli=redis-tools redis-benchmark=redis-tools
cli() { on_net redis-cli -h 127.0.0.1 -p 7001 "$@"; }

start redis redis-server --bind 127.0.0.1 --port 7001 --save '' --appendonly no --dir "$tmp"
wait_for redis cli ping

equal "$(cli set key value)" OK
equal "$(cli get key)" value
equal "$(cli incrby counter 41)" 41
equal "$(cli incr counter)" 42
head -c 1M /dev/urandom | base64 --wrap=0 >"$tmp/large"
equal "$(cli -x set large <"$tmp/large")" OK
equal "$(cli get large | sha256sum)" "$( (cat "$tmp/large" && echo) | sha256sum)"

# A thousand commands through one connection.
for ((i = 0; i < 1000; i++)); do echo "lpush list $i"; done | cli >/dev/null
equal "$(cli llen list)" 1000

# What is published arrives at who waits for it.
start subscriber redis-cli -h 127.0.0.1 -p 7001 subscribe news
published() { [[ $(cli publish news headline) == 1 ]]; }
wait_for subscriber published
arrived() { grep -q headline "$tmp/subscriber.log"; }
wait_for subscriber arrived
stop subscriber

on_net redis-benchmark -h 127.0.0.1 -p 7001 -q -n 2000 -c 50 -t set,get --csv >"$tmp/benchmark.log" 2>&1
equal "$(grep -c -E '^"(SET|GET)",' "$tmp/benchmark.log")" 2
on_net redis-benchmark -h 127.0.0.1 -p 7001 -q -n 5000 -c 10 -P 16 -t incr >"$tmp/pipeline.log" 2>&1
# Each connection sends whole pipelines: a few more than asked for.
(($(cli get counter:__rand_int__) >= 5000)) || fail "pipelined commands were lost"

cli shutdown nosave
finish redis
