"""Starts and stops the program under test.

Knows the command line and the lines that a starting node prints; knows nothing of MQTT. Every node
gets a data directory of its own and listens on ports that the system chose, so tests may run side
by side. MARTLET_BIN names the program; without it, what `cargo build` makes of this
repository: debug/martlet in CARGO_TARGET_DIR, which is target if it is not set.
"""

import http.client
import json
import os
import pathlib
import queue
import resource
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from urllib.parse import urlencode, urlsplit

ROOT = pathlib.Path(__file__).resolve().parent.parent

# A node that takes longer than this to start or stop has failed.
DEADLINE_SECS = 60

# Campaigns try often, and times are judged, in the long form of a run alone (see forms.py).
IS_LONG = os.environ.get("MARTLET_TEST_FORM") == "long"

# Where a command that is told no data directory looks: no node of the caller's lies there.
STATE_HOME = tempfile.TemporaryDirectory(prefix="martlet-state-")


def binary():
    """Path of the program; an error that says what to do if it is not there."""
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target")
    path = pathlib.Path(os.environ.get("MARTLET_BIN") or target / "debug/martlet").resolve()
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is not there: run `cargo build -p martlet`, or set MARTLET_BIN"
        )
    return str(path)


def environment():
    """The caller's environment without what would configure a node, or find the caller's own."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("MARTLET_")}
    kept.pop("STATE_DIRECTORY", None)
    # A command that is told no data directory finds no node of another test.
    return {**kept, "XDG_STATE_HOME": STATE_HOME.name, "MARTLET_FIND_NODES": "off", "MARTLET_CHEAP_HASHES": "1"}


def run(*arguments, timeout=DEADLINE_SECS):
    """Runs `martlet ARGUMENTS` to its end."""
    return subprocess.run(
        [binary(), *arguments],
        env=environment(),
        cwd=tempfile.gettempdir(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def connect_to_admin(sock, data_dir):
    """Connects a socket to admin.sock. Its own path may be longer than one of a socket may be."""
    directory = os.open(data_dir, os.O_PATH)
    try:
        sock.connect(f"/proc/self/fd/{directory}/admin.sock")
    finally:
        os.close(directory)


class AdminConnection(http.client.HTTPConnection):
    """HTTP by admin.sock, as the commands speak it, on one connection for all requests: a process for each
    costs a hundred times as much."""

    def __init__(self, data_dir):
        super().__init__("localhost", timeout=DEADLINE_SECS)
        self.data_dir = data_dir

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        connect_to_admin(self.sock, self.data_dir)

    def ask(self, method, path, body=None, **headers):
        """Status and body of the answer."""
        if body is not None:
            headers.setdefault("content-type", "application/json")
        try:
            return self._ask(method, path, body, headers)
        except (ConnectionError, http.client.BadStatusLine):
            # The node has ended a connection that had nothing to say for long, or was started anew.
            self.close()
            return self._ask(method, path, body, headers)

    def _ask(self, method, path, body, headers):
        self.request(method, path, body, headers)
        answer = self.getresponse()
        return answer.status, answer.read()


class Node:
    """A running `martlet serve`. Use it in a `with` statement: at its end the node is killed, and if its data directory
    is not its own alone, stopped."""

    def __init__(
        self, settings=(), arguments=(), listen=("mqtt://127.0.0.1:0",), http=False, data_dir=None,
        variables=(), before_start=None, log_path=None, open_files=None, directory=None,
        command=None,
    ):
        self._own_dir = tempfile.mkdtemp(prefix="martlet-test-") if data_dir is None else None
        self.data_dir = str(data_dir or self._own_dir)
        command = [*(command or [binary(), "serve"]), "--data-dir", self.data_dir]
        if http is not None:
            command += ["--http", "127.0.0.1:0" if http else "off"]
        for url in listen:
            command += ["--listen", url]
        for setting in settings:
            command += ["--set", setting]
        if open_files is not None:
            limit = (open_files, open_files)
            before_start = lambda: resource.setrlimit(resource.RLIMIT_NOFILE, limit)
        self.admin = AdminConnection(self.data_dir)
        self.announced = []
        self.log_path = log_path or os.path.join(self.data_dir, "test-log.txt")
        if log_path is None:
            os.makedirs(self.data_dir, exist_ok=True)
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(
                [*command, *arguments],
                env={**environment(), **dict(variables)},
                cwd=directory or tempfile.gettempdir(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                preexec_fn=before_start,
            )
        self.urls = []
        self.http_url = None
        try:
            self._await_announcement()
        except BaseException:
            self.close()
            raise

    def _await_announcement(self):
        lines = queue.Queue()

        def read():
            for line in self.process.stdout:
                lines.put(line)
            lines.put(None)

        threading.Thread(target=read, daemon=True).start()
        while True:
            try:
                line = lines.get(timeout=DEADLINE_SECS)
            except queue.Empty:
                raise RuntimeError(f"the node did not start in time:\n{self.log()}") from None
            if line is None:
                raise RuntimeError(f"the node ended while starting:\n{self.log()}")
            self.announced.append(line.strip())
            words = line.split()
            if line.startswith("{"):
                told = json.loads(line)
                self.urls, self.http_url = told["listeners"], next(iter(told["http"]), None)
                return
            if line.strip().startswith("listening on "):
                self.urls.append(words[-1])
            elif line.strip().startswith("health and metrics on "):
                self.http_url = words[-1]
            elif line.startswith("See how it is"):
                return

    def port(self, scheme="mqtt"):
        """Port of the first listener of that scheme."""
        return next(urlsplit(url).port for url in self.urls if urlsplit(url).scheme == scheme)

    def url(self, scheme):
        """URL of the first listener of that scheme."""
        return next(url for url in self.urls if urlsplit(url).scheme == scheme)

    def connect_to_admin(self, sock):
        """Connects a socket to admin.sock."""
        connect_to_admin(sock, self.data_dir)

    def why(self, name, topic=None, team=None):
        """What `martlet why NAME TOPIC --team TEAM --json` prints, without its process."""
        asked = {"name": name, "topic": topic, "team": team}
        query = urlencode({key: value for key, value in asked.items() if value is not None})
        status, answer = self.admin.ask("GET", f"/api/v1/why?{query}")
        assert status == 200, answer
        return json.loads(answer)

    def log(self):
        """All that the node has written to standard error."""
        with open(self.log_path, encoding="utf-8", errors="replace") as log:
            return log.read()

    def facts(self, text):
        """Lines at info that contain the text, without time and level."""
        lines = (line.partition(" INFO ")[2].strip() for line in self.log().splitlines())
        return [line for line in lines if text in line]

    def wait_for_log(self, text):
        """Waits until the node has written the text to standard error."""
        deadline = time.monotonic() + DEADLINE_SECS
        while text not in self.log():
            assert time.monotonic() < deadline, f"no {text!r} in the log:\n{self.log()}"
            time.sleep(0.01)

    def terminate(self):
        """SIGTERM."""
        self.process.send_signal(signal.SIGTERM)

    def wait(self):
        """Its exit status, once it has ended."""
        return self.process.wait(timeout=DEADLINE_SECS)

    def close(self):
        """Ends it, kindly if possible, and removes its data directory if it is ours."""
        try:
            if self.process.poll() is None:
                self.terminate()
                self.wait()
        finally:
            self.kill()

    def kill(self):
        """Ends it as a power cut does, and removes its data directory if it is ours."""
        self.admin.close()
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        if self._own_dir:
            shutil.rmtree(self._own_dir, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self._own_dir:
            self.kill()
        else:
            self.close()


def receive_exactly(connection, count):
    """Bytes from a socket. It may have a timeout: then MSG_WAITALL does not wait for all of them."""
    received = b""
    while len(received) < count:
        more = connection.recv(count - len(received))
        assert more, f"the connection ended after {received!r}"
        received += more
    return received
