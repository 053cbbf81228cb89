"""Bridges that are put to `martlet why`: the headline is the fault."""

import subprocess

import pytest

from mosquitto_process import Mosquitto
from test_why_faults_more import configured

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
