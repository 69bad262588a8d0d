"""processes.py fork|_Fork: makes a socket, and a child by libc's function of that name. Prints "ready"
when the child has used the socket; both live on until a byte comes.
"""
import ctypes
import os
import socket
import sys

libc = ctypes.CDLL(None)
listener = socket.create_server(("127.0.0.1", 0))
used = os.pipe()
if getattr(libc, sys.argv[1])() == 0:
    listener.getsockname()
    os.write(used[1], b"x")
else:
    os.read(used[0], 1)
    print("ready", flush=True)
os.read(0, 1)
os._exit(0)
