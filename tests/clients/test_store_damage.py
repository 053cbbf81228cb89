"""A message of which nothing is left on the disk but that its queue had one more: who keeps the node is told of it in
every way, and who waited for it too."""

import json
import pathlib
import re
import struct

import pytest

import martlet_process
from paho_client import Client, properties
from test_access import until
from test_http_api import KEYS, ask
from test_rules import call

LASTS = {"clean": False, "properties": properties("CONNECT", SessionExpiryInterval=3600)}


def leave_messages(data):
    """A stopped node that owes a session three messages."""
    with martlet_process.Node(data_dir=data) as node:
        with Client(node, "meter", **LASTS) as meter:
            meter.subscribe("t/#", qos=1)
        with Client(node, "sensor") as sensor:
            for payload in ("the first one", "the second one", "the third one"):
                sensor.publish("t/1", payload, 1)


def flip(path, place):
    with open(path, "r+b") as file:
        file.seek(place)
        byte = file.read(1)[0]
        file.seek(place)
        file.write(bytes([byte ^ 1]))


def blocks(data):
    """Where the blocks of a checkpoint begin: the first one, those of bodies and of queues, and others."""
    at = 0
    while at < len(data):
        yield at
        at += (16 + struct.unpack("<I", data[at + 4:at + 8])[0] + 7) // 8 * 8


def damage(data):
    """The record of the second message, and what both copies of the checkpoint say of it."""
    records, checkpoints = 0, 0
    for path in pathlib.Path(data, "store").iterdir():
        contents = path.read_bytes()
        if path.name.endswith(".checkpoint"):
            checkpoints += 1
            for at in list(blocks(contents))[1:3]:
                flip(path, at + 20)
        elif (place := contents.find(b"the second one")) >= 0:
            records += 1
            flip(path, place)
    assert (records, checkpoints) == (1, 2)


def martlet(data, *command):
    return martlet_process.run(*command, "--data-dir", str(data))


@pytest.fixture
def damaged(tmp_path):
    data = tmp_path / "data"
    leave_messages(data)
    assert martlet(data, "store", "check").returncode == 0
    damage(data)
    return data


def test_a_check_names_who_waited_for_it(damaged):
    done = martlet(damaged, "store", "check")
    named = [line for line in done.stdout.splitlines() if 'it waited for client "meter"' in line]
    assert done.returncode == 1 and len(named) == 1 and "is lost" in named[0], done


def test_health_and_why_tell_it_once_the_session_comes(damaged):
    with martlet_process.Node(data_dir=damaged, http=True, variables=KEYS) as node:
        warned = lambda text: [one for one in json.loads(martlet(damaged, "health", "--json").stdout)["warnings"] if text in one]
        # At once, since nobody may ever come for it.
        assert warned("The store was found damaged at the start"), martlet(damaged, "health").stdout
        with Client(node, "meter", **LASTS) as meter:
            assert [meter.receive_payload() for _ in range(2)] == ["the first one", "the third one"]
            until(lambda: warned("could not be read back"), "health tells it")
            [warning] = warned("could not be read back")
            assert warning.startswith("1 message could") and "martlet store check" in warning
            until(lambda: node.why("meter")["wrong"], "why tells it")
            answer = node.why("meter")
            assert answer["wrong"] and answer["sentence"].startswith("1 message for it was dropped"), answer
            assert "it is damaged on the disk" in answer["sentence"], answer
            assert "martlet store check" in answer["remedy"], answer
        page = ask(node, "/metrics")[2].decode()
        assert 'reason="store_damaged"} 1' in page and "martlet_store_unreadable_total 1" in page
        assert martlet(damaged, "health", "--strict").returncode == 3


def memory(node):
    """Bytes by what they are held for, where that is not an estimate for what may come."""
    page = ask(node, "/metrics")[2].decode()
    found = re.findall(r'^martlet_memory_bytes\{held_for="(\w+)"\} (\d+)', page, re.M)
    return {part: int(value) for part, value in found}


@pytest.mark.parametrize("messages, until_freed", [(600, False), pytest.param(3_000, True, marks=pytest.mark.long)])
def test_memory_after_a_repair_is_that_of_what_is_left(tmp_path, messages, until_freed):
    """What was damaged leaves nothing in memory: neither while its queue waits, nor, which takes a while, once that is taken."""
    data = tmp_path / "data"
    options = {"data_dir": data, "http": True, "variables": KEYS, "settings": ["http.rate=0"]}
    with martlet_process.Node(**options) as node:
        empty = memory(node)
        with Client(node, "meter", **LASTS) as meter:
            meter.subscribe("t/#", qos=1)
        with Client(node, "sensor") as sensor:
            sent = [sensor.client.publish("t/1", f"number {number:06}", 1) for number in range(messages)]
            until(lambda: all(one.is_published() for one in sent), node.log)
        whole = memory(node)
    damaged = 0
    for path in (data / "store").iterdir():
        contents = path.read_bytes()
        for number in range(0, messages, 3):
            if not path.name.endswith(".checkpoint") and (place := contents.find(b"number %06d" % number)) >= 0:
                flip(path, place)
                damaged += 1
    assert damaged > messages // 4 and martlet(data, "store", "check").returncode == 1
    assert martlet(data, "store", "repair").returncode == 0
    assert martlet(data, "store", "check").returncode == 0
    with martlet_process.Node(**options) as node:
        left = memory(node)
        assert left["store"] <= whole["store"] and sum(left.values()) <= sum(whole.values()), (left, whole)
        with Client(node, "sensor") as sensor:
            sensor.publish("t/1", "last", 1)
        found = set()
        with Client(node, "meter", **LASTS) as meter:
            while (payload := meter.receive_payload()) != "last":
                found.add(payload)
        assert len(found) >= messages - damaged
        call(node, "DELETE", "/sessions/meter", status=204)
        if until_freed:
            # It holds little more than a node that never had any: names in the journal and in events.
            total = lambda found: sum(found.values())
            is_over = lambda: total(memory(node)) - total(empty) <= (total(whole) - total(empty)) / 5
            until(is_over, "it holds no messages")
