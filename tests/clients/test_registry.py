"""Users, devices and roles of a node's own tables: who is let in, what they may do, and how changes
reach who is connected."""

import contextlib
import hashlib
import json
import re
import shlex
import sqlite3
import ssl
import stat
import subprocess
import os
import pathlib

import pytest

import martlet_process
from paho_client import Client, properties
from test_access import publish, until
from test_http_api import KEY, KEYS, ask
from test_jwt import Signer
from test_tls import Authority

DEADLINE_SECS = 60


def martlet(*arguments, given=None, code=0):
    """Runs the program; its output. Anything but the expected exit code is a failure."""
    done = subprocess.run([martlet_process.binary(), *map(str, arguments)], input=given or "", text=True,
                          env=martlet_process.environment(), capture_output=True, timeout=DEADLINE_SECS)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout if code == 0 else done.stdout + done.stderr


class Place:
    """A data directory and the commands that change its tables."""

    def __init__(self, path):
        self.path = path

    def user(self, name, *options, password="secret"):
        return martlet("user", "add", name, *options, "--weak", "--data-dir", self.path, given=f"{password}\n")

    def run(self, *arguments, **options):
        return martlet(*arguments, "--data-dir", self.path, **options)

    def device(self, *arguments):
        """The secret of a new device."""
        return json.loads(self.run("device", "add", *arguments, "--json"))["secret"]


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path / "data")


@pytest.fixture
def start(start_node, place):
    return lambda **options: start_node(data_dir=place.path, **options)


def device(node, name, secret, client_id=None, **more):
    return Client(node, client_id or name, **more).credentials(name, secret)


def is_permitted(node, topic, *options, **more):
    """Whether mosquitto_pub is told that its message was taken: refused ones leave its exit code 0."""
    code, said = publish(node, topic, "-V", "5", *options, **more)
    return code == 0 and "ot authorized" not in said


def test_the_first_device_closes_a_node_that_was_open(start, place):
    node = start()
    with Client(node, "stranger") as stranger:
        secret = place.device("d1")
        stranger.wait_for_end()
    with device(node, "d1", secret):
        assert publish(node, "t", "-i", "d2")[0] != 0
        assert json.loads(martlet("why", "stranger", "--data-dir", place.path, "--json", code=3).strip())


def test_users_of_the_tables_are_let_in_and_nobody_else(start, place):
    place.user("alice")
    node = start()
    assert publish(node, "t", "-u", "alice", "-P", "secret")[0] == 0
    assert publish(node, "t", "-u", "alice", "-P", "wrong")[0] != 0
    assert publish(node, "t", "-u", "bob", "-P", "secret")[0] != 0
    place.user("bob", password="other")
    assert publish(node, "t", "-u", "bob", "-P", "other")[0] == 0
    assert json.loads(place.run("user", "ls", "--json"))["items"][1]["role"] == "user"
    files = list(pathlib.Path(place.path).glob("martlet.db*"))
    assert files and all(stat.S_IMODE(os.stat(file).st_mode) == 0o600 for file in files)
    place.user("carol", password="told-to-nobody")
    kept = b"".join(file.read_bytes() for file in files)
    assert b"carol" in kept and b"told-to-nobody" not in kept


def test_users_have_a_role_for_the_api_of_their_own(place):
    place.user("root", "--role", "administrator")
    place.user("olga", "--api-role", "operator")
    place.user("vera")
    place.run("user", "set", "vera", "--api-role", "viewer")
    place.run("user", "set", "root", "--api-role", "none")
    users = json.loads(place.run("user", "ls", "--json"))["items"]
    assert {one["name"]: (one["role"], one["api_role"]) for one in users} == {
        "root": ("administrator", "none"), "olga": ("user", "operator"), "vera": ("user", "viewer"),
    }
    assert " operator " in place.run("user", "ls")
    assert "expected administrator" in place.run("user", "set", "vera", "--api-role", "king", code=2)


def test_without_users_the_tables_ask_nobody(start, place):
    node = start()
    assert publish(node, "t")[0] == 0
    assert place.run("user", "ls") == "" and "built in" in place.run("role", "ls")
    assert not (place.path / "martlet.db").exists(), "to look makes nothing"
    place.user("alice")
    assert publish(node, "t")[0] != 0
    assert publish(node, "t", "-u", "alice", "-P", "secret")[0] == 0


def test_the_last_user_who_goes_leaves_the_door_closed(start, place):
    place.user("alice")
    node = start(settings=["mqtt.allow_anonymous=false"])
    with Client(node, "c").credentials("alice", "secret") as alice:
        place.run("user", "rm", "alice")
        alice.wait_for_end()
    assert publish(node, "t", "-u", "alice", "-P", "secret")[0] != 0
    assert publish(node, "t")[0] != 0
    node.close()
    node = start(settings=["mqtt.allow_anonymous=false"])
    assert publish(node, "t")[0] != 0


def test_the_role_without_topics_shows_none(place):
    assert place.run("role", "rules", "none") == "nothing\n"
    assert "everything" in place.run("role", "rules", "administrator")
    roles = {one["name"]: one for one in json.loads(place.run("role", "ls", "--json"))["items"]}
    assert roles["none"]["rules"] == [] and not roles["none"]["permits_all"]
    assert roles["administrator"]["permits_all"] and "topic readwrite #" in roles["user"]["rules"]


def test_the_rules_of_a_role_hold_for_who_is_connected_too(start, place):
    place.run("role", "add", "reader", "--rule", "topic deny a/secret", "--rule", "topic read a/#",
              "--rule", "pattern write own/%u/#")
    place.user("ann", "--role", "reader")
    place.user("root", "--role", "administrator")
    node = start()
    with Client(node, "ann-1").credentials("ann", "secret") as ann, \
            Client(node, "root-1").credentials("root", "secret") as root:
        assert ann.subscribe("a/#") == [0]
        assert ann.subscribe("#") == [0x87], "more than the rules cover"
        assert root.subscribe("own/#") == [0]
        root.publish("a/secret", "hidden", qos=1)
        root.publish("a/1", "1", qos=1)
        assert ann.receive().payload == b"1"
        ann.publish("own/bob/x", "refused", qos=0)
        ann.publish("own/ann/x", "2", qos=1)
        assert root.receive().payload == b"2"
        place.run("role", "rules", "reader", "--rule", "topic read a/secret")
        root.publish("a/2", "not any more", qos=1)
        root.publish("a/secret", "3", qos=1)
        assert ann.receive().payload == b"3"
        place.run("user", "set", "ann", "--role", "administrator")
        assert ann.subscribe("#") == [0]


def test_a_device_has_the_topics_of_its_name_by_its_own_client_identifier(start, place):
    secret = place.device("d1")
    other = place.device("d2")
    node = start()
    with device(node, "d1", secret) as one, device(node, "d2", other) as two:
        assert one.subscribe("d/d1/#") == [0] and one.subscribe("d/d2/#") == [0x87]
        two.publish("d/d1/x", "refused", qos=0)
        two.publish("d/d2/x", "1", qos=1)
        one.publish("d/d1/x", "2", qos=1)
        assert one.receive().payload == b"2"
    with device(node, "d1", secret, client_id="d2") as wrong:
        assert wrong.connack.is_failure
    with device(node, "d1", other) as wrong:
        assert wrong.connack.is_failure
    place.user("alice")
    with Client(node, "d1").credentials("alice", "secret") as keeps_it_out:
        assert keeps_it_out.connack.is_failure
    node.wait_for_log("the Client Identifier of the device d1 must be d1")


def test_the_line_that_device_add_prints_works(start, place):
    place.user("alice")
    node = start()
    said = martlet("device", "add", "d 1", "--data-dir", place.path)
    line = next(line for line in said.splitlines() if line.startswith("Try it: "))
    assert f"-p {node.port()} " in line, "where the node that runs listens"
    done = subprocess.run(shlex.split(line.removeprefix("Try it: ")), capture_output=True, text=True, timeout=DEADLINE_SECS)
    assert done.returncode == 0, done.stderr


def test_a_device_that_is_removed_or_made_inactive_is_gone_at_once(start, place):
    secrets = {name: place.device(name) for name in ("removed", "inactive", "stays")}
    node = start()
    with device(node, "removed", secrets["removed"]) as removed, \
            device(node, "inactive", secrets["inactive"]) as inactive, \
            device(node, "stays", secrets["stays"]) as stays:
        place.run("device", "rm", "removed")
        removed.wait_for_end()
        place.run("device", "set", "inactive", "--status", "maintenance")
        inactive.wait_for_end()
        stays.publish("d/stays/x", "1", qos=1)
    with device(node, "inactive", secrets["inactive"]) as refused:
        assert refused.connack.is_failure
    node.wait_for_log(f"martlet device set --data-dir={place.path} --status=active inactive")
    place.run("device", "set", "inactive", "--status", "active")
    with device(node, "inactive", secrets["inactive"]) as again:
        again.publish("d/inactive/x", "1", qos=1)


def test_rotated_credentials(start, place):
    old = place.device("d1")
    node = start()
    with device(node, "d1", old) as connected:
        new = json.loads(place.run("device", "rotate", "d1", "--json"))["secret"]
        connected.publish("d/d1/x", "1", qos=1)
    for secret in (old, new):
        assert publish(node, "d/d1/x", "-i", "d1", "-u", "d1", "-P", secret)[0] == 0
    with device(node, "d1", new) as connected:
        newest = json.loads(place.run("device", "rotate", "d1", "--now", "--json"))["secret"]
        connected.wait_for_end()
    for secret in (old, new):
        assert publish(node, "d/d1/x", "-i", "d1", "-u", "d1", "-P", secret)[0] != 0
    assert publish(node, "d/d1/x", "-i", "d1", "-u", "d1", "-P", newest)[0] == 0


def test_the_end_of_a_grace_ends_who_came_by_the_old_credential(start, place):
    old = place.device("d1")
    node = start()
    with device(node, "d1", old) as connected:
        new = json.loads(place.run("device", "rotate", "d1", "--grace", "1s", "--json"))["secret"]
        connected.wait_for_end()
    assert publish(node, "d/d1/x", "-i", "d1", "-u", "d1", "-P", old)[0] != 0
    assert publish(node, "d/d1/x", "-i", "d1", "-u", "d1", "-P", new)[0] == 0


def test_a_type_says_which_topics_its_devices_use(start, place):
    place.run("device", "type", "add", "meter", "--rule", "pattern write meters/%c")
    secret = place.device("m1", "--type", "meter")
    node = start()
    options = ["-i", "m1", "-u", "m1", "-P", secret]
    assert is_permitted(node, "meters/m1", *options)
    assert not is_permitted(node, "d/m1/x", *options)
    assert "meter" in place.run("device", "ls")
    assert "m1 has the device type meter" in place.run("device", "type", "rm", "meter", code=1)
    assert "no device type metre" in place.run("device", "add", "m2", "--type", "metre", code=1)


def test_a_changed_password_ends_connections_and_a_stranger_is_not_let_in(start, place):
    place.user("alice")
    node = start()
    with Client(node, "c").credentials("alice", "secret") as alice:
        place.run("user", "passwd", "alice", "--weak", given="other\n")
        alice.wait_for_end()
    assert publish(node, "t", "-u", "alice", "-P", "secret")[0] != 0
    assert publish(node, "t", "-u", "alice", "-P", "other")[0] == 0
    place.run("user", "set", "alice", "--disable")
    assert publish(node, "t", "-u", "alice", "-P", "other")[0] != 0
    node.wait_for_log(f"martlet user set --data-dir={place.path} --enable alice")


def test_a_file_that_another_program_changes_is_read_again(start, place):
    place.user("alice")
    node = start()
    # Not through the data directory that the node has: nobody tells it.
    shifted = place.path.parent / "same"
    shifted.symlink_to(place.path)
    (place.path / "admin.sock").rename(place.path / "away.sock")
    # The second time, the node has the file open: the change stays in the write-ahead log.
    for name in ("bob", "carol"):
        martlet("user", "add", name, "--weak", "--data-dir", shifted, given="secret\n")
        until(lambda: publish(node, "t", "-u", name, "-P", "secret")[0] == 0, f"{name} is let in")


def test_a_damaged_database_stops_the_start_and_not_the_node(start, place):
    place.user("alice")
    node = start()
    database = place.path / "martlet.db"
    good = database.read_bytes()
    database.write_bytes(b"\0" * len(good))
    assert martlet_process.run("reload", "--data-dir", str(place.path)).returncode != 0
    assert publish(node, "t", "-u", "alice", "-P", "secret")[0] == 0
    node.close()
    with pytest.raises(RuntimeError, match="martlet.db"):
        start()


def test_a_certificate_of_a_device_is_good_while_the_device_is(start, place, tmp_path):
    authority = Authority(tmp_path / "ca")
    server = authority.sign("server")
    certificate, key = authority.sign("d1", usage="clientAuth")
    place.device("d1")
    node = start(settings=[f"tls.certificate={server[0]}", f"tls.key={server[1]}",
                           f"tls.client_ca={authority.certificate}", "tls.client_certificates=required",
                           "auth.certificate_user_name=common-name"], listen=["mqtts://127.0.0.1:0"])
    options = ["--cafile", authority.certificate, "--cert", certificate, "--key", key]

    def may(client_id, topic):
        return is_permitted(node, topic, "-i", client_id, *options, port=node.port("mqtts"))

    assert may("d1", "d/d1/x") and not may("d1", "d/d2/x") and not may("d2", "d/d2/x")
    place.run("device", "set", "d1", "--status", "inactive")
    assert not may("d1", "d/d1/x")
    place.run("device", "set", "d1", "--status", "active")
    assert may("d1", "d/d1/x")
    # Whom the tables have no more is nobody, however good the certificate is.
    place.run("device", "rm", "d1")
    assert not may("d1", "d/d1/x") and not may("d1", "anything")


@pytest.mark.parametrize("ignores", [False, True])
def test_a_listener_with_certificates_of_its_own_follows_the_tables(start, place, tmp_path, ignores):
    authority = Authority(tmp_path / "ca")
    server = authority.sign("server")
    config = tmp_path / "own.toml"
    config.write_text(f'''[[listeners]]
url = "mqtts://127.0.0.1:0"
certificate = "{server[0]}"
key = "{server[1]}"
client_ca = "{authority.certificate}"
client_certificates = "required"
certificate_user_name = "common-name"
{"ignore_tables = true" if ignores else ""}
''')
    place.device("d1")
    node = start(listen=[], arguments=["--config", str(config)])

    def may(name, topic):
        certificate, key = authority.sign(name, usage="clientAuth")
        options = ["--cafile", authority.certificate, "--cert", certificate, "--key", key]
        return is_permitted(node, topic, "-i", name, *options, port=node.port("mqtts"))

    assert may("d1", "d/d1/x") and may("d1", "d/d2/x") == ignores
    assert may("unknown", "d/d1/x") == ignores
    place.run("device", "set", "d1", "--status", "inactive")
    assert may("d1", "d/d1/x") == ignores
    place.run("device", "set", "d1", "--status", "active")
    assert may("d1", "d/d1/x")
    place.run("device", "rm", "d1")
    assert may("d1", "d/d1/x") == ignores
    checked = place.run("config", "check", "--config", str(config))
    told = place.run("health", "--strict", code=3 if ignores else 0)
    for said in (checked, told, node.log()):
        assert ("ignore_tables" in said) == ignores, said


def test_of_a_device_with_registered_certificates_only_those_are_good(start, place, tmp_path):
    authority = Authority(tmp_path / "ca")
    server = authority.sign("server")
    certificate, key = authority.sign("d1", usage="clientAuth")
    node = start(settings=[f"tls.certificate={server[0]}", f"tls.key={server[1]}",
                           f"tls.client_ca={authority.certificate}", "tls.client_certificates=required",
                           "auth.certificate_user_name=common-name"], listen=["mqtts://127.0.0.1:0"], http=True,
                 variables=KEYS)
    options = ["--cafile", authority.certificate, "--cert", certificate, "--key", key]

    def is_in():
        return is_permitted(node, "d/d1/x", "-i", "d1", *options, port=node.port("mqtts"))

    def call(method, path, body=None, expect=(200, 201, 204)):
        headers = {"X-API-Key": KEY, "Content-Type": "application/json"}
        status, _, answer = ask(node, f"/api/v1/devices{path}", method, headers, json.dumps(body).encode() if body else None)
        assert status in expect, answer
        return json.loads(answer) if answer else None

    call("POST", "", {"id": "d1"})
    assert is_in(), "none is registered"
    call("POST", "/d1/credentials", {"name": "another", "fingerprint": "00" * 32})
    assert not is_in(), "another one is"
    # What helps is no secret, which would let it in without a certificate.
    answers = []

    def is_told():
        answers.append(ask(node, "/api/v1/why?name=d1", "GET", {"X-API-Key": KEY})[2])
        return json.loads(answers[-1])["cause"] == "certificate-not-registered"

    until(is_told, "why says so")
    assert b"rotate" not in answers[-1] and b"/api/v1/devices/d1/credentials" in answers[-1]
    with open(certificate, encoding="ascii") as pem:
        fingerprint = hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem.read())).hexdigest()
    own = call("POST", "/d1/credentials", {"name": "own", "fingerprint": fingerprint})
    assert is_in()
    for one in call("GET", "/d1/credentials")["items"]:
        if one["id"] != own["id"] and one["kind"] == "certificate":
            call("DELETE", f"/d1/credentials/{one['id']}")
    assert is_in()
    call("DELETE", f"/d1/credentials/{own['id']}")
    assert not is_in(), "it was revoked, and none is registered instead"


def test_an_order_that_leaves_the_tables_out_is_told_and_opens_nothing(start, place):
    order = ["auth.order=password-file"]
    place.user("alice")
    said = place.run("config", "check", "--set", *order)
    assert "users and devices of martlet.db are rejected: auth.order does not list registry" in said
    said = place.run("config", "check", "--set", *order, "--set", "auth.registry=on", code=1)
    assert "not listed in auth.order" in said
    assert "does not list registry" not in place.run("config", "check", "--set", *order, "--set", "auth.registry=off")
    node = start(settings=order)
    assert publish(node, "t", "-u", "alice", "-P", "secret")[0] != 0
    assert publish(node, "t")[0] != 0, "anonymous clients were refused, and still are"
    assert "But the node does not use the tables for logins: auth.order does not list registry" in place.user("bob")


def test_a_backup_has_the_tables_whether_the_node_runs_or_not(start, place, start_node, tmp_path):
    place.user("alice")
    node = start()
    place.user("bob", password="other")
    place.run("backup", "create", tmp_path / "running")
    node.close()
    place.run("backup", "create", tmp_path / "stopped")
    assert not list(place.path.glob("*.copy*"))
    for made in ("running", "stopped"):
        martlet("backup", "verify", tmp_path / made)
        back = tmp_path / f"{made} again"
        martlet("backup", "restore", tmp_path / made, "--data-dir", back)
        assert stat.S_IMODE(os.stat(back / "martlet.db").st_mode) == 0o600
        node = start_node(data_dir=back)
        assert publish(node, "t", "-u", "bob", "-P", "other")[0] == 0
        assert publish(node, "t", "-u", "bob", "-P", "secret")[0] != 0
        node.close()
    full = tmp_path / "full"
    martlet("user", "add", "carol", "--weak", "--data-dir", full, given="secret\n")
    said = martlet("backup", "restore", tmp_path / "running", "--data-dir", full, code=1)
    assert "martlet.db already exists" in said


@pytest.mark.parametrize("order", ["registry, credentials, jwt", "jwt, credentials, registry"])
def test_a_user_of_another_source_who_is_named_as_a_device_is_not_that_device(start_node, place, tmp_path, order):
    """Neither has its rights, nor is another user let in by its Client Identifier."""
    secret = place.device("d1")
    signer = Signer(tmp_path, "HS256")
    acl = tmp_path / "acl"
    acl.write_text("user u\ntopic write t\n")
    node = start_node(data_dir=place.path, variables={"MARTLET_AUTH__CREDENTIALS": "u:pw,d1:pw"}, settings=[
        f"auth.jwt_keys={signer.file}", "auth.jwt_algorithm=HS256", f"auth.acl_file={acl}",
        f"auth.order={order}", "auth.lockout_failures=0"])

    def may(topic, user, password, client):
        return is_permitted(node, topic, "-u", user, "-P", password, "-i", client)

    if order.startswith("registry"):  # Else the environment knows the name first, and it is shut out.
        assert may("d/d1/up", "d1", secret, "d1") and not may("t", "d1", secret, "d1")
    assert may("t", "u", "pw", "c") and not may("t", "u", "pw", "d1"), "the identifier is the device's alone"
    for name, password in [("d1", "pw"), ("d1", signer.token(sub="d1")), ("jwt", signer.token(sub="d1"))]:
        for client in ("d1", "c"):
            assert not may("d/d1/up", name, password, client), (name, client)
            assert not may("t", name, password, client), (name, client)
    assert not may("t", "jwt", signer.token(sub="u"), "d1")
    assert may("t", "jwt", signer.token(sub="u"), "c")


def test_the_mend_of_a_start_is_for_the_node_that_did_not_start(tmp_path):
    two, config = tmp_path / "two", tmp_path / "my martlet.toml"
    config.write_text(f'[node]\ndata_dir = "{two}"\n[auth]\nregistry = "on"\nscram = true\n')
    # A listener for other machines starts without users, unless nothing on the node can add them.
    for data_dir, options in [(two, ["-c", config])]:
        said = martlet("serve", "--http", "off", *options, code=1)
        remedy = re.search(r"martlet (user add .*?) ?NAME", said).group(1)
        martlet(*shlex.split(remedy), "sam", "--generate")
        assert Place(data_dir).run("user", "ls").splitlines()[1].startswith("sam ")


def test_nobody_who_is_to_be_removed_is_told_to_be_added(place):
    place.user("alice")
    for command in [("device", "rm"), ("user", "rm"), ("device", "rotate"), ("user", "set", "--disable")]:
        said = place.run(*command, "nope", code=1)
        assert f"{command[0]} ls" in said and "add" not in said, said


def test_the_last_administrator_does_not_go_without_a_word(place):
    for name in ["one", "two", "three"]:
        place.user(name, "--role", "administrator")
    place.user("alice")

    def warned(*arguments):
        done = martlet_process.run("user", *arguments, "--data-dir", str(place.path))
        assert done.returncode == 0, done.stderr
        return "no administrator is left" in done.stderr

    assert not warned("rm", "one") and not warned("set", "two", "--disable")
    assert warned("set", "three", "--role", "user")
    assert not warned("rm", "alice"), "there was none before"
    assert not warned("set", "two", "--enable") and warned("rm", "two", "--json")


def test_names_do_nothing_to_a_terminal(place):
    name = "eve\u202etxt"
    refused = martlet("user", "add", name, "--weak", "--data-dir", place.path, given="secret\n", code=1)
    assert "U+202E changes the direction of text" in refused and "\u202e" not in refused, refused
    # A node of an earlier version took such names.
    place.user("eve")
    with contextlib.closing(sqlite3.connect(place.path / "martlet.db")) as tables, tables:
        tables.execute("UPDATE users SET name = ? WHERE name = 'eve'", [name])
    for command in [["passwd", name, "--generate"], ["set", name, "--disable"], ["ls"], ["rm", name]]:
        said = place.run("user", *command)
        assert "\u202e" not in said and "\\u{202e}" in said, said
    assert "\u202e" not in place.run("user", "rm", name, code=1)


def come(node, name, secret, **more):
    """A client with a session that stays."""
    return device(node, name, secret, clean=False, properties=properties("CONNECT", SessionExpiryInterval=3600), **more)


@pytest.mark.parametrize("runs", [True, False], ids=["running", "stopped"])
@pytest.mark.parametrize("kind", ["device", "user"])
def test_who_has_a_name_next_finds_nothing_of_who_had_it(start, place, kind, runs):
    """Neither a session nor what waited in it, whether the node ran when the name was given away or not."""
    add = {"device": place.device, "user": lambda name: (place.user(name), "secret")[1]}[kind]
    secret, topic = add("d1"), "d/d1/t" if kind == "device" else "t"
    place.user("writer", "--role", "administrator")
    node = start()
    with come(node, "d1", secret) as client:
        client.subscribe(topic, qos=1)
    with come(node, "d1", secret) as client:
        assert client.session_present, "it is there as long as the name is theirs"
    assert publish(node, topic, "-q", "1", "-u", "writer", "-P", "secret")[0] == 0
    if not runs:
        node.terminate()
        node.wait()
    place.run(kind, "rm", "d1", "--purge")
    secret = add("d1")
    if not runs:
        node = start()
    with come(node, "d1", secret) as client:
        assert not client.session_present
        client.subscribe("d/d1/own", qos=1)
        client.publish("d/d1/own", "1", qos=1)
        assert client.messages.get(timeout=DEADLINE_SECS).topic == "d/d1/own"


def test_a_client_identifier_that_somebody_held_is_the_devices_once_there_is_one(start, place):
    place.user("alice")
    place.user("writer", "--role", "administrator")
    node = start()
    with Client(node, "factory-7", clean=False,
                properties=properties("CONNECT", SessionExpiryInterval=3600)).credentials("alice", "secret") as held:
        held.subscribe("plans", qos=1)
        secret = place.device("factory-7")
        with come(node, "factory-7", secret) as client:
            held.wait_for_end()
            assert not client.session_present
            assert publish(node, "plans", "-u", "writer", "-P", "secret")[0] == 0
            client.subscribe("d/factory-7/x", qos=1)
            client.publish("d/factory-7/x", "1", qos=1)
            assert client.messages.get(timeout=DEADLINE_SECS).topic == "d/factory-7/x"


def test_tables_that_are_gone_are_missed_and_end_nobody(start, place, tmp_path):
    """None is made in their place, or everybody would be a stranger and their sessions end."""
    secret = place.device("d1")
    node = start(http=True, variables=KEYS)
    listed = lambda: ask(node, "/api/v1/devices", headers={"X-API-Key": KEY})[0]
    health = lambda: martlet_process.run("health", "--data-dir", str(place.path)).stdout
    with come(node, "d1", secret) as client:
        client.subscribe("d/d1/t", qos=1)
        assert listed() == 200
        for file in place.path.glob("martlet.db*"):
            file.rename(tmp_path / file.name)
        until(lambda: "martlet.db was deleted" in health(), "a warning")
        status, _, answer = ask(node, "/api/v1/devices", headers={"X-API-Key": KEY})
        assert status == 503 and "martlet health" in answer.decode()
        status = ask(node, "/api/v1/devices", "POST", {"X-API-Key": KEY, "Content-Type": "application/json"},
                     b'{"id": "d2"}')[0]
        assert status == 503 and not (place.path / "martlet.db").exists()
        client.publish("d/d1/t", "1", qos=1)
        # Another file with others in it is not theirs either.
        other = Place(tmp_path / "other")
        other.device("d9")
        (tmp_path / "other" / "martlet.db").rename(place.path / "martlet.db")
        until(lambda: "is not the database" in health(), "a warning")
        assert listed() == 503
        (place.path / "martlet.db").unlink()
        for file in tmp_path.glob("martlet.db*"):
            file.rename(place.path / file.name)
        until(lambda: listed() == 200, "the tables")
        until(lambda: "martlet.db" not in health(), "no warning any more")
    with come(node, "d1", secret) as client:
        assert client.session_present


def test_a_node_whose_administrator_went_is_open_to_nobody(start, place):
    place.user("root", "--role", "administrator")
    place.run("user", "set", "root", "--role", "user", "--api-role", "none")
    node = start(http=True)
    status, _, answer = ask(node, "/api/v1/devices", "POST", {"Content-Type": "application/json"}, b'{"id": "d1"}')
    assert status == 401, answer


def test_a_start_without_the_tables_that_were_there_is_refused_until_it_is_meant(start, place, tmp_path):
    """It would let in everybody."""
    node = start()
    place.device("d1")
    until(lambda: (place.path / "registry").exists(), "the note")
    node.terminate()
    node.wait()
    for file in place.path.glob("martlet.db*"):
        file.rename(tmp_path / file.name)
    with pytest.raises(RuntimeError, match="restore it from a backup"):
        start()
    with pytest.raises(RuntimeError, match="registry.url"):
        start(settings=[f"registry.url={tmp_path / 'other.db'}"])
    other = Place(tmp_path / "other")
    other.device("d9")
    (tmp_path / "other" / "martlet.db").rename(place.path / "martlet.db")
    with pytest.raises(RuntimeError, match="is not the database that this node used"):
        start()
    (place.path / "registry").unlink()
    start().close()


def test_health_says_no_more_that_nobody_administers_the_node_once_somebody_does(start, place):
    start(http=True)
    health = lambda: martlet_process.run("health", "--data-dir", str(place.path)).stdout
    until(lambda: "The node has no administrator yet" in health(), "a warning")
    place.run("key", "add", "app", "--scope", "administrator")
    until(lambda: "The node has no administrator yet" not in health(), "no warning any more")


def test_health_warns_as_soon_as_the_last_administrator_is_gone(place, start):
    place.user("root", "--api-role", "administrator")
    node = start()
    warns = lambda: "No administrator is left" in place.run("health")
    assert not warns()
    for gone, back in [(["user", "set", "root", "--disable"], ["user", "set", "root", "--enable"]),
                       (["user", "set", "root", "--api-role", "none"], ["user", "set", "root", "--api-role", "administrator"])]:
        place.run(*gone)
        until(warns, "health warns")
        place.run(*back)
        until(lambda: not warns(), "it is over")
    place.run("user", "rm", "root")
    until(warns, "health warns")
    assert "No administrator is left" in node.log()
    place.run("key", "add", "keeper", "--scope", "administrator")
    until(lambda: not warns(), "a key with all rights will do")


@pytest.mark.parametrize("time", ["99999999d", "99999999999d", "213503982334601d"])
def test_a_time_that_is_too_long_is_not_for_ever(place, time):
    place.run("device", "add", "d1")
    for command, option in [(("key", "add", "k", "--scope", "viewer"), "--for"), (("provision", "add", "p"), "--for"),
                            (("ban", "add", "client-id", "d1"), "--for"), (("device", "rotate", "d1"), "--grace")]:
        told = place.run(*command, option, time, code=2)
        why = "expected at most 365d" if option == "--grace" else "ends after the year 9999"
        assert option in told and why in told, told
    for noun in ("key", "ban", "provision"):
        assert "no" in place.run(noun, "ls") or not place.run(noun, "ls").strip(), noun
    place.run("device", "rotate", "d1", "--grace", "365d")
    place.run("ban", "add", "client-id", "d1", "--for", "36500d")
