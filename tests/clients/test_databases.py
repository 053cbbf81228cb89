"""Which database a node uses: variables that other programs have too, and databases that they use."""

import re
import sqlite3
import subprocess
import threading
import time

import pytest

import martlet_process
from test_http_api import KEYS
from test_http_registry import call

UNREACHABLE = "postgres://u:geheim@127.0.0.1:1/d"

OTHERS = "CREATE TABLE devices (id SERIAL PRIMARY KEY, label TEXT); INSERT INTO devices (label) VALUES ('theirs')"

IOTFLOW = """CREATE TABLE devices (id SERIAL PRIMARY KEY, name VARCHAR(100) NOT NULL, description TEXT,
    device_type VARCHAR(50) NOT NULL, api_key VARCHAR(64) NOT NULL UNIQUE, status VARCHAR(20) NOT NULL);
    INSERT INTO devices (name, device_type, api_key, status) VALUES ('n', 't', 'k', 'active')"""

SERVICE_MQTT = """CREATE TABLE devices (id text PRIMARY KEY, device_type text, mqtt_user text,
    mqtt_password text, created_at timestamptz);
    INSERT INTO devices VALUES ('MZXW6YTBOJTG633C', 'car', 'MZXW6YTBOJTG633C', 'abcdefghijklmnop', now())"""

SCHEMA = "SELECT count(*) FROM pg_namespace WHERE nspname = 'martlet'"


@pytest.fixture
def start(start_node, tmp_path):
    """Starts a node in the same data directory each time, and ends the one before."""
    nodes = []

    def start(**variables):
        for node in nodes:
            node.close()
        options = {"http": True, "data_dir": tmp_path / "data", "log_path": str(tmp_path / f"log{len(nodes)}")}
        nodes.append(start_node(variables={**KEYS, **variables}, **options))
        return nodes[-1]

    return start


def once_it_waits(log, act):
    """Calls a function as soon as the node with this log waits for its database."""
    def wait():
        until = time.monotonic() + martlet_process.DEADLINE_SECS
        while time.monotonic() < until and not (log.exists() and "waiting for it" in log.read_text()):
            time.sleep(0.05)
        act()
    threading.Thread(target=wait, daemon=True).start()


def appears_late(postgres, place):
    """URL of a database whose server appears later, and a function that has it appear as soon as a node waits for it."""
    url, there = postgres.new_database(has_tables=False), place / "pg"
    return url.replace(postgres.place, str(there)), lambda log: once_it_waits(log, lambda: there.symlink_to(postgres.place))


def warnings(node):
    return call(node, "GET", "/api/v1/health")["warnings"]


def devices(node):
    return [one["id"] for one in call(node, "GET", "/api/v1/devices")["items"]]


def test_the_database_of_another_program_is_not_used(start, postgres):
    url = postgres.new_database(has_tables=False)
    postgres.sql(url, OTHERS)
    node = start(DATABASE_URL=url)
    assert "environment DATABASE_URL" in node.log() and "registry.adopt" in node.log()
    assert any("environment DATABASE_URL" in one and "is not used" in one for one in warnings(node))
    call(node, "POST", "/api/v1/devices", {"id": "ours"})
    assert postgres.sql(url, SCHEMA).strip() == "0"
    assert postgres.sql(url, "SELECT label FROM devices").strip() == "theirs"

    # Not even with a name that tells: its users and devices are elsewhere already.
    node = start(DATABASE_URL=url, ENABLE_JETSTREAM="true")
    assert "are in martlet.db" in node.log() and devices(node) == ["ours"]
    assert postgres.sql(url, SCHEMA).strip() == "0"


def test_it_is_used_if_a_key_says_so_and_from_then_on(start, postgres):
    url = postgres.new_database(has_tables=False)
    postgres.sql(url, OTHERS)
    node = start(DATABASE_URL=url, MARTLET_REGISTRY__ADOPT="true")
    call(node, "POST", "/api/v1/devices", {"id": "ours"})
    node = start(DATABASE_URL=url)
    assert devices(node) == ["ours"]
    assert postgres.sql(url, "SELECT id FROM martlet.devices").strip() == "ours"
    assert postgres.sql(url, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'").split() == ["devices"]
    # Commands find it too.
    done = martlet_process.subprocess.run(
        [martlet_process.binary(), "device", "ls", "--data-dir", node.data_dir],
        env={**martlet_process.environment(), "DATABASE_URL": url}, capture_output=True, text=True, timeout=60,
    )
    assert done.returncode == 0 and "ours" in done.stdout, done


def test_it_is_used_if_it_has_the_schema(start, start_node, postgres):
    url = postgres.new_database(has_tables=False)
    first = start_node(http=True, variables={**KEYS, "MARTLET_REGISTRY__URL": url})
    call(first, "POST", "/api/v1/devices", {"id": "ours"})
    assert devices(start(DATABASE_DSN=url)) == ["ours"]


def test_it_may_be_given_as_keywords(start, postgres):
    """As Go programs have it."""
    url = postgres.new_database(has_tables=False)
    parts = re.fullmatch(r"postgres://(\w+)@localhost/(\w+)\?host=(.*)", url)
    user, name, host = parts.groups()
    keywords = f"host={host} user={user} password='a secret' dbname={name} sslmode=disable TimeZone=UTC"
    node = start(DATABASE_DSN=keywords, LISTEN_ADDR=":0")
    call(node, "POST", "/api/v1/devices", {"id": "ours"})
    assert postgres.sql(url, "SELECT id FROM martlet.devices").strip() == "ours"
    assert "a secret" not in node.log()


@pytest.mark.parametrize("wrong", ["user=u password=geheim", "host=h password='geheim dbname=d", "service=x dbname=geheim",
                                   "Host=h;Username=u;Password=geheim"])
def test_keywords_with_a_mistake_are_no_file(tmp_path, wrong):
    """It would be a file whose name has the password in it."""
    config = tmp_path / "martlet.toml"
    config.write_text(f'[registry]\nurl = "{wrong}"\n')
    config.chmod(0o600)
    for command in (["serve", "-c", config, "--data-dir", tmp_path / "data"], ["config", "check", "-c", config]):
        done = martlet_process.run(*map(str, command))
        said = done.stdout + done.stderr
        assert done.returncode == 1 and "expected postgres://" in said and "geheim" not in said, done
    assert not list(tmp_path.glob("**/*geheim*"))


@pytest.mark.parametrize(
    "names",
    [{"IOTFLOW_ADMIN_TOKEN": "0123456789abcdef"}, {"ENABLE_JETSTREAM": "true"}, {"MAX_DEVICES_PER_USER": "3"},
     {"NATS_URL": "nats://localhost:4222", "LISTEN_ADDR": ":0"}],
)
def test_it_is_used_next_to_a_name_that_one_system_has(start, postgres, names):
    url = postgres.new_database(has_tables=False)
    start(DATABASE_URL=url, **names)
    assert postgres.sql(url, SCHEMA).strip() == "1"


def test_one_of_two_names_does_not_tell(start, postgres):
    url = postgres.new_database(has_tables=False)
    start(DATABASE_URL=url, NATS_URL="nats://localhost:4222")
    assert postgres.sql(url, SCHEMA).strip() == "0"


def test_a_database_that_cannot_be_reached_stops_the_start_only_if_it_is_for_martlet(start):
    node = start(DATABASE_URL=UNREACHABLE)
    assert "cannot be read" in node.log() and "registry.url" in node.log() and "geheim" not in node.log()
    assert any("cannot be read" in one for one in warnings(node))
    node.close()
    line = [martlet_process.binary(), "serve", "--http", "off", "--listen", "mqtt://127.0.0.1:0", "--data-dir",
            node.data_dir]
    for name in ({"IOTFLOW_ADMIN_TOKEN": "0123456789abcdef"}, {"MARTLET_REGISTRY__URL": UNREACHABLE}):
        variables = {"DATABASE_URL": UNREACHABLE, "MARTLET_REGISTRY__WAIT_SECS": "1", **name}
        variables = {**martlet_process.environment(), **variables}
        done = subprocess.run(line, env=variables, capture_output=True, text=True, timeout=60)
        assert done.returncode == 1 and "has waited for 1 s: registry.wait_secs" in done.stderr, done
        assert "geheim" not in done.stdout + done.stderr


@pytest.mark.parametrize("names, said", [
    ({"DATABASE_DSN": UNREACHABLE}, "environment DATABASE_DSN"),
    ({"DATABASE_URL": "mysql://u:geheim@h/d", "IOTFLOW_ADMIN_TOKEN": "0123456789abcdef"}, "environment DATABASE_URL"),
    ({"DB_URI": UNREACHABLE, "IOTFLOW_ADMIN_TOKEN": "0123456789abcdef"}, "environment DB_URI"),
    ({"DB_HOST": "h", "DB_PASSWORD": "geheim", "LISTEN_ADDR": ":0", "NATS_URL": "nats://h"}, "environment DB_HOST"),
])
def test_health_warns_of_each_database_that_is_named_and_not_used(start, names, said):
    told = warnings(start(**names))
    assert any(said in one and "geheim" not in one for one in told), told


@pytest.mark.parametrize("names", [
    ("DATABASE_URL", {"IOTFLOW_ADMIN_TOKEN": "0123456789abcdef"}), ("DATABASE_DSN", {"LISTEN_ADDR": ":0"}),
    ("DATABASE_DSN", {"PUBLISH_TIMEOUT_SEC": "5"}), ("DATABASE_URL", {"DB_HOST": "h", "DB_NAME": "iotflow"}),
    ("MARTLET_REGISTRY__URL", {}),
])
def test_a_database_that_is_not_up_yet_is_waited_for(start, postgres, tmp_path, names):
    url, show = appears_late(postgres, tmp_path)
    variables = {names[0]: url, **names[1]}
    show(tmp_path / "log0")
    node = start(**variables)
    assert "waiting for it, at most 30 s (registry.wait_secs)" in node.log()
    call(node, "POST", "/api/v1/devices", {"id": "ours"})
    assert postgres.sql(url, "SELECT id FROM martlet.devices").strip() == "ours"
    assert devices(start(**variables)) == ["ours"]


def test_users_in_a_file_that_is_not_used_are_named(start, postgres, tmp_path):
    line = [martlet_process.binary(), "user", "add", "anna", "--generate", "--data-dir", str(tmp_path / "data")]
    assert subprocess.run(line, env=martlet_process.environment(), capture_output=True, timeout=20).returncode == 0
    url = postgres.new_database(has_tables=False)
    done = subprocess.run([martlet_process.binary(), "init", str(tmp_path / "init")], capture_output=True, text=True, timeout=20,
                          env={**martlet_process.environment(), "MARTLET_REGISTRY__URL": url})
    assert done.returncode == 0 and "martlet.db are not used" in done.stderr, done
    node = start(MARTLET_REGISTRY__URL=url)
    [warning] = [one for one in warnings(node) if "martlet.db" in one]
    assert "are not used" in warning and "MARTLET_REGISTRY__URL" in warning
    assert node.log().count("martlet.db are not used") == 1
    # The variable is the one that was written.
    node = start(DATABASE_URL=url, IOTFLOW_ADMIN_TOKEN="0123456789abcdef")
    [warning] = [one for one in warnings(node) if "martlet.db" in one]
    assert "environment DATABASE_URL" in warning and "MARTLET_" not in warning


def test_a_database_that_was_used_has_to_be_reached_and_is_waited_for_until_it_is_created(start, postgres, tmp_path):
    url = postgres.new_database(has_tables=False)
    name = url.split('/')[3].split('?')[0]
    rename = lambda one, other: postgres.run("psql", "-d", "postgres", "-c", f"ALTER DATABASE {one} RENAME TO {other}")
    start(DATABASE_URL=url, ENABLE_JETSTREAM="true")
    node = start(DATABASE_URL=url)
    call(node, "POST", "/api/v1/devices", {"id": "ours"})
    node.close()
    rename(name, f"gone_{name}")
    with pytest.raises(RuntimeError) as told:
        start(DATABASE_URL=url, MARTLET_REGISTRY__WAIT_SECS="1")
    assert "does not exist" in str(told.value) and "has waited for 1 s" in str(told.value)
    (tmp_path / "log2").unlink()
    once_it_waits(tmp_path / "log2", lambda: rename(f"gone_{name}", name))
    assert devices(start(DATABASE_URL=url)) == ["ours"]


@pytest.mark.parametrize("tables, system", [(IOTFLOW, "iotflow"), (SERVICE_MQTT, "service-mqtt")])
def test_tables_of_a_replaced_system_are_left_and_a_line_names_the_import(start, postgres, tables, system):
    url = postgres.new_database(has_tables=False)
    postgres.sql(url, tables)
    rows = postgres.sql(url, "SELECT * FROM public.devices")
    columns = "SELECT column_name FROM information_schema.columns WHERE table_schema = 'public' ORDER BY 1"
    before = postgres.sql(url, columns)
    node = start(DATABASE_DSN=url, ENABLE_JETSTREAM="true")
    assert node.log().count(f"martlet import {system}") == 1
    call(node, "POST", "/api/v1/devices", {"id": "ours"})
    assert devices(node) == ["ours"]
    assert postgres.sql(url, "SELECT * FROM public.devices") == rows
    assert postgres.sql(url, columns) == before


def test_the_key_of_the_configuration_is_stronger(start_node, postgres, tmp_path):
    ours, theirs = postgres.new_database(has_tables=False), postgres.new_database(has_tables=False)
    file = tmp_path / "martlet.toml"
    file.write_text(f'[registry]\nurl = "{ours}"\nadopt = true\n')
    file.chmod(0o600)
    start_node(arguments=["-c", str(file)], variables={"DATABASE_URL": theirs})
    assert postgres.sql(ours, SCHEMA).strip() == "1" and postgres.sql(theirs, SCHEMA).strip() == "0"


def test_a_file_of_another_program_is_never_used(start, start_node, tmp_path):
    path = tmp_path / "theirs.db"
    with sqlite3.connect(path) as database:
        database.executescript("CREATE TABLE devices (id INTEGER PRIMARY KEY, label TEXT);")
    node = start(DATABASE_URL=f"sqlite://{path}", ENABLE_JETSTREAM="true")
    assert "tables of another program" in node.log()
    with pytest.raises(RuntimeError) as told:
        start_node(variables={"MARTLET_REGISTRY__URL": f"sqlite://{path}"}, http=True,
                   arguments=["--set", "auth.registry=on"])
    assert "another program" in str(told.value)
    with sqlite3.connect(path) as database:
        found = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    assert found == [("devices",)]
