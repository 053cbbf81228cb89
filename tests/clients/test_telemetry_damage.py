"""Damage of telemetry's file: what it concerns is named in health, all else goes on, and nothing is acknowledged that is
not stored."""

import json
import shutil

import pytest

from paho_client import Client
from test_access import until
from test_http_api import KEYS
from test_telemetry import call, device, post, readings, rules  # noqa: F401 (a fixture)


@pytest.fixture
def started(start_node, tmp_path, rules):  # noqa: F811
    def start():
        return start_node(http=True, variables=KEYS, arguments=("-c", rules), data_dir=tmp_path / "data")

    return start


def stop(node):
    node.terminate()
    node.wait()


def flip(path, found):
    data = bytearray(path.read_bytes())
    data[data.index(found)] ^= 1
    path.write_bytes(data)


def warnings(node):
    return json.dumps(call(node, "GET", "/health")["warnings"])


def test_a_flipped_bit_in_the_journal_costs_one_row_and_is_named(started, tmp_path):
    node = started()
    device(node, "pump")
    for number, text in enumerate(("first", "second", "third")):
        post(node, "pump", {"state": text, "ts": 1790000000 + number})
    stop(node)
    flip(tmp_path / "data" / "telemetry.db", b"second")
    node = started()
    post(node, "pump", {"state": "fourth", "ts": 1790000003})
    assert [value for _, _, value in readings(node, "pump")] == ["first", "third", "fourth"]
    told = warnings(node)
    assert "telemetry.db" in told and "of the journal" in told and "backup" in told, told


def test_a_file_that_sqlite_refuses_is_named_and_nothing_is_acknowledged(started, tmp_path):
    node = started()
    _, secret = device(node, "pump")
    post(node, "pump", {"a": 1, "ts": 1790000000})
    stop(node)
    path = tmp_path / "data" / "telemetry.db"
    shutil.copy(path, tmp_path / "saved")
    flip(path, b"SQLite format 3")
    node = started()
    post(node, "pump", {"a": 2, "ts": 1790000001}, status=503)
    told = warnings(node)
    assert str(path) in told and ".recover" in told and "backup" in told, told
    with Client(node, "pump").credentials("pump", secret) as client:
        sent = client.client.publish("d/pump/telemetry", json.dumps({"a": 3, "ts": 1790000002}), 1)
        # It goes to the queue of telemetry, and waits there.
        sent.wait_for_publish(60)
        assert sent.is_published()
    stop(node)
    for log in ("-wal", "-shm"):
        path.with_name(path.name + log).unlink(missing_ok=True)
    shutil.copy(tmp_path / "saved", path)
    node = started()
    until(lambda: [value for _, _, value in readings(node, "pump")] == [1, 3], node.log)
    assert "telemetry.db" not in warnings(node)
