"""The wall clock of a running node is set forward and back: rules, alarms, telemetry and integrations go on, and what
waits for a time waits as long as if the clock had not been set."""

import pathlib
import subprocess
import time
from datetime import datetime

import pytest

from paho_client import Client
from test_access import until
from test_alarms import alarms
from test_rules import call, configured
from test_webhook_formats import Requests

SOURCE = pathlib.Path(__file__).with_name("clock.c")
HOUR = 3600

TEXT = """
[integrations]
allow_private = ["127.0.0.0/8"]

[telemetry]
enabled = true

[[sinks.webhook]]
name = "crm"
filters = ["crm/#"]
url = "%s"

[[rules]]
name = "copy"
topics = ["from"]
actions = [{ publish = { topic = "to", payload = "{{ payload }}", qos = 1 } }]

[[rules]]
name = "hot"
topics = ["plant/+"]
device = "{{ levels[1] }}"
alarm = { for_secs = 2, threshold = { above = 80, clear = 75 } }

[[rules]]
name = "silent"
topics = ["beat/+"]
device = "{{ levels[1] }}"
alarm = { no_data = { after_secs = 600 } }
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    path = tmp_path_factory.mktemp("library") / "clock.so"
    subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", path, SOURCE, "-ldl"], check=True)
    return path


@pytest.fixture
def receiver():
    made = Requests()
    yield made
    made.close()


def test_parts_go_on_while_the_clock_is_set(start_node, tmp_path, receiver, library):
    shift = tmp_path / "shift"
    shift.write_text("0")
    options = configured(tmp_path, text=TEXT % receiver.url)
    options["variables"] = {**options["variables"], "LD_PRELOAD": str(library), "CLOCK_SHIFT": str(shift)}
    node = start_node(**options)
    call(node, "POST", "/devices", {"id": "p1"}, status=201)
    call(node, "POST", "/users", {"name": "ada", "password": "correct horse", "role": "administrator"}, status=201)
    raised = lambda: {one["name"] for one in alarms(node)}
    with Client(node, "ada").credentials("ada", "correct horse") as client:
        client.subscribe("to", qos=1)
        client.publish("beat/p1", "1", qos=1)
        for turn, ahead in enumerate((0, 2 * HOUR, -HOUR)):
            new = tmp_path / "new"
            new.write_text(str(ahead))
            # In one step: the node reads it at any time.
            new.rename(shift)
            client.publish("from", str(turn), qos=1)
            assert client.receive_payload() == str(turn)
            client.publish("crm/1", str(turn), qos=1)
            until(lambda: len(receiver.bodies()) == turn + 1, node.log)
            call(node, "POST", "/devices/p1/telemetry", {"turn": turn}, status=201)
            client.publish("plant/p1", "90", qos=1)
            until(lambda: "hot" in raised(), node.log)
            # Alarms have been looked at since, twice at least.
            assert raised() == {"hot"}
            client.publish("plant/p1", "20", qos=1)
            until(lambda: raised() == set(), node.log)
    found = call(node, "GET", "/devices/p1/telemetry?from=1970-01-02T00:00:00Z")["items"]
    ahead = {one["value"]: datetime.fromisoformat(one["time"]).timestamp() - time.time() for one in found}
    assert [round(ahead[turn] / HOUR) for turn in range(3)] == [0, 2, -1]
    shown = call(node, "GET", "/integrations/webhook/crm")
    assert (shown["delivered"], shown["state"], shown["failure"]) == (3, "running", None), shown
