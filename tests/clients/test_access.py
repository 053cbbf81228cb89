"""Who is let in and what they may do: password files, ACL files, the environment, client
certificates; changed while the node runs."""

import json
import os
import pty
import select
import signal
import subprocess
import time

import pytest

import martlet_process
from programs import need
from paho_client import Client
from server_process import free_port
from test_tls import Authority

DEADLINE_SECS = 60


def until(condition, what, within=DEADLINE_SECS):
    """Waits until something is true that has no event of its own. What takes long is asked for less often."""
    deadline, pause_secs = time.monotonic() + within, 0.02
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {within} s"
        time.sleep(pause_secs)
        pause_secs = min(pause_secs * 1.2, 0.2)


def mosquitto_passwd(path, *users, kind="sha512-pbkdf2"):
    path.touch(mode=0o600)
    for user, password in users:
        subprocess.run([need("mosquitto_passwd", "mosquitto"), "-H", kind, "-b", str(path), user, password],
                       check=True, capture_output=True, timeout=DEADLINE_SECS)
    return path


def publish(node, topic, *options, port=None):
    """mosquitto_pub's exit code and what it says."""
    command = [need("mosquitto_pub", "mosquitto-clients"), "-h", "localhost", "-p",
               str(port or node.port()), "-t", topic, "-m", "x", "-q", "1", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_SECS)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("kind", ["sha512-pbkdf2", "sha512", "argon2id"])
def test_users_of_a_password_file_are_let_in(start_node, tmp_path, kind):
    path = tmp_path / "passwd"
    if kind == "argon2id":
        done = martlet_process.run("passwd", "--weak", "-c", "-b", str(path), "alice", "secret")
        assert done.returncode == 0, done.stderr
        assert path.read_text().startswith("alice:$argon2id$")
    else:
        mosquitto_passwd(path, ("alice", "secret"), kind=kind)
    node = start_node(settings=[f"auth.password_file={path}"])
    assert publish(node, "t", "-u", "alice", "-P", "secret")[0] == 0
    code, said = publish(node, "t", "-u", "alice", "-P", "guessed")
    assert code != 0 and "refused" in said
    assert publish(node, "t", "-u", "bob", "-P", "secret")[0] != 0
    assert publish(node, "t")[0] != 0
    until(lambda: "wrong password, according to" in node.log(), "the log says why")
    assert 'user_name="alice"' in node.log() and 'address="127.0.0.1' in node.log()
    assert "secret" not in node.log() and "guessed" not in node.log()


def test_anonymous_clients_come_where_a_listener_lets_them(start_node, tmp_path):
    path = mosquitto_passwd(tmp_path / "passwd", ("alice", "secret"))
    node = start_node(settings=[f"auth.password_file={path}", "mqtt.allow_anonymous=true"])
    assert publish(node, "t")[0] == 0
    assert publish(node, "t", "-u", "alice", "-P", "secret")[0] == 0
    assert publish(node, "t", "-u", "alice", "-P", "wrong")[0] != 0


def test_users_of_the_environment_are_let_in(start_node):
    variables = {"MQTT_BROKER_AUTH_ENABLED": "true", "MQTT_BROKER_ALLOW_ANONYMOUS": "false",
                 "MQTT_BROKER_CREDENTIALS": "user1:password1,user2:pass:word2"}
    node = start_node(variables=variables)
    assert publish(node, "t", "-u", "user1", "-P", "password1")[0] == 0
    assert publish(node, "t", "-u", "user2", "-P", "pass:word2")[0] == 0
    assert publish(node, "t", "-u", "user2", "-P", "password1")[0] != 0
    assert publish(node, "t")[0] != 0
    shown = subprocess.run([martlet_process.binary(), "config", "show"], capture_output=True, text=True,
                           env={**martlet_process.environment(), **variables}, timeout=DEADLINE_SECS)
    assert "password1" not in shown.stdout and "***" in shown.stdout


def checked(*arguments, **variables):
    """What `martlet config check` says in that environment."""
    return subprocess.run([martlet_process.binary(), "config", "check", *arguments], capture_output=True, text=True,
                          env={**martlet_process.environment(), **variables}, timeout=DEADLINE_SECS)


def test_a_broker_that_is_switched_off_opens_no_port():
    done = checked(MQTT_BROKER_ENABLED="false")
    assert done.returncode == 0 and "it has no MQTT listeners" in done.stdout, done
    done = checked("--listen", "mqtt://127.0.0.1:23601", MQTT_BROKER_ENABLED="false")
    assert done.returncode == 0 and "MQTT_BROKER_ENABLED: not used, listeners are configured" in done.stdout
    assert checked(MQTT_BROKER_ENABLED="true", MQTT_BROKER_PORT="23602").returncode == 0


@pytest.mark.parametrize("switch", ["MQTT_BROKER_TLS_ENABLED", "MQTT_USE_TLS"])
def test_tls_of_the_environment_says_that_the_other_port_stays_open(tmp_path, switch):
    made = subprocess.run([martlet_process.binary(), "cert", "ca", "--dir", tmp_path], capture_output=True, text=True)
    made = subprocess.run([martlet_process.binary(), "cert", "server", "localhost", "--dir", tmp_path], capture_output=True,
                          text=True, timeout=DEADLINE_SECS)
    assert made.returncode == 0, made.stderr
    files = {"MQTT_BROKER_TLS_ENABLED": ("MQTT_BROKER_TLS_CERT_FILE", "MQTT_BROKER_TLS_KEY_FILE"),
             "MQTT_USE_TLS": ("MQTT_CERT_FILE_PATH", "MQTT_KEY_FILE_PATH")}[switch]
    variables = dict(zip(files, (str(tmp_path / "server.crt"), str(tmp_path / "server.key"))))
    done = checked(**variables, **{switch: "true", "MQTT_BROKER_PORT": "23603"})
    assert done.returncode == 0, done.stderr
    assert f"environment {switch}: 127.0.0.1:23603 is open without TLS too" in done.stdout
    assert "mqtt://127.0.0.1:23603" in done.stdout and "mqtts://127.0.0.1:8883" in done.stdout
    done = checked("--listen", "mqtts://127.0.0.1:23604", **variables,
                   **{switch: "true", "MARTLET_TLS__CERTIFICATE": variables[files[0]], "MARTLET_TLS__KEY": variables[files[1]]})
    assert "mqtt://" not in done.stdout.rsplit("listens on", 1)[-1]


def test_a_secret_is_not_taken_from_the_command_line():
    done = martlet_process.run("config", "check", "--set", "auth.credentials=user:hunter2")
    assert done.returncode != 0
    assert "MARTLET_AUTH__CREDENTIALS" in done.stderr and "hunter2" not in done.stderr


ACL = """\
user alice
topic write up/#
topic read down/#
user bob
topic readwrite #
topic deny up/secret
pattern read own/%c
"""


@pytest.fixture
def guarded(start_node, tmp_path):
    """A node with a password file and an ACL file, and both paths."""
    passwords = mosquitto_passwd(tmp_path / "passwd", ("alice", "a"), ("bob", "b"))
    acl = tmp_path / "acl"
    acl.write_text(ACL)
    node = start_node(settings=[f"auth.password_file={passwords}", f"auth.acl_file={acl}"], http=True)
    return node, passwords, acl


def alice(node, client_id="alice-1", **more):
    return Client(node, client_id, **more).credentials("alice", "a")


def bob(node, client_id="bob-1", **more):
    return Client(node, client_id, **more).credentials("bob", "b")


def test_an_acl_file_decides_each_message(guarded):
    node, _, _ = guarded
    with alice(node) as writer, bob(node) as reader:
        reader.subscribe("#")
        writer.subscribe("#")
        writer.publish("up/1", "1", qos=1)
        assert reader.receive().topic == "up/1"
        writer.publish("up/secret", "hidden", qos=0)
        reader.publish("down/1", "2", qos=1)
        assert writer.receive().topic == "down/1"
        assert reader.receive().topic == "down/1"
        reader.publish("own/alice-1", "3", qos=1)
        assert writer.receive().topic == "own/alice-1"
        reader.publish("other", "4", qos=1)
        reader.publish("down/2", "5", qos=1)
        assert writer.receive().topic == "down/2"


def test_a_changed_acl_file_holds_for_who_is_connected(guarded):
    node, _, acl = guarded
    with alice(node) as writer, bob(node) as reader:
        reader.subscribe("#", qos=1)
        writer.publish("up/1", "1", qos=1)
        assert reader.receive().payload == b"1"
        acl.write_text(ACL.replace("topic write up/#", "topic write up/2"))
        assert martlet_process.run("reload", "--data-dir", node.data_dir).returncode == 0
        writer.publish("up/1", "refused", qos=0)
        writer.publish("up/2", "2", qos=1)
        assert reader.receive().payload == b"2"


def test_a_bad_file_leaves_what_held_and_says_so(guarded):
    node, passwords, acl = guarded
    acl.write_text("user alice\ntopics up/#\n")
    done = martlet_process.run("reload", "--data-dir", node.data_dir)
    assert done.returncode != 0 and "acl line 2" in done.stderr
    assert done.stderr.startswith("martlet: ") and "{" not in done.stderr, done.stderr
    done = martlet_process.run("reload", "--json", "--data-dir", node.data_dir)
    assert done.returncode != 0 and "acl line 2" in json.loads(done.stdout)["detail"], done
    assert publish(node, "up/1", "-u", "alice", "-P", "a")[0] == 0
    status = martlet_process.run("status", "--data-dir", node.data_dir)
    assert "The last reload failed" in status.stdout
    # The node is asked, not the file that it has not taken.
    told = martlet_process.run("acl", "explain", "alice", "publish", "up/1", "--data-dir", node.data_dir)
    assert told.returncode == 0 and f"{acl} line 2" in told.stdout, told
    assert "source: the running node" in told.stdout
    acl.write_text(ACL)
    node.process.send_signal(signal.SIGHUP)
    until(lambda: "reload failed" not in
          martlet_process.run("status", "--data-dir", node.data_dir).stdout, "the warning goes")
    passwords.unlink()
    assert martlet_process.run("reload", "--data-dir", node.data_dir).returncode != 0
    assert publish(node, "up/1", "-u", "alice", "-P", "a")[0] == 0


def test_a_file_that_changes_is_read_again_and_who_is_gone_is_gone(guarded):
    node, passwords, _ = guarded
    with alice(node) as gone, bob(node) as stays:
        # As Kubernetes and editors do: another file takes the place.
        done = martlet_process.run("user", "rm", "alice", "--file", str(passwords))
        assert done.returncode == 0, done.stderr
        gone.wait_for_end()
        stays.publish("x", "1", qos=1)
    assert publish(node, "up/1", "-u", "alice", "-P", "a")[0] != 0
    done = subprocess.run([martlet_process.binary(), "user", "add", "carol", "--weak", "--file", str(passwords)],
                          input="c\n", text=True, capture_output=True, timeout=DEADLINE_SECS)
    assert done.returncode == 0, done.stderr
    until(lambda: publish(node, "own/x", "-u", "carol", "-P", "c")[0] == 0, "carol is let in")


@pytest.mark.long
def test_a_file_is_read_within_a_second_of_its_last_change(guarded):
    node, passwords, _ = guarded
    took = []
    reloads = lambda: node.log().count("reloaded")
    for number in range(5):
        before = reloads()
        martlet_process.run("user", "rm", "alice", "--file", str(passwords))
        changed = time.monotonic()
        while reloads() == before:
            assert time.monotonic() < changed + DEADLINE_SECS
            time.sleep(0.005)
        took.append(time.monotonic() - changed)
        before = reloads()
        done = subprocess.run([martlet_process.binary(), "user", "add", "alice", "--weak", "--file", str(passwords)],
                              input="a\n", text=True, capture_output=True, timeout=DEADLINE_SECS)
        assert done.returncode == 0, done.stderr
        until(lambda: reloads() > before, "the file is read again")
        until(lambda: publish(node, "own/x", "-u", "alice", "-P", "a")[0] == 0, "alice is let in")
    # One of them may have met a busy machine.
    assert sorted(took)[2] < 1, took


def test_a_session_is_taken_over_by_its_own_user_alone(guarded):
    node, _, _ = guarded
    with alice(node, client_id="one") as first:
        with bob(node, client_id="one") as other:
            assert other.connack.is_failure
        first.publish("up/1", "still there", qos=1)


def test_the_subject_of_a_client_certificate_is_its_user(start_node, tmp_path):
    authority = Authority(tmp_path / "ca")
    server = authority.sign("server")
    acl = tmp_path / "acl"
    acl.write_text("user device-7\ntopic write d/7\n")
    node = start_node(
        settings=[f"tls.certificate={server[0]}", f"tls.key={server[1]}",
                  f"tls.client_ca={authority.certificate}", "tls.client_certificates=required",
                  "auth.certificate_user_name=common-name", f"auth.acl_file={acl}"],
        listen=("mqtts://127.0.0.1:0",))
    device = authority.sign("device-7", usage="clientAuth")
    own = ["--cafile", authority.certificate, "--cert", device[0], "--key", device[1]]
    assert publish(node, "d/7", *own, port=node.port("mqtts"))[0] == 0
    code, said = publish(node, "d/8", "-V", "5", *own, port=node.port("mqtts"))
    assert "ot authorized" in said, (code, said)


def served_certificate(port):
    done = subprocess.run([need("openssl", "openssl"), "s_client", "-connect", f"127.0.0.1:{port}"],
                          input="", capture_output=True, text=True, timeout=DEADLINE_SECS)
    return done.stdout[done.stdout.find("-----BEGIN"):done.stdout.find("-----END")]


def test_a_new_certificate_is_served_without_a_restart(start_node, tmp_path):
    """As Kubernetes mounts secrets: a link to a directory is turned to another one."""
    authority = Authority(tmp_path / "ca")
    for name in ["old", "new"]:
        (tmp_path / name).mkdir()
        certificate, key = authority.sign(name)
        os.rename(certificate, tmp_path / name / "tls.crt")
        os.rename(key, tmp_path / name / "tls.key")
    os.symlink("old", tmp_path / "current")
    node = start_node(settings=[f"tls.certificate={tmp_path}/current/tls.crt",
                                f"tls.key={tmp_path}/current/tls.key"],
                      listen=("mqtt://127.0.0.1:0", "mqtts://127.0.0.1:0"))
    port = node.port("mqtts")
    before = served_certificate(port)
    with Client(node, "stays") as stays:
        os.symlink("new", tmp_path / "next")
        os.rename(tmp_path / "next", tmp_path / "current")
        until(lambda: served_certificate(port) not in ("", before), "the new certificate")
        after = served_certificate(port)
        # A key of another certificate: the new one stays.
        os.unlink(tmp_path / "new" / "tls.key")
        os.link(tmp_path / "old" / "tls.key", tmp_path / "new" / "tls.key")
        until(lambda: "does not belong" in node.log(), "the log says what is wrong")
        assert served_certificate(port) == after
        stays.publish("t", "1", qos=1)


def typed_at_a_terminal(command, *lines):
    """Runs a command on a terminal and types when it asks; what it printed, and its exit code."""
    child, terminal = pty.fork()
    if child == 0:
        os.environ.update(martlet_process.environment())
        os.execv(command[0], command)
    seen = b""
    for line in lines:
        while not seen.endswith(b": "):
            assert select.select([terminal], [], [], DEADLINE_SECS)[0], f"no prompt: {seen}"
            seen += os.read(terminal, 1024)
        os.write(terminal, line.encode() + b"\n")
        seen += b"|"
    try:
        while select.select([terminal], [], [], DEADLINE_SECS)[0] and (more := os.read(terminal, 1024)):
            seen += more
    except OSError:
        pass  # The other side has closed it.
    return seen.decode(), os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.parametrize("as_mosquitto", [False, True])
def test_a_password_is_asked_for_twice_without_echo(tmp_path, as_mosquitto):
    path = tmp_path / "passwd"
    command = [martlet_process.binary(), "passwd"]
    if as_mosquitto:
        link = tmp_path / "mosquitto_passwd"
        link.symlink_to(martlet_process.binary())
        command = [str(link)]
    seen, code = typed_at_a_terminal([*command, "-c", str(path), "alice"], "long secret", "long secret")
    assert code == 0 and "secret" not in seen and "Reenter password" in seen, seen
    seen, code = typed_at_a_terminal([*command, str(path), "alice"], "long secret", "other secret")
    assert code == 1 and "differ" in seen, seen
    hashed = "$7$" if as_mosquitto else "$argon2id$"
    assert path.read_text().startswith(f"alice:{hashed}")
    assert path.stat().st_mode & 0o777 == 0o600


def test_password_files_of_ours_are_read_by_mosquitto(tmp_path):
    path = tmp_path / "passwd"
    link = tmp_path / "mosquitto_passwd"
    link.symlink_to(martlet_process.binary())
    subprocess.run([str(link), "-c", "-b", str(path), "alice", "secret"], check=True, timeout=DEADLINE_SECS)
    port = free_port()
    config = tmp_path / "mosquitto.conf"
    config.write_text(f"listener {port} 127.0.0.1\npassword_file {path}\nuser root\n")
    broker = subprocess.Popen([need("mosquitto", "mosquitto"), "-c", str(config)],
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until(lambda: publish(None, "t", "-u", "alice", "-P", "secret", port=port)[0] == 0, "it is let in")
        assert publish(None, "t", "-u", "alice", "-P", "wrong", port=port)[0] != 0
    finally:
        broker.kill()
        broker.wait()


def test_an_acl_file_is_explained_and_looked_through(tmp_path):
    acl = tmp_path / "acl"
    acl.write_text("user alice\ntopic up/#\ntopic read up/1\n")
    told = martlet_process.run("acl", "explain", "alice", "publish", "up/2", "--acl-file", str(acl))
    assert told.returncode == 0 and f"permitted: {acl} line 2: topic readwrite up/#" in told.stdout
    told = martlet_process.run("acl", "explain", "-", "publish", "up/2", "--acl-file", str(acl))
    assert told.returncode == 1 and "no line of anonymous clients" in told.stdout
    found = martlet_process.run("acl", "lint", str(acl))
    assert found.returncode == 1 and "line 3" in found.stdout


def test_who_tries_passwords_is_locked_out_and_nobody_else(start_node, tmp_path):
    path = mosquitto_passwd(tmp_path / "passwd", ("alice", "secret"), ("bob", "b"))
    node = start_node(settings=[f"auth.password_file={path}", "auth.lockout_failures=5", "auth.lockout_secs=5",
                                "auth.remember_secs=0"])
    assert publish(node, "t", "-u", "bob", "-P", "b")[0] == 0
    for number in range(5):
        assert publish(node, "t", "-u", "alice", "-P", f"guess-{number}")[0] != 0
    assert publish(node, "t", "-u", "alice", "-P", "secret")[0] != 0
    until(lambda: "locked out for" in node.log(), "the log says why")
    assert publish(node, "t", "-u", "bob", "-P", "b")[0] == 0, "it was right from this address"
    until(lambda: publish(node, "t", "-u", "alice", "-P", "secret")[0] == 0, "it is over")


def test_a_password_is_made_up_and_shown_once(start_node, tmp_path):
    path = tmp_path / "passwd"
    done = martlet_process.run("user", "add", "device-1", "--generate", "--json", "--file", str(path))
    password = json.loads(done.stdout)["password"]
    assert len(password) == 24 and password not in path.read_text()
    node = start_node(settings=[f"auth.password_file={path}"])
    assert publish(node, "t", "-u", "device-1", "-P", password)[0] == 0
    assert martlet_process.run("user", "ls", "--file", str(path)).stdout == "USER\ndevice-1\n"
    assert "already exists" in martlet_process.run("user", "add", "device-1", "--file", str(path)).stderr


def test_who_is_removed_by_command_is_gone_at_once(guarded):
    """Without waiting until the node looks at the file: from the command's end on."""
    node, passwords, _ = guarded
    for number in range(3):
        user = f"temporary-{number}"
        done = martlet_process.run("user", "add", user, "--generate", "--json", "--file", str(passwords), "--data-dir",
                                   node.data_dir)
        password = json.loads(done.stdout)["password"]
        client = Client(node, user).credentials(user, password)
        with client:
            done = martlet_process.run("user", "rm", user, "--file", str(passwords), "--data-dir", node.data_dir)
            assert "Applied to the running node." in done.stdout, done.stderr
            client.wait_for_end()


@pytest.mark.parametrize("allowed", [True, False])
def test_a_weak_hash_is_renewed_when_its_user_comes_and_nobody_is_cut_off(start_node, tmp_path, allowed):
    path = mosquitto_passwd(tmp_path / "passwd", ("alice", "secret"), ("bob", "word"))
    before = path.read_text().splitlines()
    node = start_node(settings=[f"auth.password_file={path}", f"auth.renew_hashes={str(allowed).lower()}"])
    with Client(node, "c1").credentials("alice", "secret") as client:
        if not allowed:
            assert path.read_text().splitlines() == before
            return
        until(lambda: path.read_text().startswith("alice:$argon2id$"), "it is renewed")
        assert path.read_text().splitlines()[1:] == before[1:], "nobody else's"
        node.wait_for_log("reloaded (a file has changed")
        client.subscribe("t")
        client.publish("t", "still here")
        assert client.receive_payload() == "still here"
    assert publish(node, "t", "-u", "alice", "-P", "secret")[0] == 0
    assert publish(node, "t", "-u", "alice", "-P", "wrong")[0] != 0


def test_lint_names_lines_that_are_wider_than_what_their_users_do(start_node, tmp_path):
    path = mosquitto_passwd(tmp_path / "passwd", ("alice", "secret"), ("bob", "word"))
    acl = tmp_path / "acl"
    acl.write_text("user alice\ntopic readwrite home/#\nuser bob\ntopic read home/+/temp\n")
    node = start_node(settings=[f"auth.password_file={path}", f"auth.acl_file={acl}"])
    lint = ["acl", "lint", str(acl), "--traffic", "--data-dir", node.data_dir]
    with Client(node, "c1").credentials("alice", "secret") as alice, Client(node, "c2").credentials("bob", "word") as bob:
        bob.subscribe("home/+/temp")
        for room in range(5):
            alice.publish(f"home/{room}/temp", "20")
            assert bob.receive_payload() == "20"
        found = martlet_process.run(*lint)
    assert found.returncode == 1
    assert found.stdout.splitlines() == [
        "line 2: `topic readwrite home/#` is wider than the traffic seen: `topic write home/+/temp` would do for "
        "its 5 uses"], found.stdout


def test_mosquitto_passwd_compares_two_lines_of_a_pipe(tmp_path):
    path, link = tmp_path / "passwd", tmp_path / "mosquitto_passwd"
    link.symlink_to(martlet_process.binary())
    path.touch()
    for lines, code in [("x\ny\n", 1), ("x\n\n", 1), ("x\nx\n", 0), ("x\n", 0)]:
        path.write_text("")
        done = subprocess.run([str(link), str(path), "alice"], input=lines, text=True, capture_output=True,
                              timeout=DEADLINE_SECS)
        assert done.returncode == code and ("differ" in done.stderr) == (code == 1), (lines, done)
        assert ("alice:" in path.read_text()) == (code == 0)


@pytest.mark.parametrize("name, usage", [("mosquitto_passwd", "martlet passwd "),
                                         ("generate_certs.sh", "martlet cert script\n")])
def test_a_link_is_used_as_its_help_says(tmp_path, name, usage):
    link = tmp_path / name
    link.symlink_to(martlet_process.binary())
    said = subprocess.run([str(link), "--help"], capture_output=True, text=True, timeout=DEADLINE_SECS).stdout
    assert f"Usage: {usage}" in said, said


LOCKED_OUT = {
    "empty": "",
    "comments": "# topic readwrite #\n",
    "denies": "user alice\ntopic deny #\ntopic readwrite a/#\n",
    "of somebody else": "user carol\ntopic readwrite #\n",
}


@pytest.mark.parametrize("text", LOCKED_OUT.values(), ids=LOCKED_OUT)
def test_an_acl_file_that_permits_nobody_anything_is_warned_of(start_node, tmp_path, text):
    passwords = mosquitto_passwd(tmp_path / "passwd", ("alice", "secret"), ("bob", "secret"))
    acl = tmp_path / "acl"
    acl.write_text("user alice\ntopic readwrite #\n")
    settings = [f"auth.password_file={passwords}", f"auth.acl_file={acl}"]
    run = lambda *arguments: martlet_process.run(*arguments, "--data-dir", node.data_dir)
    warns = lambda told: str(acl) in told and "may publish or receive" in told and "user NAME" in told
    node = start_node(settings=settings)
    assert not warns(node.log()) and not warns(run("health").stdout)
    acl.write_text(text)
    assert run("reload").returncode == 0
    until(lambda: warns(node.log()), "the log warns")
    assert warns(node.log()) and warns(run("health").stdout), node.log()
    acl.write_text("user alice\ntopic readwrite #\n")
    assert run("reload").returncode == 0
    assert not warns(run("health").stdout), "it is over"
    acl.write_text(text)
    checked = run("config", "check", *(f"--set={one}" for one in settings), "--listen", "mqtt://127.0.0.1:0")
    assert checked.returncode == 0 and warns(checked.stdout), checked
    again = start_node(settings=settings)
    again.wait_for_log("may publish or receive")
    assert warns(again.log())
    if "carol" not in text:
        linted = martlet_process.run("acl", "lint", str(acl))
        assert linted.returncode == 1 and warns(linted.stdout), linted


def test_roles_that_permit_nobody_anything_are_warned_of(start_node, tmp_path):
    run = lambda *arguments: martlet_process.run(*arguments, "--data-dir", str(tmp_path / "data"))
    assert run("role", "add", "quiet", "--rule", "topic deny #").returncode == 0
    assert run("user", "add", "alice", "--role", "quiet", "--generate").returncode == 0
    node = start_node(data_dir=tmp_path / "data")
    warns = lambda: "may publish or receive anything" in run("health").stdout
    node.wait_for_log("the role quiet")
    assert warns()
    assert "no rule permits anything" in run("acl", "lint").stdout
    assert run("role", "allow", "quiet", "topic read news").returncode == 0
    assert run("reload").returncode == 0
    assert not warns()


def test_a_new_hash_is_one_that_the_readers_of_the_file_know(tmp_path):
    """Mosquitto reads $argon2id$ from 2.1 on only; $6$ is guessed quickly."""
    fresh, old, ours = tmp_path / "fresh", tmp_path / "old", tmp_path / "ours"
    add = lambda path, *more: martlet_process.run("user", "add", "device", "--generate", "--file", str(path), *more)
    hashed = lambda path, user="device": next(line for line in path.read_text().splitlines() if line.startswith(user))
    mosquitto_passwd(old, ("alice", "secret"), kind="sha512")
    assert martlet_process.run("passwd", "-c", "-b", str(ours), "alice", "long secret").returncode == 0
    for path, kind in [(fresh, "$7$"), (old, "$7$"), (ours, "$argon2id$")]:
        assert add(path).returncode == 0
        assert hashed(path).startswith(f"device:{kind}"), path.read_text()
    assert martlet_process.run("passwd", "-b", str(old), "bob", "long secret").returncode == 0
    assert hashed(old, "bob").startswith("bob:$7$") and hashed(ours, "alice").startswith("alice:$argon2id$")
    told = tmp_path / "told"
    assert add(told, "--hash", "argon2id").returncode == 0 and hashed(told).startswith("device:$argon2id$")


def test_who_gives_no_password_is_told_how_to_get_one(tmp_path):
    for at in (["--data-dir", str(tmp_path / "data")], ["--file", str(tmp_path / "passwd")]):
        done = martlet_process.run("user", "add", "alice", *at)
        assert done.returncode == 1 and "no password" in done.stderr and "--generate" in done.stderr, done.stderr
    done = martlet_process.run("passwd", "-c", str(tmp_path / "passwd"), "alice")
    assert done.returncode == 1 and "-b FILE USER PASSWORD" in done.stderr, done.stderr
