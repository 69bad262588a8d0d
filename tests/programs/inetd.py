"""inetd.py PORT PROGRAM ARG...: runs the program for each connection, which is its standard input,
output and error, as inetd(8) does; nothing else is open."""
import os
import signal
import socket
import sys

signal.signal(signal.SIGCHLD, signal.SIG_IGN)
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=64)
while True:
    connection, _ = listener.accept()
    if os.fork() == 0:
        for number in range(3):
            os.dup2(connection.fileno(), number)
        os.closerange(3, 65536)
        os.execvp(sys.argv[2], sys.argv[2:])
    connection.close()
