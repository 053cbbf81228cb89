"""Memory that no client gives back: what fills it is refused and named, and the others are served.

What operators read is bounded by bytes too, however long texts are.
"""

import contextlib
import http.client
import json
import socket
import struct
from urllib.parse import quote

import pytest

from martlet_process import Node, run
from test_memory import MB, connack, connect, opened, packet, resident, subscribe, text

LIMIT = 40 * MB


def publish(topic, payload, retain=False, properties=b"", number=1):
    """A PUBLISH of QoS 1."""
    length = len(properties)
    digits = b""
    while True:
        length, digit = divmod(length, 128)
        digits += bytes([digit | (0x80 if length else 0)])
        if not length:
            break
    head = text(topic) + struct.pack(">H", number) + digits + properties
    return packet(0x32 | retain, head + payload)


def puback(sock):
    """The reason code of the PUBACK."""
    data = b""
    while len(data) < 2 or len(data) < 2 + data[1]:
        data += sock.recv(4096)
    assert data[0] == 0x40, data
    return data[4] if data[1] > 2 else 0


def client(node, client_id, **options):
    sock = opened(node)
    sock.sendall(connect(client_id, **options))
    return sock, connack(sock)


def told(node, *arguments):
    return run(*arguments, "--data-dir", node.data_dir).stdout


def fill_with_retained(node, held):
    sock, _ = client(node, "filler")
    held.enter_context(sock)
    for number in range(2000):
        sock.sendall(publish(f"r/{number}", b"x" * 60_000, retain=True))
        if (code := puback(sock)) >= 0x80:
            return code
    raise AssertionError("all were taken")


def fill_with_wills(node, held):
    for number in range(3000):
        sock, code = client(node, f"will-{number}", will=b"w" * 31_000)
        held.enter_context(sock)
        if code:
            return code
    raise AssertionError("all were taken")


def fill_with_filters(node, held):
    for number in range(200):
        sock, code = client(node, f"filters-{number}")
        held.enter_context(sock)
        assert code == 0
        for part in range(10):
            sock.sendall(subscribe([f"{number}/{part}/{index}/" + "f" * 20_000 for index in range(10)]))
            if max(sock.recv(64)[5:]) >= 0x80:
                return 0x97
    raise AssertionError("all were taken")


FILLERS = [
    (fill_with_retained, "retained messages"),
    (fill_with_wills, "Wills"),
    (fill_with_filters, "subscriptions"),
]


@pytest.mark.parametrize("fill,kind", FILLERS, ids=[kind for _, kind in FILLERS])
@pytest.mark.parametrize("durability", ["memory", "sync"])
def test_what_fills_the_memory_is_refused_and_the_others_are_served(fill, kind, durability):
    with contextlib.ExitStack() as held:
        node = held.enter_context(Node([f"limits.memory_bytes={LIMIT}"], ["--durability", durability]))
        slow, _ = client(node, "slow")
        held.enter_context(slow)
        slow.sendall(subscribe(["slow"], 1))
        assert slow.recv(16)
        other, _ = client(node, "other")
        held.enter_context(other)
        for number in range(1, 11):
            other.sendall(publish("slow", b"x" * 30_000, number=number))
            assert puback(other) == 0
        assert fill(node, held) == 0x97
        # A camera sends pictures, a newcomer connects.
        for number in range(1, 21):
            other.sendall(publish("picture", b"p" * 200_000, number=number))
            assert puback(other) < 0x80
        newcomer, code = client(node, "newcomer")
        held.enter_context(newcomer)
        assert code == 0
        # What waits for a client that reads slowly comes.
        received = 0
        slow.settimeout(10)
        while received < 10 * 30_000:
            more = slow.recv(65536)
            assert more, "the slow client was ended"
            received += len(more)
        health = told(node, "health")
        assert "limits.memory_bytes are in use" in health and f"New {kind} are refused" in health
        assert "limits.memory_bytes are in use" in told(node, "status")
        assert "is one of those that use most" not in told(node, "why", "other")


def get(node, path):
    wire = http.client.HTTPConnection("localhost", timeout=60)
    wire.sock = socket.socket(socket.AF_UNIX)
    node.connect_to_admin(wire.sock)
    with contextlib.closing(wire):
        wire.request("GET", f"/api/v1{path}")
        answer = wire.getresponse()
        body = answer.read()
        assert answer.status == 200, body[:300]
        return body


def all_pages(node, path):
    """All items of a list, page by page; no page is longer than 4 MB."""
    items, cursor = [], ""
    while True:
        body = get(node, f"{path}?limit=1000{cursor}")
        assert len(body) < 4 * MB
        page = json.loads(body)
        assert page["items"], "no page is empty"
        items += page["items"]
        if page["next"] is None:
            return items
        cursor = f"&cursor={quote(page['next'])}"


def test_lists_with_long_texts_come_in_pages_of_bytes():
    with Node([f"limits.memory_bytes={400 * MB}"], ["--durability", "memory", "--threads", "3"]) as node:
        before = resident(node)
        clients = []
        value = b"\x26" + text("k") + text("v" * 60_000)
        for number in range(6):
            sock, _ = client(node, f"client-{number}")
            clients.append(sock)
            for part in range(10):
                sock.sendall(publish(f"r/{number}/{part}", b"x", retain=True, properties=value * 10))
                assert puback(sock) < 0x80
                sock.sendall(subscribe([f"{number}/{part}/" + "f" * 60_000]))
                assert sock.recv(16)
        topics = [item["topic"] for item in all_pages(node, "/retained")]
        assert topics == sorted(f"r/{number}/{part}" for number in range(6) for part in range(10))
        found = all_pages(node, "/subscriptions")
        names = [(item["client_id"], item["filter"][:4]) for item in found]
        assert names == sorted((f"client-{n}", f"{n}/{p}/") for n in range(6) for p in range(10))
        # 36 MB of retained messages, and some pages.
        assert resident(node) - before < 120 * MB
        for sock in clients:
            sock.close()
