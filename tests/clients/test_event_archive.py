"""Events in files: what is kept, over a kill of the node, and for whom; and how old values are, as a metric."""

import json
import time
import urllib.request

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
    time.sleep(1.5)
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
        with urllib.request.urlopen(node.http_url + "/metrics", timeout=10) as answer:
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
