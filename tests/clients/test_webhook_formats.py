"""Webhooks in the forms that receivers know: CloudEvents, lists of messages, the MQTT microservice's;
and the checks of signatures that the documentation prints, run as they are printed."""

import base64
import http.server
import json
import pathlib
import re
import subprocess
import threading
import time

import pytest

import martlet_process
from paho_client import Client, properties
from programs import need
from test_http_api import KEY, ask
from test_http_registry import call
from test_sinks import until
from test_webhooks import SIGNING_KEY, configured, state

DOCUMENT = pathlib.Path(__file__).parents[2] / "docs" / "webhooks.md"


class Requests:
    """A receiver that keeps the requests, and answers as `answer` says by the body."""

    def __init__(self):
        self.seen, self.methods, self.under_way, self.most_at_once = [], [], 0, 0
        self.lock = threading.Lock()
        self.answer = lambda body: 204
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                with outer.lock:
                    outer.under_way += 1
                    outer.most_at_once = max(outer.most_at_once, outer.under_way)
                status = outer.answer(json.loads(body))
                with outer.lock:
                    outer.under_way -= 1
                    headers = {name.lower(): value for name, value in self.headers.items()}
                    outer.seen.append((status, headers, body))
                    outer.methods.append(self.command)
                self.send_response(status)
                self.send_header("content-length", "0")
                self.end_headers()

            do_GET = do_PUT = do_PATCH = do_DELETE = do_POST

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def bodies(self, status=204):
        with self.lock:
            return [json.loads(body) for found, _, body in self.seen if found == status]

    def close(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def receiver():
    made = Requests()
    yield made
    made.close()


def test_a_message_is_a_cloud_event(start_node, tmp_path, receiver):
    node = start_node(**configured(tmp_path, receiver.url, format="cloudevents"))
    with Client(node, "pump-1").credentials("boss", "x") as client:
        client.publish("plant/hall 7", '{"t": 21.50}')
        client.publish("plant/1", "on", properties=properties("PUBLISH", ContentType="text/x-state"))
        client.publish("plant/1", b"\xff")
    until(lambda: len(receiver.seen) == 3, node.log)
    first, second, third = receiver.bodies()
    _, headers, body = receiver.seen[0]
    assert headers["content-type"] == "application/cloudevents+json"
    assert (first["specversion"], first["subject"]) == ("1.0", "plant/hall 7")
    assert first["source"] == "mqtt:plant/hall%207" and first["clientid"] == "pump-1"
    assert first["data"] == {"t": 21.5} and b"21.50" in body
    # Nobody has checked that it is boss.
    assert b"boss" not in body
    assert (second["data"], second["datacontenttype"]) == ("on", "text/x-state")
    assert third["data_base64"] == "/w==" and "data" not in third
    assert len({one["id"] for one in receiver.bodies()}) == 3


def test_messages_share_requests_and_stay_in_order(start_node, tmp_path, receiver):
    release = threading.Event()
    receiver.answer = lambda body: 204 if release.wait(60) else 500
    node = start_node(**configured(
        tmp_path, receiver.url, batch_messages=50, in_flight=1, format="cloudevents", timeout_secs=60))
    with Client(node, "pump-1") as client:
        for number in range(120):
            client.publish("plant/1", str(number))
        release.set()
    until(lambda: sum(map(len, receiver.bodies())) == 120, node.log)
    lists = receiver.bodies()
    assert [event["data"] for events in lists for event in events] == list(range(120))
    assert len(lists) < 10 and max(map(len, lists)) == 50
    assert receiver.seen[0][1]["content-type"] == "application/cloudevents-batch+json"


def test_a_message_that_is_refused_in_a_list_becomes_a_dead_letter_alone(start_node, tmp_path, receiver):
    release = threading.Event()

    def answer(body):
        release.wait(30)
        return 422 if any(one["payload"] == "bad" for one in body) else 204

    receiver.answer = answer
    node = start_node(**configured(tmp_path, receiver.url, batch_messages=10, in_flight=1, timeout_secs=60))
    with Client(node, "pump-1") as client:
        for payload in ("0", "1", "bad", "2", "3"):
            client.publish("plant/1", payload)
        release.set()
    until(lambda: state(node)["dead_letters_stored"] == 1, lambda: state(node))
    until(lambda: [one["payload"] for some in receiver.bodies() for one in some] == ["0", "1", "2", "3"], node.log)


def test_without_an_order_messages_of_one_publisher_are_sent_at_once(start_node, tmp_path, receiver):
    at_once, release = threading.Barrier(4, timeout=30), threading.Event()

    def answer(body):
        # The first one is held until all others are there.
        release.wait(30) if body["payload"] == "first" else at_once.wait()
        return 204

    receiver.answer = answer
    node = start_node(**configured(tmp_path, receiver.url, order="none", in_flight=4, timeout_secs=60))
    with Client(node, "pump-1") as client:
        client.publish("plant/1", "first")
        # Alone in its call: the others are all in the next one.
        until(lambda: receiver.under_way == 1, node.log)
        for number in range(8):
            client.publish("plant/1", str(number))
        until(lambda: state(node)["lag"] == 9, lambda: state(node))
        release.set()
    # Each other answer waits for three others: nothing would come if they were sent one after the other.
    until(lambda: len(receiver.bodies()) == 9, node.log)
    assert receiver.most_at_once == 4


def test_the_form_of_the_microservice(start_node, tmp_path, receiver):
    node = start_node(**configured(tmp_path, receiver.url, format="microservice"))
    with Client(node, "pump-1") as client:
        # A client cannot pretend that its message came from another broker.
        client.publish("plant/1", '{"a": [1]}', 2, properties=properties("PUBLISH", UserProperty=("from", "x")))
        client.publish("plant/1", "plain")
    until(lambda: len(receiver.seen) == 2, node.log)
    first, second = receiver.bodies()
    assert set(first) == {"topic", "payload", "qos", "timestamp", "broker"}
    assert (first["payload"], first["qos"], first["broker"]) == ({"a": [1]}, 2, "internal")
    assert second["payload"] == "plain"
    assert receiver.seen[0][1]["user-agent"] == "MQTT-Microservice"


# The checks of signatures


def printed(language):
    """The block of the documentation in this language that checks a signature."""
    blocks = re.findall(rf"```{language}\n(.*?)```", DOCUMENT.read_text(), re.S)
    [block] = [one for one in blocks if "webhook-signature" in one]
    return block


# Each gets JSON with `key`, `headers` and `body` in base64 at its standard input, and prints yes or no.
PYTHON = """
import json, sys
given = json.load(sys.stdin)
body = base64.b64decode(given["body"])
print("yes" if is_genuine(given["key"].encode(), given["headers"], body) else "no")
"""

JAVASCRIPT = """
const chunks = [];
for await (const chunk of process.stdin) chunks.push(chunk);
const given = JSON.parse(Buffer.concat(chunks));
console.log(isGenuine(given.key, given.headers, Buffer.from(given.body, "base64")) ? "yes" : "no");
"""

# What of Laravel the middleware uses.
PHP = """<?php
$given = json_decode(stream_get_contents(STDIN), true);
class Request {
    public function __construct(private array $given) {}
    public function header($name) { return $this->given['headers'][$name] ?? null; }
    public function getContent() { return base64_decode($this->given['body']); }
}
function config($name) { global $given; return $given['key']; }
function abort_unless($condition, $status) { if (!$condition) { echo "no\\n"; exit; } }
%s
(new VerifyMartlet())->handle(new Request($given), fn ($request) => print("yes\\n"));
"""


def check(language, tmp_path, given):
    if language == "python":
        command = [need("python3", "python3"), "-c", printed("python") + PYTHON]
    elif language == "js":
        script = tmp_path / "check.mjs"
        script.write_text(printed("js") + JAVASCRIPT)
        command = [need("node", "nodejs"), str(script)]
    else:
        script = tmp_path / "check.php"
        script.write_text(PHP % printed("php"))
        command = [need("php", "php-cli"), str(script)]
    done = subprocess.run(command, input=json.dumps(given), capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout.strip()


@pytest.mark.parametrize("language", ["python", "js", "php"])
def test_the_printed_check_of_a_signature_works(start_node, tmp_path, receiver, language):
    node = start_node(**configured(tmp_path, receiver.url, signing_key=SIGNING_KEY))
    with Client(node, "pump-1") as client:
        client.publish("plant/1", "ä \x01 \"quoted\"")
    until(lambda: len(receiver.seen) == 1, node.log)
    _, headers, body = receiver.seen[0]
    names = ("webhook-id", "webhook-timestamp", "webhook-signature")
    headers = {name: headers[name] for name in names}
    given = {"key": SIGNING_KEY, "headers": headers, "body": base64.b64encode(body).decode()}
    assert check(language, tmp_path, given) == "yes"
    changed = base64.b64encode(body.replace(b"plant/1", b"plant/2")).decode()
    forged = {**headers, "webhook-signature": "v1," + "é" * 44}
    late = {**headers, "webhook-timestamp": str(int(time.time()) - 400)}
    for wrong in ({"body": changed}, {"headers": forged}, {"headers": late}, {"key": "another key of 16 bytes"}):
        assert check(language, tmp_path, {**given, **wrong}) == "no", wrong


# Events of clients


def test_events_of_clients_are_sent_as_messages(start_node, tmp_path, receiver):
    node = start_node(
        **configured(tmp_path, receiver.url, filters=["$events/connected", "$events/session_ended"]),
        settings=["events.publish=connected,disconnected,session_ended"])

    def events(client_id):
        payloads = [json.loads(body["payload"]) for body in receiver.bodies()]
        return [one["kind"] for one in payloads if one["client_id"] == client_id]

    with Client(node, "pump-1").credentials("ada", "x"):
        until(lambda: events("pump-1") == ["connected"], node.log)
    until(lambda: events("pump-1") == ["connected", "session_ended"], node.log)
    first = receiver.bodies()[0]
    assert (first["topic"], first["client_id"]) == ("$events/connected", None)
    event = json.loads(first["payload"])
    assert event["user_name"] == "ada" and event["at"].endswith("Z")


def test_ends_of_connections_and_refusals_are_sent_as_messages(start_node, tmp_path, receiver):
    node = start_node(
        **configured(tmp_path, receiver.url, filters=["$events/disconnected", "$events/refused"]),
        settings=["events.publish=connected,disconnected,refused,session_ended"])
    secret = call(node, "POST", "/api/v1/devices", {"id": "pump-1"})["secret"]
    with Client(node, "pump-1").credentials("pump-1", "known-password-5") as client:
        assert client.connack.is_failure
    until(lambda: len(receiver.bodies()) == 1, node.log)
    with Client(node, "pump-1").credentials("pump-1", secret):
        pass
    lost = Client(node, "pump-1").credentials("pump-1", secret).start()
    lost.drop()
    until(lambda: len(receiver.bodies()) == 3, node.log)
    events = [(body["topic"], json.loads(body["payload"])) for body in receiver.bodies()]
    assert [topic for topic, _ in events] == ["$events/refused", "$events/disconnected", "$events/disconnected"]
    assert [event["kind"] for _, event in events] == ["refused", "disconnected", "disconnected"]
    assert {event["client_id"] for _, event in events} == {"pump-1"}
    reasons = [event["reason"] for _, event in events]
    assert len(set(reasons)) == 3, reasons
    assert not any(word in json.dumps(receiver.bodies()) for word in ("known-password-5", secret))


def test_a_device_that_goes_silent_is_told_and_so_is_its_return(start_node, tmp_path, receiver):
    options = configured(tmp_path, receiver.url, filters=["$events/device_inactive", "$events/device_active"])
    node = start_node(**options, settings=["events.publish=device_inactive,device_active"])
    secret = call(node, "POST", "/api/v1/devices", {"id": "pump-1"})["secret"]
    refused = call(node, "PATCH", "/api/v1/device-types/device", {"inactive_after_secs": 5}, expect=422)
    assert "10 to 31622400" in refused["detail"]
    shown = call(node, "PATCH", "/api/v1/device-types/device", {"inactive_after_secs": 10})
    assert (shown["inactive_after_secs"], shown["built_in"]) == (10, True)
    path, change = "/api/v1/device-types/device", json.dumps({"inactive_after_secs": 20}).encode()
    headers = {"X-API-Key": KEY, "Content-Type": "application/json"}
    assert ask(node, path, "PATCH", headers, change)[0] == 428
    assert ask(node, path, "PATCH", {**headers, "If-Match": f'"{shown["revision"] + 7}"'}, change)[0] == 412
    assert call(node, "GET", path) == shown

    def device():
        return call(node, "GET", "/api/v1/devices/pump-1")

    def events():
        return [json.loads(body["payload"]) for body in receiver.bodies()]

    assert device()["last_message_at"] is None
    with Client(node, "pump-1").credentials("pump-1", secret) as client:
        client.publish("d/pump-1/t", "1")
        until(lambda: device()["last_message_at"], node.log)
        assert device()["inactive_since"] is None
        # It is connected all the time, and sends nothing.
        until(lambda: device()["inactive_since"], node.log, timeout=40)
        inactive = call(node, "GET", "/api/v1/devices?inactive=true")["items"]
        assert [one["id"] for one in inactive] == ["pump-1"]
        until(lambda: len(events()) == 1, node.log)
        client.publish("d/pump-1/t", "2")
        until(lambda: len(events()) == 2, node.log)
    assert [one["kind"] for one in events()] == ["device_inactive", "device_active"]
    assert {one["client_id"] for one in events()} == {"pump-1"}
    assert events()[0]["inactive_after_secs"] == 10
    until(lambda: call(node, "GET", "/api/v1/devices?inactive=true")["items"] == [], node.log)


def test_no_client_may_tell_of_events(start_node, tmp_path, receiver):
    node = start_node(**configured(tmp_path, receiver.url, filters=["$events/#", "plant/#"]))
    with Client(node, "pump-1") as client:
        assert not client.acknowledged("$events/connected")
        client.publish("plant/1", "last")
    until(lambda: [body["topic"] for body in receiver.bodies()] == ["plant/1"], node.log)


def test_kinds_of_events_that_cannot_be_published_are_named(tmp_path):
    done = martlet_process.run("config", "check", "--set", "events.publish=connected,published")
    assert done.returncode != 0 and "events.publish" in done.stderr and "published" in done.stderr
