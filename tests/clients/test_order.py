"""The order of a sink, `order`: messages of one user over several connections, and of one topic by several users, are
in JetStream as they were published, over an outage of nats-server and kills of the node. A changed `order` loses
nothing."""

import itertools
import threading

import pytest

import nats_process
from paho_client import Client
from server_process import free_port
from test_access import mosquitto_passwd
from test_nats import configured, state, warnings
from test_sinks import until

USERS, CONNECTIONS_OF_EACH = ("ann", "bob"), 4
TOPICS = ("plant/1", "plant/2", "plant/3")
STEP = 150


@pytest.fixture
def nats():
    server = nats_process.Server(source=nats_process.NEWER)
    nats_process.Client(server).add_stream("RAW", "raw.>", duplicate_window=600_000_000_000)
    yield server
    server.close()


def options_of(tmp_path, nats, port, **keys):
    options = configured(tmp_path, nats.url, timeout_secs=2, **keys)
    passwords = mosquitto_passwd(tmp_path / "passwd", *((user, "secret") for user in USERS))
    # Connections are on several shards, also on a machine with few cores.
    settings = ("node.threads=4", f"auth.password_file={passwords}")
    return {**options, "settings": settings, "listen": (f"mqtt://127.0.0.1:{port}",)}


class Publishers(threading.Thread):
    """Connections that publish numbers in turn, each when the one before has its PUBACK. A number whose PUBACK did not
    come is not published again."""

    def __init__(self, port, until):
        super().__init__(daemon=True)
        self.port, self.next, self.until, self.acknowledged = port, 0, until, set()

    def run(self):
        while self.next < self.until:
            try:
                self.publish()
            except (AssertionError, OSError):
                # The node is being killed or started.
                pass

    def publish(self):
        clients = [Client(None, f"{user}-{number}", port=self.port).credentials(user, "secret")
                   for user in USERS for number in range(CONNECTIONS_OF_EACH)]
        try:
            for one in clients:
                one.start()
            # Neither the users nor the topics come in the order of the connections.
            for client, topic in zip(itertools.cycle(clients[::3] + clients[1::3] + clients[2::3]),
                                     itertools.cycle(TOPICS)):
                if self.next >= self.until:
                    return
                number = self.next
                self.next += 1
                client.publish(topic, str(number))
                self.acknowledged.add(number)
        finally:
            for one in clients:
                one.disconnect()


def kill(node):
    node.process.kill()
    node.process.wait()


def by_subject(nats):
    found = {}
    for subject, _, payload in nats_process.Client(nats).all("RAW"):
        found.setdefault(subject, []).append(int(payload))
    return found


@pytest.mark.parametrize("order, subject, subjects", [
    ("user", "raw.{user}", {f"raw.{user}" for user in USERS}),
    ("topic", "raw.{topic}", {f"raw.{topic.replace('/', '.')}" for topic in TOPICS}),
])
def test_the_order_of_a_sink_over_an_outage_and_kills(start_node, tmp_path, nats, order, subject, subjects):
    port = free_port()
    options = options_of(tmp_path, nats, port, subject=subject, order=order)
    node = start_node(**options)
    publishers = Publishers(port, until=4 * STEP)
    publishers.start()
    count = lambda: len(publishers.acknowledged)
    until(lambda: count() > STEP // 2, lambda: node.log())
    nats.kill()
    for share in (1, 2):
        until(lambda: count() > share * STEP, lambda: node.log())
        kill(node)
        node = start_node(**options)
    until(lambda: count() > 3 * STEP, lambda: node.log())
    # What waits is delivered while more comes.
    nats.start()
    publishers.join()
    until(lambda: state(node)["lag"] == 0, lambda: [state(node), node.log()])
    found = by_subject(nats)
    assert set(found) == subjects
    for name, numbers in found.items():
        assert numbers == sorted(set(numbers)), name
    assert publishers.acknowledged <= set(itertools.chain(*found.values()))


def test_a_changed_order_loses_nothing(start_node, tmp_path, nats):
    port = free_port()
    nats.kill()
    acknowledged, number = set(), 0
    for keys in ({}, {"order": "user"}, {"order": "publisher"}, {"order": "topic"}):
        node = start_node(**options_of(tmp_path, nats, port, subject="raw.{user}", **keys))
        publishers = Publishers(port, until=number + 40)
        publishers.next = number
        publishers.run()
        number, acknowledged = publishers.next, acknowledged | publishers.acknowledged
        kill(node)
    nats.start()
    node = start_node(**options_of(tmp_path, nats, port, subject="raw.{user}", order="user"))
    until(lambda: state(node)["state"] == "running" and state(node)["lag"] == 0, lambda: [state(node), node.log()])
    numbers = list(itertools.chain(*by_subject(nats).values()))
    assert len(numbers) == len(set(numbers)) and acknowledged <= set(numbers)


@pytest.mark.parametrize("order", ["user", "topic"])
def test_publishers_of_all_threads_wait_for_a_full_queue_and_nothing_is_lost(start_node, tmp_path, nats, order):
    nats.kill()
    options = options_of(tmp_path, nats, free_port(), subject="raw.{topic}", order=order, on_full="hold", max_bytes=100_000)
    node = start_node(**options)
    clients = [Client(node, f"{user}-{number}").credentials(user, "secret")
               for user in USERS for number in range(CONNECTIONS_OF_EACH)]
    for one in clients:
        one.client.max_inflight_messages_set(100)
        one.start()
    count = 40
    # Together they are more than the queue and all that is on its way to it.
    sent = [one.client.publish(f"plant/{place}", str(number).ljust(32_768), 1)
            for number in range(count) for place, one in enumerate(clients)]
    told = "its queue is full, and clients that publish for it wait"
    until(lambda: any(told in one for one in warnings(node)), node.log)
    assert not all(one.is_published() for one in sent)
    with Client(node, "other").credentials(USERS[0], "secret") as other:
        other.publish("elsewhere", "x")
    nats.start()
    until(lambda: all(one.is_published() for one in sent), node.log)
    until(lambda: state(node)["lag"] == 0, lambda: [state(node), node.log()])
    for one in clients:
        one.disconnect()
    expected = {f"raw.plant.{place}": list(range(count)) for place in range(len(clients))}
    assert by_subject(nats) == expected
