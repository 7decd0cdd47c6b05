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
        Check("bulk, iperf3, 128 KiB", "auto", "gbit", True, 2.0,
              lambda c: tools.iperf3(w, c, s.two, 1, "128K")),
        Check("bulk, own, 1 KiB", "auto", "gbit", True, 1.3,
              lambda c: own.stream(w, c, s.two, 0.5, "bulk", 1024)),
        Check("request-response, 64 B, two processors", "auto", "p50_us", False, 0.1,
              lambda c: own.stream(w, c, s.two, 0.5, "rr", 64)),
        Check("request-response, 64 B, one processor", "auto", "p50_us", False, 1.25,
              lambda c: own.stream(w, c, s.one, 0.5, "rr", 64)),
        Check("bulk, one processor, 128 KiB", "auto", "gbit", True, 0.7,
              lambda c: own.stream(w, c, s.one, 0.5, "bulk", 131072)),
        Check("short connections, one processor", "auto", "rps", True, 0.75,
              lambda c: own.short(w, c, s.one, 0.5)),
        Check("redis, 50 clients", "auto", "rps", True, 0.6,
              lambda c: tools.redis(w, c, s.two, 0.5)),
    )


def checks_apart(s, w):
    return (
        Check("not co-resident: bulk 1 KiB, one processor", "auto", "gbit", True, 0.85,
              lambda c: own.stream(w, c, s.one, 0.5, "bulk", 1024)),
        Check("not co-resident: request-response, one processor", "auto", "p50_us", False, 1.15,
              lambda c: own.stream(w, c, s.one, 0.5, "rr", 64)),
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
    for apart, make in ((False, checks), (True, checks_apart)):
        with session.world(apart=apart) as w:
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
