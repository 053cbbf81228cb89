"""A running node is told to read damaged files again: what held stays, or what is stricter."""

import base64
import hashlib
import os
import random
import signal
import socket
import struct

import pytest

import martlet_process
from test_access import until

DEADLINE_SECS = 60
TRIES = 120 if martlet_process.IS_LONG else 24
ACL = "user alice\ntopic write up/#\nuser bob\ntopic readwrite #\ntopic deny up/secret\n"


def hashed(password):
    found = hashlib.pbkdf2_hmac("sha512", password.encode(), b"0123456789ab", 1, 64)
    return f"$7$1${base64.b64encode(b'0123456789ab').decode()}${base64.b64encode(found).decode()}"


def text(value):
    return struct.pack("!H", len(value)) + value.encode()


def connack(node, user=None, password=None):
    """The reason of the CONNACK, and the connection."""
    flags = 0x02 | (0x80 if user is not None else 0) | (0x40 if password is not None else 0)
    body = b"\x00\x04MQTT\x05" + bytes([flags]) + b"\x00\x00\x00" + text("c1")
    body += b"".join(text(value) for value in (user, password) if value is not None)
    one = socket.create_connection(("127.0.0.1", node.port()), timeout=DEADLINE_SECS)
    one.sendall(b"\x10" + bytes([len(body)]) + body)
    return one.recv(1024)[3], one


def may_publish(node, user, password, topic):
    """Whether a user is let in and a message at QoS 1 of theirs is taken."""
    reason, one = connack(node, user, password)
    with one:
        if reason != 0:
            return False
        body = text(topic) + b"\x00\x01\x00x"
        one.sendall(b"\x32" + bytes([len(body)]) + body)
        answer = one.recv(1024)
        # PUBACK without a reason, with success, or without matching subscribers.
        return answer[:1] == b"\x40" and (answer[1] == 2 or answer[4] < 0x80)


@pytest.fixture
def site(start_node, tmp_path):
    """The files of a node that was started with them, by name, with what is in them."""
    files = {
        "martlet.toml": f'[auth]\npassword_file = "{tmp_path}/passwd"\nacl_file = "{tmp_path}/acl"\n'
                        'lockout_failures = 0\nrefusal_remember_secs = 0\n',
        "passwd": f"alice:{hashed('a')}\nbob:{hashed('b')}\n",
        "acl": ACL,
    }
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    node = start_node(arguments=["--config", str(tmp_path / "martlet.toml")], settings=["log.level=info", "log.connections=false"])
    return node, tmp_path, files


def damage(path, source):
    """Does something to a file; says what."""
    data = path.read_bytes()
    lines = data.splitlines(keepends=True)
    kind = source.choice(["flip", "flip", "cut", "truncate", "truncate", "double", "empty", "missing", "directory",
                          "loop"])
    place, line = source.randrange(len(data)), source.randrange(len(lines))
    if kind in ("missing", "directory", "loop"):
        path.unlink()
        if kind == "directory":
            path.mkdir()
        elif kind == "loop":
            os.symlink(path, path)
        return kind
    new = {
        "flip": data[:place] + bytes([data[place] ^ 1 << source.randrange(8)]) + data[place + 1:],
        "cut": b"".join(lines[:line] + lines[line + 1:]),
        "truncate": data[:place],
        "double": b"".join(lines[:line + 1] + lines[line:]),
        "empty": b"",
    }[kind]
    path.write_bytes(new)
    return f"{kind} to {new!r}"


def restore(path, content):
    if path.is_dir() and not path.is_symlink():
        path.rmdir()
    else:
        path.unlink(missing_ok=True)
    path.write_text(content)


def assert_closed(node, did, acl):
    for user, password in [(None, None), ("alice", "wrong"), ("alice", ""), ("eve", "a"), ("alice", None)]:
        reason, one = connack(node, user, password)
        one.close()
        assert reason >= 0x80, f"{user} was let in after {did}"
    # A flipped bit may make another topic of it, and no more than that line says.
    if acl == ACL:
        assert not may_publish(node, "alice", "a", "down/1"), f"alice may write everywhere after {did}"
        assert not may_publish(node, "bob", "b", "up/secret"), f"bob may write what is denied after {did}"


@pytest.mark.parametrize("how", ["command", "SIGHUP"])
@pytest.mark.timed
def test_a_damaged_file_that_is_read_again_opens_nothing(site, how):
    node, directory, files = site
    source = random.Random(0x5EED)
    assert may_publish(node, "alice", "a", "up/1") and not may_publish(node, "alice", "a", "down/1")
    refused = 0
    for number in range(TRIES if how == "command" else TRIES // 6):
        name = source.choice(list(files))
        did = f"{name}: {damage(directory / name, source)}"
        if how == "command":
            told = martlet_process.run("reload", "--data-dir", node.data_dir)
            if told.returncode != 0:
                refused += 1
                places = [directory.name, "cannot read ", "needs a restart", "restart the node"]
                assert any(place in told.stderr for place in places), f"{did}: {told.stderr}"
        else:
            told_before = node.log().count("(SIGHUP)")
            node.process.send_signal(signal.SIGHUP)
            until(lambda: node.log().count("(SIGHUP)") > told_before, "it says that it has read them")
        acl = directory / "acl"
        assert_closed(node, did, acl.read_text(errors="replace") if acl.is_file() else ACL)
        for file, content in files.items():
            restore(directory / file, content)
        if how == "command":
            told = martlet_process.run("reload", "--data-dir", node.data_dir)
            assert told.returncode == 0, f"after {did}: {told.stderr}"
            assert may_publish(node, "alice", "a", "up/1"), f"alice is not let in again after {did}"
    assert how == "SIGHUP" or refused > TRIES // 4, "most of it has to be told"
    if how == "SIGHUP":
        node.process.send_signal(signal.SIGHUP)
        until(lambda: may_publish(node, "alice", "a", "up/1"), "alice is let in again")


def test_half_a_configuration_does_not_take_what_protects_away(site):
    node, directory, files = site
    path = directory / "martlet.toml"
    text_of = files["martlet.toml"]
    path.write_text(text_of[:text_of.index("acl_file")])
    told = martlet_process.run("reload", "--data-dir", node.data_dir)
    assert told.returncode != 0 and "the change removes or weakens auth.acl_file" in told.stderr, told.stderr
    assert_closed(node, "half a configuration", ACL)
    status = martlet_process.run("status", "--data-dir", node.data_dir)
    assert "The last reload failed" in status.stdout
    path.write_text(text_of)
    assert martlet_process.run("reload", "--data-dir", node.data_dir).returncode == 0


def test_what_waits_for_a_restart_is_told_until_it_does_not(start_node, tmp_path):
    path = tmp_path / "martlet.toml"
    path.write_text("[mqtt]\nallow_anonymous = true\n")
    node = start_node(arguments=["--config", str(path)], http=True)

    def reload(text, *more):
        path.write_text(text)
        return martlet_process.run("reload", "--data-dir", node.data_dir, *more)

    def warnings():
        return martlet_process.run("status", "--data-dir", node.data_dir).stdout

    told = reload("[mqtt]\nallow_anonymous = false\n")
    assert told.returncode == 3 and "needs a restart" in told.stdout, told
    assert reload("[mqtt]\nallow_anonymous = false\n", "--json").returncode == 3
    assert "not in force before a restart: mqtt.allow_anonymous." in warnings(), warnings()
    reason, one = connack(node)
    one.close()
    assert reason == 0, "the node was started to let everybody in"
    # What holds is said again.
    told = reload("[mqtt]\nallow_anonymous = true\n")
    assert told.returncode == 0 and "changed: mqtt" not in told.stdout, told
    assert "mqtt.allow_anonymous is as at the start again" in told.stdout, told
    assert "before a restart" not in warnings()
    assert "nothing has changed" in reload("[mqtt]\nallow_anonymous = true\n").stdout


def test_tables_of_integrations_that_wait_for_a_restart_are_named(start_node, tmp_path):
    config = tmp_path / "martlet.toml"
    sink = f'[[sinks.file]]\nname = "audit"\nfilters = ["a/#"]\npath = "{tmp_path}/audit"\n'
    bridge = '[[bridges]]\nname = "up"\nurl = "mqtt://broker.example.com"\ntopics = ["a/# {} 1"]\n'
    config.write_text(sink + bridge.format("out"))
    node = start_node(arguments=["--config", str(config)])
    config.write_text(sink + bridge.format("both"))
    told = martlet_process.run("reload", "--data-dir", node.data_dir)
    assert "[[bridges]]" in told.stdout and "[[sinks" not in told.stdout, told
    config.write_text(sink.replace("a/#", "b/#") + bridge.format("out"))
    told = martlet_process.run("reload", "--data-dir", node.data_dir)
    assert "[[sinks.file]]" in told.stdout and "[[bridges]]" not in told.stdout, told


def test_listeners_that_wait_for_a_restart_are_named(start_node, tmp_path, short_path):
    path = tmp_path / "martlet.toml"
    first = '[[listeners]]\nname = "first"\nurl = "mqtt://127.0.0.1:0"\n'
    second = f'[[listeners]]\nname = "second"\nurl = "unix://{short_path}/second.sock"\n'
    path.write_text(first + second)
    node = start_node(listen=(), arguments=["--config", str(path)])

    def reload(text):
        path.write_text(text)
        return martlet_process.run("reload", "--data-dir", node.data_dir)

    def warnings():
        return martlet_process.run("status", "--data-dir", node.data_dir).stdout

    gone = reload(first)
    stays = f"the listener second at {short_path}/second.sock stays open until a restart"
    assert gone.returncode == 3 and stays in gone.stdout, gone
    assert stays in warnings() and (short_path / "second.sock").exists()
    added = reload(first + second + second.replace("second", "third"))
    waits = f"the listener third at {short_path}/third.sock is not open before a restart"
    assert added.returncode == 3 and waits in added.stdout and stays not in added.stdout, added
    assert waits in warnings() and not (short_path / "third.sock").exists()
    # As it was.
    again = reload(first + second)
    assert again.returncode == 0 and "listener second" not in again.stdout, again
    assert "restart" not in warnings()


def test_credentials_that_come_while_the_node_runs_are_asked_for_at_once(start_node, tmp_path):
    path = tmp_path / "martlet.toml"
    path.write_text("")
    node = start_node(arguments=["--config", str(path)], http=True)
    reason, stranger = connack(node)
    assert reason == 0, "nobody has to say who they are"
    (tmp_path / "passwd").write_text(f"alice:{hashed('a')}\n")
    path.write_text(f'[auth]\npassword_file = "{tmp_path}/passwd"\n')
    assert martlet_process.run("reload", "--data-dir", node.data_dir).returncode == 0
    assert stranger.recv(100)[:1] in (b"", b"\xe0"), "who was not asked is ended"
    stranger.close()
    reason, one = connack(node)
    one.close()
    assert reason != 0, "a stranger is not let in any more"
    assert may_publish(node, "alice", "a", "up/1")
    # And never the other way round.
    path.write_text("")
    told = martlet_process.run("reload", "--data-dir", node.data_dir)
    assert told.returncode != 0 and "restart the node" in told.stderr, told


def expect_warning_of_no_users(path, *texts):
    for shown in texts:
        assert f"the password file {path} has no users: no client can log in with it" in shown, shown


def test_an_empty_password_file_is_warned_of(start_node, tmp_path):
    path = tmp_path / "passwd"
    path.write_bytes(b"")
    setting = f"auth.password_file={path}"
    node = start_node(settings=[setting, "log.level=warn"])
    checked = martlet_process.run("config", "check", "--data-dir", str(tmp_path / "other"), "--set", setting)
    assert checked.returncode == 0, checked.stderr
    health = martlet_process.run("health", "--data-dir", node.data_dir)
    expect_warning_of_no_users(path, node.log(), checked.stdout, health.stdout + health.stderr)


def test_a_password_file_that_becomes_empty_keeps_its_users(start_node, tmp_path):
    """As an interrupted copy leaves it; who removes the last user leaves a comment."""
    path = tmp_path / "passwd"
    path.write_text(f"alice:{hashed('a')}\n")
    node = start_node(settings=[f"auth.password_file={path}", "auth.refusal_remember_secs=0", "auth.lockout_failures=0"])
    path.write_bytes(b"")
    told = martlet_process.run("reload", "--data-dir", node.data_dir)
    assert told.returncode != 0 and f"the password file {path} is empty" in told.stderr, told
    health = martlet_process.run("health", "--data-dir", node.data_dir)
    assert f"the password file {path} is empty" in health.stdout + health.stderr, health
    assert may_publish(node, "alice", "a", "x"), "alice is locked out"
    path.write_text(f"alice:{hashed('a')}\n")
    assert martlet_process.run("reload", "--data-dir", node.data_dir).returncode == 0
    assert martlet_process.run("passwd", "-D", str(path), "alice").returncode == 0
    told = martlet_process.run("reload", "--data-dir", node.data_dir)
    assert told.returncode == 0, told
    assert not may_publish(node, "alice", "a", "x"), "alice was removed"
    health = martlet_process.run("health", "--data-dir", node.data_dir)
    expect_warning_of_no_users(path, health.stdout + health.stderr)
