"""Faults of sessions and limits that are put to `martlet why`: the headline is the fault, and what it
advises ends it."""

import pytest

from paho_client import V311, properties
from test_access import until
from test_scram import CONNACK, Wire, packet, string
from test_why_state import slow_reader
from why_faults import KEPT, Faults, boss, published, reason_of  # noqa: F401


PUBLISH_QOS_1, PUBACK, SUBACK = 0x32, 0x40, 0x90


@pytest.fixture(scope="module")
def node():
    faults = Faults(settings=["limits.queued_messages=5"])
    for name in ("boss", "ann", "bob"):
        faults.user(name, "--role", "administrator")
    with faults.start():
        yield faults


def test_the_queue_of_a_client_that_is_away_is_full(node, boss):
    with node.client("ann", client_id="q1", **KEPT) as app:
        app.subscribe("q/1", 1)
    until(lambda: node.why("q1")["state"] == "away", "it is gone")
    for _ in range(20):
        assert published(boss, "q/1")
    told = node.headline("queue-full", "its queue is full, 5 messages wait in it", "q1")
    assert "connect more often" in told["remedy"] and "limits.queued_messages" in told["remedy"]
    with node.client("ann", client_id="q1", **KEPT) as app:
        for _ in range(5):
            app.receive()
        told = node.headline("queue-full", "15 messages for it were dropped", "q1")
        assert "there is room again" in told["sentence"], told


def test_the_queue_of_a_subscriber_is_full_with_messages_of_a_device_behind_a_gateway(node, boss):
    """The device itself never connects. The losses of a session have no topic."""
    node.device("child-4")
    with node.client("ann", client_id="q14", **KEPT) as app:
        app.subscribe("d/+/state", 1)
    with node.client("ann", client_id="q15", **KEPT) as app:
        app.subscribe("elsewhere", 1)
    for topic in ("d/child-4/state", "elsewhere"):
        for _ in range(20):
            assert published(boss, topic)
    said = "15 messages were dropped for q14, which is subscribed to d/+/state, of this device or others: "
    node.headline("queue-full", said, "child-4")
    assert "q15" not in str(node.why("child-4"))
    with node.client("child-5", node.device("child-5")):
        assert said not in node.why("child-5")["sentence"]


def test_the_queue_is_full_of_a_subscriber_to_topics_that_the_device_itself_may_not_use(node, boss):
    node.device("leaf1")
    with node.client("ann", client_id="q16", **KEPT) as app:
        app.subscribe("gw/+/data", 1)
    for _ in range(20):
        assert published(boss, "gw/leaf1/data")
    said = "15 messages were dropped for q16, which is subscribed to gw/+/data, of this device or others: "
    until(lambda: said in str(node.why("leaf1").get("also")), "it is told beside what is more likely")


def test_messages_expire_before_a_client_comes(node, boss):
    with node.client("ann", client_id="q2", **KEPT) as app:
        app.subscribe("q/2", 1)
    until(lambda: node.why("q2")["state"] == "away", "it is gone")
    boss.publish("q/2", "x", properties=properties("PUBLISH", MessageExpiryInterval=1))
    told = node.headline("expired", "1 message for it was not delivered before the Message Expiry Interval ran out", "q2")
    assert "longer Message Expiry Interval" in told["remedy"]
    boss.publish("q/2", "y", properties=properties("PUBLISH", MessageExpiryInterval=600))
    with node.client("ann", client_id="q2", **KEPT) as app:
        assert app.receive_payload() == "y"


def test_messages_with_qos_0_are_not_kept_for_a_client_that_is_away(node, boss):
    with node.client("ann", client_id="q3", **KEPT) as app:
        app.subscribe("q/3", 1)
    until(lambda: node.why("q3")["state"] == "away", "it is gone")
    boss.publish("q/3", "x", qos=0)
    for asked in (["q3"], ["q3", "q/3"]):
        told = node.headline("not-kept", "1 message for it was dropped", *asked)
        assert "publish and subscribe with QoS 1" in told["remedy"]
    boss.publish("q/3", "y", qos=1)
    with node.client("ann", client_id="q3", **KEPT) as app:
        assert app.receive_payload() == "y"
        node.over("q3", "q/3")


def test_a_client_comes_without_the_session_that_it_had(node, boss):
    """With a clean session it had no subscription while it was away."""
    with node.client("ann", client_id="q4") as app:
        app.subscribe("q/4", 1)
    until(lambda: node.why("q4")["state"] == "away", "it is gone")
    assert published(boss, "q/4")
    with node.client("ann", client_id="q4", **KEPT) as app:
        app.subscribe("q/4", 1)
        told = node.headline("not-retained", "arrived before it subscribed", "q4", "q/4")
        assert "keep its session (Clean Start 0, Session Expiry Interval)" in told["remedy"]
    until(lambda: node.why("q4")["state"] == "away", "it is gone")
    assert published(boss, "q/4")
    with node.client("ann", client_id="q4", **KEPT) as app:
        assert app.receive().topic == "q/4"


def test_a_client_forgets_to_subscribe_again(node, boss):
    with node.client("ann", client_id="q5", version=V311):
        assert published(boss, "q/5")
        told = node.headline("not-subscribed", "it has no subscription that q/5 matches", "q5", "q/5")
        assert "have it subscribe to q/5" in told["remedy"]
    with node.client("ann", client_id="q5", version=V311) as app:
        app.subscribe("q/5", 1)
        assert published(boss, "q/5") and app.receive().topic == "q/5"


def test_a_message_is_larger_than_the_client_takes(node, boss):
    options = {"properties": properties("CONNECT", MaximumPacketSize=64)}
    with node.client("ann", client_id="q6", **options) as app:
        app.subscribe("q/6", 1)
        boss.publish("q/6", "x" * 100)
        for asked in (["q6"], ["q6", "q/6"]):
            told = node.headline("too-large", "1 message for it was dropped", *asked)
            assert "Maximum Packet Size" in told["remedy"]
    with node.client("ann", client_id="q6") as app:
        app.subscribe("q/6", 1)
        boss.publish("q/6", "x" * 100)
        assert app.receive().topic == "q/6"


def test_a_client_reads_too_slowly(node, boss):
    with slow_reader(node.node, "bob", "slow"):
        for _ in range(30):
            for _ in range(100):
                boss.client.publish("big", b"x" * 10_000, qos=0)
            boss.publish("fence", "x")
        told = node.headline("slow-reader", "(output_full)", "slow", "big")
        assert "subscribe with QoS 1" in told["remedy"]
        told = node.headline("slow-reader", "dropped for slow, which is subscribed to big", "console", "big")


def test_no_member_of_a_share_group_is_there(node, boss):
    with node.client("ann", client_id="q7", **KEPT) as app:
        app.subscribe("$share/crew/q/7", 1)
    until(lambda: node.why("q7")["state"] == "away", "it is gone")
    boss.publish("q/7", "x", qos=0)
    told = node.headline("subscriber-absent", "1 message for its share group $share/crew/q/7 was dropped", "q7")
    assert "no_member" in told["sentence"], told
    with node.client("ann", client_id="q7", **KEPT) as app:
        boss.publish("q/7", "y", qos=0)
        assert app.receive_payload() == "y"
        node.over("q7")


def test_another_member_of_the_share_group_gets_the_message(node, boss):
    """That is not a fault, and it is told."""
    with node.client("ann", client_id="q9") as one, node.client("bob", client_id="q10") as other:
        for member in (one, other):
            member.subscribe("$share/crew/q/9", 1)
        boss.publish("q/9", "x")
        node.over("q9", "q/9")
        answer = node.why("q9", "q/9")
        assert "each message goes to one of the 2 members of that share group" in answer["sentence"], answer
        assert not answer["wrong"], answer


def test_a_client_does_not_acknowledge(node, boss):
    options = {"properties": properties("CONNECT", ReceiveMaximum=2)}
    with node.client("ann", client_id="q11", **options).manual_acknowledgements() as app:
        app.subscribe("q/11", 1)
        for _ in range(4):
            boss.publish("q/11", "x")
        told = node.headline("slow-reader", "2 wait behind them", "q11")
        assert "it has not acknowledged the 2 messages that were sent to it" in told["sentence"], told
        assert "PUBACK" in told["remedy"], told
        for _ in range(4):
            message = app.receive()
            app.client.ack(message.mid, message.qos)
        node.over("q11")


def test_who_publishes_is_told_that_the_queue_of_a_share_group_is_full(node, boss):
    with node.client("ann", client_id="q12", **KEPT) as app:
        app.subscribe("$share/crew/q/12", 1)
    until(lambda: node.why("q12")["state"] == "away", "it is gone")
    for _ in range(20):
        assert published(boss, "q/12")
    told = node.headline("queue-full", "for the share group $share/crew/q/12, which is subscribed to q/12, were dropped",
                         "console", "q/12")
    assert "limits.queued_messages = 5" in told["sentence"] and "limits.queued_messages" in told["remedy"], told


def test_a_client_refuses_messages(node, boss):
    """Its PUBACK has a reason code of 0x80 or above."""
    connect = string(b"MQTT") + b"\x05\xc2\0\0\0" + string(b"q13") + string(b"ann") + string(b"secret")
    with Wire(node.node) as wire:
        wire.socket.sendall(packet(0x10, connect) + packet(0x82, b"\0\1\0" + string(b"q/13") + b"\1"))
        assert wire.receive()[0] == CONNACK and wire.receive()[0] == SUBACK
        boss.publish("q/13", "x")
        assert wire.receive()[0] == PUBLISH_QOS_1
        # It is the first one.
        wire.socket.sendall(packet(PUBACK, b"\0\1\x83"))
        for asked in (["q13"], ["q13", "q/13"]):
            told = node.headline("other", "(refused_by_receiver)", *asked)
            assert "a reason code of 0x80 or above" in told["remedy"], told


def test_an_operator_ends_the_connection_of_a_client(node):
    with node.client("ann", client_id="q8") as app:
        node.run("client", "kick", "q8")
        app.wait_for_end()
    node.headline("away", "ended by an operator", "q8")
    with node.client("ann", client_id="q8"):
        node.over("q8")


def accepted(app, topic, payload="x", **options):
    """A message is acknowledged, and does not end the connection."""
    sent = app.client.publish(topic, payload, 1, **options)

    def is_acknowledged():
        try:
            return sent.is_published()
        except RuntimeError:  # The connection ended before an acknowledgement came.
            return False

    until(lambda: app._ended.is_set() or is_acknowledged(), "an answer comes")
    return not app._ended.is_set()


def large(node):
    with node.client("ann") as app:
        return accepted(app, "t", "x" * 5_000)


def many_subscriptions(node):
    with node.client("ann") as app:
        return [app.subscribe(f"t/{number}", 1)[0] for number in range(3)] == [1, 1, 1]


def deep(node):
    with node.client("ann") as app:
        return accepted(app, "a/b/c/d")


def retained(node):
    with node.client("ann") as app:
        return accepted(app, "t", retain=True)


def two_retained(node):
    with node.client("ann") as app:
        return all([app.acknowledged(f"t/{number}", retain=True) for number in range(2)])


def subscribes(topic_filter):
    def do(node):
        with node.client("ann", version=V311) as app:
            return app.subscribe(topic_filter, 1)[0] < 0x80
    return do


def fast(node):
    with node.client("ann") as app:
        app.subscribe("t", 0)
        for _ in range(50):
            app.client.publish("t", "x", 0)
        app.publish("t", "last")
        count = 1
        while app.receive_payload() != "last":
            count += 1
        return count == 51


def large_will(node):
    return not reason_of(node.client("ann").will("t", "x" * 1_000).start()).is_failure


def second_connection(node):
    with node.client("bob"):
        return not reason_of(node.client("ann").start()).is_failure


def long_name(node):
    return not reason_of(node.client("ann", client_id="a" * 40).start()).is_failure


# What is set, what is done, the cause, words of the headline, and what is set to end it.
LIMITS = {
    "packet": (["limits.packet_bytes=1000"], large, "too-large", "limits.packet_bytes"),
    "subscriptions": (["limits.subscriptions_per_client=2"], many_subscriptions, "limit-reached",
                      "limits.subscriptions_per_client"),
    "levels": (["limits.topic_levels=3"], deep, "limit-reached", "limits.topic_levels"),
    "retain": (["mqtt.retain_available=false"], retained, "limit-reached", "mqtt.retain_available"),
    "retained": (["limits.retained_messages=1"], two_retained, "limit-reached", "limits.retained_messages"),
    "wildcard": (["mqtt.wildcard_subscriptions=false"], subscribes("t/#"), "limit-reached", "mqtt.wildcard_subscriptions"),
    "shared": (["mqtt.shared_subscriptions=false"], subscribes("$share/g/t"), "limit-reached", "mqtt.shared_subscriptions"),
    "rate": (["limits.publish_rate=5", "mqtt.rate_exceeded=drop-qos0"], fast, "too-fast", "limits.publish_rate"),
    "will": (["limits.will_bytes=100"], large_will, "limit-reached", "limits.will_bytes"),
    "connections": (["limits.connections=1"], second_connection, "limit-reached", "limits.connections"),
    "name": (["limits.client_id_bytes=23"], long_name, "limit-reached", "limits.client_id_bytes"),
}


@pytest.mark.parametrize("limit", LIMITS)
def test_a_limit_is_reached_and_raised(limit):
    settings, do, cause, option = LIMITS[limit]
    with Faults(settings=settings) as node:
        node.user("ann", "--role", "administrator")
        node.user("bob", "--role", "administrator")
        assert not do(node)
        told = node.headline(cause, option, "ann")
        assert option in told["remedy"], told
        node.restart()
        assert do(node)
        node.over("ann")
