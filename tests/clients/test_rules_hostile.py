"""Rules that loop, explode, panic or divide by zero; rules of teams; their webhooks, values and metrics."""

import json
import re

import pytest

import martlet_process
from paho_client import Client
from test_access import until
from test_alarms import alarms
from test_http_api import KEY, ask
from test_rules import PASSWORD, add_user, call, configured, crash
from test_webhook_formats import Requests


@pytest.fixture
def receiver():
    made = Requests()
    yield made
    made.close()


# Whatever they are, the node answers and goes on.
EXPRESSIONS = [
    "1 / 0", "1 % 0", "-payload", "payload * payload * payload", "payload[-1]", "payload[9223372036854775807]",
    "json(" * 20 + "payload" + ")" * 20 + " == ''", " + ".join(["payload"] * 17) + " == ''",
    "[" + ", ".join(["payload"] * 60) + "] == []", "payload.map(x, [x, x, x, x, x, x]).size() > 0",
    "payload.all(x, x.all(y, y > 1))", "payload.map(x, x + x)[0] == ''", "!" * 600 + "true", "(" * 600, "{" * 30,
    "'" + "x" * 5000 + "' == ''", "'\\u{110000}' == ''", "b'\\xff' == payload", "r'\\' == ''", "'\\",
    "duration('999999999999h') > 1", "timestamp('99999-01-01T00:00:00Z') > 1", "int(1e400) > 1", "9223372036854775808 > 1",
    "payload.matches('(a{1000}){1000}')", "payload.matches('(x+x+)+y')", "payload ? payload : payload", "a.b.c.d", "\x00", "",
    "has(payload)", "payload{a: 1}", "type(payload) == int", ".payload == 1", "payload.?a", "payload[?0]", "cel.bind(x, payload, x)",
]
PAYLOADS = ["0", "-9223372036854775808", "1e308", '"' + "\\\"" * 20000 + '"', "[" * 100 + "]" * 100, "[" * 100000,
            json.dumps(list(range(1500))), json.dumps({"a": {"a": 1}}), "\xff", "x" * 70000, ""]


def test_no_expression_and_no_payload_end_the_node(start_node, tmp_path):
    node = start_node(**configured(tmp_path, text=""))
    messages = [{"topic": "t", "payload": payload} for payload in PAYLOADS]
    put = 0
    for number, when in enumerate(EXPRESSIONS):
        definition = {"topics": ["t"], "when": when, "actions": [{"publish": {"topic": "out"}}]}
        body = json.dumps({"definition": definition, "messages": messages}).encode()
        headers = {"X-API-Key": KEY, "Content-Type": "application/json"}
        status, _, text = ask(node, "/api/v1/rules/test", "POST", headers, body)
        assert status in (200, 422), (when, status, text[:500])
        if status == 422:
            continue
        verdicts = {one["verdict"] for one in json.loads(text)["items"]}
        assert verdicts <= {"matched", "unmatched", "missing", "failed"}, (when, verdicts)
        call(node, "PUT", f"/rules/r{number}", definition, 201)
        put += 1
    assert put > 10
    good = {"topics": ["t"], "when": "payload == 'last'", "actions": [{"publish": {"topic": "good"}}]}
    call(node, "PUT", "/rules/zz", good, 201)
    with Client(node, "monitor") as monitor, Client(node, "pump") as pump:
        monitor.subscribe("good", qos=1)
        for payload in PAYLOADS:
            pump.publish("t", payload.encode("latin-1", "replace"))
        pump.publish("t", "last")
        assert monitor.receive_payload() == "last"
    shown = call(node, "GET", "/integrations/rules/main")
    assert (shown["state"], shown["dead_letters"]) == ("running", 0)
    assert "panicked" not in node.log()


def test_a_rule_has_a_webhook_of_its_own_for_a_url(start_node, tmp_path, receiver):
    text = f"""
[integrations]
allow_private = ["127.0.0.0/8"]

[[rules]]
name = "told"
topics = ["in"]
actions = [{{ webhook = {{ url = "{receiver.url}", payload = "n is {{{{ payload.n }}}}" }} }}]
"""
    node = start_node(**configured(tmp_path, text=text, data_dir=tmp_path / "data"))
    with Client(node, "pump") as pump:
        pump.publish("in", '{"n": 4}')
        until(lambda: [body["payload"] for body in receiver.bodies()] == ["n is 4"], node.log)
        # One of the API, which holds up nothing while its server fails.
        receiver.answer = lambda body: 503 if body["payload"] == "slow" else 204
        slow = {"topics": ["slow"], "actions": [{"webhook": {"url": receiver.url}}]}
        call(node, "PUT", "/rules/slow", slow, 201)
        pump.publish("slow", "slow")
        pump.publish("in", '{"n": 5}')
        until(lambda: "n is 5" in [body["payload"] for body in receiver.bodies()], node.log)
        shown = lambda: call(node, "GET", "/integrations/rule-webhook/slow.0")
        until(lambda: shown()["lag"] == 1, lambda: json.dumps(shown()))
        call(node, "DELETE", "/rules/slow", status=204)
        call(node, "GET", "/integrations/rule-webhook/slow.0", status=404)
        problem = call(node, "PUT", "/rules/bad", {"topics": ["a"], "actions": [{"webhook": {"url": "ftp://x"}}]}, 422)
        assert [one["pointer"] for one in problem["errors"]] == ["/actions/0/webhook/url"], problem
        both = {"topics": ["a"], "actions": [{"webhook": {"url": receiver.url, "name": "x"}}]}
        call(node, "PUT", "/rules/bad", both, 422)
        call(node, "PUT", f"/rules/{'n' * 63}", slow, 422)


def test_the_url_of_a_rule_is_not_in_a_private_network_unless_that_is_allowed(start_node, tmp_path, receiver):
    node = start_node(**configured(tmp_path, text=""))
    rule = {"topics": ["in"], "actions": [{"webhook": {"url": receiver.url}}]}
    port = receiver.url.rsplit(":", 1)[1].partition("/")[0]
    for url in (receiver.url, f"http://localhost:{port}"):
        rule["actions"][0]["webhook"]["url"] = url
        problem = call(node, "PUT", "/rules/told", rule, 422)
        [error] = problem["errors"]
        assert error["pointer"] == "/actions/0/webhook/url" and "allow_private" in json.dumps(error), problem
    bridge = {"url": f"mqtt://localhost:{port}", "topics": [{"filter": "a/#", "direction": "out"}]}
    assert "allow_private" in json.dumps(call(node, "PUT", "/bridges/told", bridge, 422))


def test_a_rule_about_telemetry_looks_at_values_that_are_sent_by_http(start_node, tmp_path):
    text = """
[telemetry]
enabled = true

[[rules]]
name = "warm"
telemetry = "temp"
when = "value > 20"
actions = [{ publish = { topic = "warm/{{ device.id }}", payload = "{{ value }} at {{ time }}" } }]
alarm = { threshold = { above = 50 } }
"""
    node = start_node(**configured(tmp_path, text=text))
    call(node, "POST", "/devices", {"id": "p1"}, 201)
    add_user(node, "ada")
    with Client(node, "monitor").credentials("ada", PASSWORD) as monitor:
        monitor.subscribe("warm/#", qos=1)
        call(node, "POST", "/devices/p1/telemetry", {"ts": 1790000000000, "values": {"temp": 21.5, "hum": 3}}, 201)
        message = monitor.receive()
        assert (message.topic, message.payload) == ("warm/p1", b"21.5 at 1790000000000")
        call(node, "POST", "/devices/p1/telemetry", {"temp": 3}, 201)
        call(node, "POST", "/devices/p1/telemetry", {"temp": 60}, 201)
        assert monitor.receive().payload.startswith(b"60 at ")
    until(lambda: [(one["name"], one["device"]) for one in alarms(node)] == [("warm", "p1")], node.log)


def test_a_rule_is_tried_on_the_past(start_node, tmp_path):
    text = """
[telemetry]
enabled = true

[messages]
keep = "log/#"
"""
    node = start_node(**configured(tmp_path, text=text, data_dir=tmp_path / "data"))
    call(node, "POST", "/devices", {"id": "p1"}, 201)
    add_user(node, "ada")
    with Client(node, "pump").credentials("ada", PASSWORD) as pump:
        for value in (70, 90, 60):
            pump.publish("log/a", str(value))
    rule = {"topics": ["log/#"], "alarm": {"threshold": {"above": 80}}}
    tried = lambda: call(node, "POST", "/rules/test", {"definition": rule, "history": {"since_secs": 600}})["items"]
    until(lambda: len(tried()) == 3, node.log)
    assert [[action["alarm"]["change"] for action in one["actions"]] for one in tried()] == [[], ["raised"], ["cleared"]]
    for value in (3, 25):
        call(node, "POST", "/devices/p1/telemetry", {"temp": value}, 201)
    path = tmp_path / "warm.json"
    path.write_text(json.dumps({"telemetry": "temp", "when": "value > 20", "actions": [{"publish": {"topic": "w"}}]}))
    done = martlet_process.run("rule", "test", str(path), "--since", "1h", "--device", "p1", "--data-dir", str(tmp_path / "data"))
    assert done.returncode == 0 and "2 messages, 1 matched, 0 failed. Nothing was done." in done.stdout, done


def test_metrics_tell_of_rules_and_alarms(start_node, tmp_path):
    text = """
[[rules]]
name = "hot"
topics = ["temp"]
when = "payload.t > 1"
actions = [{ publish = { topic = "out" } }, { webhook = { name = "gone" } }]
alarm = { severity = "major", condition = { raise_when = "true" } }
"""
    node = start_node(**configured(tmp_path, text=text))

    def metric(name, **labels):
        page = ask(node, "/metrics", headers={"X-API-Key": KEY})[2].decode()
        for line in page.splitlines():
            found = re.fullmatch(rf"martlet_{name}(?:{{(.*)}})? (.*)", line)
            if found and all(f'{label}="{value}"' in (found[1] or "") for label, value in labels.items()):
                return float(found[2])
        return None

    assert metric("rules") == 1 and metric("alarms_open", severity="major", state="active") == 0
    with Client(node, "pump") as pump:
        for payload in ('{"t": 2}', '{"t": 0}', "{}", '{"t": "x"}'):
            pump.publish("temp", payload)
        until(lambda: metric("rules_messages_total", rule="hot") == 4, node.log)
    assert metric("rules_matched_total", rule="hot") == 1
    assert metric("rules_missing_total", rule="hot") == 1
    # The last message, and the action without a webhook.
    assert metric("rules_errors_total", rule="hot") == 2
    assert metric("rules_evaluation_seconds_total", rule="hot") > 0
    assert metric("rules_actions_total", action="publish", outcome="done") == 1
    assert metric("rules_actions_total", action="webhook", outcome="refused") == 1
    assert metric("rules_actions_total", action="alarm", outcome="done") == 1
    until(lambda: metric("alarms_open", severity="major", state="active") == 1, node.log)
    until(lambda: metric("alarms_notifications_total", outcome="published") == 1, node.log)


def test_rules_and_alarms_of_a_team_are_its_own(start_node, tmp_path, variables):
    options = configured(tmp_path, text="", data_dir=tmp_path / "data")
    options["variables"] = variables
    node = start_node(**options)
    call(node, "POST", "/device-types", {"name": "free", "rules": ["topic readwrite #"]}, 201)
    keys, secrets = {}, {}
    for name in ("north", "south"):
        team = call(node, "POST", "/teams", {"name": name, "owns_tenant": True}, 201)
        made = {"name": f"of {name}", "team": team["id"], "scopes": ["administrator"]}
        keys[name] = call(node, "POST", "/keys", made, 201)["key"]
        made = call(node, "POST", "/devices", {"id": "pump", "type": "free"}, 201, key=keys[name])
        secrets[name] = (made["user_name"], made["secret"])
    rule = {"topics": ["t"], "actions": [{"publish": {"topic": "seen"}}, {"command": {"device": "pump", "command": "stop"}}],
            "device": "pump", "alarm": {"threshold": {"above": 5}}}
    call(node, "PUT", "/rules/high", rule, 201, key=keys["north"])
    call(node, "GET", "/rules/high", status=404, key=keys["south"])
    call(node, "PATCH", "/rules/high", {"enabled": False}, 404, key=keys["south"])
    call(node, "DELETE", "/rules/high", status=404, key=keys["south"])
    assert call(node, "GET", "/rules", key=keys["south"])["items"] == []
    with Client(node, "pump").credentials(*secrets["south"]) as pump:
        pump.subscribe("seen", qos=1)
        pump.publish("t", "9")
        pump.expect_no_message()
    with Client(node, "pump").credentials(*secrets["north"]) as pump:
        pump.subscribe("seen", qos=1)
        pump.subscribe("iotflow/system/alarms", qos=1)
        pump.publish("t", "9")
        topics = {pump.receive().topic for _ in range(2)}
        assert topics == {"seen", "iotflow/system/alarms"}
    assert alarms_of(node, keys["south"]) == []
    [alarm] = alarms_of(node, keys["north"])
    assert (alarm["name"], alarm["device"]) == ("high", "pump")
    for order in ("acknowledge", "clear"):
        call(node, "POST", f"/alarms/{alarm['id']}/{order}", status=404, key=keys["south"])
    call(node, "GET", f"/alarms/{alarm['id']}", status=404, key=keys["south"])
    until(lambda: len(call(node, "GET", "/devices/pump/commands", key=keys["north"])["items"]) == 1, node.log)
    assert call(node, "GET", "/devices/pump/commands", key=keys["south"])["items"] == []
    crash(node)
    node = start_node(**options)
    until(lambda: [one["id"] for one in alarms_of(node, keys["north"])] == [alarm["id"]], node.log)
    with Client(node, "pump").credentials(*secrets["north"]) as pump:
        pump.publish("t", "1")
    until(lambda: alarms_of(node, keys["north"]) == [], node.log)
    assert counts_of(node, keys["north"])["matched"] == 1


def test_a_team_sees_in_the_audit_log_what_was_done_with_its_alarms_and_telemetry(start_node, tmp_path):
    """Also what somebody did who belongs to no team. Other teams see nothing of it."""
    options = configured(tmp_path, text="")
    options["settings"] += ["telemetry.enabled=true"]
    node = start_node(**options)
    call(node, "POST", "/device-types", {"name": "free", "rules": ["topic readwrite #"]}, 201)
    keys, devices = {}, {}
    for name in ("north", "south"):
        team = call(node, "POST", "/teams", {"name": name, "owns_tenant": True}, 201)
        made = {"name": f"of {name}", "team": team["id"], "scopes": ["administrator"]}
        keys[name] = call(node, "POST", "/keys", made, 201)["key"]
        devices[name] = call(node, "POST", "/devices", {"id": f"pump-{name}", "type": "free"}, 201, key=keys[name])
    rule = {"topics": ["t"], "alarm": {"threshold": {"above": 5}}}
    call(node, "PUT", "/rules/high", rule, 201, key=keys["north"])
    made = devices["north"]
    with Client(node, "pump-north").credentials(made["user_name"], made["secret"]) as pump:
        pump.publish("t", "9")
    until(lambda: alarms_of(node, keys["north"]), node.log)
    [alarm] = alarms_of(node, keys["north"])
    number = alarm["id"]
    # By the team itself, and by the administrator of the node.
    call(node, "POST", f"/alarms/{number}/acknowledge", key=keys["north"])
    call(node, "POST", f"/alarms/{number}/shelve", {"secs": 60})
    for key in (keys["north"], None):
        path = "/devices/pump-north/telemetry?from=*&to=*" + ("" if key else "&team=north")
        call(node, "DELETE", path, **({"key": key} if key else {}))
    seen = call(node, "GET", "/audit?object_kind=route", key=keys["north"])["items"]
    done = {(one["action"], one["object_id"], one["who"].split(":")[0]) for one in seen}
    of_alarm, of_device = f"/api/v1/alarms/{number}", "/api/v1/devices/pump-north/telemetry"
    assert len([one for one in seen if one["object_id"] == of_device]) == 2, seen
    assert {("http.post", f"{of_alarm}/acknowledge", "key"), ("http.post", f"{of_alarm}/shelve", "key"),
            ("http.delete", of_device, "key")} <= done, done
    assert call(node, "GET", "/audit?object_kind=route", key=keys["south"])["items"] == []


def alarms_of(node, key):
    return call(node, "GET", "/alarms", key=key)["items"]


def counts_of(node, key):
    return call(node, "GET", "/rules/high", key=key)["counts"]
