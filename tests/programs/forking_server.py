"""forking_server.py PORT: a process for each connection, which answers each line in upper case."""
import os
import socketserver
import sys


class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        self.wfile.write(f"process {os.getpid()}\n".encode())
        for line in self.rfile:
            self.wfile.write(line.upper())


class Server(socketserver.ForkingTCPServer):
    allow_reuse_address = True
    max_children = 64
    # All clients of the test at once: where the queue overflows, a host may drop what it has accepted.
    request_queue_size = 64


Server(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
