"""Faults of webhooks, by which rules act and integrations deliver, and of packets, that are put to
`martlet why`: the headline is the fault, and the command that is printed, or the advice, ends it."""

import socket

import pytest

from paho_client import Client, properties
from server_process import free_port
from test_access import until
from test_scram import packet, string
from test_webhooks import Receiver
from why_faults import Faults


@pytest.fixture
def receiver():
    receiver = Receiver()
    yield receiver
    receiver.close()


def configured(path, text, allowed='["127.0.0.0/8"]'):
    config = path / "martlet.toml"
    config.write_text(f"[integrations]\nallow_private = {allowed}\n{text}")
    return Faults(arguments=("-c", str(config)))


def of_rule(name, action):
    return f'[[rules]]\nname = "{name}"\ntopics = ["{name}"]\nactions = [{{ {action} }}]\n'


def publish(node, topic):
    with Client(node.node, "pump-1") as publisher:
        publisher.publish(topic, "x")


# Webhooks of rules


def test_the_webhook_of_a_rule_answers_with_an_error(tmp_path, receiver):
    receiver.answer = lambda message: (500, {}, b"no")
    with configured(tmp_path, of_rule("told", f'webhook = {{ url = "{receiver.url}" }}')) as node:
        publish(node, "told")
        told = node.headline("integration-failing", "the target answered 500", "told")
        assert "the rule told has a webhook that does not work" in told["sentence"] and told["state"] == "no-client"
        assert "rule-webhook/told.0" in told["sentence"] and "rule-webhook/told.0" in told["command"]
        receiver.answer = lambda message: (204, {}, b"")
        node.bash(told)
        node.over("told")
        assert "its condition was true for 1 of them" in node.why("told")["sentence"]


def test_the_webhook_of_a_rule_refuses_a_message(tmp_path, receiver):
    receiver.answer = lambda message: (400, {}, b"no such plant")
    with configured(tmp_path, of_rule("told", f'webhook = {{ url = "{receiver.url}" }}')) as node:
        publish(node, "told")
        told = node.headline("integration-failing", "refused 1 message: it is a dead letter", "told")
        assert "no such plant" in node.bash(told) or "400" in node.bash(told)


def test_the_webhook_of_a_rule_is_down(tmp_path):
    port = free_port()
    text = f'[[sinks.webhook]]\nname = "crm"\nfilters = ["crm/#"]\nurl = "http://127.0.0.1:{port}/hook"\n'
    with configured(tmp_path, text + of_rule("told", 'webhook = { name = "crm" }')) as node:
        publish(node, "told")
        told = node.headline("integration-failing", "the integration webhook/crm", "told")
        assert "webhook/crm" in told["command"]
        # It tries whether the target is there, which it is not.
        node.bash(told, code=1)


def test_the_webhook_of_a_rule_has_a_private_address(receiver, tmp_path):
    port = receiver.url.rsplit(":", 1)[1].split("/")[0]
    rule = of_rule("told", f'webhook = {{ url = "http://localhost:{port}" }}')
    with configured(tmp_path, rule, allowed="[]") as node:
        publish(node, "told")
        told = node.headline("integration-failing", "allow_private", "told")
        assert "rule-webhook/told.0" in told["sentence"]
        node.bash(told, code=1)
        node.restart("integrations.allow_private=127.0.0.0/8,::1/128")
        until(lambda: receiver.received, "it has come")
        until(lambda: "rule-webhook" not in node.why("told")["sentence"], "its answer has come")
        node.bash(told)


def test_a_rule_may_not_publish(tmp_path):
    text = of_rule("told", 'publish = { topic = "$SYS/told" }')
    with configured(tmp_path, text) as node:
        publish(node, "told")
        assert "$SYS/told" in node.bash(node.headline("rule-failing", "is a topic of the node's own", "told"))


@pytest.mark.parametrize("topic", [None, "out/1"])
def test_a_rule_may_not_publish_as_its_user(tmp_path, topic):
    text = of_rule("copy", 'publish = { topic = "out/1" }').replace("[[rules]]", '[[rules]]\npublish_as = "bot"')
    with configured(tmp_path, text) as node:
        node.run("role", "add", "quiet", "--rule", "topic write other/#")
        node.user("bot", "--role", "quiet")
        node.user("ann", "--role", "administrator")
        with node.client("ann") as publisher:
            publisher.publish("copy", "x")
        asked = ["bot"] if topic is None else ["bot", topic]
        told = node.headline("not-permitted", "the rule copy publishes as bot (publish_as), and its publish to out/1 was refused: "
                             "no rule permits it", *asked)
        # It is no client of the user.
        assert told["state"] == "never-seen" and told["count"] == 1, told
        told = node.headline("not-permitted", "the rule copy published to out/1, and was refused", "ann", "out/1")
        node.bash(told)
        until(lambda: node.why("bot")["cause"] == "never-connected", "it is permitted")


def test_a_rule_publishes_as_a_device_whose_rules_have_its_client_identifier(tmp_path):
    text = of_rule("copy", 'publish = { topic = "d/pump-9/set" }').replace("[[rules]]", '[[rules]]\npublish_as = "pump-9"')
    with configured(tmp_path, text) as node:
        secret = node.device("pump-9")
        node.user("ann", "--role", "administrator")
        with node.client("ann") as publisher:
            publisher.publish("copy", "x")
        for asked in (["pump-9"], ["pump-9", "d/pump-9/set"]):
            told = node.headline("not-permitted", "the rule copy publishes as pump-9 (publish_as), and its publish to d/pump-9/set "
                                 "was refused", *asked)
            assert "%c is replaced by the Client Identifier of the publisher, which is $rule/copy" in told["sentence"], told
            assert told["remedy"].startswith("have the rule copy publish as a user whose rules permit it"), told
        with node.client("pump-9", secret) as device:
            until(lambda: node.why("pump-9")["state"] == "connected", "it is there")
            assert device.acknowledged("d/pump-9/set")


def test_messages_of_a_webhook_are_dropped_when_they_are_too_old(tmp_path, receiver):
    receiver.answer = lambda message: (500, {}, b"no")
    text = f'[[sinks.webhook]]\nname = "crm"\nfilters = ["crm/#"]\nurl = "{receiver.url}"\nmax_age_secs = 60\n'
    with configured(tmp_path, text) as node:
        publish(node, "crm/1")
        told = node.headline("integration-failing", "messages that wait for longer than 60 s are dropped", "webhook/crm")
        assert "max_age_secs" in told["remedy"] and "and they are delivered" not in told["remedy"]
        receiver.answer = lambda message: (204, {}, b"")
        node.bash(told)
        node.over("webhook/crm")


@pytest.mark.parametrize("status, said", [(401, "refused the credentials (HTTP 401)"),
                                          (403, "does not permit requests with these credentials (HTTP 403)")])
def test_the_target_of_a_webhook_refuses_the_credentials(tmp_path, receiver, status, said):
    receiver.answer = lambda message: (status, {}, b"who are you")
    text = f'[[sinks.webhook]]\nname = "crm"\nfilters = ["crm/#"]\nurl = "{receiver.url}"\n'
    with configured(tmp_path, text) as node:
        for name in ("1", "2"):
            publish(node, f"crm/{name}")
        for asked in (["webhook/crm"], ["pump-1", "crm/1"]):
            told = node.headline("integration-failing", f"the target of the integration webhook/crm {said}; 2 messages are "
                                 "dead letters", *asked)
            assert told["since"] and told["count"] == 2, told
            assert str(status) in node.bash(told)
        receiver.answer = lambda message: (204, {}, b"")
        again = told["remedy"].split("(martlet ", 1)[1].split(")")[0]
        node.bash({"command": f"martlet {again}"})
        until(lambda: not node.why("webhook/crm")["wrong"], "they are sent")
        answer = node.why("pump-1", "crm/1")
        assert "HTTP" not in str(answer), answer


def test_the_webhook_of_a_rule_refuses_the_credentials(tmp_path, receiver):
    receiver.answer = lambda message: (401, {}, b"")
    with configured(tmp_path, of_rule("told", f'webhook = {{ url = "{receiver.url}" }}')) as node:
        publish(node, "told")
        told = node.headline("integration-failing", "refused the credentials (HTTP 401); 1 message is a dead letter", "told")
        assert "401" in node.bash(told)


# Packets


@pytest.fixture(scope="module")
def node():
    with Faults(settings=["limits.connect_timeout_secs=3"]).start() as faults:
        yield faults


def test_a_topic_alias_is_larger_than_permitted(node):
    secret = node.device("a1")
    with node.client("a1", secret) as device:
        device.client.reconnect_delay_set(60, 60)
        device.client.publish("d/a1/state", "x", 1, properties=properties("PUBLISH", TopicAlias=60_000))
        until(lambda: node.why("a1")["state"] == "away", "its connection ended")
    for asked in (["a1"], ["a1", "d/a1/state"]):
        told = node.headline("limit-reached", "Topic Alias", *asked)
        assert "look at its MQTT library" in told["remedy"]


def test_a_client_identifier_is_empty_without_clean_session(node):
    node.user("eve")
    user = packet(0x10, string(b"MQTT") + b"\x04\xc0\x00\x3c" + string(b"") + string(b"eve") + string(b"secret"))
    with socket.create_connection(("127.0.0.1", node.node.port("mqtt"))) as client:
        client.sendall(user)
        assert client.recv(4) == b"\x20\x02\x00\x02"
    told = node.headline("client-id-invalid", "an empty Client Identifier requires Clean Session", "eve")
    assert "Clean Session" in told["remedy"]
    assert node.comes("eve")


@pytest.mark.parametrize("will", [b"plant/+/state", b""])
def test_a_will_topic_is_not_valid(node, will):
    name = f"w{len(will)}"
    secret = node.device(name)
    connect = packet(0x10, string(b"MQTT") + b"\x04\xc6\x00\x3c" + string(name.encode()) + string(will) + string(b"x")
                     + string(name.encode()) + string(secret.encode()))
    with socket.create_connection(("127.0.0.1", node.node.port("mqtt"))) as client:
        client.sendall(connect)
        assert client.recv(4) == b""
    told = node.headline("protocol-error", "Will Topic is not a valid Topic Name", name)
    assert told["state"] == "refused" and "perhaps" not in told["sentence"]
    assert "wildcards" in told["remedy"]
    assert f"{name} is traced until" in node.bash(told)
    assert node.comes(name, secret)
    node.over(name)


def test_a_connection_sends_no_connect(node):
    with socket.create_connection(("127.0.0.1", node.node.port("mqtt"))) as client:
        assert client.recv(4) == b""
    told = node.headline("limit-reached", "connect_timeout_secs", "127.0.0.1")
    assert "an MQTT client sends CONNECT immediately" in told["remedy"] and "find the clients" not in told["remedy"]
