"""Clients that lose their power without a word: TCP asks each accepted connection whether its other end is there, also where
no Keep Alive is agreed on. What the kernel is about to do is read from its table of connections, as a cut line takes
minutes."""

import contextlib
import pathlib
import socket
from urllib.parse import urlsplit

import pytest

import martlet_process
from test_access import until
from test_tls import Authority

# Of the column `tr`: a timer that is neither for data nor for the end. Times are in hundredths of a second.
KEEP_ALIVE, HUNDREDTHS = 2, 100
CONNECT_KEEP_ALIVE_0 = b"\x10\x12\x00\x04MQTT\x05\x02\x00\x00\x00\x00\x05sleep"
UPGRADE = ("GET /mqtt HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
           "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n").encode()
GET = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"


def timer(own, port):
    """Kind of the timer of the node's end of a connection, and seconds until it ends."""
    for line in pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if [int(field.split(":")[1], 16) for field in fields[1:3]] == [port, own]:
            kind, when = fields[5].split(":")
            return int(kind, 16), int(when, 16) / HUNDREDTHS
    return None


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    certificate, key = Authority(tmp_path_factory.mktemp("tls") / "ca").sign("server")
    listen = [f"{scheme}://127.0.0.1:0{'/mqtt' if 'w' in scheme else ''}" for scheme in ("mqtt", "ws", "mqtts", "wss")]
    settings = [f"tls.certificate={certificate}", f"tls.key={key}"]
    with martlet_process.Node(listen=listen, settings=settings, http=True) as node:
        yield node


@pytest.mark.parametrize("scheme, first", [
    ("mqtt", CONNECT_KEEP_ALIVE_0), ("ws", UPGRADE), ("mqtts", b""), ("wss", b""), ("http", GET),
])
def test_each_accepted_connection_is_probed(node, scheme, first):
    port = urlsplit(node.http_url).port if scheme == "http" else node.port(scheme)
    with contextlib.closing(socket.create_connection(("127.0.0.1", port), timeout=60)) as wire:
        if first:
            wire.sendall(first)
            assert wire.recv(1000)
        own = wire.getsockname()[1]
        # What was answered is acknowledged first.
        until(lambda: (timer(own, port) or [None])[0] == KEEP_ALIVE, f"probes at {scheme}")
        assert timer(own, port)[1] <= 600, timer(own, port)
