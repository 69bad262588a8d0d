#!/usr/bin/python3
"""libc_exports_test.py LIBC LIBRARY SITES LEFT_OUT: nothing that libc exports is forgotten.

A function of LIBC's has to be interposed by LIBRARY or to stand in LEFT_OUT, with a reason, if it
 - makes a system call that the library takes (SITES, from tools/libc_sites, says which do),
 - is another name of a function that is interposed, or its 64-bit or fortified twin,
 - belongs by its name to what concerns descriptors, processes and names on the network.
"""
import collections
import re
import subprocess
import sys

# Any of these, perhaps after underscores, begins the name of such a function.
FAMILIES = r"""
  accept bind(resvport)?$ connect$ listen$ shutdown$ socket sockatmark isfdtype$ recv send
  get(sock|peer)(name|opt) setsockopt [gs]etsourcefilter rcmd rexec rresvport ruserok
  p?(read|write)v?(64)?(v2)?(_chk)?$ splice$ tee$ vmsplice$ copy_file_range$ v?dprintf eventfd
  aio_ lio_
  close dup[23]?$ fcntl ioctl fx?stat isatty$ lseek fsync$ fdatasync$ flock$ lockf ftruncate fchmod$
  fchown$ fallocate posix_fa futime f[gs]etxattr$ flistxattr$ fremovexattr$ fpathconf$ fchdir$ syncfs$
  sync_file_range$ readahead$ ttyname tc(drain|flow|flush|get|set|sendbreak) pidfd_ mmap
  p?poll p?select$ epoll_ fdelt_
  v?[Ff]ork clone$ f?exec(l|v) posix_spawnp?$ system$ popen$ daemon$ forkpty$ login_tty$ openpty$
  wordexp$ unshare$ setns$
  getaddrinfo getnameinfo gethost getifaddrs$ if_ res_(init|nclose|ninit|n?query|n?search|n?send)
""".split()


def exports(library):
    """The public functions of a library: name -> address."""
    listing = subprocess.run(["readelf", "--dyn-syms", "--wide", library], check=True,
                             capture_output=True, text=True).stdout
    found = {}
    for line in listing.splitlines():
        words = line.split()
        if len(words) < 8 or words[3] not in ("FUNC", "IFUNC") or words[6] == "UND":
            continue
        name, _, version = words[7].partition("@")
        # Those are for libc's own parts, and another libc has others.
        if not version.endswith("GLIBC_PRIVATE"):
            found[name] = words[1]
    return found


def callers(sites):
    """The functions with a system call that the library takes."""
    names = set()
    for line in open(sites, encoding="ascii"):
        names.update(line.partition(" // ")[2].split())
    return names


def left_out(path):
    """The names below the reasons, with how often they stand there."""
    lines = (line for line in open(path, encoding="ascii") if line[0] not in "#[")
    return collections.Counter(name for line in lines for name in line.split())


def concerned(libc, interposed, sites):
    """The functions of libc that must be accounted for."""
    family = re.compile("_*(" + "|".join(FAMILIES) + ")")
    addresses = {libc[name] for name in interposed if name in libc}
    twins = {twin for name in interposed
             for twin in (name + "64", f"__{name}_chk", f"__{name}64_chk", "__" + name)}
    return {name for name, address in libc.items()
            if name in sites or address in addresses or name in twins or family.match(name)}


def main():
    libc_path, library, sites_path, left_out_path = sys.argv[1:]
    libc = exports(libc_path)
    interposed = set(exports(library))
    sites = callers(sites_path)
    excused = left_out(left_out_path)
    problems = [
        ("neither interposed nor left out for a reason",
         concerned(libc, interposed, sites) - interposed - set(excused)),
        ("interposed and left out", interposed & set(excused)),
        ("left out twice", {name for name, count in excused.items() if count > 1}),
        ("left out, but not in this libc", set(excused) - set(libc)),
        ("interposed, but not in this libc", interposed - set(libc)),
    ]
    for what, names in problems:
        if names:
            print(f"{what}: {' '.join(sorted(names))}")
    if not sites & interposed:
        sys.exit("no function of libc makes a system call?")
    sys.exit(any(names for _, names in problems))


main()
