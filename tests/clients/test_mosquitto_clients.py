"""Mosquitto's command line clients: mosquitto_pub, mosquitto_sub, mosquitto_rr."""

import subprocess

import pytest

from programs import DEADLINE_SECS, Mosquitto, need

VERSIONS = pytest.mark.parametrize("version", ["mqttv31", "mqttv311", "mqttv5"])


@pytest.fixture
def mosquitto(node):
    programs = Mosquitto(node)
    yield programs
    programs.close()


@VERSIONS
@pytest.mark.parametrize("qos", ["0", "1", "2"])
def test_a_message_arrives(mosquitto, name, version, qos):
    name = name[:20]
    subscriber = mosquitto.sub("-V", version, "-t", f"{name}/#", "-q", qos, "-C", "1", "-v")
    sent = mosquitto.pub("-V", version, "-t", f"{name}/a", "-q", qos, "-m", "hello world")
    assert sent.returncode == 0, sent.stderr
    assert subscriber.messages() == ([f"{name}/a hello world"], 0)


@VERSIONS
def test_a_retained_message_waits_for_its_subscriber(mosquitto, name, version):
    assert mosquitto.pub("-V", version, "-t", name, "-q", "1", "-r", "-m", "kept").returncode == 0
    subscriber = mosquitto.sub("-V", version, "-t", name, "-q", "1", "-C", "1", "-F", "%r %p")
    assert subscriber.messages() == (["1 kept"], 0)
    assert mosquitto.pub("-V", version, "-t", name, "-q", "1", "-r", "-n").returncode == 0
    subscriber = mosquitto.sub("-V", version, "-t", name, "-q", "1", "-C", "1", "-F", "%r %p")
    mosquitto.pub("-V", version, "-t", name, "-q", "1", "-m", "live")
    assert subscriber.messages() == (["0 live"], 0)


@VERSIONS
def test_the_will_of_a_killed_client_is_sent(mosquitto, name, version):
    watcher = mosquitto.sub("-V", version, "-t", f"{name}/will", "-q", "1", "-C", "1")
    will = ["--will-topic", f"{name}/will", "--will-payload", "gone", "--will-qos", "1"]
    mosquitto.sub("-V", version, "-t", name, *will).kill()
    assert watcher.messages() == (["gone"], 0)


def test_lines_of_standard_input_arrive_in_order(mosquitto, name):
    count = 1000
    subscriber = mosquitto.sub("-t", name, "-q", "1", "-C", str(count))
    text = "".join(f"line {i}\n" for i in range(count))
    assert mosquitto.pub("-t", name, "-q", "1", "-l", input=text).returncode == 0
    lines, status = subscriber.messages()
    assert (lines, status) == ([f"line {i}" for i in range(count)], 0)


def test_a_persistent_session_is_kept_for_mosquitto_sub(mosquitto, name):
    name = name[:20]
    session = ["-i", name, "-c", "-t", name, "-q", "1"]
    mosquitto.sub(*session).kill()
    assert mosquitto.pub("-t", name, "-q", "1", "-m", "meanwhile").returncode == 0
    # What waits comes before the new SUBACK.
    subscriber = mosquitto.start("mosquitto_sub", *session, "-C", "1")
    assert subscriber.messages() == (["meanwhile"], 0)


def test_properties_arrive(mosquitto, name):
    subscriber = mosquitto.sub("-V", "5", "-t", name, "-C", "1", "-F", "%C|%R|%D|%P|%E|%p")
    sent = mosquitto.pub(
        *["-V", "5", "-t", name, "-m", "hello"],
        *["-D", "publish", "content-type", "text/plain"],
        *["-D", "publish", "response-topic", "answer/here"],
        *["-D", "publish", "correlation-data", "abc"],
        *["-D", "publish", "user-property", "key", "value"],
        *["-D", "publish", "message-expiry-interval", "3600"],
    )
    assert sent.returncode == 0, sent.stderr
    lines, status = subscriber.messages()
    assert status == 0
    assert lines[0] in [
        f"text/plain|answer/here|abc|key:value|{left}|hello" for left in (3599, 3600)
    ]


def test_a_request_gets_its_response(mosquitto, name):
    request, answer = f"{name}/request", f"{name}/answer"
    responder = mosquitto.sub("-V", "5", "-t", request, "-C", "1", "-F", "%R %p")
    requester = mosquitto.start(
        *["mosquitto_rr", "-V", "5", "-t", request, "-e", answer, "-m", "question"],
        *["-W", str(DEADLINE_SECS)],
    )
    assert responder.messages() == ([f"{answer} question"], 0)
    mosquitto.pub("-V", "5", "-t", answer, "-m", "reply")
    assert requester.messages() == (["reply"], 0)


def test_shared_subscriptions_share(mosquitto, name):
    members = [
        mosquitto.sub("-V", "5", "-t", f"$share/g/{name}", "-t", f"{name}/end", "-q", "1")
        for _ in range(2)
    ]
    text = "".join(f"{i}\n" for i in range(20))
    assert mosquitto.pub("-t", name, "-q", "1", "-l", input=text).returncode == 0
    assert mosquitto.pub("-t", f"{name}/end", "-q", "1", "-m", "end").returncode == 0
    got = []
    for member in members:
        while (line := member.line()) != "end":
            if line.isdigit():
                got.append(int(line))
    assert sorted(got) == list(range(20))


def test_a_refused_publish_is_told(mosquitto):
    refused = mosquitto.pub("-V", "5", "-q", "1", "-t", "$SYS/broker/mine", "-m", "x")
    assert "Not authorized" in refused.stderr + refused.stdout


def test_nobody_listening_ends_in_failure(start_node):
    node = start_node()
    programs = Mosquitto(node)
    node.terminate()
    node.wait()
    assert programs.pub("-t", "a", "-m", "x").returncode != 0


def test_a_client_without_credentials_is_refused(start_node, tmp_path):
    config = tmp_path / "martlet.toml"
    config.write_text('[[listeners]]\nurl = "mqtt://127.0.0.1:0"\nallow_anonymous = false\n')
    closed = start_node(arguments=["--config", str(config)], listen=[])
    refused = Mosquitto(closed).pub("-V", "mqttv311", "-t", "a", "-m", "x")
    assert refused.returncode == 5
    assert "not authorised" in refused.stderr.lower()
