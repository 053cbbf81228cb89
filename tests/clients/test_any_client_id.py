"""Device types whose devices may use any Client Identifier: `client_id = "any"`."""

import json
import threading
import time

import pytest

from paho_client import properties
from test_access import publish, until
from test_http_registry import call, in_a_file
from test_registry import Place, device, is_permitted
from test_revocation import LIMIT_SECS, Device, Pulse

QUOTA_EXCEEDED, NOT_AUTHORIZED = 0x97, 0x87
KEPT = {"SessionExpiryInterval": 600}


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path / "data")


@pytest.fixture
def node(start_node, variables):
    return start_node(settings=["log.level=warn"], variables=variables, http=True, listen=("mqtt://127.0.0.1:0",))


def add(node, name, kind="any-id", **fields):
    return call(node, "POST", "/api/v1/devices", {"id": name, "type": kind, **fields})["secret"]


def add_type(node, name="any-id", sessions=None):
    limit = {} if sessions is None else {"max_sessions": sessions}
    body = {"name": name, "rules": ["pattern readwrite d/%c/#"], "client_id": "any", **limit}
    return call(node, "POST", "/api/v1/device-types", body)


def code_of(node, name, secret, client_id, **options):
    """The reason code of a CONNACK; the connection ends."""
    with device(node, name, secret, client_id=client_id, **options) as client:
        return client.connack.value


def test_a_type_states_which_client_identifiers_its_devices_may_use(node, place):
    made = add_type(node)
    assert (made["client_id"], made["max_sessions"]) == ("any", 10)
    kinds = {one["name"]: one for one in call(node, "GET", "/api/v1/device-types")["items"]}
    assert [kinds[name]["client_id"] for name in ("device", "iotflow", "service-mqtt")] == ["id", "id", "any"]
    assert kinds["service-mqtt"]["max_sessions"] == 10
    odd = {"name": "x", "rules": []}
    for fields in ({"client_id": "none"}, {"client_id": "any", "max_sessions": 0}, {"client_id": "id", "max_sessions": 2}):
        call(node, "POST", "/api/v1/device-types", {**odd, **fields}, expect=422)
    call(node, "POST", "/api/v1/roles", {**odd, "client_id": "any"}, expect=422)
    changed = call(node, "PUT", "/api/v1/device-types/any-id", {"rules": [], "client_id": "any", "max_sessions": 3})
    assert changed["max_sessions"] == 3
    assert call(node, "PUT", "/api/v1/device-types/any-id", {"rules": []})["max_sessions"] == 3
    place.run("device", "type", "add", "t", "--rule", "topic read a", "--client-id", "any", "--max-sessions", "4")
    assert "up to 4 sessions" in place.run("device", "type", "show", "t")
    place.run("device", "type", "rules", "t", "--client-id", "id")
    assert json.loads(place.run("device", "type", "show", "t", "--json"))["client_id"] == "id"


@in_a_file
def test_mosquitto_pub_needs_no_client_identifier(node):
    made = call(node, "POST", "/api/v1/devices", {"type": "service-mqtt", "kind": "test-device"})
    login = ("-u", made["id"], "-P", made["secret"])
    assert publish(node, f"raw.{made['id']}", *login)[0] == 0
    assert is_permitted(node, f"raw.{made['id']}", *login) and is_permitted(node, f"raw.{made['id']}/a", *login)
    assert not is_permitted(node, "raw.other", *login)
    # A device of another type still needs its id.
    secret = add(node, "plain", "device")
    assert publish(node, "d/plain/x", "-u", "plain", "-P", secret)[0] != 0


@in_a_file
def test_topics_are_named_after_the_device_whatever_its_client_identifier(node):
    add_type(node)
    secret = add(node, "pump")
    login = ("-u", "pump", "-P", secret, "-i", "other")
    assert is_permitted(node, "d/pump/x", *login)
    assert not is_permitted(node, "d/other/x", *login)
    with device(node, "pump", secret, client_id="reader") as reader:
        reader.subscribe("d/pump/#")
        assert publish(node, "d/pump/x", *login)[0] == 0
        assert reader.receive().topic == "d/pump/x"


@in_a_file
def test_a_session_is_the_devices_own(node):
    add_type(node)
    one, other, plain = add(node, "one"), add(node, "other"), add(node, "plain", "device")
    with device(node, "one", one, client_id="shared") as client:
        assert code_of(node, "other", other, "shared") == NOT_AUTHORIZED
        assert code_of(node, "one", one, "other") == NOT_AUTHORIZED, "the id of another device"
        assert code_of(node, "one", one, "plain") == NOT_AUTHORIZED
        assert code_of(node, "one", one, "one") == 0
        assert code_of(node, "plain", plain, "plain") == 0
        # The same device takes it over.
        with device(node, "one", one, client_id="shared"):
            client.wait_for_end()


def test_a_device_has_no_more_sessions_than_its_type_permits(start_node, variables, tmp_path):
    options = dict(settings=["log.level=warn"], variables=variables, http=True, listen=("mqtt://127.0.0.1:0",),
                   data_dir=tmp_path / "data")
    node = start_node(**options)
    add_type(node, sessions=3)
    secret, other = add(node, "pump"), add(node, "valve")

    def connect(client_id, name="pump", clean=False):
        password = {"pump": secret, "valve": other}[name]
        return code_of(node, name, password, client_id, clean=clean, properties=properties("CONNECT", **KEPT))

    assert [connect(one) for one in ("pump", "a", "b", "c")] == [0, 0, 0, QUOTA_EXCEEDED]
    # Those that are there come back, also with a clean start, and other devices have their own.
    assert [connect(one) for one in ("pump", "a", "b")] == [0, 0, 0]
    assert connect("a", clean=True) == 0 and connect("c") == QUOTA_EXCEEDED
    for name in ("c", "pump"):
        why = lambda: call(node, "GET", f"/api/v1/why?name={name}")
        until(lambda: why()["cause"] == "limit-reached", "the refusal is told")
        assert "max_sessions = 3" in json.dumps(why()), why()
    assert connect("v", name="valve") == 0
    # A session that ends makes room, and one that a restart brings back takes it.
    assert code_of(node, "pump", secret, "b", clean=True) == 0
    until(lambda: connect("c") == 0, "the session b has ended")
    assert connect("d") == QUOTA_EXCEEDED
    node.close()
    node = start_node(**options)
    assert connect("d") == QUOTA_EXCEEDED
    assert [connect(one) for one in ("pump", "a", "c", "d")] == [0, 0, 0, QUOTA_EXCEEDED]
    # A higher limit applies to the next CONNECT.
    call(node, "PUT", "/api/v1/device-types/any-id", {"rules": ["pattern readwrite d/%c/#"], "max_sessions": 4})
    assert [connect(one) for one in ("d", "e")] == [0, QUOTA_EXCEEDED]


@in_a_file
def test_clients_that_come_at_once_get_no_more_sessions(node):
    add_type(node)
    secret = add(node, "pump")
    many, codes, here = 48, [], []
    begin = threading.Barrier(many)

    def connect(number):
        client = device(node, "pump", secret, client_id=f"c{number}")
        begin.wait()
        here.append(client.start())
        codes.append(client.connack.value)

    threads = [threading.Thread(target=connect, args=(number,)) for number in range(many)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert sorted(codes) == [0] * 10 + [QUOTA_EXCEEDED] * (many - 10)
    for client in here:
        client.disconnect()


@pytest.mark.timed
def test_a_revocation_ends_all_sessions_of_the_device(node):
    add_type(node)
    secret, other = add(node, "pump"), add(node, "valve")

    all_of_it = [Device(node, "pump", password=secret, client_id=f"c{number}") for number in range(10)]
    stays, pulse = Device(node, "valve", password=other, client_id="v"), Pulse(node, "valve", password=other)
    for _ in range(20):
        pulse.beat()
    began = time.time_ns()
    call(node, "PATCH", "/api/v1/devices/pump", {"status": "inactive"})
    took = [(one.wait_for_end() - began) / 1e6 for one in all_of_it]
    late = pulse.beyond(took, LIMIT_SECS * 1000)
    assert not late, f"too late: {late}"
    assert stays.is_connected()


@in_a_file
def test_a_device_of_another_type_loses_its_other_sessions(node):
    add_type(node)
    secret = add(node, "pump")
    with device(node, "pump", secret, client_id="other") as client:
        call(node, "PATCH", "/api/v1/devices/pump", {"type": "device"})
        client.wait_for_end()
    assert code_of(node, "pump", secret, "other") == NOT_AUTHORIZED
    assert code_of(node, "pump", secret, "pump") == 0
