# SPDX-License-Identifier: Apache-2.0
"""
own.py - one run of a measuring program of our own (bench/src/), as tools.py does it for public ones
"""
import json
import os

from tools import Metered


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
        return {"p50_us": told["p50_us"], "p99_us": told["p99_us"],
                "cpu_us": used * 1e6 / told["messages"]}
    return {"gbit": told["gbit"], "cpu_ns_kib": used * 1e9 / (told["messages"] * size / 1024)}


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


def limits(world, cpus, seconds, what, size=64, ring=512 << 10):
    """bench_limits: ring, memcpy, line."""
    both = world.spawn("client", world.plain, None, [
        program(world, "bench_limits"), what, cpus[0], cpus[1], "--size", size, "--ring", ring,
        "--seconds", seconds])
    return json.loads(both.wait(seconds + 30))
