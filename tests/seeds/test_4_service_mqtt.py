"""The document of Service-MQTT, from top to bottom: a device is added by HTTP, publishes with
mosquitto_pub, and the routes are described. What later work brings is listed in test_statements.py."""

import json
import re
import subprocess

import pytest

import martlet_process
import nats_process
import postgres_process
from programs import Mosquitto
from server_process import free_ports
from test_3_iotflow import asked
from test_registry import is_permitted
from test_sinks import until

KEY = "0123456789abcdef-secret"


class Closing:
    """A PostgreSQL server that ends with the test."""

    def __enter__(self):
        self.server = postgres_process.Server()
        return self.server

    def __exit__(self, *_):
        self.server.close()


class Service:
    """A node as the names of Service-MQTT configure it: with its own listener, and its database."""

    def __init__(self, database=None, **variables):
        [port] = free_ports(1)
        named = {"LISTEN_ADDR": f":{port}", **variables}
        if database:
            named |= {"DATABASE_DSN": database, "ENABLE_JETSTREAM": "false"}
        self.node = martlet_process.Node(http=True, variables=named.items())
        self.http_url = f"http://127.0.0.1:{port}"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.node.close()


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def service(request):
    if request.param == "sqlite":
        with Service() as service:
            yield service
        return
    with Closing() as server, Service(server.new_database()) as service:
        yield service


def test_a_device_is_added_and_publishes(service):
    # The line of the document: curl sends it with the type of a form.
    status, kind, added = asked(service, "POST", "/devices", '{"type":"test-device"}')
    assert (status, kind) == (200, "application/json"), added
    assert list(added) == ["id", "type", "mqtt_user", "mqtt_password", "created_at"]
    assert re.fullmatch(r"[A-Z2-7]{16}", added["id"]) and added["mqtt_user"] == added["id"]
    assert re.fullmatch(r"[0-9A-Za-z]{16}", added["mqtt_password"]) and added["type"] == "test-device"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", added["created_at"])
    user, password = added["mqtt_user"], added["mqtt_password"]
    login = ("-u", user, "-P", password)
    done = Mosquitto(service.node).pub(*login, "-t", f"raw.{user}", "-m", "Hello from my new device!", "-q", "1")
    assert done.returncode == 0, done.stderr
    assert is_permitted(service.node, f"raw.{user}/a", *login) and not is_permitted(service.node, "raw.other", *login)
    wrong = Mosquitto(service.node).pub("-u", user, "-P", "wrong", "-t", f"raw.{user}", "-m", "x")
    assert wrong.returncode != 0
    # It is a device as all others.
    _, _, device = asked(service, "GET", f"/api/v1/devices/{user}")
    assert (device["type"], device["kind"]) == ("service-mqtt", "test-device") and "secret" not in device


def test_each_device_has_its_own_credentials(service):
    added = [asked(service, "POST", "/devices", {"type": "x"})[2] for _ in range(3)]
    assert len({one["id"] for one in added}) == len({one["mqtt_password"] for one in added}) == 3


@pytest.mark.parametrize("body", ["", "{", "null", "[]", '["x"]', "{}", '{"type": ""}', '{"type": 7}', "type=x"])
def test_a_body_that_is_no_device_is_told_what_is_expected(service, body):
    status, kind, told = asked(service, "POST", "/devices", body)
    assert (status, kind) == (400, "text/plain")
    assert json.loads(told) == {"error": 'body must be {"type":"<deviceType>"}'}


def test_other_methods_and_longer_words_are_refused(service):
    status, kind, told = asked(service, "GET", "/devices")
    assert (status, kind) == (405, "text/plain") and set(json.loads(told)) == {"error"}
    status, kind, told = asked(service, "POST", "/devices", {"type": "x" * 257})
    assert (status, kind) == (400, "text/plain") and "256" in json.loads(told)["error"]


def test_the_routes_are_described(service):
    status, kind, document = asked(service, "GET", "/docs/doc.json")
    assert (status, kind, document["swagger"]) == (200, "application/json", "2.0")
    assert list(document["paths"]) == ["/devices"] and list(document["paths"]["/devices"]) == ["post"]
    status, kind, page = asked(service, "GET", "/docs/index.html")
    assert (status, kind) == (200, "text/html") and "Swagger" in page and "device-service.js" in page
    status, kind, script = asked(service, "GET", "/docs/device-service.js")
    assert (status, kind) == (200, "text/javascript") and "doc.json" in script
    assert asked(service, "GET", "/docs/swagger-ui-bundle.js")[0] == 200
    assert asked(service, "GET", "/docs")[0] == 308
    # The listener of the node itself shows its own API there.
    general = next(url for url in re.findall(r"http://[\d.]+:\d+", " ".join(service.node.announced)) if url != service.http_url)
    page = subprocess.run(["curl", "-sS", f"{general}/docs/index.html"], capture_output=True, text=True, timeout=60).stdout
    assert "start.js" in page and "device-service.js" not in page


def test_a_key_is_needed_once_there_is_one(tmp_path):
    key = ("-H", f"X-API-Key: {KEY}")
    keys = f"all:{KEY},some:{KEY}-other:devices:read"
    with Service(MARTLET_HTTP__API_KEYS=keys) as service:
        for options, expected in [((), 401), (("-H", "X-API-Key: wrong"), 401), (("-H", f"X-API-Key: {KEY}-other"), 403), (key, 200)]:
            status, kind, told = asked(service, "POST", "/devices", {"type": "x"}, *options)
            assert status == expected, told
            assert status == 200 or kind == "text/plain" and set(json.loads(told)) == {"error"}


def test_a_type_is_applied_for_who_may_add_devices_alone():
    """Whoever has no key, as on an open route, does not choose the rights of a device."""
    settings = {"MARTLET_HTTP__API_KEYS": f"all:{KEY}", "MARTLET_HTTP__OPEN_ROUTES": "POST /devices"}
    with Service(**settings) as service:
        key = ("-H", f"X-API-Key: {KEY}")
        type_of = lambda added: asked(service, "GET", f"/api/v1/devices/{added['id']}", None, *key)[2]["type"]
        _, _, added = asked(service, "POST", "/devices", {"type": "iotflow"}, *key)
        assert type_of(added) == "iotflow" and added["type"] == "iotflow"
        status, _, added = asked(service, "POST", "/devices", {"type": "iotflow"})
        assert status == 200 and type_of(added) == "service-mqtt" and added["type"] == "iotflow"


def test_an_answer_that_is_given_again_has_no_password():
    with Service(MARTLET_HTTP__API_KEYS=f"all:{KEY}") as service:
        options = ("-H", "Idempotency-Key: one", "-H", f"X-API-Key: {KEY}")
        first = asked(service, "POST", "/devices", {"type": "x"}, *options)[2]
        again = asked(service, "POST", "/devices", {"type": "x"}, *options)[2]
        assert again == {**first, "mqtt_password": None} and first["mqtt_password"]


def test_other_listeners_have_the_route_unless_they_are_told_otherwise():
    with martlet_process.Node(http=True) as node:
        assert asked(node, "POST", "/devices", {"type": "x"})[0] == 200
    with martlet_process.Node(http=True, settings=["http.compat=1,2,3"]) as node:
        assert asked(node, "POST", "/devices", {"type": "x"})[0] == 404
        assert asked(node, "GET", "/docs/doc.json")[0] == 404


@pytest.mark.parametrize("source", nats_process.BOTH)
def test_every_message_is_forwarded_to_nats_and_has_a_line_in_the_log(source):
    nats = nats_process.Server(source=source)
    try:
        with Service(NATS_URL=nats.url.replace("127.0.0.1", "localhost"), PUBLISH_TIMEOUT_SEC="3") as service:
            [permitted] = service.node.facts("private addresses")
            assert permitted.startswith("environment NATS_URL: the sink nats/service-mqtt may connect to")
            _, _, device = asked(service, "POST", "/devices", {"type": "test-device"})
            user = device["mqtt_user"]
            login = ("-u", user, "-P", device["mqtt_password"])
            sent = ["Hello from my new device!", *map(str, range(30))]
            lines = "".join(f"{text}\n" for text in sent)
            # Line by line, at QoS 0 as in the document.
            done = subprocess.run(["mosquitto_pub", "-h", "localhost", "-p", str(service.node.port()), *login,
                                   "-t", f"raw.{user}", "-l"], input=lines, text=True, capture_output=True, timeout=60)
            assert done.returncode == 0, done.stderr
            asks = nats_process.Client(nats)
            # Messages of two connections are in no order otherwise.
            until(lambda: asks.count("MARTLET_service-mqtt") == len(sent), service.node.log)
            done = Mosquitto(service.node).pub(*login, "-t", f"raw.{user}/other", "-m", "last", "-q", "1")
            assert done.returncode == 0, done.stderr
            until(lambda: asks.count("MARTLET_service-mqtt") == len(sent) + 1, service.node.log)
            found = asks.all("MARTLET_service-mqtt")
            assert [payload.decode() for _, _, payload in found] == [*sent, "last"]
            assert {(subject, head["Content-Type"]) for subject, head, _ in found} == {
                (f"raw.{user}", "application/json")}
            log = lambda: service.node.log()
            own = lambda: [line for line in log().splitlines() if "forwarded a message to NATS" in line]
            counted = lambda: sum(map(int, re.findall(r"forwarded more messages.*messages=(\d+)", log())))
            until(lambda: counted() > 0 and len(own()) + counted() == len(found), log)
            assert 10 <= len(own()) < len(sent) and all(f"raw.{user}" in line for line in own()), log()
            config = asks.stream_info("MARTLET_service-mqtt")["config"]
            assert (config["subjects"], config["max_age"], config["max_bytes"]) == (["raw.>"], 7 * 86_400 * 10**9, 1 << 30)
    finally:
        nats.close()


def test_without_jetstream_whoever_is_subscribed_gets_the_messages():
    nats = nats_process.Server()
    try:
        with Service(NATS_URL=nats.url, ENABLE_JETSTREAM="false") as service:
            _, _, device = asked(service, "POST", "/devices", {"type": "test-device"})
            user = device["mqtt_user"]
            listens = nats_process.Client(nats)
            listens.send(b"SUB raw.> 9\r\n")
            listens.request("$JS.API.INFO")
            got = []
            for text in ["one", "two"]:
                done = Mosquitto(service.node).pub("-u", user, "-P", device["mqtt_password"], "-t", f"raw.{user}",
                                                   "-m", text, "-q", "1")
                assert done.returncode == 0, done.stderr
                # Messages of two connections are in no order otherwise.
                got.append(listens.message(b"9"))
            assert [(subject, payload) for subject, _, payload in got] == [
                (f"raw.{user}", b"one"), (f"raw.{user}", b"two")]
            assert listens.request("$JS.API.STREAM.NAMES")["streams"] is None
            until(lambda: "forwarded a message to NATS" in service.node.log(), service.node.log)
    finally:
        nats.close()


def test_topics_that_begin_with_a_dollar_sign_are_forwarded_if_they_are_named(tmp_path):
    rules = tmp_path / "acl"
    rules.write_text("topic #\ntopic $aws/#\ntopic $other/#\n")
    nats = nats_process.Server()
    try:
        with Service(NATS_URL=nats.url, MARTLET_NATS__FILTERS="#, $aws/#",
                     MARTLET_AUTH__ACL_FILE=str(rules), MARTLET_MQTT__ALLOW_ANONYMOUS="true") as service:
            asks = nats_process.Client(nats)
            for topic, count in [("$aws/1", 1), ("$other/1", 1), ("plain", 2)]:
                done = Mosquitto(service.node).pub("-t", topic, "-m", topic, "-q", "1")
                assert done.returncode == 0, done.stderr
                # Messages of two connections are in no order otherwise.
                until(lambda: asks.count("MARTLET_service-mqtt") == count, service.node.log)
            assert [payload for _, _, payload in asks.all("MARTLET_service-mqtt")] == [b"$aws/1", b"plain"]
    finally:
        nats.close()


@pytest.mark.parametrize("variables, told", [
    ({"NATS_URL": "nats://h:4222", "PUBLISH_TIMEOUT_SEC": "0"}, "PUBLISH_TIMEOUT_SEC is"),
    ({"ENABLE_JETSTREAM": "perhaps"}, "ENABLE_JETSTREAM is"),
    ({"NATS_URL": "nats://h,tls://"}, "`url` is not a NATS URL"),
    ({"NATS_URL": "foo bar"}, "`url` is not a NATS URL"),
    ({"NATS_URL": "nats://one:4222,nats://two:99999"}, "`url` is not a NATS URL"),
    ({"NATS_URL": "http://one:4222"}, "`url` is not a NATS URL, expected nats:// or tls://"),
])
def test_a_wrong_value_is_told(variables, told):
    done = subprocess.run([martlet_process.binary(), "config", "check"], capture_output=True, text=True, cwd="/tmp",
                          env={**martlet_process.environment(), "LISTEN_ADDR": ":0", **variables}, timeout=60)
    assert done.returncode != 0 and told in done.stdout + done.stderr, done
