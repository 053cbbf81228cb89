"""Rollouts of firmware over many devices: waves, gates, orders of operators, and kills of the node.

MARTLET_ROLLOUT_DEVICES sets the number of devices of the large test; it is 60 if nothing is said."""

import json
import os
import subprocess
import time

import pytest

import martlet_process
from device_fleet import Fleet
from paho_client import Client
from server_process import free_port
from test_http_api import KEY
from test_http_registry import call, in_a_file
from test_sinks import until

DEVICES = int(os.environ.get("MARTLET_ROLLOUT_DEVICES", "60"))
PATH = "/api/v1/rollouts"


@pytest.fixture
def node(start_node, variables):
    """A node with its tables in SQLite, and in PostgreSQL."""
    return start_node(http=True, variables=variables, settings=["http.rate=0"])


def upload(node, name="pump", version="2.0", content=b"firmware", expect=None, **more):
    query = "&".join(f"{key}={value}" for key, value in {"device_type": "device", **more}.items())
    path = f"/api/v1/firmware?name={name}&version={version}&{query}"
    return call(node, "POST", path, content, kind="application/octet-stream", expect=expect)


def add_devices(node, count, **how):
    """Devices in the group pumps."""
    groups = call(node, "GET", "/api/v1/groups")["items"]
    group = groups[0]["id"] if groups else call(node, "POST", "/api/v1/groups", {"name": "pumps"})["id"]
    made = []
    for first in range(0, count, 500):
        rows = [{"id": f"p{at}", "groups": [group], **how} for at in range(first, min(first + 500, count))]
        made += call(node, "POST", "/api/v1/devices/bulk", {"devices": rows})["rows"]
    return made


def start(node, expect=None, **how):
    body = {"firmware": "pump", "version": "2.0", "group": "pumps", **how}
    return call(node, "POST", PATH, body, expect=expect)


def shown(node, rollout):
    return call(node, "GET", f"{PATH}/{rollout}")


def order(node, rollout, what, expect=None):
    return call(node, "POST", f"{PATH}/{rollout}/{what}", expect=expect)


def until_shown(node, rollout, is_so, secs=30):
    deadline = time.monotonic() + secs
    while not is_so(found := shown(node, rollout)):
        assert time.monotonic() < deadline, f"{found}\n{node.log()[-4000:]}"
        time.sleep(0.1)
    return found


def devices_of(node, rollout, **wanted):
    """All devices of a rollout, page by page, by their ids."""
    items, cursor = [], None
    while True:
        query = {"limit": 1000, **wanted, **({"cursor": cursor} if cursor else {})}
        page = call(node, "GET", f"{PATH}/{rollout}/devices?" + "&".join(f"{k}={v}" for k, v in query.items()))
        items += page["items"]
        cursor = page["next"]
        if not cursor:
            return {one["device"]: one for one in items}


def connect(node, made):
    client = Client(node, made["id"]).credentials(made["user_name"], made["secret"]).start()
    client.subscribe(f"d/{made['id']}/commands/firmware", qos=1)
    return client


def answer(client, device, command, status, **more):
    client.publish(f"d/{device}/status/command", json.dumps({"command_id": command, "status": status, **more}))


def state_of(node, rollout, device):
    return devices_of(node, rollout)[device]["state"]


def test_a_device_passes_its_states(node):
    (made,) = add_devices(node, 1)
    added = upload(node)
    client = connect(node, made)
    rollout = start(node)["id"]
    command = json.loads(client.receive().payload)
    assert command["command"] == "update" and command["id"] == rollout
    assert command["parameters"] == {
        "name": "pump", "version": "2.0", "size": 8, "sha256": added["sha256"], "rollout": rollout,
        "path": "/api/v1/firmware/pump/2.0/file",
    }
    until(lambda: state_of(node, rollout, "p0") == "delivered", "the device's PUBACK is not noted")
    assert devices_of(node, rollout)["p0"]["cause"] == "no_answer"
    answer(client, "p0", rollout, "progress", progress=40)
    until(lambda: state_of(node, rollout, "p0") == "downloading", "the progress is not noted")
    assert "40 %" in devices_of(node, rollout)["p0"]["why"]
    answer(client, "p0", rollout, "progress", result="installing")
    until(lambda: state_of(node, rollout, "p0") == "installing", "the device does not install")
    call(node, "DELETE", "/api/v1/firmware/pump/2.0", expect=409)
    answer(client, "p0", rollout, "succeeded")
    done = until_shown(node, rollout, lambda found: found["state"] == "succeeded")
    assert done["states"] == {"succeeded": 1} and done["finished_at"]
    assert devices_of(node, rollout)["p0"]["cause"] == ""
    call(node, "DELETE", "/api/v1/firmware/pump/2.0")
    client.disconnect()


def test_a_version_that_the_device_reports_ends_it(node):
    """In its twin, or in a heartbeat of IoTFlow."""
    (made,) = add_devices(node, 1)
    group = call(node, "GET", "/api/v1/groups")["items"][0]["id"]
    flow = call(node, "POST", "/api/v1/devices", {"id": "flow", "type": "iotflow", "groups": [group]})
    upload(node)
    upload(node, name="flow", device_type="iotflow")
    client = connect(node, made)
    other = Client(node, "flow").credentials(flow["user_name"], flow["secret"]).start()
    first, second = start(node)["id"], start(node, firmware="flow")["id"]
    client.receive()
    client.publish("d/p0/twin/reported", json.dumps({"firmware_version": "2.0"}))
    until_shown(node, first, lambda found: found["states"].get("succeeded") == 1)
    assert call(node, "GET", "/api/v1/devices/p0")["firmware_version"] == "2.0"

    def beats():
        other.publish("iotflow/devices/flow/status/heartbeat", json.dumps({"firmware_version": "2.0", "n": 1}), qos=1)
        return call(node, "GET", "/api/v1/devices/flow")["firmware_version"] == "2.0"

    until(beats, "the version in the heartbeat is not noted")
    until_shown(node, second, lambda found: found["states"].get("succeeded") == 1)
    client.disconnect()
    other.disconnect()


@in_a_file
def test_a_gate_that_pauses_raises_an_alarm(node):
    made = add_devices(node, 2)
    upload(node)
    rollout = start(node, waves=["50%", "100%"], gate={"max_failed_percent": 0})["id"]
    until(lambda: devices_of(node, rollout, state="offered"), "no device is offered it")
    (first,) = devices_of(node, rollout, state="offered")
    client = connect(node, next(one for one in made if one["id"] == first))
    answer(client, first, json.loads(client.receive().payload)["id"], "failed", result="no space")
    found = until_shown(node, rollout, lambda found: found["state"] != "running")

    def alarms():
        items = call(node, "GET", "/api/v1/alarms?limit=100")["items"]
        return [one for one in items if one["name"] == "rollout_paused" and one["subject"] == rollout]

    assert found["state"] == "paused", found
    until(lambda: [one for one in alarms() if one["state"] == "active"], lambda: f"the alarms are {alarms()}")
    assert "gate_failures" in alarms()[0]["message"] and "pump 2.0" in alarms()[0]["message"]
    order(node, rollout, "resume")
    until(lambda: all(one["state"] == "cleared" for one in alarms()), lambda: f"the alarms are {alarms()}")
    client.disconnect()


@in_a_file
def test_a_device_of_iotflow_gets_it_on_its_topic(node):
    group = call(node, "POST", "/api/v1/groups", {"name": "pumps"})["id"]
    made = call(node, "POST", "/api/v1/devices", {"id": "flow", "type": "iotflow", "groups": [group]})
    upload(node, device_type="iotflow")
    client = Client(node, "flow").credentials(made["user_name"], made["secret"]).start()
    client.subscribe("iotflow/devices/flow/commands/#", qos=2)
    client.subscribe("iotflow/devices/flow/firmware/#", qos=1)
    rollout = start(node)["id"]
    message = client.receive()
    assert message.topic == "iotflow/devices/flow/commands/firmware" and not message.retain
    body = json.loads(message.payload)
    assert (body["command"], body["command_id"], body["parameters"]["version"]) == ("update", rollout, "2.0")

    def piece():
        client.publish("iotflow/devices/flow/status/firmware/get", json.dumps({"name": "pump", "version": "2.0"}), qos=1)
        return not client.messages.empty()

    until(piece, "no piece comes")
    message = client.receive()
    assert (message.topic, message.payload) == ("iotflow/devices/flow/firmware/chunk/pump/2.0/0", b"firmware")
    client.publish("iotflow/devices/flow/status/command", json.dumps({"command_id": rollout, "status": "completed"}))
    until_shown(node, rollout, lambda found: found["state"] == "succeeded")
    client.disconnect()


def test_devices_that_do_not_need_it_are_skipped_with_the_reason(node):
    add_devices(node, 1)
    group = call(node, "GET", "/api/v1/groups")["items"][0]["id"]
    for device in ({"id": "has", "firmware_version": "2.0"}, {"id": "other", "type": "iotflow"}, {"id": "off"}):
        call(node, "POST", "/api/v1/devices", {**device, "groups": [group]})
    call(node, "PATCH", "/api/v1/devices/off", {"status": "inactive"})
    upload(node)
    rollout = start(node)["id"]
    found = until_shown(node, rollout, lambda found: found["states"].get("skipped") == 3)
    assert found["states"] == {"offered": 1, "skipped": 3} and found["state"] == "running"
    devices = devices_of(node, rollout)
    assert {name: devices[name]["cause"] for name in devices} == {
        "has": "has_version", "other": "wrong_type", "off": "disabled", "p0": "never_connected"}
    # A device that reports the version has it, whatever it answered.
    call(node, "PATCH", "/api/v1/devices/p0", {"firmware_version": "2.0"})
    until_shown(node, rollout, lambda found: found["state"] == "succeeded")


@in_a_file
def test_each_stuck_device_says_where(node):
    made = add_devices(node, 3)
    upload(node)
    silent = Client(node, "p1").credentials(made[1]["user_name"], made[1]["secret"]).start()
    at_qos0 = Client(node, "p2").credentials(made[2]["user_name"], made[2]["secret"]).start()
    at_qos0.subscribe("d/p2/commands/firmware", qos=0)
    rollout = start(node)["id"]
    expected = {"p0": "never_connected", "p1": "not_subscribed", "p2": "subscribed_with_qos_0"}

    def causes():
        return {name: one["cause"] for name, one in devices_of(node, rollout).items()}

    until(lambda: causes() == expected, lambda: f"the causes are {devices_of(node, rollout)}")
    assert "d/p1/commands/firmware" in devices_of(node, rollout)["p1"]["why"]
    silent.disconnect()
    until(lambda: causes()["p1"] == "not_connected", lambda: f"the causes are {causes()}")
    at_qos0.disconnect()


def test_a_planned_rollout_is_started_paused_aborted_and_not_retried(node):
    made = add_devices(node, 4)
    upload(node)
    planned = start(node, waves=["50%"], start=False)
    rollout = planned["id"]
    assert (planned["state"], planned["wave"]) == ("planned", 0)
    assert devices_of(node, rollout)["p0"]["cause"] == "not_started"
    order(node, rollout, "pause", expect=409)
    assert order(node, rollout, "resume")["state"] == "running"
    until_shown(node, rollout, lambda found: found["states"] == {"offered": 2, "waiting": 2})
    assert order(node, rollout, "pause")["reason"] == "by_hand"
    waiting = devices_of(node, rollout, state="waiting")
    assert {one["cause"] for one in waiting.values()} == {"rollout_paused"}
    first = next(iter(devices_of(node, rollout, state="offered")))
    client = connect(node, next(one for one in made if one["id"] == first))
    command = json.loads(client.receive().payload)["id"]
    answer(client, first, command, "acknowledged")
    # The device is `delivered` with its PUBACK already, and has begun with its answer.
    until(lambda: call(node, "GET", f"/api/v1/devices/{first}/commands/{command}")["state"] == "acknowledged",
          "the answer is not noted")
    assert state_of(node, rollout, first) == "delivered"
    aborted = order(node, rollout, "abort")
    assert aborted["state"] == "aborted"
    # What has begun goes on.
    assert aborted["states"] == {"delivered": 1, "skipped": 3}
    answer(client, first, command, "succeeded")
    until(lambda: state_of(node, rollout, first) == "succeeded", "the answer is not noted")
    for what in ("resume", "retry", "abort", "pause"):
        order(node, rollout, what, expect=409)
    client.disconnect()


@in_a_file
def test_what_cannot_be_a_rollout_is_refused(node):
    add_devices(node, 1)
    upload(node)
    start(node, version="3", expect=404)
    start(node, group="none", expect=404)
    start(node, group=None, expect=422)
    start(node, tag="none", expect=422)
    for wrong in ({"waves": ["0%"]}, {"waves": ["50%", "10%"]}, {"waves": ["x"]}, {"waves": [0]}, {"timeout_secs": 0},
                  {"gate": {"max_failed_percent": 101}}, {"gate": {"silent_after_secs": 0}}, {"gate": {"x": 1}}):
        start(node, expect=422, **wrong)
    call(node, "GET", f"{PATH}/none", expect=404)
    assert call(node, "GET", PATH)["items"] == []


def test_two_rollouts_of_one_firmware_do_not_meet_on_a_device(node):
    """The last command would win, and nobody could say which version a device gets."""
    add_devices(node, 2)
    upload(node)
    upload(node, version="3.0", content=b"other")
    first = start(node)["id"]
    refused = start(node, version="3.0", expect=409)
    assert f"the rollout {first} of version 2.0 has not ended for 2 of these devices" in refused["detail"], refused
    planned = start(node, version="3.0", start=False)["id"]
    assert "has not ended" in order(node, planned, "resume", expect=409)["detail"]
    assert shown(node, planned)["state"] == "planned"
    upload(node, name="modem", content=b"modem")
    order(node, start(node, firmware="modem")["id"], "abort")
    order(node, first, "abort")
    assert order(node, planned, "resume")["state"] == "running"
    assert "has not ended" in start(node, expect=409)["detail"]


def test_teams_see_their_own_firmware_and_rollouts_alone(node):
    keys = {}
    for name in ("north", "south"):
        team = call(node, "POST", "/api/v1/teams", {"name": name, "owns_tenant": True})["id"]
        keys[name] = call(node, "POST", "/api/v1/keys", {
            "name": name, "team": team, "scopes": ["devices:read", "devices:write"]})["key"]
    made = call(node, "POST", "/api/v1/devices", {"id": "pump", "tags": ["hall"]}, key=keys["north"])
    path = "/api/v1/firmware?name=pump&version=2.0&device_type=device"
    call(node, "POST", path, b"of north", key=keys["north"], kind="application/octet-stream")
    body = {"firmware": "pump", "version": "2.0", "tag": "hall"}
    call(node, "POST", PATH, body, key=keys["south"], expect=404)
    rollout = call(node, "POST", PATH, body, key=keys["north"])["id"]
    call(node, "GET", f"{PATH}/{rollout}", key=keys["south"], expect=404)
    call(node, "POST", f"{PATH}/{rollout}/abort", key=keys["south"], expect=404)
    client = connect(node, made)
    assert json.loads(client.receive().payload)["id"] == rollout
    answer(client, "pump", rollout, "succeeded")
    until(lambda: call(node, "GET", f"{PATH}/{rollout}", key=keys["north"])["state"] == "succeeded",
          "the answer is not noted")
    client.disconnect()


def fleet_of(made, behaviours):
    """A tenth of the devices fail, and a tenth say nothing."""
    return [(one, behaviours.get(at % 10, "succeed")) for at, one in enumerate(made)]


def test_a_tenth_fails_and_a_tenth_is_silent_while_the_node_is_killed(tmp_path, start_node):
    """Gates pause, a resume goes on, the sums are right, and each stuck device says why."""
    how = {"http": True, "variables": {"MARTLET_HTTP__API_KEYS": f"all:{KEY}"}, "data_dir": tmp_path,
           "settings": ["http.rate=0", "limits.connect_rate_per_address=0"]}
    # Its own over the kill: the devices try to connect to it meanwhile.
    how["listen"] = [f"mqtt://127.0.0.1:{free_port()}"]
    node = start_node(**how)
    made = add_devices(node, DEVICES)
    upload(node)
    fleet = Fleet(node.port(), fleet_of(made, {0: "fail", 1: "say nothing"}))
    try:
        until(lambda: len(fleet.subscribed) == DEVICES, lambda: f"{len(fleet.subscribed)} devices have subscribed", 60)
        gate = {"max_failed_percent": 5, "max_silent_percent": 5, "silent_after_secs": 6}
        begun = time.monotonic()
        rollout = start(node, waves=["20%", "50%", "100%"], gate=gate)["id"]
        # The node dies in the middle of the first wave.
        time.sleep(0.3)
        node.process.kill()
        node.process.wait()
        fleet.subscribed.clear()
        node = start_node(**how)
        pauses = set()

        def ended(found):
            if found["state"] == "paused":
                pauses.add(found["reason"])
                until(lambda: any("paused by their gates" in text for text in
                                  call(node, "GET", "/api/v1/health")["warnings"]), "health does not warn")
                order(node, rollout, "resume")
            return found["state"] in ("succeeded", "failed", "aborted")

        done = until_shown(node, rollout, ended, 120)
        print(f"{DEVICES} devices in {time.monotonic() - begun:.1f} s: {done['states']}")
        assert done["state"] == "succeeded"
        tenth = DEVICES // 10
        assert done["states"] == {"succeeded": DEVICES - 2 * tenth, "failed": tenth, "silent": tenth}
        assert [wave["devices"] for wave in done["waves"]] == [DEVICES // 5, DEVICES * 3 // 10, DEVICES // 2]
        assert pauses == {"gate_failures", "gate_silence"}
        devices = devices_of(node, rollout)
        assert len(devices) == DEVICES
        for name, device in fleet.devices.items():
            found = devices[name]
            if device.behaviour == "fail":
                assert (found["state"], found["cause"]) == ("failed", "device_failed") and "no space" in found["why"]
            elif device.behaviour == "say nothing":
                assert (found["state"], found["cause"]) == ("silent", "silent") and "has not answered" in found["why"]
            else:
                assert (found["state"], found["cause"]) == ("succeeded", "")
            # Whatever was published again, it was one command.
            assert {command["id"] for command in device.commands} == {rollout}
        # Those that are repaired are offered it again.
        for device in fleet.devices.values():
            device.behaviour = "succeed"
        assert order(node, rollout, "retry")["state"] == "running"
        done = until_shown(node, rollout, lambda found: found["state"] == "succeeded", 60)
        assert done["states"] == {"succeeded": DEVICES}
    finally:
        fleet.close()


def test_a_rollout_at_the_command_line(tmp_path, start_node):
    node = start_node(http=True, variables={"MARTLET_HTTP__API_KEYS": f"all:{KEY}"}, data_dir=tmp_path / "data",
                      settings=["http.rate=0"])
    (made,) = add_devices(node, 1)
    file = tmp_path / "pump.bin"
    file.write_bytes(os.urandom(300_000))

    def run(*words, code=0):
        done = subprocess.run([martlet_process.binary(), *words, "--data-dir", str(tmp_path / "data")],
                              capture_output=True, text=True, timeout=30, env=martlet_process.environment())
        assert done.returncode == code, (words, done)
        return done.stdout

    assert "300000 bytes" in run("firmware", "add", "pump", "2.0", str(file))
    assert "pump" in run("firmware", "ls") and "device" in run("firmware", "show", "pump", "2.0")
    run("firmware", "get", "pump", "2.0", "-o", str(tmp_path / "copy"))
    assert (tmp_path / "copy").read_bytes() == file.read_bytes()
    client = connect(node, made)
    rollout = json.loads(run("rollout", "start", "pump", "2.0", "--group", "pumps", "--waves", "1%,100%", "--json"))["id"]
    assert json.loads(client.receive().payload)["id"] == rollout
    assert "p0" in run("rollout", "devices", rollout)
    assert "by_hand" in run("rollout", "pause", rollout)
    assert "by_hand" in run("rollout", "watch", rollout, code=3)
    assert "running" in run("rollout", "resume", rollout)
    run("firmware", "rm", "pump", "2.0", code=1)
    answer(client, "p0", rollout, "failed", result="no space")
    assert "gate_failures" in run("rollout", "watch", rollout, code=3)
    assert "no space" in run("rollout", "devices", rollout, "--state", "failed")
    assert "running" in run("rollout", "retry", rollout) or "paused" in run("rollout", "show", rollout)
    run("rollout", "resume", rollout)
    command = json.loads(client.receive().payload)["id"]
    assert command == f"{rollout}.1"
    answer(client, "p0", command, "succeeded")
    assert "100 % wave 1/1 succeeded" in run("rollout", "watch", rollout)
    assert rollout in run("rollout", "ls")
    run("firmware", "rm", "pump", "2.0")
    assert not any(path.is_file() for path in (tmp_path / "data" / "firmware").iterdir())
    client.disconnect()
