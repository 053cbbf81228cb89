"""Ids of devices: which ones there are, and with which a client logs in."""

import json
import sqlite3

import pytest

from test_http_registry import call
from test_registry import Place, device, martlet

RESERVED = ["register", "status", "statuses", "telemetry", "config", "heartbeat", "credentials", "mqtt-credentials", "summary",
            "export", "import", "bulk"]


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path / "data")


def test_words_of_the_paths_are_no_ids(start_node, variables):
    node = start_node(settings=["log.level=warn"], variables=variables, http=True)
    for word in RESERVED:
        told = call(node, "POST", "/api/v1/devices", {"id": word}, expect=422)
        assert f"{word}-1" in str(told), told
    done = call(node, "POST", "/api/v1/devices/import", b"id\na\nsummary\n", kind="text/csv")
    assert "summary-1" in str(done), done
    line = call(node, "POST", "/api/v1/provisioning-keys", {"name": "line"})["key"]
    told = call(node, "POST", "/api/v1/provision", {"key": line, "id": "status"}, expect=422)
    assert "status-1" in str(told), told


def test_a_word_of_the_paths_is_no_id_for_the_command(place):
    told = place.run("device", "add", "export", code=1)
    assert "export is a word of the API's paths" in told


def test_a_device_with_a_reserved_id_is_renamed_and_the_start_says_so(start_node, place):
    secret = place.device("old")
    place.device("summary-1")
    with sqlite3.connect(place.path / "martlet.db") as tables:
        tables.execute("UPDATE devices SET id = 'summary' WHERE id = 'old'")
        tables.execute("DELETE FROM _sqlx_migrations WHERE version = 12")
    tables.close()
    node = start_node(data_dir=place.path)
    node.wait_for_log("a device was renamed")
    assert "summary-2" in node.log()
    with device(node, "summary-2", secret):
        pass
    node.close()
    line = json.loads(place.run("audit", "--action", "device.rename", "--json"))
    assert "summary-2" in str(line)
    # Once it has been connected, nobody needs to be told any more.
    again = start_node(data_dir=place.path)
    assert "a device was renamed" not in again.log()
    assert martlet("device", "show", "summary-2", "--data-dir", place.path)
