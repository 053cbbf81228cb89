"""Faults that a stranger put to `martlet why`: retained commands, values that are hidden or of another type, keys of
the API, words that are no clients, alarms that another one inhibits, share groups and bridges. The headline is the
fault, and the command that is printed ends it."""

import json
import time

import pytest

from test_access import until
from test_why_faults_more import alarms, configured
from why_faults import TELEMETRY, Faults, boss, node, published  # noqa: F401


# Retained messages


def test_a_retained_command_is_sent_at_each_subscribe(node, boss):  # noqa: F811
    secret = node.device("valve")
    boss.publish("d/valve/cmd", "open", retain=True)
    for _ in range(2):
        with node.client("valve", secret) as device:
            device.subscribe("d/valve/cmd", 1)
            assert device.receive_payload() == "open"
            told = node.headline("retained-again", "d/valve/cmd has a retained message, kept since", "valve", "d/valve/cmd")
    assert told["since"] and "without RETAIN" in told["remedy"], told
    node.bash(told)
    with node.client("valve", secret) as device:
        device.subscribe("d/valve/cmd", 1)
        node.over("valve", "d/valve/cmd")
        assert node.why("valve", "d/valve/cmd")["cause"] == "nothing-wrong"


def test_a_retained_state_is_no_fault(node, boss):  # noqa: F811
    boss.publish("plant/state", "on", retain=True)
    with node.client("ann", client_id="a1") as app:
        app.subscribe("plant/state", 1)
        node.over("a1", "plant/state")
        told = node.why("a1", "plant/state")
        assert told["cause"] == "nothing-wrong", told
        assert [one for one in told["also"] if one["cause"] == "retained-again"], told


# Twins


def twin(node, device):
    return json.loads(node.run("device", "twin", device, "--json"))


def desire(node, device, values):
    node.run("device", "twin", device, "--set", json.dumps(values))


def test_a_value_of_a_group_is_hidden_by_that_of_the_device(node):
    secret = node.device("t1")
    node.run("group", "add", "hall")
    node.run("group", "member", "add", "hall", "t1")
    desire(node, "t1", {"net": {"interval": 10}})
    node.run("group", "desired", "hall", "--set", '{"net": {"interval": 60}, "mode": "eco"}')
    with node.client("t1", secret) as device:
        device.subscribe("d/t1/config", 1)
        device.publish("d/t1/twin/reported", '{"net": {"interval": 10}, "mode": "eco"}')
        for asked in (["t1"], ["t1", "d/t1/config"]):
            told = node.headline("configuration-hidden", "the value net.interval of the group hall is not sent to the device: "
                                 "the device has a desired value of its own", *asked)
        node.bash(told)
        assert twin(node, "t1")["difference"] == {"net": {"interval": 60}}
        device.publish("d/t1/twin/reported", '{"net": {"interval": 60}}')
        node.over("t1")


def test_a_value_of_a_group_is_hidden_by_that_of_another_group(node):
    secret = node.device("t2")
    for group, mode in (("gr-a", "eco"), ("gr-b", "full")):
        node.run("group", "add", group)
        node.run("group", "member", "add", group, "t2")
        node.run("group", "desired", group, "--set", json.dumps({"mode": mode}))
    with node.client("t2", secret) as device:
        device.subscribe("d/t2/config", 1)
        device.publish("d/t2/twin/reported", '{"mode": "full"}')
        told = node.headline("configuration-hidden", "the value mode of the group gr-a is not sent to the device: the group "
                             "gr-b has another value", "t2")
        assert "full" in node.bash(told)
        node.run("group", "desired", "gr-b", "--set", '{"mode": null}')
        device.publish("d/t2/twin/reported", '{"mode": "eco"}')
        node.over("t2")


def test_a_value_is_reported_as_text(node):
    secret = node.device("t3")
    with node.client("t3", secret) as device:
        device.subscribe("d/t3/config", 1)
        desire(node, "t3", {"net": {"interval": 30}})
        device.publish("d/t3/twin/reported", '{"net": {"interval": "30"}}')
        told = node.headline("configuration-not-reported", "net.interval should be a number, and the device reports a string "
                             "with the same characters", "t3")
        assert "report net.interval as a number" in told["remedy"], told
        assert "interval" in node.bash(told)
        device.publish("d/t3/twin/reported", '{"net": {"interval": 30}}')
        node.over("t3")


# Telemetry

def test_the_clock_of_a_device_stands_in_1970(tmp_path):
    with configured(tmp_path, TELEMETRY) as node:
        secret = node.device("c1")
        with node.client("c1", secret) as device:
            device.publish("d/c1/telemetry", json.dumps({"ts": 86_400, "values": {"t": 21.5}}))
            told = node.headline("time-wrong", "the values of its last payload are stored at 1970-01-02", "c1")
            assert "years behind the time of receipt" in told["sentence"], told
            assert "21.5" in node.bash(told)
            device.publish("d/c1/telemetry", '{"t": 22.5}')
            device.publish("d/c1/telemetry", json.dumps({"ts": int(time.time()), "values": {"t": 23.5}}))
            node.over("c1")


# Names


def test_an_api_key_is_asked_about():
    faults = Faults()
    faults.options["http"] = True
    faults.user("boss", "--role", "administrator")
    with faults.start() as node:
        node.run("key", "add", "ci", "--scope", "viewer", "--scope", "devices:write")
        told = node.why("ci")
        assert told["state"] == "no-client" and told["cause"] == "nothing-wrong", told
        assert "ci is an API key" in told["sentence"] and "it was never used" in told["sentence"], told
        assert "viewer" in told["sentence"] and "devices:write" in told["sentence"], told
        node.run("key", "add", "old", "--scope", "viewer", "--for", "1s")
        told = node.headline("credential-expired", "old is an API key", "old")
        assert "it expired on" in told["sentence"] and "its scope is viewer" in told["sentence"], told
        assert node.carry_out(told)["key"].startswith("mk_")
        node.over("old")
        [key] = [one for one in json.loads(node.run("key", "ls", "--json"))["items"] if one["name"] == "ci"]
        node.run("key", "rm", key["id"])
        told = node.headline("deleted", "the API key ci was removed on", "ci")
        assert "it was never used" in told["sentence"], told
        node.bash(told)


@pytest.mark.parametrize(("word", "advice", "shows"), [
    ("backup", "martlet backup --help", ""),
    ("health", "warns about", ""),
    ("rules", "to list them, run", ""),
])
def test_a_word_is_asked_about_that_is_no_client(node, word, advice, shows):
    told = node.headline("nobody-known", f"{word} is unknown: no client, device or user has that name", word)
    assert advice in told["remedy"] and told["state"] == "no-client", told
    node.bash(told)


def test_a_device_is_called_like_a_part(node):
    secret = node.device("store")
    with node.client("store", secret):
        until(lambda: node.why("store")["cause"] == "nothing-wrong", "it is there")


# Alarms

INHIBITED = """
[[rules]]
name = "power"
topics = ["d/+/power"]
alarm.condition = { raise_when = "payload == 0" }
[[rules]]
name = "hot"
topics = ["d/+/t"]
alarm.threshold = { above = 80.0 }
alarm.inhibited_by = ["power"]
"""


def test_an_alarm_is_inhibited_by_another_one(tmp_path):
    with configured(tmp_path, INHIBITED) as node:
        secret = node.device("p1")
        with node.client("p1", secret) as device:
            device.publish("d/p1/power", "0")
            until(lambda: alarms(node), "power is raised")
            device.publish("d/p1/t", "90")
            told = node.headline("alarm-silent", "the alarm hot, about p1, is not raised", "hot")
            assert "the alarm power is active since" in told["sentence"], told
            node.bash(told)
            until(lambda: [one["name"] for one in alarms(node)] == ["hot"], "hot is raised")
            node.over("hot")


# Rules


def test_the_action_of_a_rule_that_fails_is_named(node):
    rule = node.path / "acts.json"
    rule.write_text(json.dumps({"topics": ["acts/x"], "actions": [
        {"publish": {"topic": "acts/y"}}, {"command": {"device": "nobody-there", "command": "open"}}]}))
    node.run("rule", "add", "acts", str(rule))
    with node.client("bob", client_id="b2") as client:
        client.publish("acts/x", "1")
    told = node.headline("rule-failing", "the action command of the rule acts has failed once", "acts")
    assert told["remedy"].startswith("correct that action (command)"), told
    assert "nobody-there" in node.bash(told)


# Share groups


def test_the_other_member_of_a_share_group_is_named(node, boss):  # noqa: F811
    with node.client("ann", client_id="s1") as first, node.client("bob", client_id="s2") as second:
        for member in (first, second):
            member.subscribe("$share/crew/jobs/1", 1)
        until(lambda: "the others are s2" in node.why("s1", "jobs/1")["sentence"], "both are there")
        told = node.why("s1", "jobs/1")
        assert not told["wrong"] and "the others are s2" in told["sentence"], told


# Bridges

BRIDGE = """
[[bridges]]
name = "{name}"
url = "mqtt://127.0.0.1:{port}"
client_id = "same"
topics = ["up/{name}/# out 1"]
"""


def test_two_bridges_have_one_client_identifier(tmp_path):
    with Faults() as other:
        text = '[integrations]\nallow_private = ["127.0.0.0/8"]\n'
        text += "".join(BRIDGE.format(name=name, port=other.node.port()) for name in ("b1", "b2"))
        with configured(tmp_path, text) as node:
            told = node.headline("integration-failing", "another client connected to the other broker with the Client "
                                 "Identifier of this bridge, same", "bridge/b1")
            assert "a `client_id` of its own" in told["sentence"], told
            node.bash(told)
            other.headline("taken-over", "another client with the same Client Identifier took its connection over", "same")
        (tmp_path / "martlet.toml").write_text(text.replace('"same"', '"one"', 1))
        with Faults(arguments=("-c", str(tmp_path / "martlet.toml"))) as node:
            node.over("bridge/b1")
            node.over("bridge/b2")
