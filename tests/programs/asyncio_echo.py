"""asyncio on epoll: asyncio_echo.py server PORT | client PORT CONNECTIONS."""
import asyncio
import os
import sys


async def echo(reader, writer):
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


async def serve(port):
    server = await asyncio.start_server(echo, "127.0.0.1", port, backlog=256)
    await server.serve_forever()


async def converse(port, everybody_is_here):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    await everybody_is_here.arrive()
    for size in (1, 1000, 100_000):
        data = os.urandom(size)
        writer.write(data)
        assert await reader.readexactly(size) == data
    writer.write_eof()
    assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()


class Meeting:
    """Where all connections wait until all are open."""

    def __init__(self, size):
        self.missing = size
        self.complete = asyncio.Event()

    async def arrive(self):
        self.missing -= 1
        if self.missing == 0:
            self.complete.set()
        await self.complete.wait()


async def call(port, connections):
    meeting = Meeting(connections)
    await asyncio.gather(*(converse(port, meeting) for _ in range(connections)))
    print(connections, "connections")


role, port, *rest = sys.argv[1:]
asyncio.run(serve(int(port)) if role == "server" else call(int(port), int(rest[0])))
