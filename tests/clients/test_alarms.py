"""Alarms: their states, who is told of them, and what the node watches itself."""

import json
import socketserver
import threading

import pytest

from paho_client import Client
from test_access import until
from test_http_api import VIEWER
from test_rules import call, configured, crash
from test_webhook_formats import Requests

HOT = """
[[rules]]
name = "hot"
topics = ["plant/+/temperature"]
device = "{{ levels[1] }}"
alarm = { severity = "major", message = "{{ device.id }} is at {{ payload }}", threshold = { above = 80, clear = 75 } }
"""


def alarms(node, query=""):
    return call(node, "GET", f"/alarms{query}")["items"]


@pytest.fixture
def receiver():
    made = Requests()
    yield made
    made.close()


@pytest.fixture
def node(start_node, tmp_path):
    return start_node(**configured(tmp_path, text=HOT, settings=["iotflow.publish_secs=1"]))


def test_a_threshold_raises_an_alarm_and_clears_it(node):
    with Client(node, "monitor") as monitor, Client(node, "warned") as warned, Client(node, "pump") as pump:
        monitor.subscribe("iotflow/system/alarms", qos=1)
        warned.subscribe("iotflow/system/alerts", qos=1)
        for value in (79, 81, 90, 76):
            pump.publish("plant/p1/temperature", str(value))
        raised = json.loads(monitor.receive_payload())
        assert (raised["change"], raised["state"], raised["severity"]) == ("raised", "active", "major")
        assert (raised["name"], raised["device"], raised["value"]) == ("hot", "p1", 81)
        assert raised["message"] == "p1 is at 81"
        until(lambda: [(one["id"], one["state"]) for one in alarms(node)] == [(raised["id"], "active")], node.log)
        pump.publish("plant/p1/temperature", "75")
        cleared = json.loads(monitor.receive_payload())
        assert (cleared["id"], cleared["change"]) == (raised["id"], "cleared")
        # What the node warns of is another topic, and has one form.
        for message in (warned.receive(), *list(warned.messages.queue)):
            assert sorted(json.loads(message.payload)) == ["alerts", "count", "timestamp"], message.payload
    until(lambda: alarms(node) == [], node.log)
    [alarm] = alarms(node, "?state=cleared&device=p1")
    assert alarm["cleared_at"] >= alarm["raised_at"]
    with Client(node, "late") as late:
        late.subscribe("iotflow/system/alarms", qos=1)
        message = late.receive()
        assert message.retain and json.loads(message.payload)["change"] == "cleared"


def test_an_alarm_is_acknowledged_shelved_and_cleared(node):
    with Client(node, "pump") as pump:
        pump.publish("plant/p1/temperature", "90")
    until(lambda: len(alarms(node)) == 1, node.log)
    number = alarms(node)[0]["id"]
    call(node, "POST", f"/alarms/{number}/acknowledge", status=403, key=VIEWER)
    changed = call(node, "POST", f"/alarms/{number}/acknowledge")
    assert changed["state"] == "acknowledged" and changed["changed_by"]
    call(node, "POST", f"/alarms/{number}/acknowledge", status=409)
    call(node, "POST", f"/alarms/{number}/unshelve", status=409)
    call(node, "POST", f"/alarms/{number}/shelve", {"secs": 0}, 422)
    shelved = call(node, "POST", f"/alarms/{number}/shelve", {"secs": 3600})
    assert shelved["state"] == "shelved" and shelved["shelved_until"] > shelved["raised_at"]
    assert call(node, "POST", f"/alarms/{number}/unshelve")["state"] == "acknowledged"
    assert call(node, "POST", f"/alarms/{number}/clear")["state"] == "cleared"
    call(node, "POST", f"/alarms/{number}/clear", status=404)
    assert call(node, "GET", f"/alarms/{number}")["state"] == "cleared"


def test_alarms_survive_a_crash(start_node, tmp_path):
    options = configured(tmp_path, text=HOT, data_dir=tmp_path / "data")
    node = start_node(**options)
    with Client(node, "pump") as pump:
        pump.publish("plant/p1/temperature", "90")
    until(lambda: len(alarms(node)) == 1, node.log)
    before = alarms(node)[0]
    crash(node)
    node = start_node(**options)
    until(lambda: [one["id"] for one in alarms(node)] == [before["id"]], node.log)
    with Client(node, "pump") as pump:
        # It is the same alarm, and this value ends it.
        pump.publish("plant/p1/temperature", "95")
        pump.publish("plant/p1/temperature", "20")
    until(lambda: alarms(node) == [], node.log)
    assert [one["id"] for one in alarms(node, "?state=cleared")] == [before["id"]]


def test_silence_is_an_alarm(start_node, tmp_path):
    node = start_node(**configured(tmp_path, text=""))
    rule = {"topics": ["beat/+"], "device": "{{ levels[1] }}", "alarm": {"no_data": {"after_secs": 1}}}
    call(node, "PUT", "/rules/silent", rule, 201)
    with Client(node, "pump") as pump:
        pump.publish("beat/p1", "x")
        until(lambda: [one["device"] for one in alarms(node)] == ["p1"], node.log)
        pump.publish("beat/p1", "x")
        until(lambda: alarms(node, "?state=cleared"), node.log)


def test_a_device_that_leaves_its_area_raises_an_alarm(start_node, tmp_path):
    node = start_node(**configured(tmp_path, text=""))
    area = "inside(payload.lat, payload.lon, [[0.0, 0.0], [0.0, 2.0], [2.0, 2.0], [2.0, 0.0]])"
    rule = {"topics": ["gps/+"], "alarm": {"severity": "critical", "condition": {"raise_when": f"!{area}"}}}
    call(node, "PUT", "/rules/outside", rule, 201)
    with Client(node, "car") as car:
        car.publish("gps/1", '{"lat": 1, "lon": 1}')
        car.publish("gps/1", '{"lat": 5, "lon": 1}')
        until(lambda: [one["severity"] for one in alarms(node)] == ["critical"], node.log)
        assert alarms(node, "?severity=critical") and not alarms(node, "?name=other")
        car.publish("gps/1", '{"lat": 1, "lon": 1}')
        until(lambda: alarms(node) == [], node.log)


def test_alarms_are_events(start_node, tmp_path):
    node = start_node(**configured(tmp_path, text=HOT, settings=["events.publish=alarm_raised,alarm_changed"]))
    with Client(node, "monitor") as monitor, Client(node, "pump") as pump:
        monitor.subscribe("$events/+", qos=1)
        pump.publish("plant/p1/temperature", "90")
        event = json.loads(monitor.receive_payload())
        assert (event["kind"], event["client_id"]) == ("alarm_raised", "p1")
        assert (event["alarm"]["name"], event["alarm"]["severity"]) == ("hot", "major")
        pump.publish("plant/p1/temperature", "10")
        assert json.loads(monitor.receive_payload())["kind"] == "alarm_changed"


class Mails(socketserver.StreamRequestHandler):
    """A server of SMTP that takes everything."""

    def handle(self):
        self.wfile.write(b"220 mail ESMTP\r\n")
        while line := self.rfile.readline():
            word = line.strip().upper()
            if word.startswith(b"EHLO"):
                self.wfile.write(b"250-mail\r\n250 8BITMIME\r\n")
            elif word == b"DATA":
                self.wfile.write(b"354 go on\r\n")
                lines = []
                while (line := self.rfile.readline()) not in (b".\r\n", b""):
                    lines.append(line.decode())
                self.server.mails.append("".join(lines))
                self.wfile.write(b"250 ok\r\n")
            elif word == b"QUIT":
                return self.wfile.write(b"221 bye\r\n")
            else:
                self.wfile.write(b"250 ok\r\n")


@pytest.fixture
def mails():
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Mails) as server:
        server.daemon_threads = True
        server.mails = []
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def test_an_alarm_is_a_mail(start_node, tmp_path, mails):
    text = f"""{HOT}
[integrations]
allow_private = "127.0.0.0/8"

[[sinks.email]]
name = "operators"
filters = ["iotflow/system/alarms"]
server = "127.0.0.1"
port = {mails.server_address[1]}
tls = "none"
from = "Martlet <martlet@example.com>"
to = ["ops@example.com"]
"""
    node = start_node(**configured(tmp_path, text=text))
    call(node, "POST", "/integrations/email/operators/test")
    with Client(node, "pump") as pump:
        pump.publish("plant/p1/temperature", "90")
    until(lambda: len(mails.mails) == 1, node.log)
    [mail] = mails.mails
    assert "Subject: [raised] hot p1\r\n" in mail and "p1 is at 90" in mail and "Severity: major" in mail


def test_an_alarm_is_a_webhook(start_node, tmp_path, receiver):
    text = f"""{HOT}
[integrations]
allow_private = "127.0.0.0/8"

[[sinks.webhook]]
name = "operators"
filters = ["iotflow/system/alarms"]
url = "{receiver.url}"
"""
    node = start_node(**configured(tmp_path, text=text))
    with Client(node, "pump") as pump:
        pump.publish("plant/p1/temperature", "90")
        pump.publish("plant/p1/temperature", "10")
    until(lambda: len(receiver.bodies()) == 2, node.log)
    told = [json.loads(body["payload"]) for body in receiver.bodies()]
    assert [(one["name"], one["device"], one["change"]) for one in told] == [("hot", "p1", "raised"), ("hot", "p1", "cleared")]


def test_alarms_of_a_rule_that_is_removed_are_cleared(start_node, tmp_path):
    node = start_node(**configured(tmp_path, text=""))
    rule = {"topics": ["t"], "alarm": {"threshold": {"above": 1}}}
    call(node, "PUT", "/rules/high", rule, 201)
    with Client(node, "pump") as pump:
        pump.publish("t", "2")
    until(lambda: len(alarms(node)) == 1, node.log)
    call(node, "DELETE", "/rules/high", status=204)
    until(lambda: alarms(node) == [], node.log)
