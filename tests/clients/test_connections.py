"""Named connections to other brokers, as the microservice has them, against Debian's Mosquitto; and
bridges that the API adds, changes and removes."""

import http.client
import json
import re
import subprocess
import threading

import pytest

from http_as_curl import requested
from martlet_process import run
from mosquitto_process import Mosquitto
from paho_client import V5, Client
from server_process import free_port
from test_bridges import check_order, received, topics_until, until_connected
from test_http_api import KEY, KEYS
from test_http_registry import call
from test_sinks import until
from test_tenants import make_teams
from test_tls import Authority
from test_webhooks import receiver  # noqa: F401 (a fixture)

PUBLISHED = {"status": "success", "message": "Message published successfully"}


@pytest.fixture
def mosquitto():
    with_log = Mosquitto()
    yield with_log
    with_log.close()


def variables(port, name="HIVEMQ", **more):
    return [*dict(KEYS).items(), (f"MQTT_{name}_HOST", "127.0.0.1"), (f"MQTT_{name}_PORT", str(port)),
            (f"MQTT_{name}_CLIENT_ID", f"laravel-{name}"), *more.items()]


def ask(node, method, path, body=None):
    """Status and body of an answer."""
    status, _, text, _ = requested(node.http_url + path, method, body, (
        "-H", f"X-API-Key: {KEY}", "-H", "Content-Type: application/json"))
    return status, json.loads(text) if text else None


def publish(node, topic, payload, broker="hivemq", qos=1, **more):
    body = {"topic": topic, "payload": payload, "qos": qos, "broker": broker, **more}
    assert ask(node, "POST", "/publish", body) == (200, PUBLISHED), node.log()


def subscribe(node, topic, broker="hivemq", qos=1):
    told = ask(node, "POST", "/subscribe", {"topic": topic, "qos": qos, "broker": broker})
    assert told == (200, {"status": "success", "message": f"Subscribed to topic {topic}"}), node.log()


def brokers(node):
    status, body = ask(node, "GET", "/status")
    assert status == 200
    return body["status"], body["brokers"]


def test_a_message_goes_to_the_named_broker_alone(start_node, mosquitto):
    node = start_node(http=True, variables=variables(mosquitto.port))
    assert brokers(node) == ("no_clients", {})
    with Client(mosquitto, "there", port=mosquitto.port) as there, Client(node, "here") as here:
        there.subscribe("#", qos=2)
        here.subscribe("#", qos=2)
        for qos in range(3):
            publish(node, f"a/{qos}", {"n": qos}, qos=qos)
        publish(node, "a/kept", "x", retained=True)
        got = [there.receive() for _ in range(4)]
        assert [(one.topic, one.qos) for one in got] == [("a/0", 0), ("a/1", 1), ("a/2", 2), ("a/kept", 1)]
        assert json.loads(got[2].payload) == {"n": 2}
        publish(node, "end", "x", broker="internal")
        assert here.receive().topic == "end"
    with Client(mosquitto, "later", port=mosquitto.port) as later:
        later.subscribe("a/#", qos=1)
        one = later.receive()
        assert (one.topic, one.payload, one.retain) == ("a/kept", b"x", True)
    status, found = brokers(node)
    assert (status, found["hivemq"]) == ("ok", {"connected": True, "subscriptions": []})


def test_what_is_wrong_is_told_as_the_microservice_does(start_node, mosquitto):
    node = start_node(http=True, variables=variables(mosquitto.port, MQTT_DEFAULT_CONNECTION="nowhere"))
    for body in ({"broker": "other"}, {}):
        status, told = ask(node, "POST", "/publish", {"topic": "a", "payload": "x", **body})
        name = body.get("broker", "nowhere")
        assert status == 500 and told["status"] == "error"
        assert f"Failed to get MQTT client: broker configuration '{name}' not found" in told["message"]
    for path in ("/publish", "/subscribe", "/unsubscribe"):
        told = ask(node, "POST", path, {"payload": "x", "broker": "hivemq"})
        assert told == (400, {"status": "error", "message": "Topic is required"})
    assert ask(node, "POST", "/subscribe", {"topic": "a/#/b", "broker": "hivemq"})[0] == 400
    told = ask(node, "POST", "/unsubscribe", {"topic": "a", "broker": "hivemq"})
    assert told == (500, {"status": "error", "message": "MQTT client is not connected"})
    status, told = ask(node, "POST", "/subscribe", {"topic": "$SYS/#", "broker": "hivemq"})
    assert status == 500 and "prefix" in told["message"]
    mosquitto.kill()
    status, told = ask(node, "POST", "/subscribe", {"topic": "a", "broker": "hivemq"})
    assert status == 500 and told["message"].startswith("Failed to connect to MQTT broker: "), told
    assert brokers(node) == ("partial", {"hivemq": {"connected": False, "subscriptions": []}})


def test_internal_and_the_default_connection(start_node, mosquitto):
    node = start_node(http=True, variables=variables(mosquitto.port, MQTT_DEFAULT_CONNECTION="HIVEMQ"))
    subscribe(node, "x/#", broker="internal")
    assert brokers(node) == ("ok", {"internal": {"connected": True, "subscriptions": []}})
    with Client(mosquitto, "there", port=mosquitto.port) as there:
        there.subscribe("#", qos=1)
        assert ask(node, "POST", "/publish", {"topic": "a", "payload": "x", "qos": 1}) == (200, PUBLISHED)
        assert there.receive().topic == "a"
    assert set(brokers(node)[1]) == {"internal", "hivemq"}


def test_what_comes_in_is_published_here_and_never_goes_back(start_node, tmp_path, mosquitto, receiver):  # noqa: F811
    config = tmp_path / "martlet.toml"
    config.write_text(f'[integrations]\nallow_private = ["127.0.0.0/8"]\n[[sinks.webhook]]\nname = "all"\n'
                      f'filters = ["#"]\nurl = "{receiver.url}"\n')
    node = start_node(http=True, variables=variables(mosquitto.port, MQTT_HIVEMQ_PREFIX="hive/"),
                      arguments=("-c", str(config)))
    with Client(mosquitto, "there", port=mosquitto.port) as there, Client(node, "here", version=V5) as here:
        there.publish("a/kept", "old", retain=True)
        there.subscribe("#", qos=1)
        assert there.receive().topic == "a/kept"
        here.subscribe("#", qos=2)
        subscribe(node, "a/#", qos=1)
        there.publish("a/1", "new", qos=2)
        got = [here.receive() for _ in range(2)]
        assert [(one.topic, one.payload, one.qos, one.retain) for one in got] == [
            ("hive/a/kept", b"old", 1, False), ("hive/a/1", b"new", 1, False)]
        for one in got:
            assert ("from", "hivemq") in one.properties.UserProperty
        # Nothing is retained here.
        with Client(node, "later") as later:
            later.subscribe("hive/#", qos=1)
            there.publish("a/2", "x")
            assert later.receive().topic == "hive/a/2"
        there.publish("end", "x")
        assert [there.receive().topic for _ in range(3)] == ["a/1", "a/2", "end"]
    until(lambda: len(receiver.received) == 3, lambda: receiver.received)
    assert [(one["topic"], one["broker"]) for one, _, _ in receiver.received] == [
        ("hive/a/kept", "hivemq"), ("hive/a/1", "hivemq"), ("hive/a/2", "hivemq")]
    assert brokers(node) == ("ok", {"hivemq": {"connected": True, "subscriptions": ["a/#"]}})
    told = ask(node, "POST", "/unsubscribe", {"topic": "a/#", "broker": "hivemq"})
    assert told == (200, {"status": "success", "message": "Unsubscribed from topic a/#"})
    assert brokers(node)[1]["hivemq"]["subscriptions"] == []


def test_subscriptions_survive_restarts_of_either_side(start_node, tmp_path, mosquitto):
    port = free_port()
    options = {"http": True, "data_dir": tmp_path / "data", "listen": (f"mqtt://127.0.0.1:{port}",)}
    node = start_node(variables=variables(mosquitto.port), **options)
    subscribe(node, "a/#")
    subscribe(node, "b/+", qos=2)
    subscribe(node, "gone")
    assert ask(node, "POST", "/unsubscribe", {"topic": "gone", "broker": "hivemq"})[0] == 200
    until_connected(node)
    node.process.kill()
    node.wait()
    with Client(mosquitto, "there", port=mosquitto.port) as there:
        # The session at the other broker keeps it.
        there.publish("a/meanwhile", "x")
    node = start_node(variables=variables(mosquitto.port), **options)
    until(lambda: brokers(node) == ("ok", {"hivemq": {"connected": True, "subscriptions": ["a/#", "b/+"]}}),
          lambda: [brokers(node), node.log()])
    mosquitto.kill()
    node.wait_for_log("the bridge is not connected")
    until(lambda: brokers(node)[0] == "partial", lambda: brokers(node))
    mosquitto.start()
    until(lambda: brokers(node)[0] == "ok", lambda: [brokers(node), node.log()])
    with Client(mosquitto, "there", port=mosquitto.port) as there, Client(node, "here") as here:
        here.subscribe("#", qos=1)

        def comes():
            # Connected again, the bridge may not have subscribed yet.
            there.publish("b/1", "x")
            return not here.messages.empty()

        until(comes, lambda: [mosquitto.log(), node.log()])
        there.publish("gone", "x")
        there.publish("b/2", "x")
        assert set(topics_until(here, "b/2")) == {"b/1", "b/2"}


@pytest.mark.parametrize("value, flag", [("true", 1), ("false", 0), (None, 0)])
def test_a_connection_is_clean_if_its_variable_says_so(start_node, mosquitto, value, flag):
    more = {} if value is None else {"MQTT_HIVEMQ_CLEAN_SESSION": value}
    node = start_node(http=True, variables=variables(mosquitto.port, **more))
    subscribe(node, "a/#")
    assert re.search(rf"as laravel-HIVEMQ \(p\d, c{flag}, ", mosquitto.log()), mosquitto.log()


def test_what_is_published_while_the_broker_is_dead_arrives_in_order(start_node, tmp_path, mosquitto):
    options = {"http": True, "data_dir": tmp_path / "data", "variables": variables(mosquitto.port)}
    mosquitto.kill()
    # A broker that cannot be reached keeps no node from starting.
    node = start_node(**options)
    for at in range(5):
        publish(node, f"a/{at}", "x", qos=1 + at % 2)
    node.process.kill()
    node.wait()
    node = start_node(**options)
    for at in range(5, 8):
        publish(node, f"a/{at}", "x", qos=1)
    mosquitto.start()
    topics = lambda: [line.split("'")[1] for line in mosquitto.log().splitlines() if "Received PUBLISH from laravel" in line]
    until(lambda: len(set(topics())) == 8, lambda: [topics(), node.log()])
    first = list(dict.fromkeys(topics()))
    assert first == [f"a/{at}" for at in range(8)]


def test_no_client_publishes_to_the_queue_of_a_connection(start_node, mosquitto):
    node = start_node(http=True, variables=variables(mosquitto.port))
    publish(node, "first", "x")
    with Client(node, "here", version=V5) as here:
        here.publish("$CONTROL/bridge/hivemq/m/forged", "x", qos=0)
    told = ask(node, "POST", "/publish", {"topic": "$CONTROL/bridge/hivemq/m/forged", "payload": "x"})
    assert told[0] == 400
    publish(node, "last", "x")
    until(lambda: "'last'" in mosquitto.log(), mosquitto.log)
    assert "forged" not in mosquitto.log()


BRIDGE = "/api/v1/bridges/up"


def settings(port, **more):
    return {"url": f"mqtt://127.0.0.1:{port}", "topics": [{"filter": "a/#", "direction": "both", "qos": 1}],
            "client_id": "up", "reconnect_max_secs": 1, **more}


def options(tmp_path):
    return {"http": True, "variables": KEYS, "data_dir": tmp_path / "data",
            "settings": ["integrations.allow_private=127.0.0.0/8"]}


def test_a_bridge_is_added_changed_and_removed_while_the_node_runs(start_node, tmp_path, mosquitto):
    node = start_node(**options(tmp_path))
    status, added = ask(node, "PUT", BRIDGE, settings(mosquitto.port))
    assert status == 201, added
    assert (added["name"], added["team"], added["origin"]) == ("up", None, "api")
    assert added["settings"]["url"] == f"mqtt://127.0.0.1:{mosquitto.port}"
    until_connected(node)
    with Client(mosquitto, "there", port=mosquitto.port) as there, Client(node, "here") as here:
        there.subscribe("#", qos=1)
        here.publish("a/1", "x")
        assert there.receive().topic == "a/1"
        changed = settings(mosquitto.port, topics=["b/# out 1"])
        assert ask(node, "PUT", BRIDGE, changed)[0] == 200
        until_connected(node, 2)
        here.publish("a/2", "x")
        here.publish("b/1", "x")
        assert there.receive().topic == "b/1"
    node.process.kill()
    node.wait()
    node = start_node(**options(tmp_path))
    until_connected(node)
    status, listed = ask(node, "GET", "/api/v1/bridges")
    assert status == 200 and [one["name"] for one in listed["items"]] == ["up"]
    assert ask(node, "GET", "/api/v1/integrations/bridge/up")[1]["filters"] == ["b/#"]
    assert ask(node, "DELETE", BRIDGE)[0] == 204
    assert ask(node, "GET", BRIDGE)[0] == 404
    assert ask(node, "GET", "/api/v1/integrations/bridge/up")[0] == 404
    audit = ask(node, "GET", "/api/v1/audit")[1]["items"]
    actions = [one["action"] for one in audit if one["action"].startswith("bridge.")]
    assert sorted(actions) == ["bridge.add", "bridge.change", "bridge.remove"]


def test_a_bridge_that_was_added_has_its_queue_after_a_restart(start_node, tmp_path, mosquitto):
    mosquitto.kill()
    node = start_node(**options(tmp_path))
    assert ask(node, "PUT", BRIDGE, settings(mosquitto.port))[0] == 201
    with Client(node, "here") as here:
        here.publish("a/1", "x")
    node.process.kill()
    node.wait()
    node = start_node(**options(tmp_path))
    mosquitto.start()
    until(lambda: "'a/1'" in mosquitto.log(), node.log)


@pytest.mark.parametrize("with_key_file", [True, False])
def test_a_bridge_that_was_added_is_in_a_node_that_goes_on_from_a_backup(start_node, tmp_path, mosquitto, with_key_file):
    node = start_node(**options(tmp_path))
    call(node, "PUT", "/api/v1/secrets/up", {"value": "right"}, key=KEY)
    secret = {"user": "u", "password": "${secret:up}"}
    assert ask(node, "PUT", BRIDGE, settings(mosquitto.port))[0] == 201
    assert ask(node, "PUT", BRIDGE + "-2", settings(mosquitto.port, client_id="up-2", **secret))[0] == 201
    until_connected(node)
    backup, data = tmp_path / "node.backup", tmp_path / "restored"
    key_file = ["--with-key-file"] if with_key_file else []
    made = run("backup", "create", str(backup), "--data-dir", str(tmp_path / "data"), *key_file)
    assert made.returncode == 0, made.stderr
    node.process.kill()
    node.wait()
    assert run("backup", "restore", str(backup), "--data-dir", str(data)).returncode == 0
    node = start_node(**{**options(tmp_path), "data_dir": data})
    until_connected(node)
    assert [one["name"] for one in ask(node, "GET", "/api/v1/bridges")[1]["items"]] == ["up", "up-2"]
    if with_key_file:
        until(lambda: ask(node, "GET", "/api/v1/bridges/up-2")[1]["state"] == "running", node.log)
    else:
        told = lambda: node.why("bridge/up-2")["sentence"]
        until(lambda: "key file" in told(), told)
    # It is the same node after a restart, too.
    assert run("backup", "create", str(tmp_path / "again"), "--data-dir", str(data)).returncode == 0
    node.process.kill()
    node.wait()
    node = start_node(**{**options(tmp_path), "data_dir": data})
    until_connected(node, 2 if with_key_file else 1)


@pytest.mark.parametrize("more, says", [
    ({"password": "known-secret", "user": "u"}, "secret"), ({"topics": ["a sideways"]}, "sideways"),
    ({"urll": "x"}, "url"), ({"keep_alive_secs": 1}, "keep_alive_secs"), ({"url": "http://x"}, "mqtt://"),
    ({"topics": []}, "topics"),
])
def test_settings_that_are_none_are_refused(start_node, tmp_path, more, says):
    node = start_node(**options(tmp_path))
    status, told = ask(node, "PUT", BRIDGE, settings(1, **more))
    assert status == 422 and says in json.dumps(told), told
    assert "known-secret" not in json.dumps(told) + node.log()
    assert ask(node, "GET", "/api/v1/bridges")[1]["items"] == []


def test_a_secret_is_referred_to_and_used(start_node, tmp_path):
    mosquitto = Mosquitto("password_file {place}/users\nallow_anonymous false", files={"users": ""})
    mosquitto.kill()
    subprocess.run(["mosquitto_passwd", "-b", f"{mosquitto.place}/users", "u", "right"], check=True, timeout=60)
    subprocess.run(["chmod", "0644", f"{mosquitto.place}/users"], check=True, timeout=60)
    mosquitto.start()
    try:
        node = start_node(**options(tmp_path))
        call(node, "PUT", "/api/v1/secrets/up", {"value": "right"}, key=KEY)
        told = ask(node, "PUT", BRIDGE, settings(mosquitto.port, user="u", password="${secret:up}"))
        assert told[0] == 201 and told[1]["settings"]["password"] == "${secret:up}"
        until_connected(node)
    finally:
        mosquitto.close()


def test_a_private_address_needs_permission_for_added_bridges(start_node, tmp_path, mosquitto):
    node = start_node(http=True, variables=KEYS, data_dir=tmp_path / "data")
    for host in ["127.0.0.1", "localhost", "127.1", "0x7f000001", "broker.example,mqtt://169.254.169.254"]:
        status, told = ask(node, "PUT", BRIDGE, settings(mosquitto.port, url=f"mqtt://{host}:{mosquitto.port}"))
        assert status == 422 and "integrations.allow_private" in json.dumps(told), (host, told)
    assert "as up" not in mosquitto.log()


def test_all_addresses_of_a_bridge_are_shown(start_node, tmp_path):
    node = start_node(**options(tmp_path))
    url = "mqtt://127.0.0.1:9,mqtts://127.0.0.2"
    assert ask(node, "PUT", BRIDGE, settings(9, url=url))[1]["settings"]["url"] == url


def test_a_bridge_of_the_configuration_is_shown_and_not_changed(start_node, tmp_path, mosquitto):
    config = tmp_path / "martlet.toml"
    config.write_text(f'[integrations]\nallow_private = "127.0.0.0/8"\n[[bridges]]\nname = "up"\n'
                      f'url = "mqtt://127.0.0.1:{mosquitto.port}"\ntopics = ["a/# out"]\n')
    node = start_node(http=True, variables=KEYS, arguments=("-c", str(config)))
    status, one = ask(node, "GET", BRIDGE)
    assert (status, one["origin"], one["settings"]) == (200, "configuration", None)
    assert ask(node, "PUT", BRIDGE, settings(mosquitto.port))[0] == 409
    assert ask(node, "DELETE", BRIDGE)[0] == 404


def test_a_team_has_bridges_of_its_own_tenant(start_node, tmp_path, mosquitto):
    node = start_node(**options(tmp_path))
    teams = make_teams(node)
    north, south = teams["north"]["key"], teams["south"]["key"]
    added = call(node, "PUT", BRIDGE, settings(mosquitto.port), key=north)
    assert added["team"] == teams["north"]["id"]
    names = lambda key: [one["name"] for one in call(node, "GET", "/api/v1/bridges", key=key)["items"]]
    assert (names(north), names(south), names(KEY)) == (["up"], [], ["up"])
    # Neither seen, nor changed, nor removed by others.
    call(node, "GET", BRIDGE, key=south, expect=404)
    call(node, "DELETE", BRIDGE, key=south, expect=404)
    # The name is one within the team: another team has a bridge of that name of its own.
    call(node, "PUT", BRIDGE, settings(mosquitto.port), key=south)
    call(node, "DELETE", BRIDGE, key=south)
    assert (names(north), names(south)) == (["up"], [])
    call(node, "PUT", f"{BRIDGE}2?team=south", settings(mosquitto.port), key=north, expect=403)
    # Files of the node are for who sees all of it.
    told = call(node, "PUT", f"{BRIDGE}3", settings(mosquitto.port, ca_file="/etc/passwd"), key=north, expect=422)
    assert "ca_file" in json.dumps(told)
    until_connected(node)
    made = {name: teams[name]["pump"] for name in teams}
    with Client(mosquitto, "there", port=mosquitto.port) as there:
        there.subscribe("#", qos=1)
        for name in ("south", "north"):
            with Client(node, "pump").credentials(made[name]["user_name"], made[name]["secret"]) as pump:
                pump.publish("a/1", name)
        assert there.receive().payload == b"north"
    call(node, "DELETE", BRIDGE, key=north)
    assert names(KEY) == []


@pytest.mark.parametrize("verify", ["trusted", "other", "unchecked"])
def test_tls_and_credentials_are_those_of_all_connections(start_node, tmp_path, verify):
    authority, other = Authority(tmp_path / "ca"), Authority(tmp_path / "other")
    certificate, key = authority.sign("server")
    users = tmp_path / "users"
    subprocess.run(["mosquitto_passwd", "-c", "-b", str(users), "u", "right"], check=True, timeout=60)
    files = {name: open(path, encoding="utf-8").read() for name, path in
             (("server.crt", certificate), ("server.key", key), ("users", users))}
    mosquitto = Mosquitto("password_file {place}/users\nallow_anonymous false",
                          "certfile {place}/server.crt\nkeyfile {place}/server.key", files=files)
    trusted = {"trusted": authority, "other": other, "unchecked": other}[verify]
    more = {"MQTT_TLS_ENABLED": "true", "MQTT_TLS_CA_FILE": trusted.certificate, "MQTT_AUTH_USERNAME": "u",
            "MQTT_AUTH_PASSWORD": "right", "MQTT_TLS_VERIFY_PEER": "false" if verify == "unchecked" else "true"}
    try:
        node = start_node(http=True, variables=variables(mosquitto.port, **more))
        status, told = ask(node, "POST", "/subscribe", {"topic": "a", "broker": "hivemq"})
        if verify == "other":
            assert status == 500 and "certificate" in told["message"], told
        else:
            assert status == 200, [told, mosquitto.log()]
        warned = "certificates of other brokers are not checked" in node.log()
        assert warned == (verify == "unchecked")
        assert "right" not in json.dumps(ask(node, "GET", "/api/v1/config")[1])
    finally:
        mosquitto.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_bridge_to_the_same_broker_sends_nothing_back(start_node, tmp_path, mosquitto, host):
    config = tmp_path / "martlet.toml"
    config.write_text(f'[integrations]\nallow_private = "127.0.0.0/8"\n[[bridges]]\nname = "up"\n'
                      f'url = "mqtt://{host}:{mosquitto.port}"\ntopics = ["a/# out 1"]\n')
    node = start_node(http=True, variables=variables(mosquitto.port), arguments=("-c", str(config)))
    until_connected(node)
    subscribe(node, "a/#")
    with Client(mosquitto, "there", port=mosquitto.port) as there, Client(node, "here") as here:
        there.subscribe("a/#", qos=1)
        here.subscribe("a/#", qos=1)
        there.publish("a/1", "x")
        assert there.receive().topic == here.receive().topic == "a/1"
        # What goes back would be there before the last message.
        bridge = lambda: call(node, "GET", "/api/v1/integrations/bridge/up", key=KEY)
        until(lambda: bridge()["lag"] == 0, bridge)
        there.publish("a/2", "x")
        assert there.receive().topic == here.receive().topic == "a/2"


def test_nothing_is_lost_over_kills_of_both_sides_under_load(start_node, tmp_path, mosquitto):
    port = free_port()
    options = {"http": True, "data_dir": tmp_path / "data", "listen": (f"mqtt://127.0.0.1:{port}",),
               "variables": variables(mosquitto.port)}
    nodes = [start_node(**options)]
    publishers, each = 3, 80
    # Messages that were answered with 200, per publisher.
    sent = [[] for _ in range(publishers)]

    def pump(number):
        at = 0
        while at < each:
            try:
                publish(nodes[-1], f"plant/{number}/{at}", "x")
            except (AssertionError, ValueError, OSError, http.client.HTTPException):
                # The node was killed: what became of this message is not known, so it is sent again.
                continue
            sent[number].append(at)
            at += 1

    threads = [threading.Thread(target=pump, args=(number,)) for number in range(publishers)]
    for thread in threads:
        thread.start()
    total = lambda: sum(map(len, sent))
    for share in (4, 2):
        until(lambda: total() >= publishers * each // share, total, 60)
        mosquitto.kill()
        before = total()
        until(lambda: total() >= min(before + 20, publishers * each), total, 60)
        if share == 2:
            nodes[-1].process.kill()
            nodes[-1].wait()
            nodes.append(start_node(**options))
        mosquitto.start()
    for thread in threads:
        thread.join()
    expected = {f"plant/{number}/{at}" for number in range(publishers) for at in range(each)}
    topics = lambda: [topic for topic, _, _ in received(mosquitto, "plant/")]
    until(lambda: expected <= set(topics()), lambda: [sorted(expected - set(topics())), nodes[-1].log()], 90)
    check_order(received(mosquitto, "plant/"), publishers, each)
