"""Starts, kills and asks `martlet agent`, or the program that MARTLET_AGENT_BIN names."""

import os
import re
import signal
import subprocess
import time

from martlet_process import DEADLINE_SECS, binary, environment


class Agent:
    """A running agent. It keeps its queue, options and log over `kill` and `start`."""

    def __init__(self, place, *options, port=None, variables=(), program=None, directory=None):
        self.place = place
        place.mkdir(exist_ok=True)
        self.queue = str(place / "queue")
        self.log_path = place / "log"
        self.directory = directory or place
        where = ["--host", "127.0.0.1", "--port", str(port)] if port else []
        own = os.environ.get("MARTLET_AGENT_BIN")
        command = program or ([os.path.abspath(own)] if own else [binary(), "agent"])
        own_queue = [] if "--queue" in options else ["--queue", self.queue]
        self.command = [*command, *own_queue, *where, *options]
        self.variables = dict(variables)
        self.start()

    def start(self):
        begin = len(self.log()) if self.log_path.exists() else 0
        kept = {name: value for name, value in environment().items() if not name.startswith("MQTT_")}
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                self.command,
                env={**kept, **self.variables},
                cwd=self.directory,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
            )
        self.wait_for_log("started: the queue", begin)

    def write(self, text):
        """Writes to its standard input."""
        self.process.stdin.write(text.encode())
        self.process.stdin.flush()

    def log(self):
        return self.log_path.read_text(encoding="utf-8", errors="replace")

    def wait_for_log(self, pattern, from_byte=0):
        """Waits until it has written what matches; gives the match."""
        deadline = time.monotonic() + DEADLINE_SECS
        while not (found := re.search(pattern, self.log()[from_byte:])):
            assert time.monotonic() < deadline, f"no {pattern!r} in the log:\n{self.log()}"
            time.sleep(0.02)
        return found

    def ask(self):
        """Numbers of this moment, by their names: those of the line that SIGUSR1 asks for."""
        begin = len(self.log())
        self.process.send_signal(signal.SIGUSR1)
        line = self.wait_for_log(r"(\d+) messages \((\d+) bytes\) in the queue; since the start: (.*)\n", begin)
        counts = {name: int(number) for name, number in (pair.split() for pair in line[3].split(", "))}
        # Counts of nothing are not in the line.
        return {"messages": int(line[1]), "bytes": int(line[2]), "dropped": 0, "refused": 0, "damaged": 0, **counts}

    def wait_until(self, **wanted):
        """Asks until these numbers are there."""
        deadline = time.monotonic() + DEADLINE_SECS
        while not wanted.items() <= (found := self.ask()).items():
            assert time.monotonic() < deadline, f"{found}, expected {wanted}\n{self.log()}"

    def wait_until_fewer(self, messages, deadline_secs=DEADLINE_SECS):
        """Asks until fewer messages than these are in the queue."""
        deadline = time.monotonic() + deadline_secs
        while (found := self.ask())["messages"] >= messages:
            assert time.monotonic() < deadline, f"{found}, expected fewer than {messages} messages"

    def kill(self):
        self.process.kill()
        self.process.wait()

    def end(self):
        """Closes standard input and waits for the end: the exit status."""
        self.process.stdin.close()
        return self.process.wait(timeout=3 * DEADLINE_SECS)

    def stop(self):
        """SIGTERM; the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=DEADLINE_SECS)

    def close(self):
        if self.process.poll() is None:
            self.kill()

    def memory(self):
        """Resident bytes."""
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as status:
            return int(re.search(r"VmRSS:\s+(\d+) kB", status.read())[1]) * 1024


def environment_file(path, **variables):
    """Writes a .env that only its owner may change."""
    path.write_text("".join(f"{name}={value}\n" for name, value in variables.items()))
    os.chmod(path, 0o600)
