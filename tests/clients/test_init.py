"""martlet init: what it writes is closed to strangers, and the commands that it prints work."""

import json
import os
import re
import signal
import socket
import stat
import subprocess

import martlet_process
from conftest import need
from test_registry import martlet

DEADLINE_SECS = 20


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [str(one.getsockname()[1]) for one in sockets]
    for one in sockets:
        one.close()
    return ports


def options():
    tls, plain, web = free_ports(3)
    return ["--tls-port", tls, "--port", plain, "--websocket-port", web, "--http", "off"], plain


def test_the_printed_commands_start_it_and_show_that_it_works(tmp_path):
    more, plain = options()
    said = martlet("init", tmp_path / "a node", "--name", "broker.example", *more)
    lines = said.splitlines()
    start = lines[lines.index("Start it:") + 1].strip()
    prove = lines[lines.index("See that it works, in another terminal:") + 1].strip()
    add = lines[lines.index("Then add a device:") + 1].strip()

    def shell(command):
        return subprocess.run(["sh", "-c", command], capture_output=True, text=True, cwd=tmp_path,
                              env=martlet_process.environment(), timeout=DEADLINE_SECS)

    node = subprocess.Popen(["sh", "-c", f"exec {start}"], stdout=subprocess.PIPE, text=True, cwd="/",
                            env=martlet_process.environment())
    try:
        for line in node.stdout:
            if line.startswith("See how it is"):
                break
        done = shell(prove)
        assert done.returncode == 0 and "PUBACK" in done.stdout + done.stderr, done.stderr
        added = shell(add)
        assert added.returncode == 0, added.stderr
        tried = re.search(r"^Try it: (.*)$", added.stdout, re.MULTILINE).group(1)
        assert shell(tried).returncode == 0
        stranger = [need("mosquitto_pub", "mosquitto-clients"), "-h", "127.0.0.1", "-p", plain, "-t", "t",
                    "-m", "x"]
        assert subprocess.run(stranger, capture_output=True, timeout=DEADLINE_SECS).returncode != 0
    finally:
        node.send_signal(signal.SIGTERM)
        node.wait(DEADLINE_SECS)


def test_nothing_is_open_to_others_and_nothing_is_written_over(tmp_path):
    more, _ = options()
    told = json.loads(martlet("init", tmp_path / "node", "--json", *more))
    assert {"localhost", "127.0.0.1", "::1"} <= set(told["names"])
    for directory, _, files in os.walk(tmp_path / "node"):
        assert stat.S_IMODE(os.stat(directory).st_mode) == 0o700, directory
        for file in files:
            mode = stat.S_IMODE(os.stat(os.path.join(directory, file)).st_mode)
            assert mode == (0o644 if file.endswith(".crt") else 0o600), file
    text = (tmp_path / "node/martlet.toml").read_text()
    assert told["password"] not in text
    martlet("config", "check", "-c", told["config"])
    said = martlet("init", tmp_path / "node", *more, code=1)
    assert "is there already" in said and (tmp_path / "node/martlet.toml").read_text() == text
