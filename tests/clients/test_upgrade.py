"""A data directory of an older program: its tables are of the first version, its telemetry has no checksums. Today's
program keeps users, devices, sessions, queues, retained messages and values."""

import hashlib
import pathlib
import sqlite3

from paho_client import V5, Client, properties
from test_access import until
from test_http_api import KEYS
from test_telemetry import call, readings

MIGRATIONS = pathlib.Path(__file__).parents[2] / "crates" / "registry" / "migrations"
LASTS = properties("CONNECT", SessionExpiryInterval=36000)
PASSWORD = "correct horse"
SQLX = """CREATE TABLE _sqlx_migrations (version BIGINT PRIMARY KEY, description TEXT NOT NULL, installed_on TIMESTAMP
    NOT NULL DEFAULT CURRENT_TIMESTAMP, success BOOLEAN NOT NULL, checksum BLOB NOT NULL, execution_time BIGINT NOT NULL)"""


def rows(database, table, columns):
    return database.execute(f"SELECT {', '.join(columns)} FROM {table}").fetchall()


def put(database, table, columns, found):
    places = ", ".join("?" * len(columns))
    database.executemany(f"INSERT OR REPLACE INTO {table} ({', '.join(columns)}) VALUES ({places})", found)


def make_first_tables(path):
    """Has the tables of the first version, with the users, devices and credentials of these."""
    tables = {
        "users": ["name", "role", "password_hash", "password_set_ms", "scram_verifier", "enabled", "created_ms"],
        "devices": ["id", "name", "type", "status", "created_ms"],
        "settings": ["name", "value"],
    }
    with sqlite3.connect(path) as database:
        kept = {table: rows(database, table, columns) for table, columns in tables.items()}
        kept["device_credentials"] = database.execute(
            "SELECT c.id, d.id, c.digest, c.created_ms FROM device_credentials c JOIN devices d ON d.number = c.device"
        ).fetchall()
    for end in ("", "-wal", "-shm"):
        path.with_name(path.name + end).unlink(missing_ok=True)
    [first] = MIGRATIONS.glob("0001_*.sql")
    text = first.read_text()
    with sqlite3.connect(path) as database:
        database.executescript(text)
        database.execute(SQLX)
        row = (1, "users, devices, roles", 1, hashlib.sha384(text.encode()).digest(), 0)
        put(database, "_sqlx_migrations", ["version", "description", "success", "checksum", "execution_time"], [row])
        for table, columns in tables.items():
            put(database, table, columns, kept[table])
        put(database, "device_credentials", ["id", "device_id", "digest", "created_ms", "expires_ms", "revoked_ms"], [(*one, 0, 0) for one in kept["device_credentials"]])
    path.chmod(0o600)


def make_first_telemetry(path):
    """Removes the checksums."""
    with sqlite3.connect(path) as database:
        blocks = database.execute("SELECT series, time, origin, data FROM blocks").fetchall()
        for series, at, origin, data in blocks:
            assert data[0] == 2
            database.execute("UPDATE blocks SET data = ? WHERE series = ? AND time = ? AND origin = ?",
                             (b"\1" + data[1:-4], series, at, origin))
        journal = database.execute("SELECT id, data FROM journal").fetchall()
        for number, data in journal:
            assert data[0] == 0
            database.execute("UPDATE journal SET data = ? WHERE id = ?", (data[1:-4], number))
        database.executescript("""CREATE TABLE old (id INTEGER PRIMARY KEY AUTOINCREMENT,
                device INTEGER NOT NULL, key TEXT NOT NULL, UNIQUE (device, key));
            INSERT INTO old SELECT id, device, key FROM series;
            DROP TABLE series;
            ALTER TABLE old RENAME TO series;
            PRAGMA user_version = 1""")
    assert blocks or journal


def test_a_directory_of_the_first_version_is_kept(start_node, tmp_path):
    data = tmp_path / "data"
    options = {"http": True, "variables": KEYS, "data_dir": data,
               "settings": ["http.rate=0", "telemetry.enabled=true"]}
    node = start_node(**options)
    call(node, "POST", "/users", {"name": "ada", "password": PASSWORD, "role": "administrator"}, status=201)
    secret = call(node, "POST", "/devices", {"id": "d1", "name": "Pump"}, status=201)["secret"]
    ada = lambda node: Client(node, "keeper", V5, clean=False, properties=LASTS).credentials("ada", PASSWORD)
    with ada(node) as keeper:
        keeper.subscribe("#", qos=1)
    with Client(node, "sender", V5).credentials("ada", PASSWORD) as sender:
        for number in range(3):
            sender.publish("queue/1", str(number), 1)
        sender.publish("kept/1", "retained", 1, retain=True)
    for number in range(5):
        call(node, "POST", "/devices/d1/telemetry", {"ts": 1790000000 + number, "level": number}, status=201)
    values = readings(node, "d1")
    assert len(values) == 5
    node.terminate()
    node.wait()
    make_first_tables(data / "martlet.db")
    make_first_telemetry(data / "telemetry.db")

    node = start_node(**options)
    with ada(node) as keeper:
        assert keeper.session_present
        assert [keeper.receive_payload() for _ in range(4)] == ["0", "1", "2", "retained"]
    with Client(node, "late", V5).credentials("ada", PASSWORD) as late:
        late.subscribe("kept/#", qos=1)
        assert late.receive_payload() == "retained"
    with Client(node, "d1").credentials("d1", secret):
        found = call(node, "GET", "/devices/d1")
        # Its rights are those that it had: the type that came with that program has another name now.
        assert (found["name"], found["type"]) == ("Pump", "device-before-v11")
    assert readings(node, "d1") == values
    call(node, "POST", "/devices/d1/telemetry", {"ts": 1790000009, "level": 9}, status=201)
    until(lambda: len(readings(node, "d1")) == 6, node.log)
    node.close()
    # The second start finds nothing to do.
    assert len(readings(start_node(**options), "d1")) == 6
