"""Names that are not there, put to `martlet why`: integrations by kind and name, rules of a configuration file that the
node was not started with, keys; and topics that a bridge brings under another name."""

import json

import pytest

import martlet_process
from paho_client import Client
from test_access import until
from test_http_registry import call
from test_registry import martlet
from test_why_faults_more import configured
from why_faults import TELEMETRY, Faults, printed_secret, published

SINK = """
[[sinks.file]]
name = "audit"
filters = ["plant/#"]
path = "audit.ndjson"
"""


@pytest.mark.parametrize("name", ["webhook/crm", "bridge/hq", "file/else", "nats/x", "email/ops"])
def test_an_integration_is_not_there(tmp_path, name):
    with Faults() as node:
        told = node.headline("nobody-known", f"this node has no integration {name}, and no other one; it was started without "
                             "a configuration file", name)
        assert told["state"] == "no-client" and "-c FILE" in told["remedy"] and "user add" not in json.dumps(told), told
        node.bash(told)
        assert "perhaps" not in json.dumps(told), told


def test_an_integration_is_nearly_there(tmp_path):
    with configured(tmp_path, SINK) as node:
        told = node.headline("nobody-known", "this node has no integration file/audti; file/audit may be meant", "file/audti")
        assert "file/audit" in node.bash(told)
        told = node.headline("nobody-known", "this node has no integration webhook/crm; it has file/audit", "webhook/crm")
        node.bash(told)
        node.over("file/audit")


def test_an_integration_is_in_the_configuration_file_that_no_backup_has(tmp_path):
    backup, data = tmp_path / "node.tar", tmp_path / "data"
    with configured(tmp_path, SINK) as old:
        old.device("d1")
        old.run("backup", "create", str(backup))
    assert martlet_process.run("backup", "restore", str(backup), "--data-dir", str(data)).returncode == 0
    with Faults(path=data) as node:
        told = node.headline("nobody-known", "it was restored from a backup, which does not contain the configuration file, and was "
                             "started without one", "file/audit")
        assert "start the node with that file" in told["remedy"], told
        node.bash(told)
        told = node.headline("nobody-known", "after that backup", "hot")
        assert "if it is a rule of a configuration file, start the node with that file" in told["remedy"], told
        node.bash(told)


# Provisioning keys


def test_a_provisioning_key_is_asked_about():
    faults = Faults()
    faults.options["http"] = True
    faults.device("any")
    with faults.start() as node:
        shown = printed_secret(node.run("provision", "add", "line-1", "--id-pattern", "m-*", "--devices", "3"))
        told = node.why("line-1")
        assert told["cause"] == "nothing-wrong" and told["state"] == "no-client", told
        assert "line-1 is a provisioning key" in told["sentence"] and "it has added 0 devices of 3" in told["sentence"], told
        call(node.node, "POST", "/api/v1/provision", {"key": shown, "id": "n-2"}, key=None, expect=422)
        told = node.headline("not-permitted", "with it, the device n-2 was rejected last", "line-1")
        assert "m-*" in told["sentence"] and "device add" not in json.dumps(told), told
        assert "from 127.0.0.1: " in told["sentence"], told
        if "command" in told:
            node.bash(told)
        about_device = json.dumps(node.why("n-2"))
        assert "127.0.0.1" in about_device and "127.0.0.1:0" not in about_device, about_device


# Bridges

BRIDGE = """
[integrations]
allow_private = ["127.0.0.0/8"]
[[bridges]]
name = "hq"
url = "mqtt://127.0.0.1:{port}"
topics = [{{ filter = "cmd/#", direction = "in", remote_prefix = "site/1/" }}]
"""


def test_a_key_or_a_rule_has_nearly_that_name(tmp_path):
    rule = tmp_path / "rule.json"
    rule.write_text(json.dumps({"topics": ["tank/#"], "actions": [{"publish": {"topic": "alarms/tank"}}]}))
    with Faults() as node:
        node.run("provision", "add", "line-one")
        node.run("key", "add", "--scope", "viewer", "reporting")
        node.run("rule", "add", "hot-tank", str(rule))
        for asked, meant in (("line-oen", "the provisioning key line-one"), ("reprting", "the API key reporting"),
                             ("hot-tnak", "the rule hot-tank")):
            told = node.headline("nobody-known", asked, asked)
            assert f"did you mean {meant}?" in told["remedy"], told


def test_a_bridge_brings_a_topic_under_another_name(tmp_path):
    with Faults() as other:
        with configured(tmp_path, BRIDGE.format(port=other.node.port())) as node:
            node.user("boss", "--role", "administrator")
            with node.client("boss", client_id="valvectl") as client, Client(other.node, "h1") as hub:
                client.subscribe("cmd/pump", 1)
                until(lambda: node.why("bridge/hq")["cause"] == "nothing-wrong", "it is attached")
                brings = "brings cmd/pump from the topic site/1/cmd/pump of the other broker; 0 messages have been received through it"
                for asked in (["valvectl", "cmd/pump"], ["bridge/hq", "cmd/pump"]):
                    told = node.why(*asked)
                    assert not told["wrong"] and f"bridge/hq {brings}" in told["sentence"], told
                    assert "direction =" not in json.dumps(told), told
                told = node.why("bridge/hq", "site/1/cmd/pump")
                assert not told["wrong"] and "brings site/1/cmd/pump of the other broker as cmd/pump; 0 messages" in \
                    told["sentence"], told
                hub.publish("cmd/pump", "on")
                hub.publish("site/1/cmd/pump", "on")
                assert client.receive_payload() == "on"
                until(lambda: "1 message has been received" in node.why("bridge/hq", "cmd/pump")["sentence"], "it is counted")
                assert "bridge/hq" not in node.why("valvectl", "cmd/pump")["sentence"]


DENYING = """
[integrations]
allow_private = ["127.0.0.0/8"]
[[bridges]]
name = "hq"
url = "mqtt://127.0.0.1:{port}"
protocol = "5.0"
user = "hub"
password = "${{secret:hub}}"
notifications = false
topics = ["up/# out 1"]
"""


def test_the_other_broker_does_not_permit_what_a_bridge_publishes(tmp_path):
    with Faults() as other:
        other.run("role", "add", "reader", "--rule", "topic read #")
        other.user("hub", "--role", "reader")
        with configured(tmp_path, DENYING.format(port=other.node.port())) as node:
            node.user("boss", "--role", "administrator")
            node.run("secret", "set", "hub", given="secret\n")
            until(lambda: not node.why("bridge/hq")["wrong"], "it is connected")
            with node.client("boss") as boss:
                boss.publish("up/1", "x")
            told = node.headline("integration-failing", "refused 1 message: it is a dead letter; its reason: the other broker "
                                 "answers Not authorized", "bridge/hq")
            assert "up/1" in node.bash(told)


# Telemetry

def test_telemetry_is_of_nearly_this_device(tmp_path):
    with configured(tmp_path, TELEMETRY) as node:
        node.user("boss", "--role", "administrator")
        secret = node.device("pump-3")
        assert node.comes("pump-3", secret)
        with node.client("boss") as gateway:
            gateway.publish("d/pump_3/telemetry", '{"t": 1}')

            def hints(*asked):
                told = node.why(*asked)
                return [one for one in [told, *told["also"]] if "pump-3 may be meant by pump_3" in one["sentence"]]

            for asked in (["pump-3"], ["pump-3", "d/pump-3/telemetry"]):
                until(lambda: hints(*asked), "the hint is there")
                assert hints(*asked)[0]["is_guess"] and "d/pump_3/telemetry" in hints(*asked)[0]["sentence"]
            node.device("pump-4")
            assert not hints("pump-4")
            gateway.publish("d/pump-3/telemetry", '{"t": 1}')


def test_values_were_numbers_and_are_texts(tmp_path):
    with configured(tmp_path, TELEMETRY) as node:
        secret = node.device("v1")
        with node.client("v1", secret) as device:
            for values in ('{"t": 20, "mode": "eco"}', '{"t": "21.5", "mode": "off"}', '{"t": "error"}'):
                device.publish("d/v1/telemetry", values)
            told = node.headline("value-type-changed", 'and is a text now: "error"', "v1")
            assert told["sentence"].startswith("t was a number until "), told
            assert "publish t as a number" in told["remedy"] and "mode" not in json.dumps(told), told
            device.publish("d/v1/telemetry", '{"t": 22}')
            node.over("v1")


# ACL files


def test_the_acl_file_has_rules_for_the_name_in_other_letters(tmp_path):
    passwords, acl = tmp_path / "passwords", tmp_path / "acl"
    martlet("passwd", "-c", "-b", passwords, "bob", "right-one-for-bob")
    acl.write_text("user Bob\ntopic readwrite plant/#\n")
    with Faults(settings=[f"auth.password_file={passwords}", f"auth.acl_file={acl}"]) as node:
        with node.client("bob", "right-one-for-bob") as bob:
            assert not published(bob, "plant/1")
            told = node.headline("not-permitted", "no rule permits it", "bob")
            assert "has rules for the user Bob and none for bob: upper and lower case differ" in told["remedy"], told


# Sessions


def test_a_forgotten_member_of_a_share_group_is_named(tmp_path):
    with Faults() as node:
        with Client(node.node, "worker-1") as first, Client(node.node, "worker-2") as second, \
                Client(node.node, "laptop-of-tim") as other:
            for member in (first, second, other):
                member.subscribe("$share/crew/jobs/1", 1)
            until(lambda: "laptop-of-tim" in json.dumps(node.why("worker-1", "jobs/1")), "all are there")
            told = node.why("worker-1", "jobs/1")
            assert not told["wrong"], told
            [odd] = [one for one in told["also"] if "laptop-of-tim is also a member of the share group" in one["sentence"]]
            assert "end its session" in odd["remedy"], odd
            node.carry_out(odd)
            until(lambda: "laptop-of-tim" not in json.dumps(node.why("worker-1", "jobs/1")), "it is no member any more")


def test_messages_that_wait_for_an_acknowledgement_are_counted_at_once(tmp_path):
    with Faults() as node:
        slow = Client(node.node, "slow").manual_acknowledgements()
        with slow, Client(node.node, "fast") as fast:
            slow.subscribe("t", 1)
            for number in range(3):
                fast.publish("t", str(number))
            said = "3 messages that were sent to it wait for its acknowledgement"
            until(lambda: said in json.dumps(node.why("slow")), "they are counted")
            assert not node.why("slow")["wrong"]


# Rules

RULES = """
[[rules]]
name = "level"
topics = ["tank/+/level"]
when = "payload > 80"
actions = [{ publish = { topic = "alerts/x", payload = "high" } }]
[[rules]]
name = "temp"
topics = ["tank/+/temp"]
when = "payload.temp > 80"
actions = [{ publish = { topic = "alerts/y", payload = "high" } }]
"""


def test_the_value_of_another_type_is_named(tmp_path):
    with configured(tmp_path, RULES) as node, Client(node.node, "gauge") as gauge:
        gauge.publish("tank/7/level", "12 cm")
        told = node.headline("rule-failing", "tank/7/level: a value has another type than the expression expects: payload is "
                             'the text "12 cm", and is compared with a number', "level")
        assert told["last"], told
        node.bash(told)
        gauge.publish("tank/8/level", "90")
        assert node.why("level")["cause"] == "rule-failing"
        gauge.publish("tank/7/level", "12")
        node.over("level")
        [before] = [one for one in node.why("level")["also"] if one["cause"] == "rule-failing"]
        assert "a later message of that topic did not fail" in before["sentence"] and before["last"], before


def test_the_member_that_is_missing_is_named(tmp_path):
    with configured(tmp_path, RULES) as node, Client(node.node, "gauge") as gauge:
        gauge.publish("tank/7/temp", '{"Temp": 90}')
        told = node.headline("rule-unmatched", "in it the field temp, which it names, is missing, last on tank/7/temp; "
                             "the payload has Temp", "temp")
        node.bash(told)
