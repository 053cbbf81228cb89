"""Twins: values that a device is to have, and those that it reports, over restarts of the node."""

import json

import pytest

import martlet_process
from paho_client import Client, properties
from test_events import Stream
from test_http_api import KEY
from test_http_registry import ask, call, in_a_file
from test_sinks import until

LONG = properties("CONNECT", SessionExpiryInterval=3600)


@pytest.fixture
def node(start_node, variables):
    """A node with its tables in SQLite, and in PostgreSQL."""
    return start_node(http=True, variables=variables, settings=["http.rate=0"])


def add(node, device, **how):
    return call(node, "POST", "/api/v1/devices", {"id": device, **how})


def connect(node, made, **how):
    return Client(node, made["id"], **how).credentials(made["user_name"], made["secret"]).start()


def twin(node, device):
    return call(node, "GET", f"/api/v1/devices/{device}/twin")


def desire(node, device, values, method="PATCH", **how):
    return call(node, method, f"/api/v1/devices/{device}/twin/desired", values, **how)


def desire_if(node, version, values, method="PATCH"):
    """Status and answer of a change of the values of `pump`, if they have this version."""
    headers = {"X-API-Key": KEY, "Content-Type": "application/json", "If-Match": f'"{version}"'}
    path = "/api/v1/devices/pump/twin/desired"
    status, _, answer = ask(node, path, method, headers, json.dumps(values).encode())
    return status, json.loads(answer)


def reported(node, device, values):
    until(lambda: twin(node, device)["reported"]["values"] == values,
          lambda: f"reported are {twin(node, device)['reported']}, not {values}\n{node.log()}")
    return twin(node, device)


def received(client):
    return json.loads(client.receive().payload)


def test_a_device_is_told_what_it_is_to_have_and_reports_it(node):
    made = add(node, "pump")
    assert twin(node, "pump")["desired"] == {"values": {}, "version": 0, "updated_at": None}
    desire(node, "pump", {"interval": 30, "led": {"on": True, "colour": "red"}})
    client = connect(node, made)
    # Its values wait for it, however it subscribes.
    client.subscribe("d/pump/#", qos=1)
    message = client.receive()
    assert (message.topic, message.qos, message.retain) == ("d/pump/config", 1, False)
    told = json.loads(message.payload)
    assert (told["version"], told["desired"]) == (1, {"interval": 30, "led": {"on": True, "colour": "red"}})
    assert told["difference"] == told["desired"] and told["reported_version"] == 0
    client.publish("d/pump/twin/reported", json.dumps({"interval": 30.0, "led": {"on": False}, "own": 1}))
    now = reported(node, "pump", {"interval": 30.0, "led": {"on": False}, "own": 1})
    assert now["difference"] == {"led": {"on": True, "colour": "red"}} and now["reported"]["version"] == 1
    # A change is told at once, with all values and what is missing.
    own = client.receive()
    if own.topic == "d/pump/config":
        # The values may have changed in the moment in which the device has subscribed.
        assert json.loads(own.payload)["version"] == 1
        own = client.receive()
    assert own.topic == "d/pump/twin/reported"
    desire(node, "pump", {"led": {"colour": None}, "mode": "eco"})
    told = received(client)
    assert (told["version"], told["desired"]) == (2, {"interval": 30, "led": {"on": True}, "mode": "eco"})
    assert told["difference"] == {"led": {"on": True}, "mode": "eco"}
    client.publish("d/pump/twin/reported", json.dumps({"led": {"on": True}, "mode": "eco", "own": None}))
    now = reported(node, "pump", {"interval": 30.0, "led": {"on": True}, "mode": "eco"})
    assert now["difference"] == {} and now["reported"]["version"] == 2
    client.disconnect()


def test_a_device_asks_for_its_values(node):
    made = add(node, "pump")
    client = connect(node, made)
    client.subscribe("d/pump/config", qos=1)
    desire(node, "pump", {"a": 1})
    assert received(client)["version"] == 1
    client.publish("d/pump/twin/get", "")
    assert received(client)["version"] == 1
    client.disconnect()


@in_a_file
def test_a_session_that_resumes_is_told_too(node):
    made = add(node, "pump")
    client = connect(node, made, clean=False, properties=LONG)
    client.subscribe("d/pump/config", qos=1)
    client.disconnect()
    desire(node, "pump", {"a": 1})
    desire(node, "pump", {"a": 2})
    client = connect(node, made, clean=False, properties=LONG)
    versions = []
    until(lambda: versions.append(received(client)["version"]) or versions[-1] == 2, "the last version did not come")
    client.disconnect()


@in_a_file
def test_a_device_of_iotflow_has_topics_of_its_own(node):
    made = add(node, "s1", type="iotflow")
    client = connect(node, made)
    client.subscribe("iotflow/devices/s1/config", qos=1)
    desire(node, "s1", {"interval": 30})
    message = client.receive()
    assert message.topic == "iotflow/devices/s1/config" and not message.retain
    assert json.loads(message.payload)["difference"] == {"interval": 30}
    client.publish("iotflow/devices/s1/status/config", '{"interval": 30}')
    assert reported(node, "s1", {"interval": 30})["difference"] == {}
    client.publish("iotflow/devices/s1/status/config/get", "")
    # What came before may have come twice.
    until(lambda: received(client)["difference"] == {}, "the device is not told that nothing is missing")
    client.disconnect()


def test_versions_keep_two_writers_apart(node):
    add(node, "pump")
    path = "/api/v1/devices/pump/twin/desired"
    assert desire_if(node, 0, {"a": 1})[0] == 200
    assert desire_if(node, 0, {"a": 2})[0] == 412
    status, answer = desire_if(node, 1, {"b": None, "c": 3}, "PUT")
    assert status == 200 and answer["desired"]["version"] == 2
    assert twin(node, "pump")["desired"]["values"] == {"c": 3}
    for wrong in ([1], "text", 7):
        call(node, "PATCH", path, wrong, expect=422)


@in_a_file
def test_values_are_bounded(node):
    made = add(node, "pump")
    desire(node, "pump", {"a": "x" * 60_000})
    desire(node, "pump", {"b": "x" * 10_000}, expect=422)
    deep = 1
    for _ in range(17):
        deep = {"d": deep}
    desire(node, "pump", deep, expect=422)
    assert twin(node, "pump")["desired"]["version"] == 1
    # A device is told why its report is not applied.
    client = connect(node, made)
    client.subscribe("d/pump/config/error", qos=1)
    for wrong in ("no JSON", "[1]", json.dumps({"a": "x" * 70_000}), json.dumps(deep)):
        client.publish("d/pump/twin/reported", wrong)
        assert "error" in received(client)
    assert twin(node, "pump")["reported"]["version"] == 0
    client.disconnect()


def test_twins_survive_a_kill_of_the_node(tmp_path, start_node):
    how = {"http": True, "variables": {"MARTLET_HTTP__API_KEYS": f"all:{KEY}"}, "data_dir": tmp_path,
           "settings": ["http.rate=0"]}
    node = start_node(**how)
    made = add(node, "pump")
    client = connect(node, made)
    for count in range(20):
        desire(node, "pump", {"count": count})
        client.publish("d/pump/twin/reported", json.dumps({"own": count}))
    node.process.kill()
    node.process.wait()
    client.client.loop_stop()
    node = start_node(**how)
    # What was acknowledged is there.
    assert twin(node, "pump")["desired"]["values"] == {"count": 19}
    reported(node, "pump", {"own": 19})
    client = connect(node, made)
    client.subscribe("d/pump/config", qos=1)
    assert received(client)["desired"] == {"count": 19}
    client.disconnect()


def test_teams_see_their_own_twins_alone(node):
    keys = {}
    for name in ("north", "south"):
        team = call(node, "POST", "/api/v1/teams", {"name": name, "owns_tenant": True})["id"]
        keys[name] = call(node, "POST", "/api/v1/keys", {
            "name": name, "team": team, "scopes": ["devices:read", "devices:write"]})["key"]
    made = call(node, "POST", "/api/v1/devices", {"id": "pump"}, key=keys["north"])
    path = "/api/v1/devices/pump/twin"
    call(node, "PATCH", f"{path}/desired", {"a": 1}, key=keys["south"], expect=404)
    call(node, "PATCH", f"{path}/desired", {"a": 1}, key=keys["north"])
    call(node, "GET", path, key=keys["south"], expect=404)
    client = connect(node, made)
    client.subscribe("d/pump/config", qos=1)
    assert received(client)["desired"] == {"a": 1}
    client.publish("d/pump/twin/reported", '{"a": 1}')
    until(lambda: call(node, "GET", path, key=keys["north"])["difference"] == {}, "the report is not noted")
    client.disconnect()


def test_the_audit_log_has_changes_without_values(node):
    add(node, "pump")
    desire(node, "pump", {"password": "hunter2"})
    entries = call(node, "GET", "/api/v1/audit?limit=20")["items"]
    [entry] = [one for one in entries if one["action"] == "twin.set"]
    assert entry["object_id"] == "pump" and "password" in json.dumps(entry["changed"])
    assert "hunter2" not in json.dumps(entries)


def test_a_twin_at_the_command_line(tmp_path, start_node):
    node = start_node(http=True, variables={"MARTLET_HTTP__API_KEYS": f"all:{KEY}"}, data_dir=tmp_path,
                      settings=["http.rate=0"])
    add(node, "pump")

    def martlet(*args, of=("device", "twin", "pump"), code=0):
        done = martlet_process.run(*of, *args, "--data-dir", tmp_path)
        assert done.returncode == code, done
        return done.stdout

    assert "(version 0)" in martlet()
    assert '{"a":1,"b":2}' in martlet("--set", '{"a": 1, "b": 2}')
    assert json.loads(martlet("--replace", '{"c": 3}', "--json"))["desired"] == {
        **twin(node, "pump")["desired"], "values": {"c": 3}, "version": 2}
    martlet("--set", "no JSON", code=1)
    call(node, "POST", "/api/v1/groups", {"name": "pumps"})
    of = ("group", "desired", "pumps")
    assert '{"d":4} (version 1)' in martlet("--set", '{"d": 4}', of=of)
    assert json.loads(martlet("--json", of=of))["desired"]["values"] == {"d": 4}
    martlet(of=("group", "desired", "none"), code=1)


def test_a_device_reads_and_reports_by_http_with_its_own_secret(node):
    made, other = add(node, "pump"), add(node, "valve")
    desire(node, "pump", {"interval": 30})
    path = "/api/v1/devices/pump/twin"
    assert call(node, "GET", path, key=made["secret"])["desired"]["values"] == {"interval": 30}
    told = call(node, "PATCH", f"{path}/reported", {"interval": 30, "up": 7}, key=made["secret"])
    assert told["reported"]["values"] == {"interval": 30, "up": 7} and told["difference"] == {}
    assert call(node, "PATCH", f"{path}/reported", {"up": None})["reported"]["values"] == {"interval": 30}
    for secret, status in ((other["secret"], 403), ("wrong", 401)):
        call(node, "GET", path, key=secret, expect=status)
        call(node, "PATCH", f"{path}/reported", {"up": 1}, key=secret, expect=status)
    call(node, "PATCH", f"{path}/desired", {"up": 1}, key=made["secret"], expect=401)
    call(node, "PATCH", f"{path}/reported", {"x": "y" * 70_000}, key=made["secret"], expect=422)
    assert twin(node, "pump")["reported"]["version"] == 2


@in_a_file
def test_the_part_that_takes_reports_is_in_no_list(node):
    made = add(node, "pump")
    client = connect(node, made)
    client.subscribe("d/pump/config", qos=1)
    desire(node, "pump", {"interval": 30})
    client.receive()
    for path in ("clients", "subscriptions"):
        found = call(node, "GET", f"/api/v1/{path}")["items"]
        assert {one["client_id"] for one in found} == {"pump"}
    assert any(one["client_id"].startswith("$twins") for one in call(node, "GET", "/api/v1/clients?search=%24twins")["items"])


def test_changes_of_a_twin_are_events(node):
    made = add(node, "pump")
    stream = Stream(node, "kinds=twin_changed")
    desire(node, "pump", {"password": "MARKER"})
    client = connect(node, made)
    client.publish("d/pump/twin/reported", '{"up": 7}')
    for side in ("desired", "reported"):
        _, event = stream.next()
        assert (event["client_id"], event["twin"]) == ("pump", {"side": side, "version": 1})
        assert "MARKER" not in json.dumps(event)
    stream.close()


def received_with(client, **values):
    """The first message with these values: those before may come more than once."""
    while True:
        message = received(client)
        if values.items() <= message["desired"].items():
            return message


def test_values_of_a_group_lie_below_those_of_the_device(node):
    made = add(node, "pump")
    for name in ("a", "b"):
        call(node, "POST", "/api/v1/groups", {"name": name})
    call(node, "POST", "/api/v1/groups/a/devices", {"devices": ["pump"]})
    client = connect(node, made)
    client.subscribe("d/pump/config", qos=1)
    path = "/api/v1/groups/a/twin/desired"
    told = call(node, "PATCH", path, {"interval": 60, "led": {"on": True}, "unit": "C"})
    assert (told["name"], told["desired"]["version"]) == ("a", 1)
    assert received_with(client, interval=60)["desired"] == {"interval": 60, "led": {"on": True}, "unit": "C"}
    desire(node, "pump", {"interval": 30})
    message = received_with(client, interval=30)
    assert message["desired"] == {"interval": 30, "led": {"on": True}, "unit": "C"}
    shown = twin(node, "pump")
    assert shown["desired"]["values"] == {"interval": 30} and shown["of_groups"]["interval"] == 60
    # A group that is joined counts at once, and with a higher version.
    call(node, "PUT", "/api/v1/groups/b/twin/desired", {"unit": "F"})
    call(node, "POST", "/api/v1/groups/b/devices", {"devices": ["pump"]})
    client.publish("d/pump/twin/get", "")
    joined = received_with(client, unit="F")
    assert joined["version"] > message["version"]
    client.publish("d/pump/twin/reported", json.dumps(joined["desired"]))
    until(lambda: twin(node, "pump")["difference"] == {}, "nothing is missing")
    call(node, "DELETE", "/api/v1/groups/b")
    client.publish("d/pump/twin/get", "")
    left = received_with(client, unit="C")
    assert left["version"] > joined["version"]
    assert call(node, "GET", path)["desired"]["values"]["interval"] == 60
    call(node, "GET", "/api/v1/groups/none/twin/desired", expect=404)
    call(node, "PATCH", path, {"x": "y" * 70_000}, expect=422)
