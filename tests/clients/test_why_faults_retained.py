"""Faults of retained messages, Wills and sessions that have ended, put to `martlet why`: the headline
is the fault, and what it advises ends it."""

import json

from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.reasoncodes import ReasonCode

import martlet_process
from paho_client import properties
from test_access import until
from why_faults import KEPT, boss, node, published  # noqa: F401

WITH_WILL = ReasonCode(PacketTypes.DISCONNECT, identifier=0x04)


def retain(client, topic, payload="on", **values):
    client.publish(topic, payload, retain=True, properties=properties("PUBLISH", **values))


def listed(node, topic):
    """Whether the node has a retained message of the topic."""
    done = martlet_process.run("retained", "ls", topic, "--data-dir", str(node.place.path))
    return topic in done.stdout


def test_a_retained_message_was_cleared(node, boss):
    retain(boss, "cleared/1")
    retain(boss, "cleared/1", "")
    with node.client("ann", client_id="r1") as app:
        app.subscribe("cleared/1", 1)
        for asked in ("cleared/1", "cleared/#"):
            if asked == "cleared/#":
                app.subscribe(asked, 1)
            told = node.headline("no-retained", "console cleared it on", "r1", asked)
            assert "an empty payload" in told["sentence"] and "with RETAIN again" in told["remedy"], told
        retain(boss, "cleared/1", "off")
        assert app.receive_payload() == "off"
        node.over("r1", "cleared/1")


def test_a_retained_message_has_expired(node, boss):
    retain(boss, "state/2", MessageExpiryInterval=1)
    until(lambda: not listed(node, "state/2"), "it has expired")
    with node.client("ann", client_id="r2") as app:
        app.subscribe("state/2", 1)
        told = node.headline("no-retained", "that of console expired on", "r2", "state/2")
        assert "longer Message Expiry Interval" in told["remedy"], told
        retain(boss, "state/2", "off", MessageExpiryInterval=600)
        assert app.receive_payload() == "off"
        node.over("r2", "state/2")


def test_a_client_subscribes_with_retain_handling_2(node, boss):
    retain(boss, "state/3")
    with node.client("ann", client_id="r3") as app:
        app.subscribe("state/3", 1, retainHandling=2)
        told = node.headline("no-retained", "it subscribed with Retain Handling 2", "r3", "state/3")
        assert told["remedy"] == "have the client subscribe to state/3 with Retain Handling 0"
        app.subscribe("state/3", 1, retainHandling=0)
        assert app.receive_payload() == "on"
        node.over("r3", "state/3")


def test_a_client_comes_again_and_subscribes_with_retain_handling_1(node, boss):
    retain(boss, "state/4")
    with node.client("ann", client_id="r4", **KEPT) as app:
        app.subscribe("state/4", 1, retainHandling=1)
        assert app.receive_payload() == "on"
        node.over("r4", "state/4")
    with node.client("ann", client_id="r4", **KEPT) as app:
        app.subscribe("state/4", 1, retainHandling=1)
        node.headline("no-retained", "it was subscribed already when it subscribed with Retain Handling 1", "r4",
                      "state/4")
        app.subscribe("state/4", 1, retainHandling=0)
        assert app.receive_payload() == "on"
        node.over("r4", "state/4")


def test_a_shared_subscription_gets_no_retained_message(node, boss):
    retain(boss, "state/5")
    with node.client("ann", client_id="r5") as app:
        app.subscribe("$share/crew/state/5", 1)
        told = node.headline("no-retained", "a Shared Subscription gets no retained messages", "r5", "state/5")
        assert "without $share" in told["remedy"], told
        app.subscribe("state/5", 1)
        assert app.receive_payload() == "on"
        node.over("r5", "state/5")


def test_a_session_has_expired_with_a_message(node, boss):
    expiry = properties("CONNECT", SessionExpiryInterval=5)
    with node.client("ann", client_id="s1", clean=False, properties=expiry) as app:
        app.subscribe("s/1", 1)
    until(lambda: node.why("s1")["state"] == "away", "it is gone")
    assert published(boss, "s/1")
    for asked in (["s1"], ["s1", "s/1"]):
        told = node.headline("session-ended", "the session ended: Session Expiry Interval; 1 message that waited for it "
                             "was dropped with it", *asked)
        assert "longer Session Expiry Interval" in told["remedy"], told
    with node.client("ann", client_id="s1", **KEPT) as app:
        app.subscribe("s/1", 1)
    assert published(boss, "s/1")
    with node.client("ann", client_id="s1", **KEPT) as app:
        assert app.receive().topic == "s/1"


def test_an_operator_has_ended_a_session_with_messages(node, boss):
    with node.client("ann", client_id="s2", **KEPT) as app:
        app.subscribe("s/2", 1)
    until(lambda: node.why("s2")["state"] == "away", "it is gone")
    assert published(boss, "s/2") and published(boss, "s/2")
    node.run("session", "rm", "s2")
    told = node.headline("session-ended", "the session ended: ended by an operator; 2 messages that waited for it were "
                         "dropped with it", "s2")
    assert "publish again" in told["remedy"], told


def test_a_client_discards_its_session_by_clean_start(node, boss):
    with node.client("ann", client_id="s3", **KEPT) as app:
        app.subscribe("s/3", 1)
    until(lambda: node.why("s3")["state"] == "away", "it is gone")
    assert published(boss, "s/3")
    with node.client("ann", client_id="s3"):
        told = node.headline("session-ended", "the session ended: Clean Start; 1 message", "s3")
        assert "Clean Start 0" in told["remedy"], told


def left(node, name):
    """The answer for a client that is gone."""
    until(lambda: node.why(name)["state"] == "away", "it is gone")
    return node.why(name)


def test_a_client_says_goodbye_and_its_will_is_not_published(node, boss):
    with node.client("ann", client_id="w1").will("status/w1", "gone", qos=1):
        pass
    told = left(node, "w1")
    assert "its Will for status/w1 was not published: that DISCONNECT discards it" in told["sentence"], told
    assert "0x04" in told["remedy"] and told["cause"] == "away", told
    boss.subscribe("status/w1", 1)
    told = node.headline("will-not-sent", "w1 has disconnected, and its Will for status/w1 was not published", "console", "status/w1")
    assert "without DISCONNECT" in told["remedy"], told
    # With 0x04 it is published.
    client = node.client("ann", client_id="w1").will("status/w1", "gone", qos=1).start()
    client.disconnect(reasoncode=WITH_WILL)
    assert boss.receive_payload() == "gone"
    told = left(node, "w1")
    assert "its Will was published to status/w1" in told["sentence"], told
    node.over("console", "status/w1")


def test_a_will_waits_for_its_delay(node, boss):
    delay = properties("WILLMESSAGE", WillDelayInterval=300)
    client = node.client("ann", client_id="w2", **KEPT).will("status/w2", "gone", qos=1, properties=delay).start()
    client.drop()
    told = left(node, "w2")
    assert "its Will for status/w2 is published on" in told["sentence"], told
    assert "after its Will Delay Interval" in told["sentence"], told
    boss.subscribe("status/w2", 1)
    told = node.headline("will-not-sent", "w2 is not connected, and its Will for status/w2 is published on", "console", "status/w2")
    assert "shorter Will Delay Interval" in told["remedy"], told


def test_a_will_is_not_permitted_any_more(node, boss):
    """Its role lost the topic while it was connected."""
    node.run("role", "add", "panel", "--rule", "topic write status/w3")
    node.user("carl", "--role", "panel")
    client = node.client("carl", client_id="w3").will("status/w3", "gone", qos=1).start()
    node.run("role", "rules", "panel", "--rule", "topic write other/w3")
    until(lambda: not published(client, "status/w3"), "the rules apply")
    client.drop()
    told = node.headline("not-permitted", "its publish to status/w3 was refused: it was its Will", "w3")
    node.bash(told)
    client = node.client("carl", client_id="w3").will("status/w3", "gone", qos=1).start()
    boss.subscribe("status/w3", 1)
    client.drop()
    assert boss.receive_payload() == "gone"


def test_the_will_and_the_state_differ_in_case(node):
    """The state stays as it was when its client has gone."""
    def device(will):
        return node.client("ann", client_id="d9").will(will, "offline", retain=True, qos=1).start()

    with node.client("bob", client_id="watcher") as watcher:
        watcher.subscribe("room/9/state", 1)
        client = device("room/9/State")
        retain(client, "room/9/state", "online")
        assert watcher.receive_payload() == "online"
        said = "d9 has its Will for room/9/State, and room/9/state has a retained message"
        told = node.headline("will-retained", said, "d9")
        assert "set its Will for room/9/state" in told["remedy"], told
        client.drop()
        said = "d9 left its Will for room/9/State, and room/9/state has a retained message"
        for asked in (["watcher", "room/9/state"], ["d9"], ["d9", "room/9/state"]):
            told = node.headline("will-retained", said, *asked)
            assert "upper and lower case differ, so the Will has not replaced that" in told["sentence"], told
        client = device("room/9/state")
        node.over("watcher", "room/9/state")
        node.over("d9")
        node.bash(told)
        assert not listed(node, "room/9/State")
        client.drop()
        assert watcher.receive_payload() == "offline"
        left(node, "d9")
        assert "upper and lower case" not in json.dumps(node.why("d9"))
