"""Remedies of `martlet why` that are requests: the request of the answer, sent as it is, ends the fault."""

import json

import pytest

from paho_client import Client
from test_access import until
from test_why_faults_judged import desire
from why_faults import Faults


@pytest.fixture(scope="module")
def node():
    faults = Faults()
    faults.user("boss", "--role", "administrator")
    with faults.start():
        yield faults


def test_a_device_has_a_wrong_secret(node):
    node.device("r1")
    assert not node.comes("r1", "wrong")
    secret = node.carry_out(node.headline("wrong-password", "wrong credential", "r1"))["secret"]
    assert node.comes("r1", secret)
    node.over("r1")


def test_a_device_was_never_added(node):
    assert not node.comes("r2", "x")
    secret = node.carry_out(node.headline("unknown-name", "no user of that name", "r2"))["secret"]
    assert node.comes("r2", secret)
    node.over("r2")


def test_a_device_of_a_team_was_never_added(node):
    node.run("team", "add", "north", "--own-tenant")
    assert not node.comes("r14@north", "x", "r14")
    secret = node.carry_out(node.headline("unknown-name", "no user of that name", "r14", team="north"))["secret"]
    assert node.comes("r14@north", secret, "r14")
    node.over("r14@north")


def test_a_device_is_not_active(node):
    secret = node.device("r3", "--status", "maintenance")
    assert not node.comes("r3", secret)
    node.carry_out(node.headline("disabled", "has the status maintenance", "r3"))
    assert node.comes("r3", secret)
    node.over("r3")


@pytest.mark.parametrize("what", ["device", "user"])
def test_a_name_was_deleted(node, what):
    name = f"r4-{what}"
    secret = node.device(name) if what == "device" else "secret"
    if what == "user":
        node.user(name)
    node.run(what, "rm", name)
    assert not node.comes(name, secret)
    node.carry_out(node.headline("deleted", "it was removed from the registry", name))
    assert node.comes(name, secret)
    node.over(name)


@pytest.mark.parametrize("kind", ["client-id", "user"])
def test_a_device_is_banned(node, kind):
    name = f"r5-{kind}"
    secret = node.device(name)
    node.run("ban", "add", kind, name)
    assert not node.comes(name, secret)
    node.carry_out(node.headline("banned", f"{name} is banned", name))
    assert node.comes(name, secret)
    node.over(name)


def test_a_user_is_disabled(node):
    node.user("r6")
    node.run("user", "set", "r6", "--disable")
    assert not node.comes("r6")
    node.carry_out(node.headline("disabled", "", "r6"))
    assert node.comes("r6")
    node.over("r6")


def test_an_address_and_a_name_are_locked_out():
    with Faults(settings=["auth.lockout_failures=3"]) as node:
        secret = node.device("r7")
        for number in range(4):
            assert not node.comes(f"stranger-{number}", "wrong")
        assert not node.comes("r7", secret)
        node.carry_out(node.headline("locked-out", "too many wrong credentials from this address", "r7"))
        assert node.comes("r7", secret)
        for number in range(5):
            assert not node.comes("r7", f"wrong {number}")
        node.carry_out(node.headline("locked-out", "locked out", "r7"))
        assert node.comes("r7", secret)
        node.over("r7")


def test_a_retained_command_is_sent_at_each_subscribe(node):
    secret = node.device("r10")
    with node.client("boss") as boss:
        boss.publish("d/r10/cmd", "open", retain=True, qos=1)
    with node.client("r10", secret) as device:
        device.subscribe("d/r10/cmd", 1)
        assert device.receive_payload() == "open"
        node.carry_out(node.headline("retained-again", "has a retained message", "r10", "d/r10/cmd"))
        node.over("r10", "d/r10/cmd")


def test_a_device_could_not_carry_a_command_out(node):
    secret = node.device("r11")
    with node.client("r11", secret) as device:
        device.subscribe("d/r11/commands/+", 1)
        command = json.loads(node.run("command", "send", "open", "--device", "r11", "--json"))["id"]
        for status in ("failed", "succeeded"):
            assert json.loads(device.receive().payload)["id"] == command
            device.publish("d/r11/status/command", json.dumps({"command_id": command, "status": status}))
            if status == "failed":
                node.carry_out(node.headline("command-failed", "the device reported a failure", "r11"))
        node.over("r11")


def test_a_value_of_a_group_is_hidden(node):
    secret = node.device("r12")
    node.run("group", "add", "hall-r")
    node.run("group", "member", "add", "hall-r", "r12")
    desire(node, "r12", {"mode": "full"})
    node.run("group", "desired", "hall-r", "--set", '{"mode": "eco"}')
    with node.client("r12", secret) as device:
        device.subscribe("d/r12/config", 1)
        device.publish("d/r12/twin/reported", '{"mode": "full"}')
        node.carry_out(node.headline("configuration-hidden", "the device has a desired value of its own", "r12"))
        device.publish("d/r12/twin/reported", '{"mode": "eco"}')
        node.over("r12")


def test_a_rule_is_off(node, tmp_path):
    rule = tmp_path / "copy.json"
    rule.write_text(json.dumps({"topics": ["a/#"], "actions": [{"publish": {"topic": "b"}}]}))
    node.run("rule", "add", "copy", str(rule))
    node.run("rule", "off", "copy")
    node.carry_out(node.headline("rule-off", "the rule copy is off", "copy"))
    with node.client("boss") as boss:
        boss.publish("a/1", "1", qos=1)
        node.over("copy")


def test_an_event_has_the_remedy_too(node):
    node.device("r13")
    assert not node.comes("r13", "wrong")

    def remedies():
        status, text = node.node.admin.ask("GET", "/api/v1/events")
        assert status == 200, text
        events = [one for one in json.loads(text)["items"] if one["client_id"] == "r13"]
        return [remedy for one in events for remedy in one.get("remedies", ())]

    until(remedies, "the event is there")
    assert remedies()[0]["path"] == "/api/v1/devices/r13/rotate"


def test_health_has_the_keys_of_the_configuration():
    with Faults(settings=["limits.sessions=1"]) as node:
        with Client(node.node, "one"):
            status, text = node.node.admin.ask("GET", "/api/v1/health")
            assert status == 200, text
            keys = [remedy.get("configuration") for remedy in json.loads(text)["remedies"]]
            assert "limits.sessions" in keys, text
