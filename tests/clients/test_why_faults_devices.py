"""Faults of devices and users that are put to `martlet why`: the headline is the fault, and the
command that is printed, or the advice, ends it."""

import json
import socket

import pytest

from paho_client import Client
from test_access import until
from test_scram import packet, string
from why_faults import KEPT, Faults, printed_secret


@pytest.fixture(scope="module")
def node():
    faults = Faults()
    faults.user("ann")
    with faults.start():
        yield faults


def test_a_device_has_a_wrong_secret(node):
    node.device("p1")
    assert not node.comes("p1", "wrong")
    told = node.headline("wrong-password", "wrong credential for device p1", "p1")
    assert node.comes("p1", printed_secret(node.bash(told)))
    node.over("p1")


def test_a_device_was_never_added(node):
    assert not node.comes("boiler-9", "x")
    told = node.headline("unknown-name", "no user of that name", "boiler-9")
    assert "check the spelling" in told["remedy"]
    assert node.comes("boiler-9", printed_secret(node.bash(told)))
    node.over("boiler-9")


def test_a_device_is_asked_about_by_a_misspelt_name(node):
    secret = node.device("press-17")
    told = node.headline("nobody-known", "has never connected", "pres-17")
    assert "did you mean press-17?" in told["remedy"]
    assert node.comes("press-17", secret)
    node.over("press-17")
    # If it is spelt right, it is added.
    assert node.comes("pres-17", printed_secret(node.bash(told)))
    node.over("pres-17")


def test_a_device_has_never_connected(node):
    secret = node.device("p2")
    told = node.headline("never-connected", "the device p2 exists, and has neither connected nor tried to", "p2")
    assert node.node.url("mqtt") in told["remedy"]
    for asked in ("p2", "192.0.2.9"):
        remedy = node.why(asked)["remedy"]
        assert "only this machine reaches the node" in remedy and "--listen mqtt://ADDRESS:1883" in remedy, remedy
    assert "only this machine" not in json.dumps(node.why("127.0.0.9"))
    assert node.comes("p2", secret)
    node.over("p2")


@pytest.mark.parametrize("status, words", [("inactive", "is inactive"), ("maintenance", "has the status maintenance")])
def test_a_device_is_not_active(node, status, words):
    name = f"p3-{status}"
    secret = node.device(name, "--status", status)
    assert not node.comes(name, secret)
    told = node.headline("disabled", f"device {name} {words}", name)
    node.bash(told)
    assert node.comes(name, secret)
    node.over(name)


def test_a_device_was_deleted(node):
    secret = node.device("p4")
    node.run("device", "rm", "p4")
    assert not node.comes("p4", secret)
    told = node.headline("deleted", "it was removed from the registry", "p4")
    node.bash(told)
    assert node.comes("p4", secret)
    node.over("p4")


def test_a_device_was_restored_and_has_not_tried_again(node):
    secret = node.device("p5")
    with node.client("p5", secret) as device:
        assert not device.acknowledged("elsewhere")
    node.run("device", "rm", "p5")
    assert not node.comes("p5", secret)
    node.bash(node.headline("deleted", "it was removed from the registry", "p5"))
    told = node.headline("away", "that is over, and it has not tried again", "p5")
    assert "no user of that name" in told["sentence"] and told["remedy"] == "have the client connect again"
    assert "command" not in told and told["state"] == "away", told
    assert node.comes("p5", secret)
    node.headline("not-permitted", "its publish to elsewhere was refused", "p5")


def test_a_credential_was_rotated_and_the_device_has_the_old_one(node):
    secret = node.device("p6")
    assert node.comes("p6", secret)
    node.run("device", "rotate", "p6", "--now")
    assert not node.comes("p6", secret)
    told = node.headline("wrong-password", "it may have an older credential, which ended on", "p6")
    assert node.comes("p6", printed_secret(node.bash(told)))
    node.over("p6")


@pytest.mark.parametrize("kind", ["client-id", "user"])
def test_a_device_is_banned(node, kind):
    name = f"p7-{kind}"
    secret = node.device(name)
    node.run("ban", "add", kind, name, "--why", "it makes noise")
    assert not node.comes(name, secret)
    told = node.headline("banned", f"{name} is banned: it makes noise", name)
    node.bash(told)
    assert node.comes(name, secret)
    node.over(name)


def test_an_address_is_banned(node):
    secret = node.device("p8")
    assert node.comes("p8", secret)
    node.run("ban", "add", "address", "127.0.0.0/8")
    try:
        assert not node.comes("p8", secret)
        told = node.headline("banned", "127.0.0.0/8 is banned", "p8")
    finally:
        node.bash(node.why("p8"))
    assert node.comes("p8", secret) and "ban rm" in told["command"]
    node.over("p8")


def test_a_name_is_locked_out():
    with Faults(settings=["auth.lockout_failures=3"]) as node:
        secret = node.device("p9")
        for number in range(5):
            assert not node.comes("p9", f"wrong {number}")
        told = node.headline("locked-out", "locked out", "p9")
        node.bash(told)
        assert node.comes("p9", secret)
        node.over("p9")


def test_a_device_has_another_client_identifier(node):
    secret = node.device("p10")
    assert not node.comes("p10", secret, "board-10")
    told = node.headline("wrong-client-id", "must be p10", "p10")
    assert "Client Identifier (client id) of the client to p10" in told["remedy"]
    assert node.comes("p10", secret, "p10")
    node.over("p10")


def test_a_program_has_the_client_identifier_of_a_device(node):
    node.device("p11")
    node.user("tool")
    assert not node.comes("tool", "secret", "p11")
    told = node.headline("wrong-client-id", "is the device's of that id alone", "tool")
    assert "another Client Identifier" in told["remedy"]
    assert node.comes("tool", "secret", "tool-1")
    node.over("tool")


def test_a_client_identifier_is_another_users(node):
    node.user("eve")
    node.user("bob")
    node.client("eve", client_id="desk", **KEPT).start().disconnect()
    assert not node.comes("bob", "secret", "desk")
    told = node.headline("client-id-taken", "another user's", "bob")
    assert "give each its own" in told["remedy"]
    assert node.comes("bob", "secret", "desk-2")
    node.over("bob")


def test_a_client_has_no_user_name(node):
    bare = Client(node.node, "bare").start()
    bare.client.loop_stop()
    assert bare.connack.is_failure
    told = node.headline("no-credentials", "", "bare")
    assert "user name and password" in told["remedy"]
    node.user("named")
    assert node.comes("named", "secret", "bare")
    node.over("bare")


def test_a_user_is_disabled(node):
    node.user("carl")
    node.run("user", "set", "carl", "--disable")
    assert not node.comes("carl")
    told = node.headline("disabled", "user carl is disabled", "carl")
    node.bash(told)
    assert node.comes("carl")
    node.over("carl")


def test_a_user_has_a_wrong_password(node):
    node.user("dora")
    assert not node.comes("dora", "wrong")
    told = node.headline("wrong-password", "wrong password, according to the registry", "dora")
    node.bash(told, given="a-new-password\n")
    assert node.comes("dora", "a-new-password")
    node.over("dora")


def test_a_user_was_deleted(node):
    node.user("fred")
    node.run("user", "rm", "fred")
    assert not node.comes("fred")
    told = node.headline("deleted", "it was removed from the registry", "fred")
    node.bash(told)
    assert node.comes("fred")
    node.over("fred")


def test_the_team_of_a_device_was_deleted(node):
    node.run("team", "add", "north", "--own-tenant")
    secret = node.device("pump", "--team", "north")
    assert node.comes("pump@north", secret, "pump")
    node.run("team", "rm", "north")
    assert not node.comes("pump@north", secret, "pump")
    told = node.headline("deleted", "with its team north, which was deleted", "pump", team="north")
    node.carry_out(told)
    assert node.comes("pump@north", secret, "pump")
    node.over("pump@north")


def test_a_device_of_a_team_comes_without_its_team(node):
    node.run("team", "add", "south", "--own-tenant")
    secret = node.device("valve-77", "--team", "south")
    assert not node.comes("valve-77", secret)
    told = node.headline("unknown-name", "no user of that name", "valve-77")
    assert "User Name of the client to valve-77@south" in told["remedy"]
    assert node.comes("valve-77@south", secret, "valve-77")
    node.over("valve-77@south")


def test_two_clients_have_the_same_client_identifier(node):
    """The addresses of both are told, also when they have left."""
    twins = [node.client("ann", client_id="twin", bind_address=f"127.0.0.{2 + number % 2}") for number in range(4)]
    for twin, before in zip(twins, [None, *twins]):
        twin.start()
        if before:
            before.wait_for_end()
    said = ("another client with the same Client Identifier took its connection over 3 times; the connections were from "
            "127.0.0.2 (2 times) and from 127.0.0.3 (once)")
    for asked in ("twin", "ann"):
        assert "give each its own" in node.headline("taken-over", said, asked)["remedy"]
    for twin in twins:
        twin.disconnect()
    until(lambda: node.why("twin")["state"] == "away", "both have left")
    [over] = [one for one in node.why("twin")["also"] if one["cause"] == "taken-over"]
    assert over["sentence"] == f"{said}; it is not connected now" and "give each its own" in over["remedy"], over
    with node.client("ann", client_id="twin-a"), node.client("ann", client_id="twin-b"):
        node.over("twin-a")
        node.over("twin-b")


def test_a_device_falls_silent(node):
    secret = node.device("p12")
    silent = node.client("p12", secret, keepalive=1)
    # Paho pings by itself unless it believes that it just did.
    silent.client._check_keepalive = lambda: None
    with silent:
        silent.wait_for_end()
    told = node.headline("keep-alive", "its connection was ended: 1.5 x Keep Alive without a packet", "p12")
    assert "longer Keep Alive" in told["remedy"]
    with node.client("p12", secret, keepalive=60):
        node.over("p12")


def test_a_client_breaks_a_rule_of_mqtt(node):
    secret = node.device("p13")
    connect = packet(0x10, string(b"MQTT") + b"\x04\xc2\x00\x3c" + string(b"p13") + string(b"p13")
                     + string(secret.encode()))
    with socket.create_connection(("127.0.0.1", node.node.port()), timeout=60) as wire:
        wire.sendall(connect)
        assert wire.recv(4) == b"\x20\x02\x00\x00"
        wire.sendall(connect)
        assert wire.recv(100) == b""
    told = node.headline("protocol-error", "a second CONNECT", "p13")
    assert "MQTT library" in told["remedy"]
    node.bash(told)
    assert node.comes("p13", secret)
    node.over("p13")


def test_a_client_that_says_goodbye_has_no_fault(node):
    secret = node.device("p14")
    with node.client("p14", secret):
        node.over("p14")
    until(lambda: node.why("p14")["state"] == "away", "it is gone")
    answer = node.why("p14")
    assert (answer["cause"], answer["wrong"]) == ("away", False), answer
    assert "the client sent DISCONNECT" in answer["sentence"]
    # A connection that breaks is a fault.
    dropped = node.client("p14", secret).start()
    dropped.drop()
    node.headline("away", "closed the connection without DISCONNECT", "p14")


@pytest.mark.parametrize("password", ["the id", "", "anything"])
def test_the_secret_of_a_device_is_its_user_name(node, password):
    name = f"sw-{len(password)}"
    secret = node.device(name)
    assert not node.comes(secret, name if password == "the id" else password, name)
    told = node.headline("wrong-password", f"its User Name is the secret of the device {name}", name)
    assert f"set the User Name of the client to {name}" in told["remedy"], told
    assert secret not in json.dumps(told) + node.node.log() + node.run("logs", "--json")
    made = printed_secret(node.bash(told))
    assert node.comes(name, made, name)
    node.over(name)


def test_a_secret_has_quotation_marks_around_it(node):
    secret = node.device("quoted")
    assert not node.comes("quoted", f'"{secret}"')
    told = node.headline("wrong-password", "is right but for the quotation marks around it", "quoted")
    assert node.comes("quoted", secret)
    assert "white space" not in told["sentence"]
    node.over("quoted")
