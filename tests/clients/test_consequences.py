"""What follows from a message is published at least once: over kills, while the tables are away, on a full store."""

import json
import random
import re
import sqlite3
import time

import pytest

import martlet_process
import postgres_process
from paho_client import V5, Client, properties
from test_access import until
from test_alarms import HOT, alarms
from test_http_api import KEYS
from test_http_registry import call as call_with
from test_rules import call, configured, crash
from test_why_store import LIMIT, fill

ALERTS = "iotflow/system/alarms"
LASTS = properties("CONNECT", SessionExpiryInterval=3600)
KILLS = 20


def sql(data, postgres, variables, text):
    """Runs a statement in the tables of a node that is stopped or runs; rows as lists of texts."""
    url = variables.get("MARTLET_REGISTRY__URL")
    if url:
        return [row.split("|") for row in postgres.sql(url, text).splitlines()]
    with sqlite3.connect(data / "martlet.db", timeout=30) as database:
        return [[str(cell) for cell in row] for row in database.execute(text)]


def leave_monitor(node):
    """A session that gets all alerts, also of a node that starts again."""
    with Client(node, "monitor", V5, clean=False, properties=LASTS) as monitor:
        monitor.subscribe(ALERTS, qos=1)


def alerts(node, is_enough):
    """What the monitor gets, until that is enough."""
    found = []
    with Client(node, "monitor", V5, clean=False, properties=LASTS) as monitor:
        while not is_enough(found):
            found.append(json.loads(monitor.receive_payload()))
    # They are acknowledged.
    while not monitor.messages.empty():
        found.append(json.loads(monitor.receive_payload()))
    return found


def test_messages_in_the_outbox_are_published_at_the_start(start_node, tmp_path, variables, request):
    """As a kill between the change of an alarm and its message leaves them."""
    data = tmp_path / "data"
    options = {**configured(tmp_path, text=HOT, data_dir=data), "variables": variables}
    postgres = request.getfixturevalue("postgres") if len(variables) > len(KEYS) else None
    node = start_node(**options)
    leave_monitor(node)
    with Client(node, "pump") as pump:
        pump.publish("plant/p1/temperature", "90")
    [raised] = alerts(node, any)
    outbox = "SELECT number FROM outbox"
    until(lambda: sql(data, postgres, variables, outbox) == [], node.log)
    crash(node)
    [[name]] = sql(data, postgres, variables, "SELECT DISTINCT node FROM alarms")
    rows = ", ".join(
        f"('{name}', {number}, 0, 'hot', '{ALERTS}', '{json.dumps({'id': str(number), 'change': 'cleared'})}', 1)"
        for number in range(1, 1201))
    columns = "node, number, tenant, subject, topic, payload, hops"
    sql(data, postgres, variables, f"INSERT INTO outbox ({columns}) VALUES {rows}")
    # Another node with the same tables publishes this one.
    sql(data, postgres, variables, f"INSERT INTO outbox ({columns}) VALUES ('other', 1, 0, 'hot', '{ALERTS}', 'x', 1)")
    node = start_node(**options)
    found = [int(one["id"]) for one in alerts(node, lambda found: found and found[-1]["id"] == "1200")]
    # The monitor's acknowledgement may not have been written before the kill.
    found = [one for one in found if str(one) != raised["id"]]
    # In order, and each of them once.
    assert found == list(range(1, 1201))
    until(lambda: sql(data, postgres, variables, "SELECT node, number FROM outbox") == [["other", "1"]], node.log)
    with Client(node, "pump") as pump:
        pump.publish("plant/p1/temperature", "20")
    [cleared] = alerts(node, any)
    assert (cleared["id"], cleared["change"]) == (raised["id"], "cleared")


def test_what_alarms_observe_while_the_tables_are_away_outlives_a_kill(start_node, tmp_path):
    """A value that was acknowledged raises or clears its alarm, and its alert is published."""
    server = postgres_process.Server()
    try:
        variables = {**KEYS, "MARTLET_REGISTRY__URL": server.new_database()}
        options = {**configured(tmp_path, text=HOT, data_dir=tmp_path / "data"), "variables": variables}
        node = start_node(**options)
        leave_monitor(node)
        with Client(node, "pump") as pump:
            pump.publish("plant/p1/temperature", "90", qos=1)
        [first] = alerts(node, any)
        with Client(node, "pump") as pump:
            server.stop()
            pump.publish("plant/p1/temperature", "20", qos=1)
            pump.publish("plant/p2/temperature", "90", qos=1)
        # Nobody who is told of an alarm waits for the tables.
        alerts(node, lambda found: any(one["device"] == "p1" for one in found))
        crash(node)
        server.start()
        node = start_node(**options)
        until(lambda: [one["device"] for one in alarms(node)] == ["p2"], node.log)
        assert [one["id"] for one in alarms(node, "?state=cleared&device=p1")] == [first["id"]]
        [second] = alarms(node)
        # It was raised anew, or is the one that the first node told of.
        alerts(node, lambda found: any(one["id"] == second["id"] for one in found))
        node.close()
    finally:
        server.close()


def test_a_change_by_hand_is_in_the_tables_when_it_is_answered(start_node, tmp_path):
    options = configured(tmp_path, text=HOT, data_dir=tmp_path / "data")
    node = start_node(**options)
    leave_monitor(node)
    with Client(node, "pump") as pump:
        pump.publish("plant/p1/temperature", "90", qos=1)
    until(lambda: len(alarms(node)) == 1, node.log)
    [alarm] = alarms(node)
    alerts(node, any)
    call(node, "POST", f"/alarms/{alarm['id']}/acknowledge")
    crash(node)
    node = start_node(**options)
    assert [one["state"] for one in alarms(node)] == ["acknowledged"]
    # One that was sent before the kill may come again.
    alerts(node, lambda found: any(one["change"] == "acknowledged" for one in found))


def test_presence_that_was_published_shortly_before_a_kill_is_followed_by_what_is_true_after_it(
        start_node, tmp_path, variables):
    options = {"http": True, "variables": variables, "data_dir": tmp_path / "data",
               "settings": ["presence.publish=true", "http.rate=0"]}
    node = start_node(**options)
    with Client(node, "monitor", V5, clean=False, properties=LASTS) as monitor:
        monitor.subscribe("iotflow/devices/+/status/+", qos=1)
    published = lambda client, state: next(
        message for message in iter(client.receive, None)
        if message.topic.endswith("/" + state) and message.payload)
    for pump in ("p1", "p2", "p3"):
        with Client(node, "monitor", V5, clean=False, properties=LASTS) as monitor, Client(node, pump):
            while f"/{pump}/" not in published(monitor, "online").topic:
                pass
            # The tables are written once a second.
            crash(node)
        node = start_node(**options)
        with Client(node, "monitor", V5, clean=False, properties=LASTS) as monitor:
            while f"/{pump}/" not in (message := published(monitor, "offline")).topic:
                pass
            assert "the node ended without a stop" in message.payload.decode()
    with Client(node, "late", V5) as late:
        late.subscribe("iotflow/devices/+/status/online", qos=1)
        until(lambda: late.messages.qsize() >= 1, node.log)
        online = {late.receive().topic.split("/")[2] for _ in range(late.messages.qsize())}
        assert online & {"p1", "p2", "p3"} == set()


EVENTS = "twin_changed,device_inactive,device_active,alarm_raised,alarm_changed"


def test_events_about_changes_of_the_tables_outlive_a_kill(start_node, tmp_path, variables):
    """Right after the answer to a change the node dies: the event is in the tables, and published after the start."""
    options = configured(tmp_path, text=HOT, data_dir=tmp_path / "data", settings=[f"events.publish={EVENTS}"])
    options["variables"] = variables
    node = start_node(**options)
    call(node, "POST", "/devices", {"id": "d1"}, status=201)
    call(node, "POST", "/users", {"name": "ada", "password": "correct horse", "role": "administrator"}, status=201)
    monitor = lambda node: Client(node, "monitor", V5, clean=False, properties=LASTS).credentials("ada", "correct horse")
    with monitor(node) as client:
        client.subscribe("$events/+", qos=1)
    for version in (1, 2, 3):
        call(node, "PATCH", "/devices/d1/twin/desired", {"a": version})
        crash(node)
        node = start_node(**options)
    with Client(node, "ada").credentials("ada", "correct horse") as pump:
        pump.publish("plant/p1/temperature", "90", qos=1)
    until(lambda: len(alarms(node)) == 1, node.log)
    [alarm] = alarms(node)
    call(node, "POST", f"/alarms/{alarm['id']}/acknowledge")
    crash(node)
    node = start_node(**options)
    found = {}
    with monitor(node) as client:
        while len(found) < 5:
            message = client.receive()
            assert not message.retain
            event = json.loads(message.payload)
            assert message.topic == f"$events/{event['kind']}"
            # One that comes twice has the same id.
            found[event["id"]] = (event["kind"], event.get("twin", {}).get("version") or event["alarm"]["state"])
    # Of an alarm that changes in between, each change is told.
    assert sorted(map(str, found.values())) == sorted(map(str, [
        ("twin_changed", 1), ("twin_changed", 2), ("twin_changed", 3), ("alarm_raised", "active"),
        ("alarm_changed", "acknowledged")]))


def test_alarms_about_silent_devices_are_as_the_tables_are_after_a_kill(start_node, tmp_path, variables, request):
    """As a kill between the change of a device and its alarm leaves them."""
    data = tmp_path / "data"
    options = configured(tmp_path, text=HOT, data_dir=data)
    options["variables"] = variables
    postgres = request.getfixturevalue("postgres") if len(variables) > len(KEYS) else None
    node = start_node(**options)
    for name in ("silent", "talks"):
        call(node, "POST", "/devices", {"id": name}, status=201)
    call(node, "PATCH", "/device-types/device", {"inactive_after_secs": 86400}, headers={"If-Match": "*"})
    silent = lambda: {one["device"] for one in alarms(node) if one["name"] == "device_inactive"}
    change = "UPDATE devices SET inactive_since_ms = {}, last_message_ms = 5 WHERE id = '{}'"
    crash(node)
    sql(data, postgres, variables, change.format(7, "silent"))
    node = start_node(**options)
    until(lambda: silent() == {"silent"}, node.log)
    crash(node)
    sql(data, postgres, variables, change.format(0, "silent"))
    sql(data, postgres, variables, change.format(7, "talks"))
    node = start_node(**options)
    until(lambda: silent() == {"talks"}, node.log)


@pytest.mark.long
def test_that_a_device_becomes_silent_and_talks_again_is_an_event_over_a_kill(start_node, tmp_path, variables, request):
    """The node dies as soon as the tables have the change."""
    data = tmp_path / "data"
    options = configured(tmp_path, text="", data_dir=data, settings=["events.publish=device_inactive,device_active"])
    options["variables"] = variables
    postgres = request.getfixturevalue("postgres") if len(variables) > len(KEYS) else None
    node = start_node(**options)
    made = call(node, "POST", "/devices", {"id": "silent"}, status=201)
    call(node, "PATCH", "/device-types/device", {"inactive_after_secs": 10}, headers={"If-Match": "*"})
    call(node, "POST", "/users", {"name": "ada", "password": "correct horse", "role": "administrator"}, status=201)
    monitor = lambda node: Client(
        node, "monitor", V5, clean=False, properties=LASTS).credentials("ada", "correct horse")
    with monitor(node) as client:
        client.subscribe("$events/+", qos=1)
    talks = lambda: Client(node, "silent").credentials(made["user_name"], made["secret"])
    with talks() as device:
        device.publish("d/silent/a", "x", qos=1)
    asked = "SELECT inactive_since_ms FROM devices WHERE id = 'silent'"
    since = lambda: int(sql(data, postgres, variables, asked)[0][0])
    found = []
    until(lambda: since() != 0, node.log)
    crash(node)
    node = start_node(**options)
    with monitor(node) as client:
        found.append(client.receive().topic)
    with talks() as device:
        device.publish("d/silent/a", "x", qos=1)
        until(lambda: since() == 0, node.log)
        crash(node)
    node = start_node(**options)
    with monitor(node) as client:
        # The first one may come again.
        while found[-1] != "$events/device_active":
            found.append(client.receive().topic)
    assert set(found) == {"$events/device_inactive", "$events/device_active"}


def test_alarms_about_paused_rollouts_are_as_the_tables_are_after_a_kill(start_node, tmp_path, variables, request):
    """As a kill between the pause of a rollout, or its end, and the alarm leaves them."""
    data = tmp_path / "data"
    options = {**configured(tmp_path, text=HOT, data_dir=data), "variables": variables}
    postgres = request.getfixturevalue("postgres") if len(variables) > len(KEYS) else None
    node = start_node(**options)
    for name in ("pauses", "resumes"):
        call(node, "POST", "/devices", {"id": name, "tags": [name]}, status=201)
    path = "/firmware?name=pump&version=2.0&device_type=device"
    call_with(node, "POST", f"/api/v1{path}", b"firmware", kind="application/octet-stream")
    begin = lambda tag: call(node, "POST", "/rollouts", {"firmware": "pump", "version": "2.0", "tag": tag},
                             status=201)["id"]
    pauses, resumes = begin("pauses"), begin("resumes")
    paused = lambda: {one["subject"] for one in alarms(node) if one["name"] == "rollout_paused"}
    change = "UPDATE rollouts SET state = '{}', reason = '{}' WHERE id = '{}'"
    crash(node)
    sql(data, postgres, variables, change.format("paused", "gate_failures", resumes))
    node = start_node(**options)
    until(lambda: paused() == {resumes}, node.log)
    crash(node)
    sql(data, postgres, variables, change.format("running", "", resumes))
    sql(data, postgres, variables, change.format("paused", "gate_failures", pauses))
    node = start_node(**options)
    until(lambda: paused() == {pauses}, node.log)


def test_desired_values_of_the_moment_before_a_kill_reach_the_device(start_node, tmp_path, variables):
    """A device that is connected when they change, and one that comes later."""
    options = {**configured(tmp_path, text=HOT, data_dir=tmp_path / "data"), "variables": variables}
    node = start_node(**options)
    made = [call(node, "POST", "/devices", {"id": name}, status=201) for name in ("stays", "comes")]
    connect = lambda one: Client(node, one["id"], V5, clean=False, properties=LASTS).credentials(
        one["user_name"], one["secret"])
    with connect(made[0]) as device:
        device.subscribe("d/stays/config", qos=1)
    for name in ("stays", "comes"):
        call(node, "PATCH", f"/devices/{name}/twin/desired", {"interval": 30}, headers={"If-Match": "*"})
    crash(node)
    node = start_node(**options)
    for one in made:
        with connect(one) as device:
            if one["id"] == "comes":
                device.subscribe("d/comes/config", qos=1)
            assert json.loads(device.receive_payload())["desired"] == {"interval": 30}


def test_the_states_of_a_command_to_a_group_come_after_a_kill(start_node, tmp_path, variables):
    options = {**configured(tmp_path, text=HOT, data_dir=tmp_path / "data"), "variables": variables}
    node = start_node(**options)
    group = call(node, "POST", "/groups", {"name": "pumps"}, status=201)["id"]
    call(node, "POST", "/device-types", {"name": "free", "rules": ["topic readwrite #"]}, status=201)
    made = call(node, "POST", "/devices", {"id": "pump", "groups": [group]}, status=201)
    watcher = call(node, "POST", "/devices", {"id": "watcher", "type": "free"}, status=201)
    connect = lambda one: Client(node, one["id"], V5, clean=False, properties=LASTS).credentials(
        one["user_name"], one["secret"])
    with connect(watcher) as monitor:
        monitor.subscribe("iotflow/fleet/status/pumps", qos=1)
    with connect(made) as device:
        device.subscribe("d/pump/commands/#", qos=1)
        sent = call_with(node, "POST", "/api/v1/groups/pumps/commands", {"command": "open"})["id"]
        assert json.loads(device.receive_payload())["id"] == sent
        device.publish("d/pump/status/command", json.dumps({"command_id": sent, "status": "succeeded"}), qos=1)
    crash(node)
    node = start_node(**options)
    with connect(watcher) as monitor:
        while json.loads(monitor.receive_payload())["commands"][0]["states"] != {"succeeded": 1}:
            pass


def test_messages_of_an_earlier_run_come_before_new_ones(start_node, tmp_path):
    data = tmp_path / "data"
    options = {**configured(tmp_path, text=HOT, data_dir=data), "variables": KEYS}
    node = start_node(**options)
    leave_monitor(node)
    with Client(node, "pump") as pump:
        pump.publish("plant/p1/temperature", "90")
    [raised] = alerts(node, any)
    until(lambda: sql(data, None, {}, "SELECT number FROM outbox") == [], node.log)
    crash(node)
    [[name]] = sql(data, None, {}, "SELECT DISTINCT node FROM alarms")
    old = json.dumps({"id": "old", "change": "raised"})
    sql(data, None, {}, "INSERT INTO outbox (node, number, tenant, subject, topic, payload, hops) "
        f"VALUES ('{name}', 1, 0, 'hot', '{ALERTS}', '{old}', 1)")
    node = start_node(**options)
    with Client(node, "pump") as pump:
        pump.publish("plant/p1/temperature", "20")
    found = alerts(node, lambda found: found and found[-1]["change"] == "cleared")
    # The monitor's acknowledgement may not have been written before the kill.
    found = [one for one in found if one != raised]
    assert [(one["id"], one["change"]) for one in found] == [("old", "raised"), (raised["id"], "cleared")]


@pytest.mark.long
def test_kills_shortly_after_the_acknowledgement_lose_no_alert(start_node, tmp_path, variables):
    options = {**configured(tmp_path, text=HOT, data_dir=tmp_path / "data"), "variables": variables}
    node = start_node(**options)
    leave_monitor(node)
    expected = set()
    for turn in range(KILLS):
        with Client(node, f"pump-{turn}") as pump:
            for one in range(5):
                device = f"p{turn}-{one}"
                pump.publish(f"plant/{device}/temperature", "90", qos=1)
                expected.add((device, "raised"))
                if one % 2:
                    pump.publish(f"plant/{device}/temperature", "20", qos=1)
                    expected.add((device, "cleared"))
            time.sleep(random.random() * 0.1)
            crash(node)
        node = start_node(**options)
    open_alarms = {device for device, _ in expected} - {device for device, change in expected if change == "cleared"}
    until(lambda: {one["device"] for one in alarms(node, "?limit=1000")} == open_alarms, node.log)
    alerts(node, lambda found: {(one["device"], one["change"]) for one in found} >= expected)


def test_what_a_rule_publishes_waits_for_room_in_the_store(start_node, tmp_path):
    text = """
[[rules]]
name = "copy"
topics = ["from"]
actions = [{ publish = { topic = "to", payload = "{{ payload }}", qos = 1 } }]
"""
    options = configured(tmp_path, text=text, settings=[
        f"limits.store_bytes={LIMIT}", "limits.store_stalled_secs=5", "http.rate=0", "limits.queued_bytes=1000000000"])
    node = start_node(**options)
    with Client(node, "monitor") as monitor, Client(node, "pump") as pump, Client(node, "filler", V5) as filler:
        monitor.subscribe("to", qos=1)
        fill(node, filler)
        # It does not make the store grow. What follows from it does.
        pump.publish("from", "1", qos=0)
        until(lambda: call(node, "GET", "/rules/copy")["counts"]["matched"] >= 1, node.log)
        shown = lambda: call(node, "GET", "/integrations/rules/main")
        until(lambda: "store of the node is full" in json.dumps(shown()), lambda: json.dumps(shown()))
        # Who wants an acknowledgement of what rules look at waits as long.
        held = pump.client.publish("from", "2", qos=1)
        until(lambda: call(node, "GET", "/integrations/rules/main")["failed_attempts"] > 1, lambda: json.dumps(shown()))
        assert not held.is_published() and call(node, "GET", "/rules/copy")["counts"]["actions"] == 0
        call(node, "DELETE", "/sessions/keeper", status=204)
        assert [monitor.receive_payload() for _ in range(2)] == ["1", "2"]
        held.wait_for_publish(60)
        assert held.is_published()
    until(lambda: call(node, "GET", "/rules/copy")["counts"]["actions"] == 2, node.log)
    assert call(node, "GET", "/rules/copy")["counts"]["errors"] == 0


def test_each_change_that_leads_to_a_message_has_its_test():
    """The list of docs/durability.md: a change without a promise has no test, and says that a message may miss."""
    root = martlet_process.ROOT
    page = (root / "docs/durability.md").read_text()
    table = page.partition("\n| Change | Message |")[2].split("\n\n")[0]
    rows = [line.strip("| ").split(" | ") for line in table.splitlines()[2:]]
    assert len(rows) > 10
    files = [*root.glob("tests/clients/test_*.py"), *root.glob("crates/martlet/tests/**/*.rs")]
    known = {name for file in files for name in re.findall(r"^(?:def test_|fn )(\w+)", file.read_text(), re.M)}
    for change, _, after, tests in rows:
        named = re.findall(r"`(\w+)`", tests)
        assert set(named) <= known, (change, set(named) - known)
        is_promised = not re.search("^(those of the last .* may be missing|may be missing|the next one follows)", after)
        assert bool(named) == is_promised and (named or tests == "no promise"), (change, after, tests)
