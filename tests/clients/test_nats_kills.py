"""The node is killed under load while its NATS sink publishes: the stream has each message once, in order."""

import threading

import pytest

import nats_process
from paho_client import Client
from server_process import free_port
from test_nats import configured, state
from test_sinks import until

PUBLISHERS, EACH, AT_ONCE = 4, 1_500, 20


@pytest.fixture(params=nats_process.BOTH)
def nats(request):
    server = nats_process.Server(source=request.param)
    yield server
    server.close()


class Publisher(threading.Thread):
    """Publishes numbers with QoS 1, each of them once: what was not acknowledged is not sent again."""

    def __init__(self, port, name):
        super().__init__(daemon=True)
        self.port, self.client_id, self.next, self.acknowledged = port, name, 0, set()

    def run(self):
        while self.next < EACH:
            try:
                with Client(None, self.client_id, port=self.port) as client:
                    self.publish(client)
            except (AssertionError, OSError):
                # The node is being killed or started.
                pass

    def publish(self, client):
        while self.next < EACH and client.end_reason is None:
            numbers = range(self.next, min(self.next + AT_ONCE, EACH))
            self.next = numbers.stop
            sent = {number: client.client.publish(f"plant/{self.client_id}", str(number), 1) for number in numbers}
            taken = lambda: {number for number, one in sent.items() if one.rc == 0 and one.is_published()}
            until(lambda: len(taken()) == len(sent) or client.end_reason is not None, self.client_id)
            self.acknowledged |= taken()


def test_each_message_is_in_the_stream_once_over_kills_of_the_node(start_node, tmp_path, nats):
    nats_process.Client(nats).add_stream("RAW", "raw.>", duplicate_window=600_000_000_000)
    port = free_port()
    options = {**configured(tmp_path, nats.url, subject="raw.{client}"), "listen": (f"mqtt://127.0.0.1:{port}",)}
    node = start_node(**options)
    publishers = [Publisher(port, f"pump-{number}") for number in range(PUBLISHERS)]
    for one in publishers:
        one.start()
    acknowledged = lambda: sum(len(one.acknowledged) for one in publishers)
    asks = nats_process.Client(nats)
    for share in (4, 2):
        until(lambda: acknowledged() >= PUBLISHERS * EACH // share and asks.count("RAW") > 0, lambda: acknowledged())
        node.process.kill()
        node.process.wait()
        node = start_node(**options)
    for one in publishers:
        one.join()
    assert acknowledged() > PUBLISHERS * EACH // 2
    until(lambda: state(node)["lag"] == 0 and asks.count("RAW") >= acknowledged(), lambda: [state(node), node.log()])
    found = asks.all("RAW")
    for one in publishers:
        got = [int(payload) for subject, _, payload in found if subject == f"raw.{one.client_id}"]
        assert got == sorted(set(got)), one.client_id
        assert one.acknowledged <= set(got), (one.client_id, one.acknowledged - set(got))
