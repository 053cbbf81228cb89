"""Bridges to Debian's Mosquitto and to another node, over kills of either side."""

import collections
import json
import pathlib
import re
import socket
import threading
import urllib.request

import pytest

import martlet_process
from mosquitto_process import Mosquitto
from paho_client import V5, V311, Client, properties
from server_process import free_port
from test_http_api import KEY, KEYS
from test_http_registry import call
from test_sinks import until
from test_tls import Authority

VERSIONS = {"5.0": V5, "3.1.1": V311}


@pytest.fixture
def start_mosquitto():
    started = []

    def start(*arguments, **options):
        started.append(Mosquitto(*arguments, **options))
        return started[-1]

    yield start
    for one in started:
        one.close()


@pytest.fixture
def mosquitto(start_mosquitto):
    return start_mosquitto()


def bridge_text(port, topics, name="up", **keys):
    keys = {"name": name, "url": f"mqtt://127.0.0.1:{port}", "client_id": f"bridge-{name}", **keys}
    lines = [f"{key} = {json.dumps(value)}" for key, value in keys.items()]
    return "\n".join(["[[bridges]]", *lines, f"topics = {topics}"]) + "\n"


def configured(tmp_path, *bridges, allowed='["127.0.0.0/8"]', **options):
    config = tmp_path / "martlet.toml"
    config.write_text("\n".join(["[integrations]", f"allow_private = {allowed}", *bridges]))
    return {"arguments": ("-c", str(config)), "data_dir": tmp_path / "data", "http": True,
            "variables": KEYS, **options}


def state(node, name="up"):
    return call(node, "GET", f"/api/v1/integrations/bridge/{name}", key=KEY)


def warnings(node):
    return call(node, "GET", "/api/v1/health")["warnings"]


def until_connected(node, count=1):
    until(lambda: node.log().count("the bridge is connected") >= count, node.log)


def received(mosquitto, begin):
    """What Mosquitto has received, in its order: topic, QoS, RETAIN. The log outlives a kill."""
    found = re.findall(r"Received PUBLISH from (\S+) \(d\d, q(\d), r(\d), m\d+, '([^']*)'", mosquitto.log())
    return [(topic, int(qos), retain == "1") for _, qos, retain, topic in found if topic.startswith(begin)]


@pytest.mark.parametrize("protocol", ["5.0", "3.1.1"])
def test_messages_go_out_and_come_in_with_their_prefixes(start_node, tmp_path, mosquitto, protocol):
    topics = ('[{ filter = "#", direction = "out", qos = 2, local_prefix = "plant/", remote_prefix = "site/1/" },'
              ' "cmd/# in 1 local/ remote/"]')
    node = start_node(**configured(tmp_path, bridge_text(mosquitto.port, topics, protocol=protocol)))
    until_connected(node)
    with Client(mosquitto, "there", port=mosquitto.port) as there, Client(node, "here") as here:
        there.subscribe("site/#", qos=2)
        here.subscribe("#", qos=2)
        for qos in range(3):
            here.publish(f"plant/a/{qos}", b"\x00" + bytes([qos]), qos=qos)
            there.publish(f"remote/cmd/{qos}", f"c{qos}", qos=qos)
        out = [there.receive() for _ in range(3)]
        assert [(one.topic, one.payload, one.qos) for one in out] == [
            (f"site/1/a/{qos}", b"\x00" + bytes([qos]), qos) for qos in range(3)]
        got = [here.receive() for _ in range(6)]
        came = [(one.topic, one.payload, one.qos) for one in got if one.topic.startswith("local/")]
        assert came == [(f"local/cmd/{qos}", f"c{qos}".encode(), min(qos, 1)) for qos in range(3)]
    until(lambda: state(node)["lag"] == 0, lambda: state(node))
    until(lambda: (state(node)["incoming"], state(node)["incoming_dropped"]) == (3, 0), lambda: state(node))
    shown = martlet_process.run("integration", "show", "bridge/up", "--data-dir", str(node.data_dir)).stdout
    assert "3 from there, 0 dropped" in shown
    with urllib.request.urlopen(f"{node.http_url}/metrics", timeout=60) as page:
        assert 'martlet_integration_incoming_total{kind="bridge",name="up"} 3' in page.read().decode()


def test_properties_of_mqtt_5_pass(start_node, tmp_path, mosquitto):
    node = start_node(**configured(tmp_path, bridge_text(mosquitto.port, '["a/# both 1"]')))
    until_connected(node)
    told = properties("PUBLISH", ContentType="text/plain", ResponseTopic="r", CorrelationData=b"7",
                      UserProperty=("k", "v"), MessageExpiryInterval=1000)
    with Client(mosquitto, "there", port=mosquitto.port) as there, Client(node, "here") as here:
        for one, other, topic in ((here, there, "a/out"), (there, here, "a/in")):
            other.subscribe(topic, qos=1)
            one.publish(topic, "x", properties=told)
            got = other.receive().properties
            assert (got.ContentType, got.ResponseTopic, got.CorrelationData) == ("text/plain", "r", b"7")
            assert ("k", "v") in got.UserProperty
            assert 990 <= got.MessageExpiryInterval <= 1000


@pytest.mark.parametrize("protocol", ["5.0", "3.1.1"])
def test_both_ways_on_one_filter_bring_each_message_once(start_node, tmp_path, mosquitto, protocol):
    node = start_node(**configured(tmp_path, bridge_text(mosquitto.port, '["# both 1"]', protocol=protocol)))
    until_connected(node)
    with Client(mosquitto, "there", port=mosquitto.port) as there, Client(node, "here") as here:
        there.subscribe("a/#", qos=1)
        here.subscribe("a/#", qos=1)
        here.publish("a/1", "from here")
        there.publish("a/2", "from there")
        for client in (here, there):
            assert sorted(client.receive().payload for _ in range(2)) == [b"from here", b"from there"]
        # What follows would come behind a copy.
        here.publish("a/3", "end")
        there.publish("a/4", "end")
        for client in (here, there):
            assert sorted(client.receive().topic for _ in range(2)) == ["a/3", "a/4"]


@pytest.mark.parametrize("protocol", ["5.0", "3.1.1"])
def test_retained_messages_and_their_deletions_arrive(start_node, tmp_path, mosquitto, protocol):
    keys = {"protocol": protocol, "reconnect_max_secs": 1}
    node = start_node(**configured(tmp_path, bridge_text(mosquitto.port, '["a/# both 1"]', **keys)))
    until_connected(node)
    with Client(node, "here") as here:
        here.publish("a/kept", "1", retain=True)
        here.publish("a/gone", "2", retain=True)
        here.publish("a/gone0", "2", retain=True)
        until(lambda: len(received(mosquitto, "a/")) >= 3, mosquitto.log)
        with Client(mosquitto, "there", port=mosquitto.port) as there:
            there.publish("a/theirs", "3", retain=True)
        mosquitto.stop()
        node.wait_for_log("the bridge is not connected")
        here.publish("a/gone", "", retain=True)
        here.publish("a/gone0", "", qos=0, retain=True)
        here.publish("a/late", "4", retain=True)
    mosquitto.start()
    until_connected(node, 2)
    until(lambda: state(node)["lag"] == 0, lambda: state(node))
    for place, port in ((node, None), (mosquitto, mosquitto.port)):
        with Client(place, "looks", port=port) as looks:
            looks.subscribe("a/#", qos=1)
            found = {}
            while len(found) < 3:
                one = looks.receive()
                assert one.retain
                found[one.topic] = one.payload
            assert found == {"a/kept": b"1", "a/late": b"4", "a/theirs": b"3"}


@pytest.mark.parametrize("protocol,qos", [("5.0", 1), ("5.0", 2), ("3.1.1", 1)])
def test_nothing_is_lost_and_the_order_is_kept_over_kills_of_mosquitto(
        start_node, tmp_path, mosquitto, protocol, qos):
    keys = {"protocol": protocol, "reconnect_max_secs": 2}
    node = start_node(**configured(tmp_path, bridge_text(mosquitto.port, f'["plant/# out {qos}"]', **keys)))
    until_connected(node)
    publishers, each = 4, 800
    sent = [0] * publishers

    def publish(number):
        with Client(node, f"pump-{number}") as client:
            for at in range(each):
                client.publish(f"plant/{number}/{at}", "x", qos=qos)
                sent[number] = at + 1

    threads = [threading.Thread(target=publish, args=(number,)) for number in range(publishers)]
    for thread in threads:
        thread.start()
    for share in (4, 2):
        until(lambda: sum(sent) >= publishers * each // share, lambda: sent, 60)
        mosquitto.kill()
        # What is published meanwhile waits.
        before = sum(sent)
        until(lambda: sum(sent) >= min(before + 200, publishers * each), lambda: sent)
        until(lambda: any("cannot be reached" in one for one in warnings(node)), lambda: warnings(node))
        mosquitto.start()
    for thread in threads:
        thread.join()
    all_topics = {f"plant/{number}/{at}" for number in range(publishers) for at in range(each)}
    missing = lambda: all_topics - {topic for topic, _, _ in received(mosquitto, "plant/")}
    until(lambda: not missing(), lambda: f"{len(missing())} missing\n{node.log()}", 60)
    check_order(received(mosquitto, "plant/"), publishers, each)
    until(lambda: state(node)["lag"] == 0, lambda: state(node))
    assert state(node)["dead_letters"] == 0


@pytest.mark.parametrize("protocol", ["5.0", "3.1.1"])
def test_what_was_retained_before_the_bridge_arrives(start_node, tmp_path, mosquitto, protocol):
    with Client(mosquitto, "there", port=mosquitto.port) as there:
        there.publish("a/theirs", "t", retain=True)
    port = free_port()
    with start_node(listen=(f"mqtt://127.0.0.1:{port}",), data_dir=tmp_path / "data") as node:
        with Client(node, "here") as here:
            for at in range(250):
                here.publish(f"a/{at}", str(at), retain=True)
            here.publish("b/other", "x", retain=True)
    node = start_node(**configured(tmp_path, bridge_text(mosquitto.port, '["a/# both 1"]', protocol=protocol)))
    until_connected(node)
    with Client(mosquitto, "there", port=mosquitto.port) as there, Client(node, "here") as here:
        here.publish("a/last", "x", retain=True)
        until(lambda: ("a/last", 1, True) in received(mosquitto, "a/"), mosquitto.log)
        expected = {f"a/{at}" for at in range(250)} | {"a/last", "a/theirs"}
        for client in (there, here):
            client.subscribe("a/#", qos=1)
            found = [client.receive() for _ in range(252)]
            assert {one.topic for one in found if one.retain} == expected
    assert "b/other" not in mosquitto.log() and ("a/theirs", 1, True) not in received(mosquitto, "a/")[1:]


def test_a_hanging_mosquitto_is_told_apart_and_nothing_is_lost(start_node, tmp_path, mosquitto):
    keys = {"keep_alive_secs": 5, "reconnect_max_secs": 1}
    node = start_node(**configured(tmp_path, bridge_text(mosquitto.port, '["plant/# both 1"]', **keys)))
    until_connected(node)
    with Client(node, "here") as here:
        here.publish("plant/0/0", "x")
        until(lambda: received(mosquitto, "plant/"), mosquitto.log)
        mosquitto.hang()
        for at in range(1, 200):
            here.publish(f"plant/0/{at}", "x")
    until(lambda: any("did not answer" in one or "does not acknowledge" in one for one in warnings(node)),
          lambda: warnings(node))
    mosquitto.go_on()
    until(lambda: state(node)["lag"] == 0, lambda: [state(node), node.log()])
    check_order(received(mosquitto, "plant/"), 1, 200)


def test_a_bridge_that_only_brings_says_that_it_is_not_connected(start_node, tmp_path, mosquitto):
    mosquitto.kill()
    node = start_node(**configured(tmp_path, bridge_text(mosquitto.port, '["a/# in 1"]', reconnect_max_secs=1)))
    until(lambda: any("bridge/up" in one and "cannot be reached" in one for one in warnings(node)),
          lambda: [warnings(node), state(node), node.log()])
    mosquitto.start()
    until_connected(node)
    until(lambda: not any("bridge/up" in one for one in warnings(node)), lambda: [warnings(node), state(node)])
    with Client(mosquitto, "there", port=mosquitto.port) as there, Client(node, "here") as here:
        here.subscribe("#", qos=1)
        there.publish("a/1", "x")
        assert here.receive().topic == "a/1"


def check_order(found, publishers, each):
    """The first time that each message came is in the order in which it was published."""
    for number in range(publishers):
        begin = f"plant/{number}/"
        got = [int(topic.removeprefix(begin)) for topic, _, _ in found if topic.startswith(begin)]
        assert list(dict.fromkeys(got)) == list(range(each)), begin


def test_nothing_is_lost_over_kills_of_the_node(start_node, tmp_path, mosquitto):
    """In both directions: what was acknowledged to publishers arrives at the other side."""
    port = free_port()
    bridge = bridge_text(mosquitto.port, '["out/# out 1", "in/# in 1"]', reconnect_max_secs=1)
    options = configured(tmp_path, bridge, listen=(f"mqtt://127.0.0.1:{port}",))
    node = start_node(**options)
    until_connected(node)
    with Client(node, "keeps", clean=False, properties=properties("CONNECT", SessionExpiryInterval=3600)) as keeps:
        keeps.subscribe("in/#", qos=1)
    count = 1_500 if martlet_process.IS_LONG else 300
    acknowledged, stop = [], threading.Event()

    def publish_there():
        with Client(mosquitto, "there", port=mosquitto.port) as there:
            for at in range(count):
                there.publish(f"in/{at}", "x")
        stop.set()

    def publish_here():
        at = 0
        while not stop.is_set() or at < count:
            try:
                with Client(node, "here", port=port) as here:
                    while at < count:
                        here.publish(f"out/{at}", "x")
                        acknowledged.append(at)
                        at += 1
                    return
            except (AssertionError, OSError, RuntimeError, ValueError):
                pass

    threads = [threading.Thread(target=publish_there), threading.Thread(target=publish_here)]
    for thread in threads:
        thread.start()
    for share in (4, 2):
        until(lambda: len(acknowledged) >= count // share, lambda: len(acknowledged), 60)
        node.process.kill()
        node.process.wait()
        node = start_node(**options)
    for thread in threads:
        thread.join()
    out = {f"out/{at}" for at in range(count)}
    missing = lambda: out - {topic for topic, _, _ in received(mosquitto, "out/")}
    until(lambda: not missing(), lambda: f"{len(missing())} missing\n{node.log()}", 60)
    came = collections.OrderedDict()
    with Client(node, "keeps", clean=False, port=port,
                properties=properties("CONNECT", SessionExpiryInterval=3600)) as keeps:
        while len(came) < count:
            came[keeps.receive().topic] = True
    assert list(came) == [f"in/{at}" for at in range(count)]


@pytest.mark.parametrize("protocols", [("5.0", "5.0"), ("3.1.1", "3.1.1"), ("5.0", "3.1.1")], ids="-".join)
def test_two_nodes_with_bridges_to_each_other_make_no_loop(start_node, tmp_path, protocols):
    ports = [free_port(), free_port()]
    nodes = []
    for own in (0, 1):
        place = tmp_path / str(own)
        place.mkdir()
        bridge = bridge_text(ports[1 - own], '["# both 1"]', name=f"to-{1 - own}", reconnect_max_secs=1,
                             protocol=protocols[own])
        nodes.append(start_node(**configured(place, bridge, listen=(f"mqtt://127.0.0.1:{ports[own]}",))))
    for node in nodes:
        until_connected(node)
    for node, protocol in zip(nodes, protocols):
        if protocol == "3.1.1":
            until(lambda: "MQTT 5.0 is spoken" in node.log(), node.log)
            until_connected(node, 2)
    with Client(nodes[0], "c0") as zero, Client(nodes[1], "c1") as one:
        zero.subscribe("a/#", qos=1)
        one.subscribe("a/#", qos=1)
        for at in range(20):
            zero.publish(f"a/{at}", "x")
        until(lambda: state(nodes[0], "to-1")["lag"] == 0 and state(nodes[1], "to-0")["lag"] == 0,
              lambda: [state(nodes[0], "to-1"), state(nodes[1], "to-0"), nodes[0].log(), nodes[1].log()])
        one.publish("a/end", "x")
        got = [topics_until(client, "a/end") for client in (zero, one)]
    # None comes back; each of the two bridges brings it to the other node.
    assert set(collections.Counter(got[0]).values()) == {1}, got[0]
    assert set(collections.Counter(got[1]).values()) <= {1, 2}, got[1]


def topics_until(client, last):
    got = []
    while not got or got[-1] != last:
        got.append(client.receive().topic)
    return got


@pytest.mark.parametrize("protocol", ["5.0", "3.1.1"])
def test_one_bridge_between_two_nodes_brings_each_message_once(start_node, tmp_path, protocol):
    other = start_node()
    bridge = bridge_text(other.port(), '["# both 1"]', protocol=protocol)
    node = start_node(**configured(tmp_path, bridge))
    until_connected(node)
    with Client(node, "here") as here, Client(other, "there") as there:
        here.subscribe("a/#", qos=1)
        there.subscribe("a/#", qos=1)
        here.publish("a/1", "x", retain=True)
        there.publish("a/2", "x", retain=True)
        for client in (here, there):
            assert sorted(client.receive().topic for _ in range(2)) == ["a/1", "a/2"]
        here.publish("a/end", "x")
        for client in (here, there):
            assert topics_until(client, "a/end") == ["a/end"]


def test_a_ring_of_three_with_a_mosquitto_has_no_loop(start_node, tmp_path, start_mosquitto):
    ports = [free_port(), free_port()]
    mosquitto = start_mosquitto(
        f"connection ring\naddress 127.0.0.1:{ports[0]}\nbridge_protocol_version mqttv50\n"
        "remote_clientid ring\ntopic ring/# out 1\nnotifications false\nrestart_timeout 1\n")
    nodes = []
    for own, to in ((1, mosquitto.port), (0, ports[1])):
        place = tmp_path / str(own)
        place.mkdir()
        bridge = bridge_text(to, '["ring/# out 1"]', reconnect_max_secs=1)
        nodes.insert(0, start_node(**configured(place, bridge, listen=(f"mqtt://127.0.0.1:{ports[own]}",))))
    for node in nodes:
        until_connected(node)
    until(lambda: "ring" in [one["client_id"] for one in clients(nodes[0])], mosquitto.log)
    watchers = [Client(place, "watch", port=port) for place, port in (
        (nodes[0], ports[0]), (nodes[1], ports[1]), (mosquitto, mosquitto.port))]
    for watcher in watchers:
        watcher.start()
        watcher.subscribe("ring/#", qos=1)
    # Each begins once. What the ring brings back would come before the last message.
    for at, watcher in enumerate(watchers):
        watcher.publish(f"ring/{at}", "x")
    for at in range(10):
        watchers[0].publish(f"ring/more/{at}", "x")
    # The last message may be faster than what the bridge of Mosquitto still has.
    came = []
    for watcher in watchers:
        topics = []
        while len(set(topics)) < 13:
            topics.append(watcher.receive().topic)
        came.append(topics)
    until(lambda: all(state(node)["lag"] == 0 for node in nodes), lambda: [state(node) for node in nodes])
    watchers[0].publish("ring/end", "x")
    for topics, watcher in zip(came, watchers, strict=True):
        got = collections.Counter(topics + topics_until(watcher, "ring/end"))
        # Once round, and not further.
        assert set(got.values()) <= {1, 2} and len(got) == 14, got
        watcher.disconnect()


def clients(node):
    return call(node, "GET", "/api/v1/clients", key=KEY)["items"]


def test_the_state_is_published_at_both_sides(start_node, tmp_path, mosquitto):
    topic = "$SYS/broker/connection/bridge-up/state"
    with Client(mosquitto, "there", port=mosquitto.port) as there:
        there.subscribe(topic, qos=1)
        node = start_node(**configured(tmp_path, bridge_text(mosquitto.port, '["a/# out 1"]', reconnect_max_secs=1)))
        until_connected(node)
        assert there.receive().payload == b"1"
        with Client(node, "here") as here:
            here.subscribe(topic, qos=1)
            first = here.receive()
            assert first.payload == b"1", first.payload
            node.terminate()
        assert there.receive().payload == b"0"
        node.wait()
        node = start_node(**configured(tmp_path, bridge_text(mosquitto.port, '["a/# out 1"]', reconnect_max_secs=1)))
        # The Will may say 0 once more, if the stopped node closes the connection before its DISCONNECT is read.
        while (state := there.receive().payload) == b"0":
            pass
        assert state == b"1"
        node.process.kill()
        assert there.receive().payload == b"0"


def test_a_private_address_needs_permission(start_node, tmp_path, mosquitto):
    url = {"url": f"mqtt://localhost:{mosquitto.port}"}
    node = start_node(**configured(
        tmp_path, bridge_text(mosquitto.port, '["a/# both 1"]', **url), allowed='["10.0.0.0/8"]'))
    until(lambda: any("allow_private" in one for one in warnings(node)), lambda: warnings(node))
    assert not clients_of(mosquitto)


def clients_of(mosquitto):
    return re.findall(r"New client connected from \S+ as (\S+)", mosquitto.log())


def test_a_lazy_bridge_connects_when_a_message_waits_and_ends_when_none_has(start_node, tmp_path, mosquitto):
    keys = {"start": "lazy", "idle_secs": 1, "notifications": False}
    node = start_node(**configured(tmp_path, bridge_text(mosquitto.port, '["a/# out 1"]', **keys)))
    for at in range(2):
        assert clients_of(mosquitto) == ["bridge-up"] * at
        with Client(node, "here") as here:
            here.publish(f"a/{at}", "x")
        until(lambda: len(received(mosquitto, "a/")) == at + 1, mosquitto.log)
        until(lambda: mosquitto.log().count("Client bridge-up disconnected") == at + 1, mosquitto.log)


def test_a_password_is_a_stored_secret(start_node, tmp_path, start_mosquitto):
    from test_webhooks import set_secret
    import subprocess

    from programs import need
    path = tmp_path / "passwords"
    path.write_text("")
    subprocess.run([need("mosquitto_passwd", "mosquitto"), "-b", str(path), "ann", "tops3cret"], check=True)
    mosquitto = start_mosquitto("allow_anonymous false\npassword_file {place}/passwords",
                                files={"passwords": path.read_text()})
    keys = {"user": "ann", "password": "${secret:there}", "reconnect_max_secs": 1}
    node = start_node(**configured(tmp_path, bridge_text(mosquitto.port, '["a/# both 1"]', **keys)))
    until(lambda: any("secret" in one for one in warnings(node)), lambda: warnings(node))
    set_secret(node, "there", "wrong")
    until(lambda: any("rejects the connection" in one for one in warnings(node)), lambda: warnings(node))
    set_secret(node, "there", "tops3cret")
    until_connected(node)
    assert "tops3cret" not in node.log()


class RudeBroker:
    """Accepts connections, answers each CONNECT of MQTT 5.0 with `answer(CONNECT)`, and says no more."""

    def __init__(self, answer):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.answer = answer
        self.connects = []
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            try:
                wire, _ = self.listener.accept()
            except OSError:
                return
            with wire:
                connect = wire.recv(65536)
                self.connects.append(connect)
                wire.sendall(self.answer(connect))
                wire.settimeout(5)
                try:
                    wire.recv(1)
                except OSError:
                    pass

    def close(self):
        self.listener.close()


def test_what_another_broker_repeats_of_a_password_is_not_shown(start_node, tmp_path):
    reason = b"bad login tops3cret"
    properties = b"\x1f" + len(reason).to_bytes(2, "big") + reason
    refused = bytes([0, 0x87, len(properties)]) + properties
    broker = RudeBroker(lambda connect: bytes([0x20, len(refused)]) + refused)
    keys = {"protocol": "5.0", "user": "ann", "password": "tops3cret", "reconnect_max_secs": 1}
    node = start_node(**configured(tmp_path, bridge_text(broker.port, '["a/# in 1"]', **keys)))
    try:
        until(lambda: any("bad login ***" in one for one in warnings(node)), lambda: warnings(node))
        assert state(node)["state"] == "retrying"
        # Maximum Packet Size is that of the node.
        assert b"\x27\x00\x10\x00\x00" in broker.connects[0]
        seen = len(broker.connects)
        tested = call(node, "POST", "/api/v1/integrations/bridge/up/test", {})
        assert "bad login ***" in json.dumps(tested) and len(broker.connects) > seen
        assert "tops3cret" not in node.log() + json.dumps(state(node))
    finally:
        broker.close()


@pytest.mark.parametrize("protocol", ["5.0", "3.1.1"])
def test_a_client_of_the_other_broker_cannot_say_that_it_is_a_node(start_node, tmp_path, mosquitto, protocol):
    node = start_node(**configured(
        tmp_path, bridge_text(mosquitto.port, '["p/# out 1", "q/# in 1"]', protocol=protocol, reconnect_max_secs=1)))
    until_connected(node)
    via = properties("PUBLISH", UserProperty=[("martlet-via", "node-b")])
    with Client(mosquitto, "rude", port=mosquitto.port) as rude, Client(node, "own") as own:
        rude.subscribe("p/#", qos=1)
        own.subscribe("q/#", qos=1)
        # Of all topics that begin with $SYS, Mosquitto takes these alone from clients.
        rude.publish("$SYS/broker/connection/x/state", "1", retain=True, properties=via)
        rude.publish("q/1", "x")
        assert own.receive().topic == "q/1"
        own.publish("p/1", "x", properties=via)
        assert rude.receive().topic == "p/1"
    assert state(node)["skipped"] == 0


class Flood:
    """Accepts bridges of MQTT 3.1.1, and sends each one messages of QoS 1 as long as it reads."""

    def __init__(self, topic, payload_bytes, starts=True):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        body = len(topic).to_bytes(2, "big") + topic.encode() + b"%s" + bytes(payload_bytes)
        length, encoded = len(body), b""
        while length or not encoded:
            encoded += bytes([length % 128 | (0x80 if length >= 128 else 0)])
            length //= 128
        self.packet = lambda number: (b"\x32" + encoded + body).replace(b"%s", number.to_bytes(2, "big"), 1)
        self.sent = 0
        self.stuck = threading.Event()
        self.pings = 0
        if starts:
            threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        try:
            wire, _ = self.listener.accept()
            with wire:
                wire.recv(65536)
                wire.sendall(b"\x20\x02\x00\x00")
                subscribe = wire.recv(65536)
                wire.sendall(b"\x90\x03" + subscribe[2:4] + b"\x01")
                wire.settimeout(3)
                try:
                    for number in range(1, 2001):
                        wire.sendall(self.packet(number))
                        self.sent += 1
                except TimeoutError:
                    self.stuck.set()
                wire.settimeout(60)
                while data := wire.recv(65536):
                    self.pings += data.count(b"\xc0\x00")
        except OSError:
            pass

    def close(self):
        self.listener.close()


def test_what_waits_for_the_node_is_bounded_and_the_connection_stays(start_node, tmp_path):
    flood = Flood("in/x", 100_000)
    sink = ('[[sinks.webhook]]\nname = "full"\nfilters = ["in/#"]\nurl = "http://127.0.0.1:9/"\non_full = "hold"\n'
            "max_bytes = 200000\n")
    node = start_node(**configured(tmp_path, sink, bridge_text(
        flood.port, '["in/# in 1"]', protocol="3.1.1", notifications=False, try_private=False, keep_alive_secs=5)))
    try:
        until(flood.stuck.is_set, lambda: [flood.sent, node.log()])
        # What the bridge keeps, the queue, and buffers of the system.
        assert flood.sent < 400
        # Nothing is read, and pings are sent all the same, without their answers.
        until(lambda: flood.pings >= 3, lambda: [flood.pings, node.log()])
        assert "the bridge is not connected" not in node.log()
    finally:
        flood.close()


def packets(stream):
    """The packets of a connection, each as its type and what is behind its fixed header."""
    while head := stream.read(1):
        length, shift = 0, 0
        while True:
            byte = stream.read(1)[0]
            length |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                break
        yield head[0] >> 4, stream.read(length)


class Slow:
    """Accepts a bridge of MQTT 3.1.1. It acknowledges what it gets only behind all that it sends."""

    def __init__(self, topic, count, payload_bytes):
        self.flood = Flood(topic, payload_bytes, starts=False)
        self.port, self.count = self.flood.port, count
        self.begin, self.acknowledged, self.got = threading.Event(), 0, 0
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        try:
            wire, _ = self.flood.listener.accept()
            with wire, wire.makefile("rb") as stream:
                writer = None
                for kind, body in packets(stream):
                    if kind == 1:
                        wire.sendall(b"\x20\x02\x00\x00")
                    elif kind == 8:
                        wire.sendall(b"\x90\x03" + body[:2] + b"\x01")
                    elif kind == 12:
                        wire.sendall(b"\xd0\x00")
                    elif kind == 4:
                        self.acknowledged += 1
                    elif kind == 3:
                        at = 2 + int.from_bytes(body[:2], "big")
                        self.got += 1
                        writer = self.answer(wire, b"\x40\x02" + body[at:at + 2], writer)
        except OSError:
            pass

    def answer(self, wire, packet, before):
        def write():
            try:
                if before is None:
                    self.begin.wait(60)
                    for number in range(1, self.count + 1):
                        wire.sendall(self.flood.packet(number))
                else:
                    before.join()
                wire.sendall(packet)
            except OSError:
                pass

        thread = threading.Thread(target=write, daemon=True)
        thread.start()
        return thread

    def close(self):
        self.begin.set()
        self.flood.close()


def test_both_directions_do_not_block_each_other_while_clients_are_held_back(start_node, tmp_path):
    """What comes in is held back by the queue of the bridge itself. That queue waits for acknowledgements behind it."""
    there = Slow("x/in", 300, 100_000)
    node = start_node(**configured(tmp_path, bridge_text(
        there.port, '["x/# both 1"]', protocol="3.1.1", notifications=False, try_private=False, in_flight=1,
        on_full="hold", max_bytes=20_000)))
    sent, done = [], threading.Event()

    def publish():
        with Client(node, "here") as here:
            while not there.begin.is_set():
                sent.append(here.client.publish("x/out", bytes(5000), 1))
                sent[-1].wait_for_publish(120)
            done.set()

    try:
        threading.Thread(target=publish, daemon=True).start()
        until(lambda: any("clients that publish for it wait" in one for one in warnings(node)), lambda: warnings(node))
        assert there.got == 1 and not done.is_set()
        there.begin.set()
        call(node, "POST", "/api/v1/integrations/bridge/up/resume", key=KEY)
        told = lambda: [there.acknowledged, there.got, len(sent), state(node)]
        until(lambda: there.acknowledged == 300, told, timeout=60)
        until(lambda: done.is_set() and there.got == len(sent), told, timeout=60)
    finally:
        there.close()


def test_a_bridge_runs_from_a_mosquitto_conf(start_node, tmp_path, mosquitto):
    conf = tmp_path / "mosquitto.conf"
    port = free_port()
    conf.write_text(f"""listener {port} 127.0.0.1
allow_anonymous true
connection to-there
address 127.0.0.1:{mosquitto.port}
topic # out 1 plant/ site/
topic cmd/# in 2
remote_clientid of-conf
restart_timeout 1 5
keepalive_interval 30
""")
    node = start_node(arguments=("--mosquitto-conf", str(conf)), data_dir=tmp_path / "data", http=True, variables=KEYS, listen=())
    assert node.facts("integrations.allow_private has 127.0.0.1"), node.log()
    until_connected(node)
    with Client(mosquitto, "there", port=mosquitto.port) as there, Client(node, "here", port=port) as here:
        there.subscribe("site/#", qos=1)
        here.subscribe("cmd/#", qos=2)
        here.publish("plant/a", "out")
        there.publish("cmd/a", "in", qos=2)
        assert (there.receive().topic, here.receive().payload) == ("site/a", b"in")
    log = mosquitto.log()
    assert "as of-conf (p2, c0, k30)" in log and "$SYS/broker/connection/of-conf/state" in log
    assert state(node, "to-there")["state"] == "running"


@pytest.mark.parametrize("protocol", ["5.0", "3.1.1"])
def test_a_bridge_speaks_tls_and_shows_a_certificate(start_node, tmp_path, start_mosquitto, protocol):
    authority, other = Authority(tmp_path / "ca"), Authority(tmp_path / "other")
    server, client = authority.sign("server"), authority.sign("client", usage="clientAuth")
    names = {"ca.crt": authority.certificate, "server.crt": server[0], "server.key": server[1]}
    mosquitto = start_mosquitto(
        listener="cafile {place}/ca.crt\ncertfile {place}/server.crt\nkeyfile {place}/server.key\n"
                 "require_certificate true\nuse_identity_as_username true",
        files={name: pathlib.Path(path).read_text() for name, path in names.items()})
    keys = {"url": f"mqtts://localhost:{mosquitto.port}", "protocol": protocol, "reconnect_max_secs": 1,
            "certificate_file": client[0], "key_file": client[1]}
    for ca, expected in ((other.certificate, "no TLS with the other broker"), (authority.certificate, None)):
        place = tmp_path / str(expected is None)
        place.mkdir()
        node = start_node(**configured(place, bridge_text(
            mosquitto.port, '["a/# out 1"]', ca_file=ca, **keys), allowed='["127.0.0.0/8", "::1"]'))
        if expected:
            until(lambda: any(expected in one for one in warnings(node)), lambda: warnings(node))
            continue
        until_connected(node)
        with Client(node, "here") as here:
            here.publish("a/1", "x")
        until(lambda: received(mosquitto, "a/"), mosquitto.log)
        assert "u'client'" in mosquitto.log()
