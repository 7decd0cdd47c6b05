# SPDX-License-Identifier: Apache-2.0
"""
plots.py - two plots from the rows of the experiment "stream", by gnuplot, SVG and PNG each: bulk
throughput and the time of a round trip, by message size
"""
import os
import re
import shutil
import subprocess

PLOTS = (
    ("bulk", "gbit", "Bulk: our own sender and receiver, a processor each", "Gbit/s",
     ("memcpy", "ring", "always", "auto", "unix", "sockmap", "tcp-lo", "tcp")),
    ("rr", "p50_us", "Request and response: median of a round trip, a processor each",
     "microseconds", ("tcp", "tcp-lo", "sockmap", "unix", "auto", "always")),
)
# What it is called, and its colour in every plot.
CURVES = {
    "memcpy": ("limit: memcpy", "#999999"), "ring": ("limit: bare ring", "#555555"),
    "auto": ("coloc, auto", "#d62728"), "always": ("coloc, always", "#ff9896"),
    "unix": ("UNIX stream socket", "#2ca02c"), "sockmap": ("eBPF sockmap", "#9467bd"),
    "tcp-lo": ("TCP, loopback", "#17becf"), "tcp": ("TCP, veth", "#1f77b4"),
}
SCRIPT = """
set terminal {terminal}
set output '{output}'
set title '{title}'
set logscale xy
set xtics ({ticks})
set xlabel 'message size, bytes'
set ylabel '{unit}'
set key outside right
set grid
set style data yerrorlines
plot {curves}
"""


def name_of(size):
    if size >= 1 << 20:
        return f"{size >> 20}M"
    return f"{size >> 10}K" if size >= 1 << 10 else str(size)


def curve_of(rows, mode, metric, who):
    """(size, median, min, max), by size"""
    points = []
    for row in rows:
        cell = re.fullmatch(mode + r" (\d+)", row["cell"])
        if (cell and row["experiment"] == "stream" and row["metric"] == metric
                and row["contestant"] == who):
            points.append((int(cell[1]), row["median"], row["min"], row["max"]))
    return sorted(points)


def draw(folder, rows):
    """Return: names of the files made; none without gnuplot or without the experiment."""
    made = []
    if not shutil.which("gnuplot"):
        return made
    for mode, metric, title, unit, order in PLOTS:
        curves, data, sizes = [], [], set()
        for who in order:
            points = curve_of(rows, mode, metric, who)
            if not points:
                continue
            sizes.update(p[0] for p in points)
            name = f"$curve{len(data)}"
            data.append(f"{name} << END\n" + "\n".join(" ".join(map(str, p)) for p in points) + "\nEND\n")
            called, colour = CURVES[who]
            curves.append(f"{name} title '{called}' linewidth 2 linecolor rgb '{colour}'")
        if not curves:
            continue
        ticks = ", ".join(f"'{name_of(s)}' {s}" for s in sorted(sizes))
        for kind, terminal in (("svg", "svg size 900,480 background 'white'"),
                               ("png", "pngcairo size 900,480")):
            output = os.path.join(folder, f"{mode}.{kind}")
            script = "".join(data) + SCRIPT.format(
                terminal=terminal, output=output, title=title, ticks=ticks, unit=unit,
                curves=", \\\n\t".join(curves))
            subprocess.run(["gnuplot"], input=script, text=True, check=True, timeout=60)
            made.append(f"{mode}.{kind}")
    return made
