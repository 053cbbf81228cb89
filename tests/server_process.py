"""A server of another project that tests kill, hang and start again."""

import os
import shutil
import signal
import socket
import subprocess
import time

DEADLINE_SECS = 20


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
    """Ports that nobody listens on now, each another one."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports
