"""Faults of commands to devices that are put to `martlet why`: the headline is the fault, and the
command that is printed, or the advice, ends it."""

import contextlib
import json
import sqlite3

import pytest

from test_access import until
from why_faults import KEPT, Faults


@pytest.fixture(scope="module")
def node():
    with Faults().start() as faults:

        def send(device, *options):
            sent = faults.run("command", "send", "open", "--device", device, *options, "--json")
            return json.loads(sent)["id"]

        faults.send = send
        yield faults


def answer(device, name, body):
    device.publish(f"d/{name}/status/command", json.dumps(body))


def state(node, name, command):
    return json.loads(node.run("command", "show", command, "--device", name, "--json"))["state"]


def test_a_device_could_not_carry_a_command_out(node):
    secret = node.device("c1")
    with node.client("c1", secret) as device:
        device.subscribe("d/c1/commands/+", 1)
        command = node.send("c1")
        assert json.loads(device.receive().payload)["id"] == command
        answer(device, "c1", {"command_id": command, "status": "failed", "result": "Valve stuck"})
        told = node.headline("command-failed", f"the command open ({command}) to c1 failed: the device reported a failure", "c1")
        assert told["sentence"].endswith("with the result: Valve stuck") and told["state"] == "connected"
        by_id = node.headline("command-failed", "with the result: Valve stuck", command)
        assert by_id["state"] == "no-client" and by_id["command"] == told["command"]
        node.bash(told)
        assert json.loads(device.receive().payload)["id"] == command
        answer(device, "c1", {"command_id": command, "status": "succeeded"})
        node.over("c1")
        node.over(command)
    # It has gone by itself, and its last command has succeeded.
    assert not any("command" in one["cause"] for one in node.why("c1")["also"])


def test_a_command_is_carried_out_late(node):
    secret = node.device("late")
    with node.client("late", secret, **KEPT) as device:
        device.subscribe("d/late/commands/+", 1)
    until(lambda: node.why("late")["state"] == "away", "it is gone")
    command = node.send("late")
    # It was away for an hour.
    with contextlib.closing(sqlite3.connect(node.place.path / "martlet.db", timeout=30)) as tables, tables:
        changed = tables.execute("UPDATE commands SET created_ms = created_ms - 3600000 WHERE id = ?", (command,))
        assert changed.rowcount == 1

    def late():
        return [one for one in node.why("late")["also"] if "waited in the queue for 60 min" in one["sentence"]]

    with node.client("late", secret, **KEPT) as device:
        assert json.loads(device.receive().payload)["id"] == command
        answer(device, "late", {"command_id": command, "status": "succeeded"})
        until(late, "it is told")
        [told] = late()
        assert told["sentence"].startswith(f"the command open ({command}) to late waited"), told
        assert "--expires=SECONDS" in told["remedy"], told
        assert not node.why("late")["wrong"] and "waited in the queue" in node.why(command)["sentence"]
        command = node.send("late", "--expires=60")
        assert device.receive()
        answer(device, "late", {"command_id": command, "status": "succeeded"})
        until(lambda: not late(), "the latest one was in time")


@pytest.mark.parametrize(("body", "said"), [
    ({"status": "done"}, "status must be acknowledged, progress, succeeded or failed"),
    ("opened", "the answer is for no command: the payload is not JSON"),
    ({"status": "succeeded"}, "the answer is for no command: command_id and Correlation Data are missing"),
    ({"command_id": "another", "status": "succeeded"}, 'its command_id is "another"'),
])
def test_an_answer_is_not_understood(node, body, said):
    name = f"c2-{len(said)}"
    secret = node.device(name)
    with node.client(name, secret) as device:
        device.subscribe(f"d/{name}/commands/+", 1)
        command = node.send(name)
        assert device.receive()
        until(lambda: state(node, name, command) == "delivered", "delivered")
        if body == "opened":
            device.publish(f"d/{name}/status/command", body)
        elif "command_id" in body:
            answer(device, name, body)
        else:
            answer(device, name, {"command_id": command, **body} if body["status"] == "done" else body)
        told = node.headline("command-failed", said, name)
        assert f"on d/{name}/status/command" in told["remedy"] and f'"command_id": "{command}"' in told["remedy"]
        assert command in node.bash(told)
        node.headline("command-failed", said, command)
        answer(device, name, {"command_id": command, "status": "succeeded"})
        node.over(name)


def test_a_command_waits_for_a_device_that_is_not_subscribed(node):
    secret = node.device("c3")
    with node.client("c3", secret) as device:
        device.subscribe("d/c3/command/+", 1)
        command = node.send("c3")
        told = node.headline("command-waits", "is connected and not subscribed to d/c3/commands/control", "c3")
        assert "d/c3/command/+ does not match" in told["sentence"], told
        assert told["remedy"].startswith("have the device subscribe to d/c3/commands/control with QoS 1")
        assert command in node.bash(told)
        node.headline("command-waits", "not subscribed to d/c3/commands/control", command)
        device.subscribe("d/c3/commands/+", 1)
        answer(device, "c3", {"command_id": json.loads(device.receive().payload)["id"], "status": "succeeded"})
        node.over("c3")


def test_a_command_waits_for_a_device_that_is_subscribed_with_qos_0(node):
    secret = node.device("c4")
    with node.client("c4", secret) as device:
        device.subscribe("d/c4/commands/+", 0)
        command = node.send("c4")
        told = node.headline("command-waits", "subscribed to d/c4/commands/control with QoS 0", "c4")
        assert command in node.bash(told)
        answer(device, "c4", {"command_id": command, "status": "succeeded"})
        node.over("c4")


def test_a_command_waits_for_a_device_that_is_away(node):
    secret = node.device("c5")
    command = node.send("c5")
    told = node.headline("never-connected", "has neither connected nor tried to", "c5")
    [also] = [one for one in told["also"] if one["cause"] == "command-waits"]
    assert command in also["sentence"], also
    told = node.headline("command-waits", f"the command open ({command}) to c5 waits", command)
    assert "is connected" in told["sentence"] and "martlet why " in told["remedy"]
    assert command in node.bash(told)
    with node.client("c5", secret, **KEPT) as device:
        device.subscribe("d/c5/commands/+", 1)
        answer(device, "c5", {"command_id": json.loads(device.receive().payload)["id"], "status": "succeeded"})
        node.over("c5")
    until(lambda: node.why("c5")["state"] == "away", "it is gone")
    command = node.send("c5")
    assert command in node.bash(node.headline("command-waits", "the device has not been connected since", command))
    assert any(command in one["sentence"] for one in node.why("c5")["also"])
    node.run("command", "cancel", command, "--device", "c5")
    node.headline("command-failed", "was cancelled", command)
    assert not any(command in one["sentence"] for one in node.why("c5")["also"])


def test_a_command_has_expired(node):
    secret = node.device("c6")
    command = node.send("c6", "--expires", "1")
    until(lambda: state(node, "c6", command) == "expired", "expired")
    told = node.headline("command-failed", "it was never sent, because the device was not connected", "c6")
    assert f"the command open ({command}) to c6 expired on" in told["sentence"]
    node.headline("command-failed", "it was never sent", command)
    with node.client("c6", secret) as device:
        node.headline("command-failed", "was not subscribed to d/c6/commands/control", "c6")
        device.subscribe("d/c6/commands/+", 1)
        node.bash(told)
        assert json.loads(device.receive().payload)["id"] == command
        answer(device, "c6", {"command_id": command, "status": "succeeded"})
        node.over("c6")


def test_a_rule_forbids_what_a_command_needs(node):
    """The rule is the cause, and the command is told beside it."""
    node.run("device", "type", "add", "deaf", "--rule", "topic write d/c7/#", "--rule", "topic deny d/c7/commands/#")
    secret = node.device("c7", "--type", "deaf")
    with node.client("c7", secret) as device:
        device.subscribe("d/c7/commands/+", 1)
        command = node.send("c7")
        told = node.headline("not-permitted", "d/c7/commands", "c7")
        assert any(command in one["sentence"] for one in told["also"]), told
        node.bash(told)
        device.subscribe("d/c7/commands/+", 1)
        assert json.loads(device.receive().payload)["id"] == command
        answer(device, "c7", {"command_id": command, "status": "succeeded"})
        node.over("c7")


def test_a_command_to_several_devices(node):
    secrets = [node.device(name, "--tag", "several") for name in ("c8", "c9")]
    sent = node.run("command", "send", "open", "--tag", "several", "--json")
    command = json.loads(sent)["id"]
    told = node.headline("command-waits", f"the command open ({command}) was sent to 2 devices: 2 pending", command)
    assert "c8" in node.bash(told)
    for name, secret in zip(("c8", "c9"), secrets, strict=True):
        with node.client(name, secret) as device:
            device.subscribe(f"d/{name}/commands/+", 1)
            assert device.receive()
            answer(device, name, {"command_id": command, "status": "succeeded"})
    node.over(command)


# Configuration push


def test_a_device_has_not_reported_its_configuration(node):
    secret = node.device("t1")
    node.run("device", "twin", "t1", "--set", '{"interval": 30}')
    with node.client("t1", secret) as device:
        device.subscribe("d/t1/configuration", 1)
        told = node.headline("configuration-not-reported", "it is not subscribed to d/t1/config", "t1")
        assert "(version 1: interval)" in told["sentence"] and "interval" in node.bash(told)
        device.subscribe("d/t1/config", 1)
        assert json.loads(device.receive().payload)["desired"] == {"interval": 30}
        # It is given some time.
        until(lambda: any("has reported nothing since" in one["sentence"] for one in node.why("t1")["also"]), "told")
        device.publish("d/t1/twin/reported", '{"interval": 60}')
        node.headline("configuration-not-reported", "has other values", "t1")
        device.publish("d/t1/twin/reported", '{"interval": 30}')
        node.over("t1")


def test_a_report_of_a_configuration_is_not_applied(node):
    secret = node.device("t2")
    with node.client("t2", secret) as device:
        device.publish("d/t2/twin/reported", "interval=30")
        told = node.headline("configuration-not-reported", "a report of its configuration was not applied", "t2")
        assert "a JSON object on d/t2/twin/reported" in told["remedy"]
        node.bash(told)
        device.publish("d/t2/twin/reported", '{"interval": 30}')
        node.over("t2")


# Rollouts


@pytest.fixture(scope="module")
def firmware(node, tmp_path_factory):
    """A function that starts a rollout for the devices with a tag."""
    image = tmp_path_factory.mktemp("firmware") / "pump.bin"
    image.write_text("firmware")
    node.run("firmware", "add", "pump", "2.0", str(image))

    def start(tag, *options):
        started = node.run("rollout", "start", "pump", "2.0", "--tag", tag, *options, "--json")
        return json.loads(started)["id"]

    return start


def test_a_rollout_was_aborted(node, firmware):
    secret = node.device("r1", "--tag", "aborted")
    rollout = firmware("aborted")
    node.run("rollout", "abort", rollout)
    told = node.headline("rollout-failed", f"the rollout {rollout} of pump 2.0 was aborted", rollout)
    assert "r1" in node.bash(told) and "begin another rollout" in told["remedy"]
    told = node.headline("rollout-failed", "has ended without the device: the rollout was aborted", "r1")
    assert "r1" in node.bash(told)
    with node.client("r1", secret) as device:
        device.subscribe("d/r1/commands/firmware", 1)
        node.headline("rollout-failed", "the rollout was aborted", "r1")
        firmware("aborted")
        command = json.loads(device.receive().payload)["id"]
        answer(device, "r1", {"command_id": command, "status": "succeeded"})
        node.over("r1")


def test_a_command_has_the_name_of_those_of_rollouts(node, firmware):
    secret = node.device("r13", "--tag", "named")
    rollout = firmware("named")
    with node.client("r13", secret) as device:
        device.subscribe("d/r13/commands/firmware", 1)
        of_rollout = json.loads(device.receive().payload)
        own = json.loads(node.run("command", "send", "update", "--device", "r13", "--json"))["id"]
        assert of_rollout["command"] == "update" and of_rollout["id"] != own
        told = node.headline("command-waits", f"the command update ({own}) to r13 waits: the device is connected and not "
                             "subscribed to d/r13/commands/control", "r13")
        node.bash(told)
        device.subscribe("d/r13/commands/control", 1)
        assert json.loads(device.receive().payload)["id"] == own
        answer(device, "r13", {"command_id": own, "status": "failed", "error": "no room"})
        told = node.headline("command-failed", f"the command update ({own}) to r13 failed", "r13")
        assert not any("failed" in one["sentence"] for one in told["also"]), told
        assert not node.why(rollout)["wrong"]
        answer(device, "r13", {"command_id": of_rollout["id"], "status": "succeeded"})
        node.bash(told)
        assert json.loads(device.receive().payload)["id"] == own
        answer(device, "r13", {"command_id": own, "status": "succeeded"})
        node.over("r13")


def test_a_rollout_has_failed_for_a_device_that_is_away(node, firmware):
    secret = node.device("r9", "--tag", "failed")
    with node.client("r9", secret) as device:
        device.subscribe("d/r9/commands/firmware", 1)
        rollout = firmware("failed")
        command = json.loads(device.receive().payload)["id"]
        answer(device, "r9", {"command_id": command, "status": "failed", "result": "checksum mismatch"})
        node.headline("rollout-failed", "checksum mismatch", "r9")
    until(lambda: node.why("r9")["state"] == "away", "it is away")
    told = node.headline("rollout-failed", f"the rollout {rollout} of pump 2.0 has failed for the device", "r9")
    assert "checksum mismatch" in told["sentence"] and "r9" in node.bash(told)
    assert any("it is not connected" in one["sentence"] for one in told["also"]), told


def test_a_rollout_skips_a_device_of_another_type(node, firmware):
    node.run("device", "type", "add", "meter", "--rule", "pattern readwrite d/%c/#")
    secret = node.device("r2", "--tag", "types", "--type", "meter")
    node.device("r3", "--tag", "types")
    rollout = firmware("types", "--plan")
    node.run("rollout", "resume", rollout)
    with node.client("r2", secret):
        told = node.headline("rollout-failed", 'the device is of the type "meter"', "r2")
        assert f"the rollout {rollout} of pump 2.0 has skipped the device" in told["sentence"]
        assert "r2" in node.bash(told)
        told = node.headline("rollout-failed", "has skipped devices", rollout)
        assert "r2: the device is of the type" in told["sentence"] and "r2" in node.bash(told)


def test_the_command_of_a_rollout_was_cancelled(node, firmware):
    secret = node.device("r4", "--tag", "cancelled")
    with node.client("r4", secret):
        rollout = firmware("cancelled")
        until(lambda: rollout in node.run("command", "ls", "--device", "r4", "--open", "--json"), "offered")
        node.run("command", "cancel", rollout, "--device", "r4")
        told = node.headline("rollout-failed", "the command of the device was cancelled", "r4")
        assert "r4" in node.bash(told)


def test_a_rollout_skips_a_device_that_was_disabled(node, firmware):
    node.device("r5", "--tag", "disabled")
    secret = node.device("r6", "--tag", "disabled")
    rollout = firmware("disabled")
    node.run("device", "set", "r6", "--status", "inactive")
    disabled = node.headline("disabled", "r6 is inactive", "r6")
    assert "r6" in node.bash(node.headline("rollout-failed", "such as r6: the device was disabled", rollout))
    node.bash(disabled)
    with node.client("r6", secret):
        told = node.headline("rollout-failed", "the device was disabled", "r6")
        assert "r6" in node.bash(told) and "activate the device" in told["remedy"]


def test_a_command_to_a_group_is_not_for_a_device_in_maintenance(node):
    secret = node.device("gm1")
    node.device("gm2")
    node.run("group", "add", "hall-m")
    node.run("group", "member", "add", "hall-m", "gm1", "gm2")
    node.run("device", "set", "gm1", "--status", "maintenance")
    sent = json.loads(node.run("command", "send", "flush", "--group", "hall-m", "--json"))
    assert sent["left_out"] == 1, sent
    node.run("device", "set", "gm1", "--status", "active")
    with node.client("gm1", secret) as device:
        device.subscribe("d/gm1/commands/+", 1)
        told = node.headline("command-waits", f"the command flush ({sent['id']}), made on", "gm1")
        assert "was not sent to the device: its status was maintenance" in told["sentence"], told
        node.bash(told)
        command = json.loads(device.receive().payload)["id"]
        answer(device, "gm1", {"command_id": command, "status": "success"})
        node.over("gm1")
