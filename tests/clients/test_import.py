"""Databases and files of the systems that Martlet replaces: what is in them is imported, and keys and
passwords stay valid."""

import contextlib
import json
import sqlite3
import subprocess

import pytest

import martlet_process
from paho_client import Client
from programs import Mosquitto
from test_http_api import KEYS
from test_http_registry import ask, call
from test_sinks import until
from test_webhook_formats import receiver  # noqa: F401

KEY = "abcdefghijklmnopqrstuvwxyz012345"
OTHER_KEY = "ABCDEFGHIJKLMNOPQRSTUVWXYZ012345"

# As SQLAlchemy makes the tables of IoTFlow's models; {…} is where the two engines differ.
IOTFLOW = """
CREATE TABLE users (
    id {serial} NOT NULL, user_id VARCHAR(32) NOT NULL, username VARCHAR(80) NOT NULL,
    email VARCHAR(120) NOT NULL, password_hash VARCHAR(128) NOT NULL, is_active BOOLEAN,
    is_admin BOOLEAN, created_at {time}, updated_at {time}, last_login {time}, PRIMARY KEY (id),
    UNIQUE (user_id), UNIQUE (username), UNIQUE (email)
);
CREATE TABLE devices (
    id {serial} NOT NULL, name VARCHAR(100) NOT NULL, description TEXT,
    device_type VARCHAR(50) NOT NULL, api_key VARCHAR(64) NOT NULL, status VARCHAR(20) NOT NULL,
    location VARCHAR(200), firmware_version VARCHAR(20), hardware_version VARCHAR(20),
    created_at {time}, updated_at {time}, last_seen {time}, user_id INTEGER, PRIMARY KEY (id),
    UNIQUE (api_key), FOREIGN KEY(user_id) REFERENCES users (id)
);
CREATE INDEX idx_devices_user_id ON devices (user_id);
CREATE TABLE device_auth (
    id {serial} NOT NULL, device_id INTEGER NOT NULL, api_key_hash VARCHAR(128) NOT NULL,
    is_active BOOLEAN, expires_at {time}, created_at {time}, last_used {time}, usage_count INTEGER,
    PRIMARY KEY (id), FOREIGN KEY(device_id) REFERENCES devices (id)
);
CREATE TABLE device_configurations (
    id {serial} NOT NULL, device_id INTEGER NOT NULL, config_key VARCHAR(100) NOT NULL,
    config_value TEXT, data_type VARCHAR(20), is_active BOOLEAN, created_at {time},
    updated_at {time}, PRIMARY KEY (id), CONSTRAINT uq_device_config UNIQUE (device_id, config_key),
    FOREIGN KEY(device_id) REFERENCES devices (id)
);
INSERT INTO users (user_id, username, email, password_hash, is_active, is_admin) VALUES
    ('u1', 'ann', 'ann@example', 'scrypt:32768:8:1$salt$00', NULL, FALSE),
    ('u2', 'head', 'head@example',
     'pbkdf2:sha256:1000$saltsalt$3482fb41bffdc3ee60526c56f887aa05ec49af37ce914dbe4182db901af1df6c', TRUE, TRUE),
    ('u3', 'left', 'left@example', 'x', FALSE, TRUE);
INSERT INTO devices (id, name, device_type, api_key, status, location, user_id, created_at) VALUES
    (3, 'Boiler pump', 'sensor', 'abcdefghijklmnopqrstuvwxyz012345', 'active', 'Cellar', 1,
     '2025-07-01 10:00:00.000000'),
    (7, 'Valve', 'actuator', 'ABCDEFGHIJKLMNOPQRSTUVWXYZ012345', 'inactive', NULL, NULL, NULL),
    (9, 'Old', 'sensor', 'short', 'active', NULL, NULL, NULL);
INSERT INTO device_configurations (device_id, config_key, config_value, data_type, is_active) VALUES
    (3, 'interval', '60', 'integer', TRUE), (3, 'verbose', 'True', 'boolean', TRUE),
    (3, 'limit', 'many', 'integer', TRUE);
"""

# Of its first version, which has telemetry in a table. One record comes twice, and one is of a device with a bad key.
TELEMETRY = """
CREATE TABLE telemetry_data (
    id {serial} NOT NULL, device_id INTEGER NOT NULL, payload JSON NOT NULL, timestamp {time} NOT NULL,
    device_metadata JSON, data_type VARCHAR(50), PRIMARY KEY (id), FOREIGN KEY(device_id) REFERENCES devices (id)
);
CREATE INDEX idx_telemetry_device_time ON telemetry_data (device_id, timestamp);
INSERT INTO telemetry_data (id, device_id, payload, timestamp, device_metadata, data_type) VALUES
    (1, 3, '{{"temperature": 21.5, "count": 7, "on": true, "mode": "auto", "place": {{"lat": 1.5}}, "none": null}}',
     '2025-07-01 10:00:00.250000', '{{"fw": "2.1"}}', 'sensors'),
    (2, 3, '{{"temperature": 22.0}}', '2025-07-01 10:00:01', NULL, NULL),
    (3, 7, '{{"open": false}}', '1999-12-31 23:59:59', 'null', NULL),
    (4, 3, '{{"temperature": 22.0}}', '2025-07-01 10:00:01', NULL, NULL),
    (5, 3, '[1, 2]', '2025-07-01 10:00:02', NULL, NULL),
    (6, 3, '{{"a,b": 1}}', '2025-07-01 10:00:03', NULL, NULL),
    (7, 3, '{{"temperature": 23}}', '2025-07-01 10:00:04', NULL, NULL),
    (8, 9, '{{"t": 1}}', '2025-07-01 10:00:00', NULL, NULL);
"""

# As gorm makes the table of Service-MQTT.
SERVICE_MQTT = """
CREATE TABLE devices (
    id text, device_type text, mqtt_user text, mqtt_password text, created_at {time}, PRIMARY KEY (id)
);
INSERT INTO devices VALUES
    ('MZXW6YTBOJTG633C', 'car', 'MZXW6YTBOJTG633C', 'abcdefghijklmnop', '2025-07-01 10:00:00');
"""

MICROSERVICE = """
CREATE TABLE IF NOT EXISTS messages (
    id TEXT PRIMARY KEY, topic TEXT NOT NULL, payload BLOB NOT NULL, qos INTEGER NOT NULL,
    retained INTEGER NOT NULL, timestamp DATETIME NOT NULL, confirmed INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS webhooks (
    id TEXT PRIMARY KEY, name TEXT NOT NULL, url TEXT NOT NULL, method TEXT NOT NULL,
    topic_filter TEXT NOT NULL, enabled INTEGER NOT NULL, headers TEXT, timeout INTEGER NOT NULL,
    retry_count INTEGER NOT NULL, retry_delay INTEGER NOT NULL, created_at DATETIME NOT NULL,
    updated_at DATETIME NOT NULL
);
INSERT INTO webhooks VALUES ('1772366400500000001', 'crm', 'URL', 'POST', 'hook/#', 1,
    '{"Authorization": "Bearer known-token-2"}', 10, 3, 5, '2025', '2025');
INSERT INTO webhooks VALUES ('1772366400500000002', 'bad', 'gopher://h/', 'POST', 'a/#', 1, '{}', 10, 3, 5, '2025', '2025');
INSERT INTO messages VALUES ('1772366400500000003', 'a/1', CAST('{"t": 1}' AS BLOB), 1, 0, DAY || ' 12:00:00.5+00:00', 0);
INSERT INTO messages VALUES ('1772366400500000004', 'a/2', x'ff00', 2, 1, DAY || ' 12:00:01+00:00', 1);
"""

SECRETS = [KEY, OTHER_KEY, "abcdefghijklmnop", "known-token-2"]


@pytest.fixture(params=["sqlite", "postgres"])
def make(request, tmp_path):
    """Makes a database of another system: what names it to the command, and its rows again."""

    def make(tables):
        if request.param == "sqlite":
            path = tmp_path / "devices.db"
            with sqlite3.connect(path) as database:
                database.executescript(tables.format(serial="INTEGER", time="DATETIME"))
            return str(path)
        server = request.getfixturevalue("postgres")
        url = server.new_database(has_tables=False)
        server.sql(url, tables.format(serial="SERIAL", time="TIMESTAMP WITH TIME ZONE"))
        return url

    return make


@pytest.fixture(params=["sqlite", "postgres"])
def target(request, tmp_path):
    """Options and variables of a node, and of commands about it."""
    directory = tmp_path / "data"
    if request.param == "sqlite":
        return directory, {}
    return directory, {"MARTLET_REGISTRY__URL": request.getfixturevalue("postgres").new_database()}


def command(target, *arguments, expected=0, variables=(), given=None, errors=False):
    directory, own = target
    done = subprocess.run(
        [martlet_process.binary(), *arguments, "--data-dir", str(directory)],
        env={**martlet_process.environment(), **own, **dict(variables)}, cwd=directory.parent,
        input=given or "", capture_output=True, text=True, timeout=60,
    )
    assert done.returncode == expected, done
    for secret in SECRETS:
        assert secret not in done.stdout + done.stderr
    return done.stderr if errors else done.stdout


def start(start_node, target, **options):
    directory, variables = target
    return start_node(data_dir=directory, variables={**KEYS, **variables}, **options)


def publishes(node, user, password, topic):
    done = Mosquitto(node).pub("-u", user, "-P", password, "-i", user, "-t", topic, "-m", "x", "-q", "1")
    return done.returncode == 0


def test_devices_of_iotflow_keep_their_numbers_and_keys(make, target, start_node):
    source = make(IOTFLOW)
    dry = json.loads(command(target, "import", "seed3", source, "--dry-run", "--json", expected=3))
    assert dry["dry_run"]
    [limit] = [item for item in dry["items"] if item["id"] == "3/limit"]
    assert (limit["outcome"], limit["note"]) == ("skipped", "the value of limit is not of type integer")
    dry = command(target, "import", "seed3", source, "--dry-run", expected=3)
    assert "would be imported setting 3/interval\n" in dry and "skipped           setting 3/limit: the value" in dry
    assert "settings: 2 to import, 0 there before, 1 skipped, nothing was changed" in dry
    assert json.loads(command(target, "device", "ls", "--json"))["items"] == []

    told = command(target, "import", "seed3", source, expected=3)
    assert "imported  device 3" in told and "skipped   device 9: its key" in told
    assert "skipped   setting 3/limit" in told
    assert "devices: 2 imported, 0 there before, 1 skipped" in told
    assert f"imported  user ann: its password cannot be checked here: set one with martlet user passwd --data-dir={target[0]} ann" in told
    assert "imported  user head: with its password; administrator of the API" in told
    assert "skipped   user left: it is not active" in told and "not imported" not in told

    devices = json.loads(command(target, "device", "ls", "--json"))["items"]
    found = [(one["id"], one["name"], one["type"], one["kind"], one["status"]) for one in devices]
    assert found == [
        ("3", "Boiler pump", "iotflow", "sensor", "active"), ("7", "Valve", "iotflow", "actuator", "inactive"),
    ]

    # Twice: nothing is there twice, and what was changed since stays.
    command(target, "device", "set", "3", "--location", "Roof")
    again = json.loads(command(target, "import", "seed3", source, "--json", expected=3))
    outcomes = {(item["kind"], item["id"]): item["outcome"] for item in again["items"]}
    assert outcomes[("device", "3")] == outcomes[("device", "7")] == "exists"
    assert outcomes[("user", "ann")] == outcomes[("user", "head")] == "exists"
    assert outcomes[("setting", "3/interval")] == outcomes[("setting", "3/verbose")] == "exists"

    node = start(start_node, target, http=True)
    for password, expected in (("admin123", 200), ("admin124", 401)):
        login = json.dumps({"user": "head", "password": password}).encode()
        assert ask(node, "/api/v1/session", "POST", {"Content-Type": "application/json"}, login)[0] == expected
    # The command that was printed for her.
    command(target, "user", "passwd", "ann", given="one and two and three\n")
    assert publishes(node, "ann", "one and two and three", "iotflow/test")
    devices = call(node, "GET", "/api/v1/devices")["items"]
    found = [(one["number"], one["location"], one["owner"]) for one in devices]
    assert found == [(3, "Roof", "ann"), (7, "", "")]
    settings = call(node, "GET", "/api/v1/devices/3/configuration")["items"]
    assert {one["key"]: one["value"] for one in settings} == {"interval": "60", "verbose": "true"}
    assert publishes(node, "3", KEY, "iotflow/devices/3/telemetry/sensors")
    assert not publishes(node, "3", OTHER_KEY, "iotflow/devices/3/telemetry/sensors")
    assert not publishes(node, "7", OTHER_KEY, "iotflow/devices/7/telemetry/sensors"), "it is inactive"
    assert KEY not in node.log()


def test_a_dry_run_reports_what_the_import_reports(make, target):
    source = make(IOTFLOW + TELEMETRY + """
        INSERT INTO users (user_id, username, email, password_hash, is_active, is_admin) VALUES
            ('u4', '', 'nobody@example', 'x', TRUE, FALSE), ('u5', '7', 'seven@example', 'x', TRUE, FALSE),
            ('u6', 'a b', 'blank@example', 'x', TRUE, FALSE);
        INSERT INTO devices (id, name, device_type, api_key, status, user_id) VALUES
            (11, '', 'sensor', 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', 'active', 2),
            (12, 'Of nobody', 'sensor', 'bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb', 'broken', 3);""")
    # A user of a name that is imported, and one who is not imported and owns a device there.
    command(target, "user", "add", "ann", given="one and two and three\n")
    variables = {**ENABLED, "MARTLET_REGISTRY__MAX_DEVICES_PER_USER": "1"}
    dry = json.loads(command(target, "import", "seed3", source, "--dry-run", "--json", expected=3, variables=variables))
    assert json.loads(command(target, "device", "ls", "--json"))["items"] == []
    told = json.loads(command(target, "import", "seed3", source, "--json", expected=3, variables=variables))
    assert dry["items"] == told["items"]
    outcomes = {(one["kind"], one["id"]): (one["outcome"], one["note"]) for one in told["items"]}
    assert outcomes["user", "ann"][0] == "exists" and outcomes["user", ""][0] == "skipped", outcomes
    assert "its owner left is not a user here" in outcomes["device", "12"][1], outcomes
    assert outcomes["device", "11"] == ("skipped", outcomes["device", "11"][1]) and "no name" in outcomes["device", "11"][1]


def test_columns_that_are_missing_are_named_all_at_once_and_others_have_a_default(make, target):
    source = make("""CREATE TABLE devices (id {serial} NOT NULL, name VARCHAR(100), api_key VARCHAR(64));""")
    told = command(target, "import", "seed3", source, expected=1, errors=True)
    assert "lacks: devices.device_type, devices.status" in told, told


def test_a_database_with_the_required_columns_alone_is_imported(make, target):
    source = make("""
        CREATE TABLE devices (id {serial} NOT NULL, name VARCHAR(100), device_type VARCHAR(50),
            api_key VARCHAR(64), status VARCHAR(20));
        CREATE TABLE users (username VARCHAR(80));
        INSERT INTO devices (id, name, device_type, api_key, status) VALUES
            (3, 'Pump', 'sensor', 'abcdefghijklmnopqrstuvwxyz012345', 'active');
        INSERT INTO users VALUES ('ann');""")
    told = command(target, "import", "seed3", source)
    assert "imported  device 3" in told and "imported  user ann" in told


VALUES = {
    "3": [("2025-07-01T10:00:00.250000Z", {"count": 7, "meta_fw": "2.1", "meta_type": "sensors", "mode": "auto", "on": True,
                                            "place": {"lat": 1.5}, "temperature": 21.5}),
          ("2025-07-01T10:00:01.000000Z", {"temperature": 22.0}), ("2025-07-01T10:00:04.000000Z", {"temperature": 23})],
    "7": [("1999-12-31T23:59:59.000000Z", {"open": False})],
}
ENABLED = {"MARTLET_TELEMETRY__ENABLED": "true"}


def values(node, device):
    """All values of a device by their times."""
    found = {}
    for one in call(node, "GET", f"/api/v1/devices/{device}/telemetry?from=1990-01-01T00:00:00Z")["items"]:
        assert one["key"] not in found.setdefault(one["time"], {}), "it is there twice"
        found[one["time"]][one["key"]] = one["value"]
    return sorted(found.items())


def expect_values(node):
    for device, expected in VALUES.items():
        assert values(node, device) == expected, device


def expect_imported(told):
    rows = [(row["id"], row["outcome"], row["note"]) for row in json.loads(told)["items"] if row["kind"] == "telemetry"]
    assert [row[:2] for row in rows] == [("9", "skipped"), ("3", "imported"), ("3", "skipped"), ("7", "imported")], rows
    notes = [row[2] for row in rows]
    assert "1 record: the device was not imported" in notes[0]
    assert notes[1].startswith("4 records with 10 values")
    assert notes[2].startswith("2 rows of the table telemetry_data: record 5: its payload is not a JSON object; record 6: "), notes[2]
    assert notes[3].startswith("1 record with 1 value;")


def test_telemetry_of_iotflow_keeps_its_times_and_types(make, target, start_node):
    source = make(IOTFLOW + TELEMETRY)
    # Without telemetry nothing of it is imported, and the report says what to set.
    told = command(target, "import", "seed3", source, expected=3)
    assert "skipped   telemetry 3: 6 records: the node stores no telemetry: set telemetry.enabled" in told
    dry = command(target, "import", "seed3", source, "--dry-run", expected=3, variables=ENABLED)
    assert "would be imported telemetry 3: " in dry and "telemetry of devices: 2 to import" in dry
    assert not (target[0] / "telemetry.db").exists()
    # Twice while no node runs, and once more by the node.
    for _ in range(2):
        expect_imported(command(target, "import", "seed3", source, "--json", expected=3, variables=ENABLED))
    node = start(start_node, target, http=True, settings=[
        "telemetry.enabled=true", "telemetry.skew_behind_secs=60", "telemetry.skew=received"])
    expect_values(node)
    expect_imported(command(target, "import", "seed3", source, "--json", expected=3))
    expect_values(node)


def test_telemetry_of_iotflow_is_imported_by_the_node_that_runs(make, target, start_node):
    source = make(IOTFLOW + TELEMETRY)
    node = start(start_node, target, http=True)
    told = command(target, "import", "seed3", source, expected=3)
    assert "skipped   telemetry 3: 6 records: the node stores no telemetry: set telemetry.enabled" in told
    node.close()
    # Old times are too far off for devices here. A rule about telemetry does not see them.
    node = start(start_node, target, http=True, settings=[
        "telemetry.enabled=true", "telemetry.skew_behind_secs=60", "telemetry.skew=reject"])
    topic = "iotflow/devices/3/commands/control"
    rule = {"name": "hot", "telemetry": "temperature", "actions": [{"publish": {"topic": topic, "payload": "{{ value }}"}}]}
    call(node, "POST", "/api/v1/rules", rule, expect=201)
    with Client(node, "3").credentials("3", KEY) as client:
        client.subscribe(topic)
        for _ in range(2):
            expect_imported(command(target, "import", "seed3", source, "--json", expected=3))
            expect_values(node)
        call(node, "POST", "/api/v1/devices/3/telemetry", {"temperature": 30}, expect=201)
        assert client.receive_payload() == "30"
        assert client.messages.empty()


def test_a_device_sends_no_values_of_the_past(make, target, start_node):
    command(target, "import", "seed3", make(IOTFLOW), expected=3)
    node = start(start_node, target, http=True, settings=["telemetry.enabled=true"])
    path = "/api/v1/devices/3/telemetry?past=true"
    call(node, "POST", path, {"t": 1, "ts": 1}, expect=403, key=KEY)
    needed = "no time: add it as the member timestamp or ts, since each value of the past needs one"
    assert needed in call(node, "POST", path, {"t": 1}, expect=422)["detail"]
    assert call(node, "POST", path, {"t": 1, "ts": "1999-12-31T23:59:59Z"}, expect=201)["stored"] == 1


def test_a_row_that_cannot_be_read_keeps_no_other_from_being_imported(tmp_path):
    path = tmp_path / "iotflow.db"
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE devices (id, name TEXT, description TEXT, device_type TEXT, api_key TEXT, status TEXT, "
                         "location TEXT, firmware_version TEXT, hardware_version TEXT)")
        for id, name in [(1, "good"), (2, None), ("../../x", "odd"), ("1e3", "odd"), (4, "good too")]:
            database.execute("INSERT INTO devices (id, name, api_key, status) VALUES (?, ?, ?, 'active')",
                             (id, name, f"0123456789abcdef-{id}"))
        database.commit()
    told = command((tmp_path / "data", {}), "import", "seed3", str(path), expected=3)
    for line in ["imported  device 1", "imported  device 4", "skipped   device 2: it has no name",
                 "skipped   device ../../x: its id is not a number", "skipped   device 1e3: its id is not a number"]:
        assert line in told, told


def test_devices_of_service_mqtt_keep_their_passwords(make, target, start_node):
    source = make(SERVICE_MQTT)
    told = command(target, "import", "seed4", source)
    assert "devices: 1 imported" in told
    assert "devices: 0 imported, 1 there before" in command(target, "import", "seed4", source)
    node = start(start_node, target)
    assert publishes(node, "MZXW6YTBOJTG633C", "abcdefghijklmnop", "raw.MZXW6YTBOJTG633C")


def test_a_database_of_another_system_is_told_from_the_one_that_is_named(make, target):
    source = make(SERVICE_MQTT)
    directory, variables = target
    done = subprocess.run(
        [martlet_process.binary(), "import", "seed3", source, "--data-dir", str(directory)],
        env={**martlet_process.environment(), **variables}, capture_output=True, text=True, timeout=60,
    )
    assert done.returncode == 1 and "martlet import service-mqtt" in done.stderr, done


def microservice(path, url):
    """A database of the microservice, with messages of yesterday."""
    with sqlite3.connect(path) as database:
        database.executescript(MICROSERVICE.replace("URL", url).replace("DAY", "date('now', '-1 day')"))


def messages(node, confirmed):
    found = call(node, "GET", f"/messages?confirmed={confirmed}")["messages"]
    return [(one["id"][-1], one["topic"], one["payload"], one["qos"], one["retained"], one["timestamp"][10:]) for one in found]


def test_webhooks_and_messages_of_the_microservice_are_imported(tmp_path, target, start_node, receiver):
    path = tmp_path / "mqtt-messages.db"
    microservice(path, receiver.url)
    # Messages are written into the tables; without a node there are no webhooks. A dry run leaves nothing.
    dry = json.loads(command(target, "import", "seed1", str(path), "--dry-run", "--json", expected=3))
    assert not (tmp_path / "data").exists()
    told = json.loads(command(target, "import", "seed1", str(path), "--json", expected=3))
    assert dry["items"] == told["items"] and told["items"][0]["outcome"] == "imported"
    told = command(target, "import", "seed1", str(path), expected=3)
    assert "exists    messages 2" in told and "messages: 0 imported, 2 there before, 0 skipped" in told
    node = start(start_node, target, http=True, settings=["integrations.allow_private=127.0.0.0/8"])
    assert messages(node, "false") == [("3", "a/1", {"t": 1}, 1, False, "T12:00:00.500Z")]
    assert messages(node, "true") == [("4", "a/2", "/wA=", 2, True, "T12:00:01.000Z")]
    told = command(target, "import", "seed1", str(path), "--json", expected=3)
    rows = {(row["kind"], row["id"]): (row["outcome"], row["note"]) for row in json.loads(told)["items"]}
    assert rows["messages", "2"][0] == "exists"
    assert rows["webhook", "1772366400500000001"][0] == "imported"
    outcome, why = rows["webhook", "1772366400500000002"]
    assert outcome == "skipped" and "http://" in why
    with Client(node, "pump") as client:
        client.publish("hook/1", "to the webhook", 1)
    until(lambda: [one["payload"] for one in receiver.bodies()] == ["to the webhook"], node.log)
    assert receiver.seen[0][1]["authorization"] == "Bearer known-token-2"
    [webhook] = call(node, "GET", "/webhooks")["webhooks"]
    assert (webhook["id"], webhook["name"], webhook["timeout"]) == ("1772366400500000001", "crm", 10)
    # A second time nothing is added.
    told = json.loads(command(target, "import", "seed1", str(path), "--json", expected=3))["items"]
    assert [row["outcome"] for row in told] == ["exists", "exists", "skipped"]


def test_a_dry_run_promises_no_webhook_that_the_import_skips(tmp_path, target, start_node):
    path = tmp_path / "mqtt-messages.db"
    long, one, two = json.dumps({"A": "x" * 70_000}), "http://h.example/1", "http://h.example/2"
    rows = [("w1", one, '{"A": "b\\r\\nC: d"}'), ("w2", one, long), ("w3", one, "{}"), ("w3", two, "{}"), ("", one, "{}"),
            ("w4", "http://127.0.0.1/", "{}"), ("w5", "http://localhost/", "{}"), ("w6", "http://10.1.2.3/", "{}")]
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.executescript("CREATE TABLE webhooks (id, url, topic_filter, headers);"
                               "CREATE TABLE messages (id, topic, payload, confirmed)")
        database.executemany("INSERT INTO webhooks VALUES (?, ?, 'a/#', ?)", rows)
        database.commit()
    # What it permits is not in the configuration of the command.
    start(start_node, target, settings=["integrations.allow_private=10.0.0.0/8"])
    dry = json.loads(command(target, "import", "seed1", str(path), "--dry-run", "--json", expected=3))
    told = json.loads(command(target, "import", "seed1", str(path), "--json", expected=3))
    assert dry["items"] == told["items"]
    outcomes = [(row["id"], row["outcome"]) for row in told["items"]]
    assert outcomes == [("", "skipped"), ("w1", "skipped"), ("w2", "skipped"), ("w3", "imported"), ("w3", "exists"), ("w4", "skipped"),
                        ("w5", "skipped"), ("w6", "imported")]
    why = " ".join(row["note"] for row in told["items"])
    assert "it has a line break" in why and "1 to 65536 bytes" in why and "--url" not in why, why


def test_a_password_on_the_command_line_is_refused(tmp_path):
    target = (tmp_path / "data", {})
    url = "postgres://u:geheim@127.0.0.1:1/d"
    done = martlet_process.run("import", "seed3", url, "--data-dir", str(target[0]))
    assert done.returncode == 1 and "--url-file" in done.stderr and "geheim" not in done.stderr
    file = tmp_path / "url"
    file.write_text(url + "\n")
    done = martlet_process.run("import", "seed3", "--url-file", str(file), "--data-dir", str(target[0]))
    assert done.returncode == 1 and "postgres" in done.stderr and "geheim" not in done.stderr


def test_users_and_rules_of_mosquitto_are_imported(tmp_path, target, start_node):
    passwords, acl = tmp_path / "passwd", tmp_path / "acl.conf"
    hashed = subprocess.run(
        [martlet_process.binary(), "passwd", "-c", "-b", "-H", "sha512-pbkdf2", str(passwords), "admin", "admin-password"],
        env=martlet_process.environment(), capture_output=True, text=True, timeout=60,
    )
    assert hashed.returncode == 0, hashed
    with passwords.open("a") as file:
        file.write("sensor_001:in clear, and long\nsensor_002:in clear, and long too\n")
    acl.write_text(
        "topic read public/#\n"
        "user admin\ntopic readwrite #\ntopic deny iotflow/secret/#\n"
        "pattern readwrite iotflow/devices/%c/+\n"
    )
    files = ["--password-file", str(passwords), "--acl-file", str(acl)]
    told = command(target, "import", "mosquitto", *files, expected=3)
    assert "skipped   line 1 topic read public/#: it is for clients without a user name" in told
    assert "lines of the ACL file: 0 imported, 0 there before, 1 skipped" in told
    assert "users: 3 imported, 0 there before, 0 skipped" in told and "roles: 2 imported" in told
    assert "in clear, and long" not in told
    assert "users: 0 imported, 3 there before" in command(target, "import", "mosquitto", *files, expected=3)

    node = start(start_node, target)
    assert publishes(node, "admin", "admin-password", "any/topic")
    assert not publishes(node, "admin", "wrong-password", "any/topic")
    for user, password in (("sensor_001", "in clear, and long"), ("sensor_002", "in clear, and long too")):
        assert publishes(node, user, password, f"iotflow/devices/{user}/status")
    rules = json.loads(command(target, "role", "rules", "mosquitto-admin", "--json"))["rules"]
    # What denies comes first, as Mosquitto decides.
    assert rules == ["topic deny iotflow/secret/#", "topic readwrite #", "pattern readwrite iotflow/devices/%c/+"]


def test_a_node_takes_over_its_database_from_service_mqtt(postgres, start_node, tmp_path):
    url = postgres.new_database(has_tables=False)
    postgres.sql(url, SERVICE_MQTT.format(time="timestamptz"))
    rows = postgres.sql(url, "SELECT * FROM public.devices")
    variables = {**KEYS, "DATABASE_DSN": url, "ENABLE_JETSTREAM": "true"}
    node = start_node(data_dir=tmp_path / "data", variables=variables, http=True)
    assert "martlet import service-mqtt" in node.log()
    told = command((tmp_path / "data", {}), "import", "seed4", variables=variables)
    assert "devices: 1 imported" in told and "Applied to the running node." in told
    assert publishes(node, "MZXW6YTBOJTG633C", "abcdefghijklmnop", "raw.MZXW6YTBOJTG633C")
    assert not publishes(node, "MZXW6YTBOJTG633C", "abcdefghijklmnox", "raw.MZXW6YTBOJTG633C")
    assert postgres.sql(url, "SELECT * FROM public.devices") == rows
    assert "abcdefghijklmnop" not in postgres.sql(url, "SELECT * FROM martlet.device_credentials")
    assert "abcdefghijklmnop" not in node.log()
