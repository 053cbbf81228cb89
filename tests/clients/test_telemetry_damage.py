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


def page_of_block(data, text):
    """Where the page begins that has the block with a text: such pages begin with 10, those of the journal with 13."""
    at = -1
    while (at := data.index(text, at + 1)) >= 0:
        page = at - at % 4096
        if data[page] == 10:
            return page


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


def test_a_page_that_has_lost_rows_is_named_without_a_query(started, tmp_path):
    node = started()
    device(node, "pump")
    texts = [{"state": f"{number:04} {'of many ' * 20}", "ts": 1790000000 + number} for number in range(200)]
    for first in range(0, 200, 50):
        post(node, "pump", texts[first : first + 50])
    post(node, "pump", {"other": 1, "ts": 1790000000})
    # Values are in blocks before some of them are deleted.
    call(node, "DELETE", "/devices/pump/telemetry?from=*&to=*&keys=other")
    stop(node)
    path = tmp_path / "data" / "telemetry.db"
    data = bytearray(path.read_bytes())
    # The number of rows of the page is at 3 and 4.
    data[page_of_block(data, b"0100 of many") + 4] ^= 1
    path.write_bytes(data)
    node = started()
    until(lambda: "the table `blocks`" in warnings(node), node.log)
    told = warnings(node)
    assert str(path) in told and "Values may be missing" in told and "backup" in told, told
    assert "the table `blocks`" in node.log()
    # New values are stored.
    post(node, "pump", {"new": 1, "ts": 1790000000})
    assert [value for _, _, value in readings(node, "pump", keys="new")] == [1]


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
