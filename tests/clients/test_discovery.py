"""Devices that register by MQTT, and old firmware whose messages name their device by `api_key`:
what they get, what they may do, and that no secret is seen by anybody else."""

import json
import pathlib
import sqlite3

import pytest

import martlet_process
from paho_client import V311, Client, properties
from test_access import until
from test_event_archive import PATH as ARCHIVE
from test_events import Stream
from test_http_api import KEY, KEYS
from test_http_registry import call

PASSWORD = "correct horse battery"
REGISTER, RESPONSE = "iotflow/discovery/register/", "iotflow/discovery/response/"
EVENTS = ["published", "packet", "connected", "delivered", "publish_refused", "subscribe_refused", "refused"]


class Place:
    """A node with these keys of its listener, and a provisioning key."""

    def __init__(self, start_node, tmp_path, keys, variables=KEYS, more="", settings=(), **key):
        config = tmp_path / "martlet.toml"
        self.sink = tmp_path / "messages.json"
        config.write_text(f"""
[auth]
enabled = "on"
[[listeners]]
url = "mqtt://127.0.0.1:0"
{keys}
[[sinks.file]]
name = "all"
filters = ["#"]
path = "{self.sink}"
{more}
""")
        self.data = tmp_path / "data"
        settings = ["http.rate=0", "topic_memory.filters=#", f"events.archive_kinds={','.join(EVENTS)}",
                    "log.level=debug", "log.connections=true", *settings]
        self.node = start_node(listen=(), http=True, variables=variables, data_dir=self.data,
                               arguments=("-c", str(config)), settings=settings)
        key = {"name": "line", "device_type": "iotflow", **key}
        self.key = call(self.node, "POST", "/api/v1/provisioning-keys", key)["key"]

    def user(self, name="ada"):
        call(self.node, "POST", "/api/v1/users", {"name": name, "password": PASSWORD, "role": "administrator"})
        return Client(self.node, name).credentials(name, PASSWORD)

    def applicant(self, name, **how):
        return Client(self.node, name, **how)

    def register(self, client, device, qos=1, **members):
        client.subscribe(RESPONSE + device, qos=1)
        client.publish(REGISTER + device, json.dumps(members), qos)
        message = client.receive()
        assert message.topic == RESPONSE + device and not message.retain
        return json.loads(message.payload)

    def trace(self, client):
        """Packets of the client are in the log from now on."""
        call(self.node, "POST", "/api/v1/traces", {"client": client, "minutes": 5})

    def refusals(self, name):
        found = call(self.node, "GET", f"{ARCHIVE}?kinds=publish_refused,subscribe_refused,refused&client={name}")
        return found["items"]

    def why(self, name):
        """What is told of a client, as text."""
        return json.dumps(call(self.node, "GET", f"/api/v1/why?name={name}"))

    def seen(self):
        """All that the node keeps or tells, but its tables, as bytes."""
        texts = [call(self.node, "GET", path) for path in (
            "/api/v1/topics?filter=%23", "/api/v1/retained?filter=%23", "/api/v1/clients", "/api/v1/subscriptions",
            f"{ARCHIVE}?limit=1000", "/api/v1/audit", "/api/v1/logs?limit=1000")]
        seen = json.dumps(texts).encode() + self.node.log().encode()
        for path in [self.sink, *pathlib.Path(self.data).rglob("*")]:
            if path.is_file() and not path.name.startswith("martlet.db"):
                seen += path.read_bytes()
        return seen


@pytest.fixture
def place(start_node, tmp_path):
    return lambda keys, **how: Place(start_node, tmp_path, keys, **how)


PAYLOAD = 'discovery = "payload"'


@pytest.mark.parametrize("version", [V311, 5])
def test_a_device_registers_and_connects(start_node, tmp_path, variables, version):
    place = Place(start_node, tmp_path, PAYLOAD, variables=variables)
    with place.applicant("sensor-9", version=version) as client:
        told = place.register(client, "sensor-9", provisioning_key=place.key, name="Boiler", device_type="esp32",
                              firmware_version="1.2")
    assert told["status"] == "success" and told["device_id"] == told["client_id"] == "sensor-9"
    assert told["username"] == "sensor-9" and told["api_key"] == told["password"]
    assert told["topics"]["telemetry_publish"] == "iotflow/devices/sensor-9/telemetry"
    assert told["endpoints"] == [{"scheme": "mqtt", "host": "127.0.0.1", "port": place.node.port()}]
    made = call(place.node, "GET", "/api/v1/devices/sensor-9")
    assert (made["name"], made["kind"], made["type"], made["firmware_version"]) == (
        "Boiler", "esp32", "iotflow", "1.2")
    with Client(place.node, told["client_id"]).credentials(told["username"], told["password"]) as device:
        device.subscribe("iotflow/devices/sensor-9/commands/#", qos=1)
        assert device.acknowledged("iotflow/devices/sensor-9/telemetry")
    line = call(place.node, "GET", "/api/v1/audit?action=device.add")["items"][0]
    assert line["by"].startswith("provisioning key") and line["address"] == "127.0.0.1"


def test_the_key_may_be_the_password(place):
    place = place('discovery = "password"')
    with place.applicant("s1").credentials("whoever", place.key) as client:
        told = place.register(client, "s1", qos=0)
        assert told["status"] == "success"
        # The topics without the base do as well.
        client.subscribe("discovery/response/s2")
        client.publish("discovery/register/s2", "{}")
        assert json.loads(client.receive().payload)["device_id"] == "s2"
    for credentials in [("x", "mp_wrong"), (None, None)]:
        client = place.applicant("s3")
        if credentials[1]:
            client.credentials(*credentials)
        with client:
            assert client.connack.is_failure
    until(lambda: len(place.refusals("s3")) == 2, "the refusals are archived")


def test_nobody_else_sees_a_registration(place):
    place = place(PAYLOAD)
    place.trace("s1")
    with place.user() as spy, place.applicant("other") as other:
        spy.subscribe("#", qos=2)
        other.subscribe(RESPONSE + "s1", qos=1)
        with place.applicant("s1") as client:
            told = place.register(client, "s1", provisioning_key=place.key, name="n")
            assert told["status"] == "success"
            client.publish(REGISTER + "s2", json.dumps({"provisioning_key": place.key}), 1, retain=True)
            client.publish(REGISTER + "s3", json.dumps({"provisioning_key": "mp_MARKER"}), 1)
        spy.publish("plant/end", "end")
        topics = [spy.receive().topic]
        while topics[-1] != "plant/end":
            topics.append(spy.receive().topic)
        # The node publishes its state.
        assert all(topic.startswith(("iotflow/system/", "iotflow/monitoring/")) for topic in topics[:-1]), topics
        spy.publish(RESPONSE + "s1", "of the administrator")
        assert other.receive_payload() == "of the administrator", "nothing came before it"
        until(lambda: place.sink.exists() and b"plant/end" in place.sink.read_bytes(), "the sink has the last message")
    until(lambda: place.refusals("s1"), "the refusal is archived")
    seen = place.seen()
    assert b"plant/end" in seen and b"s1" in seen
    assert REGISTER.encode() + b"s3" in place.node.log().encode(), "the client is traced"
    for secret in (place.key, told["password"], "mp_MARKER"):
        assert secret.encode() not in seen
    with sqlite3.connect(place.data / "martlet.db") as tables:
        dump = "\n".join(tables.iterdump())
    assert place.key not in dump and told["password"] not in dump and "s2" in dump


def test_the_answer_needs_no_subscription_and_no_other_session(place):
    place = place(PAYLOAD)
    with place.applicant("s1") as client:
        client.publish(REGISTER + "s1", json.dumps({"provisioning_key": place.key}), 0)
        message = client.receive()
        assert message.topic == RESPONSE + "s1" and message.qos == 0
    with place.applicant("s2") as client:
        client.subscribe(RESPONSE + "s2", qos=1)
        client.publish(REGISTER + "s2", json.dumps({"provisioning_key": place.key}), 1)
        assert client.receive().qos == 1


def test_such_a_client_may_do_nothing_else(place):
    place = place(PAYLOAD)
    with place.applicant("s1") as client:
        for topic in ("plant/x", RESPONSE + "s1", REGISTER + "s1/more", "iotflow/devices/s1/telemetry", "$SYS/x"):
            assert not client.acknowledged(topic), topic
        for topic in ("#", "+/discovery/response/s1", "iotflow/discovery/response/+", "$SYS/#",
                      f"$share/g/{RESPONSE}s1", REGISTER + "s1", "iotflow/devices/s1/commands/control"):
            assert client.subscribe(topic) == [0x87], topic
    until(lambda: len(place.refusals("s1")) >= 12, "the refusals are archived")
    assert all(one["why"] for one in place.refusals("s1"))
    until(lambda: "without credentials of its own" in place.why("s1"), "it is told")
    with place.applicant("s2", clean=False, properties=properties("CONNECT", SessionExpiryInterval=3600)) as client:
        assert client.connack_properties.SessionExpiryInterval == 0 and not client.session_present
    with place.applicant("s2", clean=False) as client:
        assert not client.session_present
    with place.applicant("s3").will("plant/x", "gone") as client:
        assert client.connack.is_failure
    until(lambda: "Will" in place.why("s3"), "its refusal is told")


def test_the_key_decides_and_refusals_say_why(place):
    place = place(PAYLOAD, id_pattern="pump-*", devices_max=1)
    with place.applicant("c") as client:
        def told(device, **members):
            return place.register(client, device, **members)

        assert told("pump-0")["error"] == "invalid_key"
        assert told("pump-0", provisioning_key="guess")["error"] == "invalid_key"
        assert told("pump-0", provisioning_key="mp_guess")["error"] == "invalid_key"
        assert told("pump-0", provisioning_key=place.key, colour="red")["error"] == "invalid_registration"
        assert "colour" in told("pump-0", provisioning_key=place.key, colour="red")["message"]
        refused = told("valve", provisioning_key=place.key)
        assert refused["error"] == "not_permitted" and "pump-*" in refused["message"]
        first = told("pump-1", provisioning_key=place.key, request_id="r1")
        assert first["status"] == "success"
        # No answer came: the same request is answered with another secret.
        again = told("pump-1", provisioning_key=place.key, request_id="r1")
        assert again["status"] == "success" and again["password"] != first["password"]
        assert told("pump-1", provisioning_key=place.key)["error"] == "limit_reached"
        # PUBACK of MQTT 5 has a Reason Code.
        assert not client.acknowledged(REGISTER + "pump-2")
    with Client(place.node, "pump-1").credentials("pump-1", again["password"]) as device:
        assert not device.connack.is_failure
    until(lambda: "provisioning" in place.why("c") or "registration" in place.why("c"), "its refusals are told")
    until(lambda: len(place.refusals("c")) >= 8, "the refusals are archived")


def test_wrong_keys_lock_an_address_out(place):
    place = place(PAYLOAD, settings=["auth.lockout_failures=3"])
    with place.applicant("c") as client:
        errors = [place.register(client, "s", provisioning_key=f"mp_{number}")["error"] for number in range(5)]
        assert errors[0] == "invalid_key" and errors[-1] == "too_many_requests"
        assert place.register(client, "s", provisioning_key=place.key)["error"] == "too_many_requests"


def test_registrations_and_clients_that_register_are_limited(place):
    place = place(PAYLOAD, settings=[
        "limits.discovery_connections=2", "limits.discovery_secs=8", "limits.discovery_rate_per_address=2"])
    with place.applicant("a") as one, place.applicant("b"):
        with place.applicant("c") as third:
            assert third.connack.is_failure
        until(lambda: "discovery_connections" in place.why("c"), "its refusal is told")
        made = [place.register(one, f"d{number}", provisioning_key=place.key) for number in range(3)]
        assert [told["status"] for told in made] == ["success", "success", "error"]
        assert made[2]["error"] == "too_many_requests"
        assert one.wait_for_end().value == 0x87
    until(lambda: "discovery_secs" in place.why("a"), "its end is told")
    with place.applicant("c") as client:
        assert not client.connack.is_failure, "there is room again"


def test_a_device_that_exists_is_not_disturbed(place):
    place = place(PAYLOAD)
    made = call(place.node, "POST", "/api/v1/devices", {"id": "s1"})
    with Client(place.node, "s1").credentials("s1", made["secret"]) as device:
        with place.applicant("s1") as client:
            assert client.connack.is_failure
        with place.applicant("other") as client:
            assert place.register(client, "s1", provisioning_key=place.key)["error"] == "exists"
        assert device.acknowledged("d/s1/x")


# api_key in the payload


def keyed(place, version=5, **how):
    made = call(place.node, "POST", "/api/v1/devices", {"type": "iotflow", "id": "s1"})
    return made["secret"], place.applicant("old-firmware", version=version, **how)


@pytest.mark.parametrize("version", [V311, 5])
def test_a_message_names_its_device_and_its_key_is_taken_out(place, version):
    place = place("payload_api_key = true")
    secret, client = keyed(place, version)
    place.trace("old-firmware")
    topic = "iotflow/devices/s1/telemetry"
    with place.user() as spy, client:
        spy.subscribe("iotflow/devices/#", qos=2)
        for qos in (0, 1, 2):
            body = f'{{"temperature": 20.50, "api_key": "{secret}", "n": {qos}}}'
            client.publish(topic, body, qos, retain=qos == 1)
            message = spy.receive()
            assert message.topic == topic and message.qos == qos
            assert message.payload.decode() == f'{{"temperature":20.50,"n":{qos}}}'
        # A number of messages in a row keep their order.
        for number in range(50):
            client.client.publish(topic, json.dumps({"api_key": secret, "n": number}), 1)
        assert [json.loads(spy.receive_payload())["n"] for _ in range(50)] == list(range(50))
        client.publish("plant/x", "no key", 1)
        client.publish("iotflow/devices/s1/telemetry", json.dumps({"api_key": "WRONG-MARKER"}), 1)
        client.publish("iotflow/devices/other/telemetry", json.dumps({"api_key": secret}), 1)
        client.publish("iotflow/devices/s1/commands/control", json.dumps({"api_key": secret}), 1)
        client.publish("iotflow/devices/s1/telemetry", "api_key=" + secret, 1)
        client.publish(topic, json.dumps({"api_key": secret, "n": "last"}), 1)
        assert json.loads(spy.receive_payload())["n"] == "last"
        until(lambda: b"last" in place.sink.read_bytes(), "the sink has the last message")
    until(lambda: len(place.refusals("old-firmware")) >= 5, "the refusals are archived")
    seen = place.seen()
    assert secret.encode() not in seen and b"WRONG-MARKER" not in seen
    assert "iotflow/devices/s1/commands/control" in place.node.log(), "the client is traced"
    archived = lambda: call(place.node, "GET", f"{ARCHIVE}?kinds=published&client=old-firmware&limit=1000")["items"]
    until(lambda: len(archived()) >= 54, "the messages are archived")
    published = archived()
    assert len(published) == 54 and {one["user_name"] for one in published} == {"$discovery"}
    sent = [json.loads(line) for line in place.sink.read_text().splitlines() if "old-firmware" in line]
    assert len(sent) == 54 and {(one["user"], one["device"]) for one in sent} == {("s1", "s1")}
    until(lambda: "api_key" in place.why("old-firmware"), "its refusals are told")
    # The tables have it after a while.
    until(lambda: call(place.node, "GET", "/api/v1/devices/s1")["last_seen_at"], "the device was seen")


def test_a_client_that_goes_at_once_is_heard(place):
    place = place("payload_api_key = true")
    secret, _ = keyed(place)
    with place.user() as spy:
        spy.subscribe("iotflow/devices/#", qos=1)
        done = martlet_process.run(
            "pub", "-p", str(place.node.port()), "-t", "iotflow/devices/s1/telemetry", "-q", "0",
            "-m", json.dumps({"api_key": secret, "n": 1}))
        assert done.returncode == 0, done.stderr
        assert json.loads(spy.receive_payload()) == {"n": 1}


def test_a_key_is_good_as_long_as_its_device_may_log_in(place):
    place = place("payload_api_key = true")
    secret, client = keyed(place)
    topic, body = "iotflow/devices/s1/telemetry", None
    with place.user() as spy, client:
        spy.subscribe("iotflow/devices/#", qos=1)
        body = json.dumps({"api_key": secret, "n": 1})
        client.publish(topic, body)
        assert spy.receive_payload() == '{"n":1}'
        call(place.node, "PATCH", "/api/v1/devices/s1", {"status": "inactive"})
        client.publish(topic, body)
        call(place.node, "PATCH", "/api/v1/devices/s1", {"status": "active"})
        client.publish(topic, json.dumps({"api_key": secret, "n": 2}))
        assert spy.receive_payload() == '{"n":2}', "the one of the inactive device was dropped"
    until(lambda: "inactive" in json.dumps(place.refusals("old-firmware")), "that is told")


def test_a_client_that_has_logged_in_shows_no_key_either(place):
    place = place("payload_api_key = true")
    secret, _ = keyed(place)
    with place.user() as spy, Client(place.node, "s1").credentials("s1", secret) as device:
        spy.subscribe("iotflow/devices/#", qos=1)
        device.publish("iotflow/devices/s1/telemetry", json.dumps({"api_key": secret, "n": 1}))
        assert spy.receive_payload() == '{"n":1}'
        device.publish("iotflow/devices/s1/telemetry", '{"n": 2}')
        assert spy.receive_payload() == '{"n": 2}'
        assert not device.acknowledged("plant/x")


def test_elsewhere_a_payload_is_what_it_is(place):
    place = place("")
    with place.user() as spy:
        spy.subscribe("plant/#", qos=1)
        spy.publish("plant/x", '{"api_key": "x"}')
        assert spy.receive_payload() == '{"api_key": "x"}'
    with place.applicant("nobody") as client:
        assert client.connack.is_failure


def test_what_contradicts_itself_does_not_start(tmp_path):
    config = tmp_path / "martlet.toml"
    for auth, keys, why in [
        ("", 'discovery = "payload"', "set auth.enabled to on"),
        ("", "payload_api_key = true", "set auth.enabled to on"),
        ('[auth]\nenabled = "on"', 'discovery = "payload"\nallow_anonymous = true', "allow_anonymous"),
        ('[auth]\nenabled = "on"', 'discovery = "yes"', "password"),
    ]:
        config.write_text(f'{auth}\n[[listeners]]\nurl = "mqtt://127.0.0.1:0"\n{keys}\n')
        done = martlet_process.run("config", "check", "-c", str(config), "--data-dir", str(tmp_path / "data"))
        assert done.returncode != 0 and why in done.stderr, (keys, done.stderr)


def test_the_feed_tells_of_refused_registrations(place):
    place = place(PAYLOAD)
    stream = Stream(place.node, "kinds=publish_refused")
    with place.applicant("s1") as client:
        place.register(client, "s1", provisioning_key="mp_FEED-MARKER")
    _, event = stream.next()
    assert event["topic"] == REGISTER + "s1" and "provisioning key" in event["why"]
    assert "FEED-MARKER" not in json.dumps(event)
    stream.close()
    assert KEY
