"""Sockets that Python's subprocess hands to its children, and what these do with them."""
import socket
import subprocess
import sys

HOST = "127.0.0.1"


def run(code, *args, **options):
    """Starts Python with `code`; its standard output is a pipe unless the options say otherwise."""
    options = {"stdout": subprocess.PIPE, "text": True, **options}
    return subprocess.Popen([sys.executable, "-c", code, *map(str, args)], **options)


def finish(child):
    output, _ = child.communicate(timeout=20)
    assert child.returncode == 0, child.returncode
    return output


def pair():
    """Both ends of a connection."""
    with socket.create_server((HOST, 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        server, _ = listener.accept()
    return client, server


# The same number in the child, and nothing else of ours.
client, server = pair()
child = run(
    """if True:
    import os, socket, sys
    wanted, other = map(int, sys.argv[1:])
    try:
        os.fstat(other)
        sys.exit("the other socket is open as well")
    except OSError:
        pass
    with socket.socket(fileno=wanted) as s:
        print(*s.getpeername(), s.family.name, s.recv(100).decode())
        s.sendall(b"from the child")
    """,
    server.fileno(), client.fileno(), pass_fds=[server.fileno()])
client.sendall(b"to the child")
assert finish(child) == "%s %d AF_INET to the child\n" % client.getsockname()
server.close()
assert client.recv(100) == b"from the child"
assert client.recv(100) == b""
client.close()

# As standard input and output.
client, server = pair()
child = run("import sys; print(sys.stdin.readline().upper(), end='')", stdin=server, stdout=server)
server.close()
client.sendall(b"a line\n")
assert client.makefile().read() == "A LINE\n"
assert child.wait(timeout=20) == 0
client.close()

# Of a program without the library.
client, server = pair()
child = subprocess.Popen(["busybox", "cat"], stdin=server, stdout=server)
server.close()
data = bytes(range(256)) * 100
client.sendall(data)
client.shutdown(socket.SHUT_WR)
assert client.makefile("rb").read() == data
assert child.wait(timeout=20) == 0
client.close()

# A listener and a datagram socket, which the child serves while the parent asks.
listener = socket.create_server((HOST, 0))
datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
datagrams.bind((HOST, 0))
addresses = listener.getsockname(), datagrams.getsockname()
child = run(
    """if True:
    import socket, sys
    listener, datagrams = (socket.socket(fileno=int(n)) for n in sys.argv[1:])
    connection, address = listener.accept()
    connection.sendall(repr(address).encode())
    connection.close()
    data, address = datagrams.recvfrom(100)
    datagrams.sendto(data.upper(), address)
    """,
    listener.fileno(), datagrams.fileno(), pass_fds=[listener.fileno(), datagrams.fileno()])
listener.close()
datagrams.close()
with socket.create_connection(addresses[0]) as s:
    assert s.makefile().read() == repr(s.getsockname())
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
    s.sendto(b"datagram", addresses[1])
    s.settimeout(20)
    assert s.recvfrom(100) == (b"DATAGRAM", addresses[1])
finish(child)

# The child's end is the last: the port is free.
socket.create_server(addresses[0]).close()
print("all is well")
