"""Streams of events: server-sent events, WebSocket, and frames that are pushed to a server of
Pusher's protocol. The WebSocket library is nobody's here; MQTT is written byte by byte, so that
the packets are those of the panel's sequence diagrams."""

import base64
import contextlib
import http.client
import json
import queue
import re
import select
import socket
import ssl
import subprocess
import threading
import time
from urllib.parse import urlsplit

import pytest
import websockets.sync.client
import websockets.sync.server
from websockets.exceptions import ConnectionClosed, InvalidStatus

import martlet_process
from server_process import free_port
from test_access import until
from test_http_api import ask

DEADLINE_SECS = 60
KEY = "0123456789abcdef0123456789abcdef"
EVENTS_ONLY = "fedcba9876543210fedcba9876543210"
KEYS = {"MARTLET_HTTP__API_KEYS": f"all:{KEY},events:{EVENTS_ONLY}:events:read"}


def text(value):
    """A UTF-8 string of MQTT."""
    data = value if isinstance(value, bytes) else value.encode()
    return len(data).to_bytes(2, "big") + data


class Device:
    """An MQTT 3.1.1 client that sends what it is told to, and no other packet."""

    def __init__(self, node, client_id, user=None, password=None):
        self.wire = socket.create_connection(("127.0.0.1", node.port()), timeout=DEADLINE_SECS)
        flags = 2 | (0x80 if user else 0) | (0x40 if password else 0)
        body = text("MQTT") + bytes([4, flags, 0, 60]) + text(client_id)
        body += (text(user) if user else b"") + (text(password) if password else b"")
        self.send(0x10, body)
        self.connack = self.receive(0x20)

    def send(self, first, body=b""):
        """One packet."""
        length, left = b"", len(body)
        while True:
            left, digit = divmod(left, 128)[0], left % 128
            length += bytes([digit | (0x80 if left else 0)])
            if not left:
                break
        self.wire.sendall(bytes([first]) + length + body)

    def receive(self, first):
        """The next packet, which has to be of this type."""
        head = self._exactly(1)[0]
        assert head & 0xF0 == first & 0xF0, hex(head)
        length, shift = 0, 0
        while True:
            digit = self._exactly(1)[0]
            length |= (digit & 0x7F) << shift
            shift += 7
            if digit < 0x80:
                return self._exactly(length)

    def _exactly(self, count):
        data = b""
        while len(data) < count:
            piece = self.wire.recv(count - len(data))
            assert piece, "the connection was closed"
            data += piece
        return data

    def subscribe(self, topic, qos=0):
        self.send(0x82, b"\0\1" + text(topic) + bytes([qos]))
        self.receive(0x90)

    def unsubscribe(self, topic):
        self.send(0xA2, b"\0\2" + text(topic))
        self.receive(0xB0)

    def publish(self, topic, payload=b"x", qos=0, retain=False):
        packet_id = b"\0\3" if qos else b""
        self.send(0x30 | qos << 1 | retain, text(topic) + packet_id + payload)
        if qos == 1:
            self.receive(0x40)
        if qos == 2:
            self.receive(0x50)
            self.send(0x62, b"\0\3")
            self.receive(0x70)

    def ping(self):
        self.send(0xC0)
        self.receive(0xD0)

    def disconnect(self):
        self.send(0xE0)
        assert self.wire.recv(1) == b""
        self.wire.close()


class Panel:
    """A server of Pusher's protocol, as Laravel Reverb is one."""

    def __init__(self, port=0, greets=True, takes=None, tls=None):
        self.frames = queue.Queue()
        self.paths = []
        self.pongs = queue.Queue()
        self.open = None
        self._greets, self._takes = greets, takes
        self.server = websockets.sync.server.serve(
            self._serve, "127.0.0.1", port, max_size=10_000, compression=None, ssl=tls
        )
        self.port = self.server.socket.getsockname()[1]
        self.url = f"{'wss' if tls else 'ws'}://127.0.0.1:{self.port}/app/key"
        self._thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self._thread.start()

    def _serve(self, connection):
        self.paths.append(connection.request.path)
        self.open = connection
        if self._greets:
            data = json.dumps({"socket_id": "1.1", "activity_timeout": 30})
            connection.send(json.dumps({"event": "pusher:connection_established", "data": data}))
        try:
            for message in connection:
                if self._takes:
                    self._takes()
                frame = json.loads(message)
                if frame["event"].startswith("pusher:"):
                    self.pongs.put(frame)
                else:
                    self.frames.put(frame)
        except ConnectionClosed:
            pass

    def next(self):
        return self.frames.get(timeout=DEADLINE_SECS)

    def take(self, count):
        return [self.next() for _ in range(count)]

    def vanish(self):
        """As a server that is killed."""
        self.server.socket.close()
        if self.open:
            self.open.socket.close()
        self.server.shutdown()

    def close(self):
        self.server.shutdown()


@pytest.fixture
def panels():
    """Makes servers that end with the test."""
    made = []

    def make(**options):
        made.append(Panel(**options))
        return made[-1]

    yield make
    for panel in made:
        panel.close()


def pushing(start_node, panel, *settings, variables=()):
    """A node that pushes, and its first connection is there."""
    node = start_node(
        http=True,
        variables={**KEYS, **dict(variables)},
        settings=["http.rate=0", f"events.push_url={panel.url}", *settings],
    )
    until = time.monotonic() + DEADLINE_SECS
    while not panel.paths:
        assert time.monotonic() < until, "the node does not come"
        time.sleep(0.01)
    return node


def shown(frames):
    """Names in a word or two each."""
    short = {1: "CONNECT", 2: "CONNACK", 3: "PUBLISH", 4: "PUBACK", 5: "PUBREC", 6: "PUBREL",
             7: "PUBCOMP", 8: "SUBSCRIBE", 9: "SUBACK", 10: "UNSUBSCRIBE", 11: "UNSUBACK",
             12: "PINGREQ", 13: "PINGRESP", 14: "DISCONNECT"}  # fmt: skip
    return [
        short[frame["data"]["packet_type"]]
        if frame["event"] == "MqttPacketProcessed"
        else frame["event"].removeprefix("MqttClient")
        for frame in frames
    ]


DIAGRAMS = [
    "CONNECT CONNACK Connected",
    "SUBSCRIBE SUBACK Subscribed",
    "PUBLISH Published",
    "PUBLISH PUBACK Published",
    "PUBLISH PUBREC Published PUBREL PUBCOMP",
    "UNSUBSCRIBE UNSUBACK Unsubscribed",
    "PINGREQ PINGRESP",
    "DISCONNECT Disconnected",
]


def play(node, client_id):
    """All six diagrams of the panel's documentation, publishing with each QoS."""
    device = Device(node, client_id)
    device.subscribe("in/#", qos=1)
    for qos in (0, 1, 2):
        device.publish("out/topic", b"payload", qos=qos, retain=qos == 1)
    device.unsubscribe("in/#")
    device.ping()
    device.disconnect()


def test_the_panel_sees_the_six_diagrams_in_their_order(start_node, panels):
    panel = panels()
    node = pushing(start_node, panel)
    before_ms = time.time() * 1000
    play(node, "device-1")
    words = " ".join(DIAGRAMS).split()
    frames = panel.take(len(words))
    assert shown(frames) == words
    assert panel.paths == ["/app/key"]
    for frame in frames:
        assert sorted(frame) == ["channel", "data", "event"] and frame["channel"] == "mqtt"
        data = frame["data"]
        assert data["id"] == "device-1"
        assert before_ms - 1000 < data["timestamp"] < time.time() * 1000 + 1000
    by_name = {name: frame["data"] for name, frame in zip(shown(frames), frames)}
    connected = by_name["Connected"]
    assert connected.pop("remote").startswith("127.0.0.1:")
    for data in by_name.values():
        del data["timestamp"], data["id"]
    assert connected == {"protocol_version": 4, "username": "", "qos": 0, "keep_alive": 60}
    assert by_name["Disconnected"] == {}
    assert by_name["Subscribed"] == {"topic_name": "in/#", "qos": 1}
    assert by_name["Unsubscribed"] == {"topic_name": "in/#"}
    assert by_name["SUBSCRIBE"] == {"packet_id": 1, "packet_type": 8, "packet_length": 9}
    assert by_name["PINGREQ"] == {"packet_id": 0, "packet_type": 12, "packet_length": 0}
    published = [f["data"] for f in frames if f["event"] == "MqttClientPublished"]
    assert [(one["qos"], one["retain"]) for one in published] == [(0, False), (1, True), (2, False)]
    assert {(one["topic_name"], one["payload"]) for one in published} == {("out/topic", "payload")}


def test_who_is_refused_never_looks_connected(start_node, panels):
    panel = panels()
    users = {"MARTLET_AUTH__CREDENTIALS": "good:pw"}
    node = pushing(start_node, panel, "auth.enabled=on", variables=users)
    refused = Device(node, "refused", "good", "wrong")
    assert refused.connack[1] != 0
    play_user = Device(node, "let-in", "good", "pw")
    assert play_user.connack[1] == 0
    frames = panel.take(3)
    assert [frame["data"]["id"] for frame in frames] == ["let-in"] * 3
    assert shown(frames) == ["CONNECT", "CONNACK", "Connected"]
    assert frames[2]["data"]["username"] == "good"


def test_what_happens_while_the_server_is_away_comes_when_it_is_back(start_node, panels):
    panel = panels(port=free_port())
    node = pushing(start_node, panel)
    first = Device(node, "before")
    panel.take(3)
    panel.vanish()
    for number in range(3):
        first.publish(f"t/{number}")
    time.sleep(5)
    first.publish("t/3")
    again = panels(port=panel.port)
    topics = []
    while "t/3" not in topics:
        frame = again.next()
        if frame["event"] == "MqttClientPublished":
            topics.append(frame["data"]["topic_name"])
    # What was on its way when it vanished may be lost or come twice; the order stays.
    assert topics == sorted(topics)
    assert "t/2" in topics


def test_a_slow_server_holds_nobody_up_and_loses_the_oldest(start_node, panels):
    go_on = threading.Event()
    panel = panels(takes=go_on.wait)
    node = pushing(
        start_node, panel, "events.kept=200", "events.push_kinds=published", "log.level=warn"
    )
    device = Device(node, "busy")
    begun = time.monotonic()
    payload = b"x" * 9_000
    for number in range(3_000):
        device.publish(f"t/{number}", payload)
    device.publish("last", b"", qos=1)
    assert time.monotonic() - begun < DEADLINE_SECS
    go_on.set()
    topics = []
    while "last" not in topics:
        topics.append(panel.next()["data"]["topic_name"])
    numbers = [int(topic[2:]) for topic in topics[:-1]]
    assert numbers == sorted(numbers) and len(numbers) < 3_000


def test_no_frame_is_longer_than_the_server_takes(start_node, panels):
    panel = panels()
    node = pushing(start_node, panel, "events.push_kinds=published")
    device = Device(node, "c")
    device.publish("t", b"a" * 20_000)
    device.publish("t", b"\xff" * 20_000)
    device.publish("t", b'"\n' * 10_000)
    device.publish("t" * 20_000, b"whole")
    device.publish("end", b"\xff\0")
    frames = panel.take(5)
    # The server closes the connection at one that is too long.
    assert panel.paths == ["/app/key"]
    plain, binary, escaped, long, last = (frame["data"] for frame in frames)
    assert plain["payload_bytes"] == 20_000 and len(plain["payload"]) > 9_000
    assert binary["payload_encoding"] == "base64" and binary["payload_bytes"] == 20_000
    assert set(escaped["payload"]) == {'"', "\n"} and escaped["payload_bytes"] == 20_000
    assert len(long["topic_name"]) < 20_000
    assert base64.b64decode(last["payload"]) == b"\xff\0" and "payload_bytes" not in last


def test_messages_and_subscriptions_are_pushed_by_their_topics(start_node, panels):
    panel = panels()
    topics = "events.push_topics=devices/+/state, alarms/#"
    node = pushing(start_node, panel, topics, "events.push_kinds=connected,subscribed,published")
    device = Device(node, "c")
    device.subscribe("other/#")
    device.subscribe("devices/+/state")
    for topic in ["other/a", "devices/7/state", "devices/7/other", "alarms/fire/1", "devices/state"]:
        device.publish(topic, b"x")
    frames = panel.take(4)
    assert [(frame["event"], frame["data"].get("topic_name")) for frame in frames] == [
        ("MqttClientConnected", None), ("MqttClientSubscribed", "devices/+/state"),
        ("MqttClientPublished", "devices/7/state"), ("MqttClientPublished", "alarms/fire/1"),
    ]


def test_pings_of_both_kinds_are_answered(start_node, panels):
    panel = panels()
    pushing(start_node, panel)
    panel.open.send(json.dumps({"event": "pusher:ping", "data": "{}"}))
    assert panel.pongs.get(timeout=DEADLINE_SECS) == {"event": "pusher:pong", "data": {}}
    assert panel.open.ping().wait(DEADLINE_SECS)


# What is read


class Stream:
    """Server-sent events, read line by line as a browser does."""

    def __init__(self, node, query="", headers=(), key=KEY):
        place = urlsplit(node.http_url)
        self.wire = http.client.HTTPConnection(place.hostname, place.port, timeout=DEADLINE_SECS)
        headers = {"Accept": "text/event-stream", "X-API-Key": key, **dict(headers)}
        self.wire.request("GET", f"/api/v1/events?{query}", headers=headers)
        self.answer = self.wire.getresponse()
        assert self.answer.status == 200, self.answer.read()
        self.last_id = None

    def next(self):
        """Its name and its data."""
        name, data = "message", None
        while True:
            line = self.answer.readline().decode().rstrip("\n")
            assert line or data is not None or not self.answer.isclosed(), "the stream has ended"
            field, _, value = line.partition(": ")
            if field == "id":
                self.last_id = value
            elif field == "event":
                name = value
            elif field == "data":
                data = json.loads(value)
            elif not line and data is not None:
                return name, data

    def kinds(self, count):
        return [self.next()[1]["kind"] for _ in range(count)]

    def close(self):
        self.answer.close()
        self.wire.close()


@pytest.fixture
def node(start_node):
    return start_node(http=True, variables=KEYS, settings=["http.rate=0"])


def test_a_stream_tells_what_a_client_does_in_order(node):
    stream = Stream(node, "client=device&kinds=all&payload=3")
    Device(node, "other").publish("t")
    play(node, "device")
    kinds, published = [], None
    while "session_ended" not in kinds:
        name, event = stream.next()
        assert name == "message" and event["client_id"] == "device"
        kinds.append(event["packet"] if event["kind"] == "packet" else event["kind"])
        if event["kind"] == "published" and published is None:
            published = event
    without_packets = [kind for kind in kinds if kind.islower()]
    assert without_packets == [
        "connected", "subscribed", "published", "published", "published", "unsubscribed",
        "disconnected", "session_ended",
    ]  # fmt: skip
    assert kinds.count("PUBLISH") == 3 and kinds.count("PINGRESP") == 1
    assert published["payload"] == "pay" and published["payload_bytes"] == 7
    assert published["topic"] == "out/topic" and published["matched"] is False
    assert published["address"].startswith("127.0.0.1:")


def test_who_has_proved_a_name_is_told_of_first_and_how(start_node):
    users = {**KEYS, "MARTLET_AUTH__CREDENTIALS": "good:pw"}
    settings = ["http.rate=0", "auth.enabled=on"]
    node = start_node(http=True, variables=users, settings=settings)
    stream = Stream(node, "kinds=authenticated,connected,refused")
    assert Device(node, "wrong", "good", "wrong").connack[1] != 0
    # Of clients at two shards, events may come in any order.
    events = [stream.next()[1]]
    assert Device(node, "right", "good", "pw").connack[1] == 0
    events += [stream.next()[1] for _ in range(2)]
    assert [(one["client_id"], one["kind"]) for one in events] == [
        ("wrong", "refused"), ("right", "authenticated"), ("right", "connected"),
    ]  # fmt: skip
    assert (events[1]["user_name"], events[1]["method"]) == ("good", "password")
    assert events[1]["address"] == events[2]["address"] and "claimed" not in events[1]


def test_a_stream_is_resumed_where_it_broke_off(node):
    stream = Stream(node, "kinds=published")
    device = Device(node, "device")
    for number in range(3):
        device.publish(f"t/{number}", qos=1)
    assert stream.next()[1]["topic"] == "t/0"
    last_id = stream.last_id
    assert [stream.next()[1]["topic"] for _ in range(2)] == ["t/1", "t/2"]
    # Somebody reads on, so that messages become events meanwhile.
    other = Stream(node, "kinds=published")
    stream.close()
    device.publish("t/3", qos=1)
    assert other.next()[1]["topic"] == "t/3"
    again = Stream(node, "kinds=published", {"Last-Event-ID": last_id})
    assert [again.next()[1]["topic"] for _ in range(3)] == ["t/1", "t/2", "t/3"]
    elsewhere = Stream(node, "kinds=connected&last_event_id=0-1")
    name, gone = elsewhere.next()
    assert name == "gone" and gone["why"] == "the node was restarted" and "count" not in gone
    assert elsewhere.kinds(1) == ["connected"]


def test_who_reads_too_slowly_is_told_how_many_are_gone(start_node):
    settings = ["http.rate=0", "events.kept=100"]
    node = start_node(http=True, variables=KEYS, settings=settings)
    watched = Stream(node, "kinds=published")
    device = Device(node, "device")
    device.publish("first", qos=1)
    assert watched.next()[1]["topic"] == "first"
    first_id = watched.last_id
    for number in range(500):
        device.publish(f"t/{number}")
    device.publish("last", qos=1)
    while True:
        name, event = watched.next()
        if event.get("topic") == "last":
            break
    late = Stream(node, "kinds=published", {"Last-Event-ID": first_id})
    name, gone = late.next()
    assert (name, gone["count"]) == ("gone", 401)
    assert late.next()[1]["topic"] == "t/401"


def test_filters_and_samples(node):
    streams = {
        query: Stream(node, query)
        for query in (
            "kinds=published&topic=a/%2B",
            "kinds=published&client_prefix=one",
            "kinds=published&sample=published:3",
            "kinds=published&address=127.0.0.1&user=nobody",
        )
    }
    by_topic, by_prefix, sampled, nothing = streams.values()
    for client_id in ("one-1", "two-1"):
        device = Device(node, client_id)
        for topic in ("a/1", "b/1", "a/2"):
            device.publish(topic)
        device.disconnect()
        # Of clients at two shards, events may come in any order.
        assert sampled.next()[1]["client_id"] == client_id
    assert [by_topic.next()[1]["topic"] for _ in range(4)] == ["a/1", "a/2"] * 2
    assert [by_prefix.next()[1]["topic"] for _ in range(3)] == ["a/1", "b/1", "a/2"]
    nothing.wire.sock.settimeout(0.2)
    with pytest.raises(TimeoutError):
        nothing.next()


def websocket(node, query="", key=KEY, **options):
    """A WebSocket of events; the key is where browsers can put it."""
    url = node.http_url.replace("http", "ws", 1)
    return websockets.sync.client.connect(
        f"{url}/api/v1/events?{query}&api_key={key}", **options
    )


def test_a_websocket_tells_the_same_and_takes_another_filter(node):
    with websocket(node, "kinds=published&client=one") as stream:
        one, two = Device(node, "one"), Device(node, "two")
        two.publish("t/2")
        one.publish("t/1", qos=1)
        assert json.loads(stream.recv(DEADLINE_SECS))["topic"] == "t/1"
        stream.send(json.dumps({"kinds": "published", "client": "two"}))
        assert json.loads(stream.recv(DEADLINE_SECS)) == {"kind": "filter"}
        one.publish("t/3", qos=1)
        two.publish("t/4", qos=1)
        assert json.loads(stream.recv(DEADLINE_SECS))["topic"] == "t/4"
        stream.send('{"kinds": "nonsense"}')
        assert json.loads(stream.recv(DEADLINE_SECS))["kind"] == "error"
        assert stream.ping().wait(DEADLINE_SECS)


def test_the_panels_frames_can_be_read_too(node):
    words = " ".join(DIAGRAMS).split()
    stream = Stream(node, "format=panel")
    with websocket(node, "format=panel") as socket_stream:
        play(node, "device")
        read = [stream.next()[1] for _ in words]
        assert shown(read) == words
        assert [json.loads(socket_stream.recv(DEADLINE_SECS)) for _ in words] == read


def test_pages_of_other_sites_open_no_websocket_by_what_the_browser_brings(start_node):
    node = start_node(http=True, settings=["http.open_routes=GET /api/v1/events"])
    url = node.http_url.replace("http", "ws", 1) + "/api/v1/events"
    own = node.http_url
    with websockets.sync.client.connect(url, origin=own) as stream:
        assert stream.ping().wait(DEADLINE_SECS)
    with pytest.raises(InvalidStatus) as refused:
        websockets.sync.client.connect(url, origin="https://evil.example")
    assert refused.value.response.status_code == 403


def test_payloads_take_a_scope_of_their_own(node):
    Stream(node, "kinds=published", key=EVENTS_ONLY).close()
    with pytest.raises(AssertionError, match="retained:read"):
        Stream(node, "kinds=published&payload=10", key=EVENTS_ONLY)
    with pytest.raises(InvalidStatus) as refused:
        websocket(node, "format=panel", key=EVENTS_ONLY)
    assert refused.value.response.status_code == 403


def change(node, method, path, body):
    """The answer to a change by the key that may do everything."""
    place = urlsplit(node.http_url)
    wire = http.client.HTTPConnection(place.hostname, place.port, timeout=DEADLINE_SECS)
    headers = {"X-API-Key": KEY, "Content-Type": "application/json", "If-Match": "*"}
    wire.request(method, f"/api/v1{path}", json.dumps(body), headers)
    answer = wire.getresponse()
    text = answer.read()
    assert answer.status < 300, text
    return json.loads(text)


def test_a_right_that_was_taken_is_not_there_for_the_next_message_of_a_websocket(node):
    reads = {"name": "reads", "scopes": ["events:read", "retained:read"]}
    made = change(node, "POST", "/keys", reads)
    with websocket(node, "kinds=published", made["key"]) as stream:
        change(node, "PUT", f"/keys/{made['id']}", {"name": "reads", "scopes": ["events:read"]})
        # The stream goes on without payloads, long after the change has been noticed.
        device = Device(node, "dev")
        device.publish("a", b"one")
        assert json.loads(stream.recv(timeout=DEADLINE_SECS))["client_id"] == "dev"
        stream.send(json.dumps({"kinds": "published", "payload": 100}))
        answer = json.loads(stream.recv(timeout=DEADLINE_SECS))
        assert answer["kind"] == "error" and "retained:read" in answer["detail"], answer
        device.publish("a", b"two")
        told = json.loads(stream.recv(timeout=DEADLINE_SECS))
        assert told["kind"] == "published" and "payload" not in told, told
        # Where payloads are being read, the stream ends before the next one.
        change(node, "PUT", f"/keys/{made['id']}", reads)
        stream.send(json.dumps({"kinds": "published", "payload": 100}))
        assert json.loads(stream.recv(timeout=DEADLINE_SECS))["kind"] == "filter"
        change(node, "PUT", f"/keys/{made['id']}", {"name": "reads", "scopes": ["events:read"]})
        device.publish("a", b"three")
        with pytest.raises(ConnectionClosed):
            stream.recv(timeout=DEADLINE_SECS)


def test_the_keys_of_one_team_leave_streams_to_all_others(start_node):
    # All of them come from one address here.
    settings = ["http.rate=0", "http.connections=512", "http.connections_per_address=512"]
    node = start_node(http=True, variables=KEYS, settings=settings)

    for team in ("north", "south"):
        change(node, "POST", "/teams", {"name": team, "owns_tenant": True})

    def key(name, team=None, scopes=("events:read",)):
        body = {"name": name, "scopes": list(scopes)} | ({"team": team} if team else {})
        return change(node, "POST", "/keys", body)["key"]

    def fill(own):
        """Opens streams with one key until it is refused; how many, and the status and the reason."""
        with contextlib.ExitStack() as opened:
            for count in range(300):
                try:
                    opened.enter_context(contextlib.closing(Stream(node, key=own)))
                except AssertionError as refused:
                    kept.enter_context(opened.pop_all())
                    return count, str(refused)
        raise AssertionError("it is never refused")

    with contextlib.ExitStack() as kept:
        counts = []
        for number in range(4):
            count, why = fill(key(f"north-{number}", "north"))
            counts.append(count)
            assert "which is the limit" in why, why
        assert counts == [32, 32, 0, 0], "a key has 32 of them, and a team 64"
        # Other teams, keys of the node and administrators read on, and so does the command.
        assert fill(key("south", "south"))[0] == 32
        for number in range(8):
            fill(key(f"of-all-{number}"))
        Stream(node).close()
        Stream(node, key=key("boss", scopes=["administrator"])).close()
        reader = subprocess.Popen([martlet_process.binary(), "events", "--data-dir", node.data_dir, "-n", "1"],
                                  env=martlet_process.environment(), stdout=subprocess.PIPE, text=True)
        try:
            read_by = re.compile(r"^martlet_events_readers (\d+)", re.MULTILINE)
            until(lambda: int(read_by.search(ask(node, "/metrics")[2].decode())[1]) > 208, "the command reads along")
            Device(node, "dev").publish("t")
            assert "dev" in reader.communicate(timeout=DEADLINE_SECS)[0]
        finally:
            reader.kill()
            reader.wait()
    # What was closed is there for the next one.
    until(lambda: fill_one(node, key("north-late", "north")), "a place for the team again")


def fill_one(node, key):
    with contextlib.suppress(AssertionError):
        Stream(node, key=key).close()
        return True
    return False


def test_a_node_that_stops_says_so(start_node):
    node = start_node(http=True, variables=KEYS)
    with websocket(node, "kinds=disconnected") as stream:
        Device(node, "device")
        node.terminate()
        assert json.loads(stream.recv(DEADLINE_SECS))["client_id"] == "device"
        with pytest.raises(ConnectionClosed) as closed:
            stream.recv(DEADLINE_SECS)
        assert closed.value.rcvd.code == 1001


def test_events_are_pushed_to_a_server_of_one_s_own_authority(start_node, panels, tmp_path):
    authority = tmp_path / "authority"
    for arguments in (("ca",), ("server", "127.0.0.1")):
        done = martlet_process.run("cert", *arguments, "--dir", str(authority))
        assert done.returncode == 0, done.stderr
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(authority / "server.crt", authority / "server.key")
    panel = panels(tls=context)
    trusted = f"events.push_ca_file={authority}/ca.crt"
    node = pushing(start_node, panel, trusted, "events.push_kinds=connected")
    Device(node, "device")
    assert panel.next()["event"] == "MqttClientConnected"
    # Nobody else vouches for it.
    other = start_node(settings=[f"events.push_url={panel.url}"])
    other.wait_for_log("cannot push events")
    for settings, why in (
        ([f"events.push_url={panel.url}", "events.push_ca_file=/nowhere/ca.crt"], "push_ca_file"),
        (["events.push_url=ws://h/app/key", trusted], "is not wss://"),
    ):
        options = [word for setting in settings for word in ("--set", setting)]
        done = martlet_process.run("config", "check", "--data-dir", str(tmp_path / "d"), *options)
        assert done.returncode != 0 and why in done.stderr + done.stdout


def test_the_panel_s_own_options_have_one_dash(start_node, panels):
    panel = panels()
    arguments = ["-reverb-host", f"127.0.0.1:{panel.port}", "-reverb-app-key=other"]
    start_node(arguments=arguments)
    until = time.monotonic() + DEADLINE_SECS
    while not panel.paths:
        assert time.monotonic() < until, "the node does not come"
        time.sleep(0.01)
    assert panel.paths == ["/app/other"]


def test_a_traced_client_has_its_packets_in_the_log(node):
    place = urlsplit(node.http_url)
    wire = http.client.HTTPConnection(place.hostname, place.port, timeout=DEADLINE_SECS)

    def trace(minutes):
        body = json.dumps({"client": "traced", "minutes": minutes})
        headers = {"X-API-Key": KEY, "Content-Type": "application/json"}
        wire.request("PATCH", "/api/v1/logs/levels", body, headers)
        answer = wire.getresponse()
        assert answer.status == 200, answer.read()
        answer.read()

    trace(5)
    traced, other = Device(node, "traced"), Device(node, "other")
    traced.publish("t/traced", qos=1)
    other.publish("t/other", qos=1)
    node.wait_for_log("t/traced")
    node.wait_for_log("PUBACK")
    trace(0)
    traced.publish("t/later", qos=1)
    traced.disconnect()
    node.wait_for_log("client disconnected")
    log = node.log()
    assert "t/other" not in log and "t/later" not in log


def test_who_is_connected_is_published_retained_in_one_state_at_a_time(start_node):
    node = start_node(settings=["presence.publish=true"])
    watcher = Device(node, "watcher")
    watcher.subscribe("iotflow/devices/device/status/+", qos=1)

    def told():
        """State and payload of the next message."""
        body = watcher.receive(0x30)
        length = int.from_bytes(body[:2], "big")
        watcher.send(0x40, body[length + 2 : length + 4])
        return body[2 : length + 2].decode().rsplit("/", 1)[1], body[length + 4 :]

    device = Device(node, "device")
    assert told() == ("offline", b"")
    state, payload = told()
    online = json.loads(payload)
    assert (state, online["status"], online["reason"]) == ("online", "online", "")
    device.wire.close()
    assert told() == ("online", b"")
    state, payload = told()
    offline = json.loads(payload)
    assert (state, offline["status"]) == ("offline", "offline")
    assert offline["since"] >= online["since"] and offline["reason"]


def test_a_session_that_ends_with_many_messages_is_one_event_with_their_number(node):
    """Else one event for each message pushes all others out."""
    device = martlet_process.run("sub", "-p", str(node.port()), "-i", "sleeper", "-t", "q/#", "-q", "1", "-c", "-V", "5", "-x",
                                 "3600", "-E")
    assert device.returncode == 0, device.stderr
    started = [follow(node, *more) for more in ((), ("--each",))]
    for number in range(50):
        assert ask(node, "/api/v1/publish", "POST", {"X-API-Key": KEY, "Content-Type": "application/json"},
                   json.dumps({"topic": f"q/{number}", "payload": "x", "qos": 1}).encode())[0] < 300
    done = martlet_process.run("session", "rm", "sleeper", "--data-dir", node.data_dir)
    assert done.returncode == 0, done.stderr
    usual, each = (until_ended(process, "sleeper") for process in started)
    dropped = [event for event in usual if event["kind"].startswith("dropped")]
    assert len(dropped) == 1 and dropped[0]["count"] == 50 and dropped[0]["why"] and "topic" not in dropped[0], dropped
    assert len([event for event in each if event["kind"] == "dropped_message"]) == 50
    assert len([event for event in each if event["kind"] == "dropped"]) == 1
    # log.drops is off, whoever reads.
    assert "message dropped" not in node.log() and "messages dropped" not in node.log()


def follow(node, *more):
    """`martlet events`, once it reads."""
    process = subprocess.Popen([martlet_process.binary(), "events", "--json", "--data-dir", node.data_dir, *more],
                               stdout=subprocess.PIPE, text=True, env=martlet_process.environment())
    # It reads once it shows what has happened since.
    deadline = time.monotonic() + DEADLINE_SECS
    while select.select([process.stdout], [], [], 0.05)[0] == []:
        assert time.monotonic() < deadline
        Device(node, "probe").wire.close()
    return process


def until_ended(process, client_id):
    """Events until a session has ended."""
    events = []
    try:
        for line in process.stdout:
            events.append(json.loads(line))
            if events[-1]["kind"] == "session_ended" and events[-1]["client_id"] == client_id:
                return events
    finally:
        process.terminate()
        process.wait(DEADLINE_SECS)
    raise AssertionError(events)
