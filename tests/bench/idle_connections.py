"""Many connections that nothing happens on.

  idle_connections.py accept COUNT         prints its port
  idle_connections.py connect PORT COUNT   prints a word

Both wait for a line, make all connections and print a word, wait for another line, and send a byte
on each connection (connect) or receive it (accept).
"""

import resource
import socket
import sys

ADDRESS = "127.0.0.1"


def say(word):
    print(word, flush=True)


def main():
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    role, *port, count = sys.argv[1:]
    # One that the memory of the first connection ever is not counted to the others.
    if role == "accept":
        listener = socket.create_server((ADDRESS, 0), backlog=1024)
        say(listener.getsockname()[1])
        first, _ = listener.accept()
        sys.stdin.readline()
        connections = [listener.accept()[0] for _ in range(int(count))]
    else:
        address = (ADDRESS, int(port[0]))
        first = socket.create_connection(address)
        say("connected")
        sys.stdin.readline()
        connections = [socket.create_connection(address) for _ in range(int(count))]
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
