"""An empty password gives access to nothing, wherever it comes from: files, the environment, imports."""

import base64
import hashlib
import json
import os
import socket
import sqlite3
import struct
import subprocess

import pytest

import martlet_process
from test_http_api import KEYS, ask
from test_import import IOTFLOW, SERVICE_MQTT
from test_registry import Place
from test_memory import text

PASSWORD = "a long password"


def pbkdf2(password):
    salt, rounds = os.urandom(12), 101
    made = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, rounds)
    return f"$7${rounds}${base64.b64encode(salt).decode()}${base64.b64encode(made).decode()}"


def sha512(password):
    salt = os.urandom(12)
    made = hashlib.sha512(password.encode() + salt).digest()
    return f"$6${base64.b64encode(salt).decode()}${base64.b64encode(made).decode()}"


# A hash by PBKDF2 is the same for a password of zero bytes as for the empty one.
EMPTY = (None, "", "\0", "\0\0\0\0", " ")


def reason(node, version, name, password):
    """The code of the CONNACK of a client that gives this password; None: that gives none."""
    flags = 0x82 | (0 if password is None else 0x40)
    body = text("MQTT") + bytes([version, flags]) + struct.pack(">H", 60) + (b"\0" if version == 5 else b"") + text(name)
    body += text(name) + (b"" if password is None else text(password))
    with socket.create_connection(("127.0.0.1", node.port()), timeout=60) as wire:
        wire.sendall(bytes([0x10, len(body)]) + body)
        return wire.recv(64)[3]


def is_let_in(node, name, password):
    return {reason(node, version, name, password) for version in (4, 5)} == {0}


def expect_refused(node, *names):
    for name in names:
        for password in EMPTY:
            codes = [reason(node, version, name, password) for version in (4, 5)]
            assert codes in ([5, 0x87], [4, 0x86], [5, 0x86]), (name, password, codes)
        status, _, _ = ask(node, "/api/v1/session", "POST", {"Content-Type": "application/json"},
                           json.dumps({"user": name, "password": ""}).encode())
        assert status == 401, (name, status)


@pytest.fixture
def passwords(tmp_path):
    """A file of Mosquitto's in which two users have hashes of the empty password."""
    path = tmp_path / "passwd"
    path.write_text(f"empty6:{sha512('')}\nempty7:{pbkdf2('')}\nbob6:{sha512(PASSWORD)}\nbob7:{pbkdf2(PASSWORD)}\n")
    path.chmod(0o600)
    return path


OPEN = ["auth.lockout_failures=0", "http.rate=0"]


def expect_bob_alone(node):
    expect_refused(node, "empty6", "empty7")
    assert is_let_in(node, "bob6", PASSWORD) and is_let_in(node, "bob7", PASSWORD)


def test_of_a_password_file(start_node, passwords):
    expect_bob_alone(start_node(settings=[*OPEN, f"auth.password_file={passwords}"], http=True))


def test_of_a_file_of_mosquitto(start_node, passwords, tmp_path):
    conf = tmp_path / "mosquitto.conf"
    conf.write_text(f"allow_anonymous false\npassword_file {passwords}\n")
    node = start_node(arguments=["--mosquitto-conf", str(conf)], settings=OPEN, http=True)
    expect_bob_alone(node)


def test_of_a_file_that_is_read_again(start_node, passwords):
    both = passwords.read_text()
    passwords.write_text("\n".join(line for line in both.splitlines() if "empty" not in line) + "\n")
    node = start_node(settings=[*OPEN, f"auth.password_file={passwords}"], http=True)
    expect_refused(node, "empty6")
    passwords.write_text(both)
    assert martlet_process.run("reload", "--data-dir", node.data_dir).returncode == 0
    expect_bob_alone(node)


@pytest.mark.parametrize("runs", [False, True], ids=["before", "running"])
def test_of_users_that_are_imported_from_mosquitto(start_node, passwords, tmp_path, runs):
    place = Place(tmp_path / "data")
    place.user("other")
    start = lambda: start_node(data_dir=place.path, settings=OPEN, http=True)
    node = start() if runs else None
    place.run("import", "mosquitto", "--password-file", passwords)
    expect_bob_alone(node or start())


@pytest.mark.parametrize("tables, command, name", [
    (IOTFLOW.replace("'short', 'active'", "'', 'active'"), "seed3", "9"),
    (SERVICE_MQTT.replace("'abcdefghijklmnop'", "''"), "seed4", "MZXW6YTBOJTG633C"),
], ids=["iotflow", "service-mqtt"])
def test_of_devices_that_are_imported(start_node, tmp_path, tables, command, name):
    place = Place(tmp_path / "data")
    place.device("other")
    with sqlite3.connect(tmp_path / "devices.db") as database:
        database.executescript(tables.format(serial="INTEGER", time="DATETIME"))
    done = martlet_process.run("import", command, str(tmp_path / "devices.db"), "--data-dir", str(place.path))
    # It is told, unless the device got no secret at all.
    assert done.returncode in (0, 3), done
    node = start_node(data_dir=place.path, settings=OPEN, http=True)
    expect_refused(node, name, "other")


def test_of_devices_of_a_table(start_node, tmp_path):
    """A secret that is empty is none: the device gets another, or is refused."""
    place = Place(tmp_path / "data")
    added = json.loads(place.run("device", "import", "-", "--json", given="id,secret\nd1,\n"))
    assert "1 refused" in place.run("device", "import", "-", given='[{"id": "d2", "secret": ""}]', code=3)
    node = start_node(data_dir=place.path, settings=OPEN, http=True)
    expect_refused(node, "d1", "d2")
    assert is_let_in(node, "d1", added["rows"][0]["secret"])


@pytest.mark.parametrize("credentials", ["ann:", "ann", "bob:secret,ann:", "ann: ,bob:secret"])
def test_of_the_environment(tmp_path, credentials):
    variables = {**martlet_process.environment(), "MARTLET_AUTH__CREDENTIALS": credentials}
    done = subprocess.run([martlet_process.binary(), "serve", "--data-dir", str(tmp_path / "data"), "--listen",
                           "mqtt://127.0.0.1:0", "--http", "off"], env=variables, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "auth.credentials" in done.stderr and "is not user:password" in done.stderr, done


@pytest.mark.parametrize("line", ["ann:", "ann", "ann: "])
def test_of_a_file_with_passwords_as_they_are(tmp_path, line):
    file = tmp_path / "passwd"
    file.write_text(f"{line}\n")
    done = martlet_process.run("serve", "--data-dir", str(tmp_path / "data"), "--listen", "mqtt://127.0.0.1:0", "--http", "off",
                               "--set", f"auth.password_file={file}", "--set", "auth.plain_passwords=true")
    assert done.returncode == 1 and f"{file}" in done.stderr and "expected NAME:HASH" in done.stderr, done
