"""Telemetry in PostgreSQL: a node stores and reads values there, and goes on by itself after outages of the server."""

import contextlib
import json
import os
import threading
import time
from urllib.parse import urlencode

import pytest

import martlet_process
import postgres_process
from test_access import until
from test_http_api import KEY, KEYS, ask
from test_telemetry import call, connected, device, post, readings, values

SETTINGS = ["telemetry.enabled=true", "http.rate=0"]
DAY = 86_400
# 2026-09-20T00:00:00Z: the days after it are over.
BEGIN = 1_789_862_400

RULE = """
[[rules]]
name = "twice"
topics = ["device/data/car"]
actions = [{ telemetry = { device = "car", key = "twice", value = "payload.n * 2" } }]
"""


def variables(url):
    return {**KEYS, "MARTLET_TELEMETRY__URL": url}


@pytest.fixture
def stored(postgres):
    """A node whose values are in a database of their own, and how to ask that database."""
    url = postgres.new_database(has_tables=False)
    with martlet_process.Node(http=True, variables=variables(url), settings=SETTINGS) as node:
        yield node, lambda sql: postgres.sql(url, sql).strip()


@pytest.fixture
def server():
    """A server that the test may stop."""
    made = postgres_process.Server()
    yield made
    with contextlib.suppress(OSError):
        made.go_on()
    made.close()


def query(node, **parameters):
    return call(node, "GET", "/query?" + urlencode(parameters))["items"]


def test_values_are_stored_and_read(stored):
    node, sql = stored
    named = device(node, "car", type="tls-guide")
    with connected(node, named) as client:
        client.publish("device/data/car", json.dumps({"timestamp": BEGIN + 0.5, "speed": 12.5, "on": True, "n": 2**60}), 1)
        client.publish("device/data/car", json.dumps({"timestamp": BEGIN + 1, "state": "\U0001f697", "zero": "x\0y", "gps": {"lat": [1]}}), 2)
        # It comes again, with another value.
        client.publish("device/data/car", json.dumps({"timestamp": BEGIN + 0.5, "speed": 13}), 1)
        client.publish("device/data/car", json.dumps({"untimed": 1}), 0)
    first = "2026-09-20T00:00:00.500000Z"
    found = dict(((key, value) for key, value in values(node, "car", 6) if key != "gps"))
    assert found == {"speed": 13, "on": True, "n": 2**60, "state": "\U0001f697", "untimed": 1}
    assert post(node, "car", [{"ts": BEGIN + 2, "speed": 1}, {"ts": BEGIN + 3, "speed": 2}])["stored"] == 2
    assert call(node, "GET", "/devices/car/telemetry/keys")["items"] == ["gps", "n", "on", "speed", "state", "untimed"]
    latest = call(node, "GET", "/devices/car/telemetry/latest?keys=speed,on")
    assert latest["on"] == {"time": first, "value": True} and latest["speed"]["value"] == 2
    speeds = readings(node, "car", order="desc", keys="speed")
    assert [value for _, _, value in speeds] == [2, 1, 13]
    page = call(node, "GET", "/devices/car/telemetry?from=0&keys=speed&limit=2")
    assert page["truncated"] and [one["value"] for one in page["items"]] == [13, 1]
    rest = call(node, "GET", f"/devices/car/telemetry?from=0&keys=speed&limit=2&cursor={page['next']}")
    assert [one["value"] for one in rest["items"]] == [2] and not rest["truncated"]
    assert sql("SELECT count(*) FROM martlet_telemetry.samples WHERE key = 'speed'") == "3"
    # No file is beside it.
    assert not os.path.exists(os.path.join(node.data_dir, "telemetry.db"))
    lines = ask(node, "/api/v1/query?device=car&keys=speed&from=0&format=csv", headers={"X-API-Key": KEY})[2].decode()
    assert len(lines.splitlines()) == 4
    deleted = call(node, "DELETE", f"/devices/car/telemetry?keys=speed&from={BEGIN + 2}&to={BEGIN + 3}")
    assert deleted == {"deleted": 1} and len(readings(node, "car", keys="speed")) == 2


def test_roll_ups_are_made_and_late_values_correct_them(stored):
    node, sql = stored
    device(node, "car")
    points = [{"ts": BEGIN + 60 * minute, "level": minute % 7} for minute in range(2 * 1_440)]
    assert post(node, "car", points)["stored"] == len(points)

    def days(**more):
        found = query(node, device="car", keys="level", bucket="day", functions="count,sum,max", **{"from": BEGIN, "to": BEGIN + 2 * DAY, **more})
        return [(one["count"], one["sum"], one["max"]) for one in found]

    expected = [(1_440, sum(minute % 7 for minute in range(first, first + 1_440)), 6) for first in (0, 1_440)]
    assert days() == expected
    rolled = lambda: sql("SELECT count(*) FROM martlet_telemetry.days WHERE rolled") == "2"
    until(rolled, "the roll-ups are made")
    assert int(sql("SELECT count(*) FROM martlet_telemetry.rollups")) >= 4
    assert days() == expected
    # A late value, and one that replaces another.
    post(node, "car", [{"ts": BEGIN + 30, "level": 100}, {"ts": BEGIN + DAY, "level": 50}])
    late = [(1_441, expected[0][1] + 100, 100), (1_440, expected[1][1] - 1_440 % 7 + 50, 50)]
    assert days() == late
    until(rolled, "the roll-ups are made anew")
    assert days() == late
    # Without the roll-ups it is the same.
    sql("DELETE FROM martlet_telemetry.rollups")
    assert days() == late
    hours = query(node, device="car", keys="level", bucket="1h", functions="p95", **{"from": BEGIN, "to": BEGIN + 7_200})
    assert [one["p95"] for one in hours] == [6, 6]


def test_old_values_are_deleted_and_a_backup_says_what_it_lacks(postgres, tmp_path):
    url = postgres.new_database(has_tables=False)
    with martlet_process.Node(http=True, variables=variables(url), settings=SETTINGS, data_dir=tmp_path) as node:
        for name in ("car", "gone"):
            device(node, name)
            post(node, name, [{"a": 1, "ts": 1_600_000_000}, {"a": 2, "ts": int(time.time())}])
        call(node, "DELETE", "/devices/gone", headers={"If-Match": "*"}, status=204)
        call(node, "POST", "/devices/gone/purge", status=204)
        status, headers, _ = ask(node, "/api/v1/backup", headers={"X-API-Key": KEY})
        assert status == 200 and headers["Martlet-Left-Out"].startswith("telemetry: it is in PostgreSQL")
    settings = [*SETTINGS, "telemetry.keep_days=30"]
    with martlet_process.Node(http=True, variables=variables(url), settings=settings, data_dir=tmp_path) as node:
        until(lambda: len(readings(node, "car")) == 1, "the old value is deleted")
        until(lambda: postgres.sql(url, "SELECT count(*) FROM martlet_telemetry.points").strip() == "1",
              "the values of the device that is gone are deleted")


def metric(node, name):
    lines = ask(node, "/metrics")[2].decode().splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith(name))


def is_warned(node):
    return [one for one in call(node, "GET", "/health")["warnings"] if "Telemetry cannot be stored" in one]


class Load:
    """Publishes one value after the other, each with its time, until it is stopped."""

    def __init__(self, node, named):
        self.acknowledged = 0
        self.stop = threading.Event()
        self.slowest = 0
        self.thread = threading.Thread(target=self.run, args=(node, named))
        self.thread.start()

    def run(self, node, named):
        with connected(node, named) as client:
            while not self.stop.is_set():
                begun = time.monotonic()
                number = self.acknowledged
                client.publish("device/data/car", json.dumps({"timestamp": BEGIN + number, "n": number}), 1)
                self.acknowledged += 1
                self.slowest = max(self.slowest, time.monotonic() - begun)
                # A rule's value has the time of arrival in ms, and one instant has one value.
                time.sleep(0.002)

    def end(self):
        self.stop.set()
        self.thread.join()


@pytest.mark.parametrize("outage", ["refuses", "hangs", "is killed"])
def test_nothing_is_lost_while_the_server_cannot_be_reached(server, tmp_path, outage):
    """Values that were acknowledged meanwhile are stored afterwards, those of rules too. Publishers do not wait."""
    path = tmp_path / "martlet.toml"
    path.write_text(RULE)
    url = server.new_database()
    arguments = ["-c", str(path)]
    with martlet_process.Node(http=True, variables=variables(url), settings=SETTINGS, arguments=arguments) as node:
        named = device(node, "car", type="tls-guide")
        load = Load(node, named)
        try:
            until(lambda: metric(node, "martlet_telemetry_values_total") > 50, "values are stored")
            {"refuses": server.stop, "hangs": server.hang, "is killed": server.kill}[outage]()
            before = load.acknowledged
            until(lambda: is_warned(node), "health warns")
            assert "@" not in is_warned(node)[0] and "postgres://" not in is_warned(node)[0]
            # The broker goes on meanwhile.
            until(lambda: load.acknowledged > before + 50, "messages are acknowledged")
            if outage != "hangs":
                body = json.dumps({"a": 1}).encode()
                headers = {"X-API-Key": KEY, "Content-Type": "application/json"}
                assert ask(node, "/api/v1/devices/car/telemetry", "POST", headers, body)[0] == 503
            {"refuses": server.start, "hangs": server.go_on, "is killed": server.start}[outage]()
            after = load.acknowledged
            until(lambda: load.acknowledged > after + 50, "messages are acknowledged")
        finally:
            load.end()
        assert load.slowest < 60
        count = lambda key: int(server.sql(url, f"SELECT count(*) FROM martlet_telemetry.samples WHERE key = '{key}'"))
        until(lambda: count("n") >= load.acknowledged and count("twice") >= load.acknowledged,
              f"all of {load.acknowledged} values are stored", within=60)
        assert (count("n"), count("twice")) == (load.acknowledged, load.acknowledged)
        wrong = server.sql(url, f"SELECT count(*) FROM martlet_telemetry.samples WHERE key = 'n' AND number <> time / 1000000 - {BEGIN}")
        assert wrong.strip() == "0"
        until(lambda: not is_warned(node), "health warns no more")
