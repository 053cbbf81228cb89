"""What rules may cost, and what a message may say of itself: no team and no device is in the way of others."""

import json
import random
import threading
import time

import pytest

import martlet_process
from paho_client import V5, Client, properties
from server_process import free_ports
from test_access import until
from test_alarms import alarms
from test_bridges import bridge_text, until_connected
from test_http_api import ask
from test_rules import call, configured, counts
from test_rules_loops import publish, rule

# The letters are in no order: a matcher that remembers what it has seen has seen nothing of it.
LETTERS = "".join(random.Random(1).choices("ab", k=65_000))


def matches(of, lengths):
    return " || ".join(f"{of}.matches('a[ab]{{{length}}}[cd]')" for length in lengths)


# 41 s for one message, before there was a bound.
SLOW = f"[{' + '.join(['payload'] * 15)}].exists(x, {matches('x', range(230, 243))})"
# As much as is permitted for each message.
PERMITTED = f"['{LETTERS[:3_500]}'].exists(x, {matches('x', range(230, 233))})"


def forged(hops=16):
    return {"properties": properties("PUBLISH", UserProperty=[("martlet-hops", str(hops))])}


@pytest.fixture
def teams(start_node, tmp_path):
    """A node with two teams, and their keys."""
    node = start_node(**configured(tmp_path, text=""))
    keys = {}
    for name in ("north", "south"):
        team = call(node, "POST", "/teams", {"name": name, "owns_tenant": True}, 201)
        made = {"name": f"of {name}", "team": team["id"], "scopes": ["administrator"]}
        keys[name] = call(node, "POST", "/keys", made, 201)["key"]
    return node, keys


def test_a_rule_that_costs_much_holds_up_nobody(teams):
    node, keys = teams
    for number in range(3):
        slow = {"topics": ["t/#"], "when": SLOW, "actions": [{"publish": {"topic": "never"}}]}
        call(node, "PUT", f"/rules/slow{number}", slow, 201, key=keys["north"])
    fast = {"topics": ["f"], "actions": [{"publish": {"topic": "answer", "retain": True}}]}
    call(node, "PUT", "/rules/fast", fast, 201, key=keys["south"])
    call(node, "POST", "/publish", {"topic": "t/1", "payload": LETTERS, "qos": 1}, key=keys["north"])
    call(node, "POST", "/publish", {"topic": "f", "payload": "x", "qos": 1}, key=keys["south"])
    found = lambda: call(node, "GET", "/rules/fast", key=keys["south"])["counts"]
    until(lambda: found()["actions"] == 1, node.log)
    slow = lambda: call(node, "GET", "/rules/slow0", key=keys["north"])["counts"]
    until(lambda: slow()["errors"] == 1, node.log)
    slow = slow()
    assert (slow["errors"], slow["matched"]) == (1, 0), slow
    assert "too much work for one message" in slow["last_error"], slow


def tried(node, key, when, count=1, payload="1"):
    definition = {"topics": ["#"], "when": when, "actions": ["stop"]}
    body = {"definition": definition, "messages": [{"topic": "a", "payload": payload}] * count}
    headers = {"X-API-Key": key, "Content-Type": "application/json"}
    status, headers, answer = ask(node, "/api/v1/rules/test", "POST", headers, json.dumps(body).encode())
    return status, headers, answer.decode()


def test_a_trial_ends_in_time_and_leaves_places_to_other_teams(teams):
    node, keys = teams
    status, _, text = tried(node, keys["north"], SLOW, 2, LETTERS)
    assert status == 200, text
    assert all("too much work" in one["why"] for one in json.loads(text)["items"])
    ended = []
    # More than there are places.
    trials = [threading.Thread(target=lambda: ended.append(tried(node, keys["north"], PERMITTED, 3_000))) for _ in range(4)]
    began = time.monotonic()
    for trial in trials:
        trial.start()
    while time.monotonic() - began < 3 and not ended:
        status, _, text = tried(node, keys["south"], "true")
        assert status == 200, text
    for trial in trials:
        trial.join()
    statuses = sorted(status for status, _, _ in ended)
    assert statuses == [422, 503, 503, 503], [text[:300] for _, _, text in ended]
    [why] = [text for status, _, text in ended if status == 422]
    assert "longer than 10 s" in why
    for status, headers, text in ended:
        assert status == 422 or (headers["Retry-After"] == "5" and "trials" in text), (headers, text)


def test_a_device_cannot_hide_from_alarms_by_what_it_says_of_a_message(start_node, tmp_path):
    text = rule("high", 'topics = ["t/+"]', more="alarm = { threshold = { above = 80 } }")
    text += rule("copies", 'topics = ["t/+"]', publish("copy"))
    text += rule("copied", 'topics = ["copy"]', more="alarm = { threshold = { value = '100', above = 80 } }")
    text += rule("second", 'topics = ["u/+"]', publish("copy"))
    node = start_node(**configured(tmp_path, text=text))
    with Client(node, "pump", version=V5) as pump:
        pump.publish("t/1", "81", **forged())
        until(lambda: [one["name"] for one in alarms(node)] == ["high"], node.log)
        until(lambda: counts(node, "copies")["loops"] == 1, node.log)
        # What follows is looked at too, whatever the message tells.
        pump.publish("u/1", "81", **forged(14))
        until(lambda: {one["name"] for one in alarms(node)} == {"high", "copied"}, node.log)
    assert counts(node, "high")["loops"] == counts(node, "copied")["loops"] == 0
    assert counts(node, "copies")["matched"] == 0


def test_a_loop_over_two_nodes_ends(start_node, tmp_path):
    """Each is a client of the other one, as a device is."""
    ports, names, nodes = free_ports(2), ("ping", "pong"), []
    for own, name in enumerate(names):
        other = names[1 - own]
        place = tmp_path / name
        place.mkdir()
        text = '[integrations]\nallow_private = ["127.0.0.0/8"]\n' + rule(name, f'topics = ["{name}/#"]', publish(f"{other}/x"))
        text += bridge_text(ports[1 - own], f'["{other}/# out 1"]', reconnect_max_secs=1)
        nodes.append(start_node(**configured(place, text=text, listen=(f"mqtt://127.0.0.1:{ports[own]}",))))
    for node in nodes:
        until_connected(node)
    found = lambda key: [counts(node, name)[key] for node, name in zip(nodes, names)]
    with Client(nodes[0], "pump") as pump:
        pump.publish("ping/a", "x")
        until(lambda: sum(found("loops")) == 1, lambda: f"{found('matched')}\n{nodes[0].log()}\n{nodes[1].log()}")
    assert found("matched") == [4, 4]


def test_a_value_that_is_not_finite_raises_no_alarm(start_node, tmp_path):
    limit = "{ above = 80, value = 'double(payload)' }"
    text = rule("high", 'topics = ["t"]', more=f"alarm = {{ threshold = {limit} }}")
    text += rule("quick", 'topics = ["r"]', more="alarm = { rate = { above = 5 } }")
    node = start_node(**configured(tmp_path, text=text))
    with Client(node, "pump") as pump:
        for value in ("inf", "-inf", "NaN"):
            pump.publish("t", value)
        until(lambda: counts(node, "high")["errors"] == 3, node.log)
        assert "finite" in counts(node, "high")["last_error"] and alarms(node) == []
        for value in ("-1e308", "1e308"):
            pump.publish("r", value)
            time.sleep(0.005)  # Two values of one millisecond have no rate.
        until(lambda: len(alarms(node)) == 1, node.log)
    [alarm] = alarms(node)
    assert alarm["value"] > 1e300 and len(alarm["message"]) < 150, alarm


def test_what_is_wrong_with_a_trial_is_named(start_node, tmp_path):
    node = start_node(**configured(tmp_path, text="[telemetry]\nenabled = true\n", data_dir=tmp_path / "data"))
    (tmp_path / "rule.json").write_text(json.dumps({"topics": ["a"], "actions": ["stop"]}))
    (tmp_path / "messages").write_text('{"topic": "a"}\n\n{"topic": }\n')
    done = martlet_process.run("rule", "test", str(tmp_path / "rule.json"), "--messages", str(tmp_path / "messages"),
                               "--data-dir", str(tmp_path / "data"))
    assert done.returncode != 0 and "line 3, column 11" in done.stderr and "line 1" not in done.stderr, done
    body = {"definition": {"telemetry": "a", "actions": ["stop"]}, "history": {"since_secs": 60, "device": "nobody"}}
    problem = call(node, "POST", "/rules/test", body, 422)
    [error] = problem["errors"]
    assert error == {"pointer": "/history/device", "detail": 'there is no device "nobody"'}, problem
    problem = call(node, "POST", "/rules", {"name": "..", "topics": ["a"], "actions": ["stop"]}, 422)
    assert [one["pointer"] for one in problem["errors"]] == ["/name"], problem


def test_a_rule_that_was_not_changed_stays_as_it_is_while_others_change(start_node, tmp_path):
    node = start_node(**configured(tmp_path, text=""))
    keeps = {"topics": ["k"], "when": "payload.matches('^a+$')", "actions": [{"publish": {"topic": "kept"}}]}
    call(node, "PUT", "/rules/keeps", keeps, 201)
    with Client(node, "pump") as pump:
        pump.publish("k", "a")
        until(lambda: counts(node, "keeps")["matched"] == 1, node.log)
        for number in range(20):
            other = {"topics": [f"o/{number}"], "when": f"payload.matches('^b{number}$')", "actions": ["stop"]}
            call(node, "PUT", f"/rules/other{number}", other, 201)
            if number % 2:
                call(node, "DELETE", f"/rules/other{number}", status=204)
        pump.publish("k", "aa")
        pump.publish("k", "b1")
        until(lambda: counts(node, "keeps")["messages"] == 3, node.log)
    assert counts(node, "keeps")["matched"] == 2


def test_publishers_wait_when_the_queue_of_rules_is_full_and_nothing_is_lost(start_node, tmp_path):
    """What rules publish is for rules too, and does not wait: else they would wait for themselves."""
    text = rule("copy", 'topics = ["from/#"]', publish("to", "{{ topic }}"))
    text += rule("all", 'topics = ["#"]', publish("none"), more="when = 'false'")
    settings = ["limits.memory_bytes=33554432", "store.durability=memory", "http.rate=0"]
    node = start_node(**configured(tmp_path, text=text, settings=settings))
    with Client(node, "monitor") as monitor, Client(node, "pump") as pump:
        monitor.subscribe("to", qos=1)
        call(node, "POST", "/integrations/rules/main/pause", status=204)
        sent = []

        def holds():
            sent.append(pump.client.publish(f"from/{len(sent)}", bytes(100_000), 1))
            return any("clients that publish for it wait" in one for one in call(node, "GET", "/health")["warnings"])

        until(holds, node.log)
        # Rules have neither the key nor a target.
        told = json.dumps(node.why("rules/main"))
        assert "its queue is full" in told and "martlet rule ls" in told and "max_bytes" not in told, told
        call(node, "POST", "/integrations/rules/main/resume", status=204)
        assert [monitor.receive_payload() for _ in sent] == [f"from/{number}" for number in range(len(sent))]
        for one in sent:
            one.wait_for_publish(60)
