"""Rules that lead to themselves end, whichever way what they do comes back to them."""

import json

from paho_client import Client
from test_alarms import alarms
from test_http_api import KEY, ask
from test_rules import PASSWORD, add_user, call, configured, counts
from test_sinks import until

# A chain of single consequences ends after so many.
CHAIN = 8


def rule(name, source, *actions, more=""):
    listed = ", ".join("{ %s }" % action for action in actions)
    actions = f"actions = [{listed}]" if actions else ""
    return f'[[rules]]\nname = "{name}"\n{source}\n{actions}\n{more}\n'


def publish(topic, payload="x"):
    return f"publish = {{ topic = \"{topic}\", payload = '{payload}' }}"


def until_loops(node, name, loops=1):
    until(lambda: counts(node, name)["loops"] >= loops, lambda: f"{counts(node, name)}\n{node.log()}")
    return counts(node, name)


def test_a_rule_that_multiplies_its_own_messages_ends(start_node, tmp_path):
    many = [publish(f"own/{n}") for n in range(16)]
    node = start_node(**configured(tmp_path, text=rule("many", 'topics = ["own/#"]', *many, more="own = true")))
    with Client(node, "pump") as pump:
        pump.publish("own/x", "x", qos=1)
        found = until_loops(node, "many", loops=16 * 16 * 16)
    # The message itself, those that follow from it, and those that follow from these.
    assert found["matched"] == 1 + 16 + 16 * 16, found
    assert found["messages"] == found["matched"] + found["loops"] == 4_369, found
    assert "treated as a loop" in found["last_error"]


def test_many_consequences_of_one_message_have_consequences(start_node, tmp_path):
    """What is looked at for loops is no limit for rules that follow each other."""
    text = "[telemetry]\nenabled = true\n"
    text += rule("each", 'telemetry = "t"', publish("one/{{ value }}"))
    text += rule("then", 'topics = ["one/#"]', publish("two/{{ levels[1] }}"))
    node = start_node(**configured(tmp_path, text=text))
    call(node, "POST", "/devices", {"id": "p1"}, 201)
    values = "".join(json.dumps({"ts": 1_700_000_000_000 + n, "values": {"t": n}}) + "\n" for n in range(300))
    headers = {"X-API-Key": KEY, "Content-Type": "application/x-ndjson"}
    status, _, answer = ask(node, "/api/v1/devices/p1/telemetry", "POST", headers, values.encode())
    assert status < 300, answer
    until(lambda: counts(node, "then")["actions"] == 300, lambda: f"{counts(node, 'then')}\n{node.log()}")
    assert (counts(node, "each")["loops"], counts(node, "then")["loops"]) == (0, 0)


def test_alarms_that_are_raised_by_alerts_about_them_end(start_node, tmp_path):
    """Each alarm has a subject of its own, and is raised after a time."""
    condition = "{ raise_when = \"payload.change == 'raised'\" }"
    alarm = f'device = "{{{{ payload.id }}}}"\nalarm = {{ for_secs = 1, condition = {condition} }}'
    text = rule("again", 'topics = ["iotflow/system/alarms"]', more=alarm)
    text += rule("first", 'topics = ["start"]', "alarm = { raise = 'first' }")
    node = start_node(**configured(tmp_path, text=text))
    with Client(node, "pump") as pump:
        pump.publish("start", "x")
        found = until_loops(node, "again")
    assert found["matched"] < CHAIN, found
    assert len([alarm for alarm in alarms(node) if alarm["name"] == "again"]) == found["matched"]


def test_alarms_that_silence_raises_end(start_node, tmp_path):
    text = rule("again", 'topics = ["iotflow/system/alarms"]', more="alarm = { no_data = { after_secs = 1 } }")
    text += rule("first", 'topics = ["start"]', "alarm = { raise = 'first' }")
    node = start_node(**configured(tmp_path, text=text))
    with Client(node, "pump") as pump:
        pump.publish("start", "x")
        found = until_loops(node, "again")
    assert found["messages"] <= CHAIN, found


def test_a_command_that_leads_to_commands_ends(start_node, tmp_path):
    text = rule("again", 'topics = ["d/+/commands/#"]', 'command = { device = "{{ levels[1] }}", command = "more" }')
    node = start_node(**configured(tmp_path, text=text))
    call(node, "POST", "/devices", {"id": "pump"}, 201)
    call(node, "POST", "/devices/pump/commands", {"command": "one"}, 201)
    found = until_loops(node, "again")
    assert found["matched"] == CHAIN, found
    assert len(call(node, "GET", "/devices/pump/commands")["items"]) == CHAIN + 1


def test_requests_for_pending_commands_end(start_node, tmp_path):
    text = rule("again", 'topics = ["d/+/commands/#"]', publish("d/{{ levels[1] }}/status/command/pending"))
    node = start_node(**configured(tmp_path, text=text))
    call(node, "POST", "/devices", {"id": "pump"}, 201)
    call(node, "POST", "/devices/pump/commands", {"command": "one"}, 201)
    found = until_loops(node, "again")
    assert found["matched"] <= CHAIN, found


def test_a_twin_that_leads_to_itself_ends(start_node, tmp_path):
    text = '[events]\npublish = "twin_changed"\n'
    text += rule("changed", 'events = ["twin_changed"]', publish("d/pump/twin/reported", '{ "n": {{ time }} }'))
    text += rule("wrong", 'topics = ["d/pump/config/error"]', publish("d/pump/twin/reported", "wrong"))
    text += rule("asks", 'topics = ["d/pump/config"]', publish("d/pump/twin/get"))
    node = start_node(**configured(tmp_path, text=text))
    call(node, "POST", "/devices", {"id": "pump"}, 201)
    add_user(node, "ada")
    call(node, "PATCH", "/devices/pump/twin/desired", {"led": 1})
    until_loops(node, "changed")
    until_loops(node, "asks")
    with Client(node, "c").credentials("ada", PASSWORD) as client:
        client.publish("d/pump/twin/reported", "wrong")
        until_loops(node, "wrong")
    for name in ("changed", "asks", "wrong"):
        assert counts(node, name)["matched"] <= CHAIN + 1, counts(node, name)


def test_a_refused_message_of_a_rule_leads_to_no_other(start_node, tmp_path):
    """Events about what rules publish are not for rules."""
    text = '[events]\npublish = "publish_refused"\n'
    text += rule("refused", 'events = ["publish_refused"]', publish("closed/x"), more='publish_as = "eva"')
    text += rule("starts", 'topics = ["start"]', publish("closed/x"), more='publish_as = "eva"')
    node = start_node(**configured(tmp_path, text=text))
    call(node, "POST", "/roles", {"name": "eva", "rules": ["topic readwrite open/#", "topic write start"]}, 201)
    call(node, "POST", "/users", {"name": "eva", "password": PASSWORD, "role": "eva"}, 201)
    with Client(node, "c").credentials("eva", PASSWORD) as client:
        client.publish("start", "x")
        until(lambda: counts(node, "starts")["errors"] == 1, node.log)
        client.publish("closed/y", "x", qos=0)
        until(lambda: counts(node, "refused")["matched"] >= 1, node.log)
    assert counts(node, "refused")["matched"] == 1
