"""What a killed process held can be bound by the next call: rebind.py ROUNDS."""
import os
import signal
import socket
import sys

PORTS = range(7101, 7111)


def bind_all():
    held = []
    for port in PORTS:
        listener = socket.create_server(("127.0.0.1", port))
        datagrams = socket.socket(type=socket.SOCK_DGRAM)
        datagrams.bind(("127.0.0.1", port))
        held += [listener, datagrams]
    return held


for _ in range(int(sys.argv[1])):
    bound, tell = os.pipe()
    child = os.fork()
    if child == 0:
        held = bind_all()
        os.write(tell, b"!")
        signal.pause()
    os.close(tell)
    assert os.read(bound, 1) == b"!", "the child could not bind"
    os.close(bound)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    for held in bind_all():
        held.close()
