"""lost_server.py AFTER...: makes sockets of each kind, and waits for a line on its standard input, by
which time the server is lost. Then every call on them has to fail, and each AFTER is done:

    down      a new socket cannot be made
    up        one can, and works; still the old ones do not
    wait      waits for another line
"""
import errno
import select
import socket
import sys

LOOPBACK = ("127.0.0.1", 0)


def outcome(call, *arguments):
    try:
        return call(*arguments)
    except OSError as error:
        return errno.errorcode[error.errno]


def expect(what, actual, *allowed):
    if actual not in allowed:
        sys.exit(f"{what}: {actual!r} instead of {' or '.join(map(repr, allowed))}")


class Sockets:
    def __init__(self):
        self.listener = socket.create_server(LOOPBACK)
        self.client = socket.create_connection(self.listener.getsockname())
        self.server, _ = self.listener.accept()
        self.server.sendall(b"x" * 10)
        self.client.recv(3)
        self.datagram = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.datagram.bind(LOOPBACK)
        self.filled = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.filled.bind(LOOPBACK)
        self.datagram.sendto(b"data", self.filled.getsockname())
        select.select([self.filled], [], [])
        self.fresh = socket.socket()

    def expect_dead(self):
        everything = (self.listener, self.client, self.server, self.datagram, self.filled, self.fresh)
        for s in everything:
            s.setblocking(True)
            expect("getsockname", outcome(s.getsockname), "ENOTCONN")
            expect("getpeername", outcome(s.getpeername), "ENOTCONN")
            expect("getsockopt", outcome(s.getsockopt, socket.SOL_SOCKET, socket.SO_ERROR), "ENOTCONN")
            expect("bind", outcome(s.bind, LOOPBACK), "ENOTCONN")
            expect("poll", select.select([s], [], [], 0)[0], [s])
        expect("accept", outcome(self.listener.accept), "ENOTCONN")
        expect("recv", outcome(self.datagram.recv, 10), "ENOTCONN")
        for s in self.datagram, self.filled:
            expect("peek", outcome(s.recv, 10, socket.MSG_PEEK), "ENOTCONN")
            expect("recvmsg", outcome(s.recvmsg, 10), "ENOTCONN")
            expect("sendto", outcome(s.sendto, b"x", ("127.0.0.1", 9)), "ENOTCONN")
        expect("recv of a fresh socket", outcome(self.fresh.recv, 1), "ENOTCONN")
        expect("send of a fresh socket", outcome(self.fresh.send, b"x"), "EPIPE")
        expect("connect", outcome(self.fresh.connect, ("127.0.0.1", 9)), "ENOTCONN")
        # What has arrived may be read before the end.
        expect("recv of a stream", outcome(self.server.recv, 10), b"", "ECONNRESET")
        for s in self.client, self.server:
            while outcome(s.recv, 10) not in (b"", "ECONNRESET"):
                pass
            expect("send of a stream", outcome(s.send, b"x"), "EPIPE", "ECONNRESET")


def wait():
    expect("the line", sys.stdin.readline(), "\n")


def down(_):
    for _ in range(2):
        expect("a new socket", outcome(socket.socket), "ENETDOWN")
    print("down", flush=True)


def up(sockets):
    Sockets()
    sockets.expect_dead()


AFTER = {"down": down, "up": up, "wait": lambda _: wait()}


def main():
    sockets = Sockets()
    print("ready", flush=True)
    wait()
    sockets.expect_dead()
    for after in sys.argv[1:]:
        AFTER[after](sockets)
    print("done", flush=True)


main()
