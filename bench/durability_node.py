"""The node that the scripts about durability start, kill and look at. Standard library only."""

import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import durability_load as load

TICKS = os.sysconf("SC_CLK_TCK")


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


class Broker:
    """A Martlet on a free port, in a directory of its own."""

    log_level = "warn"

    def __init__(self, martlet, directory, extra=()):
        self.martlet, self.directory, self.port = martlet, directory, free_port()
        self.extra = list(extra)
        self.process = None

    def command(self):
        return [self.martlet, "serve", "--listen", f"mqtt://127.0.0.1:{self.port}", "--http", "off",
                "--data-dir", str(self.directory), "--log-level", self.log_level, *self.extra]

    def start(self):
        """Seconds from exec to the first CONNACK."""
        begin = time.monotonic()
        self.process = subprocess.Popen(self.command(), stdout=subprocess.DEVNULL)
        while True:
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=30) as sock:
                    sock.sendall(load.connect("probe", clean=True))
                    if sock.recv(4):
                        return time.monotonic() - begin
            except OSError:
                pass
            if self.process.poll() is not None:
                sys.exit("the broker has ended")
            time.sleep(0.001)

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def memory(self, key="VmRSS"):
        for line in open(f"/proc/{self.process.pid}/status"):
            if line.startswith(key):
                return int(line.split()[1]) * 1024
        raise SystemExit("no such process")

    def cpu(self):
        fields = open(f"/proc/{self.process.pid}/stat").read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def disk(self):
        files = pathlib.Path(self.directory).rglob("*")
        return sum(file.stat().st_blocks * 512 for file in files if file.is_file())
