"""The document of IoTFlow's MQTT integration, from top to bottom, and the routes of its API beside it: status, Content-Type,
documented keys with their JSON types and constant texts of each answer, and bad input for each route."""

import json
import re
import subprocess
import time

import pytest

import martlet_process
import postgres_process
from http_as_curl import requested
from programs import Mosquitto

TOKEN = "0123456789abcdef-admin"
ADMIN = ("-H", f"Authorization: admin {TOKEN}")
JSON = "application/json"

@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def node(request):
    variables, server = {"IOTFLOW_ADMIN_TOKEN": TOKEN, "MARTLET_TELEMETRY__ENABLED": "false"}, None
    if request.param == "postgres":
        server = postgres_process.Server()
        variables["MARTLET_REGISTRY__URL"] = server.new_database()
    with martlet_process.Node(http=True, variables=variables.items()) as node:
        yield node
    if server:
        server.close()


def asked(node, method, path, body=None, *options):
    """Status, Content-Type and body of an answer, as curl gets it; and the headers."""
    status, kind, body, asked.head = requested(node.http_url + path, method, body, options)
    return status, kind, json.loads(body) if body and "json" in kind else body


def shape(value):
    """A JSON value with types in place of values."""
    if isinstance(value, dict):
        return {key: shape(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    return {bool: "bool", int: "int", float: "float", str: "str", type(None): "null"}[type(value)]


def has(value, golden, where="answer"):
    """A golden answer: types by their names, `None` for what may be null, `=text` for constants. Keys
    that it does not have are not an error."""
    if isinstance(golden, dict):
        assert isinstance(value, dict), (where, value)
        for key, inner in golden.items():
            assert key in value, (where, key, value)
            has(value[key], inner, f"{where}/{key}")
    elif isinstance(golden, list):
        assert isinstance(value, list), (where, value)
        for inner in value:
            has(inner, golden[0], f"{where}[]")
    elif isinstance(golden, str) and golden.startswith("="):
        assert value == golden[1:], (where, value)
    elif golden == "number":
        assert isinstance(value, (int, float)) and not isinstance(value, bool), (where, value)
    elif golden == "time":
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.(\d{3}|\d{6})Z", value), (where, value)
    elif golden == "time?":
        assert value is None or re.match(r"\d{4}-\d\d-\d\dT", value), (where, value)
    elif golden in ("str?", "dict?"):
        assert value is None or isinstance(value, {"str?": str, "dict?": dict}[golden]), (where, value)
    else:
        assert shape(value) == golden, (where, value)


DEVICE = {"id": "int", "name": "str", "description": "str", "device_type": "str", "status": "str",
          "location": "str", "firmware_version": "str", "hardware_version": "str", "user_id": "str?",
          "owner": "dict?", "created_at": "time", "updated_at": "time", "last_seen": "time?"}
ERROR = {"error": "str", "message": "str", "timestamp": "time", "path": "str", "request_id": "str"}
NUMBERS = iter(range(1, 10_000))


def registered(node, **more):
    """A device, by the native API where only a device is needed: registrations are limited."""
    name = f"Sensor {next(NUMBERS)}"
    body = {"name": name, "type": "iotflow", "kind": "temperature_sensor", **more}
    options = ("-H", f"X-API-Key: {TOKEN}", "-H", "Content-Type: application/json")
    status, _, made = asked(node, "POST", "/api/v1/devices", body, *options)
    assert status == 201, made
    return made


def key_of(device):
    return ("-H", f"X-API-Key: {device['secret']}")


# ---- Registration


def test_a_device_registers_logs_in_by_mqtt_and_stays_on_its_topics(node):
    body = {"name": "Smart Sensor 001", "device_type": "temperature_sensor", "location": "Living Room",
            "description": "Kitchen", "firmware_version": "1.2.3", "hardware_version": "v2.1", "unknown": 1}
    # As the document's programs send it: with the type of a form, and comments.
    text = json.dumps(body) + "  # a comment"
    status, kind, answer = asked(node, "POST", "/api/v1/devices/register", text, *ADMIN)
    assert (status, kind) == (201, JSON), answer
    has(answer, {"message": "=Device registered successfully", "device": {
        **DEVICE, "name": "=Smart Sensor 001", "device_type": "=temperature_sensor", "status": "=active",
        "api_key": "str"}})
    device = answer["device"]
    assert re.fullmatch(r"[0-9A-Za-z]{32}", device["api_key"])
    number, key = str(device["id"]), device["api_key"]
    head = asked.head.lower()
    assert "x-ratelimit-limit: 10" in head and "x-ratelimit-remaining: 9" in head
    assert "x-ratelimit-reset: 1" in head

    # Its number is its id: user name, Client Identifier and level of its topics.
    login = ["-i", number, "-u", number, "-P", key, "-q", "1"]
    mosquitto = Mosquitto(node)
    topic = f"iotflow/devices/{number}/telemetry/sensors"
    sent = mosquitto.pub(*login, "-V", "5", "-t", topic, "-m", '{"temperature": 23.5}')
    assert sent.returncode == 0, sent
    other = mosquitto.pub(*login, "-V", "5", "-t", "iotflow/devices/0/telemetry", "-m", "x")
    assert "Not authorized" in other.stdout + other.stderr, other
    fleet = mosquitto.pub(*login, "-V", "5", "-t", "iotflow/fleet/commands/all", "-m", "x")
    assert "Not authorized" in fleet.stdout + fleet.stderr, fleet
    wrong = mosquitto.pub("-i", number, "-u", number, "-P", key[::-1], "-t", topic, "-m", "x")
    assert wrong.returncode != 0

    # A request that is repeated makes no second device, and its key is not kept.
    body["name"] = "Smart Sensor 002"
    options = (*ADMIN, "-H", "Idempotency-Key: once")
    first = asked(node, "POST", "/api/v1/devices/register", body, *options)[2]["device"]
    again = asked(node, "POST", "/api/v1/devices/register", body, *options)[2]["device"]
    assert first["api_key"] and again == {**first, "api_key": None}

    again = asked(node, "POST", "/api/v1/devices/register", body, *ADMIN)
    assert again[:2] == (409, JSON)
    has(again[2], {**ERROR, "error": "=Device name already exists",
                   "message": "=Please choose a different device name"})


@pytest.mark.parametrize("body, error, says", [
    ("{", "Invalid JSON", "not JSON"),
    ("", "Invalid JSON", "not JSON"),
    ("[1]", "Validation Error", "body"),
    ({}, "Missing required fields", "Required fields: name, device_type"),
    ({"name": "x"}, "Missing required fields", "Required fields: device_type"),
    ({"name": "", "device_type": "y"}, "Missing required fields", "Required fields: name"),
    ({"name": 7, "device_type": "y"}, "Validation Error", "/name"),
    ({"name": "x", "device_type": "y", "location": []}, "Validation Error", "/location"),
])
def test_what_is_wrong_with_a_registration_is_told(body, error, says):
    # A node of its own: each try counts against the limit.
    with martlet_process.Node(http=True, variables={"IOTFLOW_ADMIN_TOKEN": TOKEN}.items()) as node:
        told = asked(node, "POST", "/api/v1/devices/register", body, *ADMIN)
        assert told[:2] == (400, JSON), told
        has(told[2], {**ERROR, "error": f"={error}", "path": "=/api/v1/devices/register"})
        assert says in told[2]["message"], told


def test_registrations_of_an_address_are_limited():
    with martlet_process.Node(http=True, variables={"IOTFLOW_ADMIN_TOKEN": TOKEN}.items()) as node:
        for number in range(10):
            body = {"name": f"s{number}", "device_type": "t"}
            assert asked(node, "POST", "/api/v1/devices/register", body, *ADMIN)[0] == 201
        body = {"name": "one more", "device_type": "t"}
        status, kind, answer = asked(node, "POST", "/api/v1/devices/register", body, *ADMIN)
        assert (status, kind) == (429, JSON)
        has(answer, {**ERROR, "error": "=Rate limit exceeded", "retry_after": "int", "limit": "int", "window": "int"})
        assert (answer["limit"], answer["window"]) == (10, 300)
        assert "x-ratelimit-remaining: 0" in asked.head.lower() and "retry-after:" in asked.head.lower()


def test_an_open_route_gives_neither_a_type_nor_an_owner():
    settings = ["http.open_routes=POST /devices/register"]
    variables = {"IOTFLOW_ADMIN_TOKEN": TOKEN}.items()
    with martlet_process.Node(http=True, settings=settings, variables=variables) as node:
        options = ("-H", f"X-API-Key: {TOKEN}", "-H", "Content-Type: application/json")
        made = asked(node, "POST", "/api/v1/device-types", {"name": "almighty", "rules": ["topic readwrite #"]}, *options)
        assert made[0] == 201, made
        body = {"name": "stranger", "device_type": "almighty", "user_id": "nobody"}
        status, _, answer = asked(node, "POST", "/api/v1/devices/register", body)
        assert status == 201, answer
        assert answer["device"]["device_type"] == "almighty" and answer["device"]["owner"] is None
        native = asked(node, "GET", f"/api/v1/devices/{answer['device']['id']}", None, *options)[2]
        assert (native["type"], native["kind"]) == ("iotflow", "almighty")
        # Who may write devices says which.
        body = {"name": "known", "device_type": "almighty"}
        answer = asked(node, "POST", "/api/v1/devices/register", body, *ADMIN)[2]
        native = asked(node, "GET", f"/api/v1/devices/{answer['device']['id']}", None, *options)[2]
        assert (native["type"], native["kind"]) == ("almighty", "almighty")
        body = {"name": "owned", "device_type": "t", "user_id": "nobody"}
        told = asked(node, "POST", "/api/v1/devices/register", body, *ADMIN)
        assert told[0] == 401 and told[2]["error"] == "Invalid user"


# ---- What a device asks for itself


OWN = [("GET", "/status"), ("POST", "/heartbeat"), ("GET", "/config"), ("PUT", "/config"), ("POST", "/config"),
       ("GET", "/credentials"), ("GET", "/mqtt-credentials"), ("GET", "/telemetry"), ("POST", "/telemetry")]


@pytest.mark.parametrize("method, path", OWN)
def test_a_device_shows_its_key(node, method, path):
    path = f"/api/v1/devices{path}"
    told = asked(node, method, path)
    assert told[:2] == (401, JSON)
    has(told[2], {**ERROR, "error": "=API key required"})
    for wrong in ("x" * 32, TOKEN):
        told = asked(node, method, path, None, "-H", f"X-API-Key: {wrong}")
        assert told[:2] == (401, JSON)
        has(told[2], {**ERROR, "error": "=Invalid API key"})


def test_a_device_that_is_not_active_is_refused(node):
    device = registered(node, status="maintenance")
    told = asked(node, "POST", "/api/v1/devices/heartbeat", None, *key_of(device))
    assert told[:2] == (403, JSON)
    has(told[2], {"error": "=Device inactive", "message": "=Device is currently maintenance"})


def test_a_heartbeat_makes_a_device_online(node):
    device = registered(node)
    status, kind, answer = asked(node, "GET", "/api/v1/devices/status", None, *key_of(device))
    assert (status, kind) == (200, JSON)
    golden = {"status": "=success", "device": {**DEVICE, "telemetry_count": "int", "is_online": "bool"}}
    has(answer, golden)
    # Who asks for something is seen, and not online by that.
    assert answer["device"]["is_online"] is False
    status, kind, answer = asked(node, "POST", "/api/v1/devices/heartbeat", None, *key_of(device))
    assert (status, kind) == (200, JSON)
    has(answer, {"message": "=Heartbeat received", "device_id": "int", "timestamp": "time", "status": "=online"})
    assert "x-ratelimit-limit: 30" in asked.head.lower()
    answer = asked(node, "GET", "/api/v1/devices/status", None, *key_of(device))[2]
    assert answer["device"]["is_online"] is True and answer["device"]["last_seen"]
    path = f"/api/v1/devices/{device['number']}/status"
    answer = asked(node, "GET", path, None, *ADMIN)[2]
    has(answer, {"status": "=success", "device": {
        "id": "int", "name": "str", "device_type": "=temperature_sensor", "status": "=active", "is_online": "bool",
        "last_seen": "time", "status_source": "=database", "last_seen_source": "=database"}})
    assert answer["device"]["is_online"] is True


def test_heartbeats_of_a_device_are_limited(node):
    device = registered(node)
    for _ in range(30):
        assert asked(node, "POST", "/api/v1/devices/heartbeat", None, *key_of(device))[0] == 200
    # Every two seconds one more is permitted, and a busy machine may have taken longer for these.
    for _ in range(30):
        told = asked(node, "POST", "/api/v1/devices/heartbeat", None, *key_of(device))
        if told[0] != 200:
            break
    assert told[0] == 429 and (told[2]["limit"], told[2]["window"]) == (30, 60)


def test_a_heartbeat_is_over_after_its_time_and_a_connection_counts():
    variables = {"IOTFLOW_ADMIN_TOKEN": TOKEN}.items()
    with martlet_process.Node(http=True, settings=["presence.timeout_secs=1"], variables=variables) as node:
        device = registered(node)
        path = f"/api/v1/devices/{device['number']}/status"
        status = lambda: asked(node, "GET", path, None, *key_of(device))[2]["device"]
        online = lambda: status()["is_online"]
        assert asked(node, "POST", "/api/v1/devices/heartbeat", None, *key_of(device))[0] == 200
        deadline = time.monotonic() + 20
        while online():
            assert time.monotonic() < deadline
        login = ["-i", device["id"], "-u", device["id"], "-P", device["secret"]]
        client = Mosquitto(node).sub(*login, "-t", f"iotflow/devices/{device['id']}/#")
        # The broker tells of a connection a little later.
        deadline = time.monotonic() + 20
        while not online():
            assert time.monotonic() < deadline
        assert status()["status_source"] == "broker"
        client.kill()


def test_a_device_says_how_it_is(node):
    device = registered(node)
    body = {"status": "active", "location": "Kitchen", "firmware_version": "1.3.0", "hardware_version": "v2.1"}
    status, kind, answer = asked(node, "PUT", "/api/v1/devices/config", body, *key_of(device))
    assert (status, kind) == (200, JSON)
    has(answer, {"message": "=Device configuration updated successfully", "device": {
        **DEVICE, "location": "=Kitchen", "firmware_version": "=1.3.0", "hardware_version": "=v2.1"}})
    for bad, error in [({}, "Missing required fields"), ({"status": "on"}, "Invalid status"),
                       ({"status": 7}, "Validation Error"), ("no", "Invalid JSON")]:
        told = asked(node, "PUT", "/api/v1/devices/config", bad, *key_of(device))
        assert told[:2] == (400, JSON) and told[2]["error"] == error, told


def test_a_device_sets_and_reads_its_configuration(node):
    device = registered(node)
    for key, value, data_type in [("sampling_rate", "30", "integer"), ("gain", 2.5, "float"), ("on", True, "boolean"),
                                  ("name", "pump", None), ("limits", {"a": [1]}, "json")]:
        body = {"config_key": key, "config_value": value, **({"data_type": data_type} if data_type else {})}
        status, kind, answer = asked(node, "POST", "/api/v1/devices/config", body, *key_of(device))
        assert (status, kind) == (200, JSON), answer
        has(answer, {"status": "=success", "message": "=Configuration updated successfully",
                     "config_key": f"={key}", "config_value": "str", "data_type": f"={data_type or 'string'}"})
    status, kind, answer = asked(node, "GET", "/api/v1/devices/config", None, *key_of(device))
    assert (status, kind) == (200, JSON)
    values = {key: setting["value"] for key, setting in answer["configuration"].items()}
    assert values == {"sampling_rate": 30, "gain": 2.5, "on": True, "name": "pump", "limits": {"a": [1]}}
    has(answer, {"status": "=success", "device_id": "int", "configuration": {
        "sampling_rate": {"value": "int", "data_type": "=integer", "updated_at": "time"}}})
    for bad, error in [({"config_key": "a"}, "Missing required fields"),
                       ({"config_key": "a", "config_value": "x", "data_type": "integer"}, "Validation Error"),
                       ({"config_key": "a", "config_value": "x", "data_type": "set"}, "Validation Error"),
                       ({"config_key": 1, "config_value": "x"}, "Validation Error")]:
        told = asked(node, "POST", "/api/v1/devices/config", bad, *key_of(device))
        assert told[:2] == (400, JSON) and told[2]["error"] == error, told


def test_a_device_is_told_how_to_connect(node):
    device = registered(node)
    status, kind, answer = asked(node, "GET", "/api/v1/devices/mqtt-credentials", None, *key_of(device))
    assert (status, kind) == (200, JSON)
    has(answer, {"status": "=success", "credentials": {
        "mqtt_host": "=127.0.0.1", "mqtt_port": "int", "client_id": "str", "username": "str",
        "api_key": f"={device['secret']}", "anonymous_connection": "bool", "authentication_note": "str",
        "topics": {"telemetry_publish": "str", "status_publish": "str", "commands_subscribe": "str",
                   "config_subscribe": "str"}}})
    told = answer["credentials"]
    # What it is told works.
    command = ["mosquitto_pub", "-V", "5", "-h", told["mqtt_host"], "-p", str(told["mqtt_port"]), "-q", "1",
               "-i", told["client_id"], "-u", told["username"], "-P", told["api_key"]]
    for topic in ("telemetry_publish", "status_publish"):
        done = subprocess.run([*command, "-t", told["topics"][topic], "-m", "{}"], capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stdout + done.stderr) == (0, ""), done
    answer = asked(node, "GET", "/api/v1/devices/credentials", None, *key_of(device))
    assert answer[:2] == (200, JSON)
    has(answer[2], {"status": "=success", "device": {
        "id": "int", "name": "str", "device_type": "str", "user_id": "str?", "status": "=active",
        "mqtt_topics": {"telemetry": "str", "status": "str", "commands": "str", "heartbeat": "str"}}})


def test_a_devices_key_is_good_for_that_device_and_these_routes_alone(node):
    one, other = registered(node), registered(node)
    told = asked(node, "GET", f"/api/v1/devices/{other['number']}/status", None, *key_of(one))
    assert told[:2] == (403, JSON) and told[2]["error"] == "Access denied"
    assert asked(node, "GET", f"/api/v1/devices/{one['number']}/status", None, *key_of(one))[0] == 200
    assert asked(node, "GET", f"/api/v1/devices/{one['number']}/summary", None, *key_of(one))[0] == 200
    for method, path in [("GET", "/api/v1/devices"), ("GET", f"/api/v1/devices/{one['id']}"),
                         ("GET", "/api/v1/devices/statuses"), ("GET", "/api/v1/admin/devices"), ("GET", "/status"),
                         ("GET", "/api/v1/mqtt/status"), ("POST", "/api/v1/mqtt/publish"), ("POST", "/publish")]:
        assert asked(node, method, path, None, *key_of(one))[0] == 401, path
    # A revoked one is good for nothing.
    options = ("-H", f"X-API-Key: {TOKEN}", "-H", "Content-Type: application/json")
    path = f"/api/v1/devices/{one['id']}/rotate"
    new = asked(node, "POST", path, {"grace_secs": 0}, *options)[2]
    assert asked(node, "POST", "/api/v1/devices/heartbeat", None, *key_of(one))[0] == 401
    assert asked(node, "POST", "/api/v1/devices/heartbeat", None, *key_of(new))[0] == 200


def test_a_summary_has_all_of_a_device(node):
    device = registered(node)
    body = {"config_key": "rate", "config_value": 5, "data_type": "integer"}
    assert asked(node, "POST", "/api/v1/devices/config", body, *key_of(device))[0] == 200
    path = f"/api/v1/devices/{device['number']}/summary"
    status, kind, answer = asked(node, "GET", path + "?telemetry_limit=5", None, *key_of(device))
    assert (status, kind) == (200, JSON)
    has(answer, {"device": DEVICE, "status": {"is_online": "bool", "last_seen": "time?", "status": "=active"},
                 "telemetry": {"recent_data": [], "count": "int", "iotdb_available": "bool"},
                 "configuration": {"rate": {"value": "int", "data_type": "=integer", "updated_at": "time"}},
                 "summary_generated_at": "time"})
    answer = asked(node, "GET", path + "?include_config=false", None, *ADMIN)[2]
    assert answer["configuration"] == {}
    assert asked(node, "GET", "/api/v1/devices/999999/summary", None, *ADMIN)[0] == 404
    assert asked(node, "GET", path + "?telemetry_limit=x", None, *key_of(device))[0] == 400


def test_the_states_of_devices_are_listed(node):
    some = [registered(node) for _ in range(3)]
    status, kind, answer = asked(node, "GET", "/api/v1/devices/statuses?limit=2&offset=1", None, *ADMIN)
    assert (status, kind) == (200, JSON)
    has(answer, {"status": "=success", "devices": [
        {"id": "int", "name": "str", "device_type": "str", "status": "str", "is_online": "bool"}],
        "meta": {"total": "int", "limit": "int", "offset": "int", "cache_used": "bool"}})
    assert len(answer["devices"]) == 2 and answer["meta"]["total"] >= len(some)
    ids = [device["id"] for device in answer["devices"]]
    assert ids == sorted(ids)
    assert asked(node, "GET", "/api/v1/devices/statuses")[0] == 401
    assert asked(node, "GET", "/api/v1/devices/statuses?limit=-1", None, *ADMIN)[0] == 400
    told = asked(node, "GET", "/api/v1/devices/999999/status", None, *ADMIN)
    assert told[:2] == (404, JSON) and told[2]["error"] == "Device not found"


# ---- Administrators


ADMINS = [("GET", "/devices"), ("GET", "/devices/1"), ("PUT", "/devices/1"), ("DELETE", "/devices/1"),
          ("PUT", "/devices/1/status"), ("GET", "/stats"), ("GET", "/dashboard"), ("GET", "/telemetry"),
          ("GET", "/cache/device-status"), ("DELETE", "/cache/device-status"), ("DELETE", "/cache/devices/1"),
          ("GET", "/redis-db-sync/status"), ("POST", "/redis-db-sync/enable")]


@pytest.mark.parametrize("method, path", ADMINS)
def test_an_administrator_shows_a_token(node, method, path):
    path = f"/api/v1/admin{path}"
    told = asked(node, method, path)
    assert told[:2] == (401, JSON)
    has(told[2], {**ERROR, "error": "=Admin token required"})
    told = asked(node, method, path, None, "-H", "Authorization: admin wrong")
    assert told[:2] == (403, JSON)
    has(told[2], {**ERROR, "error": "=Invalid admin token"})


def test_an_administrator_sees_and_changes_devices(node):
    device = registered(node)
    number = device["number"]
    status, kind, answer = asked(node, "GET", "/api/v1/admin/devices?per_page=2&type=temperature_sensor", None, *ADMIN)
    assert (status, kind) == (200, JSON)
    has(answer, {"status": "=success", "total_devices": "int", "devices": [
        {**DEVICE, "telemetry_count": "int", "is_online": "bool", "auth_records_count": "int", "config_count": "int"}],
        "pagination": {"page": "int", "per_page": "int", "total": "int", "pages": "int", "has_next": "bool",
                       "has_prev": "bool"}})
    assert answer["devices"][0]["id"] == number and "api_key" not in answer["devices"][0]
    found = asked(node, "GET", f"/api/v1/admin/devices?search={device['name'].replace(' ', '%20')}", None, *ADMIN)[2]
    assert number in [found["id"] for found in found["devices"]]

    path = f"/api/v1/admin/devices/{number}"
    status, kind, answer = asked(node, "GET", path, None, *ADMIN)
    assert (status, kind) == (200, JSON)
    has(answer, {"status": "=success", "device": {**DEVICE, "recent_telemetry": [], "statistics": {
        "total_telemetry_records": "int", "latest_telemetry": "null", "first_telemetry": "null", "is_online": "bool"}},
        "auth_records": [{"id": "str", "is_active": "bool", "expires_at": "time?", "created_at": "time",
                          "last_used": "time?", "usage_count": "int"}], "configurations": {}})

    body = {"name": "New name", "location": "Hall", "status": "active"}
    status, kind, answer = asked(node, "PUT", path, body, *ADMIN)
    assert (status, kind) == (200, JSON)
    has(answer, {"message": "=Device updated successfully", "device": {**DEVICE, "name": "=New name", "location": "=Hall"}})

    status, kind, answer = asked(node, "PUT", f"{path}/status", {"status": "maintenance"}, *ADMIN)
    assert (status, kind) == (200, JSON)
    has(answer, {"status": "=success", "message": "=Device status updated from active to maintenance",
                 "device_id": "int", "old_status": "=active", "new_status": "=maintenance"})
    for bad, error in [({}, "Missing required fields"), ({"status": "gone"}, "Invalid status"), ("x", "Invalid JSON")]:
        told = asked(node, "PUT", f"{path}/status", bad, *ADMIN)
        assert told[:2] == (400, JSON) and told[2]["error"] == error, told

    status, kind, answer = asked(node, "DELETE", path, None, *ADMIN)
    assert (status, kind) == (200, JSON)
    has(answer, {"status": "=success", "message": "=Device New name deleted successfully", "device_id": "int", "note": "str"})
    # It is removed for good: nothing is left to be restored.
    for method, body in [("GET", None), ("PUT", {"name": "x"}), ("DELETE", None)]:
        told = asked(node, method, path, body, *ADMIN)
        assert told[:2] == (404, JSON) and told[2]["error"] == "Device not found", told
    options = ("-H", f"X-API-Key: {TOKEN}")
    deleted = asked(node, "GET", "/api/v1/devices?deleted=true", None, *options)[2]
    assert device["id"] not in [one["id"] for one in deleted["items"]]


def test_an_administrator_sees_numbers(node):
    registered(node)
    status, kind, answer = asked(node, "GET", "/api/v1/admin/stats", None, *ADMIN)
    assert (status, kind) == (200, JSON)
    has(answer, {"status": "=success", "timestamp": "time", "device_stats": {
        "total": "int", "active": "int", "inactive": "int", "maintenance": "int", "online": "int", "offline": "int"},
        "auth_stats": {"total_records": "int", "active_records": "int"},
        "config_stats": {"total_configs": "int", "active_configs": "int"}})
    numbers = answer["device_stats"]
    assert numbers["active"] == numbers["online"] + numbers["offline"] > 0
    status, kind, answer = asked(node, "GET", "/api/v1/admin/dashboard", None, *ADMIN)
    assert (status, kind) == (200, JSON)
    has(answer, {"status": "=success", "statistics": {
        "devices": {"total": "int", "active": "int", "inactive": "int", "online": "int"},
        "telemetry": {"total_records": "int", "last_24h": "int"}, "device_types": [{"type": "str", "count": "int"}]}})


def test_there_is_no_cache_to_be_cleared(node):
    device = registered(node)
    answer = asked(node, "GET", "/api/v1/admin/cache/device-status", None, *ADMIN)
    assert answer[:2] == (200, JSON)
    has(answer[2], {"status": "=success", "cache_stats": {"device_status_count": "int", "device_lastseen_count": "int",
                                                         "redis_memory_used": "str", "redis_uptime": "int", "redis_version": "str"}})
    answer = asked(node, "DELETE", "/api/v1/admin/cache/device-status", None, *ADMIN)
    assert answer == (200, JSON, {"status": "success", "message": "All device status caches cleared successfully"})
    number = device["number"]
    answer = asked(node, "DELETE", f"/api/v1/admin/cache/devices/{number}", None, *ADMIN)
    assert answer == (200, JSON, {"status": "success", "message": f"Cache cleared for device {number}"})
    assert asked(node, "DELETE", "/api/v1/admin/cache/devices/999999", None, *ADMIN)[0] == 404
    answer = asked(node, "GET", "/api/v1/admin/redis-db-sync/status", None, *ADMIN)[2]
    assert answer["redis_db_sync"] == {"enabled": False, "redis_available": False, "callback_count": 0}
    for action in ("enable", "disable", "bulk-sync", "force-sync/1"):
        assert asked(node, "POST", f"/api/v1/admin/redis-db-sync/{action}", None, *ADMIN)[0] == 503


# ---- MQTT management


def test_the_broker_says_how_it_is(node):
    status, kind, answer = asked(node, "GET", "/api/v1/mqtt/status", None, *ADMIN)
    assert (status, kind) == (200, JSON)
    has(answer, {"status": "=success", "mqtt_status": {
        "connected": "bool", "host": "str", "port": "int", "client_id": "str", "use_tls": "bool",
        "handlers_count": "int", "subscriptions_count": "int"},
        "broker_info": {"host": "str", "port": "int", "connected": "bool", "tls_enabled": "bool"}})
    assert answer["broker_info"]["port"] == node.port() and answer["broker_info"]["connected"]
    status, kind, answer = asked(node, "GET", "/api/v1/mqtt/monitoring/metrics", None, *ADMIN)
    assert (status, kind) == (200, JSON)
    has(answer, {"status": "=success", "timestamp": "time", "metrics": {
        "connection_status": {"connected": "bool", "host": "str", "port": "int"},
        "topics": {"total_structures": "int", "base_topic": "=iotflow"},
        "handlers": {"message_handlers": "int", "subscription_callbacks": "int"}}})


@pytest.mark.parametrize("payload, arrives", [
    ({"command": "update_interval", "parameters": {"interval_seconds": 30}},
     '{"command":"update_interval","parameters":{"interval_seconds":30}}'),
    ("text", "text"), ([1, 2], "[1,2]"), (7, "7"),
])
def test_a_message_is_published(node, payload, arrives):
    device = registered(node)
    login = ["-i", device["id"], "-u", device["id"], "-P", device["secret"], "-q", "2"]
    topic = f"iotflow/devices/{device['id']}/commands/config"
    client = Mosquitto(node).sub(*login, "-t", f"iotflow/devices/{device['id']}/commands/#", "-C", "1", "-W", "20")
    body = {"topic": topic, "payload": payload, "qos": 2, "retain": False}
    answer = asked(node, "POST", "/api/v1/mqtt/publish", body, *ADMIN)
    assert answer == (200, JSON, {"status": "success", "message": "Message published successfully",
                                  "topic": topic, "qos": 2, "retain": False})
    lines, status = client.messages()
    assert (lines[-1], status) == (arrives, 0)


@pytest.mark.parametrize("body, error", [
    ({"payload": "x"}, "Missing required field: topic"),
    ({"topic": "iotflow/x"}, "Missing required field: payload"),
    ({"topic": "other/x", "payload": "x"}, "Invalid topic format"),
    ({"topic": "iotflow/#", "payload": "x"}, "Invalid topic format"),
    ({"topic": "iotflow/x", "payload": "x", "qos": 3}, "Validation Error"),
    ({"topic": "iotflow/x", "payload": "x", "retain": "yes"}, "Validation Error"),
    ({"topic": 7, "payload": "x"}, "Validation Error"),
    ("{", "Invalid JSON"),
])
def test_what_is_wrong_with_a_message_is_told(node, body, error):
    told = asked(node, "POST", "/api/v1/mqtt/publish", body, *ADMIN)
    assert told[:2] == (400, JSON)
    has(told[2], {**ERROR, "error": f"={error}"})


def test_nobody_publishes_without_a_key(node):
    body = {"topic": "iotflow/fleet/commands/all", "payload": "x"}
    assert asked(node, "POST", "/api/v1/mqtt/publish", body)[:2] == (401, JSON)
    told = asked(node, "POST", "/api/v1/mqtt/publish", body, *ADMIN, "-H", "Origin: https://evil.example")
    assert told[:2] == (403, JSON)


CATALOGUE = {
    **{f"device_telemetry{part and '_' + part}": ("telemetry", 1, False) for part in ("", "sensors", "metrics", "events")},
    "device_commands_config": ("commands", 2, True), "device_commands_control": ("commands", 2, False),
    "device_commands_firmware": ("commands", 2, True), "device_status_heartbeat": ("status", 0, False),
    "device_status_online": ("status", 1, True), "device_status_offline": ("status", 1, True),
    "device_config": ("config", 1, True), "device_lwt": ("lwt", 1, True),
    "discovery_register": ("discovery", 1, False), "discovery_response": ("discovery", 1, False),
    "fleet_commands": ("commands", 2, True), "fleet_status": ("status", 1, True),
    "system_health": ("system", 1, True), "system_metrics": ("system", 0, False), "system_alerts": ("alerts", 1, True),
    **{f"monitoring_{part}": ("monitoring", 0, False) for part in ("broker", "clients", "traffic")},
}


def test_the_catalogue_of_topics_is_complete(node):
    status, kind, answer = asked(node, "GET", "/api/v1/mqtt/topics/structure", None, *ADMIN)
    assert (status, kind, answer["base_topic"], answer["total_structures"]) == (200, JSON, "iotflow", 22)
    found = {name: (entry["topic_type"], entry["qos"], entry["retain"])
             for name, entry in answer["topic_structures"].items()}
    assert found == CATALOGUE
    for entry in answer["topic_structures"].values():
        has(entry, {"base_path": "str", "description": "str", "full_topic_example": f"=iotflow/{entry['base_path']}"})
    assert set(answer["wildcard_patterns"]) == {
        "all_device_telemetry", "all_device_status", "all_device_commands", "all_fleet_commands", "all_system_topics",
        "all_monitoring", "all_discovery", "everything"}
    # An administrator subscribes to each, as a client does.
    for pattern in answer["wildcard_patterns"].values():
        assert pattern.startswith("iotflow/") and not pattern.endswith("/")


def test_the_topics_of_a_device_are_listed(node):
    for device in ("sensor_001", "7"):
        status, kind, answer = asked(node, "GET", f"/api/v1/mqtt/topics/device/{device}", None, *ADMIN)
        assert (status, kind) == (200, JSON)
        has(answer, {"status": "=success", "device_id": f"={device}", "total_topics": "int"})
        topics = [topic for some in answer["topics"].values() for topic in some]
        assert len(topics) == answer["total_topics"] == 14
        for topic in topics:
            has(topic, {"name": "str", "path": "str", "qos": "int", "retain": "bool", "description": "str"})
            assert f"/{device}" in topic["path"]
    assert asked(node, "GET", "/api/v1/mqtt/topics/device/a%23", None, *ADMIN)[0] == 400


def test_topics_are_validated(node):
    path = "/api/v1/mqtt/topics/validate"
    topic = "iotflow/devices/sensor_001/telemetry/sensors"
    answer = asked(node, "POST", path, {"topic": topic}, *ADMIN)
    assert answer == (200, JSON, {"status": "success", "topic": topic, "is_valid": True, "parsed": {
        "base": "iotflow", "full_topic": topic, "path": "devices/sensor_001/telemetry/sensors",
        "parts": ["devices", "sensor_001", "telemetry", "sensors"], "category": "devices",
        "device_id": "sensor_001", "topic_type": "telemetry", "subtopic": "sensors"}})
    for topic, says in [("other/x", "must start with"), ("iotflow/+", "Invalid character"),
                        ("iotflow/a\u0000", "Invalid character"), ("iotflow/" + "x" * 65_535, "too long")]:
        status, _, answer = asked(node, "POST", path, {"topic": topic}, *ADMIN)
        assert (status, answer["is_valid"], answer["parsed"]) == (200, False, None)
        assert says in answer["validation_errors"][0]
    told = asked(node, "POST", path, {}, *ADMIN)
    assert told[0] == 400 and told[2]["error"] == "Missing required field: topic"
    assert asked(node, "POST", path, {"topic": 1}, *ADMIN)[0] == 400


def test_an_administrator_subscribes_the_server(node):
    path = "/api/v1/mqtt/subscribe"
    assert asked(node, "POST", path, {"topic": "iotflow/#"})[:2] == (401, JSON)
    for sent, qos in [({"topic": "iotflow/devices/+/status/#", "qos": 2}, 2), ({"topic": "iotflow/fleet/status/g"}, 1)]:
        assert asked(node, "POST", path, sent, *ADMIN) == (200, JSON, {
            "status": "success", "message": "Subscribed successfully", "topic": sent["topic"], "qos": qos})
    for topic in ("other/x", "#", "iotflow/a#", "iotflow/a\u0000"):
        told = asked(node, "POST", path, {"topic": topic}, *ADMIN)
        assert told[:2] == (400, JSON)
        has(told[2], {**ERROR, "error": "=Invalid topic format", "topic": f"={topic}"})
    assert asked(node, "POST", path, {"qos": 1}, *ADMIN)[2]["error"] == "Missing required field: topic"
    assert asked(node, "POST", path, {"topic": "iotflow/x", "qos": 3}, *ADMIN)[0] == 400


# ---- System


def test_everybody_is_told_that_the_node_is_healthy(node):
    golden = {"status": "healthy", "message": "IoT Connectivity Layer is running", "version": "1.0.0"}
    assert asked(node, "GET", "/health") == (200, JSON, golden)
    assert asked(node, "GET", "/health?detailed=false") == (200, JSON, golden)
    # Probes are as before.
    assert asked(node, "GET", "/health/live") == (200, JSON, {"status": "alive"})
    assert asked(node, "GET", "/health?detailed=true")[:2] == (401, JSON)
    assert asked(node, "POST", "/health", None, *ADMIN)[:2] == (405, JSON)


STATUS = {"status": "=healthy", "timestamp": "time", "checks": {
    **{name: {"healthy": "bool", "response_time_ms": "number", "status": "str"} for name in ("database", "redis", "iotdb")},
    "mqtt": {"healthy": "bool", "status": "=connected"}},
    "metrics": {"system": {"cpu_percent": "number", "memory_percent": "number", "memory_available_mb": "number",
                           "disk_usage_percent": "number", "load_average": ["number"]},
                "application": {}, "devices": {
                    "total_devices": "int", "active_devices": "int", "online_devices": "int", "offline_devices": "int",
                    "telemetry_last_hour": "int", "telemetry_last_day": "int"}}}


def test_an_administrator_sees_how_the_system_is():
    variables = {"IOTFLOW_ADMIN_TOKEN": TOKEN}.items()
    with martlet_process.Node(http=True, settings=["http.compat=3,1"], variables=variables) as node:
        registered(node)
        for path in ("/status", "/health?detailed=true"):
            status, kind, answer = asked(node, "GET", path, None, *ADMIN)
            assert (status, kind) == (200, JSON)
            has(answer, STATUS)
            assert answer["metrics"]["devices"]["total_devices"] == 1
        has(asked(node, "GET", "/")[2], {"name": "str", "version": "=1.0.0", "description": "str", "endpoints": {
            "health": "=/health", "devices": "=/api/v1/devices", "admin": "=/api/v1/admin", "mqtt": "=/api/v1/mqtt"},
            "documentation": "str"})


# ---- Common


@pytest.mark.parametrize("method, path", [
    ("GET", "/api/v1/devices/telemetry"), ("POST", "/api/v1/devices/telemetry"), ("POST", "/api/v1/telemetry"),
    ("GET", "/api/v1/telemetry/{number}"), ("GET", "/api/v1/telemetry/{number}/latest"),
    ("POST", "/api/v1/mqtt/telemetry/{number}")])
def test_without_telemetry_its_routes_say_what_to_set(node, method, path):
    device = registered(node)
    told = asked(node, method, path.replace("{number}", str(device["number"])), {"data": {"a": 1}}, *key_of(device))
    assert told[:2] == (503, JSON), told
    has(told[2], {**ERROR, "error": "=Telemetry is not stored"})
    assert "telemetry.enabled" in told[2]["message"]


@pytest.mark.parametrize("method, path, status, error", [
    ("GET", "/api/v1/admin/nothing", 404, "Not Found"), ("GET", "/api/v1/mqtt/nothing", 404, "Not Found"),
    ("GET", "/api/v1/devices/register", 405, "Method Not Allowed"), ("DELETE", "/api/v1/devices/config", 405, "Method Not Allowed"),
    ("POST", "/api/v1/devices/status", 405, "Method Not Allowed"), ("PATCH", "/api/v1/admin/devices/1", 405, "Method Not Allowed"),
])
def test_what_is_not_there_is_told_in_its_form(node, method, path, status, error):
    told = asked(node, method, path, None, *ADMIN)
    assert told[:2] == (status, JSON), told
    has(told[2], {**ERROR, "error": f"={error}", "path": f"={path}"})


def test_errors_of_the_layer_below_have_its_form(node, tmp_path):
    path = tmp_path / "body"
    path.write_text(json.dumps({"name": "x" * 3_000_000, "device_type": "t"}))
    told = asked(node, "PUT", "/api/v1/admin/devices/1", f"@{path}", *ADMIN)
    assert told[:2] == (413, JSON) and told[2]["error"] == "Payload Too Large"
    told = asked(node, "GET", "/api/v1/mqtt/status", None, *ADMIN, "-H", "Host: rebound.example")
    assert told[:2] == (421, JSON) and told[2]["error"] == "Misdirected Request"


def test_requests_above_the_rate_are_told_so():
    variables = {"IOTFLOW_ADMIN_TOKEN": TOKEN}.items()
    settings = ["http.rate=1", "http.burst=3"]
    with martlet_process.Node(http=True, settings=settings, variables=variables) as node:
        told = [asked(node, "GET", "/api/v1/admin/stats", None, *ADMIN) for _ in range(8)]
        refused = [one for one in told if one[0] == 429]
        assert refused, told
        has(refused[0][2], {**ERROR, "error": "=Rate limit exceeded", "retry_after": "int", "limit": "int", "window": "int"})


def test_requests_of_a_device_are_limited_and_those_of_an_administrator_are_not(tmp_path):
    (tmp_path / ".env").write_text(f"IOTFLOW_ADMIN_TOKEN={TOKEN}\nRATE_LIMIT_PER_MINUTE=1\nRATE_LIMIT_BURST=20\n")
    with martlet_process.Node(http=True, directory=tmp_path) as node:
        own, other = registered(node), registered(node)
        status = lambda device: asked(node, "GET", "/api/v1/devices/status", None, "-H", f"X-API-Key: {device['secret']}")
        assert [status(own)[0] for _ in range(20)] == [200] * 20
        refused, kind, told = status(own)
        assert (refused, kind, told["limit"]) == (429, JSON, 20), told
        has(told, {**ERROR, "error": "=Rate limit exceeded", "retry_after": "int", "limit": "int", "window": "int"})
        assert "1 a minute (RATE_LIMIT_BURST (iotflow.requests_burst), RATE_LIMIT_PER_MINUTE (iot" in told["message"], told
        assert "raise RATE_LIMIT_PER_MINUTE (iotflow.requests_p" in (answer := node.why(own["id"]))["remedy"], answer
        # What a heartbeat counts against first is the limit of all requests.
        assert asked(node, "POST", "/api/v1/devices/heartbeat", None, "-H", f"X-API-Key: {own['secret']}")[0] == 429
        assert status(other)[0] == 200
        for path, who in (("admin/stats", ADMIN), ("clients", ("-H", f"X-API-Key: {TOKEN}")),
                          (f"devices/{own['number']}/status", ADMIN), (f"devices/{own['id']}/telemetry", key_of(own))):
            assert [asked(node, "GET", f"/api/v1/{path}", None, *who)[0] for _ in range(30)] == [200] * 30, path


def test_who_guesses_keys_of_devices_is_locked_out():
    variables = {"IOTFLOW_ADMIN_TOKEN": TOKEN}.items()
    settings = ["http.rate=0", "auth.lockout_failures=6", "auth.lockout_secs=120"]
    with martlet_process.Node(http=True, settings=settings, variables=variables) as node:
        good, other = registered(node), registered(node)
        heard = lambda key: asked(node, "POST", "/api/v1/devices/heartbeat", None, "-H", f"X-API-Key: {key}")
        assert heard(good["secret"])[0] == 200
        # A device with an old key is locked out itself, and nobody else is.
        told = [heard("x" * 32)[0] for _ in range(7)]
        assert told == [401] * 6 + [429] and heard(good["secret"])[0] == 200
        assert [heard(f"guess-{number}")[0] for number in range(6)][-1] == 429
        status, kind, told = heard(other["secret"])
        assert (status, kind) == (429, JSON) and re.search(r"retry-after: 1(20|1\d)\b", asked.head.lower()), told
        assert heard(good["secret"])[0] == 200, "it was right from there before"
        listed = martlet_process.run("lockout", "ls", "--data-dir", node.data_dir).stdout
        assert "127.0.0.1" in listed and "device key " in listed and "x" * 32 not in listed, listed
        martlet_process.run("lockout", "rm", "--all", "--data-dir", node.data_dir)
        assert heard(other["secret"])[0] == 200
        # The state of a device may be asked for by an administrator too: wrong keys count there as well.
        state = lambda key: asked(node, "GET", f"/api/v1/devices/{good['number']}/status", None, "-H", f"X-API-Key: {key}")
        assert [state(f"guess-{number}")[0] for number in range(7)][-1] == 429
        assert state(TOKEN)[0] == 200


def test_native_routes_are_as_they_were(node):
    """Both have routes below /api/v1/devices."""
    device = registered(node)
    options = ("-H", f"X-API-Key: {TOKEN}", "-H", "Content-Type: application/json")
    assert asked(node, "GET", f"/api/v1/devices/{device['id']}", None, *options)[2]["id"] == device["id"]
    assert "total" in asked(node, "GET", "/api/v1/devices/summary", None, *options)[2]
    told = asked(node, "GET", "/api/v1/devices/nobody", None, *options)
    assert told[:2] == (404, "application/problem+json")
    # The admin scheme is of this system's routes alone.
    assert asked(node, "GET", "/api/v1/devices", None, *ADMIN)[:2] == (401, "application/problem+json")
    # Its words are no ids of devices.
    for word in ("register", "status", "heartbeat", "mqtt-credentials"):
        told = asked(node, "POST", "/api/v1/devices", {"id": word}, *options)
        assert told[:2] == (422, "application/problem+json")


def test_the_routes_are_there_only_where_they_are_asked_for():
    with martlet_process.Node(http=True, settings=["http.compat=1,2"]) as node:
        assert asked(node, "GET", "/api/v1/mqtt/status")[:2] == (404, "application/problem+json")
        assert asked(node, "GET", "/health")[:2] == (404, "application/problem+json")
    with martlet_process.Node(http=True) as node:
        # The one that is named first has /status.
        assert "brokers" in asked(node, "GET", "/status")[2]


def test_a_node_with_a_token_is_claimed_and_a_short_one_is_warned_of():
    with martlet_process.Node(http=True, variables={"IOTFLOW_ADMIN_TOKEN": "short"}.items()) as node:
        assert asked(node, "GET", "/api/v1/devices")[0] == 401
        assert asked(node, "GET", "/api/v1/admin/devices", None, "-H", "Authorization: admin short")[0] == 200
        assert "admin token" in node.log() and "16 characters" in node.log()
        assert "short" not in node.log()
    with martlet_process.Node(http=True) as node:
        # Without an administrator this machine is not asked for one.
        assert asked(node, "GET", "/api/v1/admin/devices")[0] == 200
        assert asked(node, "POST", "/api/v1/devices/heartbeat")[0] == 401


# ---- The rest of the document: what MQTT clients do


def test_administrators_read_every_topic_and_devices_only_their_own(node):
    device, other = registered(node), registered(node)
    mosquitto = Mosquitto(node)
    login = ["-V", "5", "-i", device["id"], "-u", device["id"], "-P", device["secret"], "-q", "1"]
    topics = ["telemetry/sensors", "telemetry/metrics", "telemetry/events", "status/heartbeat", "status/online", "status/offline"]
    for topic in topics:
        sent = mosquitto.pub(*login, "-t", f"iotflow/devices/{device['id']}/{topic}", "-m", '{"status": "online"}')
        assert (sent.returncode, sent.stdout + sent.stderr) == (0, ""), sent
    for topic in ("system/health", "monitoring/broker", f"devices/{other['id']}/telemetry/sensors",
                  f"devices/{device['id']}/commands/control", "fleet/commands/all"):
        sent = mosquitto.pub(*login, "-t", f"iotflow/{topic}", "-m", "x")
        assert "Not authorized" in sent.stdout + sent.stderr, (topic, sent)
    # The Client Identifier is the device's id.
    wrong = mosquitto.pub("-i", other["id"], "-u", device["id"], "-P", device["secret"], "-t", "iotflow/x", "-m", "x")
    assert wrong.returncode != 0
