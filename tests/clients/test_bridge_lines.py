"""Bridges by the lines of a mosquitto.conf, and other brokers that forget the bridge's session."""

import os
import pathlib
import re

import pytest

from paho_client import Client, properties
from server_process import free_port
from test_bridges import (bridge_text, configured, mosquitto, received, start_mosquitto,  # noqa: F401
                          state, until_connected)
from test_http_api import KEYS
from test_sinks import until
from test_tls import Authority

SERVER_TLS = ("cafile {place}/ca.crt\ncertfile {place}/server.crt\nkeyfile {place}/server.key\n"
              "require_certificate true\nuse_identity_as_username true")


def clients_of(mosquitto):  # noqa: F811
    """Those that have connected, as bridges by 3.1.1 and other ones."""
    return re.findall(r"New (?:client|bridge) connected from \S+ as (\S+)", mosquitto.log())


def of_conf(start_node, tmp_path, lines):
    """A node with a listener and one bridge, by a mosquitto.conf; and its port."""
    port, conf = free_port(), tmp_path / "mosquitto.conf"
    conf.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\nconnection to-there\n{lines}")
    return start_node(arguments=("--mosquitto-conf", str(conf)), data_dir=tmp_path / "data", http=True, variables=KEYS,
                      listen=()), port


def test_a_lazy_bridge_of_mqtt_5_with_tls_runs_from_a_mosquitto_conf(start_node, tmp_path, start_mosquitto):  # noqa: F811
    authority = Authority(tmp_path / "ca")
    # Of another name than the address has: bridge_insecure permits that.
    server, client = authority.sign("other.test", names="DNS:other.test"), authority.sign("site", usage="clientAuth")
    names = {"ca.crt": authority.certificate, "server.crt": server[0], "server.key": server[1]}
    there = start_mosquitto(listener=SERVER_TLS, files={
        name: pathlib.Path(path).read_text() for name, path in names.items()})
    node, port = of_conf(start_node, tmp_path, f"""address 127.0.0.1:{there.port}
topic plant/# both 1 "" site/
bridge_protocol_version mqttv50
bridge_cafile {authority.certificate}
bridge_certfile {client[0]}
bridge_keyfile {client[1]}
bridge_insecure true
start_type lazy
idle_timeout 1
notifications false
cleansession false
remote_clientid of-conf
restart_timeout 1
""")
    owner = Client(None, "owner", port=there.port)
    owner.client.tls_set(authority.certificate, *authority.sign("owner", usage="clientAuth"))
    owner.client.tls_insecure_set(True)
    with Client(node, "here", port=port) as here, owner:
        owner.publish("site/plant/back", "y", retain=True)
        here.subscribe("plant/back", qos=1)
        assert clients_of(there) == ["owner"]
        kept = properties("PUBLISH", UserProperty=("k", "v"), ContentType="text/plain")
        here.publish("plant/1", "x", properties=kept)
        until(lambda: received(there, "site/plant/1"), lambda: f"{there.log()}\n{node.log()}")
        # The bridge is connected, and has subscribed.
        assert here.receive().payload == b"y"
    until(lambda: "Client of-conf disconnected" in there.log(), there.log)
    log = there.log()
    # Protocol 5, clean start 0, the name of the certificate; no state, not even as a Will.
    assert "as of-conf (p5, c0, k60, u'site')" in log, log
    published = re.findall(r"Received PUBLISH from of-conf .*'([^']*)'", log)
    assert published == ["site/plant/1"] and "Will message specified (" not in log, log


def test_a_bridge_without_insecure_refuses_a_certificate_of_another_name(start_node, tmp_path, start_mosquitto):  # noqa: F811
    authority = Authority(tmp_path / "ca")
    server = authority.sign("other.test", names="DNS:other.test")
    names = {"ca.crt": authority.certificate, "server.crt": server[0], "server.key": server[1]}
    there = start_mosquitto(listener="certfile {place}/server.crt\nkeyfile {place}/server.key", files={
        name: pathlib.Path(path).read_text() for name, path in names.items()})
    node, _ = of_conf(start_node, tmp_path, f"address 127.0.0.1:{there.port}\ntopic plant/# both\n"
                      f"bridge_cafile {authority.certificate}\nrestart_timeout 1\n")
    node.wait_for_log("no TLS with the other broker")
    assert clients_of(there) == []


def test_a_bridge_of_mqtt_3_publishes_its_state_here_alone(start_node, tmp_path, mosquitto):  # noqa: F811
    node, port = of_conf(start_node, tmp_path, f"""address 127.0.0.1:{mosquitto.port}
topic a/# both 1
bridge_protocol_version mqttv311
notifications_local_only true
notification_topic state/of/bridge
cleansession true
remote_clientid of-conf
start_type automatic
""")
    with Client(mosquitto, "there", port=mosquitto.port) as there, Client(node, "here", port=port) as here:
        here.subscribe("state/#", qos=1)
        one = here.receive()
        while one.payload == b"0":
            one = here.receive()
        assert (one.topic, one.payload) == ("state/of/bridge", b"1")
        here.subscribe("a/#", qos=1)
        until(lambda: "of-conf" in clients_of(mosquitto), mosquitto.log)
        there.publish("a/1", "in")
        assert here.receive().payload == b"in"
        there.subscribe("a/#", qos=1)
        here.publish("a/2", "out")
        assert there.receive().topic == "a/2"
    assert "as of-conf (p2, c1, k60)" in mosquitto.log() and "state/of/bridge" not in mosquitto.log()


def test_a_bridge_of_start_type_once_does_not_connect_again(start_node, tmp_path, mosquitto):  # noqa: F811
    node, port = of_conf(start_node, tmp_path, f"""address 127.0.0.1:{mosquitto.port}
topic a/# out 1
remote_clientid of-conf
start_type once
restart_timeout 1
""")
    with Client(node, "here", port=port) as here:
        here.publish("a/1", "x")
        until(lambda: received(mosquitto, "a/1"), mosquitto.log)
        mosquitto.kill()
        node.wait_for_log("the bridge is not connected")
        mosquitto.start()
        here.publish("a/2", "x")
        until(lambda: state(node, "to-there")["lag"] == 1, lambda: state(node, "to-there"))
    assert clients_of(mosquitto) == ["of-conf"]
    node.close()
    # A restart of the node connects once more, and what has waited goes out.
    conf = ("--mosquitto-conf", str(tmp_path / "mosquitto.conf"))
    node = start_node(arguments=conf, data_dir=tmp_path / "data", http=True, variables=KEYS, listen=())
    until(lambda: received(mosquitto, "a/2"), lambda: f"{mosquitto.log()}\n{node.log()}")


@pytest.mark.parametrize("protocol", ["5.0", "3.1.1"])
@pytest.mark.parametrize("clean", [True, False])
def test_a_bridge_subscribes_again_at_a_broker_that_forgot_its_session(start_node, tmp_path, mosquitto, protocol, clean):  # noqa: F811
    keys = {"protocol": protocol, "clean_session": clean, "reconnect_max_secs": 1}
    node = start_node(**configured(tmp_path, bridge_text(mosquitto.port, '["a/# in 1", "b/# both 1"]', **keys)))
    until_connected(node)
    with Client(node, "here") as here:
        here.subscribe("#", qos=1)
        for turn in range(1, 3):
            mosquitto.kill()
            # With it go all sessions and their subscriptions.
            path = os.path.join(mosquitto.place, "mosquitto.db")
            if os.path.exists(path):
                os.remove(path)
            mosquitto.start()
            until_connected(node, turn + 1)
            with Client(mosquitto, "there", port=mosquitto.port) as there:
                # Until the bridge has subscribed, nothing comes: the last message is retained.
                there.publish(f"a/{turn}", "x", retain=True)
                there.publish(f"b/{turn}", "x", retain=True)
                got = {here.receive().topic for _ in range(2)}
            assert got == {f"a/{turn}", f"b/{turn}"}
