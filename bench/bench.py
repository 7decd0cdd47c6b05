#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""
bench.py - measure coloc beside every alternative on this machine; see README.md in this folder
"""
import argparse
import json
import os
import platform
import signal
import sys
import time

sys.dont_write_bytecode = True  # a source tree stays one

# pylint: disable=wrong-import-position
import plan
import report
from measure import Results, progress
from world import ROOT, Failed, Unavailable, processors, run


def arguments():
    parser = argparse.ArgumentParser(
        prog="bench.py", description="Every figure as a ratio, side by side in one run. Needs root.")
    parser.add_argument("what", nargs="*", help="experiments (default: all); see --list")
    parser.add_argument("--list", action="store_true", help="the experiments, and end")
    parser.add_argument("--build", default=os.path.join(ROOT, "build"), help="where the programs are")
    parser.add_argument("--out", default=os.path.join(ROOT, "bench", "results"),
                        help="folder for results.json, results.md and the plots; experiments that "
                             "are not run again stay in it")
    parser.add_argument("--seconds", type=int, default=2, help="length of one sample (2)")
    parser.add_argument("--rounds", type=int, default=3, help="least number of rounds (3)")
    parser.add_argument("--rounds-max", type=int, default=7,
                        help="most, while a ratio is not steady (7)")
    parser.add_argument("--only", metavar="NAME,...",
                        help="only these contestants; the first is what ratios are to")
    parser.add_argument("--cell", metavar="TEXT", default="",
                        help="only the lines of a table whose name contains this")
    parser.add_argument("--nice", type=int, default=-15,
                        help="priority of everything that is measured, so that what else runs "
                             "disturbs it less (-15)")
    parser.add_argument("--quick", action="store_true",
                        help="a few ratios against bars, in two minutes; 1 if one has fallen")
    parser.add_argument("--json", action="store_true", help="results on standard output as JSON")
    return parser.parse_args()


def machine():
    with open("/proc/cpuinfo", encoding="utf-8") as info:
        model = next((line.split(":", 1)[1].strip() for line in info if line.startswith("model name")),
                     "?")
    return {"cpu": model, "processors": len(processors()), "kernel": platform.release(),
            "load": os.getloadavg()[0], "date": time.strftime("%Y-%m-%d %H:%M", time.gmtime())}


def commit():
    try:
        return run("git", "-C", ROOT, "rev-parse", "--short", "HEAD").strip()
    except (Failed, FileNotFoundError):
        return "unknown"


def main():
    args = arguments()
    if args.list:
        for name, function in plan.EXPERIMENTS.items():
            print(f"{name:12s} {function.__doc__.strip()}")
        return 0
    unknown = [name for name in args.what if name not in plan.EXPERIMENTS]
    if unknown:
        sys.exit(f"bench.py: no experiment {', '.join(unknown)}; --list names them")
    if os.geteuid() != 0:
        sys.exit("bench.py: makes network namespaces and control groups, so it must be root")
    # TERM like ^C: the worlds are taken down on the way out, and what is complete is kept.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    os.setpriority(os.PRIO_PROCESS, 0, args.nice)
    results = Results(args.rounds, args.rounds_max, args.cell)
    session = plan.Session(results, os.path.realpath(args.build), args.seconds,
                           args.only.split(",") if args.only else None)
    facts = machine() | {"commit": commit(), "server_cpu": session.first, "client_cpu": session.last,
                         "seconds": args.seconds}
    status = 0
    try:
        if args.quick:
            import quick
            status = quick.run(session)
        else:
            names = args.what or list(plan.EXPERIMENTS)
            for count, name in enumerate(names):
                progress(f"[{count + 1}/{len(names)}] {name}: {plan.EXPERIMENTS[name].__doc__}")
                try:
                    plan.EXPERIMENTS[name](session)
                except (Failed, Unavailable) as why:
                    # The others can still be measured; only a program that failed is an error.
                    results.skip(name, "", "all", str(why))
                    status |= isinstance(why, Failed)
    except KeyboardInterrupt:
        progress("bench.py: ended by a signal; what is complete is kept")
        status = 130
    now = {"runs": {name: facts for name in {row["experiment"] for row in results.rows}},
           "rows": results.rows, "skipped": results.skipped}
    if not args.quick:
        report.write(args.out, now)
        progress(f"bench.py: {args.out}/results.md")
    if args.json:
        json.dump(now, sys.stdout, indent=1)
    return status


if __name__ == "__main__":
    sys.exit(main())
