"""Events in files: what is kept, over a kill of the node, and for whom; and how old values are, as a metric."""

import json
import time
import urllib.request

import martlet_process
from paho_client import Client
from test_http_api import KEY
from test_http_registry import call
from test_sinks import until

PATH = "/api/v1/events/archive"


def settings(*more):
    return ["mqtt.allow_anonymous=true", "http.rate=0", *more]


def test_events_and_packets_are_kept_over_a_kill(tmp_path, start_node):
    how = {"http": True, "variables": {"MARTLET_HTTP__API_KEYS": f"all:{KEY}"}, "data_dir": tmp_path,
           "settings": settings("events.archive_kinds=connected,published,packet")}
    node = start_node(**how)
    for name in ("a1", "a2"):
        with Client(node, name) as client:
            client.publish(f"d/{name}/x", "secret text", qos=1)

    def kept(query):
        return call(node, "GET", f"{PATH}?{query}")["items"]

    until(lambda: len(kept("kinds=published")) == 2, "messages are not archived")
    until(lambda: len(kept("kinds=packet&client=a1&limit=1000")) >= 3, "packets are not archived")
    # It is synced within a second.
    time.sleep(3)
    node.process.kill()
    node.process.wait()
    node = start_node(**how)
    assert [one["client_id"] for one in kept("kinds=connected")] == ["a1", "a2"]
    assert [one["topic"] for one in kept("topic=d/a2/%23&kinds=published")] == ["d/a2/x"]
    assert kept("kinds=disconnected") == [] and kept("to=-1h") == []
    assert "secret text" not in json.dumps(kept("limit=1000"))
    # Page by page it is the same.
    whole, items, cursor = kept("limit=1000"), [], ""
    while cursor is not None:
        page = call(node, "GET", f"{PATH}?limit=3{cursor and '&cursor=' + cursor}")
        items, cursor = items + page["items"], page["next"]
    assert items == whole and len(whole) > 6
    for wrong in ("kinds=x", "topic=a/%23/b", "from=x", "limit=0", "cursor=x"):
        call(node, "GET", f"{PATH}?{wrong}", expect=400)


def test_without_kinds_nothing_is_archived(tmp_path, start_node):
    node = start_node(http=True, variables={"MARTLET_HTTP__API_KEYS": f"all:{KEY}"}, data_dir=tmp_path, settings=settings())
    call(node, "GET", PATH, expect=409)
    with Client(node, "a1"):
        pass
    assert not (tmp_path / "events").exists()


def test_how_old_values_are_is_a_histogram_of_their_type(tmp_path, start_node):
    node = start_node(http=True, variables={"MARTLET_HTTP__API_KEYS": f"all:{KEY}"}, data_dir=tmp_path,
                      settings=["http.rate=0", "telemetry.enabled=true"])
    made = call(node, "POST", "/api/v1/devices", {"id": "p0", "type": "iotflow"})
    with Client(node, "p0").credentials(made["user_name"], made["secret"]) as client:
        body = {"ts": int((time.time() - 20) * 1000), "values": {"t": 1}}
        client.publish("iotflow/devices/p0/telemetry/sensors", json.dumps(body), qos=1)
        # Without a time of its own it says nothing of latency.
        client.publish("iotflow/devices/p0/telemetry/sensors", json.dumps({"t": 2}), qos=1)

    def metrics():
        with urllib.request.urlopen(node.http_url + "/metrics", timeout=60) as answer:
            return answer.read().decode().splitlines()

    def count(stage, le):
        name = f'martlet_telemetry_latency_seconds_bucket{{le="{le}",device_type="iotflow",stage="{stage}"}}'
        found = [line for line in metrics() if line.startswith(name)]
        return float(found[0].split()[-1]) if found else None

    until(lambda: "martlet_telemetry_values_total 2" in metrics(), "the values are not stored")
    until(lambda: count("stored", "+Inf") == 1, lambda: [one for one in metrics() if "latency_seconds" in one])
    assert (count("stored", "10.0"), count("stored", "30.0")) == (0, 1)
    assert (count("received", "10.0"), count("received", "30.0")) == (0, 1)
    assert 'martlet_rollouts{state="running"} 0' in metrics()


def test_archived_events_at_the_command_line(tmp_path, start_node):
    """The same of a node that runs and of its files."""
    node = start_node(http=True, variables={"MARTLET_HTTP__API_KEYS": f"all:{KEY}"}, data_dir=tmp_path,
                      settings=settings("events.archive_kinds=connected,disconnected,published"))
    run = lambda *words: martlet_process.run("events", "--archive", *words, "--data-dir", str(tmp_path))
    for name in ("a1", "a2"):
        with Client(node, name) as client:
            client.publish(f"d/{name}/x", "x", qos=1)
    until(lambda: run("--kind", "disconnected").stdout.count("\n") == 2, "the events are archived")
    words = [("--since", "2d"), ("--since", "2d", "--kind", "connected,disconnected", "--client", "a2"), ("--topic", "d/a1/#"),
             ("--json", "-n", "3"), ("--until", "1h"), ("--since", "2020-01-01T00:00:00Z", "-k", "published", "--json")]
    shown = [run(*some) for some in words]
    assert all(one.returncode == 0 for one in shown), [one.stderr for one in shown]
    assert [one.stdout.count("\n") for one in shown] == [6, 2, 1, 3, 0, 2]
    assert " a2 " in shown[1].stdout and time.strftime("%Y-") in shown[1].stdout
    assert json.loads(shown[5].stdout.splitlines()[0])["topic"] == "d/a1/x"
    assert run("--kind", "nonsense").returncode == 1 and run("--since", "x").returncode == 1
    node.terminate()
    node.wait()
    of_files = [run(*some) for some in words]
    # The stop of the node has no events of clients.
    assert [one.stdout for one in of_files] == [one.stdout for one in shown]
    assert run("--kind", "nonsense").returncode == 1
    empty = martlet_process.run("events", "--archive", "--data-dir", str(tmp_path / "none"))
    assert empty.returncode == 1 and "events.archive_kinds" in empty.stderr


def test_latency_to_subscribers_is_measured_if_that_is_asked_for(tmp_path, start_node):
    node = start_node(http=True, variables={"MARTLET_HTTP__API_KEYS": f"all:{KEY}"}, data_dir=tmp_path,
                      settings=["http.rate=0", "telemetry.enabled=true", "telemetry.subscriber_latency=true"])
    call(node, "POST", "/api/v1/device-types", {"name": "free", "rules": ["topic readwrite #"]})
    made = [call(node, "POST", "/api/v1/devices", {"id": name, "type": kind}) for name, kind in (("p0", "iotflow"), ("w", "free"))]
    clients = [Client(node, one["id"]).credentials(one["user_name"], one["secret"]).start() for one in made]
    clients[1].subscribe("iotflow/devices/+/telemetry/#", qos=1)

    def counts():
        with urllib.request.urlopen(node.http_url + "/metrics", timeout=60) as answer:
            lines = answer.read().decode().splitlines()
        name = 'martlet_telemetry_latency_seconds_bucket{le="%s",device_type="iotflow",stage="delivered"}'
        return [float(line.split()[-1]) for le in ("10.0", "30.0", "+Inf") for line in lines if line.startswith(name % le)]

    body = lambda age: json.dumps({"ts": int((time.time() - age) * 1000), "values": {"t": 1}})
    # One second of QoS 0 and one of QoS 1; the reader of events begins soon after the start.
    def measured():
        for qos in (0, 1):
            clients[0].publish("iotflow/devices/p0/telemetry/sensors", body(20), qos=qos)
            clients[1].receive()
        found = counts()
        return found and found[-1] >= 4

    until(measured, lambda: counts())
    found = counts()
    assert found[0] == 0 and found[1] == found[2]
    for client in clients:
        client.disconnect()
