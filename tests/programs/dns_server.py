"""A name server for tests: dns_server.py ADDRESS PORT NAME=ADDRESS...

Answers A and AAAA questions over UDP and TCP; other names do not exist. Asked for
"long.NAME" over UDP it says that the answer is too long for it.
"""
import ipaddress
import selectors
import socket
import struct
import sys

A, AAAA = 1, 28
TRUNCATED, NO_SUCH_NAME = 0x0200, 3


def parse_question(query):
    labels, at = [], 12
    while query[at]:
        labels.append(query[at + 1:at + 1 + query[at]])
        at += 1 + query[at]
    kind, = struct.unpack_from('!H', query, at + 1)
    return b'.'.join(labels).decode().lower(), kind, query[12:at + 5]


def answer(query, table, datagram):
    name, kind, question = parse_question(query)
    long, name = name.startswith('long.'), name.removeprefix('long.')
    flags = 0x8580
    records = [a.packed for a in table.get(name, []) if kind == (A if a.version == 4 else AAAA)]
    if name not in table:
        flags |= NO_SUCH_NAME
    elif long and datagram:
        flags, records = flags | TRUNCATED, []
    header = query[:2] + struct.pack('!HHHHH', flags, 1, len(records), 0, 0)
    return header + question + b''.join(
        b'\xc0\x0c' + struct.pack('!HHIH', kind, 1, 60, len(r)) + r for r in records)


def main():
    address, port, table = sys.argv[1], int(sys.argv[2]), {}
    for pair in sys.argv[3:]:
        name, _, value = pair.partition('=')
        table.setdefault(name, []).append(ipaddress.ip_address(value))
    family = socket.AF_INET6 if ':' in address else socket.AF_INET
    udp = socket.socket(family, socket.SOCK_DGRAM)
    udp.bind((address, port))
    tcp = socket.create_server((address, port), family=family)
    selector = selectors.DefaultSelector()
    selector.register(udp, selectors.EVENT_READ)
    selector.register(tcp, selectors.EVENT_READ)
    print('ready', flush=True)
    while True:
        for key, _ in selector.select():
            if key.fileobj is udp:
                query, client = udp.recvfrom(4096)
                udp.sendto(answer(query, table, True), client)
            else:
                with tcp.accept()[0] as connection, connection.makefile('rb') as stream:
                    while length := stream.read(2):
                        reply = answer(stream.read(int.from_bytes(length)), table, False)
                        connection.sendall(struct.pack('!H', len(reply)) + reply)


main()
