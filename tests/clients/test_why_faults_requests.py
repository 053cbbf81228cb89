"""HTTP requests that no route took, or that were sent with the wrong key, and telemetry that no rule stores, put to
`martlet why`: the headline is the fault, and what it advises ends it."""

import json

import pytest

from test_access import publish, until
from test_http_api import KEYS, ask
from test_why_faults_keys import printed_or_last
from why_faults import TELEMETRY, Faults, printed_secret, published


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    path = tmp_path_factory.mktemp("requests") / "martlet.toml"
    path.write_text(TELEMETRY)
    faults = Faults(arguments=("-c", str(path)), variables=KEYS)
    faults.options["http"] = True
    for team in ("north", "south"):
        faults.run("team", "add", team, "--own-tenant")
    with faults.start():
        yield faults


def sent(node, path, secret, method="POST", body='{"t": 1}', kind="application/json", **headers):
    """The status of the answer to a request with this key."""
    headers = {"X-API-Key": secret, "Content-Type": kind, **headers}
    return ask(node.node, path, method, headers, None if method == "GET" else body.encode())[0]


def test_a_host_is_not_one_of_the_node(node):
    secret = node.device("q1")
    assert sent(node, "/api/v1/devices/q1/telemetry", secret, Host="broker.example") == 421
    told = node.headline("host-refused", 'Host "broker.example" is not a name of this node', "127.0.0.1")
    assert "http.hosts" in told["remedy"], told
    assert sent(node, "/api/v1/devices/q1/telemetry", secret) == 201


@pytest.mark.parametrize("name, method, path, status, said", [
    ("q2", "POST", "/api/v1/devices/q2/telemetri", 404, "there is no such path"),
    ("q3", "PUT", "/api/v1/devices/q3/telemetry", 405, "the path exists with other methods"),
    ("q4", "POST", "/telemetry", 404, "there is no such path"),
])
def test_a_device_uses_a_wrong_path_or_method(node, name, method, path, status, said):
    secret = node.device(name)
    assert sent(node, path, secret, method) == status
    told = node.headline("request-invalid", f"its HTTP request was refused: {method} {path}: {said}", name)
    assert "/docs" in told["remedy"], told
    assert sent(node, f"/api/v1/devices/{name}/telemetry", secret) == 201
    node.over(name)


def test_a_program_uses_a_wrong_path(node):
    key = printed_or_last(node.run("key", "add", "backend", "--scope", "devices:read"))
    assert sent(node, "/api/v1/device", key, "GET") == 404
    told = node.headline("request-invalid", "its last refused request: GET /api/v1/device: there is no such path", "backend")
    assert "/docs" in told["remedy"], told


def test_a_stranger_who_shows_no_key_is_not_reported(node):
    assert ask(node.node, "/wp-login.php")[0] == 404
    assert "wp-login" not in json.dumps(node.why("127.0.0.1"))


def test_a_team_asks_for_a_device_of_another_team(node):
    node.run("device", "add", "q5", "--team", "south")
    key = printed_or_last(node.run("key", "add", "northern", "--scope", "devices:read", "--team", "north"))
    assert sent(node, "/api/v1/devices/q5", key, "GET") == 404
    told = node.headline("request-invalid", "GET /api/v1/devices/q5: no device q5 that", "northern", team="north")
    assert "another tenant has a device of that id: q5@south" in told["sentence"], told
    assert "the key of the team that has the device" in told["remedy"], told
    # What is of another team is not shown to this one.
    seen = sent(node, "/api/v1/why?name=northern", key, "GET")
    assert seen in (200, 403)


def test_a_device_uses_a_route_that_is_for_programs(node):
    secret = node.device("q6")
    assert sent(node, "/api/v1/publish", secret, body='{"topic": "a", "payload": "x"}') == 401
    told = node.headline("not-permitted", "POST /api/v1/publish: it shows the key of a device, and the route needs an API key", "q6")
    assert told["remedy"], told
    assert sent(node, "/api/v1/devices/q6/telemetry", secret) == 201
    node.over("q6")


def test_a_device_asks_by_http_for_firmware_that_does_not_exist(node, tmp_path):
    secret = node.device("q7")
    assert sent(node, "/api/v1/firmware/pump/9.9/file", secret, "GET") == 404
    told = node.headline("firmware-refused", "firmware pump version 9.9, which does not exist", "q7")
    node.bash(told)
    image = tmp_path / "pump.bin"
    image.write_text("firmware")
    node.run("firmware", "add", "pump", "9.9", str(image))
    assert sent(node, "/api/v1/firmware/pump/9.9/file", secret, "GET") == 200
    until(lambda: "firmware" not in node.why("q7")["cause"], "it got it")


def test_json_is_sent_as_plain_text(node):
    secret = node.device("q8")
    assert sent(node, "/api/v1/devices/q8/telemetry", secret, kind="text/plain") == 422
    told = node.headline("telemetry-not-stored", "it is JSON, and the format of this rule or Content-Type is line protocol", "q8")
    assert "application/json" in told["sentence"], told
    assert sent(node, "/api/v1/devices/q8/telemetry", secret) == 201
    until(lambda: node.why("q8")["cause"] != "telemetry-not-stored", "a later one was stored")


def test_no_rule_matches_the_topic_of_telemetry(node):
    secret = node.device("q9")
    with node.client("q9", secret) as device:
        device.publish("d/q9/readings", "1", 1)
        for asked in (["q9"], ["q9", "d/q9/readings"]):
            answer = until_said(node, "no rule of telemetry matches d/q9/readings", *asked)
            assert "d/+/telemetry" in answer, answer
        told = node.headline("telemetry-not-stored", "so what it published there is not stored, and it reached nobody", "q9")
        assert "[[telemetry.rules]]" in told["remedy"], told


def until_said(node, said, *asked):
    answers = []

    def is_said():
        answers.append(json.dumps(node.why(*asked)))
        return said in answers[-1]

    until(is_said, said)
    return answers[-1]


def test_a_user_name_ends_with_a_team_that_does_not_exist(node):
    assert not node.comes("el-1@nord", "secret", "el-1")
    told = node.headline("unknown-name", "it ends with @nord, and there is no team nord with a tenant of its own", "el-1@nord")
    assert "north" in node.bash(told)
    secret = printed_secret(node.run("device", "add", "el-1", "--team", "north"))
    assert node.comes("el-1@north", secret, "el-1")


def test_an_answer_is_on_another_topic(node):
    secret = node.device("q10")
    with node.client("q10", secret) as device:
        device.subscribe("d/q10/commands/+", 1)
        node.run("command", "send", "open", "--device", "q10")
        command = json.loads(device.receive().payload)["id"]
        device.publish("d/q10/command/answer", json.dumps({"command_id": command, "status": "succeeded"}), 1)
        said = "has not answered on d/q10/status/command; it has published to d/q10/command/answer since"
        told = node.headline("command-waits", said, "q10")
        node.bash(told)
        device.publish("d/q10/status/command", json.dumps({"command_id": command, "status": "succeeded"}), 1)
        until(lambda: node.why("q10")["cause"] != "command-waits", "it has answered")


def test_a_session_ends_with_each_connection(node):
    node.user("dash", "--role", "administrator")
    node.user("pusher", "--role", "administrator")
    with node.client("dash", client_id="dash1", clean=False) as client:
        client.subscribe("plant/1", 1)
    until(lambda: node.why("dash1")["state"] == "away", "it is gone")
    with node.client("pusher", client_id="p1") as pusher:
        pusher.publish("plant/1", "x", 1)
    answer = until_said(node, "no session is kept for it while it is away", "dash1", "plant/1")
    assert "Session Expiry Interval" in answer, answer


def test_an_action_of_a_rule_fails_for_a_topic(node):
    rule = {"topics": ["boxes/+"], "when": "payload.t > 1", "actions": [{"publish": {"topic": "out/{{payload.name}}", "payload": "x"}}]}
    put_rule(node, "boxes", rule)
    node.user("sender", "--role", "administrator")
    with node.client("sender", client_id="s1") as client:
        client.publish("boxes/1", '{"t": 2, "name": "#"}', 1)
        told = node.headline("rule-failing", "the rule boxes", "boxes", "boxes/1")
        node.bash(told)


def put_rule(node, name, rule):
    path = node.path / f"{name}.json"
    path.write_text(json.dumps(rule))
    node.run("rule", "add", name, str(path))


def test_an_alarm_is_active_for_a_device(node):
    secret = node.device("q11")
    put_rule(node, "too-hot", {"topics": ["d/+/heat"], "alarm": {"severity": "major", "condition": {"raise_when": "payload.t > 9"}}})
    with node.client("q11", secret) as device:
        device.publish("d/q11/heat", '{"t": 12}', 1)
        answer = until_said(node, "the alarm too-hot about it is active", "q11")
        assert "alarm clear" in answer, answer
        answer = node.why("too-hot")
        assert "its alarm too-hot about q11 is active since" in answer["sentence"], answer


def test_a_device_that_sends_by_http_alone_was_seen(node):
    secret = node.device("q12")
    assert sent(node, "/api/v1/devices/q12/telemetry", secret) == 201
    until(lambda: node.why("q12")["state"] == "away", "it was seen")


def test_a_user_lacks_a_right_of_the_api(node):
    node.user("vic", "--api-role", "viewer")
    login = json.dumps({"user": "vic", "password": "secret"}).encode()
    status, headers, body = ask(node.node, "/api/v1/session", "POST", {"Content-Type": "application/json"}, login)
    assert status == 200, body
    cookie, token = headers["Set-Cookie"].split(";")[0], json.loads(body)["csrf_token"]
    headers = {"Content-Type": "application/json", "Cookie": cookie, "X-CSRF-Token": token}
    assert ask(node.node, "/api/v1/devices", "POST", headers, b'{"id": "q13"}')[0] == 403
    told = node.headline("not-permitted", "POST /api/v1/devices needs the scope devices:write", "vic")
    assert "--api-role" in told["remedy"], told


def test_a_user_logs_in_to_the_panel_with_a_wrong_password(node):
    node.user("wim", "--api-role", "viewer")
    login = json.dumps({"user": "wim", "password": "other"}).encode()
    assert ask(node.node, "/api/v1/session", "POST", {"Content-Type": "application/json"}, login)[0] == 401
    told = node.headline("wrong-password", "its HTTP request was refused: POST /api/v1/session: wrong password", "wim")
    node.bash(told, given="another secret\nanother secret\n")


def test_a_device_sends_no_password(node):
    node.device("q14")
    assert publish(node.node, "d/q14/x", "-u", "q14", "-i", "q14")[0] != 0
    told = node.headline("no-credentials", "it sent a user name and no password", "q14")
    assert "command" not in told and "its secret" in told["remedy"], told


def test_telemetry_of_a_team_is_taken_by_the_node(node):
    secret = printed_secret(node.run("device", "add", "q15", "--team", "north"))
    with node.client("q15@north", secret, client_id="q15") as device:
        device.publish("d/q15/telemetry", '{"a": 7}', 1)
        answer = node.why("q15@north", "d/q15/telemetry")
        assert not answer["wrong"], answer


def test_a_gateway_uses_its_client_identifier_in_a_topic(node):
    node.run("device", "type", "add", "gateways", "--client-id", "any", "--rule", "pattern write gateways/%c/#")
    secret = node.device("q16", "--type", "gateways")
    with node.client("q16", secret, client_id="line-3") as gateway:
        assert not published(gateway, "gateways/line-3/x")
        told = node.headline("not-permitted", 'with its own name instead of "line-3"', "q16")
        assert "'pattern write gateways/%c/x'" not in told.get("command", ""), told
        node.bash(told)
        until(lambda: published(gateway, "gateways/line-3/x"), "it may publish now")


def test_a_rule_has_a_key_that_no_device_sends(node, tmp_path):
    secret = node.device("q20")
    rule = tmp_path / "warm.json"
    text = {"telemetry": "temperature", "when": "value > 20", "actions": [{"publish": {"topic": "warm"}}]}
    rule.write_text(json.dumps(text))
    node.run("rule", "add", "warm", rule)
    with node.client("q20", secret) as device:
        device.publish("d/q20/telemetry", '{"temp": 21}', 1)
        told = node.headline("rule-unmatched", "none of the key temperature came; values of other keys came: temp", "warm")
        assert "compare the key" in told["remedy"], told
        assert "temperature" in node.bash(told)
        rule.write_text(json.dumps({**text, "telemetry": "temp"}))
        node.run("rule", "rm", "warm")
        node.run("rule", "add", "warm", rule)
        device.publish("d/q20/telemetry", '{"temp": 22}', 1)
        node.over("warm")


def test_a_key_of_a_team_that_was_deleted(node):
    node.run("team", "add", "east")
    key = printed_or_last(node.run("key", "add", "eastern", "--scope", "devices:read", "--team", "east"))
    assert sent(node, "/api/v1/devices", key, "GET") == 200
    node.run("team", "rm", "east")
    assert sent(node, "/api/v1/devices", key, "GET") == 401
    told = node.headline("deleted", "it is not accepted: its team east was deleted", "eastern")
    node.bash(told)
    assert sent(node, "/api/v1/devices", key, "GET") == 200
    node.over("eastern")


@pytest.mark.parametrize("change, cause, said", [
    (("set", "--disable"), "disabled", "its owner otto is disabled"),
    (("rm",), "deleted", "its owner otto was deleted"),
])
def test_a_key_of_a_user_that_is_not_let_in(node, change, cause, said):
    name = f"key-{cause}"
    node.user("otto", "--api-role", "viewer")
    admin = printed_or_last(node.run("key", "add", f"{name}-admin", "--scope", "administrator"))
    body = json.dumps({"name": name, "scopes": ["devices:read"], "owner": "otto"}).encode()
    key = json.loads(ask(node.node, "/api/v1/keys", "POST", {"X-API-Key": admin, "Content-Type": "application/json"}, body)[2])["key"]
    assert sent(node, "/api/v1/devices", key, "GET") == 200
    node.run("user", change[0], "otto", *change[1:])
    assert sent(node, "/api/v1/devices", key, "GET") == 401
    told = node.headline(cause, f"it is not accepted: {said}", name)
    node.bash(told)
    assert sent(node, "/api/v1/devices", key, "GET") == 200
    node.run("user", "rm", "--purge", "--yes", "otto")


def test_what_a_device_reports_to_the_node_is_no_telemetry(node):
    secret = node.device("q21")
    with node.client("q21", secret) as device:
        device.publish("d/q21/twin/reported", '{"mode": "eco"}', 1)
        device.publish("d/q21/twin/get", "", 1)
        until(lambda: "eco" in node.run("device", "twin", "q21"), "it has come")
        answer = json.dumps(node.why("q21"))
        assert "no rule of telemetry" not in answer, answer
        node.over("q21")
