#!/usr/bin/env python3
"""Runs clang-tidy over compile_commands.json, a unit on each CPU.

Usage: tools/clang_tidy.py [--fix]
A unit takes seconds, most of them in the analyzer. One that was clean is not looked at again until
its command, a file that it includes (system headers aside) or a .clang-tidy changes.
"""
import concurrent.futures
import functools
import hashlib
import json
import os
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
CONFIGURATION = [os.path.join(ROOT, ".clang-tidy"), os.path.join(ROOT, "tests", ".clang-tidy")]
TIDY = "clang-tidy-14"
CLEAN = os.path.join(os.environ.get("XDG_CACHE_HOME", os.path.expanduser("~/.cache")), "rump-lint")


@functools.lru_cache(maxsize=None)
def digest(path):
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def marker(unit):
    """The file that says that this very unit is clean, or None for a unit that does not compile."""
    args = ["clang-14"]
    rest = iter(unit["arguments"][1:])
    for arg in rest:
        if arg in ("-MF", "-o"):
            next(rest)
        elif arg not in ("-MD", "-c"):
            args.append(arg)
    made = subprocess.run(args + ["-MM"], cwd=unit["directory"], stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL, check=False)
    if made.returncode != 0:
        return None
    included = made.stdout.decode().replace("\\\n", " ").split()[1:]
    key = hashlib.sha256(json.dumps(unit).encode())
    for path in [*included, *CONFIGURATION]:
        key.update(digest(os.path.join(unit["directory"], path)).encode())
    return os.path.join(CLEAN, key.hexdigest())


def check(unit, options):
    path = marker(unit)
    if path and os.path.exists(path):
        os.utime(path)
        return True
    # Standard error has a count of suppressed warnings, and what is wrong with the configuration.
    tidy = subprocess.run([TIDY, "-p", ROOT, "--quiet", *options, unit["file"]],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
    if tidy.returncode == 0:
        if path and not options:
            open(path, "w").close()
        return True
    sys.stdout.write(tidy.stdout.decode() or tidy.stderr.decode())
    sys.stdout.flush()
    return False


def forget_old():
    """Keeps the markers that were used last, as many as some branches have."""
    paths = [entry.path for entry in os.scandir(CLEAN)]
    for path in sorted(paths, key=os.path.getmtime)[:-2000]:
        os.unlink(path)


def main():
    options = sys.argv[1:]
    os.makedirs(CLEAN, exist_ok=True)
    with open(os.path.join(ROOT, "compile_commands.json")) as file:
        units = json.load(file)
    # Two units may mend the same header.
    jobs = 1 if options else len(os.sched_getaffinity(0))
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        clean = list(pool.map(lambda unit: check(unit, options), units))
    forget_old()
    print(f"{sum(clean)} of {len(units)} units are clean")
    sys.exit(0 if all(clean) else 1)


main()
