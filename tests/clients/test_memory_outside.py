"""What a node remembers beside its shards is bounded, counted and shown.

Refused clients, clients that have gone, answers that may be given again: each test adds one of them
without end, as `test_memory` does for what clients hold, and looks at the process, at the metrics
and at the log.
"""

import concurrent.futures
import contextlib
import hashlib
import http.client
import json
import os
import re
import socket
import struct

import pytest

import martlet_process
from martlet_process import Node
from test_access import mosquitto_passwd, until
from test_http_api import KEYS
from test_memory import BESIDE, LIMIT, MB, connack, connect, opened, packet, publish, resident, text
from test_operation import get

LONG = 31_000


def named(client_id, user_name, password=None, expiry=0):
    """A CONNECT of MQTT 5 with a user name."""
    flags = 0x82 | (0x40 if password is not None else 0)
    body = text("MQTT") + bytes([5, flags]) + struct.pack(">H", 0)
    body += bytes([5, 0x11]) + struct.pack(">I", expiry) + text(client_id) + text(user_name)
    return packet(0x10, body + (text(password) if password is not None else b""))


def held(node):
    """Bytes of `martlet_memory_bytes`, by what they are held for."""
    page = get(node, "/metrics")[2]
    found = re.findall(r'^martlet_memory_bytes\{held_for="(\w+)"\} (\d+)$', page, re.MULTILINE)
    return {name: int(value) for name, value in found}


def come(node, number, user_name, **more):
    with opened(node) as sock:
        sock.sendall(named(f"c{number}", user_name, **more))
        return connack(sock)


def ask(node, method, path, body=None, **headers):
    with contextlib.closing(martlet_process.AdminConnection(node.data_dir)) as wire:
        wire.request(method, path, body, {"content-type": "application/json", **headers})
        answer = wire.getresponse()
        return answer.status, answer.read()


def test_refused_logins_with_long_names_are_remembered_briefly(tmp_path):
    """A stranger without credentials uses up neither the memory nor the disk of the log."""
    passwords = mosquitto_passwd(tmp_path / "passwd", ("bob", "bob-password"))
    settings = [f"limits.memory_bytes={LIMIT}", f"auth.password_file={passwords}", "store.durability=memory"]
    with Node(settings, http=True, variables=KEYS) as node:
        # Who was there before is not locked out by what others try from the same address.
        assert come(node, "bob", "bob", password="bob-password") == 0
        bound, count, most = resident(node) + LIMIT + BESIDE, 6_000, 0
        for number in range(count):
            assert come(node, number, f"{number}" + "u" * LONG, password="x") >= 0x80
            if number % 100 == 0:
                most = max(most, resident(node))
        assert most < bound, f"{most / MB:.0f} MB of {bound / MB:.0f}"
        # Each refusal has its line, and none has the name whole.
        log = os.path.getsize(node.log_path)
        assert log < count * 2_000, f"{log / count:.0f} bytes for each refusal"
        assert re.search(r"u…u+ \(31,00\d bytes, sha256 [0-9a-f]{16}\)", node.log())
        until(lambda: held(node)["journal"] > 100_000, "the metric shows what is remembered")
        assert held(node)["journal"] < LIMIT // 8
        page = get(node, "/metrics")[2]
        assert f"martlet_memory_limit_bytes {LIMIT}\n" in page
        # Who has credentials is served.
        assert come(node, "bob", "bob", password="bob-password") == 0


def test_one_name_is_cut_wherever_it_is_shown(tmp_path):
    """In the log, in `why`, in the lockouts and in events: its beginning, and its length."""
    passwords = mosquitto_passwd(tmp_path / "passwd", ("bob", "bob-password"))
    with Node([f"auth.password_file={passwords}"], http=True, variables=KEYS) as node:
        # So long that it may stand in the path of a request.
        name = "n" * 4_000
        digest = hashlib.sha256(name.encode()).hexdigest()[:16]
        assert come(node, 1, name, password="x") >= 0x80
        node.wait_for_log("connection refused")
        events = json.loads(ask(node, "GET", "/api/v1/events")[1])["items"]
        refused = [event for event in events if event["what"] == "connect refused"]
        assert refused and all(len(event["user_name"]) <= 256 for event in refused)
        assert refused[-1]["user_name"].endswith(f"n (4,000 bytes, sha256 {digest})")
        assert "n" * 300 not in node.log()
        assert refused[-1].get("command") is None or "…" not in refused[-1]["command"]
        # By its whole name it is found yet.
        told = martlet_process.run("why", name, "--data-dir", node.data_dir)
        assert "refused" in told.stdout, told.stdout + told.stderr
        assert "n" * 300 not in told.stdout.replace(name, "", 1)


def test_long_names_that_are_alike_are_told_apart():
    """What one client did is not told of another whose long name differs in the middle alone."""
    longest = ["limits.client_id_bytes=65535", "store.durability=memory"]
    with Node(longest, http=True, variables=KEYS) as node:
        one, other = ("a" * 200 + middle + "b" * 100 for middle in "XY")
        with opened(node) as quiet, opened(node) as wrong:
            for name, sock in [(one, quiet), (other, wrong)]:
                sock.sendall(connect(name, expiry=0))
                assert connack(sock) == 0
            wrong.sendall(packet(0x82, b"\0\1\0" + text("$share//x") + b"\1"))
            wrong.recv(64)
            told = json.dumps(node.why(one))
            assert "$share//x" not in told and "a" * 200 in told, told
            assert "$share//x" in json.dumps(node.why(other))
            for path in ["/api/v1/events?tail=9&client=", "/api/v1/logs?client="]:
                assert json.loads(ask(node, "GET", path + other)[1])["items"], "by its whole name it is found"
            of_one = json.loads(ask(node, "GET", "/api/v1/events?tail=9&client=" + one)[1])["items"]
            assert [entry["what"] for entry in of_one] == ["connected"]


def gone(node, number):
    """A client that may come without credentials, with a long name, and goes."""
    assert come(node, number, f"{number}" + "u" * LONG) == 0


def sessions_of_gone(node, number):
    """The same with a session that ends soon after."""
    assert come(node, number, f"{number}" + "u" * LONG, expiry=1) in (0, 0x89, 0x97)


@pytest.mark.parametrize("add", [gone, sessions_of_gone], ids=lambda add: add.__name__)
def test_clients_that_have_gone_are_remembered_within_the_limit(add):
    settings = [f"limits.memory_bytes={LIMIT}", "store.durability=memory"]
    with Node(settings, http=True, variables=KEYS) as node:
        bound, most = resident(node) + LIMIT + BESIDE, 0
        for number in range(6_000):
            add(node, number)
            if number % 100 == 0:
                most = max(most, resident(node))
        assert most < bound, f"{most / MB:.0f} MB of {bound / MB:.0f}"
        until(lambda: held(node)["presence"] > 100_000, "the metric shows what is remembered")
        assert held(node)["presence"] < LIMIT // 8 and held(node)["events"] < LIMIT // 8


def test_answers_that_may_be_given_again_count_and_the_oldest_go():
    settings = [f"limits.memory_bytes={LIMIT}", "http.rate=0", "store.durability=memory"]
    with Node(settings, http=True, variables=KEYS) as node:
        bound, most = resident(node) + LIMIT + BESIDE, 0
        messages = [{"topic": f"t/{number}", "payload": "x"} for number in range(10_000)]
        body = json.dumps({"messages": messages})
        sizes = []
        for number in range(120):
            status, answer = ask(node, "POST", "/api/v1/publish/bulk", body, **{"idempotency-key": f"k{number}"})
            assert status == 200, answer
            sizes.append(len(answer))
            most = max(most, resident(node))
        assert sum(sizes) > LIMIT, "more than there is room for"
        assert most < bound, f"{most / MB:.0f} MB of {bound / MB:.0f}"
        until(lambda: held(node)["http_answers"] > 100_000, "the metric shows them")
        assert held(node)["http_answers"] < LIMIT // 8
        with opened(node) as sock:
            sock.sendall(connect("other", expiry=0))
            assert connack(sock) == 0
            sock.sendall(publish("t", b"x", 1))
            assert sock.recv(64)[0] == 0x40
        # The last is given again; the first is known, and is not done twice.
        again = {"idempotency-key": "k119"}
        assert ask(node, "POST", "/api/v1/publish/bulk", body, **again)[1] == answer
        status, answer = ask(node, "POST", "/api/v1/publish/bulk", body, **{"idempotency-key": "k0"})
        assert status == 409 and b"made room for later ones" in answer, answer


def test_a_secret_is_not_made_twice_when_its_answer_made_room():
    """One caller's answers push each other out; a key that was used is not good for another secret."""
    settings = [f"limits.memory_bytes={LIMIT}", "http.rate=0"]
    with Node(settings, http=True, variables=KEYS) as node:
        first = {"idempotency-key": "device"}
        status, answer = ask(node, "POST", "/api/v1/devices", json.dumps({"id": "pump"}), **first)
        assert status == 201, answer
        messages = [{"topic": f"t/{number}", "payload": "x"} for number in range(10_000)]
        body = json.dumps({"messages": messages})
        for number in range(40):
            ask(node, "POST", "/api/v1/publish/bulk", body, **{"idempotency-key": f"k{number}"})
        status, answer = ask(node, "POST", "/api/v1/devices", json.dumps({"id": "pump"}), **first)
        found = json.loads(answer)
        assert status in (201, 409) and not found.get("secret"), answer


def test_status_shows_what_memory_is_held_for():
    with Node([f"limits.memory_bytes={LIMIT}"], http=True, variables=KEYS) as node:
        status = json.loads(ask(node, "GET", "/api/v1/status")[1])
        assert status["memory_limit_bytes"] == LIMIT
        assert status["memory_used_bytes"] >= status["memory_held"]["log"]
        names = set(held(node))
        assert {"shards", "logins", "journal", "events", "presence", "http_answers", "log"} <= names
        assert set(status["memory_held"]) == names
        shown = martlet_process.run("status", "--data-dir", node.data_dir).stdout
        assert re.search(r"^memory +\d+ of 50331648 bytes: .*shards \d+", shown, re.MULTILINE), shown


@pytest.mark.parametrize("format", ["", "&format=panel"], ids=["events", "panel"])
def test_readers_of_events_that_never_read_hold_little(format):
    """Streams with payloads that grow when they are written as JSON, each at a place of its own."""
    settings = [f"limits.memory_bytes={LIMIT}", "http.rate=0", "store.durability=memory"]
    with Node(settings, http=True, variables=KEYS) as node, contextlib.ExitStack() as ends:
        bound, most, load = resident(node) + LIMIT + BESIDE, 0, ends.enter_context(opened(node))
        load.sendall(connect("load", expiry=0))
        assert connack(load) == 0
        for number in range(1, 241):
            if number % 8 == 1:
                wire = ends.enter_context(contextlib.closing(martlet_process.AdminConnection(node.data_dir)))
                wire.request("GET", f"/api/v1/events?kinds=all&payload=1000000{format}",
                             headers={"accept": "text/event-stream"})
                assert wire.getresponse().status == 200
            load.sendall(publish(f"t/{number}", b"\x01" * 200_000, 1, packet_id=number))
            assert load.recv(64)[0] == 0x40
            most = max(most, resident(node))
        assert most < bound, f"{most / MB:.0f} MB of {bound / MB:.0f}"
        until(lambda: held(node)["event_streams"] > 0, "the metric shows what waits for readers")
        assert held(node)["event_streams"] <= 12 * MB
        assert held(node)["events"] < LIMIT // 8 + 16 * MB


def test_answers_that_nobody_reads_hold_little():
    """Each connection asks for a long page and reads nothing of it."""
    settings = [f"limits.memory_bytes={LIMIT}", "http.rate=0", "store.durability=memory"]
    with Node(settings, http=True, variables=KEYS) as node, contextlib.ExitStack() as ends:
        bound, load = resident(node) + LIMIT + BESIDE, ends.enter_context(opened(node))
        load.sendall(connect("load", expiry=0))
        assert connack(load) == 0
        for number in range(30):
            body = text(f"r/{number}") + struct.pack(">H", number + 1) + b"\0" + b"\x01" * 30_000
            load.sendall(packet(0x33, body))
            assert load.recv(64)[0] == 0x40
        page = "/api/v1/retained?limit=1000&payload=true"
        assert len(ask(node, "GET", page)[1]) > MB // 2
        most = 0
        for number in range(400):
            wire = ends.enter_context(contextlib.closing(martlet_process.AdminConnection(node.data_dir)))
            wire.connect()
            wire.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            wire.request("GET", page)
            most = max(most, resident(node))
        until(lambda: held(node)["http_output"] > 4 * MB, "the metric shows them")
        assert held(node)["http_output"] < LIMIT // 8 + 16 * MB
        status, problem = ask(node, "GET", page)
        assert status == 503 and b"no memory for this answer" in problem
        # What is short is answered, and clients are served.
        assert ask(node, "GET", "/api/v1/status")[0] == 200
        load.sendall(publish("t", b"x", 1, packet_id=100))
        assert load.recv(64)[0] == 0x40
        most = max(most, resident(node))
        assert most < bound, f"{most / MB:.0f} MB of {bound / MB:.0f}"
        ends.close()
        until(lambda: held(node)["http_output"] < MB, "what is not sent any more does not count")


WEBSOCKET = (
    "GET {} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
STREAM = "GET {} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n"


def drained(sock):
    """What is there to be read until the other end closes, or sends nothing for a while."""
    sock.settimeout(3)
    data = b""
    with contextlib.suppress(TimeoutError, ConnectionError):
        while piece := sock.recv(1 << 20):
            data += piece
    return data


@pytest.mark.parametrize("request_of", [WEBSOCKET, STREAM], ids=["websocket", "stream"])
def test_readers_that_never_read_are_ended_and_one_that_reads_stays(request_of):
    settings = [f"limits.memory_bytes={LIMIT}", "http.rate=0", "store.durability=memory"]
    with Node(settings, http=True, variables=KEYS) as node, contextlib.ExitStack() as ends:
        bound, most, load = resident(node) + LIMIT + BESIDE, 0, ends.enter_context(opened(node))
        load.sendall(connect("load", expiry=0))
        assert connack(load) == 0

        def follow(kinds):
            sock = ends.enter_context(socket.socket(socket.AF_UNIX))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.settimeout(30)
            node.connect_to_admin(sock)
            target = f"/api/v1/events?kinds={kinds}&payload=1000000"
            sock.sendall(request_of.format(target).encode())
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += sock.recv(1)
            return sock

        silent = [follow("all") for _ in range(30)]
        reads = follow("published")
        for number in range(12):
            load.sendall(publish(f"t/{number}", b"\x01" * 200_000, 1, packet_id=number + 1))
            assert load.recv(64)[0] == 0x40
            found = b""
            while f'"t/{number}"'.encode() not in found or found.count(b"u0001") < 190_000:
                piece = reads.recv(1 << 20)
                assert piece, "it is not ended"
                found += piece
            most = max(most, resident(node))
            assert held(node)["event_streams"] <= 12 * MB
        assert most < bound, f"{most / MB:.0f} MB of {bound / MB:.0f}"
        assert "a stream of events was ended" in node.log()
        # All at once: who has ended is told for some seconds only.
        with concurrent.futures.ThreadPoolExecutor(len(silent)) as threads:
            said = list(threads.map(drained, silent))
        told = [data for data in said if b"does not read" in data]
        assert len(told) >= 3, [data[-100:] for data in said]
