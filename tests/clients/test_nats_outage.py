"""A long outage of nats-server under load: nothing is lost, the order of each client is kept, the lag is shown, and the
backlog drains at full speed. The stream is the one that the sink creates. MARTLET_OUTAGE_SECS is the length of the
outage, up to the 13 minutes that the duplicates window of that stream covers: tests take a minute, a campaign more:

    MARTLET_OUTAGE_SECS=600 tests/run clients/test_nats_outage.py
"""

import datetime
import os
import socket
import threading
import time

import pytest

import nats_process
from paho_client import Client
from test_http_api import KEY
from test_http_registry import call
from test_nats import configured, state, until_count, warnings
from test_sinks import until

OUTAGE_SECS = int(os.environ.get("MARTLET_OUTAGE_SECS", "60"))
PUBLISHERS = 4
# Messages of each publisher in a second.
RATE = 50


@pytest.mark.parametrize("how", ["killed", "hanging"])
@pytest.mark.long
def test_an_outage_under_load(start_node, tmp_path, how):
    nats = nats_process.Server(source=nats_process.NEWER if how == "killed" else nats_process.DEBIAN)
    try:
        node = start_node(**configured(tmp_path, nats.url, subject="raw.{client}", stream="RAW", timeout_secs=2))
        sent, is_over = [0] * PUBLISHERS, threading.Event()

        def publish(number):
            with Client(node, f"pump-{number}") as client:
                begin = time.monotonic()
                while not is_over.is_set():
                    client.publish(f"plant/{number}", str(sent[number]))
                    sent[number] += 1
                    ahead = begin + sent[number] / RATE - time.monotonic()
                    is_over.wait(max(0, ahead))

        threads = [threading.Thread(target=publish, args=(number,)) for number in range(PUBLISHERS)]
        for thread in threads:
            thread.start()
        until(lambda: state(node)["delivered"] >= 100, lambda: state(node))
        began = time.monotonic()
        nats.kill() if how == "killed" else nats.hang()
        reason = "cannot be reached" if how == "killed" else "does not answer"
        until(lambda: any(reason in one for one in warnings(node)), lambda: warnings(node))
        seen = []
        while time.monotonic() < began + OUTAGE_SECS:
            until(lambda: time.monotonic() > began + (len(seen) + 1) * OUTAGE_SECS / 4, "time stands still",
                  timeout=OUTAGE_SECS)
            told = state(node)
            received = datetime.datetime.fromisoformat(told["oldest_received_at"])
            age = (datetime.datetime.now(datetime.UTC) - received).total_seconds()
            seen.append((told["state"], told["lag"], age))
            assert any(reason in one for one in warnings(node)), warnings(node)
        # It grows with what is published.
        assert all(one[0] == "retrying" for one in seen), seen
        for earlier, later in zip(seen, seen[1:]):
            assert later[1] > earlier[1] + OUTAGE_SECS / 4 * RATE and later[2] > earlier[2], seen
        is_over.set()
        for thread in threads:
            thread.join()
        waiting = state(node)["lag"]
        nats.start() if how == "killed" else nats.go_on()
        call(node, "POST", "/api/v1/integrations/nats/raw/resume", key=KEY)
        begin = time.monotonic()
        until(lambda: state(node)["lag"] == 0, lambda: state(node), timeout=120)
        rate = waiting / (time.monotonic() - begin)
        print(f"{how}: {OUTAGE_SECS} s, {sum(sent)} messages, {waiting} waited, drained with {rate:.0f} a second")
        # Far faster than they came, also in a program without optimizations.
        assert rate > 3 * PUBLISHERS * RATE, rate
        found = until_count(node, nats, sum(sent))
        for number in range(PUBLISHERS):
            got = [int(payload) for subject, _, payload in found if subject == f"raw.pump-{number}"]
            assert got == list(range(sent[number])), f"pump-{number}"
    finally:
        nats.close()


class Link:
    """What lies between a node and nats-server: a network with a delay, which can hold answers back and break."""

    def __init__(self, port, delay_secs):
        self.to, self.delay_secs, self.flows, self.wires = port, delay_secs, threading.Event(), []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.flows.set()
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        try:
            while True:
                near, _ = self.listener.accept()
                far = socket.create_connection(("127.0.0.1", self.to))
                self.wires += [near, far]
                for one in ((near, far, 0), (far, near, self.delay_secs)):
                    threading.Thread(target=self.carry, args=one, daemon=True).start()
        except OSError:
            pass

    def carry(self, source, to, delay_secs):
        try:
            while data := source.recv(1 << 20):
                if delay_secs:
                    self.flows.wait()
                    time.sleep(delay_secs)
                to.sendall(data)
        except OSError:
            pass

    def cut(self):
        wires, self.wires = self.wires, []
        for wire in wires:
            wire.shutdown(socket.SHUT_RDWR)
        self.flows.set()

    def close(self):
        self.listener.close()


@pytest.mark.long
def test_a_connection_that_is_lost_costs_little_time(start_node, tmp_path):
    """Any of the messages that were under way may be why the server ended the connection."""
    nats = nats_process.Server()
    link = Link(nats.port, delay_secs=0.03)
    try:
        node = start_node(**configured(
            tmp_path, f"nats://127.0.0.1:{link.port}", subject="raw.{client}", stream="RAW", timeout_secs=30))
        count = 1500
        with Client(node, "pump") as client:
            client.publish("plant/1", "0")
            until(lambda: state(node)["delivered"] == 1, lambda: state(node))
            link.flows.clear()
            for number in range(1, count):
                client.client.publish("plant/1", str(number), 1)
            until(lambda: state(node)["lag"] == count - 1, lambda: state(node))
            until(lambda: nats_process.Client(nats).count("RAW") >= 900, lambda: state(node))
            link.cut()
            begin = time.monotonic()
            until(lambda: state(node)["lag"] == 0, lambda: state(node), timeout=60)
            print(f"{count} messages after {time.monotonic() - begin:.1f} s")
        found = until_count(node, nats, count)
        assert [int(payload) for _, _, payload in found] == list(range(count))
    finally:
        link.close()
        nats.close()
