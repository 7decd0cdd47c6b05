# SPDX-License-Identifier: Apache-2.0
"""
goals.py - what is to be reached, looked up in the rows of a run

Each goal names the experiment that shows it, so "bench.py bulk" is its command. A goal is about a
ratio to the base of its row, or about the quotient with another row, round by round.
"""
import statistics
from dataclasses import dataclass


@dataclass
class Goal:
    text: str
    experiment: str
    cell: str
    metric: str
    bar: float
    at_least: bool = True
    who: str = "auto"
    over: tuple = ()  # (cell, metric, contestant) of the other row; empty: the row's own ratio


def at_most(*args, **options):
    return Goal(*args, at_least=False, **options)


GOALS = (
    Goal("bulk, iperf3 128 KiB, over TCP", "bulk", "128K, 1 stream", "gbit", 5),
    Goal("bulk, iperf3 1 KiB, over TCP", "bulk", "1K, 1 stream", "gbit", 2),
    Goal("bulk, iperf3 64 B, over TCP", "bulk", "64, 1 stream", "gbit", 1.5),
    Goal("5 streams over one", "bulk", "128K, 5 streams", "gbit", 0.9,
         over=("128K, 1 stream", "gbit", "auto")),
    *(Goal(f"own sender and receiver, {size} B, over the bare ring", "stream", f"bulk {size}",
           "gbit", 0.8, over=(f"bulk {size}", "gbit", "ring"))
      for size in (64, 1024, 4096, 16384, 131072, 1048576)),
    *(at_most(f"sockperf 64 B, {mode}, two processors, median over TCP's", "latency",
              f"64, {mode}", "p50_us", 1 / 30) for mode in ("blocking", "epoll", "poll", "select")),
    *(at_most(f"the same, {mode}: microseconds one way", "latency", f"64, {mode}", "p50_us", 1.0,
              over=(None, 1.0)) for mode in ("blocking", "epoll", "poll", "select")),
    *(at_most(f"the same, {mode}: one way over a cache line there and back", "latency", f"64, {mode}",
              "p50_us", 2.0, over=(f"64, {mode}", "p50_us", "line"))
      for mode in ("blocking", "epoll", "poll", "select")),
    *(at_most(f"the same, {mode}: 99th percentile over TCP's median", "latency", f"64, {mode}",
              "p99_us", 1.0, over=(f"64, {mode}", "p50_us", "tcp"))
      for mode in ("blocking", "epoll", "poll", "select")),
    Goal("bulk, iperf3 128 KiB, one processor, over TCP", "one-core", "bulk 128K", "gbit", 1.3),
    *(at_most(f"sockperf 64 B, {mode}, one processor, median over TCP's", "one-core",
              f"latency 64, {mode}", "p50_us", 1.05) for mode in ("blocking", "epoll")),
    *(goal for cell, bar in (("redis, 50 clients", 2), ("redis, 50 clients, -P 16", 1.3),
                             ("nginx 1 KiB, 16 connections", 1.5), ("pgbench -S, 8 clients", 1.3))
      for goal in (Goal(f"{cell}: requests over TCP's", "apps", cell, "rps", bar),
                   at_most(f"{cell}: processor time per request over TCP's", "apps", cell, "cpu_us",
                           1.0))),
    *(Goal(f"left alone, {size} B: calls per second over TCP's", "untouched", str(size), "rps", 0.99)
      for size in (4, 16, 32, 64, 1024, 16384)),
    *(Goal(f"not co-resident, {entries} entries, {cell}, over TCP", "directory",
           f"{entries} entries, {cell}", metric, 0.99)
      for entries in (10, 1000, 100000)
      for cell, metric in (("bulk 4", "gbit"), ("bulk 64", "gbit"), ("bulk 1024", "gbit"),
                           ("bulk 16384", "gbit"), ("rr 64", "rps"))),
    Goal("short connections, a processor each, over TCP", "short", "a processor each", "rps", 0.97),
    Goal("short connections, one processor, over TCP", "short", "one processor", "rps", 0.97),
    at_most("busy stream beside 10,000 idle moved ones: median over the same alone", "many",
            "rr 64, epoll", "p50_us", 1.05, who="always, 10001 streams",
            over=("rr 64, epoll", "p50_us", "always, 1 streams")),
    at_most("10,000 idle moved streams: percent of a processor, both sides", "many", "rr 64, epoll",
            "idle_percent", 0.5, who="always, 10001 streams", over=(None, 1.0)),
)


def judged(rows):
    """(goal, value, holds) of each goal that there are rows for."""
    by_name = {(r["experiment"], r["cell"], r["metric"], r["contestant"]): r for r in rows}
    for goal in GOALS:
        row = by_name.get((goal.experiment, goal.cell, goal.metric, goal.who))
        if not row:
            continue
        if not goal.over:
            if "ratio" not in row or row["contestant"] == row["base"]:
                continue
            value = row["ratio"]
        elif goal.over[0] is None:
            value = row["median"]
        else:
            other = by_name.get((goal.experiment, *goal.over))
            if not other:
                continue
            value = statistics.median(a / b for a, b in zip(row["values"], other["values"]))
        yield goal, value, value >= goal.bar if goal.at_least else value <= goal.bar


def table(rows):
    """Markdown; empty if there are rows for none of them."""
    lines = []
    for goal, value, holds in judged(rows):
        lines.append(f"| {goal.text} | {'at least' if goal.at_least else 'at most'} {goal.bar:.3g} | "
                     f"{value:.3g} | {'yes' if holds else 'no'} | `bench.py {goal.experiment}` |")
    if not lines:
        return ""
    return "\n".join(["| goal | bar | reached | | command |", "|---|---|---|---|---|", *lines]) + "\n"
