"""Bridges that are put to `martlet why`: the headline is the fault."""

import json
import subprocess

import pytest

from mosquitto_process import Mosquitto
from paho_client import Client
from test_access import until
from test_why_faults_more import configured
from why_faults import Faults

BRIDGE = """
[integrations]
allow_private = ["127.0.0.0/8"]
[[bridges]]
name = "b2"
client_id = "same-id"
protocol = "3.1.1"
url = "{scheme}://127.0.0.1:{port}"
topics = ["a/# out 1"]
"""


@pytest.fixture
def mosquitto():
    started = Mosquitto()
    yield started
    started.close()


def test_another_client_has_the_client_identifier_of_a_bridge(tmp_path, mosquitto):
    config = BRIDGE.format(scheme="mqtt", port=mosquitto.port)
    command = ["mosquitto_sub", "-h", "127.0.0.1", "-p", str(mosquitto.port), "-i", "same-id", "-t", "x"]
    with configured(tmp_path, config) as node:
        other = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            told = node.headline("integration-failing", "perhaps another client connects with the Client Identifier of this "
                                 "bridge, same-id", "bridge/b2", within=40)
            assert "times in a row" in told["sentence"], told
        finally:
            other.kill()
            other.wait()
        node.over("bridge/b2", within=40)
        node.bash(told)


def test_a_bridge_uses_tls_with_a_port_without_tls(tmp_path, mosquitto):
    with configured(tmp_path, BRIDGE.format(scheme="mqtts", port=mosquitto.port)) as node:
        told = node.headline("integration-failing", "closed the connection in the TLS handshake: check that this is its TLS port",
                             "bridge/b2")
        node.bash(told, code=1)


def test_two_bridges_bring_everything_twice(tmp_path):
    with Faults() as other:
        other.user("hub", "--role", "administrator")
        text = '[integrations]\nallow_private = ["127.0.0.0/8"]\n' + "".join(
            f'[[bridges]]\nname = "{name}"\nurl = "mqtt://127.0.0.1:{other.node.port()}"\nuser = "hub"\n'
            f'password = "secret"\ntopics = {json.dumps(topics)}\n'
            for name, topics in (("b1", ["plant/# in 1", "up/# out 1"]), ("b2", ["plant/+ in 1", "up/1 out 1"])))
        with configured(tmp_path, text) as node:
            node.user("boss", "--role", "administrator")
            source = Client(other.node, "source").credentials("hub", "secret")
            with node.client("boss", client_id="app") as app, source:
                app.subscribe("plant/1", 1)
                source.subscribe("up/1", 1)
                for bridge in ("bridge/b1", "bridge/b2"):
                    node.headline("comes-twice", "bridge/b1 and bridge/b2 both bring plant/+ from 127.0.0.1:", bridge)
                source.publish("plant/1", "x")
                assert [app.receive_payload(), app.receive_payload()] == ["x", "x"]
                app.publish("up/1", "y")
                assert [source.receive_payload(), source.receive_payload()] == ["y", "y"]
                said = [one["sentence"] for one in node.why("app", "up/1")["also"]]
                assert any("both send up/1 to 127.0.0.1:" in one for one in said), said
                for asked in (["app", "plant/1"], ["bridge/b1", "plant/1"]):
                    told = node.headline("comes-twice", "both bring plant/1 from 127.0.0.1:", *asked)
                    assert "take plant/1 out of the topics of one of them" in told["remedy"], told
                for told in (told, node.why("bridge/b1")):
                    node.bash(told)
                node.run("integration", "pause", "bridge/b2")
                until(lambda: not node.why("app", "plant/1")["wrong"], "one of them is paused")
                node.over("bridge/b1")
