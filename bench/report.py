# SPDX-License-Identifier: Apache-2.0
"""
report.py - results.json, results.md and the plots
"""
import json
import os

import goals
import plan
import plots
from world import CONTESTANTS

METRICS = {
    "gbit": "Gbit/s", "p50_us": "median, µs", "p99_us": "99th percentile, µs", "rps": "per second",
    "cpu_us": "processor time of both sides per request, µs",
    "p999_us": "99.9th percentile, µs", "set_rps": "SET per second", "get_rps": "GET per second",
    "region_kib": "memory of the region per stream, KiB",
    "programs_kib": "private memory of both programs per stream, KiB",
    "idle_percent": "percent of a processor, both programs, all streams idle",
    "agents_percent": "percent of a processor, both agents, all streams idle",
    "on_ring": "streams on a ring", "switches": "times back to TCP",
    "local_gbit": "of these the co-resident streams, Gbit/s",
    "remote_gbit": "of these the remote streams, Gbit/s",
    "first_by_ring_us": "from connect to the end of the first round trip by ring, µs",
    "messages_before": "round trips by TCP before that",
    "first_ring_message_us": "that first round trip by ring, µs",
    "tcp_message_us": "a round trip by TCP before, µs",
    "ring_message_us": "a round trip by ring after, µs",
    "woken_message_us": "the first round trip after a pause of 2 ms, µs",
    "messages_until_ring": "round trips by TCP after a pause until one goes by ring",
    "cpu_ns_kib": "processor time of both sides per KiB, ns",
}


def number(value):
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


def cell_text(row):
    text = number(row["median"])
    if "ratio" in row and row["contestant"] != row["base"]:
        text += f" (**{row['ratio']:.3g}**; {row['ratio_min']:.3g} to {row['ratio_max']:.3g})"
    return text


def unique(values):
    return list(dict.fromkeys(values))


def table(rows):
    names = unique(r["contestant"] for r in rows)
    lines = ["| | " + " | ".join(names) + " |", "|---|" + "---|" * len(names)]
    for cell in unique(r["cell"] for r in rows):
        by_name = {r["contestant"]: r for r in rows if r["cell"] == cell}
        lines.append(f"| {cell} | " + " | ".join(
            cell_text(by_name[n]) if n in by_name else "-" for n in names) + " |")
    return "\n".join(lines)


HEAD = """# Results

A figure is the median of the rounds. In brackets: its ratio to the first column, the median of the rounds' ratios, with
the least and the greatest. For times less is better.
"""


def markdown(everything, made):
    rows = everything["rows"]
    out = [HEAD]
    goals_table = goals.table(rows)
    if goals_table:
        out += ["## Goals", "", goals_table]
    out += [f"![{name}]({name})\n" for name in made if name.endswith(".svg")]
    for name in [n for n in plan.EXPERIMENTS if n in everything["runs"]]:
        facts = everything["runs"][name]
        out += [f"## {name}", "", plan.EXPERIMENTS[name].__doc__.strip() + ".", "",
                f"{facts['cpu']}, {facts['processors']} processors, Linux {facts['kernel']}; "
                f"{facts['date']}, load {facts['load']:.1f} at the start; commit {facts['commit']}; "
                f"samples of {facts['seconds']} s. Server on processor {facts['server_cpu']}, client "
                f"on {facts['client_cpu']}, unless the line says otherwise.", ""]
        for metric in unique(r["metric"] for r in rows if r["experiment"] == name):
            some = [r for r in rows if r["experiment"] == name and r["metric"] == metric]
            out += [f"{METRICS.get(metric, metric)}:", "", table(some), ""]
    if everything["skipped"]:
        out += ["## Left out", ""]
        out += [f"- {s['experiment']}, {s['cell']}, {s['contestant']}: {s['why']}"
                for s in everything["skipped"]]
        out.append("")
    out += ["## Contestants", ""]
    out += [f"- {c.name}: {c.text}" for c in CONTESTANTS.values()]
    return "\n".join(out) + "\n"


def merged(path, now):
    """What an earlier run has left, with the experiments of this one in place of its own."""
    try:
        with open(path, encoding="utf-8") as old:
            before = json.load(old)
    except FileNotFoundError:
        return now
    done = set(now["runs"]) | {s["experiment"] for s in now["skipped"]}
    return {"runs": before["runs"] | now["runs"]} | {
        key: [row for row in before[key] if row["experiment"] not in done] + now[key]
        for key in ("rows", "skipped")}


def write(folder, now):
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, "results.json")
    everything = merged(path, now)
    with open(path, "w", encoding="utf-8") as out:
        json.dump(everything, out, indent=1)
    made = plots.draw(folder, everything["rows"])
    with open(os.path.join(folder, "results.md"), "w", encoding="utf-8") as out:
        out.write(markdown(everything, made))
