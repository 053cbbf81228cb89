"""Imports from databases with odd rows: SQLite keeps any value in any column. Each row that cannot be
read is skipped and told, and all others are imported."""

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import time

import pytest

import martlet_process
from test_import import ENABLED, command, messages, microservice, start, values
from test_http_registry import call

IOTFLOW = """
CREATE TABLE devices (
    id INTEGER, name TEXT, description TEXT, device_type TEXT, api_key TEXT, status TEXT, location TEXT,
    firmware_version TEXT, hardware_version TEXT
);
CREATE TABLE device_configurations (
    id INTEGER PRIMARY KEY, device_id INTEGER, config_key TEXT, config_value TEXT, data_type TEXT, is_active BOOLEAN
);
"""
TELEMETRY = "CREATE TABLE telemetry_data (id {id}, device_id{device}, payload JSON, timestamp DATETIME, device_metadata JSON, data_type TEXT);"
# Records that an import sends at once (RECORDS_AT_ONCE).
BATCH = 500
NOT_UTF8 = "CAST(x'ff41' AS TEXT)"


@pytest.fixture
def target(tmp_path):
    return tmp_path / "data", ENABLED


@pytest.fixture
def source(tmp_path):
    """Makes a file with these statements."""

    def source(*statements):
        path = tmp_path / "other.db"
        with contextlib.closing(sqlite3.connect(path)) as database:
            for statement in statements:
                database.executescript(statement) if isinstance(statement, str) else database.executemany(*statement)
            database.commit()
        return str(path)

    return source


def device_row(number, name="'dev'", key=None):
    key = key or f"'0123456789abcdef-{number}'"
    return f"INSERT INTO devices (id, name, api_key, status) VALUES ({number}, {name}, {key}, 'active');"


def record(number, device, payload, time="'2025-07-01 10:00:00'", metadata="NULL", kind="NULL"):
    return f"INSERT INTO telemetry_data VALUES ({number}, {device}, {payload}, {time}, {metadata}, {kind});"


def told(target, *arguments, expected=3):
    """Outcome and note of each thing of the report by its kind and id."""
    items = json.loads(command(target, *arguments, "--json", expected=expected))["items"]
    found = {}
    for one in items:
        found.setdefault((one["kind"], one["id"]), []).append((one["outcome"], one["note"]))
    return found


def outcomes(found, kind):
    return {id: [outcome for outcome, _ in all] for (of, id), all in found.items() if of == kind}


def test_a_record_that_cannot_be_read_keeps_no_other_from_being_imported(source, target, start_node):
    path = source(
        IOTFLOW, TELEMETRY.format(id="INTEGER PRIMARY KEY", device=" INTEGER"), device_row(1), device_row(3),
        record(1, 1, """'{"a": 1}'"""), record(2, 1, "CAST(x'7b2261223aff7d' AS TEXT)"), record(3, 1, "x'fffe'"),
        record(4, 1, """'{"a": 2}'""", "'2025-07-01 10:00:01'", NOT_UTF8),
        record(5, 1, """'{"a": 3}'""", "'2025-07-01 10:00:02'", "NULL", NOT_UTF8),
        record(6, 1, """'{"a": 4}'""", NOT_UTF8), record(7, 1, """'{"a": 5}'""", "'2025-07-01 10:00:00+25:00'"),
        record(8, 1, """x'7b2261223a367d'""", "'2025-07-01 10:00:03'"), record(9, 3, """'{"a": 7}'"""),
    )
    found = told(target, "import", "seed3", path)
    (imported, note), (skipped, why) = found[("telemetry", "1")]
    assert (imported, skipped) == ("imported", "skipped") and note.startswith("2 records with 2 values")
    assert why.startswith("6 rows of the table telemetry_data: ")
    for words in ["record 2: its payload is not UTF-8", "record 3: its payload is not UTF-8",
                  "record 4: its device_metadata is not UTF-8", "record 5: its data_type is not UTF-8",
                  "record 6: its timestamp is not UTF-8", "record 7: "]:
        assert words in why, why
    assert found[("telemetry", "3")][0][0] == "imported"
    node = start(start_node, target, http=True)
    assert values(node, "1") == [("2025-07-01T10:00:00.000000Z", {"a": 1}), ("2025-07-01T10:00:03.000000Z", {"a": 6})]
    assert values(node, "3") == [("2025-07-01T10:00:00.000000Z", {"a": 7})]


def test_records_without_an_id_or_with_the_same_one_are_imported(source, target, start_node):
    many = [(7, 1, json.dumps({"a": n}), f"2025-07-01 {10 + n // 3600:02}:{n // 60 % 60:02}:{n % 60:02}") for n in range(12_000)]
    path = source(
        IOTFLOW, TELEMETRY.format(id="INTEGER", device=""), device_row(1), device_row(2),
        ("INSERT INTO telemetry_data (id, device_id, payload, timestamp) VALUES (?, ?, ?, ?)", many),
        # The column of the device has no type: a text stays a text.
        record("NULL", 2, """'{"a": 1}'"""), record(-9223372036854775808, "'2'", """'{"b": 2}'"""),
        record("NULL", 2, "'no'", "'2025-07-01 10:00:01'"), record("'x'", 2, """'{"c": 3}'"""),
        record(1, "'2.0'", """'{"d": 4}'"""), record(1, NOT_UTF8, """'{"e": 5}'"""), record(1, "NULL", """'{"f": 6}'"""),
    )
    found = told(target, "import", "seed3", path)
    assert found[("telemetry", "1")] == [("imported", "12000 records with 12000 values; values that were stored before are not duplicated")]
    (imported, note), (skipped, why) = found[("telemetry", "2")]
    assert (imported, skipped) == ("imported", "skipped") and note.startswith("3 records with 3 values")
    assert why.startswith("1 row of the table telemetry_data: record NULL (row 12003): its payload"), why
    for id in ("2.0", "\ufffdA", "NULL"):
        assert found[("telemetry", id)] == [("skipped", "1 record: the device was not imported")], found
    node = start(start_node, target, http=True)
    assert values(node, "2") == [("2025-07-01T10:00:00.000000Z", {"a": 1, "b": 2, "c": 3})]
    found = call(node, "GET", "/api/v1/query?device=1&from=2025-07-01T00:00:00Z&bucket=all&functions=count")
    assert [one["count"] for one in found["items"]] == [12_000]


def test_a_device_of_iotflow_that_cannot_be_read_is_told_with_its_row(source, target):
    path = source(
        IOTFLOW, device_row(1), device_row(2, NOT_UTF8), device_row("NULL"), device_row(4, "'dev'", NOT_UTF8), device_row(5),
        "INSERT INTO device_configurations VALUES (1, 1, 'a', '7', 'integer', 1), (2, 1, 'b', CAST(x'ff' AS TEXT), 'string', 1), "
        "(3, 2, 'c', '7', 'integer', 1), (4, NULL, 'd', '7', 'integer', 1), (5, 99, 'e', '7', 'integer', 1);",
    )
    found = told(target, "import", "seed3", path)
    assert outcomes(found, "device") == {"1": ["imported"], "2": ["skipped"], "NULL": ["skipped"], "4": ["skipped"], "5": ["imported"]}
    assert found[("device", "2")] == [("skipped", "its name is not UTF-8 (row 2 of the table devices)")]
    assert found[("device", "4")] == [("skipped", "its api_key is not UTF-8 (row 4 of the table devices)")]
    assert "row 3 of the table devices" in found[("device", "NULL")][0][1]
    settings = outcomes(found, "setting")
    assert settings == {"1/a": ["imported"], "1/b": ["skipped"], "2/c": ["skipped"], "NULL/d": ["skipped"], "99/e": ["skipped"]}
    assert "row 2 of the table device_configurations" in found[("setting", "1/b")][0][1]


def test_a_device_of_service_mqtt_that_cannot_be_read_is_told_with_its_row(source, target):
    rows = ["'U1', 'car', 'U1', CAST(x'ff6162636465666768696a6b6c6d6e6f' AS TEXT)", "'U2', 'car', 'U2', 'abcdefghijklmnop'",
            "NULL, 'car', 'U3', 'abcdefghijklmnop'", f"{NOT_UTF8}, 'car', 'U4', 'abcdefghijklmnop'"]
    path = source(
        "CREATE TABLE devices (id text, device_type text, mqtt_user text, mqtt_password text, created_at datetime, PRIMARY KEY (id));",
        *[f"INSERT INTO devices VALUES ({row}, '2025');" for row in rows],
    )
    found = told(target, "import", "seed4", path)
    assert found == {
        ("device", "U1"): [("skipped", "its mqtt_password is not UTF-8 (row 1 of the table devices)")],
        ("device", "U2"): [("imported", "")],
        ("device", "NULL"): [("skipped", "its id is NULL (row 3 of the table devices)")],
        ("device", "\ufffdA"): [("skipped", "its id is not UTF-8 (row 4 of the table devices)")],
    }


def test_a_database_in_utf16_and_a_table_without_row_numbers_are_read(source, target):
    path = source(
        "PRAGMA encoding = 'UTF-16le';",
        "CREATE TABLE devices (id text PRIMARY KEY, device_type text, mqtt_user text, mqtt_password text) WITHOUT ROWID;"
        "INSERT INTO devices VALUES ('U1', 'car', 'U1', 'abcdefghijklmnöp'), ('U2', 'car', 'U2', 'x');",
    )
    found = told(target, "import", "seed4", path)
    assert outcomes(found, "device") == {"U1": ["imported"], "U2": ["skipped"]}


def test_messages_and_webhooks_that_are_none_are_told_with_their_rows(tmp_path, target, start_node):
    path = tmp_path / "mqtt-messages.db"
    microservice(path, "https://example.com/")
    rows = [
        ("m1", "a", b"\xff", 0, "day", 0), ("m2", "a", b"x", 9, "day", 0), ("m3", "a", b"x", -1, "day", 0), ("m4", "a/#", b"x", 1, "day", 0),
        ("m5", "", b"x", 1, "day", 0), ("m6", "t" * 70_000, b"x", 1, "day", 0), ("m7", "a", b"x", 1, "bad", 0),
        ("m8", "a", b"x", "one", "day", 0), (None, "a", b"x", 1, "day", 0), ("m10", "a", b"x", 1, "", "perhaps"), ("m11", "a", b"x", 1, "", 0),
    ]
    with contextlib.closing(sqlite3.connect(path)) as database:
        day = database.execute("SELECT date('now', '-1 day') || ' 13:00:00+00:00'").fetchone()[0]
        for id, topic, payload, qos, time, retained in rows:
            row = (id, topic, payload, qos, retained, day if time == "day" else time, 0)
            database.execute("INSERT INTO messages VALUES (?, ?, ?, ?, ?, ?, ?)", row)
        database.execute("INSERT INTO messages VALUES ('m12', CAST(x'ff' AS TEXT), x'', 0, 0, ?, 0)", (day,))
        for id, changed in [("'w1'", "timeout = 'soon'"), ("'w2'", "name = CAST(x'ff' AS TEXT)"), ("NULL", "name = 'n'")]:
            database.execute("INSERT INTO webhooks SELECT 'new', name, url, method, topic_filter, enabled, headers, timeout, retry_count, "
                             "retry_delay, created_at, updated_at FROM webhooks WHERE id = '1772366400500000001'")
            database.execute(f"UPDATE webhooks SET {changed}, id = {id} WHERE id = 'new'")
        database.commit()
    found = told(target, "import", "seed1", str(path))
    # Two of the other test, and m1.
    assert found[("messages", "3")][0][0] == "imported", found
    [(outcome, why)] = found[("messages", "11")]
    assert outcome == "skipped" and why.startswith("11 rows of the table messages: "), why
    for words in ["message m2 (row 4 of the table messages): its QoS is 9", "message m3 (row 5 of the table messages): its QoS is -1",
                  "its time cannot be read: bad", "message m8: its qos is not a whole number (row 10 of the table messages)",
                  "message NULL: its id is NULL"]:
        assert words in why, (words, why)
    for id, words in [("w1", "its timeout is not a whole number"), ("w2", "its name is not UTF-8"), ("NULL", "its id is NULL")]:
        [(outcome, why)] = found[("webhook", id)]
        assert outcome == "skipped" and words in why and "of the table webhooks" in why, why
    node = start(start_node, target, http=True)
    assert sorted(one[1] for one in messages(node, "false")) == ["a", "a/1"]


def test_what_is_left_when_the_node_ends_is_told_once(source, target, start_node):
    count = 60_000
    many = [(1, json.dumps({"a": n}), f"2025-07-{1 + n // 86400:02} {n // 3600 % 24:02}:{n // 60 % 60:02}:{n % 60:02}") for n in range(count)]
    path = source(
        IOTFLOW, TELEMETRY.format(id="INTEGER PRIMARY KEY", device=" INTEGER"), device_row(1), device_row(2),
        ("INSERT INTO telemetry_data (device_id, payload, timestamp) VALUES (?, ?, ?)", many),
        record("NULL", 2, """'{"a": 1}'"""),
    )
    node = start(start_node, target, http=True)
    directory, variables = target
    importing = subprocess.Popen(
        [martlet_process.binary(), "import", "seed3", path, "--json", "--data-dir", str(directory)],
        env={**martlet_process.environment(), **variables}, stdout=subprocess.PIPE, text=True,
    )
    # A batch is sent once the one before it is answered: the second one shows that the first is imported.
    deadline = time.monotonic() + 60
    while latest_of(node, "a") < BATCH:
        assert time.monotonic() < deadline, "the import stored no second batch"
    os.kill(node.process.pid, signal.SIGKILL)
    report = json.loads(importing.communicate(timeout=60)[0])
    assert importing.returncode == 3
    of = {id: [(one["outcome"], int(one["note"].split()[0])) for one in report["items"] if (one["kind"], one["id"]) == ("telemetry", id)]
          for id in ("1", "2")}
    assert [outcome for outcome, _ in of["1"]] == ["imported", "skipped"], of
    assert sum(records for _, records in of["1"]) == count, of
    assert of["2"] == [("skipped", 1)], of


def latest_of(node, key):
    """The latest value of this key of device 1, 0 before it has one."""
    try:
        found = call(node, "GET", f"/api/v1/devices/1/telemetry/latest?keys={key}")
    except AssertionError:
        # The device is not there yet.
        return 0
    return found[key]["value"] if key in found else 0
