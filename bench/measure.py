# SPDX-License-Identifier: Apache-2.0
"""
measure.py - side by side: contestants in turn, round by round, and what comes out as a ratio

Machines are noisy, and the noise is slow: what disturbs one run disturbs its neighbour as well. So
each round runs every contestant once, A B C, the next one C B A, and a ratio is taken within a
round. A figure is the median of the rounds; a ratio is the median of the rounds' ratios; the least
and the greatest of each are kept. There are at least three rounds, and more until the middle half of
each ratio lies within SPREAD of its median, or the bound is hit.
"""
import statistics
import sys
import time

from world import Failed, Unavailable

SPREAD = 0.05


def quartiles(values):
    if len(values) < 2:
        return values[0], values[0]
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, high


def spread(values):
    """Width of the middle half, as a part of the median."""
    middle = statistics.median(values)
    if len(values) < 2 or middle == 0:
        return 0.0
    low, high = quartiles(values)
    return (high - low) / middle


def progress(text):
    print(text, file=sys.stderr, flush=True)


class Results:
    """All rows of a run, and what was not measured and why."""

    def __init__(self, rounds, rounds_max, cell=""):
        self.rows, self.skipped = [], []
        self.cell = cell
        self.rounds, self.rounds_max = rounds, rounds_max

    def skip(self, experiment, cell, who, why):
        self.skipped.append({"experiment": experiment, "cell": cell, "contestant": who, "why": why})
        progress(f"  {experiment} {cell}: {who} left out: {why}")

    def compare(self, world, experiment, cell, contestants, sample, base=None, main=None, note="",
                rounds=None):
        """
        sample(contestant) returns {metric: value}; the first contestant is the base unless another
        is named. main: the metric whose ratio must be steady (the first one of the sample).
        """
        if self.cell not in cell:
            return
        left = list(contestants)
        samples = {c.name: [] for c in left}
        base = base or left[0].name
        count = 0
        least = rounds or self.rounds
        most = max(least, self.rounds_max if rounds is None else rounds)
        while count < most:
            for contestant in list(left if count % 2 == 0 else reversed(left)):
                began = time.monotonic()
                world.clear()
                try:
                    got = sample(contestant)
                except Unavailable as why:
                    if contestant.name == base:
                        raise
                    self.skip(experiment, cell, contestant.name, str(why))
                    left.remove(contestant)
                    del samples[contestant.name]
                    continue
                except Failed as why:
                    # Once more; a program that fails twice is a result, too.
                    progress(f"  {experiment} {cell}: {contestant.name} failed: {why}")
                    world.clear()
                    got = sample(contestant)
                samples[contestant.name].append(got)
                shown = "  ".join(f"{k} {v:.4g}" for k, v in got.items())
                progress(f"  {experiment} {cell} #{count + 1} {contestant.name:8s} {shown}"
                         f"  ({time.monotonic() - began:.1f} s)")
            count += 1
            metric = main or next(iter(samples[base][0]))
            widest = max((spread(ratios(samples, c.name, base, metric))
                          for c in left if c.name != base and metric in samples[c.name][0]),
                         default=0.0)
            if count >= least and widest <= SPREAD:
                break
        for name, got in samples.items():
            for metric in got[0]:
                self.add(experiment, cell, metric, name, [s[metric] for s in got if metric in s],
                         base if metric in samples[base][0] else None,
                         ratios(samples, name, base, metric) if metric in samples[base][0] else None,
                         note)

    def add(self, experiment, cell, metric, contestant, values, base=None, ratio=None, note=""):
        row = {
            "experiment": experiment, "cell": cell, "metric": metric, "contestant": contestant,
            "median": statistics.median(values), "min": min(values), "max": max(values),
            "rounds": len(values), "values": values, "note": note,
        }
        if base is not None and ratio:
            row.update(base=base, ratio=statistics.median(ratio), ratio_min=min(ratio),
                       ratio_max=max(ratio), ratio_spread=spread(ratio))
        self.rows.append(row)
        return row


def ratios(samples, name, base, metric):
    """Round by round."""
    return [s[metric] / b[metric] for s, b in zip(samples[name], samples[base])
            if metric in s and b.get(metric)]
