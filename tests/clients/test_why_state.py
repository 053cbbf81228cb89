"""martlet why: what holds now comes before what happened earlier, and nothing is told that is not so."""

import json
import re
import socket

import pytest

import martlet_process
from paho_client import Client, properties
from test_access import mosquitto_passwd, publish, until
from test_registry import Place
from test_scram import packet, string
from test_why import expect, verdict


@pytest.fixture
def place(tmp_path):
    place = Place(tmp_path / "data")
    for name in ("ann", "bob"):
        place.user(name)
    return place


@pytest.fixture
def node(start_node, place):
    return start_node(data_dir=place.path)


def client(node, user, name=None, **options):
    return Client(node, name or user, **options).credentials(user, "secret")


def refused(node, user, password, name):
    assert publish(node, "t", "-u", user, "-P", password, "-i", name)[0] != 0


def why_it_ended(node, name, user, password, do):
    """What the broker's DISCONNECT says to a client that `do` ends."""
    said, one = [], Client(node, name).credentials(user, password)
    one.client.on_disconnect = lambda _client, _data, _flags, reason, answered: (
        said.append(getattr(answered, "ReasonString", None)), one._ended.set())
    with one:
        do()
        one.wait_for_end()
    return said[0]


def test_a_disabled_user_is_disabled_whatever_password_it_tried_before(node, place):
    refused(node, "bob", "wrong", "w1")
    expect(node, "wrong-password", "according to the registry", "bob")
    place.run("user", "set", "bob", "--disable")
    for name in ("bob", "w1"):
        answer = expect(node, "disabled", "user bob is disabled", name)
        assert "--enable" in answer["command"], answer
    # With more clients likewise.
    refused(node, "bob", "wrong", "w2")
    expect(node, "disabled", "user bob is disabled", "bob")


def test_a_client_whose_user_is_deleted_is_told_so_and_not_that_it_is_locked_out(start_node, place):
    node = start_node(data_dir=place.path, settings=["auth.lockout_failures=3"])
    for number in range(5):
        refused(node, "ann", f"wrong {number}", "am1")
    refused(node, "ann", "secret", "am2")
    expect(node, "locked-out", "locked out", "am2")
    place.run("user", "rm", "ann")
    for name in ("am2", "ann"):
        answer = expect(node, "deleted", "it was removed from the registry", name)
        assert "user restore" in answer["command"] and answer["command"].endswith(" ann"), answer


def test_who_is_disconnected_is_told_what_is_true(node, place):
    secret = place.device("d1")
    def device(do):
        return why_it_ended(node, "d1", "d1", secret, do)

    said = device(lambda: place.run("device", "set", "d1", "--status", "inactive"))
    assert said == "the device is inactive"
    expect(node, "disabled", "device d1 is inactive", "d1")
    place.run("device", "set", "d1", "--status", "active")
    assert device(lambda: place.run("device", "set", "d1", "--status", "maintenance")) == "the device is in maintenance"
    place.run("device", "set", "d1", "--status", "active")
    assert device(lambda: place.run("device", "rm", "d1")) == "the user or device was removed"

    def user(do):
        return why_it_ended(node, "ann-1", "ann", "secret", do)

    assert user(lambda: place.run("user", "set", "ann", "--disable")) == "the user is disabled"
    place.run("user", "set", "ann", "--enable")
    assert user(lambda: place.run("user", "passwd", "ann", "--weak", given="secret\n")) == "its credentials were revoked"
    assert user(lambda: place.run("user", "rm", "ann")) == "the user or device was removed"


def test_a_user_of_the_password_file_who_never_came_is_known(start_node, tmp_path):
    path = mosquitto_passwd(tmp_path / "passwd", ("bob", "secret"))
    node = start_node(settings=[f"auth.password_file={path}"])
    answer = expect(node, "never-connected", "the user bob exists", "bob")
    assert answer["state"] == "never-seen" and "mqtt://127.0.0.1" in answer["remedy"]
    expect(node, "nobody-known", "has never connected", "carl")


def test_a_wrong_password_of_one_client_is_no_contradiction_to_another(node):
    with client(node, "ann", "panel"):
        refused(node, "ann", "wrong", "w1")
        answer = expect(node, "nothing-wrong", "another client was refused", "ann")
        [other] = [one for one in answer["also"] if one["cause"] == "wrong-password"]
        assert "first check which credential the client uses" in other["remedy"] and "user passwd" in other["command"]


def test_a_wrong_password_has_a_remedy_that_begins_with_the_client(start_node, tmp_path):
    path = mosquitto_passwd(tmp_path / "passwd", ("bob", "secret"))
    node = start_node(settings=[f"auth.password_file={path}"])
    refused(node, "bob", "wrong", "w1")
    answer = expect(node, "wrong-password", f"according to {path}", "bob")
    assert answer["remedy"].startswith("first check which credential the client uses") and str(path) in answer["command"]


@pytest.mark.parametrize("cause", ["client comes", "client stays"])
def test_who_is_let_in_without_credentials_is_told_nothing_else(start_node, tmp_path, cause):
    place = Place(tmp_path / "data")
    node = start_node(data_dir=place.path, settings=["mqtt.allow_anonymous=true"])
    expiry = properties("CONNECT", SessionExpiryInterval=600)
    sensor = Client(node, "sensor", clean=False, properties=expiry).start()
    named = Client(node, "named").credentials("carl", "x").start()
    place.user("bob")
    # Who has named a user has to prove that it is this user now; who has named none stays.
    assert named.wait_for_end().value == 0x87
    sensor.publish("t", "x")
    if cause == "client comes":
        sensor.disconnect()
        sensor = Client(node, "sensor", clean=False, properties=expiry).start()
    expect(node, "nothing-wrong", "it is connected", "sensor")
    sensor.disconnect()
    answer = expect(node, "away", "the client sent DISCONNECT", "sensor")
    assert "no user of that name" not in json.dumps(answer), answer


def test_what_was_lost_is_told_first_and_since_when_it_was_lost(node):
    with client(node, "ann", "p") as publisher, slow_reader(node, "bob", "slow"):
        for _ in range(30):
            for _ in range(100):
                publisher.client.publish("big", b"x" * 10_000, qos=0)
            publisher.publish("fence", "x")
        answer = expect(node, "slow-reader", "dropped: ", "slow", "big")
        assert "(output_full)" in answer["sentence"] and answer["count"] > 1, answer
        assert any(one["cause"] == "qos-downgraded" for one in answer["also"]), answer
        shown = martlet_process.run("client", "show", "slow", "--json", "--data-dir", node.data_dir).stdout
        came = re.search(r'"connected_at": ?"([^"]+)"', shown).group(1)
        assert came <= answer["since"] <= answer["last"], (answer, shown)
        # Who publishes is told of it, and where it says more.
        answer = expect(node, "slow-reader", "dropped for slow, which is subscribed to big", "p", "big")
        assert "martlet why slow" in answer["sentence"], answer


class slow_reader:
    """A client that is subscribed to `big` with QoS 0 and reads nothing."""

    def __init__(self, node, user, name):
        self.wire = socket.socket()
        self.wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.wire.settimeout(20)
        self.wire.connect(("127.0.0.1", node.port()))
        connect = string(b"MQTT") + b"\x04\xc2\x00\x00" + string(name.encode()) + string(user.encode())
        self.wire.sendall(packet(0x10, connect + string(b"secret")))
        assert self.wire.recv(4) == b"\x20\x02\x00\x00"
        self.wire.sendall(packet(0x82, b"\0\1" + string(b"big") + b"\0"))
        assert self.wire.recv(5) == b"\x90\x03\x00\x01\x00"

    def __enter__(self):
        return self.wire

    def __exit__(self, *_):
        self.wire.close()


def test_a_name_that_no_device_can_have_is_not_to_be_added_as_one(node):
    answer = expect(node, "nobody-known", "has never connected", "pump-7/x")
    assert "command" not in answer and "no device can have it" in answer["remedy"], answer


def test_what_waited_for_its_rate_is_over_when_its_client_has_gone(start_node, place):
    node = start_node(data_dir=place.path, settings=["limits.publish_rate=5", "mqtt.rate_exceeded=delay"])
    with client(node, "ann") as ann:
        for _ in range(30):
            sent = ann.client.publish("t", "x", qos=1)
        expect(node, "too-fast", "the messages that it publishes wait", "ann")
        sent.wait_for_publish(20)
    answer = expect(node, "away", "the client sent DISCONNECT", "ann")
    [before] = [one for one in answer["also"] if one["cause"] == "too-fast"]
    assert "waited" in before["sentence"] and before["sentence"].endswith("that is over"), before


def test_a_client_that_is_away_keeps_its_user_in_lists(node):
    expiry = properties("CONNECT", SessionExpiryInterval=600)
    with client(node, "ann", "panel", clean=False, properties=expiry):
        pass

    def listed(*arguments):
        done = martlet_process.run(*arguments, "--json", "--data-dir", node.data_dir)
        return json.loads(done.stdout)["items"]

    until(lambda: [one["connected"] for one in listed("session", "ls")] == [False], "it is away")
    for arguments in (("session", "ls"), ("client", "ls", "--user", "ann")):
        assert [one["user_name"] for one in listed(*arguments)] == ["ann"]


def test_commands_name_options_and_commands_and_lists_are_pages(node, place):
    def said(*arguments, code=1):
        done = martlet_process.run(*arguments, "--data-dir", node.data_dir)
        assert done.returncode == code, done
        return done.stdout + done.stderr

    refused = said("trace", "d1", "--minutes", "0")
    assert "--minutes: expected 1 to" in refused and "/minutes" not in refused, refused
    refused = said("device", "show", "nobody")
    assert "martlet device ls" in refused and "/api/" not in refused, refused
    assert json.loads(said("trace", "ls", "--json", code=0)) == {"items": []}
    place.device("d9")
    [device] = json.loads(said("device", "ls", "--json", code=0))["items"]
    times = [value for value in device.values() if isinstance(value, str) and re.match(r"20\d\d-.*Z$", value)]
    assert times and all(re.fullmatch(r".*:\d\d\.\d{6}Z", one) for one in times), device
