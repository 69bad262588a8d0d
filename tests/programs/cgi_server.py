"""cgi_server.py PORT FOLDER: http.server with the programs of FOLDER/cgi-bin, which have the
connection as their standard streams."""
import functools
import http.server
import os
import sys

# Else programs run as nobody, who has no access to the test's files.
http.server.nobody = os.getuid()
handler = functools.partial(http.server.CGIHTTPRequestHandler, directory=sys.argv[2])
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), handler).serve_forever()
