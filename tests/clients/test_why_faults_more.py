"""Further faults that are put to `martlet why`: of tenants, groups, types, credentials, roles, bridges, alarms and
firmware, and of what was removed. The headline is the fault, and the command that is printed, or the advice, ends it."""

import http.server
import json
import ssl
import threading
import urllib.error
import urllib.request

import pytest

from paho_client import Client
from server_process import free_port
from test_access import until
from test_cert import cert
from test_jwt import Signer
from why_faults import KEPT, Faults, printed_secret, published


@pytest.fixture(scope="module")
def node():
    faults = Faults()
    for name in ("boss", "ann"):
        faults.user(name, "--role", "administrator")
    with faults.start():
        yield faults


@pytest.fixture(scope="module")
def boss(node):
    with node.client("boss", client_id="b1") as client:
        yield client


def configured(path, text, **options):
    config = path / "martlet.toml"
    config.write_text(text)
    return Faults(arguments=("-c", str(config)), **options)


def session(node, user, password="secret"):
    """The status of a login to the API."""
    body = json.dumps({"user": user, "password": password}).encode()
    request = urllib.request.Request(f"{node.node.http_url}/api/v1/session", body, {"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def why_of(node, key, name, topic=None):
    """The answer to who has a key of the API."""
    query = f"name={name}" + (f"&topic={topic}" if topic else "")
    request = urllib.request.Request(f"{node.node.http_url}/api/v1/why?{query}", headers={"authorization": f"Bearer {key}"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


# Tenants


def test_a_device_and_its_back_end_are_in_different_tenants():
    faults = Faults()
    faults.options["http"] = True
    faults.user("back", "--role", "administrator")
    with faults.start() as node:
        node.run("team", "add", "north", "--own-tenant")
        secret = node.device("pump", "--team", "north")
        added = node.run("key", "add", "norths", "--scope", "administrator", "--team", "north")
        key = next(word for word in added.split() if word.startswith("mk_"))
        with node.client("back", client_id="back") as back, node.client("pump@north", secret, client_id="pump") as pump:
            back.subscribe("d/pump/state", 1)
            assert published(pump, "d/pump/state")
            for asked in (["back"], ["back", "d/pump/state"]):
                told = node.headline("not-subscribed", "1 message that pump published to d/pump/state arrived in the tenant "
                                     "of the team north, and it is in the common tenant", *asked)
                assert "same team" in told["remedy"], told
            told = node.headline("subscriber-absent", "back is subscribed to d/pump/state in the common tenant",
                                 "pump@north", "d/pump/state")
            assert "same team" in told["remedy"], told
            # Who sees one team alone learns nothing of the others.
            of_team = json.dumps(why_of(node, key, "pump", "d/pump/state"))
            assert "back is subscribed" not in of_team and "common tenant" not in of_team, of_team
        node.run("user", "set", "back", "--team", "north")
        with node.client("back", client_id="back") as back, node.client("pump@north", secret, client_id="pump") as pump:
            back.subscribe("d/pump/state", 1)
            assert published(pump, "d/pump/state")
            assert back.receive().topic == "d/pump/state"
            node.over("back", "d/pump/state")
            node.over("pump@north", "d/pump/state")


def test_a_back_end_is_subscribed_to_a_device_of_another_tenant(node):
    node.run("team", "add", "south", "--own-tenant")
    node.device("valve", "--team", "south")
    with node.client("ann", client_id="back-2") as back:
        back.subscribe("d/valve/state", 1)
        node.headline("publisher-absent", "names the device valve, which is in the tenant of the team south",
                      "back-2", "d/valve/state")


# Groups


def test_a_device_joined_its_group_after_a_command_was_sent(node):
    secrets = {name: node.device(name) for name in ("g1", "g2")}
    node.run("group", "add", "hall")
    node.run("group", "member", "add", "hall", "g1")
    sent = json.loads(node.run("command", "send", "open", "--group", "hall", "-p", '{"to": 3}', "--json"))
    node.run("group", "member", "add", "hall", "g2")
    with node.client("g2", secrets["g2"]) as device:
        device.subscribe("d/g2/commands/+", 1)
        told = node.headline("command-waits", f"the command open ({sent['id']}) is not for the device: it was made on", "g2")
        assert "for the members that the group hall had then" in told["sentence"], told
        node.bash(told)
        command = json.loads(device.receive().payload)
        assert (command["command"], command["parameters"]) == ("open", {"to": 3}), command
        device.publish("d/g2/status/command", json.dumps({"command_id": command["id"], "status": "succeeded"}))
        node.over("g2")


def test_a_device_joined_its_group_after_a_rollout_was_started(node):
    node.run("device", "type", "add", "lamp", "--rule", "pattern readwrite d/%u/#")
    secrets = {name: node.device(name, "--type", "lamp") for name in ("g3", "g4")}
    upload(node, "lamp-fw", "2", "lamp")
    node.run("group", "add", "roof")
    node.run("group", "member", "add", "roof", "g3")
    started = json.loads(node.run("rollout", "start", "lamp-fw", "2", "--group", "roof", "--json"))
    node.run("group", "member", "add", "roof", "g4")
    with node.client("g4", secrets["g4"]) as device:
        device.subscribe("d/g4/commands/+", 1)
        told = node.headline("rollout-waits", f"the rollout {started['id']} of lamp-fw 2 is not for the device", "g4")
        assert started["id"] in node.bash(told)
        node.run("rollout", "abort", started["id"])
        told = node.headline("rollout-waits", "is not for the device", "g4")
        node.bash(told)
        assert json.loads(device.receive().payload)["parameters"]["version"] == "2"
        assert "is not for the device" not in json.dumps(node.why("g4"))


def upload(node, name, version, of_type):
    path = node.path / f"{name}-{version}.bin"
    path.write_bytes(b"firmware")
    node.run("firmware", "add", name, version, str(path), "--type", of_type)


# Sessions


def test_messages_wait_in_another_session_of_the_user(node, boss):
    node.user("app")
    with node.client("app", client_id="app-1", **KEPT) as app:
        app.subscribe("t/other", 1)
    until(lambda: node.why("app-1")["state"] == "away", "it is gone")
    assert published(boss, "t/other")
    with node.client("app", client_id="app-2", **KEPT) as app:
        app.subscribe("t/other", 1)
        for asked in (["app-2"], ["app-2", "t/other"], ["app"], ["app", "t/other"]):
            told = node.headline("other-session", "1 message waits in the session app-1 of the same user", *asked)
            assert "connect with the Client Identifier app-1" in told["remedy"], told
        with node.client("app", client_id="app-1", **KEPT) as first:
            assert first.receive().topic == "t/other"
            for asked in (["app-2"], ["app-2", "t/other"], ["app"]):
                node.over(*asked)


def test_messages_wait_in_several_sessions_of_the_user(node, boss):
    node.user("reader")
    for number in range(3):
        with node.client("reader", client_id=f"reader-{number}", **KEPT) as app:
            app.subscribe("mm/#", 1)
        until(lambda: node.why(f"reader-{number}")["state"] == "away", "it is gone")
    assert published(boss, "mm/1") and published(boss, "mm/2")
    with node.client("reader", client_id="reader-9", **KEPT) as app:
        app.subscribe("mm/#", 1)
        for asked in (["reader-9"], ["reader"], ["reader", "mm/1"]):
            told = node.headline("other-session", "6 messages wait in 3 sessions of the same user (reader-2, ", *asked)
            assert "the same one each time, such as reader-2" in told["remedy"], told
        waiting = [one["sentence"] for one in node.why("reader")["also"] if "2 messages wait for it" in one["sentence"]]
        assert waiting and all(", each: " in one for one in waiting), waiting
        for number in range(3):
            with node.client("reader", client_id=f"reader-{number}", **KEPT) as before:
                assert {before.receive().topic, before.receive().topic} == {"mm/1", "mm/2"}
        node.over("reader-9")


# Credentials and roles


def test_a_token_names_another_client_and_that_is_asked_about(tmp_path):
    signer = Signer(tmp_path, "HS256")
    with Faults(settings=[f"auth.jwt_keys={signer.file}", "auth.jwt_algorithm=HS256",
                          "auth.jwt_client_claim=cid"]) as node:
        token = signer.token(cid="c9")
        assert not node.comes("jwt", token, "c8")
        told = node.headline("token-bad", "the client c8 was refused, because its token is for the Client Identifier c9", "c9")
        assert "set its Client Identifier to c9" in told["remedy"], told
        with node.client("jwt", token, client_id="c9"):
            node.over("c9")


def test_the_rules_of_a_token_are_of_another_client_identifier(tmp_path):
    signer = Signer(tmp_path, "HS256")
    acl = tmp_path / "acl"
    acl.write_text("pattern readwrite d/%c/#\n")
    with Faults(settings=[f"auth.jwt_keys={signer.file}", "auth.jwt_algorithm=HS256", f"auth.acl_file={acl}"]) as node:
        with node.client("jwt", signer.token(), client_id="c8") as client:
            assert not published(client, "d/c7/state")
            told = node.headline("not-permitted", 'permits d/c8/#, with its own name instead of "c7"', "c8")
            assert told["remedy"].startswith("have the client publish to a topic that d/c8/# matches"), told
        with node.client("jwt", signer.token(), client_id="c7") as client:
            assert published(client, "d/c7/state")


def test_a_device_subscribes_with_the_name_of_another(node):
    secret = node.device("s1")
    with node.client("s1", secret) as device:
        assert device.subscribe("d/s2/+", 1)[0] >= 0x80
        told = node.headline("not-permitted", 'permits d/s1/#, with its own name instead of "s2"', "s1")
        assert told["remedy"].startswith("have the client subscribe to topics that d/s1/# matches"), told
    with node.client("s1", secret) as device:
        device.subscribe("d/s1/+", 1)
        node.over("s1")


@pytest.mark.parametrize("tries", [False, True])
def test_a_device_never_had_a_credential(node, tries):
    name = f"bare-{tries}"
    node.run("device", "add", name, "--no-secret")
    if tries:
        assert not node.comes(name, "guess")
    told = node.headline("no-credentials", f"the device {name} has no credential, and never had one", name)
    assert node.comes(name, printed_secret(node.bash(told)))
    node.over(name)


def test_a_device_without_a_credential_may_come_by_the_token_of_its_team(node):
    node.run("team", "add", "west")
    node.run("team", "token", "add", "west", "gate")
    node.run("device", "add", "w1", "--no-secret", "--team", "west")
    assert node.why("w1")["cause"] == "never-connected"


def test_a_user_without_a_role_comes_to_the_api():
    faults = Faults()
    faults.options["http"] = True
    faults.user("boss", "--role", "administrator")
    faults.user("eve", "--role", "user", "--api-role", "none")
    with faults.start() as node:
        assert session(node, "eve", "wrong") == 401
        assert "api-refused" not in json.dumps(node.why("eve"))
        assert session(node, "eve") == 401
        told = node.headline("api-refused", "it has no role there", "eve")
        node.carry_out(told)
        until(lambda: session(node, "eve") == 200, "it is let in")
        until(lambda: "api-refused" not in json.dumps(node.why("eve")), "it is over")


# Bridges


@pytest.mark.parametrize(("wrong", "said"), [
    ("in", "brings messages of up/1 from the other broker (direction in), and sends none there"),
    ("out", "sends messages of up/1 to the other broker (direction out), and brings none from there"),
])
def test_a_bridge_has_the_wrong_direction(tmp_path, wrong, said):
    def text(direction):
        return f"""
[integrations]
allow_private = ["127.0.0.0/8"]
[[bridges]]
name = "plant"
url = "mqtt://127.0.0.1:{other.node.port()}"
topics = ["up/# {direction} 1"]
"""

    with Faults() as other, configured(tmp_path, text(wrong)) as node:
        with Client(node.node, "here") as here:
            if wrong == "out":
                here.subscribe("up/1", 1)
            told = node.headline("not-subscribed", said, "bridge/plant", "up/1")
            assert 'direction = "' + {"in": "out", "out": "in"}[wrong] + '"' in told["remedy"], told
            node.bash(told)
        (tmp_path / "martlet.toml").write_text(text("both"))
        node.restart()
        node.over("bridge/plant", "up/1")


# Types


def test_the_type_of_a_device_was_changed(node):
    for name in ("old", "new"):
        node.run("device", "type", "add", name, "--rule", f"pattern readwrite {name}/%u/#")
    secret = node.device("t7", "--type", "old")
    with node.client("t7", secret) as device:
        assert published(device, "old/t7/state")
    node.run("device", "set", "t7", "--type", "new")
    with node.client("t7", secret) as device:
        assert not published(device, "old/t7/state")
        told = node.headline("not-permitted", "its type was changed from old to new on", "t7")
        assert "give it the type old again" in told["remedy"], told
        node.carry_out(told)
    with node.client("t7", secret) as device:
        until(lambda: published(device, "old/t7/state"), "it may")
        node.over("t7")


# What was removed


def test_what_had_the_name_was_removed(node):
    rule = node.path / "rule.json"
    rule.write_text(json.dumps({"topics": ["x"], "actions": [{"publish": {"topic": "y"}}]}))
    node.run("rule", "add", "gone-rule", str(rule))
    node.run("rule", "rm", "gone-rule")
    node.run("key", "add", "gone-key", "--scope", "viewer")
    [key] = [one for one in json.loads(node.run("key", "ls", "--json"))["items"] if one["name"] == "gone-key"]
    node.run("key", "rm", key["id"])
    node.run("provision", "add", "gone-line")
    [line] = [one for one in json.loads(node.run("provision", "ls", "--json"))["items"] if one["name"] == "gone-line"]
    node.run("provision", "rm", line["id"])
    for name, what in (("gone-rule", "rule"), ("gone-key", "API key"), (key["id"], "API key"),
                       ("gone-line", "provisioning key")):
        told = node.headline("deleted", f"the {what} {name} was removed on", name)
        assert " by " in told["sentence"] and told["state"] == "no-client" and told["since"], told
        node.bash(told)
    node.run("rule", "add", "gone-rule", str(rule))
    assert node.why("gone-rule")["cause"] != "deleted"
    # Of names that were never there it is not told.
    assert node.why("never-there")["cause"] == "nobody-known"


# Alarms and mails

ALARM = """
[[rules]]
name = "hot"
topics = ["plant/+/t"]
device = "{{ levels[1] }}"
when = "payload > 80"
actions = [{ alarm = { raise = "too_hot", severity = "major" } }]
"""


def alarms(node):
    return json.loads(node.run("alarm", "ls", "--json"))["items"]


def test_the_alarm_of_a_rule_is_shelved_or_active_already(tmp_path):
    with configured(tmp_path, ALARM) as node:
        node.user("boss", "--role", "administrator")
        with node.client("boss") as boss:
            boss.publish("plant/1/t", "90")
            until(lambda: alarms(node), "it is raised")
            assert not node.why("hot")["wrong"]
            boss.publish("plant/1/t", "91")
            told = node.headline("alarm-silent", "the alarm too_hot of the rule hot", "hot")
            assert "is active since" in told["sentence"], told
            [alarm] = alarms(node)
            node.run("alarm", "shelve", str(alarm["id"]))
            shelved = node.headline("alarm-silent", "is shelved until", "hot")
            node.carry_out(shelved)
            told = node.headline("alarm-silent", "is active since", "hot")
            node.carry_out(told)
            until(lambda: not alarms(node), "it is cleared")
            node.over("hot")


def test_an_earlier_rule_stops_all_messages(node, boss):
    # Rules of the API are asked in the order of their names.
    first, second = (node.path / f"{name}.json" for name in ("first", "second"))
    first.write_text(json.dumps({"topics": ["oven/#"], "actions": ["stop"]}))
    second.write_text(json.dumps({"topics": ["oven/#"], "actions": [{"publish": {"topic": "alerts/oven"}}]}))
    node.run("rule", "add", "a-dedupe", str(first))
    node.run("rule", "add", "oven-hot", str(second))
    boss.publish("oven/1", "99")
    told = node.headline("rule-unmatched", "the rule a-dedupe has stopped 1 message before", "oven-hot")
    assert "remove the action stop" in told["remedy"], told
    assert "oven/#" in node.bash(told)
    node.run("rule", "rm", "a-dedupe")
    boss.publish("oven/1", "99")
    node.over("oven-hot")


def test_the_mail_server_of_a_rule_is_down(tmp_path):
    text = ALARM + f"""
[integrations]
allow_private = ["127.0.0.0/8"]
[[sinks.email]]
name = "operators"
filters = ["iotflow/system/alarms"]
server = "127.0.0.1"
port = {free_port()}
tls = "none"
from = "martlet@example.com"
to = ["ops@example.com"]
"""
    with configured(tmp_path, text) as node:
        node.user("boss", "--role", "administrator")
        with node.client("boss") as boss:
            boss.publish("plant/1/t", "90")
            told = node.headline("integration-failing", "email/operators", "hot")
            assert "the rule hot works, but" in told["sentence"], told
            node.bash(told, code=1)


class Takes(http.server.BaseHTTPRequestHandler):
    """A receiver that takes everything."""

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


def test_the_server_of_a_webhook_has_a_certificate_of_an_unknown_authority(tmp_path):
    cert("ca", "--dir", tmp_path / "certs")
    cert("server", "localhost", "127.0.0.1", "--dir", tmp_path / "certs")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Takes)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "certs/server.crt", tmp_path / "certs/server.key")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    text = f"""
[integrations]
allow_private = ["127.0.0.0/8"]
[[sinks.webhook]]
name = "crm"
filters = ["crm/#"]
url = "https://127.0.0.1:{server.server_port}/hook"
"""
    with configured(tmp_path, text) as node:
        with Client(node.node, "pump") as pump:
            pump.publish("crm/1", "x")
            told = node.headline("integration-failing", "webhook/crm", "webhook/crm")
            assert "is of no authority that the node trusts" in told["sentence"], told
            assert "SSL_CERT_FILE" in told["sentence"], told
            node.bash(told, code=1)
        node.options["variables"] = {"SSL_CERT_FILE": str(tmp_path / "certs/ca.crt")}
        node.restart()
        node.over("webhook/crm")
        until(lambda: "1 message since the start" in node.why("webhook/crm")["sentence"], "it is delivered")
    server.shutdown()


# Firmware


def test_a_device_asks_for_firmware_of_another_type(node):
    for name in ("pumps", "valves"):
        node.run("device", "type", "add", name, "--rule", "pattern readwrite d/%u/#")
    secret = node.device("f1", "--type", "valves")
    upload(node, "pump-fw", "1", "pumps")

    def asks(device, version):
        device.publish("d/f1/firmware/get", json.dumps({"name": "pump-fw", "version": version}))
        return device.receive().topic

    with node.client("f1", secret) as device:
        device.subscribe("d/f1/firmware/error", 1)
        device.subscribe("d/f1/firmware/chunk/#", 1)
        def is_served():
            # The node takes requests some seconds after there is firmware.
            device.publish("d/f1/firmware/get", json.dumps({"name": "pump-fw", "version": "9"}))
            return not device.messages.empty()

        until(is_served, "the node serves it")
        told = node.headline("firmware-refused", "the firmware pump-fw version 9, which does not exist", "f1")
        assert "pump-fw" in node.bash(told)
        until(lambda: asks(device, "1") and "version 1," in node.why("f1")["sentence"], "it asked")
        told = node.headline("firmware-refused", "pump-fw version 1, which is for devices of the type pumps", "f1")
        node.bash(told)
    with node.client("f1", secret) as device:
        device.subscribe("d/f1/firmware/error", 1)
        device.subscribe("d/f1/firmware/chunk/#", 1)
        until(lambda: "chunk" in asks(device, "1"), "it gets it")
        node.over("f1")


# Restarts


def test_how_a_client_went_is_known_after_a_restart():
    with Faults(listen=(f"mqtt://127.0.0.1:{free_port()}",)) as node:
        secrets = {name: node.device(name) for name in ("polite", "broken")}
        with node.client("polite", secrets["polite"]):
            pass
        with node.client("broken", secrets["broken"]) as device:
            device.drop()
            until(lambda: node.why("broken")["state"] == "away", "it is gone")
        until(lambda: node.why("polite")["state"] == "away", "it is gone")
        node.restart()
        polite, broken = node.why("polite"), node.why("broken")
        assert (polite["cause"], polite["wrong"]) == ("away", False), polite
        assert (broken["cause"], broken["wrong"]) == ("away", True), broken
