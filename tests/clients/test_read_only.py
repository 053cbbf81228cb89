"""A file system that can no longer be written to: what clients, probes and commands are told."""

import contextlib
import json
import os
import resource
import signal
import socket
import stat
import subprocess
import time
import urllib.error
import urllib.request

import pytest

import martlet_process
from paho_client import V5, Client

STALLED_SECS = 6
SERVER_UNAVAILABLE = b"\x20\x02\x00\x03"
# Clean Session 0, no Keep Alive.
LASTING = b"\x10\x10\x00\x04MQTT\x04\x00\x00\x00\x00\x04last"
LASTING_V5 = b"\x10\x15\x00\x04MQTT\x05\x00\x00\x00\x05\x11\x00\x00\x00\x09\x00\x03abc"


def run(*arguments, data_dir):
    done = martlet_process.run(*arguments, "--data-dir", str(data_dir))
    assert done.returncode == 0, f"{arguments}: {done.stderr}"
    return done.stdout


def ready(node):
    """Status of the probe and its answer."""
    try:
        with urllib.request.urlopen(node.http_url + "/health/ready", timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def wait_until(condition, what):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def allow_writes(node, allowed):
    """Each write to a file fails from now on, as on a file system that became read-only; or not."""
    most = resource.RLIM_INFINITY if allowed else 0
    hard = resource.prlimit(node.process.pid, resource.RLIMIT_FSIZE)[1]
    resource.prlimit(node.process.pid, resource.RLIMIT_FSIZE, (most, hard))


def test_clients_and_probes_are_told_that_the_store_does_not_write(start_node, name):
    node = start_node(
        settings=[f"limits.store_stalled_secs={STALLED_SECS}", "log.level=error"],
        http=True,
        before_start=lambda: signal.signal(signal.SIGXFSZ, signal.SIG_IGN),
    )
    assert ready(node)[0] == 200
    allow_writes(node, False)
    begin = time.monotonic()
    waiting = [socket.create_connection(("127.0.0.1", node.port()), timeout=60) for _ in range(2)]
    for connection, packet in zip(waiting, (LASTING, LASTING_V5)):
        connection.sendall(packet)
    with Client(node, name, V5) as client:
        assert client.subscribe(name, qos=0) == [0]
        client.client.publish(name, b"x", qos=0)
        assert client.messages.get(timeout=60).payload == b"x"
        assert waiting[0].recv(100) == SERVER_UNAVAILABLE
        answer = waiting[1].recv(1000)
        assert (answer[0], answer[3]) == (0x20, 0x88)
        assert b"store" in answer
        took = time.monotonic() - begin
        assert took >= STALLED_SECS, took
        assert [connection.recv(1) for connection in waiting] == [b"", b""]
        wait_until(lambda: ready(node)[0] == 503, "readiness does not fail")
        report = ready(node)[1]
        assert report["status"] == "store_failing"
        assert any("not been able to write" in warning for warning in report["warnings"])
        allow_writes(node, True)
        wait_until(lambda: ready(node)[0] == 200, "readiness does not come back")
    for connection in waiting:
        connection.close()
    with Client(node, "last", V5, clean=False):
        pass


@contextlib.contextmanager
def read_only(directory):
    """Nothing in the directory can be changed. Root needs a mount for that."""
    if os.geteuid() != 0:
        paths = [directory, *directory.rglob("*")]
        modes = {path: stat.S_IMODE(path.stat().st_mode) for path in paths}
        for path, mode in modes.items():
            path.chmod(mode & ~0o222)
        try:
            yield
        finally:
            for path, mode in modes.items():
                path.chmod(mode)
        return
    subprocess.run(["mount", "--bind", directory, directory], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", directory], check=True)
        with pytest.raises(OSError):
            (directory / "trial").touch()
        yield
    finally:
        subprocess.run(["umount", directory], check=True)


@pytest.mark.parametrize("is_stopped", [True, False], ids=["stopped", "killed"])
def test_commands_read_a_data_directory_that_is_read_only(tmp_path, is_stopped):
    data = tmp_path / "data"
    node = martlet_process.Node(data_dir=data)
    try:
        run("team", "add", "plant", data_dir=data)
        run("device", "add", "press-7", data_dir=data)
        run("user", "add", "ann", "--generate", data_dir=data)
        if not is_stopped:
            node.process.kill()
            node.process.wait()
    finally:
        node.close()
    assert (data / "martlet.db-wal").exists() != is_stopped
    with read_only(data):
        assert "press-7" in run("device", "ls", data_dir=data)
        assert "press-7" in run("device", "show", "press-7", data_dir=data)
        assert "ann" in run("user", "ls", data_dir=data)
        assert "plant" in run("team", "ls", data_dir=data)
        assert "device" in run("audit", data_dir=data)
        for command in (["key", "ls"], ["role", "ls"], ["group", "ls"], ["ban", "ls"]):
            run(*command, data_dir=data)
        assert "segments" in run("store", "stats", data_dir=data)
        assert "no damage" in run("store", "check", data_dir=data)
        permitted = martlet_process.run(
            "acl", "explain", "press-7", "publish", "d/press-7/x", "--data-dir", str(data)
        )
        assert permitted.returncode == 0, permitted.stderr
        assert "permitted" in permitted.stdout
        for command in (["config", "check"], ["serve", "--set", "http.listen=off"]):
            told = martlet_process.run(*command, "--data-dir", str(data))
            assert told.returncode == 1, told.stdout
            assert str(data) in told.stderr and "unable to open database" not in told.stderr
            assert "Read-only" in told.stderr or "ermission denied" in told.stderr, told.stderr
        refused = martlet_process.run("device", "add", "press-8", "--data-dir", str(data))
        assert refused.returncode != 0
        assert "martlet.db" in refused.stderr and "cannot be opened for writing" in refused.stderr, refused.stderr
        backup = tmp_path / "backup"
        run("backup", "create", str(backup), data_dir=data)
    restored = tmp_path / "restored"
    run("backup", "restore", str(backup), data_dir=restored)
    assert "press-7" in run("device", "ls", data_dir=restored)
