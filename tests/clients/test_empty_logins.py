"""Devices whose fields for user and password are left empty, or still have what they came with: on a node that is open to
all they get in, on one with users they are refused, the cause is named, and nobody is locked out because of them."""

import socket
import struct

import pytest

import martlet_process
from paho_client import Client
from test_access import publish
from test_memory import text
from test_registry import Place

# User name and password, None for a field that is not sent.
FORMS = [("", ""), ("", None), ("DVES_USER", None), ("DVES_USER", ""), ("DVES_USER", "DVES_PASS")]
VERSIONS = {3: "MQIsdp", 4: "MQTT", 5: "MQTT"}


def code(node, version, user, password, client="shelly"):
    """Of the CONNACK; None if the connection ends without one."""
    flags = 2 | (0x80 if user is not None else 0) | (0x40 if password is not None else 0)
    body = text(VERSIONS[version]) + bytes([version, flags]) + struct.pack(">H", 60) + (b"\0" if version == 5 else b"")
    body += b"".join(text(field) for field in (client, user, password) if field is not None)
    with socket.create_connection(("127.0.0.1", node.port()), timeout=60) as wire:
        wire.sendall(bytes([0x10, len(body)]) + body)
        answer = wire.recv(64)
        return answer[3] if answer else None


@pytest.mark.parametrize("listen, settings", [
    (("mqtt://0.0.0.0:0",), ["mqtt.allow_anonymous=true"]), (("mqtt://127.0.0.1:0",), []),
], ids=["to others", "to this machine"])
def test_an_open_node_takes_them(start_node, listen, settings):
    node = start_node(listen=listen, settings=settings)
    found = {(version, *form): code(node, version, *form) for version in VERSIONS for form in FORMS}
    assert set(found.values()) == {0}, found


def test_beside_users_who_names_nobody_is_anonymous(start_node, tmp_path):
    passwords = tmp_path / "passwd"
    assert martlet_process.run("passwd", "-c", "-b", str(passwords), "alice", "a-long-password").returncode == 0
    node = start_node(settings=[f"auth.password_file={passwords}", "mqtt.allow_anonymous=true"])
    assert code(node, 4, None, None) == code(node, 5, None, None) == 0
    with Client(node, "z").credentials("alice", "a-long-password") as client:
        client.publish("t", "x")


def test_a_node_with_users_refuses_them_and_locks_nobody_out(start_node, tmp_path):
    place = Place(tmp_path / "data")
    place.user("bob")
    node = start_node(data_dir=place.path)
    for number in range(60):
        user, password_of = FORMS[number % 2]
        assert code(node, 4 + number % 2, user, password_of) not in (0, None), (user, password_of)
    assert publish(node, "t", "-u", "bob", "-P", "secret", "-i", "b")[0] == 0, "others of the address come in"
    told = node.why("shelly")
    assert told["wrong"] and "an empty user name" in told["remedy"] and "command" not in told, told
