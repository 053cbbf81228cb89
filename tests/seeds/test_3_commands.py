"""Commands of IoTFlow: its routes and topics, with the states that a command has here."""

import json

import pytest

import martlet_process
from paho_client import Client
from test_3_iotflow import ADMIN, TOKEN, asked, key_of, registered
from test_access import until

VARIABLES = {"IOTFLOW_ADMIN_TOKEN": TOKEN}
KEY = ("-H", f"X-API-Key: {TOKEN}", "-H", "Content-Type: application/json")


@pytest.fixture(scope="module")
def node():
    with martlet_process.Node(http=True, settings=["http.rate=0"], variables=VARIABLES.items()) as node:
        yield node


def connected(node, device, *filters):
    client = Client(node, device["id"]).credentials(device["id"], device["secret"]).start()
    for one in filters:
        client.subscribe(one, qos=2)
    return client


def ok(node, method, path, body, *shown, status=200):
    told = asked(node, method, path, body, *(shown or KEY))
    assert told[0] == status, told
    return told[2]


def state_of(node, device, command):
    return ok(node, "GET", f"/api/v1/devices/{device['id']}/commands/{command}", None)["state"]


def until_state(node, device, command, state):
    until(lambda: state_of(node, device, command) == state, f"the command is {state}")


def test_the_example_of_the_document_reaches_the_device(node):
    """With its parameters, which the original drops, and not retained."""
    device = registered(node)
    topic = f"iotflow/devices/{device['id']}/commands/config"
    client = connected(node, device, f"iotflow/devices/{device['id']}/commands/+")
    body = {"command_type": "config", "command": "update_interval", "parameters": {"interval_seconds": 30}, "qos": 2}
    told = ok(node, "POST", f"/api/v1/mqtt/device/{device['id']}/command", body)
    assert (told["topic"], told["command_type"], told["qos"]) == (topic, "config", 2)
    message = client.receive()
    assert (message.topic, message.qos, message.retain) == (topic, 2, False)
    sent = json.loads(message.payload)
    assert set(sent) == {"command", "parameters", "timestamp", "command_id", "source"}
    assert (sent["command"], sent["parameters"]) == ("update_interval", {"interval_seconds": 30})
    assert (sent["command_id"], sent["source"]) == (told["command_id"], "iotflow_api")
    until_state(node, device, told["command_id"], "delivered")
    client.publish(f"iotflow/devices/{device['id']}/status/command",
                   json.dumps({"command_id": sent["command_id"], "status": "completed"}))
    until_state(node, device, told["command_id"], "succeeded")
    client.disconnect()
    # Who subscribes later is not sent an old command.
    late = connected(node, device, topic)
    assert ok(node, "POST", f"/api/v1/mqtt/device/{device['id']}/command", {**body, "command": "next"})
    assert json.loads(late.receive().payload)["command"] == "next"
    late.disconnect()


def test_a_command_waits_for_a_device_that_is_away(node):
    device = registered(node)
    body = {"command_type": "firmware", "command": "update", "command_id": "fw-7"}
    told = ok(node, "POST", f"/api/v1/mqtt/device/{device['number']}/command", body)
    assert told["command_id"] == "fw-7"
    client = connected(node, device, f"iotflow/devices/{device['id']}/commands/firmware")
    assert json.loads(client.receive().payload)["command_id"] == "fw-7"
    client.disconnect()
    again = asked(node, "POST", f"/api/v1/mqtt/device/{device['number']}/command", body, *ADMIN)
    assert again[0] == 409, again
    unknown = asked(node, "POST", "/api/v1/mqtt/device/nobody/command", body, *ADMIN)
    assert unknown[0] == 404 and unknown[2]["error"] == "Device not found"


def test_a_command_to_a_fleet_reaches_its_devices_and_plain_subscribers(node):
    device, other = registered(node), registered(node)
    group = ok(node, "POST", "/api/v1/groups", {"name": "group_001"}, status=201)["id"]
    ok(node, "POST", f"/api/v1/groups/{group}/devices", {"devices": [device["id"]]})
    client = connected(node, device, f"iotflow/devices/{device['id']}/commands/control")
    stranger = connected(node, other, f"iotflow/devices/{other['id']}/commands/control")
    body = {"command": "restart", "parameters": {"delay": 5}, "command_id": "all-1"}
    told = ok(node, "POST", "/api/v1/mqtt/fleet/group_001/command", body)
    assert (told["topic"], told["devices"], told["left_out"]) == ("iotflow/fleet/commands/group_001", 1, 0)
    sent = json.loads(client.receive().payload)
    assert (sent["command_id"], sent["parameters"]) == ("all-1", {"delay": 5})
    until_state(node, device, "all-1", "delivered")
    # What comes first to another device is a command of its own.
    ok(node, "POST", f"/api/v1/devices/{other['number']}/control", {"command": "own"}, status=201)
    assert json.loads(stranger.receive().payload)["command"] == "own"
    for one in (client, stranger):
        one.disconnect()


def test_a_plain_subscriber_gets_the_command_of_its_fleet(node):
    device = registered(node)
    ok(node, "POST", "/api/v1/groups", {"name": "plain"}, status=201)
    ok(node, "POST", "/api/v1/groups/plain/devices", {"devices": [device["id"]]})
    client = connected(node, device, "iotflow/fleet/commands/plain")
    told = ok(node, "POST", "/api/v1/mqtt/fleet/plain/command", {"command": "restart"})
    message = client.receive()
    sent = json.loads(message.payload)
    assert not message.retain
    assert (sent["group_id"], sent["command_id"]) == ("plain", told["command_id"])
    # Its answer counts, as if it had come by a topic of its own.
    client.publish(f"iotflow/devices/{device['id']}/status/command",
                   json.dumps({"command_id": sent["command_id"], "status": "completed"}))
    until_state(node, device, told["command_id"], "succeeded")
    client.disconnect()


def test_a_fleet_that_is_not_in_the_tables_is_a_topic_alone(node):
    told = ok(node, "POST", "/api/v1/mqtt/fleet/nobody/command", {"command": "restart"})
    assert told["devices"] == 0 and told["topic"] == "iotflow/fleet/commands/nobody"
    told = asked(node, "POST", "/api/v1/mqtt/fleet/a+b/command", {"command": "restart"}, *ADMIN)
    assert told[0] == 400 and told[2]["error"] == "Invalid group ID format"


def test_a_device_asks_for_its_commands_and_answers_by_http(node):
    device, other = registered(node), registered(node)
    number = device["number"]
    told = ok(node, "POST", f"/api/v1/devices/{number}/control", {"command": "open", "parameters": {"valve": 3}}, status=201)
    assert (told["status"], told["device_id"], told["id"]) == ("pending", number, told["control_id"])
    ok(node, "POST", f"/api/v1/devices/{number}/control", {"command": "close"}, status=201)
    pending = ok(node, "GET", f"/api/v1/devices/{number}/control/pending", None, *key_of(device))
    assert [(one["command"], one["parameters"]) for one in pending] == [("open", {"valve": 3}), ("close", {})]
    path = f"/api/v1/devices/{number}/control/{told['id']}/status"
    assert ok(node, "POST", path, {"status": "acknowledged"}, *key_of(device))["status"] == "acknowledged"
    pending = ok(node, "GET", f"/api/v1/devices/{number}/control/pending", None, *key_of(device))
    assert [one["command"] for one in pending] == ["close"]
    assert ok(node, "POST", path, {"status": "completed", "result": "ok"}, *key_of(device))["status"] == "completed"
    assert state_of(node, device, told["command_id"]) == "succeeded"
    # An end is final, and nobody answers for others.
    assert asked(node, "POST", path, {"status": "failed"}, *key_of(device))[0] == 409
    assert asked(node, "POST", path, {"status": "completed"}, *key_of(other))[0] == 403
    assert asked(node, "GET", f"/api/v1/devices/{number}/control/pending", None, *key_of(other))[0] == 403
    missing = asked(node, "POST", f"/api/v1/devices/{number}/control/999999/status", {"status": "failed"}, *key_of(device))
    assert missing[0] == 404 and missing[2]["error"] == "Control command not found"
