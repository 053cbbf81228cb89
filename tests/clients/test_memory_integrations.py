"""What other systems send to integrations is bounded, counted and shown.

Each test is another system that sends without end, and looks at the process, as `test_memory` does
for what clients send. What is not acknowledged comes again: nothing is lost.
"""

import base64
import collections
import contextlib
import hashlib
import re
import socket
import struct
import threading
import time

import pytest

import nats_process
from martlet_process import Node
from paho_client import Client
from test_bridges import packets
from test_http_api import KEY, KEYS
from test_http_registry import call
from test_memory import BESIDE, LIMIT, MB, packet, resident, text
from test_memory_outside import held
from test_sinks import until

ALLOWED = '[integrations]\nallow_private = ["127.0.0.0/8"]\n\n'


def old_publish(topic, payload, packet_id, flags):
    """A PUBLISH of MQTT 3.1.1 with QoS 1."""
    return packet(0x32 | flags, text(topic) + struct.pack(">H", packet_id) + payload)


class Peer:
    """Another system. `serve` has each of its connections, on a thread of its own."""

    def __init__(self, serve):
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=100)
        self.port, self.serve = self.listener.getsockname()[1], serve
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                wire, _ = self.listener.accept()
                threading.Thread(target=self.run, args=(wire,), daemon=True).start()

    def run(self, wire):
        with contextlib.suppress(OSError), wire:
            self.serve(wire)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.close()


def most_of(node, secs):
    """The most that the process takes in this time."""
    most, end = 0, time.monotonic() + secs
    while time.monotonic() < end:
        most = max(most, resident(node))
        time.sleep(0.05)
    return most


def of_file(tmp_path, sinks, **more):
    (tmp_path / "node.toml").write_text(ALLOWED + sinks)
    settings = [f"limits.memory_bytes={LIMIT}", "http.rate=0"]
    return Node(settings, http=True, variables=KEYS, arguments=("-c", str(tmp_path / "node.toml")), **more)


def test_bridges_whose_brokers_send_without_end_hold_a_part_of_the_memory(tmp_path):
    """The node takes no more retained messages at some point; the brokers send on, and acknowledge nothing."""
    begin = threading.Event()

    def flood(wire):
        wire.recv(4096)
        wire.sendall(b"\x20\x02\x00\x00")
        begin.wait(60)
        for number in range(1 << 30):
            wire.sendall(old_publish(f"in/{number % 30_000}", b"z" * 5_000, 1 + number % 60_000, 1))

    with Peer(flood) as peer:
        bridges = "".join(
            f'[[bridges]]\nname = "b{number}"\nurl = "mqtt://127.0.0.1:{peer.port}"\nprotocol = "3.1.1"\n'
            'try_private = false\ntopics = ["s/# out 1", "in/# in 1"]\n' for number in range(4))
        with of_file(tmp_path, bridges) as node, Client(node, "here") as here:
            # Acknowledgements are waited for all the time.
            here.publish("s/1", "out", qos=1)
            bound = resident(node) + LIMIT + BESIDE
            begin.set()
            most = most_of(node, 12)
            assert most < bound, f"{most / MB:.0f} MB of {bound / MB:.0f}"
            assert MB < held(node)["integrations"] < LIMIT // 8 + 2 * MB
            # Clients are served.
            here.subscribe("own", qos=1)
            here.publish("own", "x", qos=1)
            assert here.receive().topic == "own"


# What another broker may send at any time, and what the node answers to it.
UNASKED = {"PUBREL": b"\x62\x02\x00\x01", "PUBREC": b"\x50\x02\x00\x01", "PINGRESP": b"\xd0\x00"}


@pytest.mark.parametrize("unasked", UNASKED.values(), ids=UNASKED)
def test_a_broker_that_sends_packets_without_end_and_reads_nothing_takes_no_memory(tmp_path, unasked):
    begin, sent = threading.Event(), [0]

    def flood(wire):
        wire.recv(4096)
        wire.sendall(b"\x20\x02\x00\x00")
        begin.wait(60)
        while sent[0] < 400 * MB:
            wire.sendall(unasked * 20_000)
            sent[0] += len(unasked) * 20_000

    with Peer(flood) as peer:
        bridge = (f'[[bridges]]\nname = "up"\nurl = "mqtt://127.0.0.1:{peer.port}"\nprotocol = "3.1.1"\n'
                  'try_private = false\ntopics = ["s/# out 1", "in/# in 2"]\n')
        with of_file(tmp_path, bridge) as node, Client(node, "here") as here:
            until(lambda: "the bridge is connected" in node.log(), node.log)
            before = resident(node)
            begin.set()
            until(lambda: "the bridge is not connected" in node.log(), node.log)
            most = resident(node) - before
            assert most < 40 * MB and sent[0] < 100 * MB, (most, sent)
            here.subscribe("own", qos=1)
            here.publish("own", "x", qos=1)
            assert here.receive().topic == "own"


class Resuming:
    """A broker of MQTT 3.1.1. It sends all that is not acknowledged, and its acknowledgements behind that."""

    def __init__(self, count, payload):
        self.left = {number: payload for number in range(1, count + 1)}
        self.got, self.connections, self.begin = [], 0, threading.Event()

    def serve(self, wire):
        self.connections += 1
        lock, is_again = threading.Lock(), self.connections > 1
        answers = []

        def send():
            with contextlib.suppress(OSError):
                self.begin.wait(60)
                for number, payload in sorted(list(self.left.items())):
                    with lock:
                        wire.sendall(old_publish("x/in", b"%05d" % number + payload, number, 8 * is_again))
                while True:
                    while answers:
                        with lock:
                            wire.sendall(answers.pop(0))
                    time.sleep(0.01)

        with wire.makefile("rb") as stream:
            for kind, body in packets(stream):
                if kind == 1:
                    wire.sendall(b"\x20\x02\x01\x00" if is_again else b"\x20\x02\x00\x00")
                elif kind == 8:
                    wire.sendall(b"\x90\x03" + body[:2] + b"\x01")
                    threading.Thread(target=send, daemon=True).start()
                elif kind == 12:
                    with lock:
                        wire.sendall(b"\xd0\x00")
                elif kind == 4:
                    self.left.pop(int.from_bytes(body[:2], "big"), None)
                elif kind == 3:
                    at = 2 + int.from_bytes(body[:2], "big")
                    self.got.append(body[at + 2:])
                    answers.append(b"\x40\x02" + body[at:at + 2])
                if is_again and kind == 1:
                    # The session has the subscription.
                    threading.Thread(target=send, daemon=True).start()


def test_acknowledgements_are_read_behind_messages_for_which_there_is_no_memory(tmp_path):
    """The node takes what comes in when the queue of the bridge has room, for which acknowledgements are needed: they
    stand behind more than the bridge may hold. No message is lost."""
    there = Resuming(300, b"z" * 100_000)
    with Peer(there.serve) as peer:
        bridge = (f'[[bridges]]\nname = "up"\nurl = "mqtt://127.0.0.1:{peer.port}"\nprotocol = "3.1.1"\n'
                  'try_private = false\nnotifications = false\ntopics = ["x/# both 1"]\nin_flight = 1\n'
                  'on_full = "hold"\nmax_bytes = 20000\nreconnect_max_secs = 1\n')
        with of_file(tmp_path, bridge) as node, Client(node, "reader") as reader, Client(node, "here") as here:
            reader.subscribe("x/in", qos=1)
            sent = []

            def publish():
                while not there.begin.is_set():
                    sent.append(here.client.publish("x/out", bytes(5000), 1))
                    sent[-1].wait_for_publish(120)

            threading.Thread(target=publish, daemon=True).start()
            warnings = lambda: call(node, "GET", "/api/v1/health", key=KEY)["warnings"]
            until(lambda: any("clients that publish for it wait" in one for one in warnings()), node.log)
            there.begin.set()
            call(node, "POST", "/api/v1/integrations/bridge/up/resume", key=KEY)
            told = lambda: [len(there.left), len(there.got), len(sent), there.connections, node.log()[-3000:]]
            until(lambda: not there.left, told, timeout=90)
            # QoS 1: a message whose acknowledgement was lost with the connection comes again.
            missing = set(range(1, 301))
            try:
                while missing:
                    missing.discard(int(reader.receive().payload[:5]))
            except AssertionError as error:
                raise AssertionError([sorted(missing), *told()]) from error
            until(lambda: all(one.is_published() for one in sent), told, timeout=60)
            until(lambda: held(node)["integrations"] < MB, lambda: held(node))


NATS_INFO = (b'INFO {"server_id":"x","version":"2.10.0","proto":1,"max_payload":%d,"headers":true,"jetstream":true}\r\n')
ENDLESS = {
    "info": (b"INFO {", "it sends a line of more than"),
    "error": (b"-ERR '", "it sends a line of more than"),
    "message": (b"MSG a 1 999999999999\r\n", "it sends a message of 999999999999 bytes"),
    "headers": (b"HMSG a 1 12 999999999999\r\nNATS/1.0\r\n\r\n", "it sends a message of 999999999999 bytes"),
}


def nats_sink(port):
    return (f'[[sinks.nats]]\nname = "up"\nfilters = ["s/#"]\nurl = "nats://127.0.0.1:{port}"\n'
            'subject = "s.x"\nstream = "S"\ncreate_stream = false\n')


@pytest.mark.parametrize("begin, why", ENDLESS.values(), ids=ENDLESS)
def test_a_nats_server_whose_line_or_message_does_not_end_is_cut_off(tmp_path, begin, why):
    sent, all_sent = [0], threading.Event()

    def serve(wire):
        wire.sendall(NATS_INFO % (1 << 20))
        heard = b""
        while b"PING\r\n" not in heard:
            more = wire.recv(65536)
            if not more:
                return
            heard += more
        wire.sendall(b"PONG\r\n")
        wire.recv(65536)
        wire.sendall(begin)
        while sent[0] < 300 * MB:
            sent[0] += wire.send(b"A" * 65536)
        all_sent.set()

    with Peer(serve) as peer, of_file(tmp_path, nats_sink(peer.port)) as node, Client(node, "here") as here:
        bound = resident(node) + LIMIT + BESIDE
        here.publish("s/1", "out", qos=1)
        told = lambda: call(node, "GET", "/api/v1/integrations/nats/up", key=KEY)
        until(lambda: why in node.log(), lambda: [sent, told(), node.log()])
        assert most_of(node, 2) < bound and not all_sent.is_set()


def test_a_nats_server_that_permits_too_long_messages_is_not_used(tmp_path):
    with Peer(lambda wire: (wire.sendall(NATS_INFO % (1 << 30)), wire.recv(65536))) as peer:
        with of_file(tmp_path, nats_sink(peer.port)) as node, Client(node, "here") as here:
            here.publish("s/1", "out", qos=1)
            why = "its max_payload is 1073741824, expected 67108864 at most"
            until(lambda: why in node.log(), node.log)


def test_requests_that_wait_for_responses_hold_a_part_of_the_memory(tmp_path):
    """Long requests for a client that does not respond. Those for which there is no memory are answered at once."""
    nats = nats_process.Server()
    source = f'[[sources.nats-requests]]\nname = "ask"\nurl = "{nats.url}"\ntimeout_secs = 30\nqos = 0\n'
    with contextlib.closing(nats), of_file(tmp_path, source) as node, Client(node, "pump-7") as client:
        until(lambda: call(node, "GET", "/api/v1/integrations/nats-requests/ask", key=KEY)["state"] == "running", node.log)
        client.subscribe("d/pump-7/request", qos=0)
        bound = resident(node) + LIMIT + BESIDE
        asks = nats_process.Client(nats)
        for number in range(100):
            asks.send(b"PUB martlet.request.pump-7 %s %d\r\n%s\r\n" % (asks.inbox.encode(), 900_000, b"x" * 900_000))
        codes = collections.Counter(
            asks.message(b"1")[1].get("Nats-Service-Error", "") for _ in range(90))
        assert any("too much memory" in why for why in codes), codes
        assert resident(node) < bound
        assert held(node)["integrations"] < LIMIT // 8


PINGS = (b"\x89\x7d" + b"p" * 125) * 8_000
PINGS_BYTES = 150 * MB


def test_a_push_server_that_pings_and_reads_nothing_takes_no_memory():
    """Little of what it sends is read; of the Pongs that it does not take the node keeps a few."""
    begin, sent, looked = (threading.Event() for _ in range(3))

    def flood(wire):
        key = re.search(rb"(?i)sec-websocket-key: (\S+)", wire.recv(4096))[1]
        accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
        wire.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                     b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n")
        begin.wait(60)
        wire.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            for _ in range(PINGS_BYTES // len(PINGS)):
                wire.sendall(PINGS)
        sent.set()
        # The connection stays open until the node has been looked at.
        looked.wait(60)

    with Peer(flood) as peer, Node([f"events.push_url=ws://127.0.0.1:{peer.port}/app/k"]) as node:
        before = resident(node)
        begin.set()
        assert sent.wait(60)
        most = resident(node) - before
        looked.set()
        assert most < 40 * MB, f"{most / MB:.0f} MB"
