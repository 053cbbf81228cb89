"""Bytes that no client means well with, at every kind of listener and through every layer of it.

Whatever comes: each such connection ends by its deadline, who behaves at the same listener notices nothing, and the
node neither ends nor grows.
"""

import concurrent.futures
import contextlib
import functools
import os
import random
import resource
import selectors
import socket
import ssl
import struct
import time

import paho.mqtt.client as paho
import pytest

import martlet_process
from test_tls import Authority

DEADLINE_SECS = 60
CONNECT_TIMEOUT_SECS = 2
KEEP_ALIVE_SECS = 1
# On a busy machine.
MARGIN_SECS = 6
RANDOM_INPUTS = 30
SILENT = 2000
GROWTH_BYTES_MAX = 24 << 20
CONNECT = b"\x10\x0d\x00\x04MQTT\x04\x02\x00" + bytes([KEEP_ALIVE_SECS]) + b"\x00\x01h"
CONNECT_V5 = b"\x10\x0e\x00\x04MQTT\x05\x02\x00" + bytes([KEEP_ALIVE_SECS]) + b"\x00\x00\x01h"
UPGRADE = (b"GET /mqtt HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
           b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
           b"Sec-WebSocket-Protocol: mqtt\r\n")
# 2 ** 28 - 1, the longest that can be said.
LONGEST = b"\xff\xff\xff\x7f"
# Listener, and the layers that are made properly before the hostile bytes.
LISTENERS = [("mqtt", ()), ("ws", ()), ("ws", ("frames",)), ("mqtts", ()), ("mqtts", ("tls",)), ("wss", ()),
         ("wss", ("tls",)), ("wss", ("tls", "frames"))]


def frame(payload, first=0x82, masked=True):
    """A WebSocket frame; its mask is zeros."""
    length = len(payload)
    bit = 0x80 if masked else 0
    if length < 126:
        head = bytes([first, bit | length])
    elif length < 65536:
        head = bytes([first, bit | 126]) + struct.pack("!H", length)
    else:
        head = bytes([first, bit | 127]) + struct.pack("!Q", length)
    return head + (b"\0\0\0\0" if masked else b"") + payload


def client_hello():
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    connection = blind_trust().wrap_bio(incoming, outgoing, server_hostname="localhost")
    with contextlib.suppress(ssl.SSLWantReadError):
        connection.do_handshake()
    return outgoing.read()


def first_bytes():
    """What comes instead of a CONNECT, by name."""
    source = random.Random(0x6D71)
    inputs = {f"random {number}": source.randbytes(source.choice([1, 2, 10, 100, 5000]))
              for number in range(RANDOM_INPUTS)}
    hello = client_hello()
    inputs |= {
        "nothing": b"",
        "half a CONNECT": CONNECT[:7],
        "all but the last byte": CONNECT[:-1],
        "the longest CONNECT announced": b"\x10" + LONGEST,
        "the longest CONNECT begun": b"\x10" + LONGEST + CONNECT[2:],
        "a length that has no end": b"\x10" + b"\xff" * 100,
        "PUBLISH first": b"\x30" + LONGEST + b"\x00\x01t",
        "a string longer than its packet": b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x00\xff\xffh",
        "the longest protocol name": b"\x10\x0d\xff\xffMQTT\x04\x02\x00\x00\x00\x01h",
        "properties longer than their packet": b"\x10\x10\x00\x04MQTT\x05\x02\x00\x00" + LONGEST + b"\x00",
        "every type of packet": bytes(byte for first in range(0x20, 0x100, 0x10) for byte in (first, 0)),
        "HTTP": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "HTTP, and a body": b"POST /mqtt HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n" + b"x" * 10_000,
        "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(30),
        "half a header": UPGRADE[:60],
        "a header without end": UPGRADE + b"X: " + b"a" * 200_000,
        "headers without end": UPGRADE + b"X: a\r\n" * 20_000,
        "a target without end": b"GET /" + b"a" * 200_000,
        "TLS": hello,
        "half of TLS": hello[:50],
        "TLS of the longest record": b"\x16\x03\x01\xff\xff" + bytes(70_000),
        "TLS records of nothing": b"\x16\x03\x01\x00\x00" * 5000,
        "TLS alerts": b"\x15\x03\x03\x00\x02\x01\x00" * 100,
        "SSH": b"SSH-2.0-OpenSSH_9.2\r\n",
    }
    return inputs


def first_frames():
    """What comes after the upgrade, besides."""
    ping = frame(b"x" * 20, first=0x89)
    return {
        "a frame without mask": frame(CONNECT, masked=False),
        "a text frame": frame(CONNECT, first=0x81),
        "the longest frame": b"\x82\xff" + b"\x7f" + b"\xff" * 7 + bytes(4) + CONNECT,
        "a frame of a negative length": b"\x82\xff" + b"\xff" * 8 + bytes(4) + CONNECT,
        "reserved bits": frame(CONNECT, first=0xF2),
        "a reserved opcode": frame(CONNECT, first=0x83),
        "a Ping in pieces": frame(b"x", first=0x09),
        "a long Ping": frame(b"x" * 126, first=0x89),
        "a continuation of nothing": frame(CONNECT, first=0x80),
        "two beginnings": frame(CONNECT[:3], first=0x02) * 2,
        "frames of nothing": frame(b"", first=0x02) + frame(b"", first=0x00) * 10_000,
        "half a header of a frame": b"\x82",
        "half a frame": frame(CONNECT)[:-3],
        "only Pings": ping * 2000,
        "Close without a reason": frame(b"x", first=0x88),
        "a packet that is none in a frame that is one": frame(b"\x10" + LONGEST),
    }


def packets_after_connect():
    """What a client sends that was let in, by name; keep alive ends what waits."""
    source = random.Random(0x7474)
    packets = {f"random {number}": source.randbytes(2000) for number in range(10)}
    packets |= {
        "CONNECT again": CONNECT,
        "CONNACK": b"\x20\x02\x00\x00",
        "SUBACK": b"\x90\x03\x00\x01\x00",
        "PINGRESP": b"\xd0\x00",
        "type 0": b"\x00\x00",
        "PUBLISH of the longest length": b"\x32" + LONGEST + b"\x00\x01t" + bytes(1000),
        "PUBLISH of QoS 3": b"\x36\x05\x00\x01t\x00\x01",
        "PUBLISH to a wildcard": b"\x30\x04\x00\x01#x",
        "PUBLISH of half a megabyte that does not come": b"\x30\x80\x80\x20\x00\x01t",
        "SUBSCRIBE to nothing": b"\x82\x02\x00\x01",
        "SUBSCRIBE with Packet Identifier 0": b"\x82\x06\x00\x00\x00\x01t\x00",
        "a string that is not UTF-8": b"\x30\x04\x00\x02\xff\xfe",
        "PUBREL of flags 0": b"\x60\x02\x00\x01",
        "nothing": b"",
    }
    return packets


@functools.cache
def blind_trust():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


class Enemy:
    """A connection through some layers of a listener."""

    def __init__(self, node, scheme, layers, hello=b""):
        self.began = time.monotonic()
        self.socket = socket.create_connection(("127.0.0.1", node.port(scheme)), timeout=DEADLINE_SECS)
        self.frames = False
        if "tls" in layers:
            self.socket = blind_trust().wrap_socket(self.socket)
        if "frames" in layers:
            self.socket.sendall(UPGRADE + b"\r\n")
            answer = self.socket.recv(4096)
            assert b" 101 " in answer and answer.endswith(b"\r\n\r\n"), answer
            self.frames = True
        if hello:
            self.send(hello)
            assert self.socket.recv(100), "it was not let in"
            # The deadline of what follows counts anew.
            self.began = time.monotonic()

    def send(self, payload):
        """As data of the innermost layer."""
        self.send_raw(frame(payload) if self.frames and payload else payload)

    def send_raw(self, payload):
        # Who is refused early is cut off while it still sends.
        with contextlib.suppress(OSError):
            self.socket.sendall(payload)

    def drip(self, payload, every_secs=0.1):
        """Slower than the deadline would have it, until the end is seen."""
        self.socket.settimeout(every_secs)
        with contextlib.suppress(OSError):
            for byte in payload:
                self.socket.sendall(bytes([byte]))
                with contextlib.suppress(TimeoutError):
                    if not self.socket.recv(65536):
                        return

    def secs_until_end(self, limit):
        """How long the connection lasted, or longer than `limit`."""
        while True:
            left = self.began + limit - time.monotonic()
            if left <= 0:
                break
            self.socket.settimeout(left)
            try:
                if not self.socket.recv(65536):
                    break
            except TimeoutError:
                continue
            except OSError:
                break
        self.socket.close()
        return time.monotonic() - self.began


class Friend:
    """Paho's client at the same listener."""

    def __init__(self, node, scheme, authority):
        self.topic = f"friend/{scheme}"
        self.client = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id=f"friend-{scheme}",
                                  transport="websockets" if scheme.startswith("ws") else "tcp")
        self.client.ws_set_options("/mqtt")
        if scheme in ("mqtts", "wss"):
            self.client.tls_set(authority.certificate)
        self.arrived, self.lost = [], []
        self.client.on_connect = lambda *_: self.client.subscribe(self.topic, qos=1)
        self.client.on_subscribe = lambda *_: self.arrived.append(b"subscribed")
        self.client.on_message = lambda _client, _data, message: self.arrived.append(message.payload)
        self.client.on_disconnect = lambda _client, _data, _flags, reason, _properties: self.lost.append(reason)
        self.client.connect("localhost", node.port(scheme))
        self.client.loop_start()
        self.wait_for(b"subscribed")
        self.count = 0

    def wait_for(self, payload):
        deadline = time.monotonic() + DEADLINE_SECS
        while payload not in self.arrived:
            assert not self.lost, f"the friend was disconnected: {self.lost}"
            assert time.monotonic() < deadline, f"{payload!r} did not come"
            time.sleep(0.002)

    def talks(self):
        self.count += 1
        payload = str(self.count).encode()
        self.client.publish(self.topic, payload, qos=1)
        self.wait_for(payload)

    def talks_until(self, work):
        while not work.done():
            self.talks()
            concurrent.futures.wait([work], timeout=0.1)
        self.talks()
        assert not self.lost
        return work.result()

    def close(self):
        self.client.disconnect()
        self.client.loop_stop()


def resident_bytes(node):
    with open(f"/proc/{node.process.pid}/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("hostile") / "ca")


@pytest.fixture(scope="module")
def besieged(authority):
    """A node with a listener of each kind, which is to outlive all."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4 * SILENT), hard))
    certificate, key = authority.sign("server", key="ec_paramgen_curve:P-256")
    settings = [f"tls.certificate={certificate}", f"tls.key={key}", "log.level=error",
                f"limits.connect_timeout_secs={CONNECT_TIMEOUT_SECS}"]
    listen = ("mqtt://127.0.0.1:0", "ws://127.0.0.1:0/mqtt", "mqtts://127.0.0.1:0", "wss://127.0.0.1:0/mqtt")
    with martlet_process.Node(settings=settings, listen=listen) as node:
        yield node
        assert node.process.poll() is None, f"the node ended:\n{node.log()}"
        assert "panicked" not in node.log(), node.log()
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def friend(besieged, authority, request):
    one = Friend(besieged, request.getfixturevalue("scheme"), authority)
    yield one
    one.close()


def at_once(work, inputs):
    """Does all of them, each in a thread of its own; what each gave."""
    with concurrent.futures.ThreadPoolExecutor(len(inputs)) as pool:
        return dict(zip(inputs, pool.map(work, inputs.items())))


def all_end(friend, work, inputs, limit_secs):
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        lasted = friend.talks_until(pool.submit(at_once, work, inputs))
    late = {name: secs for name, secs in lasted.items() if secs > limit_secs}
    assert not late, f"ended too late: {late}"
    return lasted


@pytest.mark.parametrize("scheme, layers", LISTENERS, ids=["-".join([scheme, *layers]) for scheme, layers in LISTENERS])
def test_what_is_no_connect_ends_by_its_deadline(besieged, friend, scheme, layers):
    limit = CONNECT_TIMEOUT_SECS + MARGIN_SECS

    def attack(named):
        name, payload = named
        enemy = Enemy(besieged, scheme, layers)
        if name == "a drip":
            enemy.drip(payload)
        else:
            enemy.send_raw(payload)
        return enemy.secs_until_end(limit)

    inputs = first_bytes() | first_frames()
    if "frames" in layers:
        inputs |= {f"{name}, in a frame": frame(payload) for name, payload in first_bytes().items()}
        inputs["a drip"] = frame(bytes(90))
    else:
        inputs["a drip"] = {"mqtt": CONNECT + bytes(90), "mqtts": client_hello()}.get(scheme, UPGRADE + bytes(90))
    all_end(friend, attack, inputs, limit)
    before = resident_bytes(besieged)
    all_end(friend, attack, inputs, limit)
    assert resident_bytes(besieged) - before < GROWTH_BYTES_MAX


@pytest.mark.parametrize("connect", [CONNECT, CONNECT_V5], ids=["v3.1.1", "v5"])
@pytest.mark.parametrize("scheme, layers", [("mqtt", ()), ("ws", ("frames",)), ("mqtts", ("tls",)),
                                            ("wss", ("tls", "frames"))], ids=["mqtt", "ws", "mqtts", "wss"])
def test_who_was_let_in_and_breaks_the_protocol_is_ended(besieged, friend, scheme, layers, connect):
    limit = 1.5 * KEEP_ALIVE_SECS + MARGIN_SECS
    packets = packets_after_connect()
    numbers = {name: f"{number:02}".encode() for number, name in enumerate(packets)}

    def attack(named):
        name, payload = named
        # A Client Identifier of its own.
        own = connect[:1] + bytes([connect[1] + 1]) + connect[2:-2] + b"\x02" + numbers[name]
        enemy = Enemy(besieged, scheme, layers, hello=own)
        enemy.send(payload)
        return enemy.secs_until_end(limit)

    all_end(friend, attack, packets, limit)


@pytest.mark.parametrize("scheme", ["mqtt", "ws", "mqtts", "wss"])
@pytest.mark.long
def test_thousands_who_do_not_go_on_are_ended_and_leave_nothing_behind(besieged, friend, scheme):
    half = {"mqtt": CONNECT[:9], "ws": UPGRADE, "mqtts": client_hello()[:-1], "wss": client_hello()[:-1]}[scheme]
    after = []
    for says in (half, b""):
        began = time.monotonic()
        with contextlib.ExitStack() as opened, selectors.DefaultSelector() as selector:
            for _ in range(SILENT):
                one = opened.enter_context(socket.create_connection(("127.0.0.1", besieged.port(scheme)), DEADLINE_SECS))
                one.sendall(says)
                one.setblocking(False)
                selector.register(one, selectors.EVENT_READ)
            friend.talks()
            limit = time.monotonic() + CONNECT_TIMEOUT_SECS + MARGIN_SECS
            while selector.get_map():
                assert time.monotonic() < limit, f"{len(selector.get_map())} are still connected"
                for key, _ in selector.select(0.2):
                    try:
                        ended = not key.fileobj.recv(4096)
                    except ConnectionError:
                        ended = True
                    if ended:
                        selector.unregister(key.fileobj)
                friend.talks()
        assert time.monotonic() - began > CONNECT_TIMEOUT_SECS, "they were ended before their deadline"
        after.append(resident_bytes(besieged))
    assert after[1] - after[0] < GROWTH_BYTES_MAX, f"it has grown: {after}"
