"""Bodies of telemetry by HTTP: each is stored as a whole or not at all, rules see what is stored alone,
lists of names have no empty ones, and large bodies keep nobody else waiting."""

import gzip
import http.client
import json
import pathlib
import threading
import time
from urllib.parse import urlsplit

import pytest

import martlet_process
from paho_client import Client
from test_http_api import KEY, KEYS, ask
from test_telemetry import call, device, post, readings

SETTINGS = ["http.rate=0", "telemetry.enabled=true", "telemetry.keys_per_device=5", "telemetry.series=5000"]
LINES = "application/x-ndjson"
YEAR_0 = "0000-01-01T00:00:00Z"


@pytest.fixture(scope="module")
def node():
    with martlet_process.Node(http=True, variables=KEYS, settings=SETTINGS) as node:
        yield node


def lines(*objects):
    return "\n".join(json.dumps(one) for one in objects).encode()


def keys(count, **more):
    return {**{f"k{n}": n for n in range(count)}, **more}


REFUSED = {
    "a time before all that are stored": ([{"speed": 5, "ts": 1700000500}, {"speed": 3, "ts": YEAR_0}], "years"),
    "a time after all that are stored": ([{"speed": 5, "ts": 1700000500}, {"speed": 3, "ts": "9999-01-01T00:00:00Z"}], "years"),
    "too many keys in sum": ([{"speed": 5, "ts": 1700000500}, keys(5, ts=1700000501)], "telemetry.keys_per_device"),
    "too many keys at once": ([{"speed": 5, **keys(5, ts=1700000500)}], "telemetry.keys_per_device"),
}


@pytest.mark.parametrize("past", ["", "?past=true"])
@pytest.mark.parametrize("case", REFUSED)
def test_a_body_is_stored_as_a_whole_or_not_at_all_and_rules_see_what_is_stored(start_node, case, past):
    objects, words = REFUSED[case]
    # Such times keep what they are.
    node = start_node(http=True, variables=KEYS, settings=[*SETTINGS, "telemetry.skew=keep"])
    name, secret = device(node, "pump", type="iotflow")
    topic = f"iotflow/devices/{name}/commands/control"
    actions = [{"publish": {"topic": topic, "payload": "{{ value }}"}}]
    call(node, "POST", "/rules", {"name": "seen", "telemetry": "speed", "actions": actions}, status=201)
    with Client(node, name).credentials(name, secret) as client:
        client.subscribe(topic)
        told = call(node, "POST", f"/devices/{name}/telemetry{past}", lines(*objects), headers={"Content-Type": LINES}, status=422)
        assert "nothing of the body is stored" in told["detail"] and words in told["detail"], told
        if "keys" in case:
            number = len(objects)
            [error] = told["errors"]
            # It names the line and the first key beyond the limit, in the order of the text.
            assert error["pointer"] == f"/{number - 1}/k4" and f"line {number}: k4: " in told["detail"], told
        assert readings(node, name) == []
        assert call(node, "GET", f"/devices/{name}/telemetry/keys")["items"] == []
        # The keys of the body that was rejected take no place. The rule sees this value first.
        assert post(node, name, keys(4, speed=7, ts=1700000600))["stored"] == 5
        assert client.receive_payload() == "7"
        assert client.messages.empty()
    assert sorted(key for _, key, _ in readings(node, name)) == ["k0", "k1", "k2", "k3", "speed"]


def test_a_body_beyond_the_series_of_the_node_takes_none_of_them(start_node):
    node = start_node(http=True, variables=KEYS, settings=[*SETTINGS, "telemetry.series=3"])
    device(node, "one")
    device(node, "two")
    post(node, "one", keys(2))
    assert "telemetry.series" in post(node, "two", keys(2), status=422)["detail"]
    assert call(node, "GET", "/devices/two/telemetry/keys")["items"] == []
    assert post(node, "two", keys(1))["stored"] == 1


@pytest.mark.parametrize("given", ["", "%2C", "speed,", ",speed", "speed,,rpm", "%20"])
def test_a_list_of_names_has_no_empty_ones(node, name, given):
    device(node, name)
    post(node, name, {"speed": 1, "rpm": 2, "ts": 1790000000})
    before = readings(node, name)
    path = f"/devices/{name}/telemetry"
    told = call(node, "DELETE", f"{path}?from=1789999999&to=1790000001&keys={given}", status=400)
    assert "keys" in told["detail"], told
    assert readings(node, name) == before
    for path in [
        f"{path}?keys={given}", f"{path}/latest?keys={given}", f"/query?device={name}&keys={given}",
        f"/query?device={name}&keys={given}&bucket=1h", f"/query?device={name}&keys={given}&format=csv",
        f"/telemetry/tail?device={name}&keys={given}", f"/query?device={given}", f"/query?device={given}&type=default",
        f"/telemetry/tail?device={given}", f"/query?device={name}&bucket=1h&functions={given}",
        f"/alarms?state={given}", f"/metrics/history?metrics={given}", f"/events?kinds={given}",
    ]:
        headers = {"X-API-Key": KEY, **({"Accept": "text/event-stream"} if "events" in path else {})}
        found, _, text = ask(node, "/api/v1" + path, headers=headers)
        assert found == 400, (path, found, text[:500])


@pytest.mark.parametrize("name_of", ["tag", "group", "type"])
def test_a_name_of_devices_is_not_empty(node, name_of):
    call(node, "GET", f"/query?{name_of}=", status=400)
    call(node, "POST", f"/commands?{name_of}=", {"command": "x"}, status=400)


@pytest.mark.parametrize("text", ["2025-07-01T10:00:00+24:00", "2025-07-01T10:00:00-24:00", "2025-07-01T10:00:00+25:00"])
def test_no_time_is_a_day_or_more_away_from_utc(node, text):
    name, _ = device(node, f"at{text[-6:].replace(':', '').replace('+', 'p')}")
    post(node, name, {"a": 1, "ts": text}, status=422)
    quoted = text.replace("+", "%2B")
    call(node, "GET", f"/devices/{name}/telemetry?from={quoted}", status=400)
    call(node, "GET", f"/metrics/history?from={quoted}", status=400)
    near = text[:-6] + ("+23:59" if "+" in text else "-23:59")
    assert post(node, name, {"a": 1, "ts": near})["stored"] == 1


@pytest.mark.parametrize("bucket", ["106751d", "1000d", "week", "year&zone=Asia/Tokyo"])
def test_no_bucket_begins_before_the_first_time_that_is_stored(node, bucket):
    name, _ = device(node, f"old-{bucket[:4]}")
    call(node, "POST", f"/devices/{name}/telemetry?past=true", {"a": 1, "ts": "0001-01-01T00:00:00Z"}, status=201)
    found = call(node, "GET", f"/query?device={name}&from=0001-01-01T00:00:00Z&to=0001-01-02T00:00:00Z&bucket={bucket}")
    assert [one["time"] for one in found["items"]] == ["0001-01-01T00:00:00.000000Z"]


def highest_memory(node):
    """The most memory that the process has had, bytes."""
    status = pathlib.Path(f"/proc/{node.process.pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


BOMBS = {
    "objects": (b"[" + b'{"a":1},' * 900_000 + b'{"a":1}]', "application/json", "10000 values"),
    "one value": (b'{"a":[' + b'{"a":1},' * 900_000 + b'{"a":1}]}', "application/json", "values, lists and objects"),
    "lines": (b'{"a":1}\n' * 900_000, LINES, "10000 values"),
    "line protocol": (b"m a=1\n" * 1_200_000, "text/plain", "10000 values"),
    "fields": (b"m a=1" + b",a=1" * 1_800_000, "text/plain", "10000 values"),
    "tags": (b"m" + b",a=1" * 1_800_000 + b" a=1", "text/plain", "a key has"),
    "empty lines": (b"\n" * 7_000_000 + b"m", "text/plain", "line"),
}


@pytest.mark.parametrize("case", BOMBS)
def test_what_unpacks_to_more_than_is_stored_takes_little_memory(start_node, case):
    body, kind, words = BOMBS[case]
    node = start_node(http=True, variables=KEYS, settings=["http.rate=0", "telemetry.enabled=true"])
    device(node, "pump")
    before = highest_memory(node)
    told = post(node, "pump", gzip.compress(body), kind, **{"Content-Encoding": "gzip"}, status=422)
    assert words in told["detail"], told
    # What it unpacks to, and as much again while that grows.
    assert highest_memory(node) - before < 64_000_000


@pytest.mark.long
def test_large_bodies_of_one_device_keep_nobody_waiting(start_node):
    node = start_node(http=True, variables=KEYS, settings=["http.rate=0", "telemetry.enabled=true"])
    _, secret = device(node, "pump")
    packed = gzip.compress(BOMBS["objects"][0])
    host, port = urlsplit(node.http_url).hostname, urlsplit(node.http_url).port
    found = []

    def send():
        connection = http.client.HTTPConnection(host, port, timeout=120)
        headers = {"X-API-Key": secret, "Content-Type": "application/json", "Content-Encoding": "gzip"}
        connection.request("POST", "/api/v1/devices/pump/telemetry", packed, headers)
        found.append(connection.getresponse().status)

    def longest(path):
        began = time.monotonic()
        assert ask(node, path, headers={"X-API-Key": KEY})[0] == 200
        return time.monotonic() - began

    before = highest_memory(node)
    senders = [threading.Thread(target=send) for _ in range(40)]
    for sender in senders:
        sender.start()
    waits, paths = [], ["/health/live", "/api/v1/status", "/metrics"]
    while any(sender.is_alive() for sender in senders):
        waits.append(longest(paths[len(waits) % 3]))
    # A body is rejected, or finds no place in time; none ends the connection.
    assert len(found) == 40 and set(found) <= {422, 503}, found
    # The machine may stand still once or twice; bodies that keep others waiting do so all the time.
    waits.sort()
    assert len(waits) >= 20 and waits[-3] < 1.5 and waits[-1] < 10, (len(waits), waits[-3:])
    assert highest_memory(node) - before < 150_000_000
