"""What clients can make a node hold stays within `limits.memory_bytes`.

Each test adds one thing without end, with clients that keep the protocol's rules, and watches the
process: it may take 64 MB beside the limit and what a fresh node takes. Packets are written by hand,
since no client library is made to open thousands of connections.
"""

import contextlib
import http.client
import itertools
import json
import pathlib
import re
import select
import socket
import ssl
import struct
from urllib.parse import urlsplit

import pytest

import martlet_process
from martlet_process import Node
from test_access import until
from test_tls import authority  # noqa: F401  (a fixture)

KEY = "0123456789abcdef0123456789abcdef"
MB = 1024 * 1024
LIMIT = 48 * MB
BESIDE = 64 * MB
# Of what takes few bytes at a time.
TIMES = 20_000 if martlet_process.IS_LONG else 3_000
# At most so many connections stay open: this process may have few files open itself (`ulimit -n`).
HELD = 2000


def resident(node):
    status = pathlib.Path(f"/proc/{node.process.pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) * 1024


def text(value):
    data = value.encode() if isinstance(value, str) else value
    return struct.pack(">H", len(data)) + data


def packet(first, body):
    length, digits = len(body), b""
    while True:
        length, digit = divmod(length, 128)
        digits += bytes([digit | (0x80 if length else 0)])
        if not length:
            return bytes([first]) + digits + body


def connect(client_id, will=None, expiry=3600, will_delay=3600, will_topic="will"):
    """A CONNECT of MQTT 5 whose session lasts; its Will is retained unless it is due late."""
    flags = (0x04 if will_delay else 0x24) if will else 0
    body = text("MQTT") + bytes([5, flags]) + struct.pack(">H", 0)
    body += bytes([5, 0x11]) + struct.pack(">I", expiry) + text(client_id)
    if will:
        body += bytes([5, 0x18]) + struct.pack(">I", will_delay) + text(will_topic) + text(will)
    return packet(0x10, body)


def subscribe(filters, qos=0):
    return packet(0x82, struct.pack(">H", 1) + b"\0" + b"".join(text(f) + bytes([qos]) for f in filters))


def publish(topic, payload, qos=0, packet_id=1):
    head = text(topic) + (struct.pack(">H", packet_id) if qos else b"") + b"\0"
    return packet(0x30 | qos << 1, head + payload)


def opened(node):
    sock = socket.create_connection(("127.0.0.1", node.port()), timeout=60)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def connack(sock):
    """The reason code of the CONNACK; None if the node closed without one."""
    data = b""
    while len(data) < 4:
        with contextlib.suppress(ConnectionError):
            more = sock.recv(4096)
            if more:
                data += more
                continue
        return None
    return data[3]


def sessions(node, number):
    """A session with a subscription; its client leaves."""
    with opened(node) as sock:
        sock.sendall(connect(f"session-{number}"))
        if connack(sock) == 0:
            sock.sendall(subscribe([f"topic/{number}/+"], 1))
            sock.recv(4096)


def filters(node, number):
    """A client with as many long filters as it may have."""
    with opened(node) as sock:
        sock.sendall(connect(f"filters-{number}"))
        if connack(sock) == 0:
            for part in range(3):
                names = [f"{number}/{part}/{index}/" + "f" * 60_000 for index in range(12)]
                # A client that asks for that much may be disconnected.
                with contextlib.suppress(ConnectionError):
                    sock.sendall(subscribe(names))
                    sock.recv(4096)


def wills(node, number):
    """A client with a Will of 31 KB, which is due in an hour."""
    with opened(node) as sock:
        sock.sendall(connect(f"will-{number}", will=b"w" * 31_000))
        connack(sock)


def hasty_wills(node, number):
    """Clients with a Will of 31 KB that do not wait for an answer; it is due, and retained, when they have gone."""
    with contextlib.ExitStack() as socks:
        for part in range(300):
            sock = socks.enter_context(opened(node))
            name, topic = f"hasty-{number}-{part}", f"wills/{part % 100}"
            sock.sendall(connect(name, will=b"w" * 31_000, will_delay=0, will_topic=topic))


def comers(node, number):
    """A client that comes and goes, and leaves no session behind."""
    with opened(node) as sock:
        sock.sendall(connect(f"comer-{number}-" + "c" * 200, expiry=0))
        connack(sock)


def messages(node, number):
    """A session whose client has gone, and a hundred messages of 20 KB for it: what waits in the pool."""
    with opened(node) as sock:
        sock.sendall(connect(f"keeper-{number}"))
        if connack(sock) == 0:
            sock.sendall(subscribe([f"m/{number}"], 1))
            sock.recv(4096)
    with opened(node) as sock:
        sock.sendall(connect("publisher", expiry=0))
        if connack(sock) == 0:
            for packet_id in range(1, 101):
                with contextlib.suppress(ConnectionError):
                    sock.sendall(publish(f"m/{number}", bytes([number % 256]) * 20_000, 1, packet_id))
                    sock.recv(64)


def retained(node, number):
    """A retained message of 60 KB on a topic of its own."""
    with opened(node) as sock:
        sock.sendall(connect("publisher", expiry=0))
        if connack(sock) == 0:
            for part in range(10):
                with contextlib.suppress(ConnectionError):
                    sock.sendall(packet(0x33, text(f"r/{number}/{part}") + b"\0\1\0" + b"r" * 60_000))
                    sock.recv(64)


def begun(node, head, body):
    """A request whose body does not end, from one of 100 addresses; its connection stays open."""
    place = urlsplit(node.http_url)
    source = (f"127.0.1.{len(node.held) % 100 + 1}", 0)
    wire = socket.create_connection((place.hostname, place.port), timeout=5, source_address=source)
    try:
        wire.sendall(head.format(host=place.netloc).encode() + body)
    except ConnectionError:
        # Who is refused may be so before all was sent.
        wire.close()
        return
    except TimeoutError:
        pass  # who finds no room waits
    node.held.append(wire)


def bodies(node, number):
    """A body of chunks of one byte, of a caller without credentials."""
    begun(node, "POST /api/v1/session HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
          "Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n" * 60_000)


def long_bodies(node, number):
    """The same of 1 MB, of a caller who may send it."""
    begun(node, "POST /api/v1/publish HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
          f"X-API-Key: {KEY}\r\nContent-Length: {MB}\r\n\r\n", b'{"topic": "t", "payload": "' + b"x" * (MB - 100))


def outputs(node, number):
    """A client that is sent much and reads none of it."""
    sock = opened(node)
    node.held.append(sock)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.sendall(connect(f"deaf-{number}", expiry=0))
    sock.recv(64)
    sock.sendall(subscribe(["load"], number % 2))
    sock.recv(16)
    with opened(node) as load:
        load.sendall(connect("load", expiry=0))
        if connack(load) == 0:
            for packet_id in range(1, 11):
                load.sendall(publish("load", b"x" * 8_000, 1, packet_id))
                load.recv(64)


# Of each kind that takes memory, something, with the bytes that it adds; 0: few bytes, many times.
ADDED = [(sessions, 0), (comers, 0), (filters, 2_160_000), (wills, 31_000), (hasty_wills, 9_300_000), (outputs, 80_000),
         (bodies, 360_000), (long_bodies, MB), (messages, 2_000_000), (retained, 600_000)]
# And without a store, where all of it is in memory.
IN_MEMORY = [(filters, 2_160_000), (wills, 31_000), (hasty_wills, 9_300_000), (messages, 2_000_000), (retained, 600_000)]
CASES = [("sync", *case) for case in ADDED] + [("memory", *case) for case in IN_MEMORY]


@pytest.mark.parametrize("durability, add, size", CASES, ids=[f"{add.__name__}-{durability}" for durability, add, _ in CASES])
def test_what_is_added_without_end_stays_within_the_limit(durability, add, size):
    settings = [f"limits.memory_bytes={LIMIT}", f"store.durability={durability}", "http.rate=0"]
    variables = {"MARTLET_HTTP__API_KEYS": f"all:{KEY}"}
    with Node(settings, http=True, variables=variables) as node, contextlib.ExitStack() as ends:
        node.held = []
        ends.callback(lambda: [wire.close() for wire in node.held])
        bound = resident(node) + LIMIT + BESIDE
        most, added = 0, 0
        for number in itertools.count():
            add(node, number)
            # Each message goes to all that have come so far.
            added += size * (number + 1 if add is outputs else 1)
            if number % 10 == 0 or add is hasty_wills:
                most = max(most, resident(node))
                if added > bound if size else number >= TIMES or len(node.held) >= HELD:
                    break
        assert most < bound, f"{most / MB:.0f} MB of {bound / MB:.0f} after {number}"
        # Who adds nothing is served.
        with opened(node) as sock:
            sock.sendall(connect("session-0" if add is sessions else "other", expiry=0))
            assert connack(sock) is not None


def unfinished_connect():
    """All but the end of a CONNECT of 31 KB."""
    return connect("c", will=b"w" * 31_000)[:30_000]


def unfinished_upgrade():
    """All but the end of the request that opens a WebSocket connection."""
    return b"GET /mqtt HTTP/1.1\r\nHost: a\r\nX-Long: " + b"x" * 7_000


def unfinished_hello():
    """All but the end of a ClientHello of 16 KB."""
    return b"\x16\x03\x01\x40\x00\x01\x00\x3f\xfc\x03\x03" + b"h" * 16_000


UNFINISHED = [("mqtt", unfinished_connect, 4_000), ("ws", unfinished_upgrade, 18_000), ("mqtts", unfinished_hello, 12_000)]


@pytest.mark.parametrize("scheme,make,count", UNFINISHED, ids=[scheme for scheme, _, _ in UNFINISHED])
def test_who_does_not_log_in_takes_no_memory_from_those_who_do(scheme, make, count, authority):
    """Thousands send the beginning of what comes before a login; all others are served."""
    certificate, key = authority.sign("server")
    tls = [f"tls.certificate={certificate}", f"tls.key={key}"]
    listen = ("mqtt://127.0.0.1:0", f"{scheme}://127.0.0.1:0" + ("/mqtt" if scheme == "ws" else ""))
    with Node([f"limits.memory_bytes={LIMIT}", *tls], listen=listen) as node, contextlib.ExitStack() as ends:
        bound = resident(node) + LIMIT + BESIDE
        client = ends.enter_context(opened(node))
        client.sendall(connect("client", expiry=0))
        assert connack(client) == 0
        begun, most = make(), 0
        for number in range(1, count + 1):
            sock = ends.enter_context(socket.create_connection(("127.0.0.1", node.port(scheme)), timeout=60))
            # Who is shown out meanwhile may be so before all was sent.
            with contextlib.suppress(ConnectionError):
                sock.sendall(begun)
            if number % 100 == 0:
                most = max(most, resident(node))
                client.sendall(publish("t", b"x", 1, packet_id=number))
                answer = client.recv(64)
                assert len(answer) <= 4 or answer[4] < 0x80, f"refused after {number}"
                with opened(node) as other:
                    other.sendall(connect("other", expiry=0))
                    assert connack(other) == 0, f"refused after {number}"
        assert most < bound, f"{most / MB:.0f} MB of {bound / MB:.0f}"


def test_those_who_shake_hands_and_wait_do_not_keep_new_clients_out(authority):
    """More TLS connections than the memory of those who have not logged in has room for."""
    certificate, key = authority.sign("server")
    settings = [f"limits.memory_bytes={LIMIT}", "limits.connect_timeout_secs=120"]
    settings += [f"tls.certificate={certificate}", f"tls.key={key}"]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with Node(settings, listen=("mqtts://127.0.0.1:0",)) as node, contextlib.ExitStack() as ends:

        def shaken():
            sock = socket.create_connection(("127.0.0.1", node.port("mqtts")), timeout=60)
            return context.wrap_socket(sock)

        for _ in range(1500):
            ends.enter_context(shaken())
        for number in range(20):
            with shaken() as client:
                client.sendall(connect(f"client-{number}", expiry=0))
                assert connack(client) == 0, f"client {number}"


def test_names_of_messages_that_were_dropped_are_not_remembered_whole():
    """Thousands of drops are remembered, and a Topic Name may have 64 KiB."""
    settings = ["limits.queued_messages=1", "log.drops=true", "store.durability=memory"]
    with Node([f"limits.memory_bytes={LIMIT}", *settings]) as node:
        with opened(node) as sock:
            sock.sendall(connect("absent"))
            assert connack(sock) == 0
            sock.sendall(subscribe(["#"], 1))
            sock.recv(16)
        bound = resident(node) + LIMIT + BESIDE
        with opened(node) as sock:
            sock.sendall(connect("load", expiry=0))
            assert connack(sock) == 0
            for number in range(1, 4000):
                sock.sendall(publish(f"{number}/" + "t" * 60_000, b"", 1, packet_id=number))
                sock.recv(64)
        most = resident(node)
        assert most < bound, f"{most / MB:.0f} MB of {bound / MB:.0f}"


def test_bodies_of_requests_count_and_leave_room_for_who_publishes():
    """Bodies that never end, of a caller who may send them, beside a small limit."""
    limit, count = 16 * MB, 40
    variables = {"MARTLET_HTTP__API_KEYS": f"all:{KEY}"}
    settings = [f"limits.memory_bytes={limit}", "http.rate=0"]
    with Node(settings, http=True, variables=variables) as node, contextlib.ExitStack() as opened_here:
        place = urlsplit(node.http_url)
        body = b'{"topic": "t", "payload": "' + b"x" * (MB - 100)

        def begin():
            sock = opened_here.enter_context(socket.create_connection((place.hostname, place.port), timeout=60))
            head = f"POST /api/v1/publish HTTP/1.1\r\nHost: {place.netloc}\r\nX-API-Key: {KEY}\r\n"
            head += f"Content-Type: application/json\r\nContent-Length: {len(body) + 2}\r\n\r\n"
            # Who is refused may be so before all was sent.
            with contextlib.suppress(ConnectionError):
                sock.sendall(head.encode() + body)
            return sock

        senders = [begin() for _ in range(count)]
        answered = lambda: select.select(senders, [], [], 0.1)[0]
        until(lambda: len(answered()) >= count - limit // MB, "what is beyond the limit is refused")
        refused = answered()
        waiting = [sock for sock in senders if sock not in refused]
        assert waiting, "some found room"

        def status_line(sock):
            # What a client still sends when it is refused may reset the connection before it reads.
            with contextlib.suppress(ConnectionError):
                return sock.recv(4096)[:20]
            return b""

        assert any(b" 503 " in status_line(sock) for sock in refused)
        with opened(node) as sock:
            # What the bodies hold is missing elsewhere: a new client may be refused, and is answered.
            sock.sendall(connect("other", expiry=0))
            assert connack(sock) is not None
        # Who operates the node is answered with however little memory.
        def small():
            wire = http.client.HTTPConnection(place.hostname, place.port, timeout=60)
            with contextlib.closing(wire):
                headers = {"X-API-Key": KEY, "Content-Type": "application/json"}
                wire.request("POST", "/api/v1/keys", json.dumps({"name": "k", "scopes": ["viewer"]}), headers)
                return wire.getresponse().status
        assert small() == 201
        # What ends gives its memory back.
        for sock in waiting:
            with contextlib.suppress(ConnectionError):
                sock.sendall(b'"}')
        assert any(b" 200 " in status_line(sock) for sock in waiting)
        for sock in senders:
            sock.close()

        def is_served():
            with opened(node) as sock:
                sock.sendall(connect("later", expiry=0))
                return connack(sock) == 0
        until(is_served, "memory is back")


class WebSocket(socket.socket):
    """A client's end of a WebSocket connection that is open; what is sent goes into frames."""

    def __init__(self, node):
        super().__init__()
        self.settimeout(10)
        self.connect(("127.0.0.1", node.port("ws")))
        request = "GET /mqtt HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        request += "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
        super().sendall((request + "Sec-WebSocket-Protocol: mqtt\r\n\r\n").encode())
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += self.recv(1)

    def sendall(self, data):
        assert len(data) < 126
        super().sendall(bytes([0x82, 0x80 | len(data)]) + bytes(4) + data)


@pytest.mark.parametrize("deaf_end", [opened, WebSocket], ids=["tcp", "websocket"])
def test_clients_that_never_read_do_not_keep_others_from_publishing(deaf_end):
    """300 subscribers that never read; a publisher of QoS 1 is served all the while."""
    with Node([f"limits.memory_bytes={LIMIT}"], listen=("mqtt://127.0.0.1:0", "ws://127.0.0.1:0/mqtt")) as node:
        bound = resident(node) + LIMIT + BESIDE
        deaf = []
        for number in range(300):
            sock = deaf_end(node)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.sendall(connect(f"deaf-{number}", expiry=0))
            assert sock.recv(64)
            sock.sendall(subscribe(["load"], number % 2))
            sock.recv(16)
            deaf.append(sock)
        load, quiet = opened(node), opened(node)
        for name, sock in (("load", load), ("quiet", quiet)):
            sock.sendall(connect(name, expiry=0))
            assert connack(sock) == 0
        most, codes = 0, []
        load.settimeout(20)
        for number in range(1, 1500):
            qos = number % 2
            load.sendall(publish("load", b"x" * 8000, qos, packet_id=number))
            if qos:
                load.recv(64)
            if number % 10 == 0:
                quiet.sendall(publish("quiet/topic", b"here", qos=1, packet_id=number))
                answer = quiet.recv(64)
                # PUBACK: none has an error; nobody is subscribed (0x10).
                codes.append(answer[4] if len(answer) > 4 else 0)
                most = max(most, resident(node))
        refused = [code for code in codes if code >= 0x80]
        assert not refused, f"{len(refused)} of {len(codes)} were refused"
        assert most < bound, f"{most / MB:.0f} MB of {bound / MB:.0f}"
        for sock in (load, quiet, *deaf):
            sock.close()
