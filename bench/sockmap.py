# SPDX-License-Identifier: Apache-2.0
"""
sockmap.py - load src/sockmap.bpf for one control group; needs clang, libbpf's headers and bpftool
"""
import os
import shutil

from world import ROOT, Failed, Unavailable, run


class Sockmap:
    def __init__(self, build, group):
        self.group, self.pins = group, None
        for tool in ("clang", "bpftool"):
            if not shutil.which(tool):
                raise Unavailable(f"{tool} is not installed")
        compiled = os.path.join(build, "bench", "sockmap.bpf.o")
        source = os.path.join(ROOT, "bench", "src", "sockmap.bpf")
        try:
            os.makedirs(os.path.dirname(compiled), exist_ok=True)
            multiarch = run("gcc", "-print-multiarch").strip()
            run("clang", "-O2", "-g", "-target", "bpf", "-x", "c", f"-I/usr/include/{multiarch}", "-c", source,
                "-o", compiled)
            if not os.path.ismount("/sys/fs/bpf"):
                run("mount", "-t", "bpf", "bpf", "/sys/fs/bpf")
            self.pins = "/sys/fs/bpf/" + os.path.basename(os.path.dirname(group))
            os.makedirs(self.pins)
            run("bpftool", "prog", "loadall", compiled, self.pins, "pinmaps", self.pins)
            run("bpftool", "prog", "attach", "pinned", self.pins + "/redirect", "msg_verdict",
                "pinned", self.pins + "/sockets")
            run("bpftool", "cgroup", "attach", group, "sock_ops", "pinned",
                self.pins + "/established")
        except Failed as why:
            self.close()
            raise Unavailable(f"the kernel or its tools refuse: {why}") from None

    def close(self):
        if not self.pins:
            return
        for command in (("cgroup", "detach", self.group, "sock_ops", "pinned",
                         self.pins + "/established"),
                        ("prog", "detach", "pinned", self.pins + "/redirect", "msg_verdict",
                         "pinned", self.pins + "/sockets")):
            try:
                run("bpftool", *command)
            except Failed:
                pass  # it was not attached
        shutil.rmtree(self.pins, ignore_errors=True)
        self.pins = None
