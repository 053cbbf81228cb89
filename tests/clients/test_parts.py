"""Limits of clients do not hold for the node's own parts: rules, integrations, telemetry."""

import socket

from paho_client import Client
from test_access import until
from test_rules import call, configured

RULES = """
[[rules]]
name = "copy"
topics = ["in/a", "in/b", "in/c/+"]
actions = [{ publish = { topic = "out/{{ levels[1] }}" } }]
"""


def quiet(node):
    """Connects with Keep Alive 0 and sends nothing more, until the node ends the connection."""
    with socket.create_connection(("127.0.0.1", node.port()), timeout=60) as connection:
        connection.sendall(b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x00\x00\x01q")
        while connection.recv(100):
            pass


def test_the_ceiling_of_the_keep_alive_ends_no_rule(start_node, tmp_path):
    """It ends clients that are quiet; the node's parts are always quiet."""
    node = start_node(**configured(tmp_path, RULES, settings=["limits.keep_alive_max_secs=1"]))
    with Client(node, "reader") as reader:
        reader.subscribe("out/#", 1)
        for _ in range(2):
            # A client that does not speak is ended after 1.5 s, and so would they be.
            quiet(node)
            reader.publish("in/a", "1", 1)
            assert reader.receive().topic == "out/a"
    assert "$" not in "".join(line for line in node.log().splitlines() if "Keep Alive" in line), node.log()


def test_the_limit_of_subscriptions_is_for_clients(start_node, tmp_path):
    node = start_node(**configured(tmp_path, RULES, settings=["limits.subscriptions_per_client=1"]))
    with Client(node, "reader") as reader, Client(node, "writer") as writer:
        assert reader.subscribe("out/#", 1) == [1]
        assert reader.subscribe("other", 1)[0] >= 0x80
        for topic in ("in/a", "in/b", "in/c/1"):
            writer.publish(topic, "1", 1)
        assert sorted(reader.receive().topic for _ in range(3)) == ["out/a", "out/b", "out/c"]


def test_the_limit_of_sessions_is_for_clients(start_node, tmp_path):
    """The parts are in no one's way, and no number of devices keeps them out after a restart."""
    node = start_node(**configured(tmp_path, RULES, settings=["limits.sessions=1"]))
    call(node, "POST", "/publish", {"topic": "in/a", "payload": "1", "qos": 1})
    until(lambda: call(node, "GET", "/rules/copy")["counts"]["actions"] == 1, node.log)
