# SPDX-License-Identifier: Apache-2.0
"""
plan.py - the experiments: which cells, which contestants, how long

An experiment is a function of a Session (the results, the build, how long a sample takes). Its
docstring is what --list and the tables say about it.
"""
import re
from dataclasses import replace

import own
import tools
from world import CONTESTANTS, Unavailable, World, contestants, processors


class Session:
    def __init__(self, results, build, seconds, only=None):
        self.results, self.build, self.seconds, self.only = results, build, seconds, only
        cpus = processors()
        self.first, self.last = str(cpus[0]), str(cpus[-1])
        self.two = (self.first, self.last)  # server, client: a processor each
        self.one = (self.first, self.first)  # both on one
        self.free = (f"{self.first},{self.last}",) * 2  # wherever the kernel puts them

    def world(self, **options):
        return World(self.build, **options)

    def compare(self, world, experiment, cell, names, sample, **options):
        if self.only:
            names = [n for n in self.only if n in names]
        if not names:
            return
        try:
            self.results.compare(world, experiment, cell, contestants(*names), sample, **options)
        except Unavailable as why:
            self.results.skip(experiment, cell, "all", str(why))


def bulk(s):
    """iperf3, a processor each: by message size, by number of streams, backwards and both ways"""
    names = ("tcp", "tcp-lo", "auto", "always", "sockmap")
    with s.world() as w:
        for size in ("128K", "8K", "1K", "64"):
            s.compare(w, "bulk", f"{size}, 1 stream", names,
                      lambda c, z=size: tools.iperf3(w, c, s.two, s.seconds, z))
        for streams in (5, 20):
            s.compare(w, "bulk", f"128K, {streams} streams", names,
                      lambda c, n=streams: tools.iperf3(w, c, s.two, s.seconds, "128K", n))
        for name, flag in (("reverse", "-R"), ("bidir", "--bidir")):
            s.compare(w, "bulk", f"128K, {name}", names,
                      lambda c, f=flag: tools.iperf3(w, c, s.two, s.seconds, "128K", 1, (f,)))


def latency(s):
    """sockperf ping-pong, 64 bytes, a processor each: by how it waits; microseconds one way. line: a cache line there and back"""
    with s.world() as w:
        for mode in ("blocking", "epoll", "poll", "select"):
            def sample(c, mode=mode):
                if c.name == "line":
                    return {"p50_us": own.limits(w, s.two, s.seconds / 2, "line")["p50_us"]}
                return tools.sockperf(w, c, s.two, s.seconds, 64, mode)
            s.compare(w, "latency", f"64, {mode}", ("tcp", "tcp-lo", "auto", "line", "always",
                                                    "sockmap"), sample)


def one_core(s):
    """both sides on one processor: iperf3 128K and sockperf 64"""
    with s.world() as w:
        s.compare(w, "one-core", "bulk 128K", ("tcp", "auto", "always"),
                  lambda c: tools.iperf3(w, c, s.one, s.seconds, "128K"))
        for mode in ("blocking", "epoll"):
            s.compare(w, "one-core", f"latency 64, {mode}", ("tcp", "auto", "always"),
                      lambda c, m=mode: tools.sockperf(w, c, s.one, s.seconds, 64, m))


def stream(s):
    """our own sender and receiver, a processor each: bulk against the bare ring, and round trips"""
    with s.world() as w:
        for size in (64, 1024, 4096, 16384, 131072, 1048576):
            def sample(c, size=size):
                if c.name in ("ring", "memcpy"):
                    return {"gbit": own.limits(w, s.two, s.seconds, c.name, size)["gbit"]}
                return own.stream(w, c, s.two, s.seconds, "bulk", size)
            # Below that it is not the copying that takes the time.
            names = ("memcpy",) if size >= 4096 else ()
            s.compare(w, "stream", f"bulk {size}", ("tcp", "ring", "auto", "always", "unix",
                                                    "tcp-lo", "sockmap", *names), sample)
        for size in (1, 64, 1024, 16384):
            s.compare(w, "stream", f"rr {size}", ("tcp", "auto", "always", "unix", "tcp-lo", "sockmap"),
                      lambda c, z=size: own.stream(w, c, s.two, s.seconds, "rr", z))


def apps(s):
    """applications, a processor each: redis, nginx, PostgreSQL; requests per second, and processor time of both sides per request"""
    names = ("tcp", "tcp-lo", "auto", "always", "unix")
    with s.world() as w:
        s.compare(w, "apps", "redis, 50 clients", names,
                  lambda c: tools.redis(w, c, s.two, s.seconds))
        s.compare(w, "apps", "redis, 50 clients, -P 16", names,
                  lambda c: tools.redis(w, c, s.two, s.seconds, 16))
        s.compare(w, "apps", "nginx 1 KiB, 16 connections", names[:-1],
                  lambda c: tools.wrk(w, c, s.two, s.seconds))
        s.compare(w, "apps", "pgbench -S, 8 clients", names,
                  lambda c: tools.pgbench(w, c, s.two, s.seconds))


def apart(s):
    """not co-resident: a region each, both sides preloaded; what the library costs a stream that it cannot move"""
    names = ("tcp", "auto", "always")
    with s.world(apart=True) as w:
        for size in (64, 1024, 8192, 131072):
            s.compare(w, "apart", f"bulk {size}", names,
                      lambda c, z=size: own.stream(w, c, s.two, s.seconds, "bulk", z))
        for size in (64, 1024):
            s.compare(w, "apart", f"rr {size}, one processor", names,
                      lambda c, z=size: own.stream(w, c, s.one, s.seconds, "rr", z))


def directory(s):
    """not co-resident, with entries in the directory, both sides preloaded, on one processor, where every instruction of the library counts: what it costs a stream that it cannot move, by message size, and a connection"""
    # A hundredth is to be seen: many short rounds.
    seconds = s.seconds / 4
    for entries in (10, 1000, 100000):
        with s.world(apart=True, region="size = 1G") as w:
            own.fill_directory(w, entries)
            for size in (4, 64, 1024, 16384):
                s.compare(w, "directory", f"{entries} entries, bulk {size}", ("tcp", "auto"),
                          lambda c, z=size: own.stream(w, c, s.one, seconds, "bulk", z), rounds=25)
            s.compare(w, "directory", f"{entries} entries, rr 64", ("tcp", "auto"),
                      lambda c: own.stream(w, c, s.one, seconds, "rr", 64), main="rps", rounds=25)
            s.compare(w, "directory", f"{entries} entries, short", ("tcp", "auto"),
                      lambda c: own.short(w, c, s.one, seconds), rounds=25)


def untouched(s):
    """a stream that the library leaves alone (residency.loopback = no), both ends in one thread, so that nobody is woken: pairs of send and recv per second, by message size"""
    with s.world(conf="[residency]\nloopback = no") as w:
        for size in (4, 16, 32, 64, 1024, 16384):
            s.compare(w, "untouched", f"{size}", ("tcp", "auto"),
                      lambda c, z=size: own.self_talk(w, c, s.two, s.seconds / 4, z), rounds=25)


def shares(s):
    """five streams from one process, 16 KiB messages: so many co-resident, the rest remote"""
    with s.world(remote=True) as w:
        for local in range(6):
            s.compare(w, "shares", f"{5 - local} remote, {local} local", ("tcp", "auto"),
                      lambda c, n=local: own.shares(w, c, s.two, s.seconds, n, 5 - n))


def pairs(s):
    """several pairs at once, a process each: the sum; servers on the first processor, clients on the last"""
    with s.world() as w:
        for count in (2, 4):
            s.compare(w, "pairs", f"{count} pairs, bulk 16384", ("tcp", "auto", "unix"),
                      lambda c, n=count: own.pairs(w, c, s.two, s.seconds, n))


def vm(s):
    """two virtual machines on QEMU that share an ivshmem device, by tests/vm/test_pair.sh: iperf3 128K and sockperf 64"""
    text = own.virtual_machines(s.build)
    for what, metric in (("iperf3", "gbit"), ("sockperf", "p50_us")):
        found = re.search(what + r": TCP ([\d.]+) \S+, coloc ([\d.]+) ", text)
        tcp, auto = float(found[1]), float(found[2])
        s.results.add("vm", what, metric, "tcp", [tcp], "tcp", [1.0])
        s.results.add("vm", what, metric, "auto", [auto], "tcp", [auto / tcp])


def places(s):
    """where the two sides run: on two processors, on one, unpinned, and each with a third process that is busy on the client's"""
    with s.world() as w:
        for busy in (False, True):
            for name, cpus in (("two processors", s.two), ("one", s.one), ("unpinned", s.free)):
                def loaded(sample, cpus=cpus):
                    def run_one(c):
                        if busy:
                            w.spawn("client", w.plain, cpus[1], ["sh", "-c", "while :; do :; done"])
                        return sample(c)
                    return run_one
                cell = name + (", a third is busy" if busy else "")
                s.compare(w, "places", f"bulk 16384, {cell}", ("tcp", "auto", "always"),
                          loaded(lambda c, p=cpus: {"gbit": own.stream(
                              w, c, p, s.seconds, "bulk", 16384)["gbit"]}))
                s.compare(w, "places", f"rr 64, {cell}", ("tcp", "auto", "always"),
                          loaded(lambda c, p=cpus: {k: v for k, v in own.stream(
                              w, c, p, s.seconds, "rr", 64).items() if k != "cpu_us"}))


def buffers(s):
    """our own sender and receiver by message size and by SO_SNDBUF and SO_RCVBUF"""
    with s.world() as w:
        for sockbuf in (16384, 65536, 262144):
            for size in (1, 64, 1024, 16384, 131072, 1048576):
                s.compare(w, "buffers", f"{sockbuf}, bulk {size}", ("tcp", "auto", "unix"),
                          lambda c, z=size, b=sockbuf: own.stream(
                              w, c, s.two, s.seconds, "bulk", z, 1, b), rounds=3)


def many(s):
    """10,000 moved idle streams beside a busy one, epoll, a processor each; memory per stream; idle processor time"""
    with s.world(region="size = 4G\nring_bytes = 64K", conf="[access]\nmax_streams = 32768") as w:
        for name in ("tcp", "always"):
            few, lots = (replace(CONTESTANTS[name], name=f"{name}, {n} streams")
                         for n in (1, 10001))

            def sample(c, lots=lots):
                if c is lots:
                    return own.many(w, c, s.two, s.seconds, 10001, 12, 6.0)
                return own.many(w, c, s.two, s.seconds, 1, 1200)
            s.results.compare(w, "many", "rr 64, epoll", (few, lots), sample, main="p50_us")


def moves(s):
    """time from connect to the first byte by ring, the cost of a move, of a leave, and of a drain"""
    with s.world() as w:
        s.compare(w, "moves", "64 bytes, a processor each", ("tcp", "auto", "always"),
                  lambda c: own.moves(w, c, s.two, 2000), main="woken_message_us", rounds=3)
        s.compare(w, "moves", "20 drains and resumes", ("tcp", "auto"),
                  lambda c: own.toggled(w, c, s.two, 3, 20))


def short(s):
    """short connections: connect, 64 bytes there and back, closed; per second"""
    with s.world() as w:
        for where, cpus in (("a processor each", s.two), ("one processor", s.one)):
            s.compare(w, "short", where, ("tcp", "tcp-lo", "auto", "always"),
                      lambda c, p=cpus: own.short(w, c, p, s.seconds))


def ucx(s):
    """another transport: UCX over shared memory, active messages, by ucx_perftest"""
    with s.world() as w:
        try:
            for size in (64, 4096, 131072):
                got = [tools.ucx(w, w.plain, s.two, s.seconds, "am_bw", size)["gbit"]
                       for _ in range(3)]
                s.results.add("ucx", f"{size}", "gbit", "ucx", got)
            got = [tools.ucx(w, w.plain, s.two, s.seconds, "am_lat", 64)["p50_us"] for _ in range(3)]
            s.results.add("ucx", "64, one way", "p50_us", "ucx", got)
        except Unavailable as why:
            s.results.skip("ucx", "ucx", "ucx", str(why))


EXPERIMENTS = {f.__name__.replace("_", "-"): f
               for f in (bulk, latency, one_core, stream, ucx, apps, apart, short, untouched, directory, shares,
                         pairs, places, many, moves, buffers, vm)}
