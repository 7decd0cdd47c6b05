# SPDX-License-Identifier: Apache-2.0
"""
tools.py - one run of a public program between two ends, and what it says about itself

Each function starts a fresh server and a fresh client in a world as a contestant says, and returns
{metric: value}. Names of metrics tell units: gbit, us (microseconds), rps (per second), and
cpu_us, processor time of both sides per request (or cpu_ns_kib per KiB), which their control groups
count; it includes the programs' own start.
"""
import glob
import json
import os
import re
import shutil
import signal

from world import Failed, Unavailable

def need(*programs):
    for program in programs:
        if not shutil.which(program):
            raise Unavailable(f"{program} is not installed: scripts/deps.sh bench")


def need_tcp(contestant, program):
    if contestant.place == "unix":
        raise Unavailable(f"{program} does not speak to UNIX stream sockets")


class Metered:
    """Processor time of both sides between two points."""

    def __init__(self, world, contestant):
        self.world, self.contestant = world, contestant
        self.began = world.usage(contestant)

    def seconds(self):
        return self.world.usage(self.contestant) - self.began


def iperf3(world, contestant, cpus, seconds, length, streams=1, flags=()):
    port = world.port()
    need("iperf3")
    need_tcp(contestant, "iperf3")
    meter = Metered(world, contestant)
    server = world.spawn("server", contestant, cpus[0], ["iperf3", "-s", "-1", "-p", port])
    world.listens(server, port)
    client = world.spawn("client", contestant, cpus[1],
                         ["iperf3", "-c", contestant.addr, "-p", port, "-l", length, "-t", seconds,
                          "-P", streams, "-J", *flags])
    end = json.loads(client.wait(seconds + 30))["end"]
    server.wait(10)
    done = end["sum_received"]
    bits, count = done["bits_per_second"], done["bytes"]
    if "sum_received_bidir_reverse" in end:
        bits += end["sum_received_bidir_reverse"]["bits_per_second"]
        count += end["sum_received_bidir_reverse"]["bytes"]
    return {"gbit": bits / 1e9, "cpu_ns_kib": meter.seconds() * 1e9 / (count / 1024)}


def sockperf(world, contestant, cpus, seconds, size=64, mode="blocking"):
    """One way, as sockperf has it: half a round trip. mode: blocking, epoll, poll, select."""
    port = world.port()
    need("sockperf")
    need_tcp(contestant, "sockperf")
    where = ["--tcp", "-i", contestant.addr, "-p", port]
    if mode != "blocking":
        feed = os.path.join(world.dir, "feed-" + contestant.name)
        with open(feed, "w", encoding="ascii") as out:
            out.write(f"T:{contestant.addr}:{port}\n")
        where = ["-f", feed, "-F", mode]
    meter = Metered(world, contestant)
    server = world.spawn("server", contestant, cpus[0], ["sockperf", "sr", *where])
    world.listens(server, port)
    # By itself it gives up beyond 600,000 round trips a second: hence --mps.
    client = world.spawn("client", contestant, cpus[1],
                         ["sockperf", "pp", *where, "-m", size, "-t", seconds, "--mps",
                          "10000000"])
    text = client.wait(seconds + 30)
    server.kill(signal.SIGINT)
    found = dict(re.findall(r"percentile (50|99)\.\d+ *= *([\d.]+)", text))
    count = re.search(r"ReceivedMessages=(\d+)", text)
    if len(found) != 2 or not count:
        raise Failed(f"sockperf: {text[-500:]}")
    return {"p50_us": float(found["50"]), "p99_us": float(found["99"]),
            "cpu_us": meter.seconds() * 1e6 / int(count[1])}


def redis(world, contestant, cpus, seconds, pipeline=1, clients=50):
    port = world.port()
    need("redis-server", "redis-benchmark")
    path = os.path.join(world.dir, "redis.sock")
    argv = ["redis-server", "--port", port, "--bind", contestant.addr, "--protected-mode", "no",
            "--save", "", "--appendonly", "no", "--dir", world.dir]
    where = ["-h", contestant.addr, "-p", port]
    if contestant.place == "unix":
        argv += ["--unixsocket", path]
        where = ["-s", path]
    server = world.spawn("server", contestant, cpus[0], argv)
    world.listens(server, port)
    requests = int((60000 if pipeline == 1 else 400000) * seconds)
    meter = Metered(world, contestant)
    client = world.spawn("client", contestant, cpus[1],
                         ["redis-benchmark", *where, "-t", "set,get", "-n", requests, "-c", clients,
                          "-P", pipeline, "--csv"])
    text = client.wait(seconds * 20 + 30)
    used = meter.seconds()
    server.kill(signal.SIGTERM)
    rows = dict(re.findall(r'^"([SG]ET)","([\d.]+)"', text, re.M))
    if len(rows) != 2:
        raise Failed(f"redis-benchmark: {text[-500:]}")
    # Requests over the time that both together took.
    rps = 2 / sum(1 / float(r) for r in rows.values())
    return {"rps": rps, "set_rps": float(rows["SET"]), "get_rps": float(rows["GET"]),
            "cpu_us": used * 1e6 / (2 * requests)}


NGINX = """
daemon off;
master_process off;
worker_processes 1;
error_log stderr;
pid {dir}/nginx.pid;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    sendfile on;
    keepalive_requests 1000000000;
    client_body_temp_path {dir}/nginx; proxy_temp_path {dir}/nginx; fastcgi_temp_path {dir}/nginx;
    uwsgi_temp_path {dir}/nginx; scgi_temp_path {dir}/nginx;
    server {{ listen {listen}; root {dir}/www; }}
}}
"""


def wrk(world, contestant, cpus, seconds, connections=16):
    """nginx, 1 KiB by keep-alive."""
    port = world.port()
    need("nginx", "wrk")
    need_tcp(contestant, "wrk")
    www = os.path.join(world.dir, "www")
    os.makedirs(www, exist_ok=True)
    with open(os.path.join(www, "1k"), "wb") as out:
        out.write(b"x" * 1024)
    conf = os.path.join(world.dir, "nginx.conf")
    with open(conf, "w", encoding="ascii") as out:
        out.write(NGINX.format(dir=world.dir, listen=f"{contestant.addr}:{port}"))
    server = world.spawn("server", contestant, cpus[0], ["nginx", "-c", conf, "-e", "stderr"])
    world.listens(server, port)
    meter = Metered(world, contestant)
    client = world.spawn("client", contestant, cpus[1],
                         ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency",
                          f"http://{contestant.addr}:{port}/1k"])
    text = client.wait(seconds + 30)
    used = meter.seconds()
    server.kill(signal.SIGTERM)
    rps = re.search(r"Requests/sec: *([\d.]+)", text)
    count = re.search(r"(\d+) requests in", text)
    if not rps or not count or "Socket errors" in text or "Non-2xx" in text:
        raise Failed(f"wrk: {text[-500:]}")
    return {"rps": float(rps[1]), "cpu_us": used * 1e6 / int(count[1])}


NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]


def postgres_programs():
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin"))
    if not found:
        raise Unavailable("PostgreSQL is not installed: scripts/deps.sh bench")
    return found[-1]


def pgbench_cluster(world):
    """Made once per world; scale 10, in shared buffers as a whole."""
    port = world.port()
    data = os.path.join(world.dir, "pg")
    if os.path.isdir(data):
        return data
    programs = postgres_programs()
    plain = world.plain
    os.makedirs(data)
    os.chown(data, 65534, 65534)
    os.chmod(data, 0o700)
    world.spawn("server", plain, None, [
        *NOBODY, f"{programs}/initdb", "--no-sync", "-U", "postgres", "-A", "trust", "-E", "UTF8",
        "--locale=C", "-D", data], guest="A").wait(60)
    with open(data + "/pg_hba.conf", "a", encoding="ascii") as out:
        out.write("host all all 10.77.0.0/24 trust\n")
    server = pgbench_server(world, plain, data, None, port)
    world.spawn("client", plain, None, [
        f"{programs}/pgbench", "-i", "-q", "-s", "10", "-h", plain.addr, "-p", port, "-U",
        "postgres", "postgres"]).wait(120)
    server.kill(signal.SIGINT)
    return data


def pgbench_server(world, contestant, data, cpus, port):
    server = world.spawn("server", contestant, cpus, [
        *NOBODY, f"{postgres_programs()}/postgres", "-D", data, "-p", port, "-c",
        f"listen_addresses={contestant.addr}", "-c", "fsync=off", "-c", "shared_buffers=256MB", "-c",
        f"unix_socket_directories={data if contestant.place == 'unix' else ''}"])
    world.listens(server, port, 30)
    world.reads(server, "ready to accept connections", 30)
    return server


def pgbench(world, contestant, cpus, seconds, clients=8):
    """Select only, the simple protocol, a process of the server for each client."""
    port = world.port()
    programs = postgres_programs()
    data = pgbench_cluster(world)
    server = pgbench_server(world, contestant, data, cpus[0], port)
    where = data if contestant.place == "unix" else contestant.addr
    common = [f"{programs}/pgbench", "-S", "-n", "-h", where, "-p", port, "-U", "postgres", "-c",
              clients, "-j", 1, "postgres"]
    # What is read for the first time is not what is asked about.
    world.spawn("client", contestant, cpus[1], common + ["-t", 500]).wait(60)
    meter = Metered(world, contestant)
    client = world.spawn("client", contestant, cpus[1], common + ["-T", seconds])
    text = client.wait(seconds + 30)
    used = meter.seconds()
    server.kill(signal.SIGINT)
    tps = re.search(r"tps = ([\d.]+) \(without initial", text)
    count = re.search(r"actually processed: (\d+)", text)
    if not tps or not count:
        raise Failed(f"pgbench: {text[-500:]}")
    return {"rps": float(tps[1]), "cpu_us": used * 1e6 / int(count[1])}


def ucx(world, contestant, cpus, seconds, test, size):
    """ucx_perftest over shared memory, two processes; it greets by loopback. test: am_bw or am_lat."""
    port = world.port()
    need("ucx_perftest")
    env = ["env", "UCX_TLS=posix,self", "UCX_NET_DEVICES=", "UCX_LOG_LEVEL=fatal"]
    server = world.spawn("server", contestant, cpus[0], [*env, "ucx_perftest", "-p", port, "-c",
                                                         cpus[0]], guest="A")
    world.listens(server, port)
    count = int(seconds * (5e4 if size > 16384 else 5e5))
    client = world.spawn("client", contestant, cpus[1], [
        *env, "ucx_perftest", "127.0.0.1", "-p", port, "-t", f"ucp_{test}", "-s", size, "-n", count,
        "-w", 1000, "-c", cpus[1], "-f"], guest="A")
    try:
        text = client.wait(60)
    finally:
        server.kill()
    numbers = re.findall(r"^ *\d+ +([\d.]+) +[\d.]+ +([\d.]+) +([\d.]+) +([\d.]+)", text, re.M)
    if not numbers:
        raise Failed(f"ucx_perftest: {text[-500:]}")
    median_us, _, _, mbps = (float(n) for n in numbers[-1])
    if test.endswith("lat"):
        return {"p50_us": median_us}
    return {"gbit": mbps * 1048576 * 8 / 1e9}
