"""Ids of devices: which ones there are, and with which a client logs in."""

import csv
import json
import re
import sqlite3

import pytest

from test_access import publish, until
from test_http_api import KEY, ask
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
    assert "export is reserved for paths of the API" in told


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


def test_a_kind_is_free_text_and_a_filter(start_node, variables):
    node = start_node(settings=["log.level=warn"], variables=variables, http=True)
    made = call(node, "POST", "/api/v1/devices", {"id": "a", "kind": "Öl-Pumpe 3"})
    assert (made["kind"], made["type"]) == ("Öl-Pumpe 3", "device")
    call(node, "POST", "/api/v1/devices", {"id": "b"})
    assert call(node, "PATCH", "/api/v1/devices/b", {"kind": "valve"})["kind"] == "valve"
    for kind, expected in (("valve", ["b"]), ("%C3%96l-Pumpe%203", ["a"]), ("other", [])):
        found = call(node, "GET", f"/api/v1/devices?kind={kind}")
        assert [one["id"] for one in found["items"]] == expected
    call(node, "PATCH", "/api/v1/devices/b", {"kind": "x" * 257}, expect=422)
    done = call(node, "POST", "/api/v1/devices/import", b"id,kind\nc,valve\n", kind="text/csv")
    assert done["added"] == 1
    status, _, table = ask(node, "/api/v1/devices/export?kind=valve", headers={"X-API-Key": KEY})
    rows = list(csv.DictReader(table.decode().splitlines()))
    assert status == 200 and [(row["id"], row["kind"]) for row in rows] == [("b", "valve"), ("c", "valve")]
    line = call(node, "POST", "/api/v1/provisioning-keys", {"name": "line"})["key"]
    call(node, "POST", "/api/v1/provision", {"key": line, "id": "d", "kind": "gauge"})
    assert call(node, "GET", "/api/v1/devices/d")["kind"] == "gauge"


def test_the_command_shows_and_sets_the_kind(place):
    place.run("device", "add", "a", "--kind", "water pump")
    place.run("device", "add", "b")
    place.run("device", "set", "b", "--kind", "valve")
    assert json.loads(place.run("device", "show", "b", "--json"))["kind"] == "valve"
    found = place.run("device", "ls", "--kind", "water pump")
    assert "a " in found and "b " not in found
    table = list(csv.DictReader(place.run("device", "export").splitlines()))
    assert [row["kind"] for row in table] == ["water pump", "valve"]


def test_an_id_is_generated_where_none_is_given(start_node, place, variables):
    node = start_node(settings=["log.level=warn"], variables=variables, http=True, listen=("mqtt://127.0.0.1:0",))
    made = call(node, "POST", "/api/v1/devices", {"kind": "test-device"})
    assert re.fullmatch("[A-Z2-7]{16}", made["id"]) and made["user_name"] == made["id"]
    with device(node, made["id"], made["secret"]):
        pass
    done = call(node, "POST", "/api/v1/devices/bulk", {"devices": [{}, {"id": "b"}]})
    assert re.fullmatch("[A-Z2-7]{16}", done["rows"][0]["id"]) and done["rows"][1]["id"] == "b"
    done = call(node, "POST", "/api/v1/devices/import", b"id,kind\n,valve\n", kind="text/csv")
    assert re.fullmatch("[A-Z2-7]{16}", done["rows"][0]["id"]), done
    line = call(node, "POST", "/api/v1/provisioning-keys", {"name": "line"})["key"]
    made = call(node, "POST", "/api/v1/provision", {"key": line})
    assert re.fullmatch("[A-Z2-7]{16}", made["id"])
    line = call(node, "POST", "/api/v1/provisioning-keys", {"name": "pumps", "id_pattern": "pump-*"})["key"]
    assert "pump-*" in call(node, "POST", "/api/v1/provision", {"key": line}, expect=422)["detail"]
    made = json.loads(place.run("device", "add", "--json"))
    assert re.fullmatch("[A-Z2-7]{16}", made["id"]) and made["id"] in made["try"]


def test_an_id_of_digits_alone_is_the_number_of_the_device(start_node, place, variables):
    node = start_node(settings=["log.level=warn"], variables=variables, http=True)
    assert "which is 1" in call(node, "POST", "/api/v1/devices", {"id": "42"}, expect=422)["detail"]
    assert call(node, "POST", "/api/v1/devices", {"id": "1"})["number"] == 1
    assert "which is 1" in place.run("device", "add", "42", code=1)


def test_a_device_logs_in_with_its_number_or_its_id(start_node, variables):
    node = start_node(settings=["log.level=info"], variables=variables, http=True, listen=("mqtt://127.0.0.1:0",))
    made = [call(node, "POST", "/api/v1/devices", {"id": name}) for name in ("pump", "valve")]
    for name in ("pump", "1"):
        code, said = publish(node, "d/pump/x", "-i", "pump", "-u", name, "-P", made[0]["secret"])
        assert code == 0, said
    # It is the device, whatever it called itself.
    with device(node, "1", made[0]["secret"], client_id="pump"):
        until(lambda: call(node, "GET", "/api/v1/devices/pump")["online"], "the device is online")
        assert call(node, "GET", "/api/v1/clients/pump")["client"]["user_name"] == "pump"
    # The Client Identifier is the id all the same.
    code, said = publish(node, "d/pump/x", "-i", "1", "-u", "1", "-P", made[0]["secret"])
    assert code != 0
    for name, secret in (("2", made[0]["secret"]), ("3", made[0]["secret"]), ("01", made[0]["secret"])):
        code, said = publish(node, "d/pump/x", "-i", "pump", "-u", name, "-P", secret)
        assert code != 0, name
    # A name takes precedence over a number.
    call(node, "POST", "/api/v1/users", {"name": "2", "password": "correct horse battery"})
    code, said = publish(node, "x", "-i", "x", "-u", "2", "-P", "correct horse battery")
    assert code == 0, said
    code, said = publish(node, "d/valve/x", "-i", "valve", "-u", "2", "-P", made[1]["secret"])
    assert code != 0
