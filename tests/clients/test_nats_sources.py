"""The NATS source: what is in a stream of JetStream is published, and acknowledged when the node has it."""

import json

import pytest

import martlet_process
import nats_process
from paho_client import Client, properties
from test_http_api import KEY, KEYS
from test_http_registry import call
from test_sinks import until

INTEGRATION = "/api/v1/integrations/nats-source/cmd"


@pytest.fixture(params=nats_process.BOTH)
def nats(request):
    server = nats_process.Server(source=request.param)
    yield server
    server.close()


def table(section, keys):
    return [f"[[{section}]]", *(f"{key} = {json.dumps(value)}" for key, value in keys.items())]


def configured(place, url, sinks=(), **keys):
    place.mkdir(exist_ok=True)
    keys = {"name": "cmd", "stream": "CMD", "url": url, **keys}
    lines = ["[integrations]", 'allow_private = ["127.0.0.0/8"]', *table("sources.nats", keys)]
    for sink in sinks:
        lines += table("sinks.nats", {"url": url, **sink})
    (place / "martlet.toml").write_text("\n".join(lines) + "\n")
    return {"arguments": ("-c", str(place / "martlet.toml")), "data_dir": place / "data", "http": True, "variables": KEYS}


def state(node):
    return call(node, "GET", INTEGRATION, key=KEY)


def warnings(node):
    return call(node, "GET", "/api/v1/health")["warnings"]


def publish(nats, subject, payload, **headers):
    """To JetStream, and waits for its acknowledgement."""
    asks = nats_process.Client(nats)
    head = "NATS/1.0\r\n" + "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items()) + "\r\n"
    body = head.encode() + payload
    asks.send(b"HPUB %s %s %d %d\r\n%s\r\n" % (subject.encode(), asks.inbox.encode(), len(head), len(body), body))
    answer = json.loads(asks.message(b"1")[2])
    assert "error" not in answer, answer
    asks.close()
    return answer["seq"]


def consumer(nats, name="martlet-cmd", stream="CMD"):
    answer = nats_process.Client(nats).request(f"$JS.API.CONSUMER.INFO.{stream}.{name}")
    return answer


def until_acknowledged(nats, node, **names):
    def is_so():
        told = consumer(nats, **names)
        return told.get("num_pending") == 0 and told.get("num_ack_pending") == 0
    until(is_so, lambda: f"{consumer(nats, **names)}\n{node.log()}")


def test_a_message_of_the_stream_is_published_and_acknowledged(start_node, tmp_path, nats):
    nats_process.Client(nats).add_stream("CMD", "cmd.>")
    node = start_node(**configured(tmp_path, nats.url, topic="devices/{2}/{3..}"))
    with Client(node, "listener") as client:
        client.subscribe("devices/#", qos=1)
        publish(nats, "cmd.pump-7.set.speed", b"\x00\xff", Content_Type="application/x", Nats_TTL="1h")
        got = client.receive()
        assert (got.topic, got.payload, got.qos) == ("devices/pump-7/set/speed", b"\x00\xff", 1)
        assert got.properties.ContentType == "application/x"
        assert 3590 <= got.properties.MessageExpiryInterval <= 3600
        until_acknowledged(nats, node)
        # What was acknowledged does not come again, and what came meanwhile does.
        node.close()
    publish(nats, "cmd.pump-8.set", b"later")
    node = start_node(**configured(tmp_path, nats.url, topic="devices/{2}/{3..}"))
    until_acknowledged(nats, node)
    seen = state(node)
    assert (seen["delivered"], seen["state"]) == (1, "running"), seen
    node.close()


def test_what_can_never_be_published_is_told_and_ended(start_node, tmp_path, nats):
    nats_process.Client(nats).add_stream("CMD", "cmd.>")
    node = start_node(**configured(tmp_path, nats.url, topic="{2}/x", allow=["pump/#", "valve/#"]))
    with Client(node, "listener") as client:
        client.subscribe("#", qos=1)
        for subject in ["cmd.a%2Fb", "cmd.%23", "cmd.other", "cmd.%24SYS", "cmd.pump"]:
            publish(nats, subject, subject.encode())
        publish(nats, "cmd.valve", b"no", Nats_TTL="perhaps")
        got = client.receive()
        assert (got.topic, got.payload) == ("pump/x", b"cmd.pump")
    until_acknowledged(nats, node)
    until(lambda: state(node)["refused"] == 5, lambda: state(node))
    assert "refused for good" in node.log()


def test_a_message_is_acknowledged_only_when_a_session_has_it(start_node, tmp_path, nats):
    """The node is killed again and again: each message of the stream reaches the session."""
    nats_process.Client(nats).add_stream("CMD", "cmd.>")
    options = configured(tmp_path, nats.url)
    node = start_node(**options)
    with Client(node, "listener", clean=False, properties=properties("CONNECT", SessionExpiryInterval=3600)) as client:
        client.subscribe("cmd/#", qos=1)
    count = 600
    asks = nats_process.Client(nats)
    for at in range(count):
        asks.send(b"PUB cmd.x %d\r\n%s\r\n" % (len(str(at)), str(at).encode()))
    for share in (100, 300):
        until(lambda: state(node)["delivered"] >= 1 and
              consumer(nats)["ack_floor"]["stream_seq"] >= share, lambda: state(node))
        node.process.kill()
        node.process.wait()
        node.close()
        node = start_node(**options)
    until_acknowledged(nats, node)
    with Client(node, "listener", clean=False, properties=properties("CONNECT", SessionExpiryInterval=3600)) as client:
        got = set()
        while len(got) < count:
            got.add(int(client.receive().payload))


def test_pause_and_resume(start_node, tmp_path, nats):
    nats_process.Client(nats).add_stream("CMD", "cmd.>")
    options = configured(tmp_path, nats.url)
    node = start_node(**options)
    until(lambda: state(node)["state"] == "running", lambda: state(node))
    order = lambda word: martlet_process.run("integration", word, "nats-source/cmd", "--data-dir", str(node.data_dir))
    done = order("pause")
    assert done.returncode == 0, done
    publish(nats, "cmd.x", b"1")
    node.close()
    node = start_node(**options)
    until(lambda: state(node)["state"] == "paused", lambda: state(node))
    assert state(node)["delivered"] == 0
    done = order("resume")
    assert done.returncode == 0, done
    until(lambda: state(node)["delivered"] == 1, lambda: state(node))
    done = order("test")
    assert done.returncode == 0, done
    assert "nats-source/cmd" in martlet_process.run("integration", "ls", "--data-dir", str(node.data_dir)).stdout


def test_a_server_that_is_away_and_a_missing_stream_are_told(start_node, tmp_path, nats):
    node = start_node(**configured(tmp_path, nats.url))
    until(lambda: any('the stream "CMD" cannot be read' in one for one in warnings(node)), lambda: warnings(node))
    nats_process.Client(nats).add_stream("CMD", "cmd.>")
    call(node, "POST", f"{INTEGRATION}/resume", key=KEY)
    publish(nats, "cmd.x", b"1")
    until(lambda: state(node)["delivered"] == 1, lambda: (state(node), node.log()))
    nats.kill()
    until(lambda: any("lost" in one or "cannot be reached" in one for one in warnings(node)), lambda: warnings(node))
    nats.start()
    publish(nats, "cmd.x", b"2")
    until(lambda: state(node)["delivered"] == 2, lambda: (state(node), node.log()))
    assert state(node)["repeated"] == 0


def test_what_a_node_has_sent_it_does_not_take_back(start_node, tmp_path, nats):
    """Two nodes with sinks and sources on one stream: each message reaches each node once, and goes round no further."""
    nats_process.Client(nats).add_stream("CMD", "cmd.>")
    sink = {"name": "all", "filters": ["cmd/#"], "subject": "{topic}"}
    nodes = [start_node(**configured(tmp_path / name, nats.url, [sink], durable=name)) for name in "ab"]
    for node, name in zip(nodes, "ab"):
        until(lambda: consumer(nats, name).get("name") == name, node.log)
    listeners = [Client(node, "listener").__enter__() for node in nodes]
    for client in listeners:
        client.subscribe("cmd/#", qos=1)
    with Client(nodes[0], "pump-1") as client:
        client.publish("cmd/pump", "1")
    for client in listeners:
        assert client.receive().payload == b"1"
    asks = nats_process.Client(nats)
    # Of the first node, and of the second that took it.
    until(lambda: asks.count("CMD") == 2, lambda: asks.count("CMD"))
    for node, name in zip(nodes, "ab"):
        until_acknowledged(nats, node, name=name)
    passed = [head["Mqtt-Via"].count(",") + 1 for _, head, _ in asks.all("CMD")]
    assert (passed, asks.count("CMD")) == ([1, 2], 2)
    publish(nats, "cmd.other", b"2")
    for client in listeners:
        assert client.receive().payload == b"2"
        client.__exit__(None, None, None)
