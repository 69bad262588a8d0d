# A program that is killed leaves nothing behind: its ports are free at once, its peers see the end,
# and the server forgets it.
# shellcheck shell=bash
need nc=netcat-openbsd curl=curl redis-server=redis-server redis-cli=redis-tools "$python=python3"
web=http://127.0.0.1:8000
get() { on_net curl --noproxy '*' --fail --silent --show-error "$@"; }

killed() {
  kill -KILL "${pids[$1]}"
  wait "${pids[$1]}" 2>/dev/null || true
  unset "pids[$1]"
}

# Ports of all kinds, taken again as soon as the process is gone. Nothing is tried twice.
bind_all() {
  on_net "$python" - "$@" <<'END'
import socket, sys
for kind in socket.SOCK_STREAM, socket.SOCK_DGRAM:
    for port in 7001, 7002, 7003:
        s = socket.socket(socket.AF_INET, kind)
        s.bind(("127.0.0.1", port))
        if kind == socket.SOCK_STREAM:
            s.listen()
        globals()[kind, port] = s
if "stay" in sys.argv:
    print("bound", flush=True)
    sys.stdin.buffer.raw.read()
    input()
END
}
