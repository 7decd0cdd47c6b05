# SPDX-License-Identifier: Apache-2.0
"""
world.py - where a benchmark runs: two guests on this host, and how a program is started in them

A guest is whatever has an agent of its own: here a network namespace. A and B are joined by a veth
pair; the client runs in A, the server in B, or in A too where a contestant uses loopback or a UNIX
socket. Both agents share one region file on tmpfs, or have one each ("apart": then the peer is not
co-resident, and the library has nothing to do). C, where asked for, is joined to A as well and has
no agent: a peer on another host, as far as the library can see.

Each side runs in a control group of its own (version 2), which counts its processor time exactly.
What a program inherits from us: its processors (taskset), the library and the policy by
environment, nothing else. Everything is taken down when the "with" block is left, also by ^C.
"""
import itertools
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
ADDR = {"A": "10.77.0.1", "B": "10.77.0.2", "C": "10.78.0.2"}
LOOPBACK = "127.0.0.1"


class Unavailable(Exception):
    """This cannot be measured here; the text says why."""


class Failed(Exception):
    """A program did not do what it should; the text says which and what it said."""


@dataclass(frozen=True)
class Contestant:
    name: str
    text: str
    policy: str = ""  # of the library; empty: not preloaded
    place: str = "veth"  # or loopback, unix, none: no socket at all
    sockmap: bool = False  # in a control group whose sockets are redirected by eBPF

    @property
    def server_guest(self):
        return "B" if self.place == "veth" else "A"

    @property
    def addr(self):
        return ADDR["B"] if self.place == "veth" else LOOPBACK


CONTESTANTS = {
    c.name: c
    for c in (
        Contestant("tcp", "kernel TCP over a veth pair"),
        Contestant("tcp-lo", "kernel TCP over loopback", place="loopback"),
        Contestant("auto", "coloc, policy auto, between guests", policy="auto"),
        Contestant("always", "coloc, policy always, between guests", policy="always"),
        Contestant("auto-lo", "coloc, policy auto, over loopback", policy="auto", place="loopback"),
        Contestant("unix", "UNIX stream socket", place="unix"),
        Contestant("sockmap", "eBPF: sockops and sk_msg redirection, over a veth pair", sockmap=True),
        Contestant("ring", "the transport's ring alone, two threads of one process", place="none"),
        Contestant("line", "a cache line there and back between the processors", place="none"),
        Contestant("memcpy", "copying what the other processor has written", place="none"),
    )
}


def contestants(*names):
    return [CONTESTANTS[n] for n in names]


def run(*argv, **options):
    """A command of our own that must not fail; its output."""
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60, **options)
    if done.returncode:
        raise Failed(f"{' '.join(argv)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def processors():
    """Those that we may use: the first is the server's, the last the client's."""
    return sorted(os.sched_getaffinity(0))


def unified_mount():
    with open("/proc/self/mounts", encoding="ascii") as mounts:
        for line in mounts:
            fields = line.split()
            if fields[2] == "cgroup2":
                return fields[1]
    raise Unavailable("no control groups of version 2 are mounted")


class Process:
    """A program in one of the guests."""

    def __init__(self, popen, log, text):
        self.popen, self.log, self.text = popen, log, text

    def output(self):
        self.log.flush()
        with open(self.log.name, encoding="utf-8", errors="replace") as log:
            return log.read()

    def wait(self, seconds):
        """Its output; it must end well in time."""
        try:
            status = self.popen.wait(seconds)
        except subprocess.TimeoutExpired:
            text = self.output()[-500:]
            self.kill()
            raise Failed(f"{self.text}: not done after {seconds} s: {text}") from None
        if status:
            raise Failed(f"{self.text}: status {status}: {self.output()[-500:]}")
        return self.output()

    def kill(self, sig=signal.SIGKILL):
        if self.popen.poll() is None:
            self.popen.send_signal(sig)
            try:
                self.popen.wait(10)
            except subprocess.TimeoutExpired:
                self.popen.kill()
                self.popen.wait()


class World:
    """Two guests; use as a context."""

    numbers = itertools.count()

    def __init__(self, build, conf="", region="", apart=False, remote=False):
        """conf: further lines of the agents' configuration; region: of its section [region]."""
        self.build, self.conf, self.region_conf = build, conf, region
        self.apart, self.guests = apart, "ABC" if remote else "AB"
        self.name = f"coloc-bench-{os.getpid()}-{next(World.numbers)}"
        self.agents, self.children, self.groups = {}, [], {}
        self.dir, self.sockmap, self.serial = None, None, itertools.count()
        self.plain = CONTESTANTS["tcp"]
        self.ports = itertools.count(5201)

    # ---- up and down -------------------------------------------------------------------------

    def __enter__(self):
        try:
            self.up()
        except BaseException:
            self.down()
            raise
        return self

    def __exit__(self, *_):
        self.down()

    def netns(self, guest):
        return f"{self.name}-{guest}"

    def up(self):
        self.dir = tempfile.mkdtemp(prefix="coloc-bench.", dir="/dev/shm")
        os.chmod(self.dir, 0o711)
        top = os.path.join(unified_mount(), self.name)
        for group in ("server", "client", "agents", "sockmap/server", "sockmap/client"):
            os.makedirs(os.path.join(top, group), exist_ok=True)
            self.groups[group] = os.path.join(top, group)
        for guest in self.guests:
            run("ip", "netns", "add", self.netns(guest))
            self.inside(guest, "ip", "link", "set", "lo", "up")
            # Short connections by the ten thousand want ports.
            self.inside(guest, "sysctl", "-qw", "net.ipv4.ip_local_port_range=10000 65000")
        self.join("eth0", ADDR["A"], "B")
        if "C" in self.guests:
            self.join("eth1", "10.78.0.1", "C")
        for guest in "AB":
            self.start_agent(guest)
        for guest in "AB":
            self.ctl(guest, "--wait", "20", "status")

    def join(self, device, addr, guest):
        """A veth pair from A, where its end has that name and address, to the guest."""
        run("ip", "-n", self.netns("A"), "link", "add", device, "type", "veth", "peer", "name",
            "eth0", "netns", self.netns(guest))
        for end, name, own in (("A", device, addr), (guest, "eth0", ADDR[guest])):
            self.inside(end, "ip", "addr", "add", own + "/24", "dev", name)
            self.inside(end, "ip", "link", "set", name, "up")

    def down(self):
        self.clear()
        for agent in self.agents.values():
            agent.kill()
        for guest in self.guests:
            name = self.netns(guest)
            if os.path.exists("/run/netns/" + name):
                for pid in run("ip", "netns", "pids", name).split():
                    try:
                        os.kill(int(pid), signal.SIGKILL)
                    except ProcessLookupError:
                        pass
                run("ip", "netns", "del", name)
        if self.sockmap:
            self.sockmap.close()
        for group in sorted(self.groups.values(), key=len, reverse=True):
            remove_group(group)
        if self.groups:
            top = os.path.dirname(self.groups["server"])
            remove_group(os.path.join(top, "sockmap"))
            remove_group(top)
        if self.dir:
            shutil.rmtree(self.dir, ignore_errors=True)

    def inside(self, guest, *argv):
        return run("nsenter", "--net=/run/netns/" + self.netns(guest), *argv)

    # ---- agents ------------------------------------------------------------------------------

    def region(self, guest):
        return os.path.join(self.dir, "region-" + guest if self.apart else "region")

    def socket(self, guest):
        return os.path.join(self.dir, guest, "agent.sock")

    def start_agent(self, guest):
        # A folder each: an agent's socket and its local memory lie side by side.
        os.makedirs(os.path.join(self.dir, guest), exist_ok=True)
        conf = os.path.join(self.dir, guest + ".conf")
        with open(conf, "w", encoding="ascii") as out:
            out.write(f"[region]\npath = {self.region(guest)}\n{self.region_conf}\n"
                      f"[guest]\nname = {guest}\n{self.conf}\n")
        self.agents[guest] = self.spawn_as(
            "agents", guest, [os.path.join(self.build, "residency-agent"), "--foreground",
                              "--config", conf, "--socket", self.socket(guest)])

    def ctl(self, guest, *argv):
        return run(os.path.join(self.build, "colocctl"), "--socket", self.socket(guest), *argv)

    # ---- programs ----------------------------------------------------------------------------

    def spawn_as(self, group, guest, argv, cpus=None, env=()):
        procs = os.path.join(self.groups[group], "cgroup.procs")

        def enter():
            with open(procs, "w", encoding="ascii") as out:
                out.write(str(os.getpid()))
            # Where each session is a group for the scheduler, priorities count inside it alone.
            if os.path.exists("/proc/self/autogroup"):
                with open("/proc/self/autogroup", "w", encoding="ascii") as out:
                    out.write(str(os.getpriority(os.PRIO_PROCESS, 0)))

        command = ["nsenter", "--net=/run/netns/" + self.netns(guest), "--"]
        if cpus:
            command += ["taskset", "-c", cpus]
        if env:
            command += ["env", *env]
        # It is closed with the Process.
        log = open(os.path.join(self.dir, f"log-{next(self.serial)}"), "w", encoding="utf-8")
        # Of a session of its own: ^C is for us alone, and we end what we started.
        popen = subprocess.Popen(command + argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                 preexec_fn=enter, start_new_session=True, cwd=self.dir)
        process = Process(popen, log, " ".join(argv))
        if group != "agents":
            self.children.append(process)
        return process

    def spawn(self, side, contestant, cpus, argv, guest=None):
        """side: "server" or "client". cpus: as taskset takes them."""
        guest = guest or (contestant.server_guest if side == "server" else "A")
        env = []
        if contestant.policy:
            env = ["COLOC_AGENT=" + self.socket(guest), "COLOC_POLICY=" + contestant.policy,
                   "LD_PRELOAD=" + os.path.join(self.build, "libcoloc.so")]
        group = side
        if contestant.sockmap:
            self.need_sockmap()
            group = "sockmap/" + side
        return self.spawn_as(group, guest, [str(a) for a in argv], cpus, env)

    def need_sockmap(self):
        if not self.sockmap:
            from sockmap import Sockmap
            self.sockmap = Sockmap(self.build, os.path.dirname(self.groups["sockmap/server"]))

    def clear(self):
        """Ends whatever an earlier sample has left, which is none that went well."""
        for child in self.children:
            child.kill()
            child.log.close()
        self.children = []

    def port(self):
        """One that was not used before: TIME_WAIT holds it, and not every server minds that."""
        return next(self.ports)

    def stats(self, guest):
        return json.loads(self.ctl(guest, "stats", "--json"))

    def memory(self):
        """Bytes behind the shared files and in the programs of both sides, the kernel's not counted."""
        return {"region": os.stat(self.region("A")).st_blocks * 512,
                "programs": sum(private_bytes(int(pid)) for side in ("server", "client")
                                for pid in pids_of(self.groups[side]))}

    def agents_usage(self):
        return group_usage(self.groups["agents"])

    def usage(self, contestant):
        """Processor seconds that both sides together have used so far."""
        prefix = "sockmap/" if contestant.sockmap else ""
        return sum(group_usage(self.groups[prefix + side]) for side in ("server", "client"))

    def listens(self, process, port, seconds=10):
        """Until something in the network namespace of the process listens at that port."""
        end = time.monotonic() + seconds
        want = f":{port:04X}"
        while time.monotonic() < end:
            if process.popen.poll() is not None:
                raise Failed(f"{process.text}: ended: {process.output()[-500:]}")
            for fields in sockets_of(process.popen.pid):
                if fields[3] == "0A" and fields[1].endswith(want):
                    return
            time.sleep(0.005)
        raise Failed(f"{process.text}: does not listen at {port}: {process.output()[-500:]}")

    def reads(self, process, text, seconds=10):
        """Until the process has written that text."""
        end = time.monotonic() + seconds
        while text not in process.output():
            if process.popen.poll() is not None or time.monotonic() > end:
                raise Failed(f"{process.text}: no {text!r}: {process.output()[-500:]}")
            time.sleep(0.005)


def sockets_of(pid):
    """The kernel's table of TCP sockets of that process's network namespace, by fields."""
    for table in ("tcp", "tcp6"):
        try:
            with open(f"/proc/{pid}/net/{table}", encoding="ascii") as sockets:
                yield from (line.split() for line in sockets)
        except FileNotFoundError:
            pass  # the process has just ended


def pids_of(group):
    with open(os.path.join(group, "cgroup.procs"), encoding="ascii") as procs:
        return procs.read().split()


def private_bytes(pid):
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as rollup:
        return sum(int(line.split()[1]) * 1024 for line in rollup if line.startswith("Private"))


def group_usage(group):
    with open(os.path.join(group, "cpu.stat"), encoding="ascii") as stat:
        for line in stat:
            if line.startswith("usage_usec"):
                return int(line.split()[1]) / 1e6
    raise Unavailable("control groups do not count processor time here")


def remove_group(group):
    """A group can go when its last process is reaped, which the kernel does when it gets to it."""
    for _ in range(200):
        try:
            os.rmdir(group)
            return
        except FileNotFoundError:
            return
        except OSError:
            time.sleep(0.01)
