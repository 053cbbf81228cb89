"""Eclipse Paho's Python client, as most programs in Python use it."""

import pytest

from paho_client import V5, V311, Client, properties

BOTH = pytest.mark.parametrize("version", [V311, V5], ids=["v3.1.1", "v5"])
TRANSPORTS = pytest.mark.parametrize("transport", ["tcp", "websockets"])
NEVER = 0xFFFFFFFF


def persistent(node, client_id, version, **options):
    """A client whose session outlives its connection."""
    if version == V5:
        options["properties"] = properties("CONNECT", SessionExpiryInterval=600)
    return Client(node, client_id, version, clean=False, **options)


@BOTH
@TRANSPORTS
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_message_arrives_with_its_qos(node, name, version, transport, qos):
    with Client(node, name, version, transport) as client:
        assert client.subscribe(f"{name}/#", qos) == [qos]
        client.publish(f"{name}/a", "hello", qos)
        message = client.receive()
        assert (message.topic, message.payload) == (f"{name}/a", b"hello")
        assert (message.qos, message.retain, message.dup) == (qos, False, False)


@BOTH
@TRANSPORTS
def test_a_payload_of_any_size_and_bytes_arrives(node, name, version, transport):
    with Client(node, name, version, transport) as client:
        client.subscribe(name, 1)
        for size in (0, 1, 125, 126, 127, 128, 16_383, 16_384, 65_535, 65_536, 900_000):
            payload = bytes(i * 7 % 256 for i in range(min(size, 1024))) * (size // 1024 + 1)
            client.publish(name, payload[:size])
            assert client.receive().payload == payload[:size]


@BOTH
def test_many_messages_arrive_once_and_in_order(node, name, version):
    count = 500
    with Client(node, name, version) as client:
        client.subscribe(name, 2)
        for i in range(count - 1):
            client.client.publish(name, str(i), 2)
        client.publish(name, str(count - 1), 2)
        assert [client.receive_payload() for _ in range(count)] == [str(i) for i in range(count)]
        client.expect_no_message()


@BOTH
def test_a_retained_message_is_kept_replaced_and_removed(node, name, version):
    with Client(node, f"{name}-p", version) as publisher:
        publisher.publish(name, "old", retain=True)
        publisher.publish(name, "new", retain=True)
        with Client(node, f"{name}-s", version) as subscriber:
            subscriber.subscribe(name, 1)
            message = subscriber.receive()
            assert (message.payload, message.retain) == (b"new", True)
            publisher.publish(name, "live", retain=True)
            message = subscriber.receive()
            assert (message.payload, message.retain) == (b"live", False)
        publisher.publish(name, "", retain=True)
    with Client(node, f"{name}-s", version) as subscriber:
        subscriber.subscribe(name, 1)
        subscriber.expect_no_message()


@BOTH
def test_the_will_is_sent_when_the_connection_is_lost(node, name, version):
    with Client(node, f"{name}-s", version) as subscriber:
        subscriber.subscribe(name, 1)
        lost = Client(node, f"{name}-w", version).will(name, "gone", qos=1).start()
        lost.drop()
        message = subscriber.receive()
        assert (message.payload, message.qos, message.retain) == (b"gone", 1, False)


@BOTH
def test_the_will_is_not_sent_after_disconnect(node, name, version):
    with Client(node, f"{name}-s", version) as subscriber:
        subscriber.subscribe(name, 1)
        with Client(node, f"{name}-w", version).will(name, "gone", qos=1):
            pass
        subscriber.expect_no_message()


@BOTH
def test_a_retained_will_is_there_for_later_subscribers(node, name, version):
    Client(node, f"{name}-w", version).will(name, "gone", qos=1, retain=True).start().drop()
    with Client(node, f"{name}-s", version) as subscriber:
        subscriber.subscribe(name, 1)
        assert subscriber.receive_payload() == "gone"
        subscriber.publish(name, "", retain=True)


@BOTH
@pytest.mark.parametrize("qos", [1, 2])
def test_a_session_resumes_with_what_came_meanwhile(node, name, version, qos):
    with persistent(node, f"{name}-s", version) as subscriber:
        assert not subscriber.session_present
        subscriber.subscribe(f"{name}/+", qos)
    with Client(node, f"{name}-p", version) as publisher:
        for i in range(20):
            publisher.publish(f"{name}/{i}", str(i), qos)
    with persistent(node, f"{name}-s", version) as subscriber:
        assert subscriber.session_present
        assert [subscriber.receive_payload() for _ in range(20)] == [str(i) for i in range(20)]
    with Client(node, f"{name}-s", version) as subscriber:
        assert not subscriber.session_present
        subscriber.expect_no_message()


@BOTH
def test_what_was_not_acknowledged_is_sent_again(node, name, version):
    first = persistent(node, f"{name}-s", version).manual_acknowledgements().start()
    first.subscribe(name, 1)
    with Client(node, f"{name}-p", version) as publisher:
        publisher.publish(name, "once more", 1)
    assert not first.receive().dup
    first.drop()
    with persistent(node, f"{name}-s", version) as again:
        message = again.receive()
        assert (message.payload, message.dup) == (b"once more", True)


@BOTH
def test_takeover_ends_the_older_connection(node, name, version):
    older = Client(node, name, version).start()
    with Client(node, name, version) as newer:
        reason = older.wait_for_end()
        older.client.loop_stop()
        if version == V5:
            assert reason.value == 0x8E
        newer.expect_no_message()


@BOTH
def test_unsubscribing_ends_the_messages(node, name, version):
    with Client(node, name, version) as client:
        client.subscribe(name, 1)
        client.publish(name, "before")
        assert client.receive_payload() == "before"
        client.unsubscribe(name)
        client.publish(name, "after")
        client.expect_no_message()


@BOTH
def test_wildcards_match_levels_and_leave_dollar_topics_out(node, name, version):
    with Client(node, name, version) as client:
        client.subscribe(f"{name}/+/c", 1)
        client.subscribe("+/b/d", 1)
        client.subscribe("#", 0)
        client.unsubscribe("#")
        client.publish(f"{name}/b/c", "plus")
        client.publish(f"{name}/b/x/c", "none")
        client.publish(f"{name}/b/d", "first")
        assert [client.receive_payload() for _ in range(2)] == ["plus", "first"]


def test_statistics_are_published(node, name):
    with Client(node, name) as client:
        client.subscribe("$SYS/#", 0)
        topics = {client.receive().topic for _ in range(5)}
        assert all(topic.startswith("$SYS/broker/") for topic in topics)


def test_all_publish_properties_arrive(node, name):
    sent = properties(
        "PUBLISH",
        PayloadFormatIndicator=1,
        MessageExpiryInterval=300,
        ContentType="text/plain",
        ResponseTopic=f"{name}/answer",
        CorrelationData=b"\x00\x01\xff",
        UserProperty=[("b", "2"), ("a", "1"), ("b", "3")],
    )
    with Client(node, name) as client:
        client.subscribe(name, 1)
        client.publish(name, "hello", properties=sent)
        got = client.receive().properties
        assert got.PayloadFormatIndicator == 1
        assert 280 <= got.MessageExpiryInterval <= 300
        assert got.ContentType == "text/plain"
        assert got.ResponseTopic == f"{name}/answer"
        assert got.CorrelationData == b"\x00\x01\xff"
        assert got.UserProperty == [("b", "2"), ("a", "1"), ("b", "3")]


def test_the_subscription_identifier_comes_with_the_message(node, name):
    with Client(node, name) as client:
        client.subscribe(name, 1, properties("SUBSCRIBE", SubscriptionIdentifier=268_435_455))
        client.publish(name, "hello")
        assert client.receive().properties.SubscriptionIdentifier == [268_435_455]


def test_no_local_and_retain_as_published(node, name):
    with Client(node, f"{name}-a") as a, Client(node, f"{name}-b") as b:
        a.subscribe(name, 1, noLocal=True)
        b.subscribe(name, 1, retainAsPublished=True)
        a.publish(name, "hello", retain=True)
        assert b.receive().retain
        a.expect_no_message()
        a.publish(name, "", retain=True)


def test_retain_handling_decides_about_retained_messages(node, name):
    with Client(node, name) as client:
        client.publish(name, "kept", retain=True)
        client.subscribe(name, 1, retainHandling=2)
        client.expect_no_message()
        client.subscribe(name, 1, retainHandling=1)
        client.expect_no_message()
        client.subscribe(name, 1, retainHandling=0)
        assert client.receive_payload() == "kept"
        client.publish(name, "", retain=True)


def test_a_shared_subscription_gives_each_message_to_one(node, name):
    count = 40
    with Client(node, f"{name}-a") as a, Client(node, f"{name}-b") as b:
        for member in (a, b):
            assert member.subscribe(f"$share/group/{name}", 1) == [1]
        with Client(node, f"{name}-p") as publisher:
            for i in range(count):
                publisher.publish(name, str(i))
        got = {"a": [], "b": []}
        for key, member in (("a", a), ("b", b)):
            fence = f"{name}/{key}"
            member.subscribe(fence, 1)
            member.publish(fence, "end")
            while (message := member.receive()).topic != fence:
                got[key].append(int(message.payload))
        assert sorted(got["a"] + got["b"]) == list(range(count))
        assert got["a"] and got["b"]


def test_the_server_assigns_an_identifier_and_tells_its_limits(node):
    with Client(node, "") as client:
        told = client.connack_properties
        assert client.connack.value == 0
        assert told.AssignedClientIdentifier
        assert told.ReceiveMaximum == 1024
        assert told.TopicAliasMaximum == 32
        assert told.MaximumPacketSize == 1024 * 1024


def test_a_topic_alias_stands_for_its_topic(node, name):
    with Client(node, name) as client:
        client.subscribe(name, 1)
        alias = properties("PUBLISH", TopicAlias=1)
        client.publish(name, "with topic", properties=alias)
        client.publish("", "with alias", properties=alias)
        assert [client.receive_payload() for _ in range(2)] == ["with topic", "with alias"]


def test_the_broker_uses_topic_aliases_when_it_may(node, name):
    options = {"properties": properties("CONNECT", TopicAliasMaximum=5)}
    with Client(node, name, **options) as client:
        client.subscribe(f"{name}/#", 1)
        for i in range(20):
            client.publish(f"{name}/{i % 10}", str(i))
        got = [client.receive() for _ in range(20)]
        assert [message.payload.decode() for message in got] == [str(i) for i in range(20)]


def test_a_delayed_will_is_cancelled_by_coming_back(node, name):
    delay = properties("WILLMESSAGE", WillDelayInterval=4)
    with Client(node, f"{name}-s") as subscriber:
        subscriber.subscribe(name, 1)
        lost = persistent(node, f"{name}-w", V5)
        lost.will(name, "gone", qos=1, properties=delay).start().drop()
        with persistent(node, f"{name}-w", V5):
            pass
        again = persistent(node, f"{name}-w", V5)
        again.will(name, "gone again", qos=1, properties=delay).start().drop()
        assert subscriber.receive_payload() == "gone again"


def test_a_message_expires_while_its_receiver_is_away(node, name):
    with persistent(node, f"{name}-s", V5) as subscriber:
        subscriber.subscribe(name, 1)
    with Client(node, f"{name}-p") as publisher, Client(node, f"{name}-w") as witness:
        # The Will comes a second after the message has expired: that is waited for.
        witness.subscribe(f"{name}/will", 1)
        publisher.publish(name, "short", properties=properties("PUBLISH", MessageExpiryInterval=1))
        publisher.publish(name, "long", properties=properties("PUBLISH", MessageExpiryInterval=60))
        timer = persistent(node, f"{name}-t", V5)
        delay = properties("WILLMESSAGE", WillDelayInterval=2)
        timer.will(f"{name}/will", "now", qos=1, properties=delay).start().drop()
        assert witness.receive_payload() == "now"
    with persistent(node, f"{name}-s", V5) as subscriber:
        message = subscriber.receive()
        assert message.payload == b"long"
        assert message.properties.MessageExpiryInterval < 60
        subscriber.expect_no_message()


def test_a_session_without_expiry_ends_with_its_connection(node, name):
    with Client(node, name, clean=False) as client:
        client.subscribe(name, 1)
    with Client(node, name, clean=False) as client:
        assert not client.session_present


def test_disconnect_may_end_a_long_session(node, name):
    client = persistent(node, name, V5).start()
    client.disconnect(properties=properties("DISCONNECT", SessionExpiryInterval=0))
    with persistent(node, name, V5) as client:
        assert not client.session_present


def test_keep_alive_is_watched_and_pings_answer_it(node, name):
    with Client(node, f"{name}-s") as subscriber:
        subscriber.subscribe(name, 1)
        silent = Client(node, f"{name}-w", keepalive=1).will(name, "silent", qos=1)
        silent.client.loop_start = lambda: None
        silent.connack = 0
        silent._answered_or_ended.set()
        silent.start()
        assert silent.client.loop_read() == 0
        assert subscriber.receive_payload() == "silent"
        silent.client.socket().close()
        # The node waits for half as long again.
        pinging = Client(node, f"{name}-p", keepalive=4).will(name, "not silent", qos=1).start()
        delay = properties("WILLMESSAGE", WillDelayInterval=8)
        timer = persistent(node, f"{name}-t", V5)
        timer.will(name, "eight seconds", qos=1, properties=delay).start().drop()
        assert subscriber.receive_payload() == "eight seconds"
        pinging.disconnect()


def test_a_client_that_sends_too_much_at_once_is_told(start_node, name):
    node = start_node(settings=["limits.packet_bytes=2000"])
    with Client(node, name) as client:
        client.client.publish(name, b"x" * 3000, 1)
        assert client.wait_for_end().value == 0x95


def test_a_v5_client_is_refused_with_a_reason(start_node, name):
    node = start_node(settings=["limits.client_id_bytes=10"])
    client = Client(node, "x" * 11)
    client.start()
    assert client.connack.value == 0x85
    client.client.loop_stop()
