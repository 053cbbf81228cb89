"""A server of another project that tests kill, hang and start again."""

import os
import random
import shutil
import signal
import socket
import subprocess
import time

DEADLINE_SECS = 60
FIRST_PORT = 10_000
# The least value that systems have for it: Linux from 32768 on, macOS and the BSDs from 49152 on.
FIRST_EPHEMERAL_PORT = 32_768
given_ports = set()


class ServerProcess:
    """Keeps its port, and what it has in the directory `place`, over `kill` and `start`. A subclass sets `command`,
    `place` and `port`."""

    def start(self):
        self.log_path = os.path.join(self.place, "log")
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log)
        deadline = time.monotonic() + DEADLINE_SECS
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                # It ends if another program has its port, and that one answers here.
                assert self.process.poll() is None, self.log()
                return
            except OSError:
                assert self.process.poll() is None and time.monotonic() < deadline, self.log()
                time.sleep(0.02)

    def log(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as log:
            return log.read()

    def kill(self):
        self.process.kill()
        self.process.wait()

    def hang(self):
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self):
        self.process.send_signal(signal.SIGCONT)

    def close(self):
        if self.process.poll() is None:
            self.go_on()
            self.kill()
        shutil.rmtree(self.place, ignore_errors=True)


def free_port():
    """A port that nobody listens on now."""
    return free_ports(1)[0]


def free_ports(count):
    """Ports that nobody listens on now, each another one, and none that this process was given before.

    They lie below the ports that the system gives to outgoing connections and to listeners of port 0: between this
    call and the start of the server, nothing but another caller of this function can take one. Test processes that
    run side by side have ports of their own."""
    ports = []
    own = own_ports()
    while len(ports) < count:
        port = random.choice(own)
        if port in given_ports:
            continue
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        given_ports.add(port)
        ports.append(port)
    return ports


def own_ports():
    """The ports of this test process: pytest-xdist numbers those that run side by side."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    count = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    return range(FIRST_PORT + worker, FIRST_EPHEMERAL_PORT, count)
