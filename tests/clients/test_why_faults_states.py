"""States that do not end by themselves, put to `martlet why`: rollouts, commands, alarms and retained messages that wait for
something that does not come."""

import json

import pytest

import martlet_process
from test_access import until
from why_faults import Faults


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    image = tmp_path_factory.mktemp("states") / "pump.bin"
    image.write_text("firmware")
    with Faults().start() as faults:
        faults.run("firmware", "add", "pump", "2.0", str(image))
        yield faults


def rollout_to(node, tag):
    return json.loads(node.run("rollout", "start", "pump", "2.0", "--tag", tag, "--json"))["id"]


def begins(device, name):
    """The device answers its command with 40 %."""
    command = json.loads(device.receive().payload)["id"]
    answers(device, name, {"command_id": command, "status": "progress", "progress": 40})
    return command


def answers(device, name, body):
    device.publish(f"d/{name}/status/command", json.dumps(body), 1)


def of_cause(told, cause):
    return [one["sentence"] for one in told["also"] if one["cause"] == cause]


def test_a_device_reports_nearly_the_version_of_the_rollout(node):
    secret = node.device("s1", "--tag", "s1")
    with node.client("s1", secret) as device:
        device.subscribe("d/s1/commands/+", 1)
        rollout = rollout_to(node, "s1")
        begins(device, "s1")
        until(lambda: "loads the file (40 %)" in node.run("rollout", "devices", rollout), "it has begun")
        device.publish("d/s1/twin/reported", '{"firmware_version": "v2.0"}', 1)
        said = "the device reports firmware_version v2.0, and the rollout waits for 2.0"
        for asked in ("s1", rollout):
            told = node.headline("rollout-waits", said, asked)
            assert told["remedy"].startswith("have the firmware report exactly 2.0"), told
            assert "firmware_version v2.0" in node.bash(told)
        device.publish("d/s1/twin/reported", '{"firmware_version": "2.0"}', 1)
        node.over("s1")
        node.over(rollout)


def test_a_device_of_a_rollout_is_away_since_its_last_report(node):
    secret = node.device("s2", "--tag", "s2")
    with node.client("s2", secret) as device:
        device.subscribe("d/s2/commands/+", 1)
        rollout = rollout_to(node, "s2")
        begins(device, "s2")
        until(lambda: "loads the file (40 %)" in node.run("rollout", "devices", rollout), "it has begun")
    said = "the device has not been connected since"
    until(lambda: any(said in one and "(40 %)" in one for one in of_cause(node.why("s2"), "rollout-waits")), said)
    assert f"s2: {said}" in node.why(rollout)["sentence"]
    assert "The device has not been connected since" in node.run("rollout", "devices", rollout)


def test_a_device_is_away_since_it_acknowledged_a_command(node):
    secret = node.device("s3")
    with node.client("s3", secret) as device:
        device.subscribe("d/s3/commands/+", 1)
        command = json.loads(node.run("command", "send", "reboot", "--device", "s3", "--json"))["id"]
        assert json.loads(device.receive().payload)["id"] == command
        answers(device, "s3", {"command_id": command, "status": "acknowledged"})
        until(lambda: "is being carried out" in node.why(command)["sentence"], "it is being carried out")
        node.over("s3")
    for asked in ("s3", command):
        told = node.headline("command-waits", f"the command reboot ({command}) to s3 has not ended: the device acknowledged it on", asked)
        assert "been away since" in told["sentence"] and told["sentence"].endswith("an acknowledged command does not expire"), told
        assert f'on d/s3/status/command {{"command_id": "{command}"' in told["remedy"], told
    assert " command cancel " in told["command"]
    node.bash(told)
    node.over("s3")


def test_a_command_was_acknowledged_and_its_time_is_over(node):
    secret = node.device("s4")
    with node.client("s4", secret) as device:
        device.subscribe("d/s4/commands/+", 1)
        command = json.loads(node.run("command", "send", "reboot", "--device", "s4", "--expires", "3", "--json"))["id"]
        assert device.receive()
        answers(device, "s4", {"command_id": command, "status": "acknowledged"})
        for asked in ("s4", command):
            told = node.headline("command-waits", "and has not reported its end", asked)
        node.carry_out(told)
        node.over("s4")


@pytest.mark.parametrize("side, limit, clear, values", [
    ("above", 80, 75, (85, 77, 75)),
    ("below", 10, 12, (5, 11, 12)),
])
def test_an_alarm_stays_active_between_its_limit_and_its_clear_value(node, side, limit, clear, values):
    name, other, rule = f"s5-{side}", f"s6-{side}", f"level-{side}"
    secret, other_secret = node.device(name), node.device(other)
    threshold = {"value": "payload.t", side: limit, "clear": clear}
    path = node.path / f"{rule}.json"
    path.write_text(json.dumps({"topics": [f"d/+/{side}"], "alarm": {"severity": "major", "threshold": threshold}}))
    node.run("rule", "add", rule, str(path))
    raised, between, cleared = values
    topic = f"d/{name}/{side}"
    with node.client(name, secret) as device, node.client(other, other_secret) as another:
        another.publish(f"d/{other}/{side}", json.dumps({"t": raised}), 1)
        device.publish(topic, json.dumps({"t": raised}), 1)
        device.publish(topic, json.dumps({"t": between}), 1)
        said = f"the last value, {between}, is {side} its clear value {clear}, so the alarm stays active"
        until(lambda: said in node.why(rule, topic)["sentence"], said)
        told = node.why(rule, topic)
        assert told["cause"] == "alarm-silent" and f"about {name}," in told["sentence"] and other not in told["sentence"], told
        until(lambda: any("its clear value" in one for one in of_cause(node.why(name), "alarm-active")), "it is reported")
        [also] = [one for one in node.why(name)["also"] if one["cause"] == "alarm-active"]
        clears = "at most" if side == "above" else "at least"
        assert also["remedy"].startswith(f"wait: it clears by itself when payload.t is {clears} {clear}"), also
        device.publish(topic, json.dumps({"t": cleared}), 1)
        until(lambda: not of_cause(node.why(name), "alarm-active"), "it is cleared by itself")
        # That of the other device is still active.
        assert node.bash(node.headline("alarm-silent", f"about {other},", rule))
        node.over(rule)


@pytest.fixture
def reader(node):
    node.user("reader", "--role", "administrator")
    yield
    node.run("user", "rm", "--purge", "--yes", "reader")


def test_a_retained_will_stays_when_its_client_is_connected_again(node, reader):
    secret = node.device("s7")

    def device():
        return node.client("s7", secret).will("d/s7/status", "offline", qos=1, retain=True)

    first = device().start()
    first.publish("d/s7/status", "online", 1, retain=True)
    first.drop()
    until(lambda: "offline" in node.run("retained", "get", "d/s7/status"), "the Will is published")
    with device() as again, node.client("reader") as other:
        other.subscribe("d/s7/status", 1)
        said = "the retained message of d/s7/status is the Will of s7, published on"
        for asked in ("s7", "reader"):
            told = node.headline("will-retained", said, asked, "d/s7/status")
            assert "s7 is connected again since" in told["sentence"] and "nothing was retained there since" in told["sentence"], told
            assert told["remedy"] == "have s7 publish its state to d/s7/status with RETAIN after each connect", told
        again.publish("d/s7/status", "online", 1, retain=True)
        for asked in ("s7", "reader"):
            until(lambda: "Will" not in json.dumps(node.why(asked, "d/s7/status")), "it has published its state")


def test_the_next_wave_waits_for_one_device(node):
    secrets = [node.device(name, "--tag", "s8") for name in ("s8", "s9")]
    with node.client("s8", secrets[0]), node.client("s9", secrets[1]):
        started = node.run("rollout", "start", "pump", "2.0", "--tag", "s8", "--waves", "1,2", "--json")
        rollout = json.loads(started)["id"]
        until(lambda: "of which 1 device has not ended" in node.run("rollout", "devices", rollout), "the second wave waits")
    node.run("rollout", "abort", rollout)


def test_a_condition_names_the_previous_message_and_there_was_none(node):
    path = node.path / "jump.json"
    rule = {"topics": ["jumps/#"], "when": "payload > previous + 10", "actions": [{"publish": {"topic": "out/jump"}}]}
    path.write_text(json.dumps(rule))
    node.run("rule", "add", "jump", str(path))
    node.user("jumper", "--role", "administrator")
    with node.client("jumper") as client:
        client.publish("jumps/1", "5", 1)
        said = "in it the field previous (there was no earlier message), which it names, is missing, last on jumps/1"
        told = node.headline("rule-unmatched", said, "jump")
        node.bash(told)
        told = node.headline("rule-unmatched", "lacks the field previous (there was no earlier message)", "jump", "jumps/1")
        node.bash(told)


def test_a_name_is_printed_once(node):
    secret = node.device("s10")
    with node.client("s10", secret) as device:
        device.subscribe("d/s10/commands/+", 1)
        command = json.loads(node.run("command", "send", "reboot", "--device", "s10", "--json"))["id"]
        assert device.receive()
        node.run("key", "add", "line-1", "--scope", "devices:read")
        for asked, head in ((command, f"the command reboot ({command}) to s10"), ("line-1", "line-1 is an API key")):
            printed = martlet_process.run("why", asked, "--data-dir", str(node.place.path)).stdout
            assert printed.startswith(head) and printed.splitlines()[0].count(asked) == 1, printed
