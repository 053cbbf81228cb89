"""A database that is away or somewhere else: who is let in all the same, and what is told of it."""

import json
import signal
import subprocess
import time
from urllib.parse import urlsplit

import pytest

import martlet_process
import postgres_process
from test_http_api import KEY, KEYS, ask
from test_http_registry import DEADLINE_SECS, call, node  # noqa: F401
from test_revocation import Device


def test_a_database_that_is_away_keeps_nobody_out_and_takes_no_change(start_node):
    server = postgres_process.Server()
    try:
        variables = {**KEYS, "MARTLET_REGISTRY__URL": server.new_database()}
        node = start_node(http=True, variables=variables, settings=["log.level=info"])
        made = call(node, "POST", "/api/v1/devices", {"id": "pump"})
        server.stop()
        Device(node, "pump", password=made["secret"])
        call(node, "POST", "/api/v1/devices", {"id": "valve"}, expect=503)
        # And the rest of the configuration is read again all the same.
        node.process.send_signal(signal.SIGHUP)
        node.wait_for_log("reloaded (SIGHUP)")
        Device(node, "pump", password=made["secret"])
        status, _, answer = ask(node, "/api/v1/status", headers={"X-API-Key": KEY})
        assert "tables of users and devices" in answer.decode(), answer
        asked = call(node, "GET", "/api/v1/why?name=pump", key=KEY)
        [told] = [one for one in [asked, *asked["also"]] if one["cause"] == "tables-failing"]
        assert "the tables of users and devices cannot be used" in told["sentence"], told
        server.start()
        call(node, "POST", "/api/v1/devices", {"id": "valve"})
        status, _, answer = ask(node, "/api/v1/status", headers={"X-API-Key": KEY})
        assert "tables of users and devices" not in answer.decode(), answer
    finally:
        server.close()


def test_of_a_database_that_is_away_nobody_outside_is_told_where_it_is(start_node):
    """Not by a key that is in it, by a log-in, by a change, by a reload, or by probes."""
    server = postgres_process.Server()
    try:
        url = server.new_database()
        node = start_node(http=True, variables={**KEYS, "MARTLET_REGISTRY__URL": url}, settings=["log.level=info"])
        key = call(node, "POST", "/api/v1/keys", {"name": "app", "scopes": ["administrator"]})["key"]
        call(node, "GET", "/api/v1/devices", key=key)
        gone = call(node, "POST", "/api/v1/keys", {"name": "gone", "scopes": ["administrator"]})
        call(node, "GET", "/api/v1/clients", key=gone["key"])
        call(node, "DELETE", f"/api/v1/keys/{gone['id']}")
        call(node, "GET", "/api/v1/clients", key=key)
        server.stop()
        # Whoever was known goes on with what is not in the database, and whoever was not does not.
        call(node, "GET", "/api/v1/clients", key=key)
        call(node, "POST", "/api/v1/publish", {"topic": "t", "payload": "x"}, key=key)
        call(node, "GET", "/api/v1/clients", key="mk_nobodys", expect=503)
        call(node, "GET", "/api/v1/clients", key=gone["key"], expect=503)
        hidden = [f"{urlsplit(url).username}@", urlsplit(url).hostname, server.place, "postgres"]
        told = []
        for method, path, headers, body in (
            ("GET", "/api/v1/devices", {"X-API-Key": key}, None),
            ("POST", "/api/v1/session", {"Content-Type": "application/json"},
             {"user": "ann", "password": "0123456789"}),
            ("POST", "/api/v1/devices", {"X-API-Key": KEY, "Content-Type": "application/json"}, {"id": "d1"}),
            ("POST", "/api/v1/reload?only=tables", {"X-API-Key": KEY}, None),
        ):
            status, _, answer = ask(node, path, method, headers, json.dumps(body).encode() if body else None)
            assert status >= 400, (path, status)
            told.append(json.loads(answer)["detail"])
        assert told[0].startswith("the tables of users and devices cannot be used now")
        told.append(ask(node, "/health/ready")[2].decode())
        assert "The tables of users and devices cannot be used" in told[-1]
        for one in told:
            assert not any(word in one for word in hidden), one
        assert "tables of users and devices cannot be used" in node.log()
        server.start()
        call(node, "GET", "/api/v1/devices", key=key)
    finally:
        server.close()


def test_commands_do_not_look_in_a_file_where_the_node_has_a_database(start_node, postgres, tmp_path):
    url, data_dir = postgres.new_database(has_tables=False), tmp_path / "data"
    node = start_node(http=True, variables={**KEYS, "MARTLET_REGISTRY__URL": url}, data_dir=data_dir)
    call(node, "POST", "/api/v1/devices", {"id": "pump"})

    def command(*arguments, **variables):
        done = subprocess.run([martlet_process.binary(), *arguments, "--data-dir", str(data_dir)], text=True,
                              env={**martlet_process.environment(), **variables}, capture_output=True,
                              timeout=DEADLINE_SECS, stdin=subprocess.DEVNULL)
        return done.returncode, done.stdout + done.stderr

    for is_running in (True, False):
        for arguments in (["device", "ls"], ["device", "add", "valve"], ["user", "ls"], ["audit"]):
            code, said = command(*arguments)
            if is_running:
                # The node answers.
                assert code == 0, said
                continue
            assert code == 1 and "MARTLET_REGISTRY__URL" in said and "postgres" in said, said
            password = urlsplit(url).password
            assert not password or password not in said
        code, said = command("device", "ls", MARTLET_REGISTRY__URL=url)
        assert code == 0 and "pump" in said
        assert not (data_dir / "martlet.db").exists()
        if is_running:
            node.terminate()
            node.wait()
    # Everybody would be let in, so it is to be meant.
    with pytest.raises(RuntimeError, match="registry.url to its old value"):
        start_node(http=True, variables=KEYS, data_dir=data_dir)
    with pytest.raises(RuntimeError, match="no users and devices"):
        empty = {**KEYS, "MARTLET_REGISTRY__URL": url}
        postgres.run("dropdb", urlsplit(url).path[1:])
        postgres.run("createdb", "-T", "template0", urlsplit(url).path[1:])
        start_node(http=True, variables=empty, data_dir=data_dir)
    # From now on they are in the data directory.
    (data_dir / "registry").unlink()
    node = start_node(http=True, variables=KEYS, data_dir=data_dir)
    assert command("device", "ls") == (0, "There are no devices.\n")
    node.terminate()
    node.wait()
    assert command("device", "ls") == (0, "There are no devices.\n")


def test_commands_find_the_tables_of_a_node_from_wherever_they_are_called(tmp_path):
    """A file of another name, a data directory that is given as a relative path, and a link to it."""
    (tmp_path / "link").symlink_to("data")

    def start(*arguments, where=tmp_path, **options):
        return subprocess.Popen([martlet_process.binary(), *arguments], cwd=where, text=True, stdin=subprocess.DEVNULL,
                                env={**martlet_process.environment(), **options}, stdout=subprocess.PIPE,
                                stderr=subprocess.STDOUT)

    def command(*arguments, **options):
        done = start(*arguments, **options)
        return done.communicate(timeout=DEADLINE_SECS)[0], done.returncode

    other = {"MARTLET_REGISTRY__URL": "other.db"}
    node = start("serve", "--data-dir", "data", "--listen", "mqtt://127.0.0.1:0", "--http", "off", **other)
    try:
        deadline = time.monotonic() + DEADLINE_SECS
        while command("status", "--data-dir", "data")[1]:
            assert time.monotonic() < deadline
        for number, (data_dir, where) in enumerate(((tmp_path / "data", "/"), ("data", tmp_path),
                                                    (tmp_path / "link", "/"), (".", tmp_path / "data"))):
            said, code = command("device", "add", f"d{number}", "--data-dir", data_dir, where=where, **other)
            assert code == 0 and "Applied to the running node." in said, said
            said, code = command("device", "ls", "--data-dir", data_dir, where=where)
            assert code == 0 and f"d{number}" in said, said
    finally:
        node.terminate()
        node.communicate(timeout=DEADLINE_SECS)
    said, code = command("device", "ls", "--data-dir", tmp_path / "link", where="/", **other)
    assert code == 0 and said.count("\n") == 5, said
    said, code = command("device", "ls", "--data-dir", "data")
    assert code == 1 and "other.db" in said, said


def test_without_a_key_the_answer_says_that_the_database_is_away(start_node):
    server = postgres_process.Server()
    try:
        node = start_node(http=True, variables={"MARTLET_REGISTRY__URL": server.new_database()})
        call(node, "POST", "/api/v1/devices", {"id": "pump"}, key=None)
        server.stop()
        call(node, "POST", "/api/v1/devices", {"id": "valve"}, key=None, expect=503)
        # Routes of other systems too.
        call(node, "POST", "/devices", {"type": "x"}, key=None, expect=503)
        call(node, "POST", "/api/v1/devices/register", {"name": "x", "device_type": "y"}, key=None, expect=503)
        told = martlet_process.run("health", "--data-dir", node.data_dir).stdout
        assert "the connection to its database" in told and "unexpected" not in told, told
    finally:
        server.start()
        server.close()
