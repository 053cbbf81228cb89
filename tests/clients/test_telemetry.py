"""Telemetry: what devices publish or send by HTTP is stored once, read again by HTTP and by commands,
and what cannot be stored is told with its reason."""

import contextlib
import csv
import gzip
import http.client
import io
import json
import os
import pathlib
import re
import sqlite3
import threading
import time
import urllib.request
from datetime import datetime, timedelta, timezone
from urllib.parse import urlencode, urlsplit
from zoneinfo import ZoneInfo

import pytest

import martlet_process
from paho_client import Client
from test_access import until
from test_http_api import KEY, KEYS, VIEWER, ask

DOCUMENT = pathlib.Path(__file__).parents[2] / "docs" / "telemetry.md"

RULES = """
[telemetry]
enabled = true
message_values = 50
keys_per_device = 60

[[telemetry.rules]]
topic = "d/{device}/line/{sensor}"
key = "{sensor}"
format = "value"

[[telemetry.rules]]
topic = "d/{device}/influx"
format = "line"
ignore = ["host"]

[[telemetry.rules]]
topic = "d/{device}/strict"
missing_time = "reject"
skew = "reject"
skew_ahead_secs = 60
skew_behind_secs = 3600

[[telemetry.rules]]
topic = "d/{device}/flat/#"
key = "{rest}.{key}"
flatten = true

[[telemetry.rules]]
topic = "plain/telemetry"

[[telemetry.rules]]
topic = "d/{device}/telemetry"
"""


@pytest.fixture(scope="module")
def rules(tmp_path_factory):
    path = tmp_path_factory.mktemp("telemetry") / "martlet.toml"
    path.write_text(RULES)
    return str(path)


@pytest.fixture(scope="module")
def node(rules):
    with martlet_process.Node(http=True, variables=KEYS, settings=["http.rate=0"], arguments=["-c", rules]) as node:
        yield node


def call(node, method, path, body=None, status=200, headers=(), key=KEY):
    """The answer's body, read as JSON."""
    headers = {"X-API-Key": key, "Content-Type": "application/json", **dict(headers)}
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    found, answered, text = ask(node, "/api/v1" + path, method, headers, data)
    assert found == status, (method, path, found, text[:2000])
    if found >= 400:
        assert answered["Content-Type"] == "application/problem+json"
    return json.loads(text) if text else None


def device(node, name, **more):
    """A new device: its id and its secret."""
    made = call(node, "POST", "/devices", {"id": name, **more}, status=201)
    return made["id"], made["secret"]


@contextlib.contextmanager
def connected(node, named):
    with Client(node, named[0]).credentials(*named) as client:
        yield client


def readings(node, name, **query):
    """Time, key and value of all values of a device."""
    query = urlencode({"from": "1970-01-02T00:00:00Z", "limit": 10_000, **query})
    found = call(node, "GET", f"/devices/{name}/telemetry?{query}")
    assert not found["truncated"]
    return [(one["time"], one["key"], one["value"]) for one in found["items"]]


def values(node, name, count, **query):
    """Key and value of all values of a device, once so many are there."""
    until(lambda: len(readings(node, name, **query)) >= count, f"{count} values of {name} are stored")
    return [(key, value) for _, key, value in readings(node, name, **query)]


def rejected(node, topic):
    """What was rejected of a topic, once something was."""
    found = lambda: [one for one in call(node, "GET", "/telemetry/rejected?limit=1000")["items"] if one["topic"] == topic]
    until(found, f"something of {topic} is rejected")
    return found()


# From topics


def test_what_a_device_publishes_is_read_by_http(node, name):
    named = device(node, name)
    with connected(node, named) as client:
        client.publish(f"d/{name}/telemetry", json.dumps({"timestamp": 1790000000.5, "t": 21.5, "n": 7, "on": True}), 1)
        client.publish(f"d/{name}/telemetry", json.dumps({"ts": 1790000001000, "values": {"s": "x", "j": {"a": [1]}}}), 2)
        client.publish(f"d/{name}/telemetry", json.dumps([{"t": 22}, {"t": 23}]), 0)
    assert len(values(node, name, 7)) == 7
    first, second = "2026-09-21T14:13:20.500000Z", "2026-09-21T14:13:21.000000Z"
    found = readings(node, name)
    assert found[:3] == [(first, "n", 7), (first, "on", True), (first, "t", 21.5)]
    assert found[3:5] == [(second, "j", {"a": [1]}), (second, "s", "x")]
    # Two objects of one message without a time are two values.
    assert [value for _, key, value in found[5:]] == [22, 23]
    assert call(node, "GET", f"/devices/{name}/telemetry/keys")["items"] == ["j", "n", "on", "s", "t"]
    latest = call(node, "GET", f"/devices/{name}/telemetry/latest?keys=t,n")
    assert latest["n"] == {"time": first, "value": 7} and latest["t"]["value"] == 23
    newest = readings(node, name, order="desc", keys="t")
    assert [value for _, _, value in newest] == [23, 22, 21.5]


def test_rules_make_keys_from_topics_and_lines(node, name):
    named = device(node, name)
    with connected(node, named) as client:
        client.publish(f"d/{name}/line/temperature", "21.5")
        client.publish(f"d/{name}/line/door", "open")
        client.publish(f"d/{name}/influx", "cpu,cpu=cpu0,host=h idle=99,n=3i 1790000000000000000\n# end")
        client.publish(f"d/{name}/flat/gps/now", json.dumps({"at": {"lat": 1, "lon": 2}, "ts": 1790000000}))
    found = dict(values(node, name, 6))
    assert found == {"temperature": 21.5, "door": "open", "cpu.cpu0.idle": 99.0, "cpu.cpu0.n": 3,
                     "gps.now.at.lat": 1, "gps.now.at.lon": 2}


def test_topics_of_two_systems_are_taken_without_rules(start_node):
    node = start_node(http=True, variables=KEYS, settings=["telemetry.enabled=true"])
    for name, kind, topic in [("car-1", "tls-guide", "device/data/car-1"),
                              ("sensor-1", "iotflow", "iotflow/devices/sensor-1/telemetry/sensors")]:
        payload = {"device_id": name, "timestamp": 1790000000.25, "datetime": "x", "speed": 12, "api_key": "secret"}
        if kind == "iotflow":
            payload = {"api_key": "secret", "timestamp": "2026-09-21T14:13:20.25", "data": {"speed": 12}, "metadata": {"fw": "2"}}
        with connected(node, device(node, name, type=kind)) as client:
            client.publish(topic, json.dumps(payload))
        found = values(node, name, 1 if kind == "tls-guide" else 2)
        assert ("speed", 12) in found and all(key in ("speed", "meta_fw") for key, _ in found)
        assert readings(node, name)[0][0] == "2026-09-21T14:13:20.250000Z"
        # The node has seen that the device sends telemetry.
        until(lambda: call(node, "GET", f"/devices/{name}")["last_seen_at"], "it was seen")


def test_the_nested_form_of_the_tls_guide_has_the_keys_of_the_flat_one(start_node):
    node = start_node(http=True, variables=KEYS, settings=["telemetry.enabled=true"])
    telemetry = {"cpu_usage": 12.5, "memory": {"total": 8, "percent": 50.0}, "network": {"bytes_sent": 9}}
    payload = {"device_id": "car-1", "timestamp": 1790000000.25, "datetime": "x", "speed": 12, "telemetry": telemetry,
               "detection": {"label": "awake", "confidence": 0.9}, "gps": {"lat": 1}}
    with connected(node, device(node, "car-1", type="tls-guide")) as client:
        client.publish("device/data/car-1", json.dumps(payload))
    assert dict(values(node, "car-1", 8)) == {
        "speed": 12, "cpu_usage": 12.5, "memory_total": 8, "memory_percent": 50.0, "network_bytes_sent": 9,
        "detection_label": "awake", "detection_confidence": 0.9, "gps": {"lat": 1}}


def test_a_device_has_three_times(node, name):
    """When it was connected, when it sent something, and when it sent telemetry."""
    named = device(node, name)
    times = lambda: [call(node, "GET", f"/devices/{name}")[key] for key in ("last_seen_at", "last_message_at", "last_telemetry_at")]
    assert times() == [None, None, None]
    with connected(node, named) as client:
        until(lambda: times()[0], "it was connected")
        assert times()[1:] == [None, None]
        client.publish(f"d/{name}/other", "x", 1)
        until(lambda: times()[1], "it has sent something", 40)
        assert times()[2] is None
        client.publish(f"d/{name}/telemetry", json.dumps({"a": 1}), 1)
        until(lambda: times()[2], "it has sent telemetry", 40)
    seen, message, telemetry = map(datetime.fromisoformat, times())
    assert message <= telemetry and seen


def test_a_value_with_a_time_that_comes_twice_is_one(node, name):
    named = device(node, name)
    with connected(node, named) as client:
        for value in (1, 2):
            client.publish(f"d/{name}/telemetry", json.dumps({"ts": 1790000000, "a": value}))
        client.publish(f"d/{name}/telemetry", json.dumps({"ts": 1790000001, "a": 3}))
    assert values(node, name, 2) == [("a", 2), ("a", 3)]


def test_invalid_payloads_are_acknowledged_counted_and_told(node, name):
    named = device(node, name)
    topic = f"d/{name}/telemetry"
    with connected(node, named) as client:
        for payload in ("{", "{}", '{"a,b": 1}', '{"a": 1, "ts": "soon"}', json.dumps({f"k{n}": n for n in range(51)})):
            client.publish(topic, payload)
        client.publish(topic, b"\xff\xfe")
        client.publish(topic, json.dumps({"good": 1}))
    assert values(node, name, 1) == [("good", 1)]
    reasons = {"not_json", "no_values", "bad_key", "bad_time", "too_many_values", "not_text"}
    until(lambda: {one["reason"] for one in rejected(node, topic)} == reasons, "all reasons are told")
    found = {one["reason"]: one for one in rejected(node, topic)}
    assert found["not_json"]["client_id"] == name and found["not_json"]["count"] == 1
    assert "soon" in found["bad_time"]["detail"]
    page = ask(node, "/metrics")[2].decode()
    for reason in found:
        assert re.search(rf'^martlet_telemetry_rejected_total{{reason="{reason}"}} [1-9]', page, re.M), reason
    shown = martlet_process.run("telemetry", "rejected", "--data-dir", node.data_dir).stdout
    assert topic in shown and "not JSON" in shown
    # What is no telemetry is not kept for later either.
    [one] = [one for one in call(node, "GET", "/integrations")["items"] if one["kind"] == "telemetry"]
    assert one["name"] == "main" and one["state"] == "running"


def test_a_device_that_is_not_there_is_told(node, name):
    call(node, "POST", "/publish", {"topic": f"d/{name}/telemetry", "payload": '{"a": 1}', "qos": 1})
    [one] = rejected(node, f"d/{name}/telemetry")
    assert one["reason"] == "unknown_device" and f"martlet device add {name}" in one["detail"]
    shown = martlet_process.run("telemetry", "rejected", "--data-dir", node.data_dir).stdout
    assert f"martlet device add --data-dir={node.data_dir} {name}" in shown, shown
    shown = martlet_process.run("telemetry", "rejected", "--json", "--data-dir", node.data_dir).stdout
    details = [one["detail"] for one in json.loads(shown)["items"]]
    assert any(f"martlet device add --data-dir={node.data_dir} {name}" in detail for detail in details), details
    call(node, "POST", "/publish", {"topic": "plain/telemetry", "payload": '{"a": 1}', "qos": 1})
    assert rejected(node, "plain/telemetry")[0]["reason"] == "no_device"
    # From then on it is there.
    named = device(node, name)
    with connected(node, named) as client:
        client.publish(f"d/{name}/telemetry", json.dumps({"a": 2}))
    assert values(node, name, 1) == [("a", 2)]


def test_keys_of_a_device_are_limited(node, name):
    named = device(node, name)
    with connected(node, named) as client:
        for part in (range(40), range(40, 80)):
            client.publish(f"d/{name}/telemetry", json.dumps({f"k{n}": n for n in part}))
    assert len(values(node, name, 60)) == 60
    reasons = [one["reason"] for one in rejected(node, f"d/{name}/telemetry")]
    assert reasons == ["too_many_keys"]


def test_policies_of_times(node, name):
    named = device(node, name)
    now = int(time.time())
    with connected(node, named) as client:
        for payload in ({"a": 1}, {"a": 2, "ts": now + 120}, {"a": 3, "ts": now - 7200}, {"a": 4, "ts": now}):
            client.publish(f"d/{name}/strict", json.dumps(payload))
        # Beyond a day ahead the default is the time of receipt.
        client.publish(f"d/{name}/telemetry", json.dumps({"b": 1, "ts": now + 100_000}))
        client.publish(f"d/{name}/telemetry", json.dumps({"b": 2, "ts": 1}))
    begin = {"from": "1970-01-01T00:00:00Z"}
    values(node, name, 3, **begin)
    by_key = {(key, value): at for at, key, value in readings(node, name, **begin)}
    assert set(by_key) == {("a", 4), ("b", 1), ("b", 2)}
    at = datetime.fromisoformat(by_key["b", 1])
    assert abs(at.timestamp() - now) < 60
    assert by_key["b", 2].startswith("1970-01-01T00:00:01")
    found = lambda: {one["reason"]: one["count"] for one in rejected(node, f"d/{name}/strict")}
    until(lambda: found() == {"no_time": 1, "skewed_time": 2}, "both reasons are counted")


# Crashes


def test_nothing_acknowledged_is_lost_or_stored_twice_by_kill_9(rules, tmp_path):
    start = lambda: martlet_process.Node(http=True, variables=KEYS, settings=["http.rate=0"], arguments=["-c", rules],
                                         data_dir=tmp_path)
    node = start()
    named = device(node, "pump")
    acknowledged = 0
    for turn in range(3):
        if turn == 0:
            # What waits for the storage when the node is killed.
            call(node, "POST", "/integrations/telemetry/main/pause", status=204)
        with connected(node, named) as client:
            for _ in range(50):
                # Without a time, a value is known by its message.
                client.publish("d/pump/telemetry", json.dumps({"n": acknowledged}), 1)
                acknowledged += 1
            node.process.kill()
            node.wait()
            client.client.loop_stop()
        node.close()
        node = start()
    with contextlib.closing(node):
        call(node, "POST", "/integrations/telemetry/main/resume", status=204)
        found = values(node, "pump", acknowledged)
        assert sorted(value for _, value in found) == list(range(acknowledged))


def test_messages_of_qos_0_are_kept_until_they_are_stored(rules, tmp_path):
    """They wait while the storage takes nothing, and over a kill."""
    start = lambda: martlet_process.Node(http=True, variables=KEYS, settings=["http.rate=0"], arguments=["-c", rules],
                                         data_dir=tmp_path)
    node = start()
    named = device(node, "pump")
    call(node, "POST", "/integrations/telemetry/main/pause", status=204)
    with connected(node, named) as client:
        for number in range(50):
            client.publish("d/pump/telemetry", json.dumps({"n": number}), 0)
        # Once this one is acknowledged, those before it are kept.
        client.publish("d/pump/telemetry", json.dumps({"n": 50}), 1)
        node.process.kill()
        node.wait()
        client.client.loop_stop()
    node.close()
    with start() as node:
        assert readings(node, "pump") == []
        call(node, "POST", "/integrations/telemetry/main/resume", status=204)
        assert sorted(value for _, value in values(node, "pump", 51)) == list(range(51))


def test_what_was_answered_by_http_survives_kill_9(rules, tmp_path):
    start = lambda: martlet_process.Node(http=True, variables=KEYS, settings=["http.rate=0"], arguments=["-c", rules],
                                         data_dir=tmp_path)
    node = start()
    device(node, "pump")
    for turn in range(3):
        for number in range(20):
            post(node, "pump", {"n": number, "ts": 1790000000 + 100 * turn + number})
        node.process.kill()
        node.wait()
        node.close()
        node = start()
        assert len(readings(node, "pump")) == 20 * (turn + 1)
    node.close()


def test_a_storage_that_cannot_be_used_holds_messages_and_is_in_health(start_node, tmp_path):
    """The broker goes on; when the storage is there again, what was published meanwhile is stored."""
    place = tmp_path / "elsewhere"
    node = start_node(http=True, variables={**KEYS, "MARTLET_TELEMETRY__URL": f"{place}/t.db"}, settings=["telemetry.enabled=true"])
    named = device(node, "car", type="tls-guide")
    with connected(node, named) as client:
        client.publish("device/data/car", json.dumps({"ts": 1790000000, "speed": 1}))
    warned = lambda: [one for one in call(node, "GET", "/health")["warnings"] if "Telemetry cannot be stored" in one]
    until(warned, "health warns")
    status = ask(node, "/api/v1/devices/car/telemetry", "POST", {"X-API-Key": KEY, "Content-Type": "application/json"}, b'{"a": 1}')[0]
    assert status == 503
    place.mkdir()
    call(node, "POST", "/integrations/telemetry/main/resume", status=204)
    until(lambda: ask(node, "/api/v1/devices/car/telemetry", headers={"X-API-Key": KEY})[0] == 200, "the storage is open")
    assert values(node, "car", 1) == [("speed", 1)]
    until(lambda: not warned(), "health warns no more")


# By HTTP


def post(node, name, body, kind="application/json", status=201, key=KEY, **headers):
    return call(node, "POST", f"/devices/{name}/telemetry", body, status, {"Content-Type": kind, **headers}, key)


def test_values_are_sent_by_http_in_all_forms(node, name):
    _, secret = device(node, name)
    assert post(node, name, {"a": 1, "ts": 1790000000}, key=secret)["stored"] == 1
    assert post(node, name, [{"a": 2, "ts": 1790000001}, {"data": {"a": 3}, "timestamp": 1790000002}])["stored"] == 2
    lines = b'{"a": 4, "ts": 1790000003}\n\n{"a": 5, "ts": 1790000004}\n'
    assert post(node, name, lines, "application/x-ndjson")["stored"] == 2
    assert post(node, name, b"m a=6 1790000005000000000", "text/plain; charset=utf-8")["stored"] == 1
    packed = gzip.compress(json.dumps({"a": 7, "ts": 1790000006}).encode())
    assert post(node, name, packed, **{"Content-Encoding": "gzip"})["stored"] == 1
    # It is there when the answer is.
    assert [value for _, _, value in readings(node, name)] == [1, 2, 3, 4, 5, 6.0, 7]
    before = readings(node, name)
    post(node, name, b'{"a": 1}\n{', "application/x-ndjson", status=422)
    post(node, name, {}, status=422)
    post(node, name, b"x", "application/xml", status=415)
    post(node, name, b"x", **{"Content-Encoding": "br"}, status=415)
    post(node, name, b"x", **{"Content-Encoding": "gzip"}, status=400)
    bomb = gzip.compress(b" " * 50_000_000)
    assert len(bomb) < 100_000
    post(node, name, bomb, **{"Content-Encoding": "gzip"}, status=413)
    assert readings(node, name) == before
    told = rejected(node, f"POST /api/v1/devices/{name}/telemetry")
    assert {one["reason"] for one in told} == {"not_json", "no_values"}


def test_a_device_sends_and_reads_its_own_telemetry_alone(node, name):
    _, secret = device(node, name)
    other, _ = device(node, f"{name}-2")
    assert post(node, name, {"a": 1}, key=secret)["stored"] == 1
    assert len(call(node, "GET", f"/devices/{name}/telemetry", key=secret)["items"]) == 1
    post(node, other, {"a": 1}, key=secret, status=403)
    for path in ("", "/latest", "/keys"):
        call(node, "GET", f"/devices/{other}/telemetry{path}", key=secret, status=403)
    for path in (f"/query?device={name}", f"/telemetry/tail?device={name}", "/telemetry/rejected"):
        assert ask(node, "/api/v1" + path, headers={"X-API-Key": secret})[0] == 401
    call(node, "DELETE", f"/devices/{name}/telemetry?from=*&to=*", key=secret, status=401)
    # A viewer reads, and changes nothing.
    assert len(call(node, "GET", f"/devices/{name}/telemetry", key=VIEWER)["items"]) == 1
    post(node, name, {"a": 1}, key=VIEWER, status=403)
    call(node, "DELETE", f"/devices/{name}/telemetry?from=*&to=*", key=VIEWER, status=403)


def test_a_range_is_deleted_and_the_audit_log_says_so(node, name):
    device(node, name)
    post(node, name, [{"a": n, "b": n, "ts": 1790000000 + n} for n in range(10)])
    path = f"/devices/{name}/telemetry"
    call(node, "DELETE", path, status=400)
    call(node, "DELETE", f"{path}?from=1790000005&to=1790000005", status=400)
    assert call(node, "DELETE", f"{path}?from=1790000002&to=1790000005&keys=a") == {"deleted": 3}
    assert [value for _, key, value in readings(node, name) if key == "a"] == [0, 1, 5, 6, 7, 8, 9]
    assert call(node, "DELETE", f"{path}?from=*&to=*") == {"deleted": 17}
    assert readings(node, name) == []
    entries = call(node, "GET", "/audit?limit=10")["items"]
    entry = next(one for one in entries if path in json.dumps(one))
    assert "17" in json.dumps(entry)


def test_pages_are_cut_and_say_so(node, name):
    device(node, name)
    post(node, name, [{"a": n, "ts": 1790000000 + n} for n in range(25)])
    found, cursor = [], ""
    while True:
        page = call(node, "GET", f"/devices/{name}/telemetry?from=1790000000&limit=10{cursor}")
        found += [one["value"] for one in page["items"]]
        assert page["truncated"] == (page["next"] is not None)
        if not page["truncated"]:
            break
        cursor = f"&cursor={page['next']}"
    assert found == list(range(25))
    call(node, "GET", f"/devices/{name}/telemetry?limit=10001", status=400)
    call(node, "GET", f"/devices/{name}/telemetry?cursor=x", status=400)
    call(node, "GET", f"/devices/{name}/telemetry?from=tomorrow", status=400)


# Queries


def test_many_devices_are_asked_by_group_tag_and_type(node, name):
    group = call(node, "POST", "/groups", {"name": name}, status=201)["id"]
    call(node, "POST", "/device-types", {"name": name, "rules": ["topic readwrite d/%c/#"]}, status=201)
    for number in range(3):
        more = {"tags": [name] if number else [], "groups": [group] if number < 2 else []}
        device(node, f"{name}-{number}", type="device" if number == 1 else name, **more)
        post(node, f"{name}-{number}", {"a": number, "b": 10 + number, "ts": 1790000000 + number})

    def found(**query):
        answer = call(node, "GET", "/query?" + urlencode({"from": 1790000000, **query}))
        assert answer["truncated"] is False
        return [(one["device"][len(name) + 1:], one["key"], one["value"]) for one in answer["items"]]

    assert found(tag=name, keys="a") == [("1", "a", 1), ("2", "a", 2)]
    assert found(group=name, keys="a,b") == [("0", "a", 0), ("0", "b", 10), ("1", "a", 1), ("1", "b", 11)]
    assert found(device=f"{name}-0,{name}-2", keys="b", order="desc") == [("2", "b", 12), ("0", "b", 10)]
    assert found(tag=name, group=name, keys="a") == [("1", "a", 1)]
    assert found(type=name, keys="a,b") == [("0", "a", 0), ("0", "b", 10), ("2", "a", 2), ("2", "b", 12)]
    assert found(type=name, tag=name, keys="a") == [("2", "a", 2)]
    assert call(node, "GET", f"/query?tag={name}&from=1790000000&limit=1")["truncated"] is True
    call(node, "GET", "/query", status=400)
    call(node, "GET", "/query?device=nobody-is-called-so", status=404)
    call(node, "GET", "/query?type=none-such", status=400)
    call(node, "GET", f"/query?tag={name}&fill=null", status=400)


@pytest.mark.parametrize("zone, day, hours", [
    ("Europe/Berlin", "2026-03-29", 23), ("Europe/Berlin", "2025-10-26", 25),
    ("America/New_York", "2026-03-08", 23), ("Australia/Lord_Howe", "2026-04-05", 24.5),
])
def test_days_on_which_the_clocks_change_have_their_hours(node, zone, day, hours):
    name, _ = device(node, f"day-{day}-{zone.replace('/', '-')}")
    begin = datetime.fromisoformat(day).replace(tzinfo=ZoneInfo(zone))
    begin_utc = begin.astimezone(timezone.utc)
    # A value each quarter of an hour, from the day before to the day after.
    times = [begin_utc + timedelta(minutes=15 * n) for n in range(-96, 200)]
    points = [{"v": 1, "ts": int(at.timestamp())} for at in times]
    for some in range(0, len(points), 50):
        post(node, name, points[some:some + 50])
    query = urlencode({"device": name, "from": int(times[0].timestamp()), "bucket": "day", "zone": zone, "functions": "count,sum"})
    items = call(node, "GET", f"/query?{query}")["items"]
    found = {datetime.fromisoformat(one["time"]): one["count"] for one in items}
    assert found[begin_utc] == hours * 4
    assert sum(found.values()) == len(times)


@pytest.mark.parametrize("unit, begin", [
    ("minute", "2026-05-20T12:34:00+02:00"), ("hour", "2026-05-20T12:00:00+02:00"), ("day", "2026-05-20T00:00:00+02:00"),
    # Monday; the first week of 2026 begins in 2025.
    ("week", "2026-05-18T00:00:00+02:00"), ("month", "2026-05-01T00:00:00+02:00"),
    ("quarter", "2026-04-01T00:00:00+02:00"), ("year", "2026-01-01T00:00:00+01:00"),
])
def test_units_of_the_calendar_begin_as_the_time_zone_has_them(node, unit, begin):
    name, _ = device(node, f"by-{unit}")
    at = datetime.fromisoformat("2026-05-20T12:34:56+02:00")
    begin = datetime.fromisoformat(begin)
    # The last value before the bucket, the first one in it, and one more.
    for number, time_of in enumerate([begin - timedelta(seconds=1), begin, at]):
        post(node, name, {"v": number, "ts": int(time_of.timestamp())})
    query = {"device": name, "from": int(begin.timestamp()) - 1, "bucket": unit, "zone": "Europe/Berlin", "functions": "count,max"}
    before, items = call(node, "GET", f"/query?{urlencode(query)}")["items"]
    assert (datetime.fromisoformat(items["time"]), items["count"], items["max"]) == (begin, 2, 2)
    assert datetime.fromisoformat(before["time"]) < begin and before["count"] == 1


def test_buckets_have_their_functions_and_gaps_are_filled(node, name):
    device(node, name)
    begin = 1_789_999_200
    for minute, number in [(0, 1), (1, 3), (10, 5), (130, 9), (131, 11)]:
        post(node, name, {"c": number, "s": "x", "ts": begin + 60 * minute})

    def asked(**query):
        query = urlencode({"device": name, "keys": "c", "from": begin, "to": begin + 3 * 3600, "bucket": "1h", **query})
        return call(node, "GET", f"/query?{query}")["items"]

    functions = "avg,min,max,sum,count,first,last,p50,p95,delta,rate"
    [first, last] = asked(functions=functions)
    assert [first[one] for one in functions.split(",")[:8]] == [3, 1, 5, 9, 3, 1, 5, 3]
    assert first["delta"] == 4 and last["delta"] == 6 and last["max"] == 11
    assert first["time"] == "2026-09-21T14:00:00.000000Z"
    assert [one["avg"] for one in asked(fill="null")] == [3, None, 10]
    assert [one["avg"] for one in asked(fill="previous")] == [3, 3, 10]
    assert [one["avg"] for one in asked(fill="linear")] == [3, 6.5, 10]
    assert [one["count"] for one in asked(functions="count", keys="s")] == [3, 2]
    [whole] = asked(bucket="all", functions="max")
    assert whole["max"] == 11
    for bad in ({"bucket": "1y"}, {"functions": "median"}, {"fill": "spline"}, {"bucket": "day", "zone": "Mars/Base"},
                {"order": "desc"}):
        query = urlencode({"device": name, "bucket": "1h", **bad})
        call(node, "GET", f"/query?{query}", status=400)


def test_exports_have_all_values_and_are_read_again(node, name):
    device(node, name)
    for some in range(0, 12_000, 50):
        post(node, name, [{"n": n, "ts": 1790000000 + n} for n in range(some, some + 50)])
    post(node, name, {"text": 'a,"b"\n=c', "ts": 1789999999})
    query = f"/api/v1/query?device={name}&from=1789999999"
    headers = {"X-API-Key": KEY}
    status, answered, body = ask(node, f"{query}&format=csv", headers=headers)
    assert status == 200 and answered["Content-Type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(body.decode(), newline="")))
    assert len(rows) == 12_001 and rows[-1]["value"] == 'a,"b"\n=c'
    assert [int(row["value"]) for row in rows[:-1]] == list(range(12_000))
    lines = ask(node, f"{query}&format=ndjson", headers=headers)[2].decode().splitlines()
    assert len(lines) == 12_001 and json.loads(lines[0]) == {"device": name, "key": "n", "time": rows[0]["time"], "value": 0}
    line = ask(node, f"{query}&format=line&keys=n&to=1790000002", headers=headers)[2].decode()
    assert line == f"telemetry,device={name} n=0 1790000000000000000\ntelemetry,device={name} n=1 1790000001000000000\n"
    # InfluxDB refuses a field of a measurement that has two types.
    post(node, name, [{"mixed": value, "ts": 1790000100 + at} for at, value in enumerate([1, 0.5, True, "x", {"a": 1}])])
    lines = ask(node, f"{query}&format=line&keys=mixed", headers=headers)[2].decode().splitlines()
    fields = [line.partition(f",device={name} mixed=") for line in lines]
    assert [(measurement, value.split()[0]) for measurement, _, value in fields] == [
        ("telemetry", "1"), ("telemetry", "0.5"), ("telemetry_bool", "true"), ("telemetry_text", '"x"'),
        ("telemetry_text", '"{\\"a\\":1}"')]
    assert ask(node, f"{query}&format=xml", headers=headers)[0] == 400


def test_the_documented_query_of_grafana_is_answered_with_its_columns(node, name):
    """The URL and the columns of docs/telemetry.md, with what Grafana puts in: times in milliseconds, and an interval."""
    device(node, name)
    post(node, name, [{"speed": n, "ts": 1790000000 + 60 * n} for n in range(50)])
    text = DOCUMENT.read_text()
    [url] = re.findall(r"^\| URL \| `http://127.0.0.1:8080(.*)` \|$", text, re.M)
    columns = re.findall(r"`(\w+)` \((\w+)\)", re.search(r"^\| Columns \| (.*) \|$", text, re.M).group(1))
    for interval, count in [("30m", 3), ("1h", 2), ("15s", 50), ("1d", 1)]:
        filled = url.replace("pump-7", name).replace("${__from}", "1790000000000").replace("${__to}", "1790003600000")
        filled = filled.replace("${__interval}", interval)
        assert "$" not in filled
        status, answered, body = ask(node, filled, headers={"X-API-Key": VIEWER})
        assert status == 200 and answered["Content-Type"].startswith("text/csv"), body
        rows = list(csv.DictReader(io.StringIO(body.decode(), newline="")))
        assert len(rows) == count
        read = {"Time": datetime.fromisoformat, "Number": float, "String": str}
        found = [[read[kind](row[column]) for column, kind in columns] for row in rows]
        assert {row[1] for row in found} == {"speed"} and found == sorted(found)
        assert (rows[0]["device"], columns[0][0]) == (name, "time")


def tailed(node, query, count, key=KEY):
    """Reads events of a stream in the background: what came, and the thread."""
    place = urlsplit(node.http_url)
    connection = http.client.HTTPConnection(place.hostname, place.port, timeout=60)
    connection.request("GET", f"/api/v1/telemetry/tail?{query}", headers={"X-API-Key": key})
    answer = connection.getresponse()
    assert answer.status == 200, answer.read()
    assert answer.readline() == b"retry: 1000\n"
    got = []

    def read():
        while len(got) < count:
            line = answer.readline()
            if not line:
                break
            if line.startswith(b"data: "):
                got.append(json.loads(line[6:]))
        connection.close()

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    return got, thread


def test_values_are_followed_as_they_are_stored(node, name):
    named = device(node, name)
    other, _ = device(node, f"{name}-2")
    got, thread = tailed(node, f"device={name}&keys=a", 2)
    post(node, other, {"a": 0})
    post(node, name, {"a": 1, "b": 5, "ts": 1790000000})
    with connected(node, named) as client:
        client.publish(f"d/{name}/telemetry", json.dumps({"a": 2, "ts": 1790000001}))
    thread.join(20)
    assert [(one["device"], one["key"], one["value"]) for one in got] == [(name, "a", 1), (name, "a", 2)]
    # A device that is gone ends the stream.
    got, thread = tailed(node, f"device={name}", 5)
    call(node, "DELETE", f"/devices/{name}", headers={"If-Match": "*"}, status=204)
    thread.join(20)
    assert len(got) == 1 and "the devices have changed" in got[0]["why"]


# Tenants


def test_values_of_a_team_are_its_own(node, name):
    team = call(node, "POST", "/teams", {"name": name, "owns_tenant": True}, status=201)
    made = call(node, "POST", "/devices", {"id": "pump", "team": team["id"]}, status=201)
    device(node, "pump")
    key = call(node, "POST", "/keys", {"name": name, "team": team["id"], "scopes": ["telemetry:read", "telemetry:write"]},
               status=201)["key"]
    with Client(node, "pump").credentials(made["user_name"], made["secret"]) as client:
        client.publish("d/pump/telemetry", json.dumps({"a": "theirs", "ts": 1790000000}))
    post(node, "pump", {"a": "common", "ts": 1790000000})
    of_team = lambda path="", **more: call(node, "GET", f"/devices/pump/telemetry{path}?from=1790000000", key=key, **more)
    until(lambda: of_team()["items"], "it is stored")
    assert [one["value"] for one in of_team()["items"]] == ["theirs"]
    assert [one["value"] for one in call(node, "GET", "/query?type=device&from=1790000000&keys=a", key=key)["items"]] == ["theirs"]
    common = call(node, "GET", "/devices/pump/telemetry?from=1790000000")["items"]
    assert [one["value"] for one in common] == ["common"]
    both = call(node, "GET", f"/devices/pump/telemetry?from=1790000000&team={name}")["items"]
    assert [one["value"] for one in both] == ["theirs"]
    call(node, "GET", f"/query?type=device&team=other-{name}", key=key, status=403)
    assert call(node, "GET", "/telemetry/rejected", key=key)["items"] == []


# Commands, backups, switched off


def test_commands_show_follow_and_export(node, name):
    device(node, name)
    post(node, name, [{"a": n * n, "on": n % 2 == 0, "s": "x", "ts": int(time.time()) - 3600 + 60 * n} for n in range(10)])
    run = lambda *words: martlet_process.run("telemetry", *words, "--data-dir", node.data_dir)
    shown = run("query", name, "-k", "a")
    assert shown.returncode == 0, shown.stderr
    assert f"{name} a (10 values, last 81)" in shown.stdout and "81 ┤" in shown.stdout and "\x1b" not in shown.stdout
    assert any("\u2801" <= c <= "\u28ff" for c in shown.stdout)
    table = run("query", name, "-b", "1h", "-f", "max,count", "-k", "a", "--table").stdout
    assert "MAX  COUNT" in table and "81" in table
    assert "x" in run("query", name, "-k", "s").stdout
    assert len(json.loads(run("query", name, "--json", "-k", "a").stdout)["items"]) == 10
    exported = run("export", name, "--format", "csv").stdout.splitlines()
    assert exported[0] == "time,device,key,type,value" and len(exported) == 31
    assert run("query", "nobody-is-called-so").returncode == 1
    assert "no values" in run("query", name, "--from", "1s").stdout
    tail = threading.Thread(target=lambda: got.append(run("tail", name, "-n", "1")))
    got = []
    tail.start()

    def told():
        post(node, name, {"a": 7})
        return not tail.is_alive()

    until(told, "the command has printed a value")
    tail.join()
    assert f"{name} a 7" in got[0].stdout


def test_a_backup_has_telemetry(rules, tmp_path):
    backup = str(tmp_path / "all.tar")
    with martlet_process.Node(http=True, variables=KEYS, arguments=["-c", rules]) as node:
        device(node, "pump")
        post(node, "pump", {"a": 1, "ts": 1790000000})
        done = martlet_process.run("backup", "create", backup, "--data-dir", node.data_dir)
        assert done.returncode == 0, done.stderr
        assert not [one for one in os.listdir(node.data_dir) if "copy" in one]
    place = tmp_path / "restored"
    done = martlet_process.run("backup", "restore", backup, "--data-dir", str(place))
    assert done.returncode == 0, done.stderr
    with martlet_process.Node(http=True, variables=KEYS, arguments=["-c", rules], data_dir=place) as node:
        assert readings(node, "pump") == [("2026-09-21T14:13:20.000000Z", "a", 1)]
        node.terminate()
        node.wait()
        again = str(tmp_path / "again.tar")
        done = martlet_process.run("backup", "create", again, "--data-dir", str(place))
        assert done.returncode == 0, done.stderr
        assert "telemetry.db" in os.popen(f"tar tf {again}").read()


def test_without_telemetry_routes_say_what_to_set(start_node):
    node = start_node(http=True, variables=KEYS)
    device(node, "pump")
    for path in ("/devices/pump/telemetry", "/query?device=pump", "/telemetry/rejected"):
        assert "telemetry.enabled" in call(node, "GET", path, status=409)["detail"]
    assert not os.path.exists(f"{node.data_dir}/telemetry.db")
    assert "telemetry" not in json.dumps(call(node, "GET", "/integrations"))


@pytest.mark.parametrize("text, words", [
    ('[[telemetry.rules]]\nkey = "x"', "needs `topic`"),
    ('[[telemetry.rules]]\ntopic = "a/#/b"', "# is permitted only at the end"),
    ('[[telemetry.rules]]\ntopic = "a/{device}"\nkey = "{line}"', "{line}"),
    ('[[telemetry.rules]]\ntopic = "a/{device}"\nkey = "x"', "{key}"),
    ('[[telemetry.rules]]\ntopic = "a/{device}"\nformat = "xml"', "json, line, value"),
    ('[[telemetry.rules]]\ntopik = "a"', "topic"),
    ('[telemetry]\nurl = "mysql://h/d"', "postgres://"),
])
def test_a_wrong_rule_keeps_the_node_from_starting(tmp_path, text, words):
    path = tmp_path / "martlet.toml"
    path.write_text(text)
    done = martlet_process.run("config", "check", "-c", str(path))
    assert done.returncode != 0 and words in done.stderr, done.stderr


def test_old_values_and_those_of_removed_devices_are_deleted(tmp_path):
    """The node looks for them soon after its start, and then every ten minutes."""
    path = tmp_path / "martlet.toml"
    path.write_text('[telemetry]\nenabled = true\nkeep_days = 30\n[[telemetry.retention]]\ntype = "iotflow"\nkeep_days = 0\n')
    start = lambda: martlet_process.Node(http=True, variables=KEYS, arguments=["-c", str(path)], data_dir=tmp_path / "data")
    with start() as node:
        device(node, "old")
        device(node, "kept", type="iotflow")
        device(node, "gone")
        numbered = call(node, "POST", "/devices", {"type": "iotflow", "name": "Sensor"}, status=201)
        post(node, numbered["id"], {"a": 1})
        for name in ("old", "kept", "gone"):
            post(node, name, [{"a": 1, "ts": 1_600_000_000}, {"a": 2, "ts": int(time.time())}])
        call(node, "DELETE", "/devices/gone", headers={"If-Match": "*"}, status=204)
        call(node, "POST", "/devices/gone/purge", status=204)
        # IoTFlow's route keeps the values under the number.
        told = call(node, "DELETE", f"/admin/devices/{numbered['number']}", headers={"Authorization": f"admin {KEY}"})
        assert f"kept under its number: GET /api/v1/query?number={numbered['number']}" in told["note"], told
        # None else reads them.
        [kept] = call(node, "GET", f"/query?number={numbered['number']}&from=0")["items"]
        assert (kept["device"], kept["key"], kept["value"]) == (str(numbered["number"]), "a", 1), kept
    with start() as node:
        until(lambda: len(readings(node, "old")) == 1, "the old value is deleted")
        assert len(readings(node, "kept")) == 2
        until(lambda: "martlet_telemetry_deleted_values_total 3" in ask(node, "/metrics")[2].decode(), "all are counted")
        # The name is free. Another number has none of the values.
        again = call(node, "POST", "/devices", {"type": "iotflow", "name": "Sensor"}, status=201)
        assert again["number"] > numbered["number"] and readings(node, again["id"]) == []
    with sqlite3.connect(tmp_path / "data/telemetry.db") as database:
        assert database.execute("SELECT count(*) FROM series WHERE device = ?", [numbered["number"]]).fetchone() == (1,)
