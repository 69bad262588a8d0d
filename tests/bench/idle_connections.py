"""Many connections that nothing happens on.

  idle_connections.py accept COUNT               prints its port
  idle_connections.py connect PORT COUNT STACK   prints a word

All connections go from the second program to the first, STACK of them through a server's stack even
if the others are direct pairs. Both programs wait for a line, make the connections and print a word,
wait for another line, and send a byte on each connection (connect) or receive it (accept).
"""

import resource
import socket
import sys

ADDRESS = "127.0.0.1"
# rump_server's own: whether a connection may be a direct pair.
TCP_DIRECT = 0x7270


def say(word):
    print(word, flush=True)


def connect(address, direct):
    connection = socket.socket()
    if not direct:
        connection.setsockopt(socket.IPPROTO_TCP, TCP_DIRECT, 0)
    connection.connect(address)
    return connection


def main():
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    role, *numbers = sys.argv[1:]
    # The first connection ever takes more memory than the others: it is there before.
    if role == "accept":
        count = int(numbers[0])
        listener = socket.create_server((ADDRESS, 0), backlog=1024)
        say(listener.getsockname()[1])
        first, _ = listener.accept()
        sys.stdin.readline()
        connections = [listener.accept()[0] for _ in range(count)]
    else:
        port, count, through_stack = map(int, numbers)
        address = (ADDRESS, port)
        first = connect(address, direct=True)
        say("connected")
        sys.stdin.readline()
        connections = [connect(address, i >= through_stack) for i in range(count)]
    say("all")
    sys.stdin.readline()
    for connection in connections:
        connection.settimeout(60)
        if role == "connect":
            connection.sendall(b"x")
        elif connection.recv(1) != b"x":
            sys.exit(1)
    if role == "connect":
        # Until the other program has received them.
        first.recv(1)


main()
