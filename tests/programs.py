"""Programs of others that tests run: Mosquitto's command line clients."""

import queue
import shutil
import subprocess
import threading

DEADLINE_SECS = 60


def need(program, package):
    """Path of a program; its lack is a failure that names the package."""
    path = shutil.which(program)
    assert path, f"{program} is not installed: it comes with the package {package}"
    return path


class Output:
    """A program under way and the lines that it writes."""

    def __init__(self, program, arguments):
        # Lines come at once, not only when a buffer is full.
        self.process = subprocess.Popen(
            [need("stdbuf", "coreutils"), "-oL", need(program, "mosquitto-clients"), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._lines = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            self._lines.put(line.rstrip("\n"))
        self._lines.put(None)

    def line(self):
        """The next line; None at the end."""
        return self._lines.get(timeout=DEADLINE_SECS)

    def wait_for(self, text):
        """Passes over lines until one holds the text."""
        while (line := self.line()) is not None:
            if text in line:
                return
        raise AssertionError(f"the program ended without {text!r}")

    def messages(self):
        """Lines until the end, without those of its debugging; and its exit status."""
        lines = []
        while (line := self.line()) is not None:
            if not line.startswith(("Client ", "Subscribed")):
                lines.append(line)
        return lines, self.process.wait(timeout=DEADLINE_SECS)

    def kill(self):
        self.process.kill()
        self.process.wait()


class Mosquitto:
    """The three programs, pointed at a node."""

    def __init__(self, node):
        self.address = ["-h", "127.0.0.1", "-p", str(node.port())]
        self.started = []

    def pub(self, *arguments, **options):
        """Runs mosquitto_pub to its end."""
        return subprocess.run(
            [need("mosquitto_pub", "mosquitto-clients"), *self.address, *arguments],
            capture_output=True,
            text=True,
            timeout=DEADLINE_SECS,
            **options,
        )

    def start(self, program, *arguments):
        """Starts a program."""
        output = Output(program, [*self.address, *arguments])
        self.started.append(output)
        return output

    def sub(self, *arguments):
        """Starts mosquitto_sub; returns when it has its SUBACK."""
        output = self.start("mosquitto_sub", "-d", *arguments)
        output.wait_for("Subscribed (mid:")
        return output

    def close(self):
        for output in self.started:
            output.kill()
