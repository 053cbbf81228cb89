"""martlet why while the message store takes nothing more: by its limit, and on a full disk."""

import json
import os
import subprocess
import time

import pytest

import martlet_process
from paho_client import Client, properties
from test_access import until
from test_why import expect, verdict

LIMIT = 96 << 20


@pytest.fixture
def full_disk(tmp_path):
    """A data directory on a disk of its own, which is soon full."""
    path = tmp_path / "disk"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200m", "none", path], check=True)
    yield path
    subprocess.run(["umount", "-l", path], check=True)


def fill(node, publisher):
    """Publishes until the store takes no more: the messages, of which the last ones wait."""
    expiry = properties("CONNECT", SessionExpiryInterval=3600)
    keeper = Client(node, "keeper", clean=False, properties=expiry).start()
    keeper.subscribe("q", qos=1)
    keeper.disconnect()
    sent = []

    def is_waiting():
        return len(sent) > 3 and not sent[-3].is_published()

    def is_held():
        deadline = time.monotonic() + 3
        while is_waiting():
            if time.monotonic() > deadline:
                return True
            time.sleep(0.01)
        return False

    while not is_held():
        assert len(sent) < 1000, "it is never full"
        sent.append(publisher.client.publish("q", os.urandom(1_000_000), qos=1))
    return sent


def said_by(publisher):
    """What the broker's DISCONNECT says."""
    said = []
    ended = publisher.client.on_disconnect

    def on_disconnect(client, data, flags, reason, answered):
        said.append(getattr(answered, "ReasonString", None))
        ended(client, data, flags, reason, answered)

    publisher.client.on_disconnect = on_disconnect
    return said


def check(node, why, limit):
    with Client(node, "p") as publisher:
        said = said_by(publisher)
        fill(node, publisher)
        answer = expect(node, "store-full", f"its publishes wait: {why}", "p")
        assert answer["state"] == "connected"
        assert limit in answer["remedy"] and "store_stalled_secs" not in json.dumps(answer), answer
        # With a topic likewise; and of who only listens it is the likeliest reason.
        expect(node, "store-full", f"its publishes wait: {why}", "p", "q")
        with Client(node, "listener") as listener:
            listener.subscribe("q", qos=1)
            expect(node, "store-full", f"messages with QoS 1 and 2 wait, from all publishers: {why}", "listener")
        publisher.wait_for_end()
        return said


def test_a_store_that_takes_as_much_as_it_may_is_named_with_its_limit(start_node):
    node = start_node(settings=[f"limits.store_bytes={LIMIT}", "limits.store_stalled_secs=12",
                                "limits.queued_bytes=1000000000"])
    [said] = check(node, "the message store has reached limits.store_bytes", "limits.store_bytes")
    assert said == "the message store is full (limits.store_bytes)"
    answer = expect(node, "store-full", f"the message store is full (limits.store_bytes = {LIMIT})", "p")
    assert "limits.store_bytes" in answer["remedy"]
    # Who needs room to come in is told the same.
    expiry = properties("CONNECT", SessionExpiryInterval=3600)
    new = Client(node, "new", clean=False, properties=expiry).start()
    assert new.connack.value == 0x97
    new.client.loop_stop()
    expect(node, "store-full", f"the message store is full (limits.store_bytes = {LIMIT})", "new")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts")
def test_a_full_disk_is_named(start_node, full_disk):
    node = start_node(data_dir=full_disk, settings=["limits.store_stalled_secs=12", "limits.queued_bytes=1000000000"])
    [said] = check(node, "the disk is full", "room on the disk")
    assert said.startswith("the disk of the message store is full")
