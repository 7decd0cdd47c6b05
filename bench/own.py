# SPDX-License-Identifier: Apache-2.0
"""
own.py - one run of a measuring program of our own (bench/src/), as tools.py does it for public ones
"""
import json
import os
import subprocess
import time

from tools import Metered
from world import ADDR, LOOPBACK, ROOT, Failed, Unavailable, run


def program(world, name):
    return os.path.join(world.build, "bench", name)


def place(world, contestant, port):
    if contestant.place == "unix":
        return f"unix:{world.dir}/socket-{port}"
    return f"{contestant.addr}:{port}"


def ready(world, contestant, server, port):
    if contestant.place == "unix":
        while not os.path.exists(f"{world.dir}/socket-{port}"):
            if server.popen.poll() is not None:
                server.wait(0)
    else:
        world.listens(server, port)


def stream(world, contestant, cpus, seconds, mode, size, streams=1, sockbuf=0):
    """bench_stream: bulk or rr."""
    port = world.port()
    where = place(world, contestant, port)
    meter = Metered(world, contestant)
    server = world.spawn("server", contestant, cpus[0], [
        program(world, "bench_stream"), "serve", where, "--sockbuf", sockbuf])
    ready(world, contestant, server, port)
    client = world.spawn("client", contestant, cpus[1], [
        program(world, "bench_stream"), mode, *[where] * streams, "--size", size, "--seconds",
        seconds, "--sockbuf", sockbuf])
    told = json.loads(client.wait(seconds + 30))
    server.kill()
    if contestant.place == "unix":
        os.unlink(f"{world.dir}/socket-{port}")
    used = meter.seconds()
    if mode == "rr":
        return {"p50_us": told["p50_us"], "p99_us": told["p99_us"], "rps": told["per_second"],
                "cpu_us": used * 1e6 / told["messages"]}
    return {"gbit": told["gbit"], "cpu_ns_kib": used * 1e9 / (told["messages"] * size / 1024)}


def self_talk(world, contestant, cpus, seconds, size):
    """bench_stream self: pairs of send() and recv() per second, in guest A"""
    alone = world.spawn("client", contestant, cpus[1], [
        program(world, "bench_stream"), "self", f"{LOOPBACK}:{world.port()}", "--size", size,
        "--seconds", seconds])
    return {"rps": json.loads(alone.wait(seconds + 30))["per_second"]}


def short(world, contestant, cpus, seconds, size=64):
    """bench_short: connections per second."""
    port = world.port()
    where = place(world, contestant, port)
    server = world.spawn("server", contestant, cpus[0],
                         [program(world, "bench_short"), "serve", where, "--size", size])
    ready(world, contestant, server, port)
    meter = Metered(world, contestant)
    client = world.spawn("client", contestant, cpus[1], [
        program(world, "bench_short"), "run", where, "--size", size, "--seconds", seconds])
    told = json.loads(client.wait(seconds + 30))
    used = meter.seconds()
    server.kill()
    return {"rps": told["per_second"], "p50_us": told["p50_us"],
            "cpu_us": used * 1e6 / told["connections"]}


def shares(world, contestant, cpus, seconds, local, remote):
    """bench_stream from one process: so many streams to the co-resident guest, so many to C."""
    where, port = [], world.port()
    for guest, count in (("B", local), ("C", remote)):
        place_there = f"{ADDR[guest]}:{port}"
        # Whoever is on another host knows nothing of the library.
        server = world.spawn("server", contestant if guest == "B" else world.plain, cpus[0],
                             [program(world, "bench_stream"), "serve", place_there], guest=guest)
        world.listens(server, port)
        where += [place_there] * count
    client = world.spawn("client", contestant, cpus[1], [
        program(world, "bench_stream"), "bulk", *where, "--size", "16K", "--seconds", seconds])
    each = json.loads(client.wait(seconds + 30))["each"]
    told = {"gbit": sum(each)}
    if local:
        told["local_gbit"] = sum(each[:local])
    if remote:
        told["remote_gbit"] = sum(each[local:])
    return told


def pairs(world, contestant, cpus, seconds, count):
    """bench_stream bulk, so many clients with a server each, all at once."""
    clients = []
    for _ in range(count):
        where = place(world, contestant, port := world.port())
        server = world.spawn("server", contestant, cpus[0],
                             [program(world, "bench_stream"), "serve", where])
        ready(world, contestant, server, port)
        clients.append((where, server))
    running = [world.spawn("client", contestant, cpus[1], [
        program(world, "bench_stream"), "bulk", where, "--size", "16K", "--seconds", seconds])
        for where, _ in clients]
    total = sum(json.loads(client.wait(seconds + 30))["gbit"] for client in running)
    for _, server in clients:
        server.kill()
    return {"gbit": total}


def virtual_machines(build):
    """The test's own output; it, or what makes its guests, ends with 77 and a reason where it cannot run."""
    for script in ("build.sh", "test_pair.sh"):
        done = subprocess.run([os.path.join(ROOT, "tests", "vm", script)], text=True,
                              env=os.environ | {"T_BUILD": build, "T_NOISY": "1"}, timeout=900,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        if done.returncode == 77:
            raise Unavailable(done.stdout.strip().splitlines()[-1])
        if done.returncode:
            raise Failed(f"{script}: {done.stdout[-1000:]}")
    return done.stdout


def many(world, contestant, cpus, seconds, streams, warm, idle=0.0):
    """bench_many; with idle, what all processes use of a processor meanwhile, agents too."""
    where = place(world, contestant, port := world.port())
    server = world.spawn("server", contestant, cpus[0],
                         [program(world, "bench_many"), "serve", where])
    world.listens(server, port)
    before = world.memory()
    client = world.spawn("client", contestant, cpus[1], [
        program(world, "bench_many"), "run", where, "--streams", streams, "--warm", warm, "--idle",
        idle, "--seconds", seconds])
    world.reads(client, "idle\n", 120)
    told = {}
    if idle:
        # What is still settling is not idle yet; it has half of the time.
        time.sleep(idle / 2)
        used = world.usage(contestant), world.agents_usage()
        time.sleep(idle / 3)
        now = world.usage(contestant), world.agents_usage()
        told["idle_percent"] = (now[0] - used[0]) / (idle / 3) * 100
        told["agents_percent"] = (now[1] - used[1]) / (idle / 3) * 100
    if contestant.policy:
        told["on_ring"] = world.stats("A")["streams_now_on_ring"]
    memory = world.memory()
    if streams > 1:
        for key, value in memory.items():
            told[key + "_kib"] = (value - before[key]) / streams / 1024
    text = client.wait(idle + seconds + 60)
    told |= json.loads(text.splitlines()[-1])
    del told["messages"]
    server.kill()
    return told


def moves(world, contestant, cpus, pause_us):
    """bench_moves"""
    where = place(world, contestant, port := world.port())
    server = world.spawn("server", contestant, cpus[0],
                         [program(world, "bench_stream"), "serve", where])
    world.listens(server, port)
    client = world.spawn("client", contestant, cpus[1], [
        program(world, "bench_moves"), where, "--streams", 5, "--pause", pause_us])
    told = json.loads(client.wait(120))
    del told["streams"]
    server.kill()
    return told


def toggled(world, contestant, cpus, seconds, cycles):
    """bench_stream rr while the client's agent drains and resumes so many times; round trips a second"""
    where = place(world, contestant, port := world.port())
    server = world.spawn("server", contestant, cpus[0],
                         [program(world, "bench_stream"), "serve", where])
    world.listens(server, port)
    client = world.spawn("client", contestant, cpus[1], [
        program(world, "bench_stream"), "rr", where, "--size", 64, "--seconds", seconds])
    before = world.stats("A")["switches_to_tcp"]
    time.sleep(0.3)
    for _ in range(cycles):
        world.ctl("A", "drain")
        world.ctl("A", "resume")
        time.sleep((seconds - 0.6) / cycles / 2)
    told = json.loads(client.wait(seconds + 60))
    server.kill()
    return {"rps": told["per_second"], "p999_us": told["p999_us"],
            "switches": world.stats("A")["switches_to_tcp"] - before}


def fill_directory(world, count):
    """In both guests' regions."""
    for guest in "AB":
        run(program(world, "bench_directory"), world.region(guest), str(count))


def limits(world, cpus, seconds, what, size=64, ring=512 << 10):
    """bench_limits: ring, memcpy, line."""
    both = world.spawn("client", world.plain, None, [
        program(world, "bench_limits"), what, cpus[0], cpus[1], "--size", size, "--ring", ring,
        "--seconds", seconds])
    return json.loads(both.wait(seconds + 30))
