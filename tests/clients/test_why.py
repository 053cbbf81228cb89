"""martlet why: for planted faults the verdict is the fault, in a sentence, with the way to remedy it."""

import json
import shlex
import shutil
import socket
import sqlite3
import subprocess
from urllib.parse import quote

import pytest

import martlet_process
from programs import need
from server_process import free_port, free_ports
from paho_client import Client, properties
from test_access import publish, until
from test_http_api import KEY, KEYS, ask
from test_registry import Place
from test_scram import packet, string
from test_tls import Authority

WRONG = 3


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A data directory with a type of devices that publish to one topic each, and one device."""
    place = Place(tmp_path_factory.mktemp("prepared") / "data")
    place.run("device", "type", "add", "sensor", "--rule", "pattern write plant/%c/telemetry",
              "--rule", "pattern read plant/%c/set")
    place.secret = place.device("d1", "--type", "sensor")
    place.user("ann")
    return place


@pytest.fixture
def place(prepared, tmp_path):
    """A copy of it."""
    place = Place(shutil.copytree(prepared.path, tmp_path / "data"))
    place.secret = prepared.secret
    return place


@pytest.fixture
def node(start_node, place):
    return start_node(data_dir=place.path)


def verdict(node, *asked):
    return node.why(*asked)


def expect_of(ask, cause, said):
    """Waits until that is the verdict that is answered: events take their way to the journal."""
    answers = []

    def is_it():
        answers.append(ask())
        return answers[-1]["cause"] == cause and said in answers[-1]["sentence"]

    try:
        until(is_it, cause)
    except AssertionError:
        pytest.fail(f"not {cause} with {said!r}, but {json.dumps(answers[-1], indent=1)}")
    return answers[-1]


def expect(node, cause, said, *arguments):
    return expect_of(lambda: verdict(node, *arguments), cause, said)


def come(node, name, password, *options):
    return publish(node, "plant/d1/telemetry", "-u", name, "-P", password, "-i", name, *options)[0]


def test_nothing_is_wrong_with_who_is_connected_and_permitted(node, place):
    with Client(node, "d1").credentials("d1", place.secret) as device:
        device.client.publish("plant/d1/telemetry", "x", qos=1).wait_for_publish(10)
        until(lambda: verdict(node, "d1")["state"] == "connected", "it is there")
        expect(node, "nothing-wrong", "it is connected", "d1")


def test_who_never_came_and_who_is_nobody(node):
    answer = expect(node, "never-connected", "the device d1 exists", "d1")
    assert answer["state"] == "never-seen" and "mqtt://127.0.0.1" in answer["remedy"]
    expect(node, "nobody-known", "has never connected", "d99")


def test_a_wrong_password_is_told_with_when_it_began_and_how_often(node, place):
    for _ in range(3):
        assert come(node, "d1", "wrong") != 0
    until(lambda: verdict(node, "d1").get("count") == 3, "all three are told")
    answer = expect(node, "wrong-password", "wrong credential for device d1", "d1")
    assert (answer["state"], answer["count"]) == ("refused", 3)
    assert answer["command"].startswith("martlet device rotate") and answer["command"].endswith(" d1")
    # What is printed for people says the same, and for programs all of it; the exit code says whether something is wrong.
    done = martlet_process.run("why", "d1", "--data-dir", node.data_dir, "--json")
    assert (done.returncode, json.loads(done.stdout)["cause"]) == (WRONG, "wrong-password"), done
    done = martlet_process.run("why", "d1", "--data-dir", node.data_dir)
    assert done.returncode == WRONG
    first = done.stdout.splitlines()[0]
    assert first.startswith("d1: refused since ") and "(3 times)" in first, done.stdout
    assert come(node, "d1", place.secret) == 0
    until(lambda: verdict(node, "d1")["state"] == "away", "it has come and gone")
    assert martlet_process.run("why", "d1", "--data-dir", node.data_dir).returncode == 0


def test_a_device_that_is_not_active_is_told_so_whether_it_has_tried_or_not(node, place):
    place.run("device", "set", "d1", "--status", "maintenance")
    answer = expect(node, "disabled", "device d1 has the status maintenance", "d1")
    assert answer["command"].startswith("martlet device set ") and answer["command"].endswith(" d1"), answer
    assert come(node, "d1", place.secret) != 0
    answer = expect(node, "disabled", "device d1 has the status maintenance", "d1")
    assert answer["state"] == "refused" and "--status=active" in answer["command"]


def test_a_disabled_user_and_one_that_nobody_knows(node, place):
    place.run("user", "set", "ann", "--disable")
    expect(node, "disabled", "user ann is disabled", "ann")
    assert come(node, "bob", "x") != 0
    expect(node, "unknown-name", "no user of that name", "bob")


def test_a_name_that_nobody_has_may_be_a_device_that_is_spelt_or_comes_otherwise(node, place):
    assert come(node, "fan-9", "x") != 0
    answer = expect(node, "unknown-name", "no user of that name", "fan-9")
    assert "martlet user add" in answer["remedy"] and "--role=ROLE" in answer["remedy"]
    assert answer["command"].startswith("martlet device add ") and answer["command"].endswith(" fan-9")
    place.device("fan-8")
    until(lambda: "did you mean fan-8?" in verdict(node, "fan-9")["remedy"], "it is nearly that")
    # Of who never tried the same is said.
    assert "did you mean fan-8?" in expect(node, "nobody-known", "never", "fan-88")["remedy"]
    place.run("team", "add", "north", "--own-tenant")
    assert "its User Name is fan-8@north now" in place.run("device", "set", "fan-8", "--to-team", "north")
    until(lambda: come(node, "fan-8", "x") != 0 and "command" not in verdict(node, "fan-8"), "it is moved")
    answer = expect(node, "unknown-name", "no user of that name", "fan-8")
    assert "User Name of the client to fan-8@north" in answer["remedy"] and "command" not in answer


def test_who_tried_too_often_is_locked_out(start_node, place, tmp_path):
    node = start_node(data_dir=place.path, settings=["auth.lockout_failures=3"])
    for number in range(5):
        come(node, "ann", f"wrong {number}")
    answer = expect(node, "locked-out", "locked out", "ann")
    assert answer["command"].startswith("martlet lockout rm ") and answer["command"].endswith(" ann"), answer
    # Another is not, until it tries for itself; what it was told last is the cause then.
    for number in range(3):
        come(node, "d1", f"wrong {number}")
    until(lambda: any(one["cause"] == "locked-out" for one in verdict(node, "d1")["also"]), "it is told beside")
    answer = expect(node, "wrong-password", "wrong credential", "d1")
    also = [one["sentence"] for one in answer["also"] if one["cause"] == "locked-out"]
    assert len(also) == 1 and "for this user name from this address, 127.0.0.1" in also[0]
    # The command ends it.
    command = expect(node, "locked-out", "locked out", "ann")["command"]
    typed_in_bash(command, tmp_path)
    assert verdict(node, "ann")["cause"] != "locked-out"


def test_a_device_with_another_client_identifier(node, place):
    assert publish(node, "plant/d1/telemetry", "-u", "d1", "-P", place.secret, "-i", "d2")[0] != 0
    answer = expect(node, "wrong-client-id", "must be d1", "d1")
    assert "Client Identifier (client id) of the client to d1" in answer["remedy"]
    # And by that of a device somebody else comes.
    assert publish(node, "plant/d1/telemetry", "-u", "ann", "-P", "secret", "-i", "d1")[0] != 0
    answer = expect(node, "wrong-client-id", "is the device's of that id alone", "ann")
    assert "with the User Name d1 and its secret" in answer["remedy"]


def test_a_topic_with_another_name_in_it_is_told_apart_from_one_that_no_rule_permits(node, place):
    with Client(node, "d1").credentials("d1", place.secret) as device:
        for topic in ["plant/d2/telemetry", "plant/d1/telemetry/raw"]:
            device.client.publish(topic, "x", qos=1).wait_for_publish(10)
        answer = expect(node, "wrong-topic", "plant/d1/telemetry", "d1", "plant/d2/telemetry")
        assert '"d2"' in answer["sentence"] and answer["count"] == 1
        answer = expect(node, "not-permitted", "it may publish to plant/d1/telemetry", "d1",
                        "plant/d1/telemetry/raw")
        assert answer["state"] == "connected"
        # Where a rule would permit it, with the command that adds it there.
        assert "the rules of the device type sensor" in answer["remedy"]
        shown = shlex.split(answer["command"])
        assert shown[:4] == ["martlet", "device", "type", "allow"] and shown[-2] == "sensor"
        assert shown[-1] == "pattern write plant/%c/telemetry/raw"
        # Without a topic what was refused recently is told.
        expect(node, "not-permitted", "plant/d1/telemetry/raw", "d1")


def test_what_stays_as_it_is_is_not_to_be_changed(node, place):
    """The role and the type that come with the program: there is another way."""
    answer = expect(node, "not-permitted", "may neither publish to $own/x nor read it", "ann", "$own/x")
    assert "martlet user set --role=NAME ann" in answer["remedy"] and "command" not in answer
    place.device("d2")
    answer = expect(node, "not-permitted", "may neither publish to other/x nor read it", "d2", "other/x")
    assert "martlet device set --type=NAME d2" in answer["remedy"] and "command" not in answer


def test_what_was_refused_of_another_topic_is_told_beside(node, place):
    with Client(node, "app").credentials("ann", "secret") as app, \
            Client(node, "d1").credentials("d1", place.secret) as device:
        app.subscribe("plant/#", 1)
        device.client.publish("plant/d1/raw", "x", qos=1).wait_for_publish(10)
        expect(node, "not-permitted", "plant/d1/raw", "d1")
        answer = expect(node, "nothing-wrong", "it may publish to plant/d1/telemetry", "d1", "plant/d1/telemetry")
        assert any("plant/d1/raw" in one["sentence"] for one in answer["also"]), answer
        expect(node, "not-permitted", "plant/d1/raw", "d1", "plant/d1/raw")


def test_what_the_rules_permit_meanwhile_is_wrong_no_more(node, place):
    with Client(node, "d1").credentials("d1", place.secret) as device:
        device.client.publish("plant/d1/raw", "x", qos=1).wait_for_publish(10)
        expect(node, "not-permitted", "plant/d1/raw", "d1")
        # Its time is that of the refusal.
        done = martlet_process.run("why", "d1", "--data-dir", node.data_dir)
        first = done.stdout.splitlines()[0]
        assert first.startswith("d1: connected: ") and " (since " in first, done.stdout
        place.run("device", "type", "rules", "sensor", "--rule", "pattern write plant/%c/#")
        answer = expect(node, "nothing-wrong", "nothing is wrong now", "d1")
        [before] = answer["also"]
        assert "plant/d1/raw" in before["sentence"] and "the rules permit it now" in before["sentence"], before
        assert not {"remedy", "command"} & before.keys()


def typed_in_bash(command, tmp_path):
    """Runs a command as it is printed."""
    path = tmp_path / "bin"
    path.mkdir(exist_ok=True)
    if not (path / "martlet").exists():
        (path / "martlet").symlink_to(martlet_process.binary())
    environment = martlet_process.environment()
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60,
                          env={**environment, "PATH": f"{path}:{environment['PATH']}"})
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("topic", ["plant/d1/raw", "it's/a \"$HOME\" topic", "x-/ä b", "deny/plant"])
def test_the_command_that_is_printed_adds_one_rule_and_mends_it(node, place, tmp_path, topic):
    with Client(node, "d1").credentials("d1", place.secret) as device:
        for asked in (["d1", topic], ["d1"]):
            place.run("device", "type", "rules", "sensor", "--rule", f"topic deny {topic}", "--rule",
                      "pattern write plant/%c/telemetry")
            device.client.publish(topic, "x", qos=1).wait_for_publish(10)
            answer = expect(node, "not-permitted", topic, *asked)
            assert answer["command"].startswith("martlet device type allow "), answer
            typed_in_bash(answer["command"], tmp_path)
            rules = json.loads(place.run("device", "type", "rules", "sensor", "--json"))["rules"]
            assert rules[1:] == [f"topic deny {topic}", "pattern write plant/%c/telemetry"], "the others stay"
            assert rules[0] == ("pattern write plant/%c/raw" if "d1" in topic else f"topic write {topic}")
            expect(node, "subscriber-absent", f"it may publish to {topic}", "d1", topic)


def test_a_rule_that_is_there_is_not_to_be_added_again(start_node, place):
    """A name with a wildcard in it stands for nothing in a rule, so the rule does not match."""
    node = start_node(data_dir=place.path)
    place.run("role", "add", "own", "--rule", "pattern write u/%u/x")
    place.run("user", "set", "ann", "--role", "own")
    with Client(node, "app").credentials("ann", "secret") as app:
        app.client.publish("u/ann/y", "x", qos=1).wait_for_publish(10)
        answer = expect(node, "not-permitted", "u/ann/y", "ann")
        assert answer["command"].endswith(" own 'pattern write u/%u/y'"), answer
        place.run("role", "allow", "own", "pattern write u/%u/y")

        def is_mended():
            entries = martlet_process.run("logs", "-t", "--json", "--data-dir", node.data_dir).stdout.splitlines()
            [entry] = [one for one in map(json.loads, entries) if one.get("topic") == "u/ann/y"]
            return "command" not in entry and "permits it now" in entry["remedy"]
        until(is_mended, "the rule is there")


def test_what_a_subscriber_lacks_is_a_rule_of_its_role(node, place, tmp_path):
    place.run("role", "add", "reader", "--rule", "topic read a/#")
    place.run("user", "set", "ann", "--role", "reader")
    with Client(node, "app").credentials("ann", "secret") as app:
        app.subscribe("$share/g/b/ann/+", 1)
        answer = expect(node, "not-permitted", "b/ann/+", "app")
        assert answer["command"].endswith(" reader 'pattern read b/%u/+'"), answer
        typed_in_bash(answer["command"], tmp_path)
        assert place.run("role", "rules", "reader") == "pattern read b/%u/+\ntopic read a/#\n"


def test_who_asks_for_a_page_at_the_address_of_a_device_is_not_the_device(node, place):
    def ask_for_a_page():
        with socket.create_connection(("127.0.0.1", node.port()), timeout=60) as wire:
            wire.sendall(b"GET / HTTP/1.1\r\n\r\n")
            while wire.recv(100):
                pass

    with Silent(node, "d1", place.secret) as silent:
        silent.wait_for_end()
    ask_for_a_page()
    # It is the newest that came from there, and it is not known who that was.
    until(lambda: verdict(node, "d1")["also"], "it is told beside what is known")
    answer = expect(node, "keep-alive", "its connection was ended", "d1")
    [guess] = [one for one in answer["also"] if one.get("is_guess")]
    assert "another client at 127.0.0.1" in guess["sentence"] and "or another one" in guess["sentence"], answer
    assert guess["remedy"].startswith("if it is this client: "), answer


def test_the_tls_of_a_stranger_at_the_same_address_is_not_the_verdict(start_node, place):
    """Neither of a device that went nor of a user whose client did."""
    authority = Authority(place.path / "ca")
    certificate, key = authority.sign("server")
    node = start_node(data_dir=place.path, listen=("mqtt://127.0.0.1:0", "mqtts://127.0.0.1:0"),
                      settings=[f"tls.certificate={certificate}", f"tls.key={key}"])
    with Client(node, "d1").credentials("d1", place.secret), Client(node, "app").credentials("ann", "secret"):
        until(lambda: verdict(node, "d1")["state"] == "connected", "it is there")
    for name in ("d1", "ann", "app"):
        expect(node, "away", "it is not connected: the client sent DISCONNECT", name)
    with socket.create_connection(("127.0.0.1", node.port("mqtts")), timeout=60) as wire:
        wire.sendall(b"this is no TLS\r\n\r\n")
        while wire.recv(100):
            pass
    until(lambda: verdict(node, "d1")["also"], "it is told beside what is known")
    for name in ("d1", "ann", "app"):
        answer = expect(node, "away", "it is not connected: the client sent DISCONNECT", name)
        guesses = [one for one in answer["also"] if one.get("is_guess")]
        assert len(guesses) == 1 and "command" not in guesses[0], answer


def test_all_clients_of_a_user_are_looked_at(node, place):
    place.run("role", "add", "worker", "--rule", "topic write jobs/#", "--rule", "topic read jobs/#")
    place.run("user", "set", "ann", "--role", "worker")
    with Client(node, "press").credentials("ann", "secret") as press:
        press.client.publish("plan/1", "x", qos=1).wait_for_publish(10)
        expect(node, "not-permitted", "plan/1", "ann", "plan/1")
    # Another client of hers comes later, is fine, and subscribed to that topic.
    with Client(node, "panel").credentials("ann", "secret") as panel:
        panel.subscribe("jobs/#", 1)
        answer = expect(node, "not-permitted", "plan/1", "ann", "plan/1")
        assert answer["state"] == "connected" and answer["count"] >= 1, answer
        assert "it is not connected" not in answer["sentence"], answer
        # Without a topic the refused publish is what is wrong, by the name of its client.
        answer = expect(node, "not-permitted", "client press (not connected): its publish to plan/1 was refused", "ann")
        assert answer["state"] == "connected"
        place.run("role", "allow", "worker", "topic write plan/#")
        answer = expect(node, "nothing-wrong", "1 of its 2 clients is connected (panel)", "ann")
        assert any(one["sentence"].startswith("client press: it is not connected") for one in answer["also"]), answer
        # The client that is gone, and came last.
        with Client(node, "later").credentials("ann", "secret"):
            until(lambda: "(later, panel)" in verdict(node, "ann")["sentence"] or
                  "(panel, later)" in verdict(node, "ann")["sentence"], "both are there")
        assert expect(node, "nothing-wrong", "clients is connected (panel)", "ann")["state"] == "connected"


def test_a_packet_that_breaks_a_rule_is_named_with_the_rule(node, place):
    connect = packet(0x10, string(b"MQTT") + b"\x04\xc2\x00\x3c" + string(b"d1") + string(b"d1")
                     + string(place.secret.encode()))
    for broken, said in (
            (connect, "CONNECT: a second CONNECT [MQTT-3.1.0-2]"),
            (packet(0x30, string(b"plant/+/telemetry")), "PUBLISH: ")):
        with socket.create_connection(("127.0.0.1", node.port()), timeout=60) as wire:
            wire.sendall(connect)
            assert wire.recv(4) == b"\x20\x02\x00\x00"
            wire.sendall(broken)
            assert wire.recv(100) == b""
        answer = expect(node, "protocol-error", said, "d1")
        assert "MQTT library" in answer["remedy"]
        assert answer["command"].startswith("martlet trace ") and answer["command"].endswith(" d1")


def test_a_twin_that_takes_over(node, place):
    def device():
        return Client(node, "d1").credentials("d1", place.secret)

    with device() as first, device() as second:
        first.wait_for_end()
        with device():
            second.wait_for_end()
            answer = expect(node, "taken-over", "2 times", "d1")
            assert "its own" in answer["remedy"]


def test_a_keep_alive_that_runs_out(start_node, place):
    node = start_node(data_dir=place.path)
    with Silent(node, "d1", place.secret) as silent:
        silent.wait_for_end()
    expect(node, "keep-alive", "its connection was ended", "d1")


class Silent(Client):
    """A client that says nothing more after its CONNECT, with a Keep Alive of one second."""

    def __init__(self, node, name, secret):
        super().__init__(node, name, keepalive=1)
        self.credentials(name, secret)
        # Paho pings by itself unless it believes that it just did.
        self.client._check_keepalive = lambda: None


def test_a_payload_that_is_too_large(start_node, place):
    node = start_node(data_dir=place.path, settings=["limits.packet_bytes=1000"])
    with Client(node, "d1").credentials("d1", place.secret) as device:
        device.client.publish("plant/d1/telemetry", "x" * 5000)
        device.wait_for_end()
    answer = expect(node, "too-large", "packet_bytes", "d1")
    assert "limits.packet_bytes" in answer["remedy"]


def test_a_queue_that_is_full(start_node, place):
    node = start_node(data_dir=place.path, settings=["limits.queued_messages=5"])
    options = {"properties": None}
    with Client(node, "app", version=4, clean=False).credentials("ann", "secret") as app:
        app.subscribe("plant/#", 1)
    until(lambda: verdict(node, "app")["state"] == "away", "it is gone")
    with Client(node, "d1").credentials("d1", place.secret) as device:
        for _ in range(20):
            device.client.publish("plant/d1/telemetry", "x", qos=1, **options).wait_for_publish(10)
    until(lambda: "15 messages for it were dropped" in json.dumps(verdict(node, "app")), "all are counted")
    answer = expect(node, "queue-full", "queue", "app")
    assert answer["state"] == "away"
    said = " ".join(one["sentence"] for one in [answer, *answer["also"]])
    assert "its queue is full, 5 messages wait in it" in said and "(limits.queued_messages = 5)" in said, answer
    [lost] = [one for one in [answer, *answer["also"]] if "15 messages for it were dropped" in one["sentence"]]
    assert lost["count"] == 15 and lost["since"] and "limits.queued_messages" in lost["remedy"], lost
    # It drains: nothing is full any more, and what was lost is lost.
    with Client(node, "app", version=4, clean=False).credentials("ann", "secret"):
        def is_drained():
            answer = verdict(node, "app")
            return "is full" not in json.dumps(answer) and "there is room again" in json.dumps(answer)
        until(is_drained, "it is told that there is room again")
        answer = expect(node, "queue-full", "15 messages for it were dropped", "app")
        assert answer["state"] == "connected", answer


def test_what_was_lost_on_the_way_to_it_is_told_by_what_its_session_counts(node, place):
    """Too large for it, older than may be when it comes, and with QoS 0 while it was away."""
    options = dict(clean=False, properties=properties("CONNECT", SessionExpiryInterval=600, MaximumPacketSize=64))
    with Client(node, "d1", **options).credentials("d1", place.secret) as device:
        device.subscribe("plant/d1/set", qos=1)
        place.user("boss", "--role", "administrator")
        send = lambda *more: publish(node, "plant/d1/set", "-u", "boss", "-P", "secret", *more)
        assert send("-V", "5", "-D", "publish", "user-property", "k", "x" * 100)[0] == 0
        answer = expect(node, "too-large", "1 message for it was dropped", "d1", "plant/d1/set")
        assert "packet_too_large" in answer["sentence"] and "Maximum Packet Size" in answer["remedy"]
    until(lambda: verdict(node, "d1")["state"] == "away", "it is gone")
    assert send("-V", "5", "-D", "publish", "message-expiry-interval", "1")[0] == 0
    assert send("-q", "0")[0] == 0

    def has_both():
        told = verdict(node, "d1")
        causes = {told["cause"], *(one["cause"] for one in told["also"])}
        return {"expired", "not-kept", "too-large"} <= causes
    until(has_both, "what was lost is told")


def test_certificates_that_are_not_good_are_told_of_by_the_name_in_them(start_node, tmp_path):
    ours, others = Authority(tmp_path / "ca"), Authority(tmp_path / "others", name="Others")
    server = ours.sign("server")
    node = start_node(listen=("mqtts://127.0.0.1:0",), settings=[
        f"tls.certificate={server[0]}", f"tls.key={server[1]}", "tls.client_certificates=required",
        f"tls.client_ca={ours.certificate}", "auth.certificate_user_name=common-name"])

    def publish_with(certificate):
        subprocess.run([need("mosquitto_pub", "mosquitto-clients"), "-h", "localhost", "-p",
                        str(node.port("mqtts")), "--cafile", ours.certificate, "-t", "t", "-m", "x",
                        "--cert", certificate[0], "--key", certificate[1]], capture_output=True, timeout=60)

    publish_with(others.sign("dev-other", usage="clientAuth"))
    publish_with(expired(ours, "dev-old"))
    publish_with(expired(ours, "dev-early", begin="20400101000000Z", end="20410101000000Z"))
    expect(node, "certificate-foreign", "of another CA", "dev-other")
    expect(node, "certificate-expired", "has expired", "dev-old")
    expect(node, "clock-wrong", "not valid yet", "dev-early")


def expired(authority, name, begin="20200101000000Z", end="20210101000000Z", extensions="extendedKeyUsage=clientAuth"):
    """A certificate, of a client unless its extensions say otherwise, that is good at another time."""
    directory = authority.directory
    (directory / "index.txt").touch()
    (directory / "ca.cnf").write_text(
        f"[ca]\ndefault_ca=own\n[own]\ndatabase={directory}/index.txt\nserial={directory}/serial\n"
        f"new_certs_dir={directory}\ndefault_md=sha256\npolicy=any\nunique_subject=no\n[any]\n"
        f"commonName=supplied\n[client]\n{extensions}\n")
    if not (directory / "serial").exists():
        (directory / "serial").write_text("1000\n")

    def openssl(*arguments):
        subprocess.run([need("openssl", "openssl"), *arguments], cwd=directory, check=True,
                       capture_output=True, timeout=60)

    openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", f"{name}.key", "-out", f"{name}.csr",
            "-subj", f"/CN={name}")
    openssl("ca", "-batch", "-config", "ca.cnf", "-cert", "ca.crt", "-keyfile", "ca.key", "-in", f"{name}.csr",
            "-out", f"{name}.crt", "-startdate", begin, "-enddate", end, "-extensions", "client", "-notext")
    return str(directory / f"{name}.crt"), str(directory / f"{name}.key")


def test_hostile_names_are_shown_escaped(node):
    done = martlet_process.run("why", "x\u202e", "--data-dir", node.data_dir)
    assert done.returncode == WRONG and "\u202e" not in done.stdout


@pytest.mark.parametrize("name, why", [("", "a name is expected"), (" ", "a name is expected"),
                                       ("x\x1b[31m", "it has control characters"),
                                       ("a\nb", "it has control characters")])
def test_a_name_that_nobody_can_have_is_refused(start_node, name, why):
    node = start_node(http=True, variables=KEYS)
    done = martlet_process.run("why", name, "--data-dir", node.data_dir)
    assert done.returncode == 2 and why in done.stderr and "martlet user" not in done.stdout, done
    assert "\x1b" not in done.stderr
    status, _, body = ask(node, f"/api/v1/why?name={quote(name)}", headers={"X-API-Key": KEY})
    assert status == 400 and why in json.loads(body)["detail"], body


def test_a_subscriber_that_is_not_there_or_takes_less(node, place):
    with Client(node, "d1").credentials("d1", place.secret):
        expect(node, "subscriber-absent", "nobody is subscribed", "d1", "plant/d1/telemetry")
        with Client(node, "app", version=4, clean=False).credentials("ann", "secret") as app:
            app.subscribe("plant/+/telemetry", 0)
            # That is no fault: its messages come.
            for name, said in (("d1", "have QoS 0"), ("app", "subscribes to plant/+/telemetry with QoS 0")):
                answer = expect(node, "nothing-wrong", "plant/d1/telemetry", name, "plant/d1/telemetry")
                assert any(said in one["sentence"] for one in answer["also"]), answer
            answer = expect(node, "not-subscribed", "no subscription that", "app", "plant/d1/other")
            assert "nobody is subscribed" in answer["also"][0]["sentence"]
            app.subscribe("plant/+/telemetry", 1)
            expect(node, "nothing-wrong", "is connected", "d1", "plant/d1/telemetry")
        expect(node, "subscriber-absent", "(app) none is connected", "d1", "plant/d1/telemetry")


def test_a_device_that_is_removed_is_told_so_whether_it_comes_again_or_not(start_node, place):
    node = start_node(data_dir=place.path)
    place.run("device", "rm", "d1")
    answer = expect(node, "deleted", "removed from the registry", "d1")
    assert answer["since"] and answer["remedy"] == "restore it"
    assert answer["command"].startswith("martlet device restore ") and answer["command"].endswith(" d1")
    assert come(node, "d1", place.secret) != 0
    answer = expect(node, "deleted", "removed from the registry", "d1")
    assert not any("user add" in one.get("command", "") for one in answer["also"]), answer
    # One of that name is another one.
    place.run("device", "rm", "d1", "--purge")
    answer = expect(node, "deleted", "removed from the registry", "d1")
    assert "add it again" in answer["remedy"] and "command" not in answer
    place.device("d1", "--type", "sensor")
    assert verdict(node, "d1")["cause"] != "deleted"


@pytest.mark.parametrize("ban", [("client-id", "d1"), ("user", "d1"), ("address", "127.0.0.0/8")])
def test_who_is_banned_is_told_so_with_the_command_that_lifts_it(start_node, place, ban):
    node = start_node(data_dir=place.path, http=True)
    with Client(node, "d1").credentials("d1", place.secret) as device:
        place.run("ban", "add", *ban, "--why", "it makes noise")
        device.wait_for_end()
    answer = expect(node, "banned", f"{ban[1]} is banned: it makes noise", "d1")
    assert come(node, "d1", place.secret) != 0
    answer = expect(node, "banned", f"{ban[1]} is banned: it makes noise", "d1")
    subprocess.run([martlet_process.binary(), *answer["command"].split()[1:]], check=True, timeout=60)
    assert come(node, "d1", place.secret) == 0
    assert verdict(node, "d1")["cause"] != "banned"


def test_when_it_was_last_seen_and_why_it_went_is_known_after_restarts(start_node, place):
    url = f"mqtt://127.0.0.1:{free_port()}"
    node = start_node(data_dir=place.path, http=True, listen=(url,))
    with Client(node, "d1").credentials("d1", place.secret):
        until(lambda: verdict(node, "d1")["state"] == "connected", "it is there")
    went = expect(node, "away", "it is not connected", "d1")
    node.terminate()
    node.wait()
    # On the same port: else the listener that it used is closed.
    node = start_node(data_dir=place.path, listen=(url,))
    answer = expect(node, "away", "it is not connected", "d1")
    assert answer["since"][:16] == went["since"][:16]
    assert any("last seen from 127.0.0.1:" in one["text"] for one in answer["evidence"]), answer
    with Client(node, "d1").credentials("d1", place.secret) as device:
        until(lambda: verdict(node, "d1")["state"] == "connected", "it is there")
        wait_until_written(place, "d1")
        node.process.kill()
        node.wait()
        device.wait_for_end()
    node = start_node(data_dir=place.path, listen=(url,))
    expect(node, "away", "the node ended without a stop", "d1")


def wait_until_written(place, name):
    """The tables have it that somebody is online, as they do within a second."""
    def is_written():
        with sqlite3.connect(f"file:{place.path}/martlet.db?mode=ro", uri=True) as tables:
            found = tables.execute("SELECT online FROM presence WHERE client_id = ?", (name,)).fetchone()
        tables.close()
        return found == (1,)

    until(is_written, f"{name} is online in the tables")


def test_a_listener_that_is_there_no_more(start_node, place):
    urls = [f"mqtt://127.0.0.1:{port}" for port in free_ports(2)]
    node = start_node(data_dir=place.path, listen=urls)
    first, second = node.urls
    with Client(node, "d1", port=int(second.rsplit(":")[-1])).credentials("d1", place.secret):
        until(lambda: verdict(node, "d1")["state"] == "connected", "it is there")
    node.terminate()
    node.wait()
    node = start_node(data_dir=place.path, listen=(first,))
    answer = expect(node, "listener-closed", f"it connected to {second} before", "d1")
    assert first in answer["sentence"] and "listen there again" in answer["remedy"]
    with Client(node, "d1").credentials("d1", place.secret):
        expect(node, "nothing-wrong", "is connected", "d1")


def test_of_a_client_of_another_user_nothing_is_told(node, place):
    """Who is refused for a session that is another user's has never been connected."""
    place.user("u1")
    place.user("u2")
    kept = {"clean": False, "properties": properties("CONNECT", SessionExpiryInterval=600)}
    Client(node, "sess", **kept).credentials("u1", "secret").start().disconnect()
    assert publish(node, "t", "-u", "u2", "-P", "secret", "-i", "sess")[0] != 0
    answer = expect(node, "client-id-taken", "another user's", "u2")
    assert answer["state"] == "refused"
    told = json.dumps([answer["also"], answer["evidence"]])
    assert "DISCONNECT" not in told and "last seen" not in told, answer


def test_the_log_has_the_remedy_of_a_deleted_device(start_node, tmp_path):
    place = Place(tmp_path / "data")
    secret = place.device("c-2")
    place.user("ann")
    node = start_node(data_dir=place.path)
    place.run("device", "rm", "c-2")
    assert come(node, "c-2", secret) != 0 and come(node, "c-3", secret) != 0

    def refusals(name):
        return [line for line in node.log().splitlines() if "connection refused" in line and name in line]

    until(lambda: refusals("c-2") and refusals("c-3"), "both are told")
    lines = {name: refusals(name)[0] for name in ("c-2", "c-3")}
    assert "device restore" in lines["c-2"] and "device add" not in lines["c-2"], lines["c-2"]
    # One line says it all: nothing stands below it.
    assert "below" not in lines["c-3"] and "to add a device, run: martlet device add" in lines["c-3"], lines["c-3"]
