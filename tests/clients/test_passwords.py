"""Passwords: how long they are, and whose are changed where."""

import json
import os
import re
import shlex
import subprocess

import pytest

import martlet_process
from paho_client import Client
from test_access import mosquitto_passwd, publish
from test_http_api import KEYS
from test_http_registry import call
from test_registry import martlet, place, start  # noqa: F401


def test_user_says_where_it_has_put_somebody(start, place):
    said = place.user("alice")
    assert f"in {place.path}/martlet.db" in said and f"No node runs with the data directory {place.path} now" in said
    node = start()
    assert "Applied to the running node." in place.user("bob")
    assert publish(node, "t", "-u", "bob", "-P", "secret")[0] == 0


@pytest.mark.parametrize("form", ["toml", "mosquitto"])
def test_user_changes_the_password_file_of_the_node_that_runs(start_node, tmp_path, form):
    """However that was started: the command is told nothing but the data directory."""
    passwords = tmp_path / "passwd"
    martlet("passwd", "--weak", "-c", "-b", passwords, "alice", "secret")
    if form == "toml":
        configuration = tmp_path / "martlet.toml"
        configuration.write_text(f'[auth]\npassword_file = "{passwords}"\n')
        options = {"arguments": ["--config", str(configuration)]}
    else:
        configuration = tmp_path / "mosquitto.conf"
        configuration.write_text(f"password_file {passwords}\n")
        options = {"arguments": ["--mosquitto-conf", str(configuration)]}
    node = start_node(**options)
    said = martlet("user", "add", "bob", "--weak", "--data-dir", node.data_dir, given="word\n")
    assert f"in {passwords}" in said and "Applied to the running node." in said
    assert martlet("user", "ls", "--data-dir", node.data_dir, "--json").count('"role"') == 0, "no table has them"
    assert publish(node, "t", "-u", "bob", "-P", "word")[0] == 0
    assert martlet("user", "ls", "--data-dir", node.data_dir) == "USER\nalice\nbob\n"
    assert f"from {passwords}" in martlet("user", "rm", "bob", "--data-dir", node.data_dir)
    assert publish(node, "t", "-u", "bob", "-P", "word")[0] != 0


def test_password_files_of_listeners_are_named_to_who_adds_a_user(start_node, tmp_path):
    passwords = tmp_path / "passwd"
    martlet("passwd", "--weak", "-c", "-b", passwords, "alice", "secret")
    configuration = tmp_path / "martlet.toml"
    configuration.write_text(f'[[listeners]]\nurl = "mqtt://127.0.0.1:0"\npassword_file = "{passwords}"\n')
    node = start_node(arguments=["--config", str(configuration)], listen=())
    said = martlet("user", "add", "bob", "--weak", "--data-dir", node.data_dir, given="word\n", code=1)
    assert f"password files of their own; name one: --file {passwords}" in said
    assert "Applied to the running node." in martlet(
        "user", "add", "bob", "--weak", "--file", passwords, "--data-dir", node.data_dir, given="word\n")
    assert publish(node, "t", "-u", "bob", "-P", "word")[0] == 0


def test_users_of_a_password_file_are_not_changed_in_the_tables(start_node, tmp_path):
    passwords = mosquitto_passwd(tmp_path / "passwd", ("sam", "secret"))
    node = start_node(settings=[f"auth.password_file={passwords}"])
    said = martlet("user", "set", "sam", "--disable", "--data-dir", node.data_dir, code=1)
    remedy = re.search(r"martlet (user rm .+?) removes", said).group(1)
    martlet(*shlex.split(remedy))
    assert "sam" not in open(passwords).read()


def test_passwords_are_long_unless_it_is_said_otherwise(place, tmp_path):
    at = ["--data-dir", place.path]
    file = tmp_path / "passwd"
    file.write_text("old:plain\n")
    for command, sure in ((["user", "add", "ann", *at], "added"), (["user", "passwd", "ann", *at], "changed"),
                          (["user", "add", "bob", "--file", file], "added"), (["user", "passwd", "bob", "--file", file], ""),
                          (["passwd", file, "carol"], "")):
        for password in ("", "x", "123456789"):
            said = martlet(*command, given=f"{password}\n", code=1)
            assert "nothing was changed" in said and (not password or "--weak" in said and password not in said), said
            if not password:
                martlet(*command, "--weak", given="\n", code=1)
        martlet(*command, given="ä" * 10 + "\n")
        if command[1] == "passwd":
            martlet(*command, "--weak", given="x\n")
    martlet("passwd", "-b", file, "dora", "short", code=1)
    martlet("passwd", "-b", "--weak", file, "dora", "short")
    done = subprocess.run(["bash", "-c", f"exec -a mosquitto_passwd {martlet_process.binary()} -b {file} emil short"],
                          capture_output=True, text=True)
    assert done.returncode == 0 and "Warning: the password has fewer than 10 characters." in done.stderr
    done = subprocess.run([martlet_process.binary(), "passwd", "-U", file], capture_output=True, text=True)
    assert done.returncode == 0 and "line 1" in done.stderr


def test_short_passwords_of_files_are_warned_of(start_node, tmp_path):
    file = tmp_path / "passwd"
    file.write_text("ann:plain\nbob:long enough\n")
    file.chmod(0o600)
    options = ["--set", "auth.plain_passwords=true", "--set", f"auth.password_file={file}"]
    variables = {"MARTLET_AUTH__CREDENTIALS": "carl:short,dora:long enough,emil:s3"}
    node = start_node(data_dir=tmp_path / "data", arguments=options, variables=variables)
    assert publish(node, "t", "-u", "carl", "-P", "short")[0] == 0, "it is good all the same"
    checked = subprocess.run([martlet_process.binary(), "config", "check", "--data-dir", tmp_path / "other", *options],
                             env={**martlet_process.environment(), **variables}, capture_output=True, text=True)
    for told in (node.log(), martlet("health", "--data-dir", tmp_path / "data"), checked.stdout):
        assert f"{file} has passwords of fewer than 10 characters, in line 1:" in told
        assert "auth.credentials has passwords of fewer than 10 characters, in entries 1, 3:" in told
    assert "carl" not in checked.stdout and "emil" not in checked.stdout


def test_the_api_and_the_setup_page_take_no_short_password(start_node, place):
    node = start_node(data_dir=place.path, http=True)
    token = re.search(r"/setup#([\w-]+)", "\n".join(node.announced)).group(1)
    import urllib.error
    import urllib.request

    def setup(password):
        body = json.dumps({"token": token, "name": "root", "password": password}).encode()
        request = urllib.request.Request(f"{node.http_url}/api/v1/setup", body, {"Content-Type": "application/json"})
        try:
            return urllib.request.urlopen(request).status, ""
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    for password in ("", "x", "123456789", "x" * 1025):
        status, said = setup(password)
        assert status == 422 and "/password" in said, said
    page = urllib.request.urlopen(f"{node.http_url}/setup").read().decode()
    assert 'minlength="10"' in page
    assert setup("1234567890")[0] == 201


SHORT = ("", "x", "123456789", "\u00e4" * 9, "x" * 1025)


def test_the_api_takes_no_short_password_of_users(start_node, place):
    node = start_node(data_dir=place.path, http=True, variables=KEYS, settings=["http.rate=0"])
    users = lambda: {one["name"] for one in call(node, "GET", "/api/v1/users")["items"]}

    def refused(method, path, body):
        problem = call(node, method, path, body, expect=422)
        assert [one["pointer"] for one in problem["errors"]] == ["/password"], problem
        assert body["password"] in ("", "x") or body["password"] not in json.dumps(problem, ensure_ascii=False)

    for password in SHORT:
        refused("POST", "/api/v1/users", {"name": "ann", "password": password})
    call(node, "POST", "/api/v1/users", {"name": "ann"}, expect=422)
    assert users() == set()
    call(node, "POST", "/api/v1/users", {"name": "ann", "password": "\u00e4" * 10})
    for password in SHORT:
        refused("PUT", "/api/v1/users/ann/password", {"password": password})
    assert publish(node, "t", "-u", "ann", "-P", "\u00e4" * 10)[0] == 0, "it is the old one still"
    # No other way of the API gives a user a password.
    call(node, "PATCH", "/api/v1/users/ann", {"password": "x"}, expect=422)
    paths = call(node, "GET", "/api/v1/openapi.json")
    taken = {path for path, methods in paths["paths"].items() for how in methods.values()
             if '"password": {' in json.dumps(resolved(paths, how.get("requestBody", {})))}
    assert taken == {"/api/v1/users", "/api/v1/users/{name}/password", "/api/v1/setup", "/api/v1/session"}


def resolved(document, part):
    """A part of the OpenAPI document with what it refers to."""
    if isinstance(part, dict):
        if "$ref" in part:
            return resolved(document, document["components"]["schemas"][part["$ref"].split("/")[-1]])
        return {key: resolved(document, value) for key, value in part.items()}
    return [resolved(document, one) for one in part] if isinstance(part, list) else part


NOBODY = 65534


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives a link to another user")
def test_files_are_not_written_through_the_link_of_another_user(tmp_path):
    """Nor is a file of another user written in a directory where all may write."""
    victim, shared = tmp_path / "victim", tmp_path / "shared"
    shared.mkdir(mode=0o777)
    shared.chmod(0o1777)
    victim.write_text("root:x\n")
    victim.chmod(0o600)
    link = shared / "passwd"
    link.symlink_to(victim)
    os.lchown(link, NOBODY, NOBODY)
    added = martlet_process.run("passwd", "--weak", "-b", link, "eve", "secret")
    assert added.returncode == 1 and f"is a link of the user {NOBODY}" in added.stderr, added.stderr
    checked = martlet_process.run("config", "check", "--set", f"log.file={link}", "--data-dir", tmp_path / "data")
    assert checked.returncode != 0 and "log.file" in checked.stderr and "link" in checked.stderr, checked.stderr
    assert victim.read_text() == "root:x\n"
    # Own links are followed.
    own = shared / "own"
    own.symlink_to(victim)
    martlet("passwd", "--weak", "-b", own, "bob", "secret")
    assert "bob:" in victim.read_text() and own.is_symlink()
    theirs = shared / "theirs"
    theirs.write_text("")
    os.chown(theirs, NOBODY, NOBODY)
    added = martlet_process.run("passwd", "--weak", "-b", theirs, "eve", "secret")
    assert added.returncode == 1 and f"belongs to the user {NOBODY}" in added.stderr, added.stderr


def test_the_password_of_a_user_is_changed_where_it_is_checked(start_node, tmp_path):
    """With a password file, a name in the tables is still a name in the tables."""
    file = tmp_path / "passwd"
    data = ("--data-dir", str(tmp_path / "data"))
    assert martlet_process.run("passwd", "-c", "-b", str(file), "bob", "a-long-password").returncode == 0
    assert martlet_process.run("user", "add", "anna", "--generate", *data).returncode == 0
    node = start_node(settings=[f"auth.password_file={file}"], data_dir=tmp_path / "data")
    for name, place in [("anna", "martlet.db"), ("bob", "passwd")]:
        done = martlet_process.run("user", "passwd", name, "--generate", "--json", *data)
        assert done.returncode == 0, done
        changed = json.loads(done.stdout)
        assert changed["file"].endswith(place)
        with Client(node, name).credentials(name, changed["password"]) as client:
            client.publish("t", "x")
    assert martlet_process.run("user", "rm", "anna", *data).returncode == 0
    assert "bob" in file.read_text()


def test_the_password_of_a_user_is_changed_in_the_source_that_decides_in_the_running_node(start_node, tmp_path):
    """The command has other settings than the node."""
    file = tmp_path / "passwd"
    data = ("--data-dir", str(tmp_path / "data"))
    assert martlet_process.run("passwd", "-c", "-b", str(file), "bob", "a-long-password").returncode == 0
    for name in ("bob", "anna", "carl"):
        assert martlet_process.run("user", "add", name, "--generate", *data).returncode == 0
    settings = [f"auth.password_file={file}", "auth.order=credentials,password-file,registry"]
    variables = {**KEYS, "MARTLET_AUTH__CREDENTIALS": "carl:a-long-password"}
    node = start_node(settings=settings, variables=variables.items(), data_dir=tmp_path / "data", http=True)
    for name, place in [("anna", "martlet.db"), ("bob", "passwd")]:
        changed = json.loads(martlet_process.run("user", "passwd", name, "--generate", "--json", *data).stdout)
        assert changed["file"].endswith(place), changed
        with Client(node, name).credentials(name, changed["password"]) as client:
            client.publish("t", "x")
    for action in ("passwd", "add"):
        done = martlet_process.run("user", action, "carl", "--generate", *data)
        assert done.returncode == 1 and "carl is a user of auth.credentials (" in done.stderr, done
    # What is left in the tables can be removed.
    assert martlet_process.run("user", "rm", "carl", *data).returncode == 0
    done = martlet_process.run("user", "rm", "carl", *data)
    assert done.returncode == 1 and "remove the user there, and restart the node" in done.stderr, done
    for action in (["set", "carl", "--disable"], ["restore", "nobody-carl"]):
        done = martlet_process.run("user", *action, *data)
        assert done.returncode == 1, done
    # Another source takes the name over, or has it before.
    done = martlet_process.run("user", "rm", "bob", *data)
    assert "But bob is a user of the node's tables too, which decides" in done.stdout, done
    done = martlet_process.run("user", "restore", "carl", *data)
    assert "But carl is a user of auth.credentials (" in done.stdout, done
    shown = {name: call(node, "GET", f"/api/v1/users/{name}")["mqtt_decided_by"] for name in ("anna", "bob", "carl")}
    assert shown["anna"] is None and shown["bob"] is None and "auth.credentials" in shown["carl"], shown


def test_a_name_of_the_tables_is_not_added_to_a_password_file_that_comes_behind_them(start_node, tmp_path):
    """The node would refuse it all the same."""
    data = ("--data-dir", str(tmp_path / "data"))
    for name in ("bob", "anna"):
        assert martlet_process.run("user", "add", name, "--generate", *data).returncode == 0
    assert martlet_process.run("user", "rm", "bob", *data).returncode == 0
    assert martlet_process.run("device", "add", "meter", *data).returncode == 0
    file = mosquitto_passwd(tmp_path / "passwd", ("sam", "secret"))
    node = start_node(settings=[f"auth.password_file={file}"], data_dir=tmp_path / "data")
    for name, said in [("anna", "exists"), ("meter", "is a device"), ("bob", "martlet user restore")]:
        done = martlet_process.run("user", "add", name, "--generate", *data)
        assert done.returncode == 1 and said in done.stderr and name not in open(file).read(), done
    done = martlet_process.run("user", "add", "bob", "--generate", "--file", str(file), *data)
    assert "But bob is a deleted user of the node's tables too, which decides" in done.stdout, done
    done = martlet_process.run("user", "passwd", "bob", "--generate", *data)
    assert done.returncode == 1, done
    remedy = re.search(r"martlet (user rm [^,]*--purge bob) frees", done.stderr).group(1)
    martlet(*shlex.split(remedy), "--yes")
    changed = json.loads(martlet_process.run("user", "passwd", "bob", "--generate", "--json", *data).stdout)
    with Client(node, "bob").credentials("bob", changed["password"]) as client:
        client.publish("t", "x")


def test_an_empty_user_name_is_no_user_to_add(start_node, tmp_path):
    data = ("--data-dir", str(tmp_path / "data"))
    assert martlet_process.run("user", "add", "anna", "--generate", *data).returncode == 0
    node = start_node(data_dir=tmp_path / "data")
    line = ["mosquitto_pub", "-p", str(node.port()), "-i", "shelly", "-u", "", "-P", "", "-t", "a", "-m", "x"]
    assert subprocess.run(line, capture_output=True, timeout=20).returncode != 0
    told = martlet_process.run("why", "shelly", *data).stdout
    assert "an empty user name" in told and "ROLE" not in told, told


@pytest.mark.parametrize("which", ["passwd", "acl"])
def test_files_may_begin_with_a_byte_order_mark(start_node, tmp_path, which):
    passwd, acl = tmp_path / "passwd", tmp_path / "acl"
    assert martlet_process.run("passwd", "-c", "-b", str(passwd), "bob", "a-long-password").returncode == 0
    acl.write_text("user bob\ntopic readwrite home/#\n")
    path = {"passwd": passwd, "acl": acl}[which]
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    node = start_node(settings=[f"auth.password_file={passwd}", f"auth.acl_file={acl}"])
    with Client(node, "c").credentials("bob", "a-long-password") as client:
        client.publish("home/a", "x")
    done = martlet_process.run("passwd", "-b", str(passwd), "bob", "another-password")
    assert done.returncode == 0 and passwd.read_text().count("bob") == 1, done
