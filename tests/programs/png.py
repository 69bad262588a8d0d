"""png.py make FILE WIDTH HEIGHT RRGGBB: a picture of one colour.
png.py show FILE X,Y...: the colour of each of these pixels."""
import struct
import sys
import zlib


def chunk(kind, data):
    checksum = zlib.crc32(kind + data)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)


def make(path, width, height, colour):
    line = b"\0" + bytes.fromhex(colour) * width
    with open(path, "wb") as f:
        f.write(b"\x89PNG\r\n\x1a\n")
        f.write(chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)))
        f.write(chunk(b"IDAT", zlib.compress(line * height)))
        f.write(chunk(b"IEND", b""))


def chunks(data):
    """The data of each kind of chunk, put together."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n", "no PNG"
    found = {}
    at = 8
    while at < len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        found[kind] = found.get(kind, b"") + data[at + 8:at + 8 + size]
        at += size + 12
    return found


def paeth(left, above, corner):
    """The neighbour that is nearest to left + above - corner."""
    guess = left + above - corner
    return min((left, above, corner), key=lambda neighbour: abs(guess - neighbour))


def unfilter(kind, line, above, pixel):
    for i, value in enumerate(line):
        left = line[i - pixel] if i >= pixel else 0
        corner = above[i - pixel] if i >= pixel else 0
        guess = (0, left, above[i], (left + above[i]) // 2, paeth(left, above[i], corner))[kind]
        line[i] = (value + guess) & 0xFF
    return line


def show(path, *points):
    with open(path, "rb") as f:
        found = chunks(f.read())
    width, height, depth, colour, *rest = struct.unpack(">IIBBBBB", found[b"IHDR"])
    assert depth == 8 and colour in (2, 6) and rest == [0, 0, 0], "another kind of PNG"
    pixel = 3 if colour == 2 else 4
    data = zlib.decompress(found[b"IDAT"])
    size = width * pixel
    lines = [bytearray(size)]
    for at in range(0, len(data), size + 1):
        lines.append(unfilter(data[at], bytearray(data[at + 1:at + 1 + size]), lines[-1], pixel))
    assert len(lines) == height + 1, "lines are missing"
    for point in points:
        x, y = map(int, point.split(","))
        print(lines[y + 1][x * pixel:x * pixel + 3].hex())


if sys.argv[1] == "make":
    make(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5])
else:
    show(*sys.argv[2:])
