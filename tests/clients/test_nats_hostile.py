"""Messages that nats-server or its client library cannot take: each ends or fails alone, the others are delivered."""

import pytest

import nats_process
import test_nats_sources as sources
from paho_client import Client, properties
from test_http_api import KEY
from test_http_registry import call
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
            sources.until_acknowledged(nats, node)
            publish_bad(asks, "cmd.bad", header)
            sources.publish(nats, "cmd.after", b"2")
            assert client.receive().topic == "devices/after"
        sources.until_acknowledged(nats, node)
        until(lambda: sources.state(node)["refused"] == 1, lambda: sources.state(node))
        until(lambda: "cannot read its headers" in "".join(sources.warnings(node)), lambda: sources.warnings(node))
    finally:
        nats.close()


@pytest.mark.parametrize("header", BAD_HEADERS.values(), ids=BAD_HEADERS)
def test_a_request_with_headers_that_cannot_be_read_costs_no_other_its_reply(start_node, tmp_path, source, header):
    nats = nats_process.Server(source=source)
    try:
        node = start_node(**sources.asking(tmp_path, nats.url, timeout_secs=30))
        told = lambda: call(node, "GET", sources.REQUESTS, key=KEY)
        until(lambda: told()["state"] == "running", node.log)
        asks = nats_process.Client(nats)
        with Client(node, "pump-7") as client:
            client.subscribe("d/pump-7/request", qos=1)

            def ask(payload):
                """Until it is subscribed the server answers that nobody is there."""
                asks.send(b"PUB martlet.request.pump-7 %s 1\r\n%s\r\n" % (asks.inbox.encode(), payload))
                return client.receive()

            def respond(to):
                answer = properties("PUBLISH", CorrelationData=to.properties.CorrelationData)
                client.publish(to.properties.ResponseTopic, b"got " + to.payload, properties=answer)
                return asks.message(b"1")[2]

            # It is subscribed.
            until(lambda: asks.send(b"PUB martlet.request.nobody %s 1\r\nx\r\n" % asks.inbox.encode()) or
                  asks.message(b"1")[1].get("Nats-Service-Error-Code") == "404", node.log)
            request = ask(b"1")
            for bad in range(1, 4):
                publish_bad(asks, "martlet.request.pump-7", header)
                until(lambda: told()["refused"] == bad, lambda: [told(), node.log()])
            assert respond(request) == b"got 1"
            assert respond(ask(b"2")) == b"got 2"
        assert told()["state"] == "running" and told()["failed_attempts"] == 0, told()
        assert "cannot read the headers of a request" in "".join(sources.warnings(node))
    finally:
        nats.close()


def test_an_entry_of_a_bucket_with_headers_that_cannot_be_read_is_passed_over(start_node, tmp_path, source):
    nats = nats_process.Server(source=source)
    try:
        place = tmp_path / "martlet.toml"
        plain = ["[integrations]", 'allow_private = ["127.0.0.0/8"]']
        mirror = {"name": "mirror", "url": nats.url, "filters": ["plant/#"], "bucket": "retained"}
        place.write_text("\n".join(plain + sources.table("sinks.nats", mirror)) + "\n")
        options = {"arguments": ("-c", str(place)), "data_dir": tmp_path / "data", "http": True,
                   "variables": sources.KEYS}
        node = start_node(**options)
        entry = lambda key: sources.entry(nats, key)
        with Client(node, "pump-1") as client:
            for name in ("1", "2"):
                client.publish(f"plant/{name}", "before", retain=True)
                until(lambda: entry(f"plant.{name}") == (None, b"before"), node.log)
        asks = nats_process.Client(nats)
        for at, header in enumerate(BAD_HEADERS.values()):
            publish_bad(asks, f"$KV.retained.plant.bad{at}", header)
            sources.publish(nats, f"$KV.retained.plant.other{at}", b"of another")
        # It is not the node's any more, and is retained there.
        publish_bad(asks, "$KV.retained.plant.2", BAD_HEADERS["no colon"])
        with Client(node, "pump-1") as client:
            client.publish("plant/3", "expires", retain=True,
                           properties=properties("PUBLISH", MessageExpiryInterval=2))
            until(lambda: entry("plant.3") is not None, node.log)
        # The comparison reads all entries, and then deletes this one.
        until(lambda: entry("plant.3") == ("DEL", b""), node.log, timeout=60)
        until(lambda: "cannot read" in node.log(), node.log)
        assert entry("plant.1") == (None, b"before")
        last = lambda key: asks.request("$JS.API.STREAM.MSG.GET.KV_retained", {"last_by_subj": f"$KV.retained.{key}"})
        assert [last(f"plant.bad{at}")["message"]["data"] for at in range(3)] == ["eA=="] * 3
        assert entry("plant.other0") == (None, b"of another")
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
        until(lambda: state(node)["delivered"] == 1, lambda: state(node))
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
