"""What operators watch: numbers over time, `martlet top`, `martlet events`, traces; and who stands
behind a proxy."""

import json
import re
import socket
import subprocess

import pytest

import martlet_process
from paho_client import Client, V311
from test_access import until
from test_http_api import KEY, KEYS, ask
from test_http_broker import call, command, durable, node  # noqa: F401 -- the fixture

# Samples are taken every second, and late where the machine is busy.
SAMPLED_SECS = 30


def test_numbers_over_time_say_what_happened(node, name):
    with Client(node, name, version=V311) as client:
        client.subscribe(name)
        for number in range(50):
            client.publish(name, str(number))

        def seen():
            found = call(node, "GET", "/metrics/history?metrics=messages_in,clients,latency_p99")
            rates, clients, latencies = (one["values"] for one in found["series"])
            assert len(found["at"]) == len(rates) == len(clients)
            assert found["step_secs"] == 1
            is_there = any(rates) and clients[-1] == 1
            return is_there and any(latency for latency in latencies)

        until(seen, "the history has it", SAMPLED_SECS)
    names = [one["name"] for one in call(node, "GET", "/metrics/history")["series"]]
    assert "cpu" in names and "memory" in names and len(names) == 15
    for wrong in ("metrics=loudness", "from=yesterday", "step=0", "to=2000-01-01T00:00:00Z&from="
                  "2001-01-01T00:00:00Z", "step=1&from=2000-01-01T00:00:00Z"):
        assert call(node, "GET", f"/metrics/history?{wrong}", status=400)["errors"]


def test_top_shows_the_node_and_its_busiest_clients(node, name):
    with Client(node, f"{name}-busy", version=V311) as client:
        client.subscribe(name)
        until(lambda: call(node, "GET", "/metrics/history")["at"], "a sample", SAMPLED_SECS)
        shown = command(node, "top", "--once")
        assert re.search(r"^messages +\S+/s in", shown, re.MULTILINE)
        assert f"{name}-busy"[:32] in shown and "\x1b" not in shown

        def only_busy():
            look = json.loads(command(node, "top", "--once", "--json", "--sort", "queued"))
            clients = [one["client_id"] for one in look["clients"]]
            return (look["status"]["connections"], look["now"]["clients"], clients) == (1, 1, [f"{name}-busy"])

        # A sample, and the client of the test before, may be of a moment ago.
        until(only_busy, "one client is counted", SAMPLED_SECS)


def follow(node, *options):
    return subprocess.Popen(
        [martlet_process.binary(), "events", "--data-dir", node.data_dir, *options],
        env=martlet_process.environment(), stdout=subprocess.PIPE, text=True,
    )


def read_by(node):
    """How many read the events."""
    page = ask(node, "/metrics")[2].decode()
    return int(re.search(r"^martlet_events_readers (\d+)", page, re.MULTILINE)[1])


def test_events_follow_what_happens_a_line_each(node, name):
    reader = follow(node, "--client", name, "-n", "3")
    topics = follow(node, "--topic", f"{name}/#", "--json", "-n", "1")
    until(lambda: read_by(node) == 2, "two read the events")
    with Client(node, name) as client:
        client.subscribe(f"{name}/filter")
        client.publish(f"{name}/topic", "x")
    said, _ = reader.communicate(timeout=60)
    assert [line.split()[1] for line in said.splitlines()] == [
        "connected", "subscribed", "disconnected",
    ]
    assert f"{name}/filter" in said and reader.returncode == 0
    event = json.loads(topics.communicate(timeout=60)[0])
    assert event["kind"] in ("subscribed", "published") and event["client_id"] == name
    # What is kept is there later, too.
    later = follow(node, "--client", name, "--since", "10m", "--type", "connected", "-n", "1")
    assert "connected" in later.communicate(timeout=60)[0]
    done = martlet_process.run("events", "--type", "nonsense", "--data-dir", node.data_dir)
    assert done.returncode == 1 and "not a kind of event" in done.stderr


def test_traces_begin_are_listed_and_end(start_node, name):
    node = start_node(http=True, variables=KEYS)
    made = call(node, "POST", "/traces", {"topic": "traced/#", "minutes": 5}, status=201)
    assert made["topic"] == "traced/#" and made["until"]
    told = command(node, "trace", "device", "--minutes", "3")
    assert told.startswith("device is traced until ") and "martlet events" in told
    listed = command(node, "trace")
    assert {tuple(row.split()[::2]) for row in listed.splitlines()[1:]} == {("client", "device"), ("topic", "traced/#")}
    with Client(node, "device", version=V311) as device, Client(node, "other") as other:
        device.publish("elsewhere", "x")
        other.publish("traced/it", "x")
        other.publish("untraced/it", "x")
    node.wait_for_log("elsewhere")
    node.wait_for_log("traced/it")
    assert "ended" in command(node, "trace", "--topic", "traced/#", "--end", "--json")
    call(node, "DELETE", "/traces?client=device", status=204)
    call(node, "DELETE", "/traces?client=device", status=404)
    call(node, "DELETE", "/traces", status=400)
    assert call(node, "GET", "/traces")["items"] == []
    assert "untraced/it" not in node.log()
    call(node, "POST", "/traces", {"address": "127.0.0.1"}, status=201)
    with Client(node, "from-there", version=V311) as client:
        client.publish("by/address", "x")
    node.wait_for_log("by/address")
    # Who comes, publishes and goes at once is traced by its address as well.
    with socket.create_connection(("127.0.0.1", node.port())) as at_once:
        at_once.sendall(b"\x10\x0e\x00\x04MQTT\x04\x02\x00\x00\x00\x02me\x30\x09\x00\x07at/once\xe0\x00")
        assert at_once.recv(4) == b"\x20\x02\x00\x00" and at_once.recv(1) == b""
    node.wait_for_log("at/once")


@pytest.mark.parametrize("level", ("off", "error", "martlet=warn"))
def test_a_trace_is_written_however_little_else_is(start_node, level):
    node = start_node(http=True, variables=KEYS, settings=[f"log.level={level}"])
    command(node, "trace", "device")
    with Client(node, "device") as device, Client(node, "other") as other:
        device.publish("of/device", "x", qos=1)
        other.publish("of/other", "x", qos=1)
    for line in ("client connected", "of/device", "PUBACK", "client disconnected"):
        node.wait_for_log(line)
    command(node, "trace", "device", "--end")
    with Client(node, "device") as device:
        device.publish("of/device/later", "x", qos=1)
    command(node, "trace", "last")
    with Client(node, "last") as last:
        last.publish("of/last", "x")
    node.wait_for_log("of/last")
    assert "other" not in node.log() and "later" not in node.log()


def test_a_message_has_one_name_everywhere(start_node):
    """In the answer to who publishes, retained, in a queue, in events, and in the log."""
    node = start_node(http=True, variables=KEYS, settings=["log.format=json"])
    command(node, "trace", "--topic", "named/#")
    told = follow(node, "--topic", "named/it", "--type", "published,delivered", "--json", "-n", "2")
    until(lambda: read_by(node) == 1, "somebody reads the events")
    with durable(node, "away") as away:
        away.subscribe("named/it", 1)
    with Client(node, "there") as there:
        there.subscribe("named/it", 1)
        body = {"topic": "named/it", "payload": "x", "qos": 1, "retain": True}
        own = call(node, "POST", "/publish", body)["message_id"]
        there.receive()
        assert own.isdecimal() and own != "0"
        assert call(node, "GET", "/retained/named%2Fit")["message_id"] == own
        queued = lambda: [one["message_id"] for one in call(node, "GET", "/clients/away")["queue"]]
        until(lambda: queued() == [own], "it waits in the queue")

        events = [json.loads(line) for line in told.communicate(timeout=60)[0].splitlines()]
        names = {event["kind"]: event["message_id"] for event in events}
        assert names == {"published": own, "delivered": own}
        named = lambda line: line.get("topic") == "named/it" and line.get("message_id")  # noqa: E731

        def in_log():
            return {named(json.loads(line)) for line in node.log().splitlines() if line.startswith("{")} - {None, False}

        until(lambda: in_log() == {own}, "the log has it, by the same name")


def test_groups_are_made_filled_and_removed(start_node, tmp_path):
    data_dir = tmp_path / "data"

    def martlet(*arguments):
        done = martlet_process.run(*arguments, "--data-dir", str(data_dir))
        assert done.returncode == 0, done.stderr
        return done.stdout

    for device in ("d1", "d2"):
        martlet("device", "add", device)
    group = json.loads(martlet("group", "add", "site", "--description", "north", "--json"))
    assert "Added 2 devices to the group site" in martlet("group", "member", "add", "site", "d1", "d2")
    assert "Removed 1 device from the group site" in martlet("group", "member", "rm", group["id"], "d1")
    # As the commands were called before.
    assert "Added 1 device to the group site" in martlet("group", "add", "site", "d1")
    assert "Removed 1 device from the group site" in martlet("group", "remove", "site", "d1")
    listed = json.loads(martlet("group", "ls", "--json"))["items"]
    assert [(one["name"], one["devices"]) for one in listed] == [("site", 1)]
    martlet("group", "rm", "site")
    assert martlet("group", "ls") == ""
    done = martlet_process.run("group", "rm", "site", "--data-dir", str(data_dir))
    assert done.returncode == 1 and "no group site" in done.stderr


def test_a_proxy_that_is_trusted_says_where_its_clients_are(start_node):
    node = start_node(
        http=True, variables=KEYS, settings=["http.trusted_proxies=127.0.0.1, 10.0.0.0/8"]
    )
    headers = {"X-API-Key": KEY, "X-Forwarded-For": "6.6.6.6, 192.0.2.7, 10.1.1.1"}
    assert ask(node, "/api/v1/reload", "POST", headers)[0] == 200
    node.wait_for_log("192.0.2.7")
    assert "6.6.6.6" not in node.log()
    plain = start_node(http=True, variables=KEYS)
    assert ask(plain, "/api/v1/reload", "POST", headers)[0] == 200
    plain.wait_for_log("POST /api/v1/reload")
    assert "192.0.2.7" not in plain.log()


def test_the_last_lines_of_the_log_are_there(start_node):
    node = start_node(http=True, variables=KEYS, settings=["log.level=info"])
    node.wait_for_log("ready")
    found = call(node, "GET", "/logs")
    texts = [line["text"] for line in found["items"]]
    assert "ready" in texts
    assert [line["seq"] for line in found["items"]] == sorted(line["seq"] for line in found["items"])
    # The node may have written another one meanwhile.
    later = call(node, "GET", f"/logs?after={found['next']}")["items"]
    assert all(line["seq"] > found["items"][-1]["seq"] for line in later), (found, later)
    # Whoever asks for a change has a line.
    call(node, "PATCH", "/logs/levels", {"level": "info"})
    until(
        lambda: call(node, "GET", f"/logs?after={found['next']}&search=levels")["items"],
        "a line behind those that were read",
    )
    assert call(node, "GET", "/logs?level=error")["items"] == []
