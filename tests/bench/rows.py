"""What is measured: the rows of the table."""

import dataclasses
from typing import Callable, List, Optional

import applications
from programs import DEFAULT, NATIVE, STACK


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
    # Of what is judged.
    higher_is_better: bool = False
    # What --check compares with the kept one, if that is not what is judged.
    ratio: Optional[Callable[[float, float], float]] = None
    # Measured in the first round alone: it takes long and hardly varies.
    once: bool = False
    # The figure without its mode, and the mode, where a native run is the yardstick.
    figure: str = ""
    mode: str = ""

    def checked(self, yardstick, ours):
        return (self.ratio or self.compare)(yardstick, ours)

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


def against_native(name, unit, measure, default=None, stack=None, higher_is_better=True):
    """The rows of a figure in both modes; measure(mode) is its number, the others are its bars."""
    def row(mode, bar):
        return Row(name if mode == DEFAULT else f"{name}, {mode}", unit, NATIVE,
                   lambda: [measure(NATIVE), measure(mode)],
                   at_least=bar if higher_is_better else None,
                   at_most=None if higher_is_better else bar,
                   higher_is_better=higher_is_better, figure=name, mode=mode)
    return [row(DEFAULT, default), row(STACK, stack)]


def ceiling(name, unit, native, unix):
    """What the host's AF_UNIX sockets make of a figure, which a direct pair is made of."""
    return Row(f"{name}, AF_UNIX on the host", unit, NATIVE, lambda: [native(), unix()],
               higher_is_better=True)


def application_rows(programs):
    """Real programs."""
    def iperf3(streams):
        return lambda mode: programs.once(applications.iperf3, programs, mode, streams=streams)

    def redis(test, connections, pipeline, requests, unix=False):
        return lambda mode: programs.once(applications.redis, programs, mode,
                                          connections=connections, pipeline=pipeline,
                                          requests=requests, unix=unix)[test]

    def redis_ceiling(test, name, *load):
        return ceiling(f"redis {test}, {name}", "k/s", lambda: redis(test, *load)(NATIVE),
                       lambda: redis(test, *load, unix=True)(NATIVE))

    def nginx(client, one_cpu=False):
        return lambda mode: programs.once(applications.nginx, programs, mode, client=client,
                                          one_cpu=one_cpu)

    tests = ("GET", "SET")
    return [
        *against_native("iperf3, 1 stream", "Gb/s", iperf3(1), default=1.8, stack=0.5),
        *against_native("iperf3, 4 streams", "Gb/s", iperf3(4), default=1.8, stack=0.5),
        *[row for test in tests for row in against_native(
            f"redis {test}, 20 connections", "k/s", redis(test, 20, 1, 60000), default=1.2)],
        *[row for test in tests for row in against_native(
            f"redis {test}, 50 connections", "k/s", redis(test, 50, 1, 60000), default=1.2,
            stack=0.45)],
        *[row for test in tests for row in against_native(
            f"redis {test}, 50 connections, -P 16", "k/s", redis(test, 50, 16, 600000),
            default=1.2)],
        *[redis_ceiling(test, "50 connections, -P 16", 50, 16, 600000) for test in tests],
        *against_native("nginx + wrk, keep-alive", "k/s", nginx(applications.wrk), default=1.3,
                        stack=0.6),
        *against_native("nginx + ab, connection each", "k/s", nginx(applications.ab), default=0.8,
                        stack=0.3),
        *against_native("nginx + ab, 1 CPU", "k/s", nginx(applications.ab, one_cpu=True),
                        default=0.95),
        *against_native("ssh bulk", "MB/s",
                        lambda mode: programs.once(applications.ssh, programs, mode), default=0.95),
    ]


def socket_rows(programs):
    """Sockets of small programs."""
    def bench(kind, count, one_cpu):
        return lambda mode: programs.once(programs.socket_bench, mode, kind, programs.times(count),
                                          one_cpu=one_cpu)

    def fairness(mode, index):
        return programs.once(programs.sockets, mode, "fairness_bench", programs.times(1000),
                             programs.seconds(4), one_cpu=False)[index]

    def beside(index, **options):
        return Row(yardstick=NATIVE, measure=lambda: [fairness(NATIVE, index),
                                                      fairness(STACK, index)], **options)

    def idle(mode, name="memory of an idle connection", **counts):
        return Row(name if mode == DEFAULT else f"{name}, {mode}", "KiB", "(connections)",
                   lambda: applications.idle_connections(programs, mode, **counts),
                   compare=lambda _, kib: kib, comparison_unit="KiB", at_most=16, once=True)

    return [
        *against_native("TCP stream, 64 KiB writes", "MB/s", bench("stream", 1024, False),
                        default=0.25),
        ceiling("TCP stream, 64 KiB writes", "MB/s", lambda: bench("stream", 1024, False)(NATIVE),
                lambda: bench("pair_stream", 1024, False)(NATIVE)),
        *against_native("TCP stream, 1 CPU", "MB/s", bench("stream", 512, True)),
        *against_native("TCP 1-byte echo, 1 CPU", "us", bench("echo", 5000, True),
                        higher_is_better=False),
        *against_native("TCP 1-byte echo", "us", bench("echo", 5000, False), default=0.8,
                        higher_is_better=False),
        *against_native("connect+accept+close, 1 CPU", "us", bench("connect", 1000, True),
                        higher_is_better=False),
        *against_native("connect+accept+close", "us", bench("connect", 1000, False),
                        higher_is_better=False),
        beside(0, name="Jain's index, 1000 streams, --no-direct", unit="",
               compare=lambda _, ours: ours, comparison_unit="", at_least=0.95,
               higher_is_better=True),
        beside(1, name="99% of echoes beside, --no-direct", unit="ms",
               compare=lambda _, ours: ours, comparison_unit="ms", at_most=10),
        beside(2, name="1000 streams, --no-direct", unit="MB/s", higher_is_better=True,
               figure="1000 streams", mode=STACK),
        idle(DEFAULT, count=8000),
        idle(STACK, count=8000),
        *([idle(DEFAULT, name="memory of one of 16000, half direct", count=16000, through_stack=8000)]
          if programs.has_direct_pairs else []),
    ]


def client_rows(programs):
    """Programs written for rumpclient, and the server as they see it."""
    def ping_pong(scheme="unix"):
        return programs.socket_bench(NATIVE, "pair" if scheme == "unix" else "echo",
                                     programs.times(20000), one_cpu=True)

    def against_ping_pong(*arguments, scheme="unix"):
        return lambda: [ping_pong(scheme), *programs.sysproxy(*arguments, scheme=scheme)]

    def stream(one_cpu):
        size = programs.times(256)
        return lambda: [
            programs.socket_bench(NATIVE, "stream", programs.times(1024), one_cpu=one_cpu),
            *programs.sysproxy("stream", size, one_cpu=one_cpu)]

    calls = int(programs.times(20000))

    def of_clients(clients):
        return lambda: [*programs.sysproxy("clients", "1", str(calls), one_cpu=False),
                        *programs.sysproxy("clients", str(clients), str(calls // clients),
                                           one_cpu=False)]

    def of_threads(threads, one_cpu=False):
        return lambda: [
            *programs.sysproxy("null", "1", str(calls), program="client_bench", one_cpu=one_cpu),
            *programs.sysproxy("null", str(threads), str(calls // threads),
                               program="client_bench", one_cpu=one_cpu)]

    def traced(*arguments):
        return lambda: [*programs.sysproxy(*arguments),
                        *programs.sysproxy(*arguments, options=["--trace=/dev/null"])]

    def beyond_host_fork():
        both, host = programs.sysproxy("fork", programs.times(500), program="client_bench")
        return [ping_pong(), both - host]

    def client_init():
        return [ping_pong(),
                *programs.sysproxy("init", programs.times(500), program="client_bench")]

    def blocked(index):
        def measure():
            idle, *figures = programs.once(programs.sysproxy, "blocked", programs.times(5000), "2",
                                           one_cpu=False)
            return [idle, figures[index]]
        return measure

    null = ("null", str(calls))

    def pipe(size):
        return against_ping_pong("pipe", str(size), programs.times(10000))

    return [
        Row("null call, 1 CPU", "us", "unix ping-pong", against_ping_pong(*null), at_most=1.25),
        Row("null call traced, 1 CPU", "us", "not traced", traced(*null)),
        Row("null call over tcp, 1 CPU", "us", "TCP ping-pong",
            against_ping_pong(*null, scheme="tcp"), at_most=1.4),
        Row("4 KiB pipe write, 1 CPU", "us", "unix ping-pong", pipe(4096), at_most=1.5),
        Row("64 KiB pipe write, 1 CPU", "us", "unix ping-pong", pipe(65536), at_most=3),
        Row("client's TCP stream, 1 CPU", "MB/s", NATIVE, stream(one_cpu=True), at_least=0.3,
            higher_is_better=True),
        Row("client's TCP stream", "MB/s", NATIVE, stream(one_cpu=False), higher_is_better=True),
        Row("connect and handshake", "us", "unix ping-pong",
            against_ping_pong("connect", programs.times(2000))),
        Row("rumpclient_init", "us", "unix ping-pong", client_init, at_most=6),
        Row("fork and call beyond fork", "us", "unix ping-pong", beyond_host_fork, at_most=4),
        Row("calls of 4 threads", "k/s", "1 thread", of_threads(4), higher_is_better=True),
        Row("calls of 8 threads", "k/s", "1 thread", of_threads(8), higher_is_better=True,
            at_least=1.5),
        Row("calls of 8 threads, 1 CPU", "k/s", "1 thread", of_threads(8, one_cpu=True),
            higher_is_better=True, at_least=1.5),
        Row("calls of 64 threads, 1 CPU", "k/s", "1 thread", of_threads(64, one_cpu=True),
            higher_is_better=True),
        Row("calls of 16 threads", "k/s", "1 thread", of_threads(16), higher_is_better=True),
        Row("calls of 4 clients", "k/s", "1 client", of_clients(4), higher_is_better=True),
        Row("calls of 16 clients", "k/s", "1 client", of_clients(16), higher_is_better=True),
        Row("null call beside 10000 blocked", "us", "idle", blocked(0), at_most=3),
        Row("memory of a blocked call", "KiB", "(idle call, us)", blocked(1),
            compare=lambda idle, kib: kib, comparison_unit="KiB", at_most=12),
        Row("threads of the server", "", "(idle call, us)", blocked(2),
            compare=lambda idle, threads: threads, comparison_unit="", at_most=16),
    ]


def library_rows(programs):
    """What the preloaded library costs a program that uses the host."""
    def runs(full):
        return max(full // 20, 1) if programs.quick else full

    def row(name, unit, bench, *arguments, entry, at_most):
        return Row(name, unit, "plain",
                   lambda: programs.preload(bench, *arguments, entry=entry),
                   compare=lambda plain, preloaded: preloaded - plain, comparison_unit=unit,
                   at_most=at_most, ratio=lambda plain, preloaded: preloaded / plain)

    return [
        *[row(f"host {call}, {entry}", "ns", "host_call_bench", call,
              str(runs(15)), entry=entry, at_most=10 * calls)
          for entry in ("rewrite", "symbols")
          for call, calls in (("read", 1), ("fcntl", 1), ("recvmsg", 1), ("dup+close", 2),
                              ("syscall", 1))],
        *[row(f"start of /bin/true, {entry}", "us", "startup_bench", str(runs(400)),
              entry=entry, at_most=250)
          for entry in ("rewrite", "symbols")],
    ]


def all_rows(programs):
    """All measurements, in the order of the table."""
    return [*application_rows(programs), *socket_rows(programs), *client_rows(programs),
            *library_rows(programs)]
