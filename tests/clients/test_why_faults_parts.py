"""Faults of the parts of a node that are put to `martlet why`: rollouts, rules about messages,
provisioning keys, integrations, groups, listeners and the store. The headline is the fault, and the
command that is printed, or the advice, ends it."""

import json
import re
import socket
import ssl
import subprocess

import pytest

import nats_process
from paho_client import Client
from programs import need
from server_process import free_port
from test_access import publish, until
from test_http_api import KEYS
from test_http_registry import call
from test_registry import martlet
from test_tls import Authority
from why_faults import KEPT, Faults, published

HERE = "127.0.0.1"


def configured(path, text, **options):
    """A node with this configuration."""
    (path / "martlet.toml").write_text(text)
    return Faults(arguments=("-c", str(path / "martlet.toml")), **options)


def of_integration(kind, name, **keys):
    lines = [f"{key} = {json.dumps(value)}" for key, value in {"name": name, **keys}.items()]
    return "\n".join([f"[[sinks.{kind}]]", *lines, ""])


# Rollouts


@pytest.fixture(scope="module")
def firmware(tmp_path_factory):
    """A node with firmware, and a function that starts a rollout for the devices with a tag."""
    faults = Faults()
    image = tmp_path_factory.mktemp("firmware") / "pump.bin"
    image.write_text("firmware")
    with faults.start():
        faults.run("firmware", "add", "pump", "2.0", str(image))

        def start(tag, *options):
            started = faults.run("rollout", "start", "pump", "2.0", "--tag", tag, *options, "--json")
            return json.loads(started)["id"]

        faults.rollout = start
        yield faults


def test_a_rollout_is_paused(firmware):
    secret = firmware.device("f1", "--tag", "one")
    with firmware.client("f1", secret) as device:
        device.subscribe("d/f1/commands/firmware", 1)
        rollout = firmware.rollout("one", "--plan")
        firmware.run("rollout", "resume", rollout)
        firmware.run("rollout", "pause", rollout)
        state = json.loads(firmware.run("rollout", "show", rollout, "--json"))["state"]
        assert state == "paused"
        told = firmware.headline("rollout-paused", "is paused: an operator paused it", rollout)
        assert told["state"] == "no-client" and f"the rollout {rollout} of pump 2.0" in told["sentence"]
        firmware.carry_out(told)
        firmware.over(rollout)


def test_a_paused_rollout_has_not_come_to_a_device(firmware):
    secrets = [firmware.device(name, "--tag", "two") for name in ("f2", "f3")]
    rollout = firmware.rollout("two", "--waves", "1,2", "--min-wait", "3600")

    def waiting():
        states = json.loads(firmware.run("rollout", "devices", rollout, "--json"))["items"]
        return [one["device"] for one in states if one["state"] == "waiting"]

    until(lambda: len(waiting()) == 1, "one of both was offered the firmware")
    firmware.run("rollout", "pause", rollout)
    with firmware.client("f2", secrets[0]), firmware.client("f3", secrets[1]):
        [waits] = waiting()
        told = firmware.headline("rollout-paused", f"the rollout {rollout} of pump 2.0 is paused", waits)
        firmware.bash(told)
        assert json.loads(firmware.run("rollout", "show", rollout, "--json"))["state"] == "running"
        firmware.over(waits)
        also = lambda: [one["sentence"] for one in firmware.why(waits)["also"] if one["cause"] == "rollout-waits"]
        until(lambda: len(also()) == 1 and "waits for the gate of wave 1" in also()[0], "it waits for its wave")


def test_a_rollout_waits_for_a_device_that_is_not_subscribed(firmware):
    secret = firmware.device("f4", "--tag", "three")
    with firmware.client("f4", secret) as device:
        rollout = firmware.rollout("three")
        told = firmware.headline("rollout-waits", "is not subscribed to d/f4/commands/firmware", "f4")
        assert "f4" in firmware.bash(told) and f"rollout {rollout} of pump 2.0" in told["sentence"]
        device.subscribe("d/f4/commands/firmware", 1)
        assert device.receive()
        firmware.over("f4")
    until(lambda: firmware.why("f4")["state"] == "away", "it is gone")
    told = firmware.why("f4")
    assert told["cause"] == "away" and any("rollout" in one["sentence"] for one in told["also"]), told


def test_a_device_has_failed_in_a_rollout(firmware):
    secret = firmware.device("f5", "--tag", "four")
    with firmware.client("f5", secret) as device:
        device.subscribe("d/f5/commands/firmware", 1)
        rollout = firmware.rollout("four", "--max-failed", "100")
        command = json.loads(device.receive().payload)["id"]
        answer = {"command_id": command, "status": "failed", "result": "no room"}
        device.publish("d/f5/status/command", json.dumps(answer))
        told = firmware.headline("rollout-failed", "", rollout)
        assert "f5" in firmware.bash(told)


# Rules about messages

RULES = """
[telemetry]
enabled = true
[[telemetry.rules]]
topic = "d/{device}/telemetry"
[[rules]]
name = "hot"
topics = ["plant/+/temperature"]
when = "payload > 80"
actions = [{ publish = { topic = "alerts/{{ levels[1] }}" } }]
[[rules]]
name = "fixed-off"
topics = ["plant/#"]
enabled = false
actions = [{ publish = { topic = "never" } }]
[[rules]]
name = "broken"
topics = ["math"]
when = "payload.a / payload.b > 1"
actions = [{ publish = { topic = "never" } }]
"""


@pytest.fixture(scope="module")
def rules(tmp_path_factory):
    with configured(tmp_path_factory.mktemp("rules"), RULES).start() as faults:
        yield faults


def test_a_rule_is_off(rules, tmp_path):
    rule = tmp_path / "copy.json"
    rule.write_text(json.dumps({"topics": ["a/#"], "actions": [{"publish": {"topic": "b"}}]}))
    rules.run("rule", "add", "copy", str(rule))
    rules.run("rule", "off", "copy")
    told = rules.headline("rule-off", "the rule copy is off", "copy")
    assert told["state"] == "no-client", told
    rules.bash(told)
    assert "copy" in rules.bash(rules.headline("rule-unmatched", "has looked at no message since the node was started", "copy"))
    with Client(rules.node, "p") as client:
        assert published(client, "a/1")
    rules.over("copy")
    told = rules.headline("rule-off", "the rule fixed-off is off", "fixed-off")
    assert "configuration" in told["remedy"] and "fixed-off" in rules.bash(told)


def test_a_rule_matches_nothing(rules):
    told = rules.headline("rule-unmatched", "plant/+/temperature", "hot")
    with Client(rules.node, "p") as client:
        client.publish("plant/7/temprature", "90")
        told = rules.headline("rule-unmatched", 'level 3 is "temperature" in the filter and "temprature" in the topic', "hot")
        told = rules.headline("rule-unmatched", "does not look at messages of plant/7/temprature", "hot", "plant/7/temprature")
        assert "hot" in rules.bash(told)
        client.publish("plant/7/temperature", "20")
        told = rules.headline("rule-unmatched", "has looked at 1 message since the node was started, and its condition was true for none", "hot")
        assert "payload > 80" in rules.bash(told)
        client.publish("plant/7/temperature", "90")
        rules.over("hot")


def test_a_rule_fails(rules):
    with Client(rules.node, "p") as client:
        client.publish("math", '{"a": 1, "b": 0}')
    told = rules.headline("rule-failing", "the rule broken has failed once: ", "broken")
    assert "payload.b" in rules.bash(told)


def test_telemetry_is_stored_again(rules):
    secret = rules.device("t1")
    with rules.client("t1", secret) as device:
        device.publish("d/t1/telemetry", "no JSON")
        rules.headline("telemetry-not-stored", "not stored as telemetry", "t1")
        device.publish("d/t1/telemetry", '{"t": 21.5}')
        rules.over("t1")
        [before] = [one for one in rules.why("t1")["also"] if one["cause"] == "telemetry-not-stored"]
        assert "a later one of that topic is stored" in before["sentence"]
        device.publish("d/t1/telemetry", "no JSON")
        rules.headline("telemetry-not-stored", "2 payloads were not stored", "t1")


# Provisioning keys


@pytest.fixture(scope="module")
def provisioning():
    faults = Faults()
    faults.options["http"] = True
    with faults.start():
        faults.device("any")
        yield faults


def key(text):
    return re.search(r"shown this once: (\S+)", text).group(1)


def provision(faults, shown, name, expect=201):
    body = {"key": shown, **({"id": name} if name else {})}
    return call(faults.node, "POST", "/api/v1/provision", body, key=None, expect=expect)


def test_a_provisioning_key_is_used_up(provisioning):
    shown = key(provisioning.run("provision", "add", "line", "--devices", "1", "--id-pattern", "m-*"))
    provision(provisioning, shown, "m-1")
    provision(provisioning, shown, "m-2", expect=409)
    told = provisioning.headline("provisioning-key-ended", "has added as many devices as it may: 1 (the key line)", "m-2")
    assert told["state"] == "refused" and "--id-pattern=" in told["command"], told
    made = provision(provisioning, key(provisioning.bash(told)), "m-2")
    told = provisioning.headline("never-connected", "the device m-2 exists", "m-2")
    assert any(one["cause"] == "provisioning-key-ended" and "that is over" in one["sentence"] for one in told["also"])
    assert provisioning.comes("m-2", made["secret"])
    provisioning.over("m-2")


def test_a_provisioning_key_was_revoked(provisioning):
    provisioning.run("provision", "add", "old")
    shown = key(provisioning.run("provision", "add", "gone"))
    listed = json.loads(provisioning.run("provision", "ls", "--json"))["items"]
    [number] = [one["id"] for one in listed if one["name"] == "gone"]
    provisioning.run("provision", "rm", number)
    provision(provisioning, shown, "m-3", expect=422)
    told = provisioning.headline("provisioning-key-ended", "the provisioning key was revoked", "m-3")
    provision(provisioning, key(provisioning.bash(told)), "m-3")


def test_a_device_has_no_provisioning_key(provisioning):
    provision(provisioning, "mp_unknown", "m-4", expect=401)
    told = provisioning.headline("provisioning-key-wrong", "there is no such provisioning key", "m-4")
    provisioning.run("provision", "add", "another")
    assert "another" in provisioning.bash(told)
    logged = provisioning.run("logs", "--json")
    assert "provisioning refused" in logged and "mp_unknown" not in logged


def test_an_id_is_taken_already(provisioning):
    shown = key(provisioning.run("provision", "add", "twice"))
    secret = provision(provisioning, shown, "m-5")["secret"]
    provision(provisioning, shown, "m-5", expect=409)
    told = provisioning.headline("not-permitted", "it was not added by a provisioning key", "m-5")
    assert "martlet device rotate" in told["remedy"]
    assert provisioning.comes("m-5", secret)
    provisioning.over("m-5")


# Integrations


def test_no_filter_of_an_integration_takes_the_topic(tmp_path):
    sink = of_integration("file", "audit", filters=["plant/+/state"], path=str(tmp_path / "messages.json"))
    with configured(tmp_path, sink).start() as node:
        node.over("file/audit")
        with Client(node.node, "p") as client:
            client.publish("plant/1/status", "x")
        said = "the integration file/audit does not forward messages of plant/1/status: its filter is plant/+/state; "
        told = node.headline("not-subscribed", said, "file/audit", "plant/1/status")
        assert 'level 3 is "state" in the filter and "status" in the topic' in told["sentence"]
        assert "plant/+/state" in node.bash(told)
        node.over("file/audit", "plant/1/state")
        # Of who publishes it is told beside that nobody is subscribed.
        also = node.why("p", "plant/1/status")["also"]
        assert any(said in one["sentence"] for one in also), also


def test_no_stream_of_nats_takes_what_a_sink_publishes(tmp_path):
    server = nats_process.Server()
    try:
        keys = {"filters": ["plant/#"], "url": server.url, "create_stream": False}
        config = f'[integrations]\nallow_private = ["127.0.0.0/8"]\n{of_integration("nats", "raw", **keys)}'
        with configured(tmp_path, config).start() as node:
            with Client(node.node, "p") as client:
                client.publish("plant/1", "x")
            told = node.headline("integration-failing", "no stream contains the subject", "nats/raw")
            failed = node.run("integration", "test", "nats/raw", code=1)
            assert "no stream contains the subject \"raw.>\"" in failed, failed
            nats_process.Client(server).add_stream("RAW", "raw.>")
            assert "can reach its target" in node.bash(told)
            node.over("nats/raw")
    finally:
        server.close()


# Groups, teams, listeners and bans


def test_a_device_has_left_the_group_that_had_the_rule():
    faults = Faults(variables=KEYS)
    faults.options["http"] = True
    faults.run("device", "type", "add", "bare", "--rule", "pattern write d/%c/#")
    faults.run("group", "create", "hall")
    secret = faults.device("g1", "--type", "bare", "--group", "hall")
    with faults.start() as node:
        call(node.node, "PUT", "/api/v1/groups/hall/rules", {"rules": ["topic write hall/#"]})
        with node.client("g1", secret) as device:
            assert published(device, "hall/1")
            node.run("group", "remove", "hall", "g1")
            until(lambda: not published(device, "hall/1"), "it may not publish any more")
            for asked in (["g1"], ["g1", "hall/1"]):
                told = node.headline("not-permitted", "it left the group hall, whose rules permit that, on ", *asked)
            node.carry_out(told)
            until(lambda: published(device, "hall/1"), "it may publish again")
            node.over("g1")


def test_a_device_was_moved_to_a_team_with_a_tenant():
    faults = Faults()
    faults.run("team", "add", "north", "--own-tenant")
    secret = faults.device("m1")
    with faults.start() as node:
        with node.client("m1", secret) as device:
            node.run("device", "set", "m1", "--to-team", "north")
            device.wait_for_end()
        told = node.headline("unknown-name", "belongs to another tenant, where its User Name is m1@north", "m1")
        assert "set the User Name of the client to m1@north" in told["remedy"]
        assert node.comes("m1@north", secret, "m1")
        node.over("m1@north")


def test_a_listener_has_an_acl_file_of_its_own(tmp_path):
    passwords, acl = tmp_path / "passwords", tmp_path / "listener.acl"
    acl.write_text("user ann\ntopic write a/#\n")
    config = f'[[listeners]]\nurl = "mqtt://127.0.0.1:0"\npassword_file = "{passwords}"\nacl_file = "{acl}"\n'
    passwords.write_text("")
    martlet("user", "add", "ann", "--file", passwords, "--weak", given="secret\n")
    with configured(tmp_path, config, listen=()).start() as node:
        with node.client("ann") as client:
            assert not published(client, "b/1")
            for asked in (["ann"], ["ann", "b/1"]):
                told = node.headline("not-permitted", "b/1", *asked)
                assert f"permit it in the ACL file {acl} (acl_file of the listener mqtt://127.0.0.1:" in told["remedy"], told


def test_an_address_is_banned_and_asked_about():
    faults = Faults()
    faults.device("any")
    with faults.start() as node:
        node.run("ban", "add", "address", "127.0.0.0/8", "--why", "noise")
        assert publish(node.node, "x", "-i", "stranger")[0] != 0
        told = node.headline("banned", "127.0.0.0/8 is banned: noise", HERE)
        assert "martlet ban rm " in told["command"]
        node.bash(told)
        answer = node.why(HERE)
        assert not answer["wrong"] and "that is over" in answer["sentence"], answer
        # Nobody has connected from an address of this network.
        node.run("ban", "add", "address", "192.0.2.0/24")
        told = node.headline("banned", "192.0.2.0/24 is banned", "192.0.2.7")
        assert "martlet ban rm " in told["command"]
        assert node.why("198.51.100.7")["cause"] != "banned"
        node.bash(told)


def test_a_device_uses_a_version_of_tls_that_is_too_old(tmp_path):
    authority = Authority(tmp_path / "ca")
    certificate, private = authority.sign("server")
    settings = [f"tls.certificate={certificate}", f"tls.key={private}", "tls.version=1.3"]
    faults = Faults(settings=settings, listen=("mqtts://127.0.0.1:0",))
    secret = faults.device("v1")

    def comes():
        done = subprocess.run(
            [need("mosquitto_pub", "mosquitto-clients"), "-h", "localhost", "-p", str(faults.node.port("mqtts")), "-i", "v1",
             "-u", "v1", "-P", secret, "-t", "d/v1/x", "-m", "x", "-q", "1", "--cafile", authority.certificate],
            capture_output=True, timeout=60)
        return done.returncode == 0

    with faults.start() as node:
        assert comes()
        old = ssl.create_default_context(cafile=authority.certificate)
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        with socket.create_connection((HERE, node.node.port("mqtts")), timeout=60) as wire, pytest.raises(OSError):
            old.wrap_socket(wire, server_hostname="localhost")
        told = node.headline("away", "perhaps it is the client without a name at 127.0.0.1 that was refused", "v1")
        assert "no TLS version in common" in told["sentence"] and "TLS" in told["remedy"], told
        assert comes()
        until(lambda: not node.why("v1")["wrong"], "it has come since, and has gone by itself")


# The store


def test_a_node_that_keeps_messages_in_memory_was_started():
    # It listens on the same port again.
    faults = Faults(settings=["store.durability=memory"], listen=(f"mqtt://127.0.0.1:{free_port()}",))
    secret = faults.device("s1")
    with faults.start() as node:
        with node.client("s1", secret, **KEPT) as device:
            device.subscribe("d/s1/set", 1)
            node.over("s1")
        node.restart("store.durability=memory")
        said = "keeps messages in memory only"
        told = node.headline("kept-in-memory", said, "s1")
        assert "the node was started on " in told["sentence"] and "store.durability" in told["remedy"]
