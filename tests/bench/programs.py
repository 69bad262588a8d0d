"""Runs programs for the benchmarks: on the host's network, or on that of a rump_server of their own.

Whatever does not do as it was told is an error (Failed), never a number.
"""

import contextlib
import dataclasses
import os
import re
import socket
import struct
import subprocess
import tempfile
import threading
import time
from typing import Dict, List, Optional

# No benchmark takes a tenth of this, even on a busy machine.
TIMEOUT_S = 120

# Where the sockets of a program are: the host's, a server's with direct pairs, as they are by
# default, and a server's with every byte through its stack.
NATIVE = "native"
DEFAULT = "hijacked"
STACK = "--no-direct"


class Failed(Exception):
    """A benchmark that could not be run as it should have been."""


def on_cpu(one_cpu):
    """For Popen: what keeps a program, with all its children, on one CPU, or on any."""
    return (lambda: os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})) if one_cpu else None


def environment(more=None):
    """Ours, with the servers in sbin."""
    return {**os.environ, "PATH": os.environ["PATH"] + ":/usr/sbin:/sbin", **(more or {})}


def run(command, one_cpu, more=None):
    """The standard output of `command`."""
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                              stdin=subprocess.DEVNULL, preexec_fn=on_cpu(one_cpu),
                              timeout=TIMEOUT_S, env=environment(more), check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Failed(str(error)) from error
    if done.returncode != 0:
        raise Failed(f"{' '.join(command)}: status {done.returncode}: "
                     f"{(done.stderr + done.stdout)[-2000:]}")
    return done.stdout


def number(pattern, text):
    """The number that the only group of `pattern` finds in `text`."""
    found = re.search(pattern, text)
    if not found:
        raise Failed(f"no {pattern!r} in: {text[-2000:]}")
    return float(found.group(1))


def free_port():
    """A TCP port of loopback that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@dataclasses.dataclass
class Server:
    """A running rump_server."""
    unix: str
    tcp: str

    def resident_kib(self):
        """What it has in memory."""
        with socket.socket(socket.AF_UNIX) as probe:
            probe.connect(self.unix[len("unix://"):])
            credentials = probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        with open(f"/proc/{struct.unpack('3i', credentials)[0]}/status", encoding="ascii") as status:
            return number(r"VmRSS:\s+(\d+) kB", status.read())


@dataclasses.dataclass
class Network:
    """A network to run programs on, and a directory for their files."""
    directory: str
    one_cpu: bool
    prefix: List[str]
    variables: Dict[str, str]
    server: Optional[Server]

    def run(self, *command):
        """The standard output of a program."""
        return run([*self.prefix, *command], self.one_cpu, self.variables)

    @contextlib.contextmanager
    def background(self, *command, **options):
        """A running program, which ends with its children at the end, or when its time is over."""
        process = subprocess.Popen([*self.prefix, *command], preexec_fn=on_cpu(self.one_cpu),
                                   env=environment(self.variables), start_new_session=True,
                                   **options)
        watchdog = threading.Timer(TIMEOUT_S, process.kill)
        watchdog.start()
        try:
            yield process
        finally:
            watchdog.cancel()
            stop(process)

    @contextlib.contextmanager
    def service(self, *command, ready):
        """A program that runs meanwhile, once it has written `ready`."""
        log_path = os.path.join(self.directory, "service.log")

        def output():
            with open(log_path, encoding="utf-8", errors="replace") as log:
                return log.read()

        with open(log_path, "wb") as log, self.background(
                *command, stdin=subprocess.DEVNULL, stdout=log, stderr=log) as process:
            while ready not in output():
                if process.poll() is not None:
                    raise Failed(f"{command[0]} is not ready: {output()[-2000:]}")
                time.sleep(0.01)
            yield
            if process.poll() is not None:
                raise Failed(f"{command[0]} has ended: {output()[-2000:]}")


def stop(process):
    """Ends the leader of a session, and what it has left of that."""
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=10)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, 9)
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe:
            with contextlib.suppress(OSError):
                pipe.close()


class Programs:
    """The built programs; a method that is named after a program is one run of it."""

    def __init__(self, bin_directory, quick):
        self._bin = os.path.abspath(bin_directory)
        self.quick = quick
        self._in_this_round = {}
        self.has_direct_pairs = "--no-direct" in run([self.path("sp_server/rump_server"), "--help"],
                                                     one_cpu=False)

    def path(self, name):
        return os.path.join(self._bin, name)

    def times(self, count):
        """How often something is done."""
        return str(max(count // 20, 10) if self.quick else count)

    def seconds(self, full):
        """How long something is done."""
        return str(1 if self.quick else full)

    def new_round(self):
        self._in_this_round = {}

    def once(self, measure, *arguments, **options):
        """What `measure` returns, which is called once in a round for all rows that need it."""
        key = (measure, arguments, tuple(sorted(options.items())))
        if key not in self._in_this_round:
            self._in_this_round[key] = measure(*arguments, **options)
        return self._in_this_round[key]

    @contextlib.contextmanager
    def server(self, *options, one_cpu):
        """A server of its own."""
        with tempfile.TemporaryDirectory(prefix="rb", dir="/tmp") as directory:
            server = Server(f"unix://{directory}/s", f"tcp://127.0.0.1:{free_port()}/")
            # Returns when the server, in the background by then, can be connected to.
            run([self.path("sp_server/rump_server"), *options, server.unix, server.tcp], one_cpu)
            try:
                yield server
            finally:
                run([self.path("tools/rump"), "halt", "--server", server.unix], one_cpu=False)

    @contextlib.contextmanager
    def network(self, mode, *options, one_cpu=False):
        """The network of a mode; options are the server's. All that runs is on the same CPUs."""
        with tempfile.TemporaryDirectory(prefix="rb", dir="/tmp") as directory:
            if mode == NATIVE:
                yield Network(directory, one_cpu, [], {}, None)
                return
            if mode == STACK and self.has_direct_pairs:
                options = (*options, "--no-direct")
            with self.server(*options, one_cpu=one_cpu) as server:
                yield Network(directory, one_cpu, [self.path("tools/rump"), "run", "--"],
                              {"RUMP_SERVER": server.unix}, server)

    def sockets(self, mode, program, *arguments, one_cpu):
        """The numbers that a program of plain sockets prints."""
        with self.network(mode, one_cpu=one_cpu) as network:
            out = network.run(self.path(f"tests/bench/{program}"), *arguments)
            return [float(word) for word in out.split()]

    def socket_bench(self, mode, *arguments, one_cpu):
        return self.sockets(mode, "socket_bench", *arguments, one_cpu=one_cpu)[0]

    def sysproxy(self, *arguments, program="sysproxy_bench", scheme="unix", one_cpu=True,
                 options=()):
        """The numbers that a benchmark prints of a server of its own."""
        with self.server(*options, one_cpu=one_cpu) as server:
            out = run([self.path(f"tests/bench/{program}"), *arguments], one_cpu,
                      {"RUMP_SERVER": server.unix if scheme == "unix" else server.tcp})
            return [float(word) for word in out.split()]

    def preload(self, bench, *arguments, entry):
        """The times of a program that does not use the network, plain and preloaded."""
        out = run([self.path("tests/bench/" + bench), self.path("hijack/librumphijack.so"),
                   *arguments], True, {"RUMPHIJACK_ENTRY": entry})
        return [float(found) for found in re.findall(r"([\d.]+) [nu]s (?:plain|preloaded)", out)]
