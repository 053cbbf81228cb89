"""Refused WebSocket requests: each says what is wrong, and the log how that is mended."""

import json
import socket

import pytest

import martlet_process
from test_access import until
from test_http_api import KEYS

GOOD = {"Host": "a", "Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Protocol": "mqtt"}


def request(begin="GET /mqtt HTTP/1.1", more="", **changed):
    headers = {**GOOD, **{name.replace("_", "-"): value for name, value in changed.items()}}
    lines = [begin] + [f"{name}: {value}" for name, value in headers.items() if value is not None]
    return ("\r\n".join(lines) + f"\r\n{more}\r\n").encode()


# What is asked, and a word of how it is mended.
REFUSED = {
    "path": (request("GET /other HTTP/1.1"), "path of the listener's URL"),
    "origin": (request(Origin="https://app.example"), "`origins` of the listener"),
    "subprotocol": (request(Sec_WebSocket_Protocol="chat"), "subprotocol mqtt"),
    "no-subprotocol": (request(Sec_WebSocket_Protocol=None), "subprotocol mqtt"),
    "page": (request(Upgrade=None), "connect with ws://"),
    "method": (request("POST /mqtt HTTP/1.1"), "connect with ws://"),
    "http-1.0": (request("GET /mqtt HTTP/1.0"), "HTTP/1.1"),
    "version": (request(Sec_WebSocket_Version="8"), "RFC 6455"),
    "key": (request(Sec_WebSocket_Key="x"), "RFC 6455"),
    "host": (request(Host=None), "RFC 6455"),
    "body": (request(Content_Length="5"), "RFC 6455"),
    "twice": (request(more="Host: b\r\n"), "RFC 6455"),
    "headers": (request(more="X: y\r\n" * 70), "fewer or shorter headers"),
    "long": (request(Cookie="x" * 9000), "fewer or shorter headers"),
    "plain-mqtt": (b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00", "another listener"),
}


@pytest.fixture(scope="module")
def web():
    with martlet_process.Node(listen=("ws://127.0.0.1:0/mqtt", "mqtt://127.0.0.1:0")) as node:
        yield node


def test_a_websocket_at_the_port_of_plain_mqtt_is_told_the_other_port(web):
    assert "MQTT over WebSocket that of a ws listener" in remedy_of(web, "mqtt", request())


@pytest.mark.parametrize("kind", REFUSED)
def test_each_refusal_shows_its_own_fix(web, kind):
    asked, mended = REFUSED[kind]
    remedy = remedy_of(web, "ws", asked)
    assert mended in remedy and "MQTT library" not in remedy and "threads" not in remedy, remedy


def remedy_of(web, scheme, asked):
    """What the log of troubles says about these bytes."""
    with socket.create_connection(("127.0.0.1", web.port(scheme)), timeout=60) as wire:
        own = f"127.0.0.1:{wire.getsockname()[1]}"
        wire.sendall(asked)
        wire.settimeout(20)
        while wire.recv(4096):
            pass

    def found():
        told = martlet_process.run("logs", "-t", "--json", "--data-dir", web.data_dir).stdout
        return [one for one in map(json.loads, told.splitlines()) if one.get("address") == own]

    until(lambda: found(), "the refusal is told of")
    return found()[-1].get("remedy", "")


def test_a_websocket_at_the_port_of_http_is_told_the_other_port(start_node):
    node = start_node(http=True, variables=KEYS)
    with socket.create_connection(("127.0.0.1", int(node.http_url.rsplit(":")[-1])), timeout=60) as wire:
        wire.sendall(request(Host="localhost"))
        assert b"a ws listener" in wire.recv(65536)
