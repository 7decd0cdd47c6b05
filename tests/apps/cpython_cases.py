# SPDX-License-Identifier: Apache-2.0
"""
cpython_cases.py - one module of CPython's own tests, case by case

    python3 cpython_cases.py run MODULE RECORDS SECONDS ONLY NOT
    python3 cpython_cases.py compare FOLDER MODE MODULE...

run appends a line of JSON to RECORDS as each case starts and as it ends, so that a process which
crashes or hangs still says how far it came. Called again with the same RECORDS it goes on behind the
case that it died in. A case that takes longer than SECONDS ends the process with every thread's
stack. ONLY, NOT: parts of the names of cases, between commas, that are taken, or left out; '' is all
of them, or none.

compare reads FOLDER/{first,second,MODE}/MODULE, the records of two plain runs and of the preloaded
one, and prints the table. What passed in both plain runs has to pass in the other.
Exit status: 0 no difference, 1 some, or nothing was compared, or nothing went by ring.
"""

import faulthandler
import importlib
import json
import os
import pathlib
import sys
import time
import unittest


class Records(unittest.TestResult):
    """Writes by a descriptor of its own for each line: tests close and replace what they find open."""

    def __init__(self, path, seconds):
        super().__init__()
        self.path = path
        self.seconds = seconds
        self.subtests = None

    def note(self, case, what, text=""):
        entry = {"case": case.id(), "what": what, "text": text, "at": round(time.monotonic(), 3)}
        line = json.dumps(entry) + "\n"
        fd = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        os.write(fd, line.encode())
        os.close(fd)

    def startTest(self, test):
        super().startTest(test)
        self.subtests = None
        self.note(test, "start")
        faulthandler.dump_traceback_later(self.seconds, exit=True, file=sys.__stderr__)

    def stopTest(self, test):
        faulthandler.cancel_dump_traceback_later()
        super().stopTest(test)

    def addSuccess(self, test):
        self.note(test, "ok")

    def addExpectedFailure(self, test, err):
        self.note(test, "ok")

    def addSkip(self, test, reason):
        # A skipped part of a case says nothing about the rest of it.
        if not isinstance(test, unittest.case._SubTest):
            self.note(test, "skip", reason)

    def addError(self, test, err):
        self.note(test, "fail", self._exc_info_to_string(err, test))

    addFailure = addError

    def addUnexpectedSuccess(self, test):
        self.note(test, "fail", "unexpected success")

    def addSubTest(self, test, subtest, err):
        if err is not None:
            self.note(test, "fail", f"{subtest}\n{self._exc_info_to_string(err, test)}")


def cases(suite):
    for test in suite:
        if isinstance(test, unittest.TestSuite):
            yield from cases(test)
        else:
            yield test


def read_records(path):
    """How each case ended: name -> (what, text). The worst counts; "died" if it has only a start."""
    found = {}
    if not path.exists():
        return found
    for line in path.read_text().splitlines():
        entry = json.loads(line)
        what, text = found.get(entry["case"], ("start", ""))
        if what == "fail":
            text += entry["text"]
        elif entry["what"] != "start":
            what, text = entry["what"], entry["text"]
        found[entry["case"]] = (what, text)
    return {case: ("died" if what == "start" else what, text) for case, (what, text) in found.items()}


def run(module, path, seconds, only, left_out):
    from test import support

    support.use_resources = ["subprocess", "network"]  # no large files, no long computations
    support.verbose = 0
    faulthandler.enable()
    over = read_records(pathlib.Path(path))
    tests = unittest.TestLoader().loadTestsFromModule(importlib.import_module("test." + module))

    def wanted(name):
        taken = not only or any(part in name for part in only.split(","))
        return taken and not (left_out and any(part in name for part in left_out.split(",")))

    suite = unittest.TestSuite(
        test for test in cases(tests) if wanted(test.id()) and test.id() not in over
    )
    suite.run(Records(path, seconds))
    # Threads that a failed case has left behind do not hold us up.
    sys.stdout.flush()
    os._exit(0)


def read_stats(path):
    return json.loads(path.read_text()) if path.exists() else {}


def compare(folder, mode, modules):
    differences = []
    total_passed = total_ring = 0
    print(f"{'module':<36} {'cases':>5} {'plain':>5} {mode:>5} {'differ':>6} {'moved':>6} {'by ring':>11}")
    for module in modules:
        first, second, other = (
            read_records(folder / name / module) for name in ("first", "second", mode)
        )
        passed = {case for case in first if first[case][0] == "ok" and case in second}
        passed = {case for case in passed if second[case][0] == "ok"}
        ended = {case: other.get(case, ("not run", "")) for case in passed}
        wrong = sorted(case for case in passed if ended[case][0] != "ok")
        differences += [(module, case, *ended[case]) for case in wrong]
        stats = read_stats(folder / mode / f"{module}.stats")
        moved, ring = stats.get("streams_moved", 0), stats.get("bytes_ring", 0)
        total_passed += len(passed)
        total_ring += ring
        print(
            f"{module:<36} {len(first):>5} {len(passed):>5} {len(passed) - len(wrong):>5}"
            f" {len(wrong):>6} {moved:>6} {ring:>11}"
        )
    for module, case, what, text in differences:
        print(f"\nDIFFERS ({mode}) {case}: {what}\n{text}".rstrip())
        if what in ("died", "not run"):
            print((folder / mode / f"{module}.output").read_text(errors="replace")[-6000:])
    print(f"{mode}: {total_passed} cases, {len(differences)} differ, {total_ring} bytes by ring")
    if not total_passed:
        print("no case passed plain: nothing is compared")
    if mode != "none" and not total_ring:
        print("no byte went by ring: nothing is proved")
    return not total_passed or bool(differences) or (mode != "none" and not total_ring)


if __name__ == "__main__":
    if sys.argv[1] == "run":
        run(sys.argv[2], sys.argv[3], float(sys.argv[4]), *sys.argv[5:])
    sys.exit(compare(pathlib.Path(sys.argv[2]), sys.argv[3], sys.argv[4:]))
