"""What commands say to somebody who uses them for the first time, so that the next step is the right one."""

import json
import pathlib
import re
import socket
import subprocess
import threading
import urllib.error
import urllib.request

import pytest

import martlet_process
from paho_client import Client
from server_process import free_port
from test_sinks import until


class Subscriber:
    """`martlet sub` that runs, and what it has printed to both outputs."""

    def __init__(self, *arguments):
        self.lines = []
        self.process = subprocess.Popen(
            [martlet_process.binary(), "sub", *arguments], env=martlet_process.environment(), text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
        threading.Thread(target=lambda: self.lines.extend(iter(self.process.stdout.readline, "")), daemon=True).start()

    def said(self):
        return "".join(self.lines)

    def close(self):
        self.process.terminate()
        self.process.wait(timeout=60)


@pytest.fixture
def subscribe():
    started = []

    def start(*arguments):
        started.append(Subscriber(*arguments))
        return started[-1]

    yield start
    for one in started:
        one.close()


def said(*arguments, code=0):
    done = martlet_process.run(*arguments)
    assert done.returncode == code, done
    return done.stdout + done.stderr


def test_a_user_without_a_role_is_told_what_it_may_do(tmp_path):
    of_node = ("--generate", "--data-dir", str(tmp_path))
    told = said("user", "add", "ann", *of_node)
    assert "Added user ann with the role user" in told
    assert "This role permits all topics; --role gives another" in told, told
    assert "permits all topics" not in said("user", "add", "bob", "--role", "user", *of_node)


def test_a_backup_says_what_is_not_in_it(start_node, tmp_path):
    node = start_node()
    told = said("backup", "create", str(tmp_path / "one.backup"), "--data-dir", str(node.data_dir))
    assert "the configuration and the files that it names, such as certificates, are not in the backup" in told


def test_a_reload_tells_a_key_that_needs_a_restart_once(start_node, tmp_path):
    config = tmp_path / "martlet.toml"
    config.write_text("[limits]\nin_flight = 20\n[auth]\nlockout_failures = 10\n")
    node = start_node(arguments=("-c", str(config)), data_dir=tmp_path / "data")
    config.write_text("[limits]\nin_flight = 30\n[auth]\nlockout_failures = 20\n")
    told = said("reload", "--data-dir", str(node.data_dir), code=3)
    changed = next(line for line in told.splitlines() if line.startswith("changed: "))
    assert "auth.lockout_failures" in changed and "limits.in_flight" not in changed, told
    assert told.count("limits.in_flight") == 1 and "limits.in_flight has changed, which needs a restart" in told


def test_a_certificate_for_a_node_of_init_is_issued_by_the_ca_that_is_there(tmp_path):
    said("init", str(tmp_path / "node"))
    missing = str(tmp_path / "certs")
    told = said("cert", "server", "--dir", missing, "localhost", code=1)
    assert "such as that of martlet init in DIR/certs, give its directory with --dir" in told, told
    said("cert", "server", "--dir", str(tmp_path / "node" / "certs"), "--file", "other", "localhost")


def test_a_misspelt_keyword_of_mosquitto_conf_is_told_with_the_right_one(tmp_path):
    conf = pathlib.Path(tmp_path) / "mosquitto.conf"
    conf.write_text("persistance true\n")
    told = said("import", "mosquitto", str(conf), code=1)
    assert "did you mean `persistence`?" in told, told
    conf.write_text("xyzzy true\n")
    assert "did you mean" not in said("import", "mosquitto", str(conf), code=1)


@pytest.mark.parametrize(("version", "told"), [
    ("5", "Another client has connected with the Client Identifier pump-7, and the broker has ended this connection"),
    ("311", "another client may have connected with the Client Identifier pump-7 (with Martlet: martlet why pump-7)"),
])
def test_a_subscriber_says_that_another_client_has_its_client_identifier(start_node, subscribe, version, told):
    node = start_node()
    options = ("-p", str(node.port()), "-i", "pump-7", "-t", "a", "-V", version, "-d")
    loud, quiet = subscribe(*options), None
    until(lambda: "Subscribed" in loud.said(), loud.said)
    with Client(node, "pump-7"):
        pass
    until(lambda: loud.said().count("Subscribed") == 2, loud.said)
    assert loud.said().count("Warning: ") == 1 and told in loud.said(), loud.said()
    loud.close()
    quiet = subscribe(*options, "--quiet")
    until(lambda: "Subscribed" in quiet.said(), quiet.said)
    with Client(node, "pump-7"):
        pass
    until(lambda: quiet.said().count("Subscribed") == 2, quiet.said)
    assert "Warning" not in quiet.said(), quiet.said()


def test_a_subscriber_names_no_other_client_when_the_broker_was_away(start_node, subscribe, tmp_path):
    port = free_port()
    node = start_node(data_dir=tmp_path / "data", listen=(f"mqtt://127.0.0.1:{port}",))
    one = subscribe("-p", str(port), "-i", "pump-7", "-t", "a", "-d")
    until(lambda: "Subscribed" in one.said(), one.said)
    node.close()
    # One attempt finds no broker.
    with socket.create_server(("127.0.0.1", port)) as server:
        server.settimeout(20)
        server.accept()[0].close()
    start_node(data_dir=tmp_path / "data", listen=(f"mqtt://127.0.0.1:{port}",))
    until(lambda: one.said().count("Subscribed") == 2, one.said)
    assert "Warning" not in one.said(), one.said()


def test_a_refused_client_is_told_how_to_ask_why(start_node, tmp_path):
    node = start_node()
    place = ("--data-dir", str(node.data_dir))
    credential = said("device", "add", "pump-7", *place).split("shown this once: ")[1].split()[0]
    told = said("pub", "-p", str(node.port()), "-u", "pump-7", "-P", credential, "-t", "d/pump-7/a", "-m", "x", code=5)
    assert told.splitlines()[0] == "Connection error: Connection Refused: not authorised.", told
    line = next(line for line in told.splitlines() if "martlet why" in line)
    why = said(*line.split("martlet ", 1)[1].split(), *place, code=3)
    assert "-i pump-7" in why or "Client Identifier" in why, why
    # So is one whose subscription or message is refused.
    login = ("-p", str(node.port()), "-i", "pump-7", "-u", "pump-7", "-P", credential, "-V", "5")
    for refused in (("sub", *login, "-t", "other/#", "-E"), ("pub", *login, "-t", "other/a", "-m", "x", "-q", "1")):
        assert "this shows why: martlet why pump-7" in said(*refused, code=0), refused
    # One that is refused beside others is named, and messages of the others come.
    told = said("sub", *login, "-t", "other/#", "-t", "d/pump-7/b", "-E", code=0)
    assert "Warning: The subscription to 'other/#' was refused: Not authorized (0x87)." in told.splitlines(), told
    assert "this shows why: martlet why pump-7" in told and "d/pump-7/b" not in told, told
    # And who waits for a response that cannot come: the request, or the subscription, is refused.
    for refused, code in ((("-t", "other/a", "-e", "d/pump-7/a", "-q", "1"), 1),
                          (("-t", "d/pump-7/a", "-e", "other/a"), 1),
                          (("-t", "other/a", "-e", "d/pump-7/a", "-W", "1"), 27)):
        told = said("rr", *login, *refused, "-m", "x", code=code)
        assert "this shows why: martlet why pump-7" in told and ("Not authorized" in told) == (code == 1), told
    # Who has no credentials is told how to give them.
    told = said("pub", "-p", str(node.port()), "-t", "a", "-m", "x", code=5)
    assert "Give credentials with -u" in told and "martlet why" not in told, told


def test_the_status_warns_of_no_administrator_only_while_there_is_none(start_node):
    node = start_node(http=True)
    place = ("--data-dir", str(node.data_dir))
    warning = "The node has no administrator yet"
    assert warning in said("status", *place)
    said("user", "add", "ann", "--role", "administrator", "--generate", *place)
    assert warning not in said("status", *place)


def test_a_subscriber_with_a_generated_client_identifier_suspects_no_other_client(start_node, subscribe):
    node = start_node()
    one = subscribe("-p", str(node.port()), "-t", "a", "-d")
    until(lambda: "Subscribed" in one.said(), one.said)
    client_id = one.said().split("Client ")[1].split()[0]
    said("client", "kick", client_id, "--data-dir", str(node.data_dir))
    until(lambda: one.said().count("Subscribed") == 2, one.said)
    assert "Warning" not in one.said(), one.said()


def test_what_the_setup_page_says_comes_next_works_as_it_is_printed(start_node, tmp_path):
    node = start_node(http=True, data_dir=tmp_path / "data")
    token = re.search(r"/setup#([\w-]+)", "\n".join(node.announced))[1]
    body = json.dumps({"token": token, "name": "root", "password": "a long password"}).encode()
    request = urllib.request.Request(f"{node.http_url}/api/v1/setup", body, {"Content-Type": "application/json"})
    assert urllib.request.urlopen(request).status == 201
    page = urllib.request.urlopen(f"{node.http_url}/setup").read().decode()
    told = page[page.index("What comes next"):]
    commands = "\n".join(re.findall(r"<pre>(.*?)</pre>", told, re.DOTALL)).splitlines()
    assert [command.split()[1] for command in commands] == ["device", "role", "user", "key", "health"]
    program = tmp_path / "martlet"
    program.write_text(f'#!/bin/sh\nexec {martlet_process.binary()} "$@" --data-dir {tmp_path}/data\n')
    program.chmod(0o755)
    environment = {**martlet_process.environment(), "PATH": f"{tmp_path}:/usr/bin:/bin"}
    for command in commands:
        done = subprocess.run(["bash", "-c", command], input="a long password\n", env=environment, capture_output=True, text=True)
        assert done.returncode == 0, (command, done)


def test_several_keys_of_one_name_are_told_by_their_ids(start_node):
    node = start_node(http=True)
    at = ("--data-dir", str(node.data_dir))
    added = [json.loads(said("key", "add", "app", "--scope", "viewer", "--json", *at)) for _ in range(2)]
    said("key", "add", "only", "--scope", "viewer", *at)
    told = said("key", "rm", "app", *at, code=1)
    assert "2 keys have the name app, with the ids " in told, told
    assert all(key["id"] in told for key in added), told
    # Who lacks a scope is told which of them it has shown.
    request = urllib.request.Request(f"{node.http_url}/api/v1/reload", method="POST", headers={"X-API-Key": added[0]["key"]})
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=60)
    detail = json.loads(refused.value.read())["detail"]
    assert refused.value.code == 403 and f"the API key app (key:{added[0]['id']}) lacks the scope node:write" in detail, detail
    said("key", "rm", added[0]["id"], *at)
    assert added[1]["id"] in said("key", "rm", "app", *at), "the only good one of the name"
    said("key", "rm", "only", *at)
    said("key", "rm", "nobody", *at, code=1)


def test_a_backup_without_tables_says_so_and_a_restored_node_is_started_with_its_configuration(tmp_path):
    config, file = tmp_path / "martlet.toml", tmp_path / "b.backup"
    config.write_text('[auth]\nregistry = "off"\n')
    with martlet_process.Node(arguments=["-c", str(config)], http=None, settings=["http.listen=off"]) as node:
        tables = pathlib.Path(node.data_dir) / "martlet.db"
        has_tables = tables.exists()
        told = said("backup", "create", str(file), "--data-dir", str(node.data_dir))
    assert ("it contains no users and devices: the node has no tables" in told) != has_tables, told
    assert ("It contains no users and devices" in said("backup", "verify", str(file))) != has_tables
    told = said("backup", "restore", str(file), "--data-dir", str(tmp_path / "new"), "-c", str(config))
    start = next(line for line in told.splitlines() if line.startswith("Start the node with it: "))
    assert f"-c {config}" in start, start


def test_the_way_to_end_all_lockouts_is_told():
    told = said("lockout", "rm", code=2)
    assert "--all" in told, told


def test_a_refused_publisher_prints_the_reason_of_the_broker(start_node):
    node = start_node(settings=["limits.client_id_bytes=3"])
    done = martlet_process.run("pub", "-p", str(node.port()), "-V", "5", "-i", "too-long", "-t", "t", "-m", "x")
    assert done.returncode != 0 and "Reason: " in done.stderr and "limits.client_id_bytes" in done.stderr, done.stderr


def test_health_says_that_no_new_session_fits_and_what_ends_one(start_node):
    node = start_node(settings=["limits.sessions=1"])
    with socket.create_connection(("127.0.0.1", node.port()), timeout=60) as stream:
        stream.sendall(b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01p")
        assert stream.recv(4) == b"\x20\x02\x00\x00"
        done = martlet_process.run("health", "--data-dir", node.data_dir)
        assert "as many as limits.sessions permits" in done.stdout and "martlet session rm" in done.stdout, done
        refused = martlet_process.run("pub", "-p", str(node.port()), "-i", "q", "-t", "t", "-m", "x")
        assert refused.returncode != 0
        told = martlet_process.run("why", "q", "--data-dir", node.data_dir).stdout
        assert "martlet session ls" in told, told


@pytest.mark.parametrize("command", [["config", "check"], ["config", "show", "--changed"], ["config", "env"]])
def test_what_comes_from_the_environment_file_is_told_with_its_line(tmp_path, command):
    file = tmp_path / ".env"
    file.write_text("# c\nMARTLET_LOG__LEVEL=debug\nMARTLET_LIMITS__SESIONS=5\n")
    done = subprocess.run([martlet_process.binary(), *command], cwd=tmp_path, capture_output=True, text=True, timeout=60,
                          env={**martlet_process.environment(), "MARTLET_LIMITS__CONNECTIONS": "7"})
    told = done.stdout + done.stderr
    unknown = f"{file} line 3 MARTLET_LIMITS__SESIONS: no such setting; did you mean `MARTLET_LIMITS__SESSIONS`?"
    if command[1] == "env":
        assert f"{file} line 3" in told and f"{file} line 2" in told and re.search("CONNECTIONS .* environment$", told, re.M), told
    else:
        assert unknown in told, told
    if command[1] == "show":
        assert f"# {file} line 2 MARTLET_LOG__LEVEL" in told and "# environment MARTLET_LIMITS__CONNECTIONS" in told, told
