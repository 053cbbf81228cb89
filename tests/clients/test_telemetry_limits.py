"""Limits of telemetry: what is counted, what is told of it, and what a full disk means."""

import concurrent.futures
import json
import os
import re
import subprocess
import time

import pytest

import martlet_process
from test_access import until
from test_http_api import KEY, KEYS, ask
from test_memory import BESIDE, resident
from test_telemetry import call, connected, device, post, readings, rejected, values

SETTINGS = ["telemetry.enabled=true", "http.rate=0"]


def memory(node, held_for):
    """Bytes that are held for something, as the metrics have it."""
    page = ask(node, "/metrics")[2].decode()
    found = re.findall(rf'^martlet_\S*\{{held_for="{held_for}"\}} (\S+)', page, re.M)
    assert found, held_for
    return float(found[0])


def test_memory_of_telemetry_is_counted(start_node):
    node = start_node(http=True, variables=KEYS, settings=SETTINGS)
    device(node, "car")
    post(node, "car", {"a": 0})
    until(lambda: memory(node, "telemetry") > 0, "it is counted")
    before = memory(node, "telemetry")
    # Values are in memory until they are packed.
    for first in range(0, 20_000, 5_000):
        post(node, "car", [{"a": n, "ts": 1_790_000_000 + n} for n in range(first, first + 5_000)])
    until(lambda: memory(node, "telemetry") > before + 20_000 * 40, "the values are counted")


def test_little_memory_is_not_used_up_by_telemetry(start_node):
    """With less memory for the node values are packed sooner."""
    node = start_node(http=True, variables=KEYS, settings=[*SETTINGS, "limits.memory_bytes=33554432"])
    device(node, "car")
    for first in range(0, 60_000, 5_000):
        post(node, "car", [{"a": n, "ts": 1_790_000_000 + n} for n in range(first, first + 5_000)])
    until(lambda: 0 < memory(node, "telemetry") < 4_000_000, "little memory is held")
    assert len(readings(node, "car", order="desc", keys="a", **{"from": 1_790_055_000})) == 5_000


@pytest.mark.long
def test_forty_queries_at_once_take_no_more_than_the_node_may_have(start_node):
    """Each would be answered alone; together their results would take four times the memory of the node."""
    limit = 33_554_432
    # Nobody is refused for the share of a caller.
    settings = [*SETTINGS, f"limits.memory_bytes={limit}", "telemetry.text_bytes=65536", "limits.team_percent=100"]
    node = start_node(http=True, variables=KEYS, settings=settings)
    device(node, "car")
    for first in range(0, 60, 10):
        numbers = range(first, first + 10)
        post(node, "car", [{"a": f"{one:02}" + "x" * 60_000, "ts": 1_790_000_000 + one} for one in numbers])
    query = "/api/v1/query?device=car&from=2020-01-01T00:00:00Z"
    before, most = resident(node), 0
    with concurrent.futures.ThreadPoolExecutor(40) as pool:
        asked = [pool.submit(ask, node, query, headers={"X-API-Key": KEY}) for _ in range(40)]
        while not all(one.done() for one in asked):
            most = max(most, resident(node))
            time.sleep(0.005)
    statuses = [one.result()[0] for one in asked]
    assert set(statuses) <= {200, 503} and 200 in statuses, statuses
    assert most - before < limit + BESIDE, (most, before)
    assert ask(node, query, headers={"X-API-Key": KEY})[0] == 200


def test_keys_and_series_are_limited_and_why_says_so(start_node):
    settings = [*SETTINGS, "telemetry.keys_per_device=3", "telemetry.series=5"]
    node = start_node(http=True, variables=KEYS, settings=settings)
    one, two = device(node, "one", type="tls-guide"), device(node, "two", type="tls-guide")
    for named, expected in ((one, "too_many_keys"), (two, "too_many_series")):
        name = named[0]
        with connected(node, named) as client:
            client.publish(f"device/data/{name}", json.dumps({f"k{n}": n for n in range(5)}))
            told = rejected(node, f"device/data/{name}")
            assert [found["reason"] for found in told] == [expected]
            limit = {"too_many_keys": "telemetry.keys_per_device", "too_many_series": "telemetry.series"}[expected]
            assert limit in told[0]["detail"]
            why = martlet_process.run("why", name, "--data-dir", node.data_dir)
            assert "not stored as telemetry" in why.stdout and limit in why.stdout, why.stdout
        # The other values of the payload are stored.
        assert len(values(node, name, 3 if name == "one" else 2)) == (3 if name == "one" else 2)


def warned(node):
    return [one for one in call(node, "GET", "/health")["warnings"] if "Telemetry cannot be stored" in one]


def fill(node, named, count):
    """Publishes texts that cannot be packed into less. Returns when all are acknowledged."""
    with connected(node, named) as client:
        for number in range(count):
            text = os.urandom(6_000).hex()
            client.publish("device/data/car", json.dumps({"timestamp": 1_790_000_000 + number, "text": text}), 1)


def expect_held_and_stored(start, start_with_room):
    """Messages are acknowledged and kept while there is no room; with room, all of them are stored."""
    node = start()
    named = device(node, "car", type="tls-guide")
    fill(node, named, 200)
    until(lambda: warned(node), "health warns")
    assert "no room" in warned(node)[0], warned(node)
    [part] = [one for one in call(node, "GET", "/integrations")["items"] if one["kind"] == "telemetry"]
    assert part["lag"] > 0, part
    headers = {"X-API-Key": KEY, "Content-Type": "application/json"}

    def is_refused():
        # A single value may fit where the next batch of the queue does not.
        body = json.dumps({"a": os.urandom(6_000).hex()}).encode()
        return ask(node, "/api/v1/devices/car/telemetry", "POST", headers, body)[0] == 503

    until(is_refused, "a request is refused")
    node.terminate()
    node.wait()
    node.close()
    node = start_with_room()
    until(lambda: len(readings(node, "car", keys="text", limit=200)) == 200, "all values are stored", within=60)
    until(lambda: not warned(node), "health warns no more")
    return node


def test_beyond_the_bytes_of_the_file_nothing_is_settled(start_node, tmp_path):
    how = {"http": True, "variables": KEYS, "data_dir": tmp_path}
    limit = "telemetry.file_bytes=1048576"
    expect_held_and_stored(lambda: start_node(**how, settings=[*SETTINGS, limit]), lambda: start_node(**how, settings=SETTINGS))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts")
def test_on_a_full_disk_nothing_is_settled(start_node, tmp_path):
    disk, data = tmp_path / "disk", tmp_path / "data"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1500k", "none", disk], check=True)
    try:
        how = {"http": True, "variables": {**KEYS, "MARTLET_TELEMETRY__URL": f"{disk}/t.db"}, "settings": SETTINGS, "data_dir": data}

        def with_room():
            subprocess.run(["mount", "-o", "remount,size=100m", disk], check=True)
            return start_node(**how)

        expect_held_and_stored(lambda: start_node(**how), with_room).close()
    finally:
        subprocess.run(["umount", "-l", disk], check=True)
