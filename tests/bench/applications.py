"""Real programs as loads: each function runs one on a network and returns its number or numbers."""

import contextlib
import json
import os
import shutil
import subprocess
import time

from programs import Failed, free_port, number

ADDRESS = "127.0.0.1"


def iperf3(programs, mode, streams):
    """Gbit/s that arrive."""
    port = str(free_port())
    with programs.network(mode) as network:
        with network.service("iperf3", "--server", "--bind", ADDRESS, "--port", port,
                             "--forceflush", ready="Server listening"):
            report = json.loads(network.run(
                "iperf3", "--client", ADDRESS, "--port", port, "--json", "--parallel",
                str(streams), "--time", programs.seconds(3)))
    # With --json it exits with 0 in any case.
    if "error" in report:
        raise Failed(report["error"])
    arrived = [stream["receiver"]["bytes"] for stream in report["end"]["streams"]]
    if len(arrived) != streams or min(arrived) == 0:
        raise Failed(f"streams without bytes: {arrived}")
    return report["end"]["sum_received"]["bits_per_second"] / 1e9


def redis(programs, mode, connections, pipeline, requests, unix=False):
    """Thousands of GETs and of SETs a second; with `unix` over an AF_UNIX socket."""
    port = str(free_port())
    with programs.network(mode) as network:
        path = os.path.join(network.directory, "redis")
        with network.service("redis-server", "--bind", ADDRESS, "--port", port, "--unixsocket",
                             path, "--save", "", "--appendonly", "no", "--dir", network.directory,
                             ready="Ready to accept connections"):
            where = ["-s", path] if unix else ["-h", ADDRESS, "-p", port]
            out = network.run("redis-benchmark", *where, "-c", str(connections), "-P",
                              str(pipeline), "-n", programs.times(requests), "-t", "get,set",
                              "--csv")
    return {test: number(f'"{test}","([\\d.]+)"', out) / 1000 for test in ("GET", "SET")}


NGINX_CONFIGURATION = """
daemon off;
user root;
pid {directory}/nginx.pid;
error_log stderr notice;
worker_processes 2;
events {{ worker_connections 1024; use epoll; }}
http {{
  access_log off;
  sendfile on;
  keepalive_requests 100000000;
  client_body_temp_path {directory}/body;
  proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi;
  uwsgi_temp_path {directory}/uwsgi;
  scgi_temp_path {directory}/scgi;
  server {{
    listen {address}:{port};
    root {directory};
  }}
}}
"""


def nginx(programs, mode, client, one_cpu):
    """What the client, wrk or ab, gets of an nginx with two workers and a page of 612 bytes."""
    port = free_port()
    with programs.network(mode, one_cpu=one_cpu) as network:
        path = os.path.join(network.directory, "nginx.conf")
        with open(path, "w", encoding="ascii") as file:
            file.write(NGINX_CONFIGURATION.format(directory=network.directory, address=ADDRESS,
                                                  port=port))
        with open(os.path.join(network.directory, "page"), "wb") as file:
            file.write(b"x" * 612)
        os.chmod(network.directory, 0o755)
        with network.service("nginx", "-c", path, "-e", "stderr", ready="start worker processes"):
            return client(programs, network, f"http://{ADDRESS}:{port}/page")


def wrk(programs, network, url):
    """Thousands of requests a second on 50 connections."""
    out = network.run("wrk", "--threads", "2", "--connections", "50",
                      "--duration", programs.seconds(3), url)
    if "Socket errors" in out or "Non-2xx" in out:
        raise Failed(out)
    return number(r"Requests/sec:\s+([\d.]+)", out) / 1000


def ab(programs, network, url):
    """Thousands of requests a second, with a connection for each, 20 at a time."""
    requests = programs.times(8000)
    out = network.run("ab", "-q", "-n", requests, "-c", "20", url)
    if (number(r"Complete requests:\s+(\d+)", out) != int(requests)
            or number(r"Failed requests:\s+(\d+)", out) != 0 or "Non-2xx" in out):
        raise Failed(out)
    return number(r"Requests per second:\s+([\d.]+)", out) / 1000


SSHD_CONFIGURATION = """
ListenAddress {address}:{port}
HostKey {directory}/host_key
AuthorizedKeysFile {directory}/key.pub
StrictModes no
PermitRootLogin prohibit-password
PasswordAuthentication no
UsePAM no
PidFile none
PrintMotd no
PrintLastLog no
SetEnv HOME={directory}
"""
SSH_CONFIGURATION = """
Host server
  HostName {address}
  Port {port}
  User root
  IdentityFile {directory}/key
  IdentitiesOnly yes
  UserKnownHostsFile {directory}/known_hosts
  BatchMode yes
"""
# The package leaves /run/sshd to systemd, and logins are none of the machine's business.
SSHD_START = """
mount -t tmpfs tmpfs /run && mkdir /run/sshd &&
mount -t tmpfs tmpfs /var/log && touch /var/log/lastlog && exec "$@"
"""


def ssh(programs, mode):
    """MB/s of a remote command's output, from its first byte on."""
    size = int(programs.times(400)) << 20
    sshd = shutil.which("sshd", path="/usr/sbin:/sbin:" + os.environ["PATH"])
    if sshd is None:
        raise Failed("sshd is missing")
    with programs.network(mode) as network:
        names = {"directory": network.directory, "address": ADDRESS, "port": free_port()}

        def write(name, text):
            path = os.path.join(network.directory, name)
            with open(path, "w", encoding="ascii") as file:
                file.write(text)
            return path

        for key in ("host_key", "key"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f",
                            os.path.join(network.directory, key)], check=True)
        with open(os.path.join(network.directory, "host_key.pub"), encoding="ascii") as key:
            write("known_hosts", "[{address}]:{port} ".format(**names) + key.read())
        server_configuration = write("sshd_config", SSHD_CONFIGURATION.format(**names))
        client_configuration = write("ssh_config", SSH_CONFIGURATION.format(**names))
        # sshd looks at the keys as the user who logs in.
        os.chmod(network.directory, 0o755)
        with network.service("unshare", "--mount", "sh", "-c", SSHD_START, "sh", sshd, "-D", "-e",
                             "-f", server_configuration, ready="Server listening"):
            with network.background("ssh", "-F", client_configuration, "server",
                                    f"head -c {size} /dev/zero", stdin=subprocess.DEVNULL,
                                    stdout=subprocess.PIPE, bufsize=0) as process:
                left = size - len(process.stdout.read(1))
                start = time.monotonic()
                while left > 0 and (got := len(process.stdout.read(1 << 20))) > 0:
                    left -= got
                seconds = time.monotonic() - start
                if left != 0 or process.wait() != 0:
                    raise Failed(f"ssh: {left} bytes are missing")
    return size / 1e6 / seconds


def idle_connections(programs, mode, count, through_stack=0):
    """How many idle connections two programs hold at once, and KiB of the server's for each.

    through_stack is how many are to pass the stack of a server whose connections are direct pairs.
    """
    count = int(programs.times(count))
    through_stack = int(programs.times(through_stack)) if through_stack else 0
    sockets = str(2 * count + 100)
    program = os.path.join(os.path.dirname(os.path.abspath(__file__)), "idle_connections.py")

    def step(process):
        process.stdin.write("go\n")
        process.stdin.flush()

    def answer(process):
        word = process.stdout.readline().strip()
        if not word:
            raise Failed("idle_connections.py has ended")
        return word

    with contextlib.ExitStack() as stack:
        network = stack.enter_context(programs.network(
            mode, "--max-objects", sockets, "--max-process-objects", sockets))

        def start(*arguments):
            return stack.enter_context(network.background(
                "/usr/bin/python3", program, *arguments, stdin=subprocess.PIPE,
                stdout=subprocess.PIPE, text=True))

        acceptor = start("accept", str(count))
        connector = start("connect", answer(acceptor), str(count), str(through_stack))
        answer(connector)
        before = network.server.resident_kib()
        for process in (acceptor, connector):
            step(process)
        for process in (acceptor, connector):
            answer(process)
        after = network.server.resident_kib()
        for process in (acceptor, connector):
            step(process)
        # Each connection still carries a byte.
        if acceptor.wait() != 0 or connector.wait() != 0:
            raise Failed("idle connections are dead")
    return [count, (after - before) / count]
