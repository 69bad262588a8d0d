"""Run by an inetd: says whom it talks to, then what it hears, in upper case, to the end."""
import socket
import sys

with socket.socket(fileno=0) as connection:
    host, _ = connection.getpeername()
    kind = connection.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE)
    print(host, connection.family.name, socket.SocketKind(kind).name, flush=True)
    for line in sys.stdin:
        print(line.upper(), end="", flush=True)
