"""The NATS source: what is in a stream of JetStream is published, and acknowledged when the node has it."""

import base64
import json
import urllib.request

import pytest

import martlet_process
import nats_process
from paho_client import Client, properties
from server_process import free_port
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
    ttl = {"allow_msg_ttl": True} if nats.source == nats_process.NEWER else {}
    nats_process.Client(nats).add_stream("CMD", "cmd.>", **ttl)
    # Of several addresses the first that answers is used.
    url = f"nats://127.0.0.1:{free_port()},{nats.url}"
    node = start_node(**configured(tmp_path, url, topic="devices/{2}/{3..}"))
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
    node = start_node(**configured(tmp_path, url, topic="devices/{2}/{3..}"))
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
        if nats.source == nats_process.DEBIAN:
            # The newer server does not take it.
            publish(nats, "cmd.valve", b"no", Nats_TTL="perhaps")
        else:
            publish(nats, "cmd.+", b"no")
        got = client.receive()
        assert (got.topic, got.payload) == ("pump/x", b"cmd.pump")
    until_acknowledged(nats, node)
    until(lambda: state(node)["refused"] == 5, lambda: state(node))
    node.wait_for_log("refused permanently")
    done = martlet_process.run("why", "nats-source/cmd", "--data-dir", str(node.data_dir))
    assert done.returncode == 3 and "it has refused 5 messages since the start" in done.stdout, done


def test_a_message_is_acknowledged_only_when_a_session_has_it(start_node, tmp_path, nats):
    """The node is killed again and again: each message of the stream reaches the session."""
    nats_process.Client(nats).add_stream("CMD", "cmd.>")
    options = configured(tmp_path, nats.url, ack_wait_secs=2, in_hand=20)
    node = start_node(**options)
    with Client(node, "listener", clean=False, properties=properties("CONNECT", SessionExpiryInterval=3600)) as client:
        client.subscribe("cmd/#", qos=1)
    count = 600
    asks = nats_process.Client(nats)
    for at in range(count):
        asks.send(b"PUB cmd.x %d\r\n%s\r\n" % (len(str(at)), str(at).encode()))
    floor = lambda: consumer(nats).get("ack_floor", {}).get("stream_seq", 0)
    for share in (100, 300):
        # On a slow machine all may be acknowledged before this node is started.
        until(lambda: floor() >= share and (state(node)["delivered"] >= 1 or floor() == count), lambda: state(node))
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
    # What is not would come again.
    until_acknowledged(nats, node)
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


PASSWORD = "correct horse"


def add_user(node, name, *rules):
    call(node, "POST", "/api/v1/roles", {"name": f"{name}-role", "rules": list(rules)}, KEY)
    call(node, "POST", "/api/v1/users", {"name": name, "password": PASSWORD, "role": f"{name}-role"}, KEY)


def test_a_source_publishes_by_the_rules_of_a_user(start_node, tmp_path, nats):
    nats_process.Client(nats).add_stream("CMD", "cmd.>")
    node = start_node(**configured(tmp_path, nats.url, publish_as="desk"))
    # Until there is such a user, nothing is taken.
    until(lambda: any('cannot publish as "desk"' in one for one in warnings(node)), lambda: warnings(node))
    publish(nats, "cmd.pump.set", b"1")
    publish(nats, "cmd.valve.set", b"2")
    publish(nats, "cmd.desk.x", b"3")
    assert nats_process.Client(nats).count("CMD") == 3 and state(node)["delivered"] == 0
    add_user(node, "all", "topic readwrite #")
    with Client(node, "listener").credentials("all", PASSWORD) as client:
        client.subscribe("cmd/#", qos=1)
        add_user(node, "desk", "topic write cmd/pump/#", "pattern write cmd/%u/x")
        assert [client.receive().payload, client.receive().payload] == [b"1", b"3"]
        until(lambda: (state(node)["delivered"], state(node)["refused"]) == (2, 1), lambda: state(node))
        until_acknowledged(nats, node)
        told = 'the rules of "desk" do not permit it to publish to "cmd/valve/set"'
        assert told in state(node)["last_error"]["error"] and told in node.log(), state(node)
        # Rules that change apply to the next message.
        call(node, "PUT", "/api/v1/roles/desk-role", {"rules": ["topic write cmd/valve/#"]}, KEY)
        until(lambda: publish(nats, "cmd.valve.set", b"4") and state(node)["delivered"] > 2, lambda: state(node))
        assert client.receive().payload == b"4"
        # It may have been published more than once.
        until_acknowledged(nats, node)
        # A user who may not log in publishes nothing, and nothing is lost meanwhile.
        before = state(node)["delivered"]
        call(node, "PATCH", "/api/v1/users/desk", {"enabled": False}, KEY)
        until(lambda: any('cannot publish as "desk"' in one for one in warnings(node)), lambda: warnings(node))
        publish(nats, "cmd.valve.set", b"5")
        assert state(node)["delivered"] == before
        call(node, "PATCH", "/api/v1/users/desk", {"enabled": True}, KEY)
        until(lambda: state(node)["delivered"] == before + 1, lambda: (state(node), warnings(node)))
        until_acknowledged(nats, node)


REQUESTS = "/api/v1/integrations/nats-requests/ask"


def asking(tmp_path, url, **keys):
    options = configured(tmp_path, url)
    keys = {"name": "ask", "url": url, **keys}
    lines = ["[integrations]", 'allow_private = ["127.0.0.0/8"]', *table("sources.nats-requests", keys)]
    (tmp_path / "martlet.toml").write_text("\n".join(lines) + "\n")
    return options


def test_a_request_reaches_a_client_and_its_response_is_the_reply(start_node, tmp_path, nats):
    node = start_node(**asking(tmp_path, nats.url, timeout_secs=5))
    until(lambda: call(node, "GET", REQUESTS, key=KEY)["state"] == "running", node.log)
    asks = nats_process.Client(nats)

    def ask(subject, payload=b"x"):
        asks.send(b"PUB %s %s %d\r\n%s\r\n" % (subject.encode(), asks.inbox.encode(), len(payload), payload))
        return asks.message(b"1")[1:]

    # Until it is subscribed the server answers that nobody is there.
    until(lambda: ask("martlet.request.nobody")[0].get("Nats-Service-Error-Code") == "404", node.log)
    with Client(node, "pump-7") as client:
        client.subscribe("d/pump-7/request", qos=1)

        def respond(_client, _data, message):
            answer = properties("PUBLISH", CorrelationData=message.properties.CorrelationData, ContentType="text/x")
            client.client.publish(message.properties.ResponseTopic, b"got " + message.payload, 1, properties=answer)

        client.client.on_message = respond
        head, payload = ask("martlet.request.pump-7", b"speed")
        assert (payload, head["Content-Type"]) == (b"got speed", "text/x")
        client.client.on_message = lambda *_: None
        head, payload = ask("martlet.request.pump-7")
        assert (payload, head["Nats-Service-Error-Code"]) == (b"", "504")
    head, payload = ask("martlet.request.%23")
    assert head["Nats-Service-Error-Code"] == "400", head
    until(lambda: call(node, "GET", REQUESTS, key=KEY)["delivered"] >= 3, node.log)


def test_requests_go_out_by_the_rules_of_a_user(start_node, tmp_path):
    nats = nats_process.Server()
    try:
        node = start_node(**asking(tmp_path, nats.url, publish_as="desk"))
        add_user(node, "desk", "topic write d/pump-7/request")
        until(lambda: call(node, "GET", REQUESTS, key=KEY)["state"] == "running", node.log)
        asks = nats_process.Client(nats)

        def code(subject):
            asks.send(b"PUB %s %s 1\r\nx\r\n" % (subject.encode(), asks.inbox.encode()))
            return asks.message(b"1")[1].get("Nats-Service-Error-Code")

        until(lambda: code("martlet.request.pump-7") == "404", node.log)
        assert code("martlet.request.pump-8") == "403"
    finally:
        nats.close()


def entry(nats, key):
    asks = nats_process.Client(nats)
    # Until the bucket is there and has something, it is not asked for entries.
    if asks.count("KV_retained") == 0:
        asks.close()
        return None
    told = asks.request("$JS.API.STREAM.MSG.GET.KV_retained", {"last_by_subj": f"$KV.retained.{key}"})
    asks.close()
    if "message" not in told:
        return None
    found = told["message"]
    text = lambda name: base64.b64decode(found.get(name, ""))
    return nats_process.parsed(text("hdrs")).get("KV-Operation"), text("data")


def test_a_bucket_has_the_retained_messages_and_their_deletions(start_node, tmp_path, nats):
    lines = ["[integrations]", 'allow_private = ["127.0.0.0/8"]', *table("sinks.nats", {
        "name": "mirror", "url": nats.url, "filters": ["#"], "bucket": "retained"})]
    (tmp_path / "martlet.toml").write_text("\n".join(lines) + "\n")
    options = {"arguments": ("-c", str(tmp_path / "martlet.toml")), "data_dir": tmp_path / "data", "http": True,
               "variables": KEYS}
    node = start_node(**options)
    with Client(node, "pump-1") as client:
        client.publish("plant/1", "not retained")
        client.publish("plant/1", "first", retain=True)
        client.publish("plant/a.b/ü", "odd", retain=True, qos=0)
        client.publish("plant/1", "second", retain=True)
        until(lambda: entry(nats, "plant.1") == (None, b"second"), node.log)
        assert entry(nats, "plant.a=2Eb.=C3=BC") == (None, b"odd")
        config = nats_process.Client(nats).stream_info("KV_retained")["config"]
        assert (config["subjects"], config["max_msgs_per_subject"]) == (["$KV.retained.>"], 1)
        # A deletion while the server is away arrives too.
        nats.kill()
        client.publish("plant/1", "", retain=True)
        nats.start()
        call(node, "POST", "/api/v1/integrations/nats/mirror/resume", key=KEY)
        until(lambda: entry(nats, "plant.1") == ("DEL", b""), node.log)
    # By an operator, too.
    assert call(node, "DELETE", "/api/v1/retained?filter=plant/%23", key=KEY) is not None
    until(lambda: entry(nats, "plant.a=2Eb.=C3=BC") == ("DEL", b""), node.log)


def test_a_bucket_gets_the_retained_messages_from_before_the_sink_and_loses_those_that_expire(
        start_node, tmp_path, nats):
    place = tmp_path / "martlet.toml"
    plain = ["[integrations]", 'allow_private = ["127.0.0.0/8"]']
    place.write_text("\n".join(plain) + "\n")
    options = {"arguments": ("-c", str(place)), "data_dir": tmp_path / "data", "http": True, "variables": KEYS}
    node = start_node(**options)
    expiring = lambda secs: properties("PUBLISH", MessageExpiryInterval=secs)
    with Client(node, "pump-1") as client:
        client.publish("plant/1", "before", retain=True)
        client.publish("plant/x.y", "odd", retain=True)
        client.publish("other/1", "not of the sink", retain=True)
        client.publish("plant/2", "expires", retain=True, properties=expiring(5))
    node.close()
    mirror = {"name": "mirror", "url": nats.url, "filters": ["plant/#"], "bucket": "retained"}
    place.write_text("\n".join(plain + table("sinks.nats", mirror)) + "\n")
    node = start_node(**options)
    until(lambda: entry(nats, "plant.1") == (None, b"before"), node.log)
    until(lambda: entry(nats, "plant.x=2Ey") == (None, b"odd"), node.log)
    assert entry(nats, "other.1") is None
    with Client(node, "pump-1") as client:
        client.publish("plant/3", "expires too", retain=True, properties=expiring(5))
        until(lambda: entry(nats, "plant.3") == (None, b"expires too"), node.log)
        # What is published again meanwhile stays.
        client.publish("plant/4", "first", retain=True, properties=expiring(2))
        client.publish("plant/4", "second", retain=True)
    for key in ("plant.2", "plant.3"):
        until(lambda: entry(nats, key) == ("DEL", b""), node.log)
    assert entry(nats, "plant.1") == (None, b"before")
    assert entry(nats, "plant.4") == (None, b"second")
    # A restart changes nothing that is there.
    last = lambda: nats_process.Client(nats).stream_info("KV_retained")["state"]["last_seq"]
    before = last()
    node.close()
    node = start_node(**options)
    with Client(node, "pump-1") as client:
        client.publish("plant/5", "after", retain=True)
    until(lambda: entry(nats, "plant.5") == (None, b"after"), node.log)
    assert last() == before + 1


def test_a_source_is_in_metrics_and_why(start_node, tmp_path, nats):
    nats_process.Client(nats).add_stream("CMD", "cmd.>")
    node = start_node(**configured(tmp_path, nats.url))
    publish(nats, "cmd.x", b"1")
    until(lambda: state(node)["delivered"] == 1, lambda: state(node))
    with urllib.request.urlopen(f"{node.http_url}/metrics", timeout=60) as page:
        metrics = page.read().decode()
    assert 'martlet_integration_delivered_total{kind="nats-source",name="cmd"} 1' in metrics
    nats.kill()
    why = lambda: node.why("nats-source/cmd")["sentence"]
    until(lambda: "lost" in why() or "cannot be reached" in why(), why)
