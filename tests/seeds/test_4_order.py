"""The document of Service-MQTT in the order of a Compose file, in a network of its own with the ports of the document: the
database is up last, other machines reach the node, and nothing is lost when the node is killed."""

import json
import os
import pathlib
import subprocess
import sys
import tempfile

import pytest

if __name__ == "__main__":
    sys.path[:0] = [str(pathlib.Path(__file__).parent.parent), str(pathlib.Path(__file__).parent.parent / "clients")]

import martlet_process
import nats_process
import postgres_process
from test_databases import appears_late
from test_sinks import until

# An address of this machine that is not loopback's, from which the node sees its clients.
ADDRESS = "10.77.0.1"
STREAM = "MARTLET_service-mqtt"
OWN_NETWORK = ["unshare", "--net"]


def test_nothing_is_up_in_order_and_nothing_is_lost():
    if subprocess.run([*OWN_NETWORK, "ip", "link", "set", "lo", "up"], capture_output=True).returncode:
        pytest.skip("a network of its own is not permitted here")
    done = subprocess.run([*OWN_NETWORK, sys.executable, __file__], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def publish(*login, message="hello"):
    topic = f"raw.{login[1]}" if login else "raw"
    line = ["mosquitto_pub", "-h", ADDRESS, "-p", "1883", *login, "-t", topic, "-m", message, "-q", "1"]
    return subprocess.run(line, capture_output=True, text=True, timeout=20)


def main():
    for words in (["link", "set", "lo", "up"], ["addr", "add", f"{ADDRESS}/32", "dev", "lo"]):
        subprocess.run(["ip", *words], check=True)
    nats, postgres = nats_process.Server(), postgres_process.Server()
    place = pathlib.Path(tempfile.mkdtemp(prefix="martlet-order-"))
    url, show = appears_late(postgres, place)
    variables = {"MQTT_PORT": "1883", "LISTEN_ADDR": ":9091", "DATABASE_DSN": url, "NATS_URL": nats.url}

    def start():
        return martlet_process.Node(listen=(), http=None, data_dir=place / "data", variables=variables,
                                    log_path=str(place / "log"))

    try:
        show(place / "log")
        node = start()
        assert node.urls == ["mqtt://0.0.0.0:1883"] and "waiting for it" in node.log(), node.log()
        assert publish().returncode != 0, "credentials are needed"
        added = subprocess.run(["curl", "-sS", "-X", "POST", "http://localhost:9091/devices", "-d", '{"type":"test-device"}'],
                               capture_output=True, text=True, timeout=20)
        device = json.loads(added.stdout)
        login = ("-u", device["mqtt_user"], "-P", device["mqtt_password"])
        done = publish(*login)
        assert done.returncode == 0, done.stderr
        asks = nats_process.Client(nats)
        until(lambda: asks.count(STREAM) == 1, node.log)
        node.process.kill()
        node.wait()
        node = start()
        assert publish(*login, message="again").returncode == 0, node.log()
        until(lambda: asks.count(STREAM) == 2, node.log)
        assert postgres.sql(url, "SELECT count(*) FROM martlet.devices").strip() == "1"
        assert not os.path.exists(place / "data/martlet.db"), "the tables are in PostgreSQL alone"
        node.close()
    finally:
        nats.close()
        postgres.close()


if __name__ == "__main__":
    main()
