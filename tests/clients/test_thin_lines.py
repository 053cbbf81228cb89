"""A webhook, a bridge and a NATS sink over a thin line: more comes than it passes. Nothing is lost, twice, or out of order."""

import threading

import pytest

import nats_process
import test_bridges
import test_nats
import test_webhooks
from mosquitto_process import Mosquitto
from paho_client import Client
from test_http_api import KEY
from test_http_registry import call
from test_sinks import until
from throttle import Throttle

PUBLISHERS, EACH, PADDING = 3, 60, "x" * 1_000
# The messages take some five seconds, a request of a webhook longer than a tenth of one.
RATE = 40_000


class Webhook:
    kind = "webhook/crm"

    def __init__(self):
        self.server = test_webhooks.Receiver()
        self.port = self.server.server.server_port

    def configured(self, place, port):
        return test_webhooks.configured(place, f"http://127.0.0.1:{port}/hook", timeout_secs=10)

    def received(self):
        with self.server.lock:
            return [message["topic"] for message, _, _ in self.server.received]

    def close(self):
        self.server.close()


class Bridge:
    kind = "bridge/up"

    def __init__(self):
        self.server = Mosquitto()
        self.port = self.server.port

    def configured(self, place, port):
        return test_bridges.configured(place, test_bridges.bridge_text(port, '["plant/# out 1"]'))

    def received(self):
        return [topic for topic, _, _ in test_bridges.received(self.server, "plant/")]

    def close(self):
        self.server.close()


class Nats:
    kind = "nats/raw"

    def __init__(self):
        self.server = nats_process.Server()
        self.port = self.server.port
        # Duplicates would be seen.
        nats_process.Client(self.server).add_stream("RAW", "raw.>", duplicate_window=100_000_000)

    def configured(self, place, port):
        return test_nats.configured(place, f"nats://127.0.0.1:{port}", timeout_secs=30)

    def received(self):
        return [head["Mqtt-Topic"] for _, head, _ in nats_process.Client(self.server).all("RAW")]

    def close(self):
        self.server.close()


@pytest.mark.parametrize("target", [Webhook, Bridge, Nats])
def test_nothing_is_lost_over_a_thin_line(start_node, tmp_path, target):
    other = target()
    line = Throttle(other.port, RATE)
    try:
        node = start_node(**other.configured(tmp_path, line.port))
        state = lambda: call(node, "GET", f"/api/v1/integrations/{other.kind}", key=KEY)

        def publish(number):
            with Client(node, f"pump-{number}") as client:
                for at in range(EACH):
                    client.publish(f"plant/{number}/{at}", PADDING)

        threads = [threading.Thread(target=publish, args=(number,)) for number in range(PUBLISHERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        # What waits is not called a failure.
        states = set()
        until(lambda: states.add(state()["state"]) or state()["lag"] == 0, lambda: [state(), node.log()])
        assert states == {"running"}, (states, node.log())
        found = other.received()
        assert len(found) == PUBLISHERS * EACH, len(found)
        test_bridges.check_order([(topic, 1, False) for topic in found], PUBLISHERS, EACH)
        assert state()["dead_letters"] == 0
    finally:
        line.close()
        other.close()

