"""Backups and restores: nobody else's file is written to, and a restore is whole or nothing."""

import contextlib
import http.client
import json
import os
import shutil
import sqlite3
import stat
import subprocess
import time
from urllib.parse import urlsplit

import pytest

import martlet_process
from paho_client import V5, Client

MESSAGES = 20


def command(*arguments, data_dir):
    return martlet_process.run(*arguments, "--data-dir", str(data_dir))


def run(*arguments, data_dir):
    done = command(*arguments, data_dir=data_dir)
    assert done.returncode == 0, f"{arguments}: {done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A data directory with a device and retained messages, whose node has stopped, and its backup."""
    data = tmp_path_factory.mktemp("source") / "data"
    with martlet_process.Node(data_dir=data) as node:
        with Client(node, "publisher", V5) as client:
            for number in range(MESSAGES):
                client.publish(f"t/{number}", b"x", qos=1, retain=True)
    run("device", "add", "press-7", data_dir=data)
    backup = data.parent / "node.backup"
    run("backup", "create", str(backup), data_dir=data)
    return data, backup


def is_whole(data):
    """All that the backup has is there."""
    stats = json.loads(run("store", "stats", "--json", data_dir=data))
    with contextlib.closing(sqlite3.connect(f"file:{data}/martlet.db?mode=ro", uri=True)) as tables:
        return stats["messages"] == MESSAGES and tables.execute("SELECT id FROM devices").fetchall() == [("press-7",)]


def is_nothing(data):
    """A node would start with nothing, and without a part of the backup."""
    store = data / "store"
    files = [name for name in os.listdir(store) if name != "lost+found"] if store.is_dir() else []
    return not files and not (data / "martlet.db").exists() and not (data / "store.restoring").exists()


@pytest.mark.parametrize("kind", ["file", "link"])
def test_a_partial_file_that_is_there_is_neither_used_nor_followed(source, tmp_path, kind):
    data, _ = source
    target, other = tmp_path / "new.backup", tmp_path / "other"
    partial = tmp_path / "new.backup.partial"
    other.write_text("precious")
    if kind == "link":
        partial.symlink_to(other)
    else:
        partial.write_text("precious")
    refused = command("backup", "create", str(target), data_dir=data)
    assert refused.returncode == 1
    assert f"{partial} exists already" in refused.stderr
    assert partial.read_text() == "precious"
    assert partial.is_symlink() == (kind == "link")
    assert not target.exists()
    partial.unlink()
    run("backup", "create", str(target), data_dir=data)
    assert stat.S_IMODE(target.stat().st_mode) == 0o600


@pytest.mark.parametrize("end", ["", "-wal", "-shm", "-journal"])
def test_a_restore_beside_what_is_left_of_tables_is_refused(source, tmp_path, end):
    _, backup = source
    left = tmp_path / f"martlet.db{end}"
    left.write_bytes(b"of another time")
    refused = command("backup", "restore", str(backup), data_dir=tmp_path)
    assert refused.returncode == 1
    assert f"{left} already exists" in refused.stderr
    assert left.read_bytes() == b"of another time"
    left.unlink()
    assert is_nothing(tmp_path)
    run("backup", "restore", str(backup), data_dir=tmp_path)
    assert is_whole(tmp_path)


@pytest.fixture(params=["absent", "empty", "link", "disk"])
def place(request, tmp_path):
    """A data directory whose store is not there, is empty, or lies elsewhere."""
    data, elsewhere = tmp_path / "data", tmp_path / "elsewhere"
    store = data / "store"

    def make():
        shutil.rmtree(data, ignore_errors=True)
        shutil.rmtree(elsewhere, ignore_errors=True)
        data.mkdir()
        if request.param == "empty":
            store.mkdir()
        if request.param in ("link", "disk"):
            elsewhere.mkdir()
            store.symlink_to(elsewhere)
        if request.param == "disk":
            # As in the root directory of a file system.
            (elsewhere / "lost+found").mkdir()
        return data

    return make


def test_a_restore_works_wherever_the_store_is(source, place):
    _, backup = source
    data = place()
    is_link = (data / "store").is_symlink()
    run("backup", "restore", str(backup), data_dir=data)
    assert is_whole(data)
    assert (data / "store").is_symlink() == is_link
    assert not (data / "store.restoring").exists()
    assert not (data / "store.restored").exists()
    refused = command("backup", "restore", str(backup), data_dir=data)
    assert "has a store already" in refused.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts")
def test_a_restore_fills_a_mount_point(source, tmp_path):
    _, backup = source
    store = tmp_path / "store"
    store.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", store], check=True)
    try:
        run("backup", "restore", str(backup), data_dir=tmp_path)
        assert is_whole(tmp_path)
    finally:
        subprocess.run(["umount", store], check=True)


CALLS = ["rename", "fsync", "mkdir", "rmdir", "unlink", "unlinkat"]


def killed_at(call, number, backup, data):
    """Restores with `strace`, which kills the command at that call; false: there was none."""
    killed = subprocess.run(
        ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}"]
        + ["-e", f"inject={call}:signal=KILL:when={number}"]
        + [martlet_process.binary(), "backup", "restore", str(backup), "--data-dir", str(data)],
        env=martlet_process.environment(), capture_output=True, text=True, timeout=60,
    )
    return killed.returncode != 0


@pytest.mark.parametrize("call", CALLS)
def test_a_restore_that_is_killed_is_whole_or_nothing_and_can_be_done_again(source, place, call):
    _, backup = source
    was_refused = False
    for number in range(1, 30):
        data = place()
        if not killed_at(call, number, backup, data):
            assert is_whole(data)
            break
        if (data / "store.restoring").exists() and not was_refused:
            # By what is there, wherever it was killed.
            was_refused = True
            for arguments in (["store", "stats"], ["device", "ls"], ["device", "add", "new"]):
                refused = command(*arguments, data_dir=data)
                assert refused.returncode != 0
                assert "run martlet backup restore " in refused.stderr
            served = command("serve", "--listen", "mqtt://127.0.0.1:0", "--http", "off", data_dir=data)
            assert served.returncode == 1
            assert "run martlet backup restore " in served.stderr
        elif not (data / "store.restoring").exists():
            assert is_nothing(data) or is_whole(data), f"{call} {number}"
        if (data / "martlet.db").exists() and not (data / "store.restoring").exists():
            continue
        run("backup", "restore", str(backup), data_dir=data)
        assert is_whole(data), f"{call} {number}"
        assert not (data / "store.restored").exists()
    else:
        pytest.fail("the restore has no end")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
@pytest.mark.parametrize("is_link", [False, True], ids=["inside", "elsewhere"])
def test_what_root_restores_belongs_to_the_owner_of_the_directory(source, tmp_path, is_link):
    _, backup = source
    data, elsewhere = tmp_path / "data", tmp_path / "elsewhere"
    data.mkdir()
    if is_link:
        elsewhere.mkdir()
        (data / "store").symlink_to(elsewhere)
    os.chown(data, 4321, 4322)
    run("backup", "restore", str(backup), data_dir=data)
    paths = [data, *data.rglob("*"), *elsewhere.rglob("*")]
    owners = {str(path): (path.stat().st_uid, path.stat().st_gid) for path in paths}
    assert set(owners.values()) == {(4321, 4322)}, owners
    run("store", "repair", data_dir=data)
    owners = {str(path): path.stat().st_uid for path in paths if path.exists()}
    assert set(owners.values()) == {4321}, owners


def test_backups_that_nobody_reads_are_few():
    """Each takes memory until it is read."""
    key = "0123456789abcdef0123456789abcdef"
    with martlet_process.Node(http=True, variables={"MARTLET_HTTP__API_KEYS": f"all:{key}"}) as node:
        # More than the system takes for a connection that is not read.
        with Client(node, "publisher", V5) as client:
            for number in range(40):
                client.publish(f"t/{number}", b"x" * 500_000, qos=1, retain=True)
        place = urlsplit(node.http_url)

        def begin():
            wire = http.client.HTTPConnection(place.hostname, place.port, timeout=60)
            wire.request("GET", "/api/v1/backup", headers={"X-API-Key": key})
            return wire, wire.getresponse()

        unread = [begin() for _ in range(4)]
        assert [answer.status for _, answer in unread] == [200] * 4
        wire, refused = begin()
        assert refused.status == 503 and b"4 backups are being read" in refused.read()
        wire.close()
        unread[0][1].read()
        deadline = time.monotonic() + 20
        while (status := begin()[1].status) == 503 and time.monotonic() < deadline:
            pass
        assert status == 200, "one was read to its end"
        for wire, _ in unread:
            wire.close()
