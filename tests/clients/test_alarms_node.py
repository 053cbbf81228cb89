"""Alarms over a restart, those that wait for something, and what the node watches itself."""

import json
import time

import pytest

from paho_client import Client
from test_access import until
from test_alarms import alarms
from test_cert import openssl
from test_http_api import KEYS
from test_rules import call, configured, crash
from test_webhook_formats import Requests


@pytest.fixture
def receiver():
    made = Requests()
    yield made
    made.close()


def self_signed(directory, name, days):
    """Paths of a certificate that ends after so many days, and of its key."""
    paths = directory / f"{name}.crt", directory / f"{name}.key"
    code, said = openssl(
        "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", days,
        "-subj", f"/CN={name}", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-out", paths[0], "-keyout", paths[1])
    assert code == 0, said
    return paths


def named(node, name, query=""):
    return [one for one in alarms(node, f"?name={name}{query}")]


def test_what_alarms_wait_for_goes_on_after_a_crash(start_node, tmp_path, variables):
    """for_secs, rate and no_data do not begin anew with a restart; with both kinds of tables."""
    text = """
[[rules]]
name = "long"
topics = ["long/+"]
alarm = { for_secs = 12, threshold = { above = 5 } }

[[rules]]
name = "fast"
topics = ["fast/+"]
alarm = { rate = { above = 5, per_secs = 1 } }

[[rules]]
name = "silent"
topics = ["silent/+"]
alarm = { no_data = { after_secs = 12 } }
"""
    options = configured(tmp_path, text=text, data_dir=tmp_path / "data")
    options["variables"] = variables
    node = start_node(**options)
    with Client(node, "pump") as pump:
        for topic, value in (("long/a", "9"), ("fast/a", "0"), ("silent/a", "x")):
            pump.publish(topic, value)
    until(lambda: sum(call(node, "GET", f"/rules/{name}")["counts"]["messages"] for name in ("long", "fast", "silent")) == 3,
          node.log)
    # What is not raised has no interface: a round of the alarms takes a second.
    time.sleep(2.5)
    crash(node)
    node = start_node(**options)
    assert alarms(node) == []
    with Client(node, "pump") as pump:
        pump.publish("fast/a", "100000")
    until(lambda: named(node, "fast"), node.log)
    until(lambda: named(node, "long") and named(node, "silent"), node.log)
    with Client(node, "pump") as pump:
        pump.publish("long/a", "1")
        pump.publish("silent/a", "x")
    until(lambda: not named(node, "long") and not named(node, "silent"), node.log)


def test_an_alarm_that_another_inhibits_is_raised_when_that_one_ends(start_node, tmp_path):
    text = """
[[rules]]
name = "power"
topics = ["power/+"]
device = "{{ levels[1] }}"
alarm = { condition = { raise_when = "payload == 'off'" } }

[[rules]]
name = "cold"
topics = ["temp/+"]
device = "{{ levels[1] }}"
alarm = { inhibited_by = ["power"], threshold = { below = 3 } }
"""
    node = start_node(**configured(tmp_path, text=text))
    with Client(node, "monitor") as monitor, Client(node, "pump") as pump:
        monitor.subscribe("iotflow/system/alarms", qos=1)
        pump.publish("power/p1", "off")
        assert json.loads(monitor.receive_payload())["name"] == "power"
        pump.publish("temp/p1", "1")
        # It is inhibited on this device alone.
        pump.publish("temp/p2", "1")
        found = json.loads(monitor.receive_payload())
        assert (found["name"], found["device"]) == ("cold", "p2")
        pump.publish("power/p1", "on")
        found = [json.loads(monitor.receive_payload()) for _ in range(2)]
        assert [(one["name"], one["device"], one["change"]) for one in found] == [
            ("power", "p1", "cleared"), ("cold", "p1", "raised")]


def test_a_shelved_alarm_is_active_again_after_its_time(start_node, tmp_path):
    text = """
[[rules]]
name = "hot"
topics = ["temp"]
alarm = { threshold = { above = 80 } }
"""
    options = configured(tmp_path, text=text, data_dir=tmp_path / "data")
    node = start_node(**options)
    with Client(node, "pump") as pump:
        pump.publish("temp", "90")
    until(lambda: alarms(node), node.log)
    number = alarms(node)[0]["id"]
    call(node, "POST", f"/alarms/{number}/shelve", {"secs": 4})
    until(lambda: alarms(node, "?state=shelved"), node.log)
    crash(node)
    node = start_node(**options)
    with Client(node, "monitor") as monitor:
        monitor.subscribe("iotflow/system/alarms", qos=1)
        changes = []
        while "unshelved" not in changes:
            changes.append(json.loads(monitor.receive_payload())["change"])
    assert [one["state"] for one in alarms(node)] == ["active"]


def test_a_device_that_is_inactive_is_an_alarm_until_it_sends_something(start_node, tmp_path):
    node = start_node(**configured(tmp_path, text=""))
    secret = call(node, "POST", "/devices", {"id": "pump-1"}, 201)["secret"]
    call(node, "PATCH", "/device-types/device", {"inactive_after_secs": 10}, headers={"If-Match": "*"})
    with Client(node, "pump-1").credentials("pump-1", secret) as pump:
        pump.publish("d/pump-1/t", "1")
        until(lambda: named(node, "device_inactive"), node.log, 60)
        [alarm] = named(node, "device_inactive")
        assert (alarm["device"], alarm["severity"], alarm["state"]) == ("pump-1", "warning", "active")
        assert alarm["message"] == "The device pump-1 has sent nothing for 10 s"
        pump.publish("d/pump-1/t", "2")
        until(lambda: not named(node, "device_inactive"), node.log, 60)


@pytest.mark.parametrize("days, name, severity", [
    (1, "certificate_1_day", "critical"), (6, "certificate_7_days", "major"), (29, "certificate_30_days", "warning"),
])
def test_a_certificate_is_an_alarm_30_7_and_1_days_before_its_end(start_node, tmp_path, days, name, severity):
    crt, key = self_signed(tmp_path, "server", days)
    options = configured(tmp_path, text="", listen=("mqtt://127.0.0.1:0", "mqtts://127.0.0.1:0"))
    options["settings"] += [f"tls.certificate={crt}", f"tls.key={key}"]
    node = start_node(**options)
    until(lambda: named(node, name), node.log)
    [alarm] = [one for one in alarms(node) if one["name"].startswith("certificate_")]
    assert (alarm["name"], alarm["severity"], alarm["subject"]) == (name, severity, str(crt)), alarm


def test_certificates_of_listeners_and_devices_that_end_soon_are_alarms(start_node, tmp_path):
    crt, key = self_signed(tmp_path, "server", 5)
    listen = ("mqtt://127.0.0.1:0", "mqtts://127.0.0.1:0")
    options = configured(tmp_path, text="", listen=listen)
    options["settings"] += [f"tls.certificate={crt}", f"tls.key={key}"]
    node = start_node(**options)
    until(lambda: named(node, "certificate_7_days"), node.log)
    [alarm] = named(node, "certificate_7_days")
    assert (alarm["severity"], alarm["subject"]) == ("major", str(crt)), alarm
    assert "expires in 4 days" in alarm["message"]
    # The worst one that applies is raised, no other.
    assert not named(node, "certificate_1_day") and not named(node, "certificate_30_days")
    # Another certificate, in the same file.
    other, other_key = self_signed(tmp_path, "other", 400)
    crt.write_bytes(other.read_bytes())
    key.write_bytes(other_key.read_bytes())
    call(node, "POST", "/reload")
    until(lambda: not named(node, "certificate_7_days") and not named(node, "certificate_30_days"), node.log)

    for device in ("soon", "late"):
        call(node, "POST", "/devices", {"id": device}, 201)
    soon, late = (self_signed(tmp_path, name, days)[0].read_text() for name, days in (("soon", 20), ("late", 400)))
    made = call(node, "POST", "/devices/soon/credentials", {"name": "card", "certificate": soon}, 201)
    assert made["kind"] == "certificate" and made["expires_at"]
    call(node, "POST", "/devices/late/credentials", {"certificate": late}, 201)
    call(node, "POST", "/devices/late/credentials", {"certificate": "no PEM"}, 422)
    until(lambda: named(node, "certificate_30_days"), node.log)
    [alarm] = named(node, "certificate_30_days")
    assert (alarm["device"], alarm["state"]) == ("soon", "active")
    assert "The certificate of the device soon expires in 19 days" in alarm["message"]
    # It has another one, which ends later.
    newer = self_signed(tmp_path, "newer", 300)[0].read_text()
    call(node, "POST", "/devices/soon/credentials", {"certificate": newer}, 201)
    until(lambda: not named(node, "certificate_30_days"), node.log)


def test_an_integration_that_does_not_deliver_is_an_alarm(start_node, tmp_path, receiver):
    text = f"""
[integrations]
allow_private = ["127.0.0.0/8"]

[[sinks.webhook]]
name = "crm"
filters = ["crm/#"]
url = "{receiver.url}"
"""
    options = configured(tmp_path, text=text)
    options["settings"] += ["alarms.integration_after_secs=2"]
    node = start_node(**options)
    receiver.answer = lambda _: 503
    with Client(node, "pump") as pump:
        pump.publish("crm/1", "{}")
    until(lambda: named(node, "integration"), node.log, 40)
    [alarm] = named(node, "integration")
    assert (alarm["subject"], alarm["severity"]) == ("webhook/crm", "major")
    assert "has not delivered since" in alarm["message"] and "503" in alarm["message"]
    receiver.answer = lambda _: 204
    call(node, "POST", "/integrations/webhook/crm/resume", status=204)
    until(lambda: not named(node, "integration"), node.log, 40)


def test_an_integration_that_falls_behind_is_an_alarm(start_node, tmp_path, receiver):
    """One that is paused keeps its messages: nothing fails, but they grow old."""
    text = f"""
[integrations]
allow_private = ["127.0.0.0/8"]

[[sinks.webhook]]
name = "crm"
filters = ["crm/#"]
url = "{receiver.url}"
"""
    options = configured(tmp_path, text=text)
    options["settings"] += ["alarms.integration_lag_secs=2"]
    node = start_node(**options)
    call(node, "POST", "/integrations/webhook/crm/pause", status=204)
    with Client(node, "pump") as pump:
        pump.publish("crm/1", "{}")
    until(lambda: named(node, "integration_lag"), node.log, 40)
    [alarm] = named(node, "integration_lag")
    assert (alarm["subject"], alarm["severity"]) == ("webhook/crm", "warning")
    assert "The integration webhook/crm is behind: 1 message waits, the oldest for " in alarm["message"]
    assert not named(node, "integration")
    call(node, "POST", "/integrations/webhook/crm/resume", status=204)
    until(lambda: not named(node, "integration_lag"), node.log, 40)


def test_telemetry_that_cannot_be_stored_is_an_alarm(start_node, tmp_path):
    place = tmp_path / "elsewhere"
    options = configured(tmp_path, text="")
    options["settings"] += ["telemetry.enabled=true"]
    options["variables"] = {**KEYS, "MARTLET_TELEMETRY__URL": f"{place}/t.db"}
    node = start_node(**options)
    made = call(node, "POST", "/devices", {"id": "car", "type": "iotflow"}, 201)
    with Client(node, "car").credentials(made["user_name"], made["secret"]) as car:
        car.publish("iotflow/devices/car/telemetry/sensors", '{"temp": 21.5}')
    until(lambda: named(node, "telemetry_storage"), node.log, 30)
    place.mkdir()
    call(node, "POST", "/integrations/telemetry/main/resume", status=204)
    until(lambda: not named(node, "telemetry_storage"), node.log, 40)


def test_without_watch_node_nothing_of_the_node_is_an_alarm(start_node, tmp_path):
    crt, key = self_signed(tmp_path, "server", 5)
    options = configured(tmp_path, text="[[rules]]\nname = \"a\"\ntopics = [\"a\"]\nalarm = { threshold = { above = 1 } }\n",
                         listen=("mqtt://127.0.0.1:0", "mqtts://127.0.0.1:0"))
    options["settings"] += [f"tls.certificate={crt}", f"tls.key={key}", "alarms.watch_node=false"]
    node = start_node(**options)
    with Client(node, "pump") as pump:
        pump.publish("a", "2")
    until(lambda: named(node, "a"), node.log)
    assert [one["name"] for one in alarms(node)] == ["a"]
