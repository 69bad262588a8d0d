"""exec.py HOW ENVIRONMENT: makes a listener, prints "ready" and waits for a byte. Then it becomes, or
starts, by HOW a program that prints "is hijacked" if the library is in it and the listener, which it
inherits, works; it ends after a byte, too. Its environment is kept, empty or moved: that is kept, but
the directory is another.
"""
import os
import socket
import subprocess
import sys

PROGRAM = """
import os, socket
listener = socket.socket(fileno=int(os.sys.argv[1]))
listener.listen()
client = socket.create_connection(listener.getsockname())
listener.accept()[0].sendall(b"hijacked")
print("is", client.recv(8).decode(), flush=True)
assert not [name for name in os.environ if "__" in name]
os.read(0, 1)
"""

listener = socket.create_server(("127.0.0.1", 0))
listener.set_inheritable(True)
fd = str(listener.fileno())
python = "/usr/bin/python3"
arguments = ["renamed", "-c", PROGRAM, fd]
how, environment = sys.argv[1:]
if environment == "empty":
    environment = {}
else:
    if environment == "moved":
        os.chdir("/")
    environment = dict(os.environ)


def fork_and_exec():
    if os.fork() == 0:
        os.execve(python, arguments, environment)
    os.wait()


WAYS = {
    "execve": lambda: os.execve(python, arguments, environment),
    "fexecve": lambda: os.execve(os.open(python, os.O_RDONLY), arguments, environment),
    "fork": fork_and_exec,
    "posix_spawn": lambda: os.waitpid(os.posix_spawn(python, arguments, environment), 0),
    "vfork": lambda: subprocess.run(
        arguments, executable=python, env=environment, pass_fds=[listener.fileno()], check=True),
}
print("ready", flush=True)
os.read(0, 1)
WAYS[how]()
