"""Runs the benchmarks in interleaved rounds and prints a table; run.sh builds and calls it.

A ratio compares two runs of the same round, so that a load that comes and goes hits both; the table
has the medians over the rounds. Exit status 1 only if a benchmark could not run: speed is no test.
"""

import argparse
import dataclasses
import json
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
from typing import Callable, List, Optional

# No benchmark takes a tenth of this, even on a busy machine.
TIMEOUT_S = 120


def run(command, one_cpu, environment=None):
    """The standard output of `command`, on one CPU (with all its children) or on any."""
    cpus = os.sched_getaffinity(0)
    preexec = (lambda: os.sched_setaffinity(0, {min(cpus)})) if one_cpu else None
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True,
                          preexec_fn=preexec, timeout=TIMEOUT_S,
                          env={**os.environ, **(environment or {})})
    return done.stdout


def free_port():
    """A TCP port of loopback that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Programs:
    """The built programs; each method is one run and returns its number."""

    def __init__(self, bin_directory):
        self._bin = bin_directory

    def _path(self, name):
        return os.path.join(self._bin, name)

    def native(self, *arguments, one_cpu):
        return float(run([self._path("tests/bench/socket_bench"), *arguments], one_cpu))

    def hijacked(self, *arguments, one_cpu):
        """With a server of its own, on the same CPUs."""
        return float(run([self._path("tools/rump"), "run", "--",
                          self._path("tests/bench/socket_bench"), *arguments], one_cpu))

    def sysproxy(self, *arguments, program="sysproxy_bench", scheme="unix", one_cpu=True,
                 options=()):
        """The numbers that a benchmark prints of a server of its own."""
        with tempfile.TemporaryDirectory(prefix="rb", dir="/tmp") as directory:
            unix = f"unix://{directory}/s"
            tcp = f"tcp://127.0.0.1:{free_port()}/"
            # Returns when the server, in the background by then, can be connected to.
            run([self._path("sp_server/rump_server"), *options, unix, tcp], one_cpu)
            try:
                out = run([self._path(f"tests/bench/{program}"), *arguments], one_cpu,
                          environment={"RUMP_SERVER": unix if scheme == "unix" else tcp})
                return [float(number) for number in out.split()]
            finally:
                run([self._path("tools/rump"), "halt", "--server", unix], one_cpu=False)

    def preload(self, bench, *arguments, entry):
        """The times of a program that does not use the network, plain and preloaded."""
        out = run([self._path("tests/bench/" + bench), self._path("hijack/librumphijack.so"),
                   *arguments], one_cpu=True, environment={"RUMPHIJACK_ENTRY": entry})
        return [float(number) for number in re.findall(r"([\d.]+) [nu]s (?:plain|preloaded)", out)]


@dataclasses.dataclass
class Row:
    """One line of the table: `measure` returns the yardstick's number and ours."""
    name: str
    unit: str
    yardstick: str
    measure: Callable[[], List[float]]
    # What is judged, from the two numbers.
    compare: Callable[[float, float], float] = lambda yardstick, ours: ours / yardstick
    comparison_unit: str = "x"
    at_least: Optional[float] = None
    at_most: Optional[float] = None

    def bar(self):
        if self.at_least is not None:
            return f">= {self.at_least:g}"
        return f"<= {self.at_most:g}" if self.at_most is not None else ""

    def verdict(self, compared):
        if self.at_least is not None:
            return "ok" if compared >= self.at_least else "MISSED"
        if self.at_most is not None:
            return "ok" if compared <= self.at_most else "MISSED"
        return ""


def rows(programs):
    """All measurements, in the order of the table."""
    def both(*arguments, one_cpu):
        return lambda: [programs.native(*arguments, one_cpu=one_cpu),
                        programs.hijacked(*arguments, one_cpu=one_cpu)]

    def against_ping_pong(*arguments, scheme="unix"):
        kind = "pair" if scheme == "unix" else "echo"
        return lambda: [programs.native(kind, "20000", one_cpu=True),
                        *programs.sysproxy(*arguments, scheme=scheme)]

    def thousands_a_second(clients):
        return lambda: [*programs.sysproxy("clients", "1", "20000", one_cpu=False),
                        *programs.sysproxy("clients", str(clients), str(20000 // clients),
                                           one_cpu=False)]

    def preload_row(name, unit, bench, *arguments, entry, at_most):
        return Row(name, unit, "plain", lambda: programs.preload(bench, *arguments, entry=entry),
                   compare=lambda plain, preloaded: preloaded - plain, comparison_unit=unit,
                   at_most=at_most)

    def of_threads(threads):
        return lambda: [
            *programs.sysproxy("null", "1", "20000", program="client_bench", one_cpu=False),
            *programs.sysproxy("null", str(threads), str(20000 // threads),
                               program="client_bench", one_cpu=False)]

    def traced(*arguments):
        return lambda: [*programs.sysproxy(*arguments),
                        *programs.sysproxy(*arguments, options=["--trace=/dev/null"])]

    def beyond_host_fork():
        both, host = programs.sysproxy("fork", "500", program="client_bench")
        return [programs.native("pair", "20000", one_cpu=True), both - host]

    def client_init():
        return [programs.native("pair", "20000", one_cpu=True),
                *programs.sysproxy("init", "500", program="client_bench")]

    def blocked(index):
        def measure():
            idle, busy, kib, threads = programs.sysproxy("blocked", "5000", "2", one_cpu=False)
            return [idle, [busy, kib, threads][index]]
        return measure

    return [
        Row("null call, 1 CPU", "us", "unix ping-pong", against_ping_pong("null", "20000"),
            at_most=1.4),
        Row("null call traced, 1 CPU", "us", "not traced", traced("null", "20000")),
        Row("null call over tcp, 1 CPU", "us", "TCP ping-pong",
            against_ping_pong("null", "20000", scheme="tcp"), at_most=1.4),
        Row("4 KiB pipe write, 1 CPU", "us", "unix ping-pong",
            against_ping_pong("pipe", "4096", "10000"), at_most=2.6),
        Row("connect and handshake", "us", "unix ping-pong", against_ping_pong("connect", "2000")),
        Row("rumpclient_init", "us", "unix ping-pong", client_init, at_most=6),
        Row("fork and call beyond fork", "us", "unix ping-pong", beyond_host_fork, at_most=4),
        Row("calls of 4 threads", "k/s", "1 thread", of_threads(4)),
        Row("calls of 16 threads", "k/s", "1 thread", of_threads(16)),
        Row("calls of 4 clients", "k/s", "1 client", thousands_a_second(4)),
        Row("calls of 16 clients", "k/s", "1 client", thousands_a_second(16)),
        Row("null call beside 10000 blocked", "us", "idle", blocked(0), at_most=3),
        Row("memory of a blocked call", "KiB", "(idle call, us)", blocked(1),
            compare=lambda idle, kib: kib, comparison_unit="KiB", at_most=12),
        Row("threads of the server", "", "(idle call, us)", blocked(2),
            compare=lambda idle, threads: threads, comparison_unit="", at_most=16),
        Row("TCP stream, 64 KiB writes", "MB/s", "native",
            both("stream", "1024", one_cpu=False), at_least=0.25),
        Row("TCP stream, 1 CPU", "MB/s", "native", both("stream", "512", one_cpu=True)),
        Row("TCP 1-byte echo, 1 CPU", "us", "native", both("echo", "5000", one_cpu=True)),
        Row("TCP 1-byte echo", "us", "native", both("echo", "5000", one_cpu=False)),
        Row("connect+accept+close, 1 CPU", "us", "native", both("connect", "1000", one_cpu=True)),
        Row("connect+accept+close", "us", "native", both("connect", "1000", one_cpu=False)),
        *[preload_row(f"host {call}, {entry}", "ns", "host_call_bench", call, entry=entry,
                      at_most=10 * calls)
          for entry in ("rewrite", "symbols")
          for call, calls in (("read", 1), ("fcntl", 1), ("recvmsg", 1), ("dup+close", 2),
                              ("syscall", 1))],
        *[preload_row(f"start of /bin/true, {entry}", "us", "startup_bench", entry=entry,
                      at_most=250)
          for entry in ("rewrite", "symbols")],
    ]


def main():
    parser = argparse.ArgumentParser(prog="tests/bench/run.sh")
    parser.add_argument("bin", help=argparse.SUPPRESS)
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds (5)")
    parser.add_argument("--only", default="", help="only rows whose name contains this")
    parser.add_argument("--json", action="store_true", help="JSON in place of the table")
    options = parser.parse_args()

    table = [row for row in rows(Programs(options.bin)) if options.only in row.name]
    samples = [[] for _ in table]
    failed = set()
    for _ in range(options.rounds):
        for i, row in enumerate(table):
            if i in failed:
                continue
            try:
                samples[i].append(row.measure())
            except (subprocess.SubprocessError, ValueError) as error:
                print(f"{row.name}: {error}", file=sys.stderr)
                failed.add(i)

    results = []
    for i, row in enumerate(table):
        if i in failed:
            results.append({"name": row.name, "verdict": "FAILED"})
            continue
        compared = statistics.median(row.compare(*pair) for pair in samples[i])
        results.append({
            "name": row.name, "unit": row.unit, "yardstick": row.yardstick,
            "yardstick_median": statistics.median(pair[0] for pair in samples[i]),
            "ours_median": statistics.median(pair[1] for pair in samples[i]),
            "compared": compared, "compared_unit": row.comparison_unit,
            "bar": row.bar(), "verdict": row.verdict(compared), "samples": samples[i],
        })

    load = os.getloadavg()[0]
    if options.json:
        print(json.dumps({"load": load, "cpus": os.cpu_count(), "rows": results}, indent=1))
    else:
        print(f"{'':30} {'yardstick':>15} {'':>9} {'ours':>9} {'':4} {'ratio':>9}  {'bar':7}")
        for result in results:
            if result["verdict"] == "FAILED":
                print(f"{result['name']:30} FAILED")
                continue
            print("{name:30} {yardstick:>15} {yardstick_median:9.1f} {ours_median:9.1f} {unit:4} "
                  "{compared:7.2f}{compared_unit:2}  {bar:7} {verdict}".format(**result))
        print(f"medians of {options.rounds} rounds; ratios are taken within a round; "
              f"{os.cpu_count()} CPUs, load {load:.1f}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
