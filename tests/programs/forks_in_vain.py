"""forks_in_vain.py PID: forks while the server, process PID, is stopped, and uses its sockets in parent
and child when it goes on.
"""
import os
import signal
import socket
import sys
import time

server = int(sys.argv[1])
listener = socket.create_server(("127.0.0.1", 0))
name = listener.getsockname()
os.kill(server, signal.SIGSTOP)
begin = time.monotonic()
child = os.fork()
took = time.monotonic() - begin
if child != 0:
    os.kill(server, signal.SIGCONT)
    assert os.waitpid(child, 0)[1] == 0
    assert 5 < took < 30, took
else:
    # The parent may still be in its fork.
    while open(f"/proc/{server}/stat").read().split()[2] == "T":
        time.sleep(0.01)
assert listener.getsockname() == name
