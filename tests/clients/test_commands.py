"""What all commands have in common: where they write, and which files they obey."""

import json
import os
import re
import resource
import signal
import subprocess
import tempfile
import urllib.request

import pytest

import martlet_process
from paho_client import Client
from server_process import free_port
from test_access import until
from test_http_api import KEY, KEYS
from test_operation import get
from test_registry import DEADLINE_SECS, Place, martlet, place  # noqa: F401


def run_into(stdout, command, stderr=subprocess.PIPE):
    return subprocess.run([martlet_process.binary(), *command], stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr,
                          env=martlet_process.environment(), timeout=DEADLINE_SECS, text=True)


def closed_pipe():
    """The end of a pipe whose reader has gone."""
    reader, writer = os.pipe()
    os.close(reader)
    return writer


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """A node that runs, with one of everything that commands list."""
    place = Place(tmp_path_factory.mktemp("commands") / "data")
    place.device("d1")
    place.user("alice")
    for command in (["group", "add", "g1"], ["group", "member", "add", "g1", "d1"], ["team", "add", "t1"],
                    ["team", "member", "set", "t1", "alice", "--role", "viewer"], ["key", "add", "k1", "--scope", "viewer"],
                    ["ban", "add", "client-id", "evil"], ["provision", "add", "p1"]):
        place.run(*command)
    with martlet_process.Node(data_dir=place.path, http=True, settings=["mqtt.allow_anonymous=true"],
                              variables=KEYS) as node:
        done = subprocess.run([martlet_process.binary(), "pub", "-p", str(node.port()), "-i", "c1", "-t", "r/1", "-m", "x",
                               "-r", "-q", "1", "-c", "-V", "5", "-x", "60"], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        done = subprocess.run([martlet_process.binary(), "sub", "-p", str(node.port()), "-i", "c2", "-t", "a/#", "-q", "1", "-c",
                               "-V", "5", "-x", "60", "-E"], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        yield place


def test_no_command_aborts_where_nobody_reads_what_is_wrong(filled):
    for command in (["device", "show", "none"], ["status", "--data-dir", "/none"], ["sub", "-p", "1"], ["serve", "--x"]):
        writer = closed_pipe()
        try:
            done = run_into(writer, command, stderr=writer)
        finally:
            os.close(writer)
        assert 0 < done.returncode < 128 and done.returncode != 101, command


# Every command that prints a list.
LISTS = [["clients"], ["client", "ls"], ["client", "subscriptions"], ["session", "ls"], ["retained", "ls"], ["user", "ls"],
         ["user", "ls", "--file", "PASSWD"], ["device", "ls"], ["device", "type", "ls"], ["group", "ls"], ["key", "ls"],
         ["team", "ls"], ["team", "member", "ls", "t1"], ["ban", "ls"], ["provision", "ls"], ["audit"], ["role", "ls"]]
WITHOUT_NODE = [["cert", "list", "--dir", "CERTS"], ["acl", "lint", "ACL"], ["import", "mosquitto", "CONF"]]


def test_lists_have_headers_and_columns_and_where_nothing_is_a_sentence_on_standard_error(filled, start_node, tmp_path):
    martlet("device", "add", "a-device-with-a-much-longer-id-than-others", "--data-dir", filled.path)
    (tmp_path / "PASSWD").write_text("u:0123456789\n")
    empty = start_node(http=True, data_dir=tmp_path / "empty")
    (tmp_path / "none").touch()
    for command in LISTS + [["trace", "ls"], ["lockout", "ls"]]:
        given = [str(tmp_path / word) if word.isupper() else word for word in command]
        done = run_into(subprocess.PIPE, [*given, "--data-dir", str(filled.path)])
        assert done.returncode == 0, (command, done)
        if command[0] not in ("trace", "lockout"):
            header, *rows = done.stdout.splitlines()
            assert header == header.upper() and rows, (command, done.stdout)
            # Where a column begins or ends, all rows have a gap.
            assert len(header.split()) > 1 or command[:2] == ["user", "ls"], header
            for row in rows:
                assert len(row.split()) >= len(header.split()) - 1, (command, row)
        if "t1" in command:
            continue
        given = [str(tmp_path / "none") if word.isupper() else word for word in command]
        done = run_into(subprocess.PIPE, [*given, "--data-dir", empty.data_dir])
        assert done.returncode == 0, (command, done)
        if command in (["role", "ls"], ["device", "type", "ls"]):
            assert "built in" in done.stdout
        else:
            assert done.stdout == "" and done.stderr.count("\n") == 1 and done.stderr.endswith(".\n"), (command, done)
    table = martlet("device", "ls", "--data-dir", filled.path).splitlines()
    assert len({line.index(word) for line, word in zip(table, ("ONLINE", "never", "never"))}) == 1, table
    martlet("device", "rm", "a-device-with-a-much-longer-id-than-others", "--purge", "--yes", "--data-dir", filled.path)


def test_device_ls_says_who_is_online(start_node, tmp_path):
    place = Place(tmp_path / "data")
    secrets = {name: place.device(name) for name in ("here", "away", "new")}
    node = start_node(http=True, data_dir=place.path)

    def online():
        rows = place.run("device", "ls").splitlines()[1:]
        return {row.split()[0]: row.split()[2] for row in rows}

    with Client(node, "here").credentials("here", secrets["here"]):
        with Client(node, "away").credentials("away", secrets["away"]):
            until(lambda: online() == {"here": "yes", "away": "yes", "new": "never"}, "both are online")
        until(lambda: online() == {"here": "yes", "away": "no", "new": "never"}, "one is away")


def keys_and_values(value):
    if isinstance(value, dict):
        for key, one in value.items():
            yield key, one
            # What was changed stands in the audit log as the tables have it.
            if key != "changed":
                yield from keys_and_values(one)
    elif isinstance(value, list):
        for one in value:
            yield from keys_and_values(one)


def test_lists_have_one_form_as_json(filled, tmp_path):
    martlet("cert", "ca", "--dir", tmp_path / "CERTS")
    (tmp_path / "ACL").write_text("user alice\ntopic up/#\ntopic read up/1\n")
    (tmp_path / "PASSWD").write_text("u:0123456789\n")
    (tmp_path / "CONF").write_text("listener 1883 127.0.0.1\n")
    for command in [[*one, "--data-dir", str(filled.path)] for one in LISTS] + WITHOUT_NODE:
        command = [str(tmp_path / word) if word.isupper() else word for word in command]
        if command[0] == "import":
            command += ["--out", str(tmp_path / "martlet.toml")]
        done = run_into(subprocess.PIPE, [*command, "--json"])
        assert done.stdout.startswith("{"), (command, done)
        told = json.loads(done.stdout)
        assert set(told) <= {"items", "total", "next"} and told["items"], (command, told)
        assert all(isinstance(one, dict) for one in told["items"]), command
        for key, value in keys_and_values(told):
            assert not key.endswith("_ms"), (command, key)
            if key.endswith("_at") or key in ("at", "until"):
                assert value is None or re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", value), (command, key, value)
    assert (martlet("clients", "--json", "--data-dir", filled.path, "c1")
            == martlet("client", "ls", "--json", "--data-dir", filled.path, "c1"))


def test_lists_have_the_filters_and_limits_of_their_routes(filled):
    def items(*command):
        return json.loads(filled.run(*command, "--json"))["items"]

    for name in ("user", "device", "group", "team", "key", "ban", "provision", "role", "device type"):
        command = [*name.split(), "ls"]
        first = json.loads(filled.run(*command, "--limit", "1", "--json"))
        whole = items(*command)
        assert (first["items"], first["total"]) == (whole[:1], len(whole)), name
    assert [one["value"] for one in items("ban", "ls")] == ["evil"] and items("ban", "ls", "--team", "t1") == []
    assert {one["object_kind"] for one in items("audit", "--object-kind", "ban")} == {"ban"}
    assert {one["object_id"] for one in items("audit", "--object-id", "d1")} == {"d1"}
    assert items("audit", "--from", "2026-01-01T00:00:00Z") and not items("audit", "--before", "2026-01-01T00:00:00Z")
    assert [one["client_id"] for one in items("client", "subscriptions", "--filter", "a/#")] == ["c2"]
    assert items("client", "subscriptions", "--share", "s") == []
    assert items("alarm", "ls", "--name", "none", "--device", "d1", "--state", "active,cleared", "--limit", "1") == []
    exported = filled.run("device", "export", "--type", "device", "--search", "d1").splitlines()
    assert len(exported) == 2 and len(filled.run("device", "export", "--tag", "none").splitlines()) == 1


def test_the_version_is_a_command(tmp_path):
    said = martlet("version")
    assert said == martlet("--version") and said.startswith("martlet ")
    assert json.loads(martlet("version", "--json"))["version"] == said.split()[1]


def test_bench_takes_the_options_of_the_clients(start_node, tmp_path):
    node = start_node(data_dir=tmp_path / "data", variables={"MARTLET_AUTH__CREDENTIALS": "ann:long secret"})
    at = ["bench", "pipes", "--clients", "2", "--duration", "0.2", "-h", "127.0.0.1", "-p", str(node.port()), "--json"]
    assert json.loads(martlet(*at, "-u", "ann", "-P", "long secret"))
    martlet(*at, "-u", "ann", "-P", "wrong secret", code=1)
    assert "What to measure" in martlet("bench", "--help")


def test_output_that_is_lost_is_a_failure(filled):
    with open("/dev/full", "w") as full:
        done = run_into(full, ["device", "ls", "--data-dir", str(filled.path)])
    assert done.returncode == 1 and "cannot write standard output: No space left on device" in done.stderr


def test_a_node_goes_on_where_nobody_reads_its_lines(tmp_path):
    writer = closed_pipe()
    command = [martlet_process.binary(), "serve", "--data-dir", str(tmp_path / "data"), "--http", "off", "--listen",
               "mqtt://127.0.0.1:0", "--set", "log.connections=true"]
    node = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=writer, stderr=writer,
                            env=martlet_process.environment())
    os.close(writer)
    try:
        at = ["--data-dir", str(tmp_path / "data")]
        deadline = [subprocess.run([martlet_process.binary(), "status", *at], capture_output=True) for _ in range(1)]
        while deadline[-1].returncode != 0:
            assert node.poll() is None, "the node has ended"
            deadline.append(subprocess.run([martlet_process.binary(), "status", *at], capture_output=True))
            assert len(deadline) < 500
        port = json.loads(martlet("status", "--json", *at))["listeners"][0].rsplit(":", 1)[1]
        for _ in range(3):
            assert run_into(subprocess.PIPE, ["pub", "-p", port, "-t", "a", "-m", "b", "-q", "1"]).returncode == 0
        assert "ready" in martlet("status", *at)
    finally:
        node.terminate()
        assert node.wait(timeout=DEADLINE_SECS) == 0


def test_a_command_that_names_no_node_finds_the_one_that_runs():
    # The path of a socket must be short to be found.
    with tempfile.TemporaryDirectory(prefix="martlet-", dir="/tmp") as nodes:
        state = os.path.join(nodes, "state")
        variables = {**martlet_process.environment(), "XDG_STATE_HOME": state, "MARTLET_FIND_NODES": nodes}

        def said(*command):
            done = subprocess.run([martlet_process.binary(), *command], env=variables, cwd=nodes, text=True,
                                  stdin=subprocess.DEVNULL, capture_output=True, timeout=DEADLINE_SECS)
            return done.returncode, done.stdout, done.stderr

        assert "no node answers" in said("status")[2]
        # A relative path is found from any directory.
        with martlet_process.Node(data_dir="first node", directory=nodes, log_path=os.path.join(nodes, "log")) as first:
            option = f"--data-dir='{nodes}/first node'"
            code, output, errors = said("user", "rm", "nobody")
            assert code == 1 and option in errors.splitlines()[0] and f"martlet user ls {option}" in errors, errors
            code, output, errors = said("status", "--json")
            assert (code, json.loads(output)["listeners"]) == (0, first.urls) and option in errors
            with martlet_process.Node(data_dir=os.path.join(nodes, "second")) as second:
                code, output, errors = said("device", "ls")
                assert (code, output) == (1, "") and len(errors.splitlines()) == 1, errors
                for named in (f"{option} ({first.urls[0]})", f"--data-dir={nodes}/second ({second.urls[0]})"):
                    assert named in errors, errors
                assert said("status", "--data-dir", second.data_dir)[::2] == (0, "")
            # Commands for nodes that do not run search none, and neither do those that are told not to.
            assert os.path.join(state, "martlet") in said("store", "check")[2]
            variables["MARTLET_FIND_NODES"] = "off"
            assert "no node answers" in said("status")[2]
            # What the default directory has is meant.
            variables["MARTLET_FIND_NODES"] = nodes
            os.makedirs(os.path.join(state, "martlet", "store"))
            assert "no node answers" in said("status")[2]


@pytest.fixture
def working(tmp_path):
    """A working directory with a .env."""
    path = tmp_path / "working"
    path.mkdir()
    (path / ".env").write_text(f"MARTLET_HTTP__API_KEYS=mallory:administrator:{KEY}\nMARTLET_LOG__FILE={tmp_path}/planted\n")
    return path


def in_directory(path, *command):
    return subprocess.run([martlet_process.binary(), *map(str, command)], cwd=path, env=martlet_process.environment(),
                          capture_output=True, text=True, timeout=DEADLINE_SECS, stdin=subprocess.DEVNULL)


def spoil_mode(file):
    file.chmod(0o666)


def spoil_group(file):
    file.chmod(0o664)


def spoil_owner(file):
    os.chown(file, 54321, -1)


def spoil_link(file):
    """A link that somebody else has laid to a file of ours."""
    own = file.with_name("own")
    file.rename(own)
    file.symlink_to(own)
    os.lchown(file, 54321, -1)


@pytest.mark.parametrize("spoil", [spoil_mode, spoil_group, spoil_owner, spoil_link])
def test_an_env_file_that_others_can_have_written_is_refused(working, tmp_path, spoil):
    if spoil in (spoil_owner, spoil_link) and os.geteuid() != 0:
        pytest.skip("only root gives files away")
    spoil(working / ".env")
    at = ["--data-dir", tmp_path / "data"]
    for command in (["serve", "--http", "off", *at], ["config", "show"], ["config", "check", *at], ["device", "add", "d1", *at],
                    ["user", "ls", *at], ["key", "add", "k", "--scope", "administrator", *at], ["status", *at],
                    ["backup", "create", tmp_path / "b", *at], ["store", "stats", *at]):
        done = in_directory(working, *command)
        assert done.returncode != 0, command
        assert str(working / ".env") in done.stderr and "is refused" in done.stderr, (command, done.stderr)
    assert not (tmp_path / "planted").exists() and not (tmp_path / "data").exists()


def test_an_env_file_is_named_by_its_whole_path(working, tmp_path):
    (working / ".env").write_text("MARTLET_LOG__DROPS=true\n")
    command = [martlet_process.binary(), "serve", "--data-dir", str(tmp_path / "data"), "--http", "127.0.0.1:0", "--listen",
               "mqtt://127.0.0.1:0"]
    node = subprocess.Popen(command, cwd=working, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
                            stderr=subprocess.STDOUT, env={**martlet_process.environment(), **KEYS})
    try:
        said, http = [], None
        for line in node.stdout:
            said.append(line.strip())
            if "health and metrics on" in line:
                http = line.split()[-1]
            if line.startswith("See how"):
                break
        assert any(f"configuration from {working}/.env" in line for line in said), said
        health = martlet("health", "--data-dir", tmp_path / "data")
        assert f"environment from {working}/.env" in health
        import urllib.request
        told = json.loads(urllib.request.urlopen(f"{http}/health/ready").read())
        assert "environment_file" not in told, "a probe names no files"
    finally:
        node.terminate()
        node.wait(timeout=DEADLINE_SECS)


@pytest.mark.parametrize("mode, word", [(0o600, None), (0o640, None), (0o644, "may read"), (0o664, "may write"),
                                        (0o666, "may write"), (0o602, "may write")])
def test_files_that_others_can_read_or_change_are_told(start_node, tmp_path, mode, word):
    certificates = tmp_path / "certs"
    martlet("cert", "ca", "--dir", certificates)
    martlet("cert", "server", "localhost", "--dir", certificates)
    file, passwords, key, secret = (tmp_path / "martlet.toml", tmp_path / "passwd", certificates / "server.key", tmp_path / "url")
    file.write_text(f"""
[auth]
password_file = "{passwords}"
credentials = "ann:0123456789"
[[listeners]]
url = "mqtts://127.0.0.1:0"
certificate = "{certificates}/server.crt"
key = "{key}"
""")
    martlet("passwd", "-c", "-b", passwords, "bob", "long enough it is")
    secret.write_text("")
    for one in (file, passwords, key, secret):
        one.chmod(mode)
    variables = {"MARTLET_REGISTRY__URL_FILE": str(secret)}
    checked = subprocess.run([martlet_process.binary(), "config", "check", "-c", str(file), "--data-dir", str(tmp_path / "data")],
                             env={**martlet_process.environment(), **variables}, capture_output=True, text=True)
    node = start_node(data_dir=tmp_path / "data", arguments=["-c", str(file)], listen=(), variables=variables)
    health = martlet("health", "--strict", "--data-dir", tmp_path / "data", code=3 if word else 0)
    for told in (checked.stdout, node.log(), health):
        for one in (file, passwords, key, secret):
            lines = [part for line in told.splitlines() for part in line.split(";") if f"{one} (mode" in part]
            if word is None:
                assert not lines, told
            else:
                assert lines and word in lines[0], (one, told)
    if word:
        for one in (file, passwords, key, secret):
            one.chmod(0o600)
        martlet("reload", "--data-dir", tmp_path / "data")
        martlet("health", "--data-dir", tmp_path / "data")


def test_the_location_of_a_database_is_secret_if_it_has_a_password(tmp_path):
    file = tmp_path / "martlet.toml"
    for url, is_secret in (("t.db", False), ("postgres://u@h/d", False), ("host=h user=u dbname=d", False),
                           ("postgres://u:p@h/d", True), ("postgres://h/d?password=p", True),
                           ("host=h password=p", True)):
        file.write_text(f'[telemetry]\nurl = "{url}"\n')
        file.chmod(0o644)
        told = martlet("config", "check", "-c", str(file), "--data-dir", tmp_path / "data")
        assert ("may read" in told) == is_secret, (url, told)


def test_secrets_of_urls_are_masked(tmp_path):
    file = tmp_path / "martlet.toml"
    file.write_text("""
[events]
push_url = "ws://reverb.example:8080/app/S3CRET"
[auth]
hook_url = "https://ann:S3CRET@hook.example/in?code=S3CRET"
jwt_keys = "https://keys.example/S3CRETS3CRETS3CRETS3CRET/jwks.json?k=S3CRETS3CRETS3CRET"
""")
    for form in ([], ["--json"]):
        shown = martlet("config", "show", "-c", file, *form)
        assert "S3CRET" not in shown and "reverb.example:8080/app/***" in shown and "hook.example" in shown


def test_what_was_to_be_connected_to_is_named(start_node, tmp_path):
    port = free_port()
    for command in (["sub", "-t", "t"], ["pub", "-t", "t", "-m", "m"], ["rr", "-t", "t", "-e", "r", "-m", "m"]):
        said = martlet(*command, "-h", "127.0.0.1", "-p", str(port), code=1)
        assert f"cannot connect to 127.0.0.1:{port}: Connection refused" in said, said
        said = martlet(*command, "--unix", tmp_path / "none", code=1)
        assert f"cannot connect to {tmp_path}/none: No such file or directory" in said, said
        said = martlet(*command, "-h", "host.invalid", code=1)
        assert "host.invalid:1883" in said and "Lookup" in said, said
    said = martlet("bench", "pipes", "--clients", "1", "--port", str(port), code=1)
    assert f":{port}" in said, said


def test_a_port_for_tls_is_told_from_others(start_node, tmp_path):
    authority = tmp_path / "certs"
    martlet("cert", "ca", "--dir", authority)
    martlet("cert", "server", "localhost", "127.0.0.1", "--dir", authority)
    node = start_node(listen=["mqtts://127.0.0.1:0"],
                      settings=[f"tls.certificate={authority}/server.crt", f"tls.key={authority}/server.key"])
    port = node.port("mqtts")
    for command in (["sub", "-t", "t"], ["pub", "-t", "t", "-m", "m"], ["rr", "-t", "t", "-e", "r", "-m", "m"]):
        said = martlet(*command, "-h", "127.0.0.1", "-p", str(port), code=2)
        assert f"Port {port} may be a TLS port" in said and "--cafile FILE" in said, said
    said = martlet("bench", "pipes", "--clients", "1", "--port", str(port), code=1)
    assert "answered with TLS" in said and "--cafile FILE" in said, said
    said = martlet("pub", "-h", "127.0.0.1", "-p", str(port), "--cafile", authority / "ca.crt", "-t", "t", "-m", "m")
    assert said == ""
    # A port of HTTP, and one without it.
    web = start_node(listen=["ws://127.0.0.1:0/mqtt", "mqtt://127.0.0.1:0"], http=True)
    for port in (web.port("ws"), int(web.http_url.rsplit(":")[-1])):
        said = martlet("pub", "-h", "127.0.0.1", "-p", str(port), "-t", "t", "-m", "m", code=2)
        assert f"127.0.0.1:{port} answered with HTTP, not with MQTT" in said and "TLS" not in said, said
        assert f"Port {port} is a port of HTTP" in said, said
        said = martlet("bench", "pipes", "--clients", "1", "--port", str(port), code=1)
        assert "answered with HTTP, not with MQTT" in said and "give the port of MQTT" in said, said
        said = martlet("bench", "fairness", "--port", str(port), code=1)
        assert "answered with HTTP, not with MQTT" in said and "give the port of MQTT" in said, said
    for port, told in ((web.port("mqtt"), "may be a port of MQTT without WebSocket"),
                       (int(web.http_url.rsplit(":")[-1]), "is a port of HTTP without a WebSocket at this path")):
        said = martlet("pub", "--ws", "-h", "127.0.0.1", "-p", str(port), "-t", "t", "-m", "m", code=1)
        assert f"Port {port} {told}" in said, said
    # And the other way round.
    plain = start_node().port()
    said = martlet("pub", "-h", "127.0.0.1", "-p", str(plain), "--cafile", authority / "ca.crt", "-t", "t", "-m", "m", code=1)
    assert f"Port {plain} may be a port without TLS" in said, said


def test_words_of_other_programs_lead_to_ours_and_never_to_the_opposite(tmp_path):
    for command, meant in (("device revoke", "rm"), ("device delete", "rm"), ("device remove", "rm"), ("user revoke", "rm"),
                           ("team revoke", "rm"), ("key revoke", "rm"), ("cert delete", "revoke"), ("device all", "ls"),
                           ("device new", "add"), ("device disable", "set"), ("user enable", "set"), ("device undelete", "restore"),
                           ("device type revoke", "rm"), ("role permit", "allow"), ("group delete", "rm")):
        said = martlet(*command.split(), "x", code=2)
        assert f"'{meant}'" in said and (meant == "restore" or "'restore'" not in said), said
    assert "'restore'" in martlet("device", "restor", "x", code=2)


def test_what_is_missing_is_said_with_the_command_that_makes_it(tmp_path):
    for command in (["server", "x"], ["client", "x"], ["crl"], ["revoke", "x"]):
        said = martlet("cert", *command, "--dir", tmp_path / "c d", code=1)
        assert f"martlet cert ca --dir '{tmp_path}/c d'" in said, said
    assert not (tmp_path / "c d").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="root alone becomes somebody else")
def test_who_may_not_ask_the_node_is_told_so(start_node, tmp_path):
    os.chmod(tmp_path.parent.parent, 0o755)
    os.chmod(tmp_path.parent, 0o755)
    os.chmod(tmp_path, 0o755)
    node = start_node(data_dir=tmp_path / "data")
    os.chmod(tmp_path / "data", 0o755)
    program = tmp_path / "martlet"
    program.write_bytes(open(martlet_process.binary(), "rb").read())
    program.chmod(0o755)
    for command in (["status"], ["clients"], ["health"], ["stop"], ["reload"]):
        done = subprocess.run(["setpriv", "--reuid", "65534", "--clear-groups", program, *command, "--data-dir", node.data_dir],
                              capture_output=True, text=True, cwd="/")
        assert done.returncode != 0 and "Permission denied" in done.stderr, done
        assert f"permission denied for the node at {node.data_dir}/admin.sock" in done.stderr and "no node answers" not in done.stderr


def test_lists_are_had_by_both_words_and_one_is_shown(filled, tmp_path):
    authority = tmp_path / "certs"
    martlet("cert", "ca", "--dir", authority)
    at = ["--data-dir", str(filled.path)]
    lists = [["client"], ["session"], ["retained"], ["user"], ["device"], ["device", "type"], ["group"], ["key"], ["team"],
             ["team", "member"], ["ban"], ["provision"], ["role"], ["lockout"], ["trace"], ["cert"]]
    for command in lists:
        where = ["--dir", str(authority)] if command == ["cert"] else at
        which = ["t1"] if command == ["team", "member"] else []
        both = [martlet_process.run(*command, word, *which, *where) for word in ("ls", "list")]
        assert [done.returncode for done in both] == [0, 0], (command, both)
        assert both[0].stdout == both[1].stdout or command in (["client"], ["session"]), command
        shown = martlet_process.run(*command, "--help").stdout
        assert re.search(r"^  ls ", shown, re.MULTILINE) and not re.search(r"^  list ", shown, re.MULTILINE), command


def test_an_option_of_one_letter_means_the_same_in_commands_that_are_alike(filled):
    for command in ("logs", "events"):
        shown = martlet_process.run(command, "--help").stdout
        assert re.search(r"-t, --trouble", shown), command


def test_logs_takes_the_names_of_the_filters_of_the_api(filled):
    at = ["--data-dir", str(filled.path)]
    lines = lambda *more: martlet_process.run("logs", *more, *at)
    until(lambda: "c1" in lines("--client", "c1").stdout, "the journal has it")
    assert "c1" in lines("--client", "c1").stdout and lines("--client", "c1").stdout == lines("c1").stdout
    assert len(lines("--limit", "1").stdout.splitlines()) == 1
    assert "c2" not in lines("--search", "c1").stdout
    log = lines("--level", "info", "--limit", "500", "--client", "c1")
    assert log.returncode == 0 and "client connected" in log.stdout and "client_id=c2" not in log.stdout, log
    assert lines("--level", "loud").returncode == 1


def test_what_moves_many_clients_says_at_once_if_files_are_few():
    few = lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
    with martlet_process.Node() as node:
        for command in (["fairness"], ["idle", "--clients", "10000"], ["connects", "--clients", "10000"]):
            done = subprocess.run([martlet_process.binary(), "bench", *command, "-p", str(node.port())], capture_output=True,
                                  text=True, timeout=DEADLINE_SECS, preexec_fn=few, env=martlet_process.environment())
            assert done.returncode == 1 and done.stdout == "", done
            assert re.search(r"need \d+ open files, and this shell allows 256 .*ulimit -n \d+", done.stderr), done.stderr
        assert "client connected" not in node.log()


ENDLESS = """
import mosquitto FILE; import microservice FILE; import iotflow FILE; import service-mqtt FILE; agent import FILE --queue QUEUE
device import FILE; rule add r FILE; rule test r --messages FILE; secret set s --file FILE
user add ann --generate --file FILE; user ls --file FILE
acl lint FILE; acl explain a publish b --acl-file FILE; config check -c FILE; config check --mosquitto-conf FILE
firmware add pump 1 FILE --type device; backup verify FILE
"""


def test_no_file_is_read_without_end(filled, tmp_path):
    few = lambda: resource.setrlimit(resource.RLIMIT_AS, (2_000_000_000, 2_000_000_000))
    for command in filter(None, ENDLESS.replace("\n", ";").split(";")):
        words = command.replace("FILE", "/dev/zero").replace("QUEUE", str(tmp_path / "queue")).split()
        place = [] if words[0] in ("acl", "agent", "config", "backup") else ["--data-dir", str(filled.path)]
        done = subprocess.run([martlet_process.binary(), *words, *place], stdin=subprocess.DEVNULL, capture_output=True,
                              text=True, timeout=DEADLINE_SECS, preexec_fn=few, env=martlet_process.environment())
        assert done.returncode in (1, 2) and not re.search("memory|panicked", done.stderr), (command, done)
        assert "/dev/zero" in done.stderr or "firmware is empty" in done.stderr, (command, done)


def test_bench_leaves_no_lines_of_messages_that_were_lost(start_node):
    node = start_node()
    scenarios = [["pipes", "--qos", "0"], ["pipes", "--qos", "2"], ["fan-out", "--qos", "1"], ["share", "--qos", "1"],
                 ["retained", "--messages", "500"], ["offline", "--qos", "1", "--messages", "500"]]
    for scenario in scenarios:
        martlet("bench", *scenario, "--clients", "4", "--duration", "0.1", "--warmup", "0.1", "-p", node.port())
    # The log is complete when the sessions have ended.
    until(lambda: " 0 connected, 0 sessions" in martlet("status", "--data-dir", node.data_dir), "all are gone")
    assert "client disconnected" in node.log() and "messages lost" not in node.log(), node.log()


class Fairness:
    """`martlet bench fairness` of one load, and what it leaves in the broker."""

    def __init__(self, node, load, scale):
        self.node = node
        self.bench = subprocess.Popen([martlet_process.binary(), "bench", "fairness", "-p", str(node.port()), "--load", load,
                                       "--scale", str(scale), "--duration", "0.2"], stdout=subprocess.PIPE,
                                      stderr=subprocess.PIPE, text=True, env=martlet_process.environment())

    def left(self):
        """Sessions, retained messages."""
        metrics = get(self.node, "/metrics")[2]
        return tuple(int(re.search(rf"^{name} (\d+)$", metrics, re.MULTILINE)[1])
                     for name in ("martlet_sessions", "martlet_retained_messages"))

    def ended(self):
        """Its standard error, and nothing left behind it."""
        _, said = self.bench.communicate(timeout=3 * DEADLINE_SECS)
        until(lambda: self.left() == (0, 0), "nothing is left")
        return said


@pytest.mark.parametrize("load", ["fan-out", "wills", "pubrels", "retained"])
def test_bench_fairness_leaves_nothing_in_the_broker(start_node, load):
    run = Fairness(start_node(http=True, settings=["mqtt.sys_interval_secs=0"]), load, 0.002)
    run.ended()


@pytest.mark.parametrize("load", ["fan-out", "retained"])
def test_bench_fairness_leaves_nothing_in_the_broker_when_it_is_interrupted(start_node, load):
    run = Fairness(start_node(http=True, settings=["mqtt.sys_interval_secs=0"]), load, 0.05)
    until(lambda: max(run.left()) > 50, "more than the quiet clients have")
    run.bench.send_signal(signal.SIGINT)
    assert "interrupted" in run.ended() and run.bench.returncode == 130


@pytest.mark.parametrize("scenario", [["pipes"], ["idle"], ["retained", "--messages", "200000"]])
def test_bench_ends_at_once_with_what_it_has_when_it_is_interrupted(start_node, scenario):
    node = start_node(http=True, settings=["mqtt.sys_interval_secs=0"])
    words = ["bench", *scenario, "--clients", "4", "-p", str(node.port())]
    words += [] if "retained" in scenario else ["--duration", "600", "--warmup", "0"]
    bench = subprocess.Popen([martlet_process.binary(), *words], env=martlet_process.environment(), text=True,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    count = lambda name: int(re.search(rf"^{name} (\d+)$", get(node, "/metrics")[2], re.MULTILINE)[1])
    begun = {"idle": "martlet_connections", "retained": "martlet_retained_messages", "pipes": "martlet_delivered_total"}
    until(lambda: count(begun[scenario[0]]) > 3, "it is under way")
    bench.send_signal(signal.SIGINT)
    out, said = bench.communicate(timeout=DEADLINE_SECS)
    assert bench.returncode == 130 and "panicked" not in said and "nterrupted" in said, (out, said)
    assert ("0 lost" in out) if scenario == ["pipes"] else ("connected" in out) == (scenario == ["idle"]), (out, said)
    until(lambda: count("martlet_sessions") == 0, "no session is left")
    assert count("martlet_retained_messages") == 0


def test_what_the_system_says_is_said_once():
    for command in (["cert", "ls", "--dir", "/nowhere"], ["cert", "show", "/nowhere"], ["acl", "lint", "/nowhere"],
                    ["cert", "renew", "server", "--dir", "/nowhere"], ["cert", "check", "127.0.0.1:1", "--cafile", "/nowhere"],
                    ["user", "ls", "--file", "/nowhere"], ["backup", "verify", "/nowhere"], ["device", "import", "/nowhere"],
                    ["config", "check", "--listen", "mqtts://127.0.0.1:1", "--set", "tls.certificate=/nowhere", "--set",
                     "tls.key=/nowhere"]):
        done = martlet_process.run(*command)
        assert done.returncode != 0 and done.stderr.count("os error") <= 1, (command, done.stderr)


@pytest.mark.parametrize("setting, arguments", [("limits.packet_bytes=1000", ["-q", "1", "-m", "x" * 2000]), ("mqtt.max_qos=0", ["-q", "1", "-m", "x"])])
def test_a_client_that_is_put_out_says_where_the_reason_is(start_node, setting, arguments):
    node = start_node(settings=[setting])
    for version in ("311", "5"):
        done = martlet_process.run("pub", "-p", str(node.port()), "-V", version, "-t", "t", *arguments)
        assert done.returncode != 0, done
        assert version == "5" or "martlet logs" in done.stderr, done.stderr


def test_a_url_of_a_unix_socket_names_the_option_for_it():
    done = martlet_process.run("pub", "-L", "unix:///run/mqtt.sock", "-t", "t", "-m", "x")
    assert done.returncode == 1 and "--unix /run/mqtt.sock" in done.stderr, done


def test_the_http_server_takes_a_name_too():
    port = free_port()
    node = subprocess.Popen([martlet_process.binary(), "serve", "--durability", "memory", "--listen", "mqtt://127.0.0.1:0",
                             "--http", f"localhost:{port}"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            env=martlet_process.environment())
    try:
        assert any(text.startswith("See how it is") for text in node.stdout)
        for host in ("127.0.0.1", "localhost"):
            with urllib.request.urlopen(f"http://{host}:{port}/health/live", timeout=DEADLINE_SECS) as answer:
                assert answer.status == 200
    finally:
        node.terminate()
        node.communicate(timeout=DEADLINE_SECS)
    done = martlet_process.run("config", "check", "--set", "http.listen=no.such.host.invalid:80")
    assert done.returncode == 1 and "expected HOST:PORT" in done.stderr


def test_messages_say_what_is_expected_and_how_to_go_on(filled, tmp_path):
    def said(*command, code):
        done = martlet_process.run(*command)
        assert done.returncode == code, (command, done)
        return done.stdout + done.stderr

    of = ["--data-dir", str(filled.path)]
    assert "without + and #" in said("client", "subscriptions", "--topic", "job/#", *of, code=1)
    assert "no topic that nope matches has a retained message" in said("retained", "rm", "nope", *of, code=1)
    said("trace", "pump-7", *of, code=0)
    assert "has ended" in said("trace", "stop", "pump-7", *of, code=0)
    assert "required" in said("trace", "stop", *of, code=2)
    good = tmp_path / "acl"
    good.write_text("user alice\ntopic readwrite up/#\n")
    assert "No problems found." in said("acl", "lint", str(good), code=0)
    said("backup", "create", str(tmp_path / "b"), *of, code=0)
    line = said("backup", "restore", str(tmp_path / "b"), "--data-dir", str(tmp_path / "restored"), code=0).splitlines()[-1]
    node = subprocess.Popen(["sh", "-c", f"exec {line.split(': ', 1)[1]} --listen mqtt://127.0.0.1:0 --http off"],
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=martlet_process.environment())
    try:
        assert any(text.startswith("See how it is") for text in node.stdout)
    finally:
        node.terminate()
        node.communicate(timeout=DEADLINE_SECS)


def test_bench_fairness_leaves_no_lines_of_messages_that_were_lost(start_node):
    """What a client ends itself is no loss: sessions of the load that have messages, connections that read nothing."""
    node = start_node(http=True, settings=["mqtt.sys_interval_secs=0"])
    run = Fairness(node, "fan-out", 0.02)
    run.ended()
    assert "messages lost" not in node.log(), node.log()[-2000:]
