"""Telemetry of IoTFlow as its devices send it, by MQTT and by HTTP, and as its programs read it."""

import gzip
import json
import time

import pytest

import martlet_process
from test_3_iotflow import ADMIN, TOKEN, asked, key_of, registered
from test_access import until
from test_3_topics import Mosquitto

VARIABLES = {"IOTFLOW_ADMIN_TOKEN": TOKEN}


@pytest.fixture(scope="module")
def node():
    with martlet_process.Node(http=True, settings=["http.rate=0", "telemetry.enabled=true"], variables=VARIABLES.items()) as node:
        yield node


def ok(node, method, path, body, device, status=200):
    told = asked(node, method, path, body, *key_of(device))
    assert told[0] == status, told
    return told[2]


def measured(records):
    return [one["measurements"] for one in records]


def test_a_device_sends_by_http_and_reads_what_it_sent(node):
    device = registered(node)
    number = device["number"]
    for hour in range(3):
        body = {"data": {"temperature": 20 + hour, "ok": True}, "metadata": {"fw": "1.0"}, "type": "sensor",
                "timestamp": int(time.time()) - 3600 * hour}
        told = ok(node, "POST", "/api/v1/devices/telemetry", body, device, 201)
        assert told["device_id"] == number and told["stored_in_iotdb"] is True
    own = ok(node, "GET", "/api/v1/devices/telemetry?limit=2", None, device)
    assert measured(own["telemetry"]) == [{"temperature": 20, "ok": True}, {"temperature": 21, "ok": True}]
    assert own["count"] == 2 and own["truncated"] is True
    assert own["telemetry"][0]["metadata"] == {"fw": "1.0", "type": "sensor"}
    next_ones = ok(node, "GET", "/api/v1/devices/telemetry?limit=2&offset=2", None, device)
    assert measured(next_ones["telemetry"]) == [{"temperature": 22, "ok": True}] and next_ones["truncated"] is False
    assert ok(node, "GET", "/api/v1/devices/telemetry?type=other", None, device)["count"] == 0
    assert ok(node, "GET", "/api/v1/devices/telemetry?type=sensor&start_time=-90m", None, device)["count"] == 2
    assert ok(node, "GET", f"/api/v1/telemetry/{number}?start_time=-1d", None, device)["count"] == 3
    latest = ok(node, "GET", f"/api/v1/telemetry/{number}/latest", None, device)["latest_data"]
    assert latest["temperature"] == 20 and latest["ok"] is True
    found = ok(node, "GET", f"/api/v1/telemetry/{number}/aggregated?aggregation=max&window=1d&start_time=-2d", None, device)
    assert max(one["value"] for one in found["data"]) == 22
    found = ok(node, "GET", f"/api/v1/telemetry/device/{number}/aggregated?data_type=temperature&aggregation=avg", None, device)
    assert found["aggregation"] == {"type": "avg", "data_type": "temperature", "value": 21, "count": 3}
    page = ok(node, "GET", f"/api/v1/telemetry/device/{number}?limit=2&page=2&data_type=temperature", None, device)
    assert measured(page["telemetry"]) == [{"temperature": 22}]
    status = ok(node, "GET", "/api/v1/devices/status", None, device)["device"]
    # Two values and two of metadata, three times.
    assert status["telemetry_count"] == 12
    body = {"start_time": "-90m", "stop_time": "now"}
    assert ok(node, "DELETE", f"/api/v1/telemetry/{number}", body, device)["deleted"] == 8
    assert ok(node, "GET", "/api/v1/devices/telemetry", None, device)["count"] == 1


@pytest.mark.parametrize("payload", [
    {"api_key": "secret", "data": {"t": 1}, "metadata": {}, "timestamp": 1790000000},
    {"api_key": "secret", "t": 1, "ts": 1790000000000},
    {"api_key": "secret", "t": 1, "timestamp": "2026-09-21T14:13:20"},
])
def test_a_device_sends_by_mqtt_in_the_documented_forms(node, payload):
    device = registered(node)
    login = ("-i", device["id"], "-u", device["id"], "-P", device["secret"])
    done = Mosquitto(node).pub(*login, "-q", "1", "-t", f"iotflow/devices/{device['id']}/telemetry/sensors", "-m", json.dumps(payload))
    assert done.returncode == 0, done.stderr
    found = lambda: ok(node, "GET", f"/api/v1/telemetry/{device['number']}?start_time=2026-09-21T00:00:00Z", None, device)["data"]
    until(found, "it is stored")
    [record] = found()
    assert record["measurements"] == {"t": 1} and record["timestamp"] == "2026-09-21T14:13:20.000000Z"


def test_telemetry_by_the_route_of_mqtt_is_published_and_stored(node):
    device = registered(node)
    number = device["number"]
    told = ok(node, "POST", f"/api/v1/mqtt/telemetry/{number}", {"data": {"t": 7}, "api_key": device["secret"]}, device, 201)
    assert told["topic"] == f"iotflow/devices/{device['id']}/telemetry"
    until(lambda: ok(node, "GET", f"/api/v1/telemetry/{number}", None, device)["count"], "it is stored")
    other = registered(node)
    assert asked(node, "GET", f"/api/v1/telemetry/{number}", None, *key_of(other))[0] == 403
    assert asked(node, "DELETE", f"/api/v1/telemetry/{number}", {"start_time": "-1h", "stop_time": "now"}, *key_of(other))[0] == 403


def sent(node, path, body, device, tmp_path, *headers):
    """What a device sends as a body of bytes: status and answer."""
    place = tmp_path / "body"
    place.write_bytes(body)
    options = [option for header in headers for option in ("-H", header)]
    told = asked(node, "POST", path, None, *key_of(device), *options, "--data-binary", f"@{place}")
    return told[0], told[2]


LINES = "Content-Type: application/x-ndjson"
GZIP = "Content-Encoding: gzip"


@pytest.mark.parametrize("path", ["/api/v1/telemetry", "/api/v1/devices/telemetry", "/api/v1/mqtt/telemetry/{number}"])
def test_a_device_sends_lines_and_compressed_bodies(node, tmp_path, path):
    device = registered(node)
    path = path.format(number=device["number"])
    now = int(time.time())
    lines = [{"data": {"t": n}, "metadata": {"fw": "1"}, "timestamp": now - 60 * n} for n in range(4)]
    text = lambda some: "\n\n".join(json.dumps(one) for one in some).encode() + b"\n"
    stored = lambda: ok(node, "GET", "/api/v1/devices/telemetry", None, device)["telemetry"]
    assert sent(node, path, text(lines[:2]), device, tmp_path, LINES)[0] == 201
    assert sent(node, path, gzip.compress(json.dumps(lines[2]).encode()), device, tmp_path, GZIP)[0] == 201
    assert sent(node, path, gzip.compress(text(lines[3:])), device, tmp_path, LINES, GZIP)[0] == 201
    until(lambda: len(stored()) == 4, "all are stored")
    assert measured(stored()) == [{"t": n} for n in range(4)]
    assert stored()[0]["metadata"] == {"fw": "1"}


def test_what_is_wrong_with_lines_and_compressed_bodies_is_told(node, tmp_path):
    device = registered(node)
    bomb = gzip.compress(b" " * 50_000_000)
    assert len(bomb) < 100_000
    for body, headers, status, error, words in [
        (b'{"data": {"t": 1}}\n{', [LINES], 400, "Invalid JSON", "line 2"),
        (b'{"data": {"t": 1}}\n{"data": 7}', [LINES], 400, "Invalid data format", "line 2"),
        (b'{"data": {"t": 1}, "timestamp": "soon"}', [LINES], 400, "Validation Error", "line 1: "),
        (b'{"data": {"t": 1}}\n\n{"data": {"t": 18446744073709551615}}', [LINES], 400, "Validation Error", "line 3: the integer"),
        (b'{"data": {"t": 18446744073709551616}}', [], 400, "Validation Error", "stored: the integer"),
        (b'{"data": {"t": 1e400}}', [], 400, "Validation Error", "stored: the value of t"),
        (b"\n", [LINES], 400, "Missing required fields", "data"),
        (b"{}", [GZIP], 400, "Bad Request", "gzip"),
        (b"{}", ["Content-Encoding: br"], 415, "Unsupported Media Type", "br"),
        (bomb, [GZIP], 413, "Payload Too Large", "unpacked"),
    ]:
        found, told = sent(node, "/api/v1/telemetry", body, device, tmp_path, *headers)
        assert found == status and told["error"] == error and words in told["message"], (body[:40], found, told)
        assert {"timestamp", "path", "request_id"} <= told.keys()
    assert ok(node, "GET", "/api/v1/devices/telemetry", None, device)["count"] == 0
    # A body that is read and whose values cannot be stored is shown, as one that comes by MQTT.
    of_node = asked(node, "GET", "/api/v1/telemetry/rejected", None, "-H", f"X-API-Key: {TOKEN}")[2]["items"]
    assert ("POST /api/v1/telemetry", "bad_time") in [(one["topic"], one["reason"]) for one in of_node]


def test_an_administrator_sees_counts_and_latest_values(node):
    device = registered(node)
    ok(node, "POST", "/api/v1/telemetry", {"data": {"t": 5}}, device, 201)
    number = device["number"]
    summary = asked(node, "GET", f"/api/v1/devices/{number}/summary", None, *ADMIN)[2]["telemetry"]
    assert summary["count"] == 1 and summary["recent_data"][0]["measurements"] == {"t": 5}
    all_of_them = asked(node, "GET", "/api/v1/admin/telemetry", None, *ADMIN)[2]["telemetry"]
    assert [one["latest_data"] for one in all_of_them if one["device_id"] == number] == [{"t": 5}]
    shown = asked(node, "GET", f"/api/v1/admin/devices/{number}", None, *ADMIN)[2]["device"]
    assert shown["statistics"]["total_telemetry_records"] == 1
    counts = asked(node, "GET", "/api/v1/admin/dashboard", None, *ADMIN)[2]["statistics"]["telemetry"]
    assert counts["total_records"] >= 1 and counts["last_24h"] >= 1
