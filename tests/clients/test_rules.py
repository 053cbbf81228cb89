"""Rules about messages: what they do, that they are durable, that they end, and who may write them."""

import datetime
import json
import re
import time

import pytest

import martlet_process
from paho_client import Client
from test_access import until
from test_http_api import KEY, KEYS, VIEWER, ask
from test_webhook_formats import Requests

PASSWORD = "correct horse"

RULES = r"""
[[rules]]
name = "hot"
topics = ["plant/+/temperature"]
when = "payload > 80"
actions = [
    { publish = { topic = "alerts/{{ levels[1] }}", payload = '{"t": {{ payload }}}', qos = 1, retain = true } },
]

[[rules]]
name = "zero"
topics = ["math"]
when = "payload.a / payload.b > 1"
actions = [{ publish = { topic = "never" } }]

[[rules]]
name = "there"
topics = ["ping/a"]
actions = [{ publish = { topic = "ping/b" } }]

[[rules]]
name = "back"
topics = ["ping/b"]
actions = [{ publish = { topic = "ping/a" } }]

[[rules]]
name = "bounded"
topics = ["limited"]
publish_as = "eva"
actions = [{ publish = { topic = "closed/x" } }, { publish = { topic = "open/x" } }]
"""


@pytest.fixture
def receiver():
    made = Requests()
    yield made
    made.close()


def configured(tmp_path, text=RULES, **more):
    path = tmp_path / "martlet.toml"
    path.write_text(text)
    settings = ["http.rate=0", *more.pop("settings", [])]
    return {"http": True, "variables": KEYS, "settings": settings, "arguments": ["-c", str(path)], **more}


def call(node, method, path, body=None, status=200, headers=(), key=KEY):
    """The answer's body, read as JSON."""
    headers = {"X-API-Key": key, "Content-Type": "application/json", **dict(headers)}
    data = None if body is None else json.dumps(body).encode()
    found, _, text = ask(node, "/api/v1" + path, method, headers, data)
    assert found == status, (method, path, found, text[:2000])
    return json.loads(text) if text else None


def crash(node):
    """The process ends at once."""
    node.process.kill()
    node.process.wait()


def add_user(node, name):
    """A user who may do everything: once there are devices, clients say who they are."""
    call(node, "POST", "/roles", {"name": f"{name}-role", "rules": ["topic readwrite #"]}, 201)
    user = {"name": name, "password": PASSWORD, "role": f"{name}-role"}
    call(node, "POST", "/users", user, 201)


def counts(node, name):
    return call(node, "GET", f"/rules/{name}")["counts"]


def test_a_rule_of_the_configuration_publishes(start_node, tmp_path):
    node = start_node(**configured(tmp_path))
    with Client(node, "monitor") as monitor, Client(node, "pump") as pump:
        monitor.subscribe("alerts/#", qos=1)
        pump.publish("plant/7/temperature", "79", qos=1)
        pump.publish("plant/7/temperature", "81", qos=1)
        pump.publish("plant/8/temperature", '"hot"', qos=1)
        message = monitor.receive()
        assert (message.topic, message.payload) == ("alerts/7", b'{"t": 81}')
        # A message is counted before what has become of it.
        told = lambda: [counts(node, "hot")[name] for name in ("messages", "matched", "actions", "errors")]
        until(lambda: told() == [3, 1, 1, 1], node.log)
    found = counts(node, "hot")
    assert "another type" in found["last_error"]
    shown = call(node, "GET", "/integrations/rules/main")
    assert (shown["state"], shown["dead_letters"]) == ("running", 0)


def test_division_by_zero_is_an_error_that_is_shown_and_the_rule_goes_on(start_node, tmp_path):
    node = start_node(**configured(tmp_path))
    with Client(node, "pump") as pump:
        pump.publish("math", '{"a": 1, "b": 0}')
        pump.publish("math", '{"a": 1}')
        until(lambda: counts(node, "zero")["messages"] == 2, node.log)
        found = counts(node, "zero")
        assert (found["errors"], found["missing"], found["matched"]) == (1, 1, 0), found
        assert found["last_error"] == "division by zero"
        pump.publish("math", '{"a": 4, "b": 2}')
        until(lambda: counts(node, "zero")["matched"] == 1, node.log)


def test_rules_that_answer_each_other_end(start_node, tmp_path):
    node = start_node(**configured(tmp_path))
    with Client(node, "monitor") as monitor, Client(node, "pump") as pump:
        monitor.subscribe("ping/#", qos=1)
        pump.publish("ping/a", "x")
        until(lambda: counts(node, "there")["loops"] + counts(node, "back")["loops"] == 1, node.log)
        got = [monitor.receive().topic for _ in range(9)]
        monitor.expect_no_message()
    # The message itself, and eight that rules have made of it.
    assert got == ["ping/a", "ping/b"] * 4 + ["ping/a"]
    assert "loop" in counts(node, "there")["last_error"]


def test_rules_act_after_routing_and_stop_no_message(start_node, tmp_path):
    """A subscriber has the message whatever a rule says of it, and while rules are not evaluated."""
    text = """
[[rules]]
name = "first"
topics = ["in"]
actions = [{ publish = { topic = "out/first" } }, "stop"]

[[rules]]
name = "second"
topics = ["in"]
actions = [{ publish = { topic = "out/second" } }]
"""
    node = start_node(**configured(tmp_path, text=text))
    with Client(node, "monitor") as monitor, Client(node, "pump") as pump:
        monitor.subscribe("in", qos=1)
        monitor.subscribe("out/#", qos=1)
        call(node, "POST", "/integrations/rules/main/pause", status=204)
        pump.publish("in", "x")
        assert monitor.receive().topic == "in"
        monitor.expect_no_message()
        call(node, "POST", "/integrations/rules/main/resume", status=204)
        assert monitor.receive().topic == "out/first"
        until(lambda: counts(node, "first")["actions"] >= 1, node.log)
        monitor.expect_no_message()
    assert counts(node, "second")["messages"] == 0


def test_a_message_waits_for_its_rule_over_a_crash(start_node, tmp_path):
    options = configured(tmp_path, data_dir=tmp_path / "data")
    node = start_node(**options)
    call(node, "POST", "/integrations/rules/main/pause", status=204)
    with Client(node, "pump") as pump:
        pump.publish("plant/1/temperature", "99")
    crash(node)
    node = start_node(**options)
    with Client(node, "monitor") as monitor:
        monitor.subscribe("alerts/1", qos=1)
        call(node, "POST", "/integrations/rules/main/resume", status=204)
        assert monitor.receive_payload() == '{"t": 99}'


def test_the_rules_of_its_user_limit_what_a_rule_publishes(start_node, tmp_path):
    node = start_node(**configured(tmp_path))
    call(node, "POST", "/roles", {"name": "open", "rules": ["topic write open/#"]}, 201)
    call(node, "POST", "/users", {"name": "eva", "role": "open", "password": "long enough 1"}, 201)
    call(node, "POST", "/roles", {"name": "all", "rules": ["topic readwrite #"]}, 201)
    call(node, "POST", "/users", {"name": "ada", "role": "all", "password": "long enough 2"}, 201)
    with Client(node, "monitor").credentials("ada", "long enough 2") as monitor:
        monitor.subscribe("open/#", qos=1)
        monitor.subscribe("closed/#", qos=1)
        monitor.publish("limited", "x")
        assert monitor.receive().topic == "open/x"
        monitor.expect_no_message()
    until(lambda: [counts(node, "bounded")[key] for key in ("actions", "errors")] == [1, 1], node.log)
    found = counts(node, "bounded")
    assert "closed/x" in found["last_error"] and "do not permit" in found["last_error"]


def test_rules_are_added_changed_and_removed_by_the_api(start_node, tmp_path):
    node = start_node(**configured(tmp_path))
    rule = {"topics": ["a/#"], "when": "payload == 'on'", "actions": [{"publish": {"topic": "b"}}]}
    made = call(node, "POST", "/rules", {"name": "copy", **rule}, 201)
    assert (made["origin"], made["enabled"], made["revision"]) == ("api", True, 1)
    assert call(node, "POST", "/rules", {"name": "copy", **rule}, 409)
    assert call(node, "POST", "/rules", {"name": "hot", **rule}, 409)["detail"].startswith("the configuration")
    with Client(node, "monitor") as monitor, Client(node, "pump") as pump:
        monitor.subscribe("b", qos=1)
        pump.publish("a/1", "on")
        assert monitor.receive_payload() == "on"
        call(node, "PATCH", "/rules/copy", {"enabled": False}, 412, {"If-Match": '"7"'})
        off = call(node, "PATCH", "/rules/copy", {"enabled": False}, 200, {"If-Match": '"7", "1"'})
        assert (off["enabled"], off["definition"]["when"]) == (False, "payload == 'on'")
        pump.publish("a/1", "on")
        # Once a rule has seen this one, that before it was looked at.
        pump.publish("plant/1/temperature", "1")
        until(lambda: counts(node, "hot")["messages"] == 1, node.log)
        call(node, "PUT", "/rules/copy", {**rule, "when": "true"})
        pump.publish("a/1", "again")
        assert monitor.receive_payload() == "again"
        call(node, "DELETE", "/rules/copy", status=204)
        pump.publish("a/1", "on")
        monitor.expect_no_message()
    assert call(node, "GET", "/rules/copy", status=404)
    names = [one["name"] for one in call(node, "GET", "/rules")["items"]]
    assert names == ["hot", "zero", "there", "back", "bounded"]
    audit = [one["action"] for one in call(node, "GET", "/audit?object_kind=rule")["items"]]
    assert sorted(audit) == ["rule.add", "rule.change", "rule.change", "rule.remove"]


def test_rules_of_the_api_survive_a_restart(start_node, tmp_path):
    options = configured(tmp_path, text="", data_dir=tmp_path / "data")
    node = start_node(**options)
    rule = {"topics": ["a"], "actions": [{"publish": {"topic": "b"}}]}
    call(node, "PUT", "/rules/copy", rule, 201)
    node.terminate()
    node.wait()
    node = start_node(**options)
    with Client(node, "monitor") as monitor, Client(node, "pump") as pump:
        monitor.subscribe("b", qos=1)
        pump.publish("a", "x")
        assert monitor.receive_payload() == "x"


@pytest.mark.parametrize(("change", "key"), [
    ({"when": "payload.a.all(x, x.b.exists(y, y > 1))"}, "/when"),
    ({"when": "nothing > 1"}, "/when"),
    ({"when": "payload >"}, "/when"),
    ({"topics": ["a/#/b"]}, "/topics"),
    ({"actions": []}, "/actions"),
    ({"actions": [{"publish": {"topic": "a/+"}}]}, "/actions/0/publish/topic"),
])
def test_what_is_wrong_with_a_rule_is_named(start_node, tmp_path, change, key):
    node = start_node(**configured(tmp_path, text=""))
    rule = {"topics": ["a"], "actions": ["stop"], **change}
    problem = call(node, "PUT", "/rules/wrong", rule, 422)
    assert [one["pointer"] for one in problem["errors"]] == [key], problem
    # No names of the parser's tokens.
    assert not re.search(r"expecting|[A-Z]{4}|<EOF>|input", problem["errors"][0]["detail"]), problem


def test_a_sign_that_there_is_not_is_named_with_its_place(start_node, tmp_path):
    node = start_node(**configured(tmp_path, text=""))
    for when, said in (("payload >> 3", "1:10: unexpected '>'"), ("payload > ", "unexpected end of the expression"),
                       ("payload => 3", "1:9: unexpected '=>'"), ("payload ; 1", "1:9: unexpected ';'"),
                       ("payload[", "1:9: unexpected end of the expression"),
                       ("payload.t = 5", "; write == to compare")):
        problem = call(node, "PUT", "/rules/wrong", {"topics": ["a"], "actions": ["stop"], "when": when}, 422)
        assert said in problem["errors"][0]["detail"], problem


@pytest.mark.parametrize(("rule", "where"), [("", "topics: "), ('{"topics": ["a/#/b"], "actions": ["stop"]}', "topics: ")])
def test_what_is_wrong_with_the_file_of_a_rule_is_said_of_the_file(start_node, tmp_path, rule, where):
    node = start_node(**configured(tmp_path, text=""))
    file = tmp_path / "rule.json"
    file.write_text(rule)
    done = martlet_process.run("rule", "add", "r1", str(file), "--data-dir", node.data_dir)
    assert done.returncode == 1 and f"{file}: {where}" in done.stderr and "--" not in done.stderr, done.stderr


def test_a_rule_is_tried_and_nothing_is_done(start_node, tmp_path):
    node = start_node(**configured(tmp_path))
    messages = [{"topic": "plant/1/temperature", "payload_json": value} for value in (70, 90)]
    messages.append({"topic": "other", "payload": "x"})
    with Client(node, "monitor") as monitor:
        monitor.subscribe("#", qos=1)
        tried = call(node, "POST", "/rules/test", {"name": "hot", "messages": messages})["items"]
        monitor.expect_no_message()
    assert [one["verdict"] for one in tried] == ["unmatched", "matched", None]
    # Without a time, the last message is received now, and each other one a second before the next.
    times = [datetime.datetime.fromisoformat(one["at"]).timestamp() for one in tried]
    assert abs(times[2] - time.time()) < 30 and times[2] - times[1] == pytest.approx(1) == times[1] - times[0], times
    publish = {"topic": "alerts/1", "payload": '{"t": 90}', "qos": 1, "retain": True}
    assert tried[1]["actions"] == [{"publish": publish}]
    alarm = {"topics": ["t"], "alarm": {"threshold": {"above": 80, "clear": 70}, "for_secs": 60}}
    readings = [{"topic": "t", "payload": str(value), "at": f"2026-01-01T00:0{at}:00Z"}
                for at, value in enumerate([85, 90, 75, 60])]
    tried = call(node, "POST", "/rules/test", {"definition": alarm, "messages": readings})["items"]
    changes = [[action["alarm"]["change"] for action in one["actions"]] for one in tried]
    assert changes == [[], ["raised"], [], ["cleared"]]
    assert call(node, "GET", "/alarms?state=active,cleared")["items"] == []


def test_a_viewer_sees_rules_and_changes_none(start_node, tmp_path):
    node = start_node(**configured(tmp_path))
    assert len(call(node, "GET", "/rules", key=VIEWER)["items"]) == 5
    call(node, "PUT", "/rules/x", {"topics": ["a"], "actions": ["stop"]}, 403, key=VIEWER)


def test_the_configuration_names_what_is_wrong(tmp_path):
    path = tmp_path / "martlet.toml"
    for text, words in [
        ('[[rules]]\ntopics = ["a"]\nactions = ["stop"]\n', "it needs `name`"),
        ('[[rules]]\nname = "a"\ntopics = ["a"]\nactions = ["stop"]\nwhen = "foo"\n', 'there is no "foo"'),
        ('[[rules]]\nname = "a"\ntopics = ["a"]\nthen = 1\n', "unknown key `then`; did you mean `when`?"),
        ('[[rules]]\nname = "a"\nevents = ["x"]\nactions = ["stop"]\n', "device_inactive"),
    ]:
        path.write_text(text)
        done = martlet_process.run("config", "check", "-c", str(path))
        assert done.returncode != 0 and words in done.stdout + done.stderr, done


def test_a_rule_sends_a_webhook_a_command_and_a_value(start_node, tmp_path, receiver):
    text = f"""
[integrations]
allow_private = "127.0.0.0/8"

[telemetry]
enabled = true

[[sinks.webhook]]
name = "crm"
filters = ["crm/#"]
url = "{receiver.url}"

[[rules]]
name = "all"
topics = ["in"]
actions = [
    {{ webhook = {{ name = "crm", payload = "hook {{{{ payload.n }}}}" }} }},
    {{ webhook = {{ name = "gone" }} }},
    {{ command = {{ device = "pump", command = "reboot", parameters = '{{"n": 1}}' }} }},
    {{ telemetry = {{ device = "pump", key = "twice", value = "payload.n * 2" }} }},
]
"""
    node = start_node(**configured(tmp_path, text=text))
    call(node, "POST", "/devices", {"id": "pump"}, 201)
    add_user(node, "ada")
    with Client(node, "c").credentials("ada", PASSWORD) as client:
        client.publish("in", '{"n": 4}')
        until(lambda: counts(node, "all")["actions"] == 3, node.log)
    until(lambda: [body["payload"] for body in receiver.bodies()] == ["hook 4"], node.log)
    [command] = call(node, "GET", "/devices/pump/commands")["items"]
    assert (command["command"], command["parameters"], command["asked_by"]) == ("reboot", {"n": 1}, "rule all")
    found = call(node, "GET", "/devices/pump/telemetry/latest")
    assert "8" in json.dumps(found), found
    found = counts(node, "all")
    assert found["errors"] == 1 and 'no webhook "gone"' in found["last_error"]


def test_values_of_rules_are_stored_many_at_a_time(start_node, tmp_path):
    """Each of 1,000 values would wait 25 ms and more for a sync of its own."""
    text = """
[telemetry]
enabled = true

[[rules]]
name = "keep"
topics = ["in/+"]
actions = [ { telemetry = { device = "pump", key = "n", value = "payload.n" } } ]
"""
    node = start_node(**configured(tmp_path, text=text))
    call(node, "POST", "/devices", {"id": "pump"}, 201)
    add_user(node, "ada")
    with Client(node, "c").credentials("ada", PASSWORD) as client:
        for number in range(1000):
            client.client.publish(f"in/{number}", json.dumps({"n": number}), 1)
        until(lambda: counts(node, "keep")["messages"] > 0, node.log)
        until(lambda: counts(node, "keep")["actions"] == 1000, node.log, 60)
    found = call(node, "GET", "/devices/pump/telemetry?keys=n&from=-1h&limit=2000")
    assert sorted(row["value"] for row in found["items"]) == list(range(1000))


def test_a_rule_looks_at_telemetry_and_events(start_node, tmp_path):
    text = """
[telemetry]
enabled = true

[[rules]]
name = "warm"
telemetry = "temp"
device_tag = "north"
when = "value > 20 && device.type == 'device'"
actions = [{ publish = { topic = "warm/{{ device.id }}", payload = "{{ value }}" } }]

[[rules]]
name = "gone"
events = ["disconnected"]
when = "event.client_id == 'car'"
actions = [{ publish = { topic = "gone" , payload = "{{ event.client_id }}" } }]
"""
    node = start_node(**configured(tmp_path, text=text))
    call(node, "POST", "/devices", {"id": "p1", "tags": ["north"]}, 201)
    call(node, "POST", "/devices", {"id": "p2"}, 201)
    add_user(node, "ada")
    with Client(node, "monitor").credentials("ada", PASSWORD) as monitor:
        monitor.subscribe("warm/#", qos=1)
        monitor.subscribe("gone", qos=1)
        with Client(node, "car").credentials("ada", PASSWORD) as car:
            for device in ("p2", "p1"):
                car.publish(f"iotflow/devices/{device}/telemetry/sensors", '{"temp": 21.5, "hum": 3}')
            message = monitor.receive()
            assert (message.topic, message.payload) == ("warm/p1", b"21.5")
        message = monitor.receive()
        assert (message.topic, message.payload) == ("gone", b"car")
