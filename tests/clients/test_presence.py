"""Who is online, since when and why not any more: by HTTP and on the status topics, in a file of
SQLite and in PostgreSQL, after a stop, and after an end that nobody saw coming."""

import json
import time
from datetime import datetime

import pytest

from paho_client import Client
from test_access import until
from test_http_api import KEYS
from test_http_registry import call

TOPIC = "iotflow/devices/{}/status/{}"
SETTINGS = ["presence.publish=true", "log.level=info"]


@pytest.fixture
def start(start_node, variables, tmp_path):
    """Starts the same node again and again."""
    return lambda **options: start_node(http=True, variables=variables, data_dir=tmp_path / "data",
                                        settings=SETTINGS, **options)


def ms(text):
    """A time of the API as milliseconds since the Unix epoch."""
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp() * 1000


def show(node, name):
    return call(node, "GET", f"/api/v1/devices/{name}")


def names(node, online):
    found = call(node, "GET", f"/api/v1/devices?online={online}")["items"]
    return sorted(device["id"] for device in found)


def await_names(node, online, expected):
    until(lambda: names(node, online) == expected, f"online={online} is {expected}")


def statuses(node, reader):
    """The retained messages of the status topics, by topic; the reader is a user that may see all."""
    with Client(node, "reader").credentials(*reader) as client:
        client.subscribe(TOPIC.format("+", "+"), 1)
        client.subscribe("end", 1)
        client.client.publish("end", "x", 1)
        found = {}
        while (message := client.messages.get(timeout=60)).topic != "end":
            if message.payload:
                found[message.topic] = json.loads(message.payload)
        return found


def devices(node, *ids):
    """Their secrets."""
    return {name: call(node, "POST", "/api/v1/devices", {"id": name})["secret"] for name in ids}


def administrator(node):
    body = {"name": "ada", "password": "correct horse", "role": "administrator"}
    call(node, "POST", "/api/v1/users", body)
    return "ada", "correct horse"


@pytest.mark.parametrize("how", ["kill", "stop"])
def test_after_a_restart_nobody_is_online_who_has_not_come_again(start, how):
    node = start()
    reader = administrator(node)
    secrets = devices(node, "again", "gone", "never", "went")
    with Client(node, "went").credentials("went", secrets["went"]):
        await_names(node, "true", ["went"])
    await_names(node, "true", [])
    went = show(node, "went")
    assert not went["online"] and went["why_offline"] and went["address"].startswith("127.0.0.1:"), went
    clients = [Client(node, name).credentials(name, secrets[name]).__enter__() for name in ("again", "gone")]
    await_names(node, "true", ["again", "gone"])
    there = show(node, "gone")
    assert there["online"] and there["why_offline"] == "" and abs(ms(there["last_seen_at"]) - time.time() * 1000) < 20_000
    until(lambda: TOPIC.format("gone", "online") in statuses(node, reader), "it is published")

    if how == "kill":
        node.process.kill()
    else:
        node.terminate()
    node.wait()
    ended = time.time() * 1000
    for client in clients:
        client.wait_for_end()

    node = start()
    # At once: nobody has to wait to be told the truth.
    gone = show(node, "gone")
    assert not gone["online"]
    why = {"kill": "the node ended without a stop", "stop": "the server is shutting down"}[how]
    assert why in gone["why_offline"], gone
    last_seen = ms(gone["last_seen_at"])
    assert ms(there["online_changed_at"]) <= last_seen <= ended + 1000, gone
    assert gone["address"] == there["address"]
    assert names(node, "true") == []
    assert names(node, "false") == ["again", "gone", "never", "went"]
    assert show(node, "never")["last_seen_at"] is None
    for field in ("online", "online_changed_at", "last_seen_at", "why_offline", "address"):
        assert show(node, "went")[field] == went[field], field
    with Client(node, "again").credentials("again", secrets["again"]):
        await_names(node, "true", ["again"])

        def is_told():
            found = statuses(node, reader)
            return (TOPIC.format("again", "online") in found and TOPIC.format("gone", "offline") in found
                    and TOPIC.format("gone", "online") not in found)

        until(is_told, "the status topics say so")
        told = statuses(node, reader)[TOPIC.format("gone", "offline")]
        assert told["status"] == "offline" and why in told["reason"] and abs(told["since"] - last_seen) < 2, told


def test_who_came_before_there_were_tables_is_in_them_when_they_are_made(start_node, tmp_path):
    """Without status topics nothing is written for a node that keeps nobody."""
    node = start_node(http=True, variables=KEYS, data_dir=tmp_path / "data",
                      listen=("mqtt://127.0.0.1:0",), settings=["auth.registry=off"])
    with Client(node, "early"):
        assert not (tmp_path / "data/martlet.db").exists()
        devices(node, "early", "late")
        await_names(node, "true", ["early"])


def test_what_is_online_is_asked_for_by_page(start):
    node = start()
    secrets = devices(node, *[f"d{number}" for number in range(6)])
    clients = [Client(node, name).credentials(name, secrets[name]).__enter__() for name in list(secrets)[:3]]
    await_names(node, "true", ["d0", "d1", "d2"])
    page = call(node, "GET", "/api/v1/devices?online=true&limit=2&total=true")
    assert page["total"] == 3 and [device["id"] for device in page["items"]] == ["d0", "d1"]
    page = call(node, "GET", f"/api/v1/devices?online=true&limit=2&cursor={page['next']}")
    assert [device["id"] for device in page["items"]] == ["d2"] and page["next"] is None
    assert call(node, "GET", "/api/v1/devices/summary")["online"] == 3
    for client in clients:
        client.disconnect()


def test_a_device_of_another_tenant_is_another_one(start):
    node = start()
    team = call(node, "POST", "/api/v1/teams", {"name": "acme", "owns_tenant": True})["id"]
    devices(node, "pump")
    made = call(node, "POST", "/api/v1/devices", {"id": "pump", "team": team})
    with Client(node, "pump").credentials(made["user_name"], made["secret"]):
        until(lambda: call(node, "GET", f"/api/v1/devices/pump?team={team}")["online"], "it is online")
        common = show(node, "pump")
        assert not common["online"] and common["last_seen_at"] is None and common["address"] == ""
        await_names(node, "true", ["pump"])
        assert call(node, "GET", "/api/v1/devices?online=true&total=true")["total"] == 1
        node.process.kill()
        node.wait()
    node = start()
    assert not call(node, "GET", f"/api/v1/devices/pump?team={team}")["online"]
    assert show(node, "pump")["last_seen_at"] is None
