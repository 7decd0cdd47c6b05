# SPDX-License-Identifier: Apache-2.0
"""
quick.py - the regression gate: a few ratios against bars, in about two minutes

The bars are not the goals: they lie so far below what is reached that noise does not trip them, and
so far above what a broken fast path gives that this does. Each ratio is taken side by side, no time
is looked at. A check that does not pass after three rounds gets more, up to MOST, and is judged by the
median of all: what disturbs a machine for a second does not fail it, a regression does.
"""
import operator
import statistics
from dataclasses import dataclass
from typing import Callable

import own
import tools
from measure import progress, ratios
from world import Failed, Unavailable, contestants

LEAST, MOST = 3, 9


@dataclass
class Check:
    text: str
    who: str
    metric: str
    at_least: bool
    bar: float
    sample: Callable


def checks(s, w):
    return (
        Check("bulk, iperf3, 128 KiB", "auto", "gbit", True, 1.5,
              lambda c: tools.iperf3(w, c, s.two, 1, "128K")),
        Check("bulk, iperf3, 64 B", "auto", "gbit", True, 2.0,
              lambda c: tools.iperf3(w, c, s.two, 1, "64")),
        Check("bulk, own, 1 KiB", "auto", "gbit", True, 8.0,
              lambda c: own.stream(w, c, s.two, 0.5, "bulk", 1024)),
        Check("request-response, 64 B, two processors", "auto", "p50_us", False, 0.1,
              lambda c: own.stream(w, c, s.two, 0.5, "rr", 64)),
        Check("request-response, 64 B, one processor", "auto", "p50_us", False, 1.3,
              lambda c: own.stream(w, c, s.one, 0.5, "rr", 64)),
        Check("bulk, one processor, 16 KiB", "auto", "gbit", True, 1.3,
              lambda c: own.stream(w, c, s.one, 0.5, "bulk", 16384)),
        Check("short connections, one processor", "auto", "rps", True, 0.75,
              lambda c: own.short(w, c, s.one, 0.5)),
        Check("redis, 50 clients", "auto", "rps", True, 0.95,
              lambda c: tools.redis(w, c, s.two, 0.5)),
        Check("nginx 1 KiB, 16 connections", "auto", "rps", True, 1.2,
              lambda c: tools.wrk(w, c, s.two, 1)),
        Check("pgbench -S, 8 clients", "auto", "rps", True, 1.0,
              lambda c: tools.pgbench(w, c, s.two, 1)),
    )


def checks_alone(s, w):
    return (
        Check("left alone: calls on a stream of 64 B messages", "auto", "rps", True, 0.9,
              lambda c: own.self_talk(w, c, s.two, 0.5, 64)),
    )


def judge(world, check):
    """Prints the verdict; False: failed."""
    base, other = contestants("tcp", check.who)
    holds = operator.ge if check.at_least else operator.le
    samples = {base.name: [], other.name: []}
    while True:
        for contestant in (base, other):
            world.clear()
            samples[contestant.name].append(check.sample(contestant))
        got = ratios(samples, other.name, base.name, check.metric)
        middle = statistics.median(got)
        if len(got) >= MOST or (len(got) >= LEAST and holds(middle, check.bar)):
            break
    good = holds(middle, check.bar)
    print(f"{'PASS' if good else 'FAIL'}  {check.text}: {check.metric} {middle:.3g} of TCP's, "
          f"{min(got):.3g} to {max(got):.3g} in {len(got)} rounds; "
          f"bar: at {'least' if check.at_least else 'most'} {check.bar:g}", flush=True)
    return good


def run(session):
    """Return: 1 if a ratio has fallen, or a program failed."""
    failed = 0
    for conf, make in (("", checks), ("[residency]\nloopback = no", checks_alone)):
        with session.world(conf=conf) as w:
            for check in make(session, w):
                try:
                    failed += not judge(w, check)
                except Unavailable as why:
                    print(f"SKIP  {check.text}: {why}")
                except Failed as why:
                    print(f"FAIL  {check.text}: {why}")
                    failed += 1
    progress("bench-quick: " + ("a ratio has fallen" if failed else "all ratios hold"))
    return 1 if failed else 0
