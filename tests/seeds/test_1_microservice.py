"""The document of the MQTT microservice, from top to bottom: its lines as they are printed, but for
the ports. What it says of other brokers: `test_connections`."""

import contextlib
import ipaddress
import json
import re
import socket
import subprocess

import pytest

import martlet_process
from http_as_curl import requested
from paho_client import Client
from programs import Mosquitto
from server_process import free_port
from test_sinks import until
from test_webhook_formats import receiver  # noqa: F401

CONFIGURATION = """\
# MQTT Broker settings
MQTT_BROKER_ENABLED=true           # Enable or disable the broker
MQTT_BROKER_HOST=127.0.0.1         # Host to bind to (0.0.0.0 for all interfaces)
MQTT_BROKER_PORT=PORT              # Port to listen on (standard MQTT port is 1883)
MQTT_BROKER_TLS_ENABLED=false      # Enable or disable TLS
MQTT_BROKER_TLS_CERT_FILE=certificates/server.crt  # Path to TLS certificate file
MQTT_BROKER_TLS_KEY_FILE=certificates/server.key   # Path to TLS key file
MQTT_BROKER_AUTH_ENABLED=false     # Enable or disable authentication
MQTT_BROKER_ALLOW_ANONYMOUS=true   # Allow anonymous connections when auth is enabled
MQTT_BROKER_CREDENTIALS=user1:password1,user2:password2  # Comma-separated list of username:password pairs
"""

PUBLISH = """\
curl -X POST http://localhost:8080/publish \\
  -H "Content-Type: application/json" \\
  -d '{
    "topic": "test/topic",
    "payload": "Hello, world!",
    "qos": 0,
    "retained": false,
    "broker": "internal"  # Use "internal" to publish to the built-in broker
  }'
"""

SUCCESS = {"status": "success", "message": "Message published successfully"}


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    place = tmp_path_factory.mktemp("microservice")
    port = free_port()
    (place / ".env").write_text(CONFIGURATION.replace("PORT ", f"{port} "))
    with martlet_process.Node(listen=(), http=True, directory=place) as node:
        yield node


def typed(node, line):
    """What a line of the document prints, with this node's ports."""
    line = line.replace("localhost:8080", node.http_url.removeprefix("http://"))
    line = line.replace("-p 1883", f"-p {node.port()}").replace("-h localhost", "-h 127.0.0.1")
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done
    return done.stdout


def asked(node, method, path, body=None, *options):
    """Status, Content-Type and body of an answer, as curl gets it."""
    status, kind, body, _ = requested(node.http_url + path, method, body, options)
    return status, kind, json.loads(body) if kind == "application/json" else body


def subscriber(node, topic, *options):
    """mosquitto_sub, once it is subscribed; it ends with the first message."""
    return Mosquitto(node).sub("-t", topic, "-C", "1", "-W", "20", *options)


def received(program):
    """The message that ended it."""
    lines, status = program.messages()
    assert status == 0, lines
    return lines[-1]


def test_the_status_of_the_broker_has_the_count_of_its_clients(node):
    line = "curl -sS -X GET http://localhost:8080/broker/status"
    assert json.loads(typed(node, line)) == {
        "status": "ok", "broker": {"running": True, "enabled": True, "clients": 0},
    }
    client = subscriber(node, "anything")
    assert json.loads(typed(node, line))["broker"]["clients"] == 1
    client.kill()


def test_mosquittos_clients_exchange_a_message(node):
    client = subscriber(node, "test/topic")
    typed(node, 'mosquitto_pub -h localhost -p 1883 -t "test/topic" -m "Hello, world!"')
    assert received(client) == "Hello, world!"


def test_the_line_that_publishes_works_as_it_is_printed(node):
    client = subscriber(node, "test/topic")
    published = lambda: asked(node, "GET", "/metrics", None, "-H", "Accept: application/json")[2]["messages"]["published"]
    before = published()
    assert json.loads(typed(node, PUBLISH)) == SUCCESS
    assert received(client) == "Hello, world!"
    assert published() == before + 1


@pytest.mark.parametrize("payload, arrives", [
    ("text", "text"), (7, "7"), (2.5, "2.5"), (True, "true"), (None, "null"), ([1, {"a": "b"}], '[1,{"a":"b"}]'),
])
def test_every_payload_arrives_as_the_microservice_sends_it(node, payload, arrives):
    client = subscriber(node, "payload")
    answer = asked(node, "POST", "/publish", {"topic": "payload", "payload": payload, "qos": 1})
    assert answer == (200, "application/json", SUCCESS)
    assert received(client) == arrives


def test_a_retained_message_stays(node):
    body = {"topic": "kept", "payload": "x", "qos": 2, "retained": True, "unknown": 1}
    assert asked(node, "POST", "/publish", body)[0] == 200
    assert received(subscriber(node, "kept")) == "x"


@pytest.mark.parametrize("body, status, says", [
    ("{", 400, "the body is not JSON"),
    ("", 400, "the body is not JSON"),
    ("[]", 400, "the body"),
    ({"payload": "x"}, 400, "Topic is required"),
    ({"topic": "", "payload": "x"}, 400, "Topic is required"),
    ({"topic": 7, "payload": "x"}, 400, "/topic"),
    ({"topic": "a/#", "payload": "x"}, 400, "no wildcards"),
    ({"topic": "$SYS/x", "payload": "x"}, 400, "/topic"),
    ({"topic": "a", "payload": "x", "qos": 3}, 400, "/qos"),
    ({"topic": "a", "payload": "x", "qos": "1"}, 400, "/qos"),
    ({"topic": "a", "payload": "x", "retained": "yes"}, 400, "/retained"),
    ({"topic": "a", "payload": "x", "broker": "hivemq"}, 500, "broker configuration 'hivemq' not found"),
    ('{"topic": "a", "payload": "' + "x" * 3_000_000 + '"}', 413, "at most"),
])
def test_what_is_wrong_with_a_message_is_told_in_its_form(node, body, status, says, tmp_path):
    path = tmp_path / "body"
    path.write_text(body if isinstance(body, str) else json.dumps(body))
    told = asked(node, "POST", "/publish", f"@{path}")
    assert told[:2] == (status, "application/json"), told
    assert told[2]["status"] == "error" and says in told[2]["message"], told
    assert set(told[2]) == {"status", "message"}


def test_the_brokers_are_listed(node):
    body = {"topic": "test/topic", "payload": "x", "broker": "internal"}
    assert asked(node, "POST", "/publish", body)[0] == 200
    status, kind, body = asked(node, "GET", "/status")
    assert (status, kind, body["status"]) == (200, "application/json", "ok")
    assert body["brokers"] == {"internal": {"connected": True, "subscriptions": []}}
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+Z", body["timestamp"])
    assert asked(node, "GET", "/healthz") == (200, "application/json", {"status": "ok"})


@pytest.mark.parametrize("path, message", [
    ("/subscribe", "Subscribed to topic test/#"), ("/unsubscribe", "Unsubscribed from topic test/#")])
def test_the_node_itself_needs_no_subscription(node, path, message):
    body = {"topic": "test/#", "qos": 1, "broker": "internal"}
    assert asked(node, "POST", path, body) == (200, "application/json", {"status": "success", "message": message})
    assert asked(node, "GET", "/status")[2]["brokers"]["internal"]["subscriptions"] == []


def test_the_log_is_shown_as_text(node):
    log = typed(node, "curl -sS -X GET http://localhost:8080/logs")
    assert "ready" in log and log.endswith("\n")
    status, kind, last = asked(node, "GET", "/logs?lines=1")
    assert (status, kind, last.count("\n")) == (200, "text/plain", 1)
    assert asked(node, "GET", "/logs?file=mqtt-service.log")[0] == 200
    for file, status, says in [("/etc/passwd", 400, "Invalid log file path"), ("../x", 400, "Invalid log file path"),
                               ("other.log", 404, "Log file not found")]:
        assert asked(node, "GET", f"/logs?file={file}") == (
            status, "application/json", {"status": "error", "message": says})


def test_the_log_is_the_file_where_there_is_one(tmp_path):
    path = tmp_path / "broker.log"
    with martlet_process.Node(http=True, settings=[f"log.file={path}"]) as node:
        node.wait_for_log("ready")
        for name in ("", "?file=broker.log", "?file=mqtt-service.log"):
            status, kind, text = asked(node, "GET", f"/logs{name}")
            assert (status, kind) == (200, "text/plain") and "ready" in text
            assert text.splitlines()[0] == path.read_text().splitlines()[0]
        path.unlink()
        assert asked(node, "GET", "/logs")[0] == 404


# The message log


def messages(node, query=""):
    status, kind, body = asked(node, "GET", f"/messages{query}")
    assert (status, kind, body["status"]) == (200, "application/json", "success"), body
    assert body["count"] == len(body["messages"])
    return body["messages"]


def test_published_messages_are_logged_until_they_are_confirmed_and_deleted(tmp_path):
    started = {"http": True, "data_dir": tmp_path / "data"}
    with martlet_process.Node(**started) as node:
        for payload, qos, retained in [({"t": [1, 2.50]}, 2, True), ("plain", 0, False), (True, 1, False)]:
            body = {"topic": "log/a", "payload": payload, "qos": qos, "retained": retained, "broker": "internal"}
            assert asked(node, "POST", "/publish", body)[0] == 200
        # A message that was refused is not there.
        assert asked(node, "POST", "/publish", {"topic": "a/#", "payload": "x"})[0] == 400
        newest, second, oldest = messages(node)
        assert (oldest["payload"], oldest["qos"], oldest["retained"]) == ({"t": [1, 2.5]}, 2, True)
        assert (second["payload"], newest["payload"]) == ("plain", True)
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+Z", newest["timestamp"])
        assert messages(node, "?limit=1") == [newest] and messages(node, "?confirmed=true") == []
        one = f"/messages/{second['id']}"
        assert asked(node, "GET", one)[2] == {"status": "success", "message": second}
        told = asked(node, "POST", f"{one}/confirm")
        assert told[2] == {"status": "success", "message": f"Message {second['id']} confirmed"}
    with martlet_process.Node(**started) as node:
        assert messages(node) == [newest, oldest]
        assert messages(node, "?confirmed=true") == [{**second, "confirmed": True}]
        told = asked(node, "DELETE", f"/messages/{oldest['id']}")
        assert told[2] == {"status": "success", "message": f"Message {oldest['id']} deleted"}
        told = asked(node, "DELETE", "/messages/confirmed")
        assert told[2] == {"status": "success", "message": "1 confirmed messages deleted", "count": 1}
        assert messages(node) == [newest] and messages(node, "?confirmed=true") == []
        for method, path in [("GET", one), ("DELETE", one), ("POST", f"{one}/confirm")]:
            status, kind, body = asked(node, method, path)
            assert (status, kind, body["status"]) == (404, "application/json", "error")
            assert body["message"].startswith("Message not found")
        for limit in ("0", "-1", "x"):
            assert asked(node, "GET", f"/messages?limit={limit}") == (
                400, "application/json", {"status": "error", "message": "Invalid limit parameter"})


def test_messages_that_the_configuration_names_are_logged_once_each_over_kills(tmp_path):
    started = {"http": True, "data_dir": tmp_path / "data", "settings": ["messages.keep=kept/#"]}
    count = 300
    with martlet_process.Node(**started) as node:
        with Client(node, "pump") as client:
            for number in range(count):
                client.publish("kept/1", str(number), number % 2 + 1)
                client.publish("other/1", "x", 1)
            client.publish("kept/0", b"\xff", 1)
        node.process.kill()
    with martlet_process.Node(**started) as node:
        until(lambda: len(messages(node, "?limit=1000")) == count + 1, lambda: len(messages(node, "?limit=1000")))
        found = messages(node, "?limit=1000")
        assert [one["payload"] for one in found] == ["/w==", *reversed(range(count))]
        # What is published by the route and named by the configuration is there once.
        body = {"topic": "kept/2", "payload": "once", "qos": 1, "broker": "internal"}
        assert asked(node, "POST", "/publish", body)[0] == 200
        with Client(node, "pump") as client:
            client.publish("kept/3", "last", 1)
        until(lambda: messages(node, "?limit=1")[0]["topic"] == "kept/3", lambda: messages(node, "?limit=1"))
        assert len([one for one in messages(node, "?limit=1000") if one["topic"] == "kept/2"]) == 1
        # QoS 0 messages are kept too.
        with Client(node, "pump") as client:
            client.publish("kept/4", "zero", 0)
        until(lambda: messages(node, "?limit=1")[0]["topic"] == "kept/4", lambda: messages(node, "?limit=1"))


def test_the_oldest_messages_of_the_log_make_room(tmp_path):
    settings = ["messages.keep=kept/#", "messages.kept=20"]
    with martlet_process.Node(http=True, data_dir=tmp_path / "data", settings=settings) as node:
        with Client(node, "pump") as client:
            for number in range(60):
                client.publish("kept/1", str(number), 1)
        until(lambda: [one["payload"] for one in messages(node)] == [*reversed(range(40, 60))],
              lambda: messages(node))


# Webhooks


WEBHOOK = {"url": "", "topic_filter": "hook/+", "headers": {"Authorization": "Bearer known-token-1"}}


def payloads(receiver):
    return [body["payload"] for body in receiver.bodies()]


def test_webhooks_are_added_changed_and_removed_while_the_node_runs(tmp_path, receiver):
    started = {"http": True, "data_dir": tmp_path / "data", "settings": ["integrations.allow_private=127.0.0.0/8"]}
    with martlet_process.Node(**started) as node:
        status, kind, body = asked(node, "POST", "/webhooks", {**WEBHOOK, "url": receiver.url, "name": "crm"})
        assert (status, kind, body["message"]) == (201, "application/json", "Webhook created successfully")
        webhook = body["webhook"]
        # The defaults that the document names, and no value of a header.
        assert {key: webhook[key] for key in ("method", "enabled", "timeout", "retry_count", "retry_delay")} == {
            "method": "POST", "enabled": True, "timeout": 10, "retry_count": 3, "retry_delay": 5}
        assert webhook["headers"] == {"Authorization": "***"} and webhook["id"].isdigit()
        path = f"/webhooks/{webhook['id']}"
        with Client(node, "pump") as client:
            client.publish("hook/1", '{"t": 1}', 1)
            client.publish("hook/1", "plain", 0)
            client.publish("other/1", "no", 1)
            client.publish("hook/2", "last", 1)
        until(lambda: payloads(receiver) == [{"t": 1}, "plain", "last"], node.log)
        _, headers, _ = receiver.seen[0]
        assert headers["authorization"] == "Bearer known-token-1"
        assert headers["user-agent"] == "MQTT-Microservice"
        assert receiver.bodies()[0]["broker"] == "internal"
        # What is not there stays; a header with the value that answers show stays too.
        changed = {"topic_filter": "new/#", "headers": {**webhook["headers"], "X-Site": "north"}}
        status, _, body = asked(node, "PUT", path, changed)
        assert (status, body["message"], body["webhook"]["name"]) == (200, "Webhook updated successfully", "crm")
    with martlet_process.Node(**started) as node:
        assert asked(node, "GET", path)[2]["webhook"]["topic_filter"] == "new/#"
        with Client(node, "pump") as client:
            client.publish("hook/1", "no", 1)
            client.publish("new/1", "changed", 1)
        until(lambda: payloads(receiver)[3:] == ["changed"], node.log)
        headers = receiver.seen[-1][1]
        assert (headers["authorization"], headers["x-site"]) == ("Bearer known-token-1", "north")
        assert asked(node, "PUT", path, {"enabled": False})[2]["webhook"]["enabled"] is False
        with Client(node, "pump") as client:
            client.publish("new/1", "while it is off", 1)
        assert asked(node, "PUT", path, {"enabled": True})[0] == 200
        with Client(node, "pump") as client:
            client.publish("new/1", "on again", 1)
        until(lambda: payloads(receiver)[4:] == ["on again"], node.log)
        listed = asked(node, "GET", "/webhooks")[2]
        assert (listed["count"], listed["webhooks"][0]["id"]) == (1, webhook["id"])
        told = asked(node, "DELETE", path)
        assert told[2] == {"status": "success", "message": f"Webhook {webhook['id']} deleted successfully"}
        for method in ("GET", "PUT", "DELETE"):
            status, _, body = asked(node, method, path, {} if method == "PUT" else None)
            assert (status, body["status"]) == (404, "error") and body["message"].startswith("Webhook not found")
        # No secret is left behind, and none was ever shown.
        assert asked(node, "GET", "/api/v1/secrets")[2]["items"] == []
        assert "known-token-1" not in node.log()


def test_a_password_in_a_url_is_not_shown_and_stays(tmp_path, receiver):
    settings = ["integrations.allow_private=127.0.0.0/8"]
    with martlet_process.Node(http=True, data_dir=tmp_path / "data", settings=settings) as node:
        url = receiver.url.replace("http://", "http://user:known-password-3@")
        webhook = asked(node, "POST", "/webhooks", {"url": url, "topic_filter": "hook/#"})[2]["webhook"]
        path = f"/webhooks/{webhook['id']}"
        for told in (webhook, asked(node, "GET", "/webhooks"), asked(node, "GET", f"/api/v1{path}")):
            assert "known-password-3" not in json.dumps(told)
        # What was shown is written back.
        assert asked(node, "PUT", path, {**webhook, "timeout": 20})[0] == 200
        with Client(node, "pump") as client:
            client.publish("hook/1", "x", 1)
        until(lambda: payloads(receiver) == ["x"], node.log)
        assert receiver.seen[0][1]["authorization"].startswith("Basic ")
        many = {"url": url, "topic_filter": "a", "headers": {f"X-{n}": "v" for n in range(51)}}
        assert asked(node, "POST", "/webhooks", many)[0] == 400


@pytest.mark.parametrize("status", [500, 404])
def test_a_webhook_retries_with_its_pause_and_gives_up(tmp_path, receiver, status):
    receiver.answer = lambda body: status if body["payload"] == "bad" else 204
    settings = ["integrations.allow_private=127.0.0.0/8"]
    with martlet_process.Node(http=True, data_dir=tmp_path / "data", settings=settings) as node:
        webhook = {**WEBHOOK, "url": receiver.url, "retry_count": 2, "retry_delay": 1}
        webhook = asked(node, "POST", "/webhooks", webhook)[2]["webhook"]
        with Client(node, "pump") as client:
            client.publish("hook/1", "bad", 1)
            client.publish("hook/1", "good", 1)
        until(lambda: payloads(receiver) == ["good"], node.log)
        assert len(receiver.bodies(status)) == 3
        letters = f"/api/v1/integrations/webhook/{webhook['id']}/dead-letters"
        until(lambda: len(asked(node, "GET", letters)[2]["items"]) == 1, node.log)


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE"])
def test_a_webhook_has_its_method(tmp_path, receiver, method):
    variables = {"MQTT_BROKER_ENABLED": "true", "MQTT_BROKER_AUTH_ENABLED": "false", "WEBHOOK_ENABLED": "true",
                 "WEBHOOK_URL": receiver.url, "WEBHOOK_METHOD": method.lower()}
    settings = ["integrations.allow_private=127.0.0.0/8"]
    with martlet_process.Node(http=True, data_dir=tmp_path / "data", settings=settings,
                              variables=variables.items()) as node:
        made = asked(node, "POST", "/webhooks", {**WEBHOOK, "url": receiver.url, "method": method})
        assert (made[0], made[2]["webhook"]["method"]) == (201, method)
        with Client(node, "pump") as client:
            client.publish("hook/1", "x", 1)
        until(lambda: payloads(receiver) == ["x", "x"], node.log)
        assert receiver.methods == [method, method]


@pytest.mark.parametrize("wrong, says", [
    ({"topic_filter": "a"}, "URL is required"), ({"url": "http://127.0.0.1/"}, "Topic filter is required"),
    ({"url": "http://10.0.0.1/", "topic_filter": "a"}, "integrations.allow_private"),
    ({"url": "gopher://h/", "topic_filter": "a"}, "Invalid webhook: "),
    ({"url": "http://127.0.0.1/", "topic_filter": "a", "method": "CONNECT"}, "expected one of POST, PUT"),
    ({"url": "http://127.0.0.1/", "topic_filter": "a", "headers": {"Host": "x"}}, "Invalid webhook: "),
])
def test_what_is_wrong_with_a_webhook_is_told(wrong, says):
    with martlet_process.Node(http=True, settings=["integrations.allow_private=127.0.0.0/8"]) as node:
        status, kind, body = asked(node, "POST", "/webhooks", wrong)
        assert (status, kind, body["status"]) == (400, "application/json", "error") and says in body["message"]
        assert asked(node, "GET", "/webhooks")[2]["count"] == 0


def test_a_webhook_at_this_machine_is_refused_at_once_unless_it_is_permitted(node):
    other = asked(node, "POST", "/webhooks", {"url": "http://crm.example/", "topic_filter": "a", "enabled": False})[2]
    other = f"/webhooks/{other['webhook']['id']}"
    for url in ("http://localhost:9/x", "http://a.localhost/", "http://127.1/", "http://[::1]/", "http://10.0.0.1/"):
        for method, path in (("POST", "/webhooks"), ("PUT", other)):
            status, _, body = asked(node, method, path, {"url": url, "topic_filter": "a"})
            assert (status, body["status"]) == (400, "error") and "integrations.allow_private" in body["message"], body
    told = asked(node, "POST", "/webhooks", {"url": "http://localhost:9/x", "topic_filter": "a"})[2]["message"]
    assert "127.0.0.1 and ::1 are private" in told and "add 127.0.0.0/8 and ::1, this machine, to" in told, told
    assert asked(node, "DELETE", other)[0] == 200


def test_a_webhook_at_this_machine_needs_the_address_at_which_servers_listen(receiver):
    hook = {"url": receiver.url.replace("127.0.0.1", "localhost"), "topic_filter": "a"}
    with martlet_process.Node(http=True, settings=["integrations.allow_private=::1"]) as node:
        status, _, body = asked(node, "POST", "/webhooks", hook)
        assert status == 400 and "127.0.0.1 is a private" in body["message"], body
    with martlet_process.Node(http=True, settings=["integrations.allow_private=127.0.0.0/8"]) as node:
        assert asked(node, "POST", "/webhooks", hook)[0] == 201
        with Client(node, "pump") as client:
            client.publish("a", "x")
        until(lambda: payloads(receiver) == ["x"], node.log)


def test_a_webhook_at_a_name_with_a_private_address_is_refused_at_once_and_one_without_an_address_is_not(node):
    def is_private(name):
        with contextlib.suppress(OSError):
            return all(not ipaddress.ip_address(one[4][0]).is_global for one in socket.getaddrinfo(name, 80))

    name = next(name for name in (socket.gethostname(), "ip6-localhost", "ip6-loopback") if is_private(name))
    status, _, body = asked(node, "POST", "/webhooks", {"url": f"http://{name}:9/x", "topic_filter": "a"})
    assert (status, body["status"]) == (400, "error"), body
    assert f"{name}: " in body["message"] and "integrations.allow_private" in body["message"], body
    status, _, body = asked(node, "POST", "/webhooks", {"url": "http://none.invalid/x", "topic_filter": "a"})
    assert status == 201, body
    assert asked(node, "DELETE", f"/webhooks/{body['webhook']['id']}")[0] == 200


def test_the_variables_of_a_webhook_send_it_every_message(tmp_path, receiver):
    variables = {"MQTT_BROKER_ENABLED": "true", "MQTT_BROKER_AUTH_ENABLED": "false", "WEBHOOK_ENABLED": "true",
                 "WEBHOOK_URL": receiver.url, "WEBHOOK_RETRY_COUNT": "1", "WEBHOOK_RETRY_DELAY": "1"}
    with martlet_process.Node(http=True, variables=variables.items(), data_dir=tmp_path / "data") as node:
        with Client(node, "pump") as client:
            client.publish("any/topic", "one", 0)
            client.publish("other", "two", 2)
        until(lambda: payloads(receiver) == ["one", "two"], node.log)
        assert asked(node, "GET", "/webhooks")[2]["count"] == 0
    done = martlet_process.run("config", "show", "--json")
    assert done.returncode == 0


@pytest.mark.parametrize("method, path, status", [
    ("GET", "/publish", 405), ("DELETE", "/broker/status", 405), ("GET", "/messages/1/confirm", 405),
    ("GET", "/webhooks/1/x", 404),
])
def test_what_is_not_there_is_told_in_its_form(node, method, path, status):
    told = asked(node, method, path)
    assert told[:2] == (status, "application/json") and told[2]["status"] == "error"


def test_keys_are_shown_in_three_ways():
    key = "0123456789abcdef-secret"
    variables = {"API_KEY_ENABLED": "true", "API_KEYS": key}
    with martlet_process.Node(http=True, variables=variables.items()) as node:
        refused = (401, "text/plain", "Unauthorized: invalid or missing API key\n")
        assert asked(node, "GET", "/broker/status") == refused
        assert asked(node, "GET", "/broker/status", None, "-H", "X-API-Key: wrong") == refused
        for path, header in [("", f"X-API-Key: {key}"), ("", f"Authorization: Bearer {key}"), (f"?api_key={key}", "X-A: b")]:
            assert asked(node, "GET", f"/broker/status{path}", None, "-H", header)[0] == 200
            body = {"topic": "t", "payload": "x", "broker": "internal"}
            assert asked(node, "POST", f"/publish{path}", body, "-H", header)[0] == 200
        assert asked(node, "GET", "/healthz")[0] == 200


def test_who_lacks_a_scope_is_told_so():
    keys = ("MARTLET_HTTP__API_KEYS", "v:0123456789abcdef0:viewer")
    with martlet_process.Node(http=True, variables=[keys]) as node:
        header = ("-H", "X-API-Key: 0123456789abcdef0")
        told = asked(node, "POST", "/publish", {"topic": "t", "payload": "x"}, *header)
        assert told[:2] == (403, "application/json") and "messages:write" in told[2]["message"]
        assert asked(node, "GET", "/broker/status", None, *header)[0] == 200


def test_pages_of_other_sites_publish_nothing(node):
    told = asked(node, "POST", "/publish", {"topic": "t", "payload": "x"}, "-H", "Origin: https://evil.example")
    assert told[:2] == (403, "application/json")
    told = asked(node, "GET", "/broker/status", None, "-H", "Host: rebound.example")
    assert told[:2] == (421, "application/json") and told[2]["status"] == "error"


def test_the_routes_are_there_only_where_they_are_asked_for():
    with martlet_process.Node(http=True, settings=["http.compat=off"]) as node:
        assert asked(node, "GET", "/broker/status")[:2] == (404, "application/problem+json")
    done = martlet_process.run("config", "check", "--set", "http.compat=7")
    assert done.returncode != 0 and "expected 1, 2, 3, 4 or off" in done.stderr


@pytest.mark.parametrize("lifted", ["session", "retained", "will", "qos2"])
def test_its_limitations_are_none_here(lifted, tmp_path):
    """Sessions and retained messages survive a restart; Wills and QoS 2 are there."""
    place = tmp_path / "data"
    pub = ["mosquitto_pub", "-h", "127.0.0.1"]
    with martlet_process.Node(data_dir=place) as node:
        port = ["-p", str(node.port())]
        if lifted == "session":
            command = ["mosquitto_sub", "-h", "127.0.0.1", *port, "-i", "s", "-c", "-q", "1", "-t", "a", "-E"]
            assert subprocess.run(command, timeout=60).returncode == 0
        if lifted == "will":
            client = subscriber(node, "gone")
            lost = subscriber(node, "x", "--will-topic", "gone", "--will-payload", "bye")
            lost.kill()
            assert received(client) == "bye"
            return
        if lifted == "qos2":
            client = subscriber(node, "a", "-q", "2")
            assert subprocess.run([*pub, *port, "-t", "a", "-m", "two", "-q", "2"], timeout=60).returncode == 0
            assert received(client) == "two"
            return
        retain = ["-r"] if lifted == "retained" else []
        assert subprocess.run([*pub, *port, "-t", "a", "-m", "kept", "-q", "1", *retain], timeout=60).returncode == 0
        node.process.kill()
        node.wait()
    with martlet_process.Node(data_dir=place) as node:
        again = ["-i", "s", "-c", "-q", "1"] if lifted == "session" else []
        command = ["mosquitto_sub", "-h", "127.0.0.1", "-p", str(node.port()), *again, "-t", "a", "-C", "1", "-W", "20"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
        assert done.stdout == "kept\n", done


def test_a_port_in_use_and_missing_certificates_are_named(node, tmp_path):
    busy = f"mqtt://127.0.0.1:{node.port()}"
    done = martlet_process.run("serve", "--listen", busy, "--http", "off", "--data-dir", str(tmp_path / "data"))
    assert done.returncode != 0 and "is in use by" in done.stderr, done
    variables = {"MQTT_BROKER_TLS_ENABLED": "true", "MQTT_BROKER_TLS_CERT_FILE": "certificates/server.crt",
                 "MQTT_BROKER_TLS_KEY_FILE": "certificates/server.key"}
    done = subprocess.run([martlet_process.binary(), "config", "check"], capture_output=True, text=True, timeout=60,
                          env={**martlet_process.environment(), **variables}, cwd=tmp_path)
    assert done.returncode != 0 and "certificates/server.crt" in done.stderr, done
