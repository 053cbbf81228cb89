"""Faults of topics, Topic Filters and Client Identifiers that are put to `martlet why`: the headline is
the fault, and what it advises ends it."""

import json

import pytest

from paho_client import V311
from test_access import until
from test_scram import CONNACK, Scram, Wire, packet, string
from why_faults import KEPT, Faults, boss, published  # noqa: F401


SUBACK = 0x90


@pytest.fixture(scope="module")
def node():
    faults = Faults()
    for name in ("boss", "ann"):
        faults.user(name, "--role", "administrator")
    faults.run("device", "type", "add", "lanes", "--client-id", "any", "--rule", "pattern readwrite lanes/%u/#",
               "--rule", "pattern write gates/%u/#")
    with faults.start():
        yield faults


def gone(node, name):
    until(lambda: node.why(name)["state"] == "away", "it is gone")
    return node.why(name)


def test_a_device_comes_by_another_client_identifier(node):
    """Its type permits any."""
    secret = node.device("g-10", "--type", "lanes")
    with node.client("g-10", secret, client_id="lane-1") as lane:
        for name in ("g-10", "lane-1"):
            until(lambda: node.why(name)["state"] == "connected", "it is there")
            answer = node.why(name)
            assert answer["cause"] == "nothing-wrong" and answer["state"] == "connected", answer
        assert lane.subscribe("gates/g-10/1", 1)[0] >= 0x80
        for name in ("g-10", "lane-1"):
            told = node.headline("not-permitted", "it may not read gates/g-10/1", name, "gates/g-10/1")
            assert "lanes/g-10/#" in told["sentence"], told
        node.bash(told)
        assert lane.subscribe("gates/g-10/1", 1)[0] < 0x80
    for name in ("g-10", "lane-1"):
        answer = gone(node, name)
        assert "it is not connected: the client sent DISCONNECT" in answer["sentence"], answer
    with node.client("g-10", secret, client_id="lane-1"), node.client("g-10", secret, client_id="lane-2"):
        until(lambda: "2 of its 2 clients are connected" in node.why("g-10")["sentence"], "both are there")


def test_what_a_client_publishes_is_not_missed_by_another_one_of_its_user(node):
    secret = node.device("g-11", "--type", "lanes")
    with node.client("g-11", secret, client_id="lane-3") as one, node.client("g-11", secret, client_id="lane-4"):
        assert published(one, "lanes/g-11/state")
        for name in ("lane-4", "g-11"):
            node.over(name)


def test_what_a_client_may_not_read_is_not_missed_by_it(node, boss):
    secret = node.device("g-12", "--type", "lanes")
    with node.client("g-12", secret) as device:
        assert published(boss, "gates/g-12/log")
        node.over("g-12")
        # What it may read is.
        assert published(boss, "lanes/g-12/open")
        told = node.headline("not-subscribed", "it has no subscription, and 1 message that console published to "
                             "lanes/g-12/open reached nobody", "g-12")
        assert "subscribe to lanes/g-12/open" in told["remedy"], told
        device.subscribe("lanes/g-12/open", 1)
        assert published(boss, "lanes/g-12/open") and device.receive()
        node.over("g-12")


def test_a_subscription_has_no_local(node):
    with node.client("ann", client_id="echo") as app:
        app.subscribe("echo/1", 1, noLocal=True)
        assert published(app, "echo/1")
        told = node.headline("no-local", "1 message that echo published to echo/1 was not sent to it: it published them "
                             "itself, and its subscription to echo/1 has No Local", "echo", "echo/1")
        assert "without No Local" in told["remedy"], told
        app.subscribe("echo/1", 1)
        assert published(app, "echo/1") and app.receive()
        node.over("echo", "echo/1")
        # Others get it: that is no fault.
        app.subscribe("echo/1", 1, noLocal=True)
        with node.client("boss", client_id="listener") as other:
            other.subscribe("echo/1", 1)
            assert published(app, "echo/1") and other.receive()
            node.over("echo", "echo/1")
            answer = node.why("echo", "echo/1")
            assert not answer["wrong"] and any(one["cause"] == "no-local" for one in answer["also"]), answer


def test_a_command_comes_once_the_filter_is_right(node):
    """It is published again then, so it is not lost."""
    secret = node.device("pump")
    with node.client("pump", secret) as device:
        device.subscribe("d/pump/command/#", 1)
        node.run("command", "send", "open", "--device", "pump")
        told = node.headline("command-waits", "not subscribed to d/pump/commands/control; d/pump/command/# does "
                             "not match", "pump")
        assert "subscribe to d/pump/commands/control" in told["remedy"], told
        assert "pending" in node.bash(told)
        device.subscribe("d/pump/commands/#", 1)
        assert device.receive().topic == "d/pump/commands/control"
        node.over("pump")
        node.over("pump", "d/pump/commands/control")


def test_a_topic_filter_was_repaired(node, boss):
    """What came before is told with the filter that it would have matched."""
    with node.client("ann", client_id="mill") as app:
        app.subscribe("mill/order/#", 1)
        assert published(boss, "mill/orders/1")
        node.headline("not-subscribed", "it is subscribed to mill/order/#", "mill", "mill/orders/1")
        app.subscribe("mill/orders/#", 1)
        told = node.headline("not-retained", "arrived before it subscribed to mill/orders/#", "mill", "mill/orders/1")
        assert "publish again" in told["remedy"], told
        assert published(boss, "mill/orders/1") and app.receive()
        node.over("mill", "mill/orders/1")


# What is subscribed to, what is published, words of the headline, and what is right.
NEARLY = {
    "star": ("plant/*/temp", "plant/1/temp", "* is not a wildcard in MQTT: plant/+/temp would match", "plant/+/temp"),
    "stars": ("works/*", "works/1/temp", "* is not a wildcard in MQTT: works/# would match", "works/#"),
    "blank in the filter": ("hall/1/temp ", "hall/1/temp", "has a blank at the beginning or end of a level", "hall/1/temp"),
    "blank in the topic": ("yard/+/temp", "yard/1/temp ", "the topic \"yard/1/temp \" has a blank", "yard/1/+"),
    "order": ("stat/plug/POWER", "plug/stat/POWER", "the levels are in another order", "plug/stat/POWER"),
    "empty level in the topic": ("mine/b/temp", "mine//b/temp", "the topic has an empty level (//)", "mine//b/temp"),
    "empty level in the filter": ("quay//+", "quay/1", "the filter has an empty level (//)", "quay/+"),
}


@pytest.mark.parametrize("nearly", NEARLY)
def test_a_topic_filter_nearly_matches(node, boss, nearly):
    topic_filter, topic, said, right = NEARLY[nearly]
    name = f"near-{list(NEARLY).index(nearly)}"
    with node.client("ann", client_id=name) as app:
        app.subscribe(topic_filter, 1)
        assert published(boss, topic)
        for asked in ([name], [name, topic]):
            node.headline("not-subscribed", said, *asked)
        app.subscribe(right, 1)
        assert published(boss, topic) and app.receive()
        node.over(name)


# The subscription of a session whose client is not connected, what is published, and words of the headline.
AWAY = {
    "case": ("Farm/1/temp", "farm/1/temp", "upper and lower case differ"),
    "levels": ("barn/1", "barn/1/temp", "the topic has more levels, which barn/1/# would match"),
    "slash": ("silo/1/temp/", "silo/1/temp", "the filter ends with /, and the topic does not"),
    "order": ("tele/drill/LWT", "drill/tele/LWT", "the levels are in another order"),
}


@pytest.mark.parametrize("nearly", AWAY)
def test_a_topic_filter_of_a_kept_session_nearly_matches(node, boss, nearly):
    topic_filter, topic, said = AWAY[nearly]
    name = f"away-{nearly}"
    with node.client("ann", client_id=name, **KEPT) as app:
        app.subscribe(topic_filter, 1)
    gone(node, name)
    for count in (0, 1):
        until(lambda: node.why(name, topic).get("count", 0) == count, "what was published is noted")
        told = node.headline("not-subscribed", f"it is subscribed to {topic_filter}, which does not match: {said}", name, topic)
        assert "it is not connected, and its session has no subscription" in told["sentence"], told
        assert told["state"] == "away" and told.get("count", 0) == count and f"subscribe to {topic}" in told["remedy"], told
        # The publisher is told the same.
        told = node.headline("subscriber-absent", f"{name} (not connected) is subscribed to {topic_filter}, which does not "
                             f"match: {said}", "console", topic)
        assert published(boss, topic)
    with node.client("ann", client_id=name, **KEPT) as app:
        app.subscribe(topic, 1)
    gone(node, name)
    assert published(boss, topic)
    told = node.why(name, topic)
    assert told["cause"] == "away" and not told["wrong"], told
    with node.client("ann", client_id=name, **KEPT) as app:
        assert app.receive().topic == topic
        node.over(name, topic)


def test_a_topic_filter_of_a_share_group_is_published_to(node):
    with node.client("ann", client_id="share") as client, node.client("boss", client_id="member") as member:
        member.subscribe("$share/g/jobs/#", 1)
        assert not published(client, "$share/g/jobs/1")
        for asked in (["share"], ["share", "$share/g/jobs/1"]):
            told = node.headline("not-permitted", "that is the Topic Filter of a share group, not a topic", *asked)
            assert "have the client publish to jobs/1" in told["remedy"] and "$SYS" not in told["remedy"], told
            assert not any("subscribe to $share" in one.get("remedy", "") for one in told["also"]), json.dumps(told, indent=1)
        assert published(client, "jobs/1") and member.receive().topic == "jobs/1"


def connect(client_id, version):
    """CONNECT of ann, as bytes: Paho sends no Topic Filter that is not valid."""
    flags = bytes([version, 0xC2, 0, 0]) + (b"\0" if version == 5 else b"")
    return packet(0x10, string(b"MQTT") + flags + string(client_id.encode()) + string(b"ann") + string(b"secret"))


def test_a_topic_filter_has_a_wildcard_in_the_middle(node):
    with Wire(node.node) as wire:
        wire.socket.sendall(connect("mid-5", 5) + packet(0x82, b"\0\1\0" + string(b"plant/#/temp") + b"\1"))
        assert wire.receive()[0] == CONNACK and wire.receive()[0] == SUBACK
        told = node.headline("other", "its subscription to plant/#/temp was refused", "mid-5")
        assert "must be its last level" in told["remedy"], told


def test_a_client_of_mqtt_3_is_put_out_for_a_wildcard_in_the_middle(node):
    with Wire(node.node) as wire:
        wire.socket.sendall(connect("mid-3", 4) + packet(0x82, b"\0\1" + string(b"plant/#/temp") + b"\1"))
        assert wire.receive()[0] == CONNACK and wire.receive() is None
    told = node.headline("protocol-error", "a Topic Filter with a wildcard in the wrong place", "mid-3")
    assert "must be its last level" in told["remedy"], told
    with node.client("ann", client_id="mid-3", version=V311) as app:
        assert app.subscribe("plant/+/temp", 1) == [1]


def test_a_client_logs_in_by_scram_which_is_off(node):
    with Wire(node.node) as wire:
        wire.connect("scram-1", Scram("ann", "secret").first, user="ann")
        assert wire.receive()[0] == CONNACK
    told = node.headline("other", "SCRAM-SHA-256 is not switched on", "scram-1")
    assert "auth.scram = true" in told["remedy"] and "user name and password" in told["remedy"], told
    with node.client("ann", client_id="scram-1"):
        node.over("scram-1")
