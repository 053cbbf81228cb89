"""A Mosquitto from Debian's package, with a directory of its own."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time

from programs import need

DEADLINE_SECS = 20


class Mosquitto:
    """A server. It keeps its port, and what it has saved, over `kill` and `start`."""

    def __init__(self, config="", listener="", files=()):
        self.place = tempfile.mkdtemp(prefix="martlet-mosquitto-")
        # It gives up its rights where root starts it, and has to write there.
        os.chmod(self.place, 0o777)
        self.port = free_port()
        for name, text in dict(files).items():
            with open(os.path.join(self.place, name), "w", encoding="utf-8") as file:
                file.write(text)
        self.config = os.path.join(self.place, "mosquitto.conf")
        with open(self.config, "w", encoding="utf-8") as file:
            file.write(
                f"listener {self.port} 127.0.0.1\n{listener.replace('{place}', self.place)}\nallow_anonymous true\n"
                f"persistence true\npersistence_location {self.place}/\nautosave_on_changes true\n"
                f"autosave_interval 1\nmax_queued_messages 0\n" + config.replace("{place}", self.place) + "\n")
        self.log_path = os.path.join(self.place, "log")
        self.process = None
        self.start()

    def start(self):
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                [need("mosquitto", "mosquitto"), "-v", "-c", self.config], stdout=log, stderr=log)
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

    def stop(self):
        """It saves what it has; a kill may lose what was acknowledged last."""
        self.process.terminate()
        self.process.wait(DEADLINE_SECS)

    def close(self):
        if self.process.poll() is None:
            self.go_on()
            self.kill()
        shutil.rmtree(self.place, ignore_errors=True)


def free_port():
    """A port that nobody listens on now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]
