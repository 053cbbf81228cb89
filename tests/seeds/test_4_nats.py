"""What Service-MQTT's variables and keys of the node set of the sink that forwards to NATS."""

import urllib.request
import json

import pytest

import nats_process
from paho_client import Client
from server_process import free_port
from test_4_service_mqtt import Service
from test_hook import hook  # noqa: F401
from test_sinks import until

STREAM = "MARTLET_service-mqtt"


@pytest.fixture
def nats():
    server = nats_process.Server()
    yield server
    server.close()


def warnings(service):
    with urllib.request.urlopen(service.http_url + "/api/v1/health", timeout=60) as answer:
        return json.load(answer)["warnings"]


def test_the_time_limit_of_an_acknowledgement_is_that_of_the_variable(nats):
    with Service(NATS_URL=nats.url, PUBLISH_TIMEOUT_SEC="1") as service, Client(service.node, "pump") as client:
        asks = nats_process.Client(nats)
        client.publish("a", "1")
        until(lambda: asks.count(STREAM) == 1, service.node.log)
        nats.hang()
        try:
            client.publish("a", "2")
            # The default is 5 s, and would be told that much later.
            until(lambda: any("does not acknowledge in time" in one for one in warnings(service)),
                  lambda: warnings(service), timeout=4.5)
        finally:
            nats.go_on()
        until(lambda: asks.count(STREAM) == 2, service.node.log)


def test_of_several_addresses_the_first_that_answers_is_used(nats):
    """Of one that answers no more the next is, and nothing is lost. A name that nobody has checked is in no subject."""
    other = nats_process.Server()
    addresses = ",".join([f"nats://127.0.0.1:{free_port()}", nats.url, other.url])
    try:
        with Service(NATS_URL=addresses) as service:
            with Client(service.node, "pump").credentials("boss", "x") as client:
                client.publish("raw.boss", "1")
                until(lambda: nats_process.Client(nats).count(STREAM) == 1, service.node.log)
                assert [subject for subject, _, _ in nats_process.Client(nats).all(STREAM)] == ["raw.-"]
                nats.kill()
                client.publish("a", "2")
                until(lambda: nats_process.Client(other).count(STREAM) == 1, service.node.log)
    finally:
        other.close()


def test_odd_user_names_are_escaped_by_the_preset(nats, hook):
    names = ["a.b", "*", ">", "a b", "-", "é", "\ufeff", "pump"]
    checks = {"MARTLET_AUTH__HOOK_URL": hook.url, "MARTLET_MQTT__ALLOW_ANONYMOUS": "true"}
    with Service(NATS_URL=nats.url, **checks) as service:
        asks = nats_process.Client(nats)
        for count, name in enumerate(names, 1):
            with Client(service.node, "pump").credentials(name, "x") as client:
                client.publish("a", name)
            # Messages of two connections are in no order otherwise.
            until(lambda: asks.count(STREAM) == count, service.node.log)
        with Client(service.node, "pump") as client:
            client.publish("a", b"\x00\xff", qos=0)
            client.publish("b/c", "last")
        until(lambda: asks.count(STREAM) == len(names) + 2, service.node.log)
        found = [(subject, payload) for subject, _, payload in asks.all(STREAM)]
    subjects = [subject for subject, _ in found]
    assert found[-2:] == [("raw.-", b"\x00\xff"), ("raw.-", b"last")]
    assert subjects[:4] == ["raw.a%2Eb", "raw.%2A", "raw.%3E", "raw.a%20b"] and subjects[7] == "raw.pump"
    assert len(set(subjects[:8])) == 8 and all(len(one.split(".")) == 2 for one in subjects), subjects


def test_keys_of_the_node_set_the_log_and_the_limits_of_the_stream(nats):
    keys = {"MARTLET_NATS__LOG_MESSAGES": "false", "MARTLET_NATS__STREAM_MAX_AGE_SECS": "3600",
            "MARTLET_NATS__STREAM_MAX_BYTES": "5000000"}
    with Service(NATS_URL=nats.url, **keys) as service:
        asks = nats_process.Client(nats)
        with Client(service.node, "pump") as client:
            for number in range(30):
                client.publish("a", str(number))
        until(lambda: asks.count(STREAM) == 30, service.node.log)
        config = asks.stream_info(STREAM)["config"]
        assert (config["max_age"], config["max_bytes"], config["discard"]) == (3600 * 10**9, 5_000_000, "old")
        service.node.terminate()
        service.node.wait()
        assert "forwarded" not in service.node.log()
