"""A message of which nothing is left on the disk but that its queue had one more: who keeps the node is told of it in
every way, and who waited for it too."""

import json
import pathlib
import struct

import pytest

import martlet_process
from paho_client import Client, properties
from test_access import until
from test_http_api import KEYS, ask

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
