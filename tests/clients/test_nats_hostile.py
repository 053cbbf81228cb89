"""Messages that nats-server or its client library cannot take: each ends or fails alone, the others are delivered."""

import pytest

import nats_process
import test_nats_sources as sources
from paho_client import Client
from test_nats import configured, letters, state
from test_sinks import until

BAD_HEADERS = {"no UTF-8": b"X-Name: Jos\xe9", "blank in a name": b"X Name: a", "no colon": b"foo"}


@pytest.fixture(params=nats_process.BOTH)
def source(request):
    return request.param


def publish_bad(asks, subject, header):
    head = b"NATS/1.0\r\n" + header + b"\r\n\r\n"
    asks.send(b"HPUB %s %d %d\r\n%sx\r\n" % (subject.encode(), len(head), len(head) + 1, head))


@pytest.mark.parametrize("header", BAD_HEADERS.values(), ids=BAD_HEADERS)
def test_a_source_ends_a_message_with_headers_that_cannot_be_read(start_node, tmp_path, source, header):
    nats = nats_process.Server(source=source)
    try:
        asks = nats_process.Client(nats)
        asks.add_stream("CMD", "cmd.>")
        node = start_node(**sources.configured(tmp_path, nats.url, topic="devices/{2}", ack_wait_secs=1))
        with Client(node, "listener") as client:
            client.subscribe("devices/#", qos=1)
            sources.publish(nats, "cmd.before", b"1")
            assert client.receive().topic == "devices/before"
            publish_bad(asks, "cmd.bad", header)
            sources.publish(nats, "cmd.after", b"2")
            assert client.receive().topic == "devices/after"
        sources.until_acknowledged(nats, node)
        assert sources.state(node)["refused"] == 1
        assert "cannot read its headers" in "".join(sources.warnings(node))
    finally:
        nats.close()


def test_a_subject_at_which_the_server_ends_the_connection(start_node, tmp_path, source):
    nats = nats_process.Server("max_control_line: 1024", source=source)
    try:
        asks = nats_process.Client(nats)
        asks.add_stream("RAW", "raw.>")
        node = start_node(**configured(
            tmp_path, nats.url, subject="raw.{topic}", create_stream=False, max_attempts=2))
        with Client(node, "mallory") as mallory, Client(node, "ann") as ann:
            mallory.publish("plant/" + "x" * 1500, "long")
            for number in range(10):
                ann.publish(f"plant/{number}", str(number))
        until(lambda: asks.count("RAW") == 10, lambda: state(node))
        until(lambda: len(letters(node)) == 1, lambda: state(node))
        assert "max_control_line" in letters(node)[0]["reason"]
    finally:
        nats.close()


@pytest.mark.parametrize("jetstream", [True, False])
def test_a_subject_that_is_not_permitted(start_node, tmp_path, source, jetstream):
    nats = nats_process.Server(
        'authorization { users = [ {user: a, password: a}, {user: p, password: p, permissions: '
        '{publish: {allow: [">"], deny: ["raw.mallory"]}, subscribe: {allow: ["_INBOX.>"]}}} ] }', source=source)
    try:
        asks = nats_process.Client(nats, user="a", **{"pass": "a"})
        asks.add_stream("RAW", "raw.>")
        url = nats.url.replace("//", "//p:p@")
        more = {"create_stream": False} if jetstream else {"jetstream": False}
        node = start_node(**configured(tmp_path, url, subject="raw.{client}", max_attempts=2, **more))
        with Client(node, "mallory") as mallory, Client(node, "ann") as ann:
            mallory.publish("plant/1", "denied")
            ann.publish("plant/1", "1")
        until(lambda: asks.count("RAW") == 1, lambda: state(node))
        until(lambda: len(letters(node)) == 1, lambda: state(node))
        assert 'does not permit the user of the sink to publish to "raw.mallory"' in letters(node)[0]["reason"]
        assert state(node)["delivered"] == 1
    finally:
        nats.close()


def test_a_subject_of_which_the_stream_takes_no_more(start_node, tmp_path, source):
    nats = nats_process.Server(source=source)
    try:
        asks = nats_process.Client(nats)
        asks.add_stream("RAW", "raw.>", discard="new", max_msgs_per_subject=1, discard_new_per_subject=True)
        node = start_node(**configured(
            tmp_path, nats.url, subject="raw.{client}", create_stream=False, max_attempts=2))
        with Client(node, "mallory") as mallory, Client(node, "ann") as ann:
            mallory.publish("plant/1", "1")
            mallory.publish("plant/1", "2")
            ann.publish("plant/1", "1")
        until(lambda: asks.count("RAW") == 2, lambda: state(node))
        until(lambda: len(letters(node)) == 1, lambda: state(node))
        assert "maximum messages per subject" in letters(node)[0]["reason"]
    finally:
        nats.close()
