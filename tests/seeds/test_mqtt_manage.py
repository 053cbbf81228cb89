"""mqtt_manage.sh of IoTFlow, generate_certs.sh of the TLS guide and mqtt: links to the program, which
behaves as the programs by these names."""

import os
import re
import signal
import stat
import subprocess
import time

import pytest

import martlet_process
from programs import Mosquitto, Output
from server_process import free_ports
from test_sinks import until


class Script:
    """mqtt_manage.sh in a directory of its own, with ports that nobody else uses."""

    def __init__(self, place):
        self.place = place
        self.port, web = free_ports(2)
        (place / "mqtt_manage.sh").symlink_to(martlet_process.binary())
        settings = [f"MQTT_PORT={self.port}", f"MQTT_WEBSOCKET_PORT={web}", "MARTLET_HTTP__LISTEN=off"]
        (place / ".env").write_text("\n".join(settings) + "\n")

    def __call__(self, line, code=0, cwd=None, path=None, **variables):
        done = subprocess.run([path or "./mqtt_manage.sh", *line.split()], cwd=cwd or self.place, capture_output=True,
                              text=True, timeout=60, stdin=subprocess.DEVNULL,
                              env={**martlet_process.environment(), **variables})
        assert done.returncode != 0 if code is None else done.returncode == code, done
        return done.stdout + done.stderr

    def users(self):
        rows = [line.split() for line in self("list-users").splitlines()[1:]]
        return {row[0]: row[1] for row in rows}

    def publishes(self, topic, user, password, *options):
        line = ["mosquitto_pub", "-h", "localhost", "-p", str(self.port), "-V", "5", "-q", "1", "-t", topic, "-m", "x",
                "-u", user, "-P", password, *options]
        done = subprocess.run(line, capture_output=True, text=True, timeout=60)
        return done.returncode == 0 and "Warning" not in done.stderr


@pytest.fixture
def script(tmp_path):
    script = Script(tmp_path)
    yield script
    script("stop")


def test_the_document_from_top_to_bottom(script):
    started = script("setup")
    assert "The broker runs" in started and stat.S_IMODE((script.place / "data").stat().st_mode) == 0o700
    # Who can connect, and what comes next.
    assert "MQTT is open to every client on this machine, closed to all others" in started
    assert "MQTT_HOST=0.0.0.0 in .env, then ./mqtt_manage.sh restart" in started
    assert re.search(r"^Open: mqtt://127.0.0.1:\d+.*, ws://127.0.0.1:\d+/\*", started, re.M), started
    assert "Closed" not in started, started
    assert "./mqtt_manage.sh setup-admin makes the administrator" in started
    told = script("setup-admin")
    password = re.search(r"shown this once: (\S+)", told).group(1)
    line = re.search(r"Test it: ./mqtt_manage.sh (.*)", told).group(1)
    assert line == f"test admin {password}"
    assert "clients" in script("status") and str(script.port) in script("status")
    script("generate-device sensor_001")
    # The document's password passes once it is set.
    assert "Failed" in script("test admin admin123", code=None)
    assert f"Passed: published to iotflow/test at localhost:{script.port} as admin" in script(line)
    assert "fewer than 10 characters" in script("setup-admin admin123")
    assert "Passed" in script("test admin admin123")
    assert script.users() == {"admin": "administrator"}
    assert "ready" in script("logs")
    script("create-user device001 secretpassword")
    assert script.users() == {"admin": "administrator", "device001": "iotflow"}
    assert "Passed" in script("test device001 secretpassword")
    script("delete-user device001")
    assert script.users() == {"admin": "administrator"}
    # Its name is free.
    script("create-user device001 anotherpassword")
    script("generate-device my_sensor")
    told = script("backup")
    [made] = (script.place / "backups").iterdir()
    assert re.fullmatch(r"mqtt_\d{8}_\d{6}", made.name) and str(made) in told
    assert {path.name for path in made.iterdir()} == {"martlet.backup", ".env"}
    assert stat.S_IMODE((made / ".env").stat().st_mode) == 0o600
    assert "complete" in martlet_process.run("backup", "verify", str(made / "martlet.backup")).stdout
    assert "stopped" in script("stop")
    for line in ("status", "test admin admin123"):
        told = script(line, code=1)
        assert "The broker does not run; ./mqtt_manage.sh start starts it" in told and "serve" not in told, told
    # Without its variable the documented port of WebSocket is closed.
    variables = script.place / ".env"
    before = variables.read_text()
    variables.write_text(re.sub(r"MQTT_WEBSOCKET_PORT=.*\n", "", before))
    told = script("setup")
    opens = "MQTT_WEBSOCKET_PORT=9001 in .env, then ./mqtt_manage.sh restart"
    assert f"Closed: 9001 (WebSocket); to open it: {opens}" in told, told
    script("stop")
    variables.write_text(before)
    assert "ready" in script("logs")
    # Once there is a user, credentials are needed.
    assert "clients need credentials" in script("setup") and "runs already" in script("start")
    assert "Passed" in script("test admin admin123")
    assert "The broker runs" in script("restart")
    # A mistake stops no broker that runs.
    variables.write_text(before + "MQTT_BROKER_CREDENTIALS=:::\n")
    assert "was not restarted" in script("restart", code=1)
    variables.write_text(before)
    assert "clients" in script("status")


def test_the_tls_block_of_the_document(script):
    """The port without TLS stays open beside it, and is tested without TLS."""
    (script.place / "generate_certs.sh").symlink_to(martlet_process.binary())
    assert subprocess.run(["./generate_certs.sh"], cwd=script.place, capture_output=True, timeout=60).returncode == 0
    [tls] = free_ports(1)
    variables, certs = script.place / ".env", "config/certs"
    variables.write_text(variables.read_text() + f"MQTT_USE_TLS=true\nMQTT_TLS_PORT={tls}\n"
                         f"MQTT_CERT_FILE_PATH={certs}/server.crt\nMQTT_KEY_FILE_PATH={certs}/server.key\n")
    script("setup")
    script("setup-admin admin123")
    assert f"Passed: published to iotflow/test at localhost:{script.port} as admin" in script("test admin admin123")
    secure = ("-p", str(tls), "--cafile", script.place / certs / "ca.crt")
    assert script.publishes("iotflow/test", "admin", "admin123", *secure)


def test_a_device_has_its_credentials_in_a_file(script):
    script("generate-device sensor_001")
    path = script.place / "device_credentials_sensor_001.txt"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    text = path.read_text()
    told = dict(line.split(": ", 1) for line in text.splitlines())
    assert told["Device ID"] == told["Username"] == told["Client ID"] == "sensor_001"
    assert (told["MQTT Host"], told["MQTT Port"]) == ("localhost", str(script.port))
    assert len(told["Password"]) >= 24 and re.match(r"\d{4}-\d\d-\d\d", told["Generated"])
    # It is not written over, and the device keeps its password.
    assert "not overwritten" in script("generate-device sensor_001", code=1)
    assert path.read_text() == text
    script("start")
    own = lambda password: script.publishes("iotflow/devices/sensor_001/telemetry/sensors", "sensor_001", password,
                                            "-i", "sensor_001")
    assert own(told["Password"])
    assert not script.publishes("iotflow/devices/other/telemetry/sensors", "sensor_001", told["Password"], "-i", "sensor_001")
    assert "Passed" in script(f"test sensor_001 {told['Password']}")
    path.unlink()
    assert "the old one is no longer valid" in script("generate-device sensor_001")
    new = re.search(r"^Password: (\S+)$", path.read_text(), re.M).group(1)
    assert own(new) and not own(told["Password"])
    assert "is not a valid id of a device" in script("generate-device a/b", code=1)
    assert not list(script.place.glob("device_credentials_a*"))
    # What cannot be added leaves no file.
    script("generate-device 77", code=1)
    assert not list(script.place.glob("device_credentials_77*"))


def test_users_have_the_topics_of_their_name_and_the_administrator_all(script):
    script("setup-admin admin123")
    script("create-user device001 secretpassword")
    script("start")
    user = ("device001", "secretpassword")
    assert script.publishes("iotflow/devices/device001/telemetry/sensors", *user)
    assert script.publishes("iotflow/devices/device001/status/online", *user, "-i", "any-client-identifier")
    for topic in ["iotflow/devices/other/telemetry/sensors", "iotflow/devices/device001/commands/control",
                  "iotflow/fleet/commands/all", "iotflow/system/health", "iotflow/monitoring/broker", "other/topic"]:
        assert not script.publishes(topic, *user), topic
        assert script.publishes(topic, "admin", "admin123"), topic
    # Another password, and no other role.
    assert "Changed the password of user device001" in script("create-user device001 otherpassword")
    assert not script.publishes("iotflow/test", *user) and script.publishes("iotflow/test", "device001", "otherpassword")
    script("create-user admin stilladministrator")
    assert script.users()["admin"] == "administrator"
    # Connections of a user who is removed end.
    sub = Output("mosquitto_sub", ["-h", "localhost", "-p", str(script.port), "-V", "5", "-u", "device001",
                                   "-P", "otherpassword", "-t", "iotflow/devices/device001/#", "-d"])
    sub.wait_for("SUBACK")
    script("delete-user device001")
    sub.wait_for("DISCONNECT")
    sub.kill()
    assert not script.publishes("iotflow/test", "device001", "otherpassword")


def test_it_works_from_everywhere_on_the_data_beside_the_link(script, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    link = str(script.place / "mqtt_manage.sh")
    script("create-user one secretpassword", cwd=elsewhere, path=link)
    script("generate-device two", cwd=elsewhere, path=os.path.relpath(link, elsewhere))
    assert list(elsewhere.iterdir()) == []
    assert {path.name for path in script.place.iterdir()} == {".env", "data", "device_credentials_two.txt", "mqtt_manage.sh"}
    assert script.users() == {"one": "iotflow"}


def test_the_configuration_beside_the_link_is_used(script):
    (script.place / "martlet.toml").write_text("[log]\nformat = 'json'\n")
    script("start")
    log = script.place / "data/martlet.log"
    # It answers a moment before it says so.
    until(lambda: '"message":"ready"' in log.read_text(), log.read_text)
    (script.place / "martlet.toml").write_text("[log]\nformat = 'xml'\n")
    told = script("restart", code=1)
    assert "expected one of text, json" in told, told
    (script.place / "martlet.toml").write_text("")
    script("start")


def test_users_of_a_password_file_are_not_the_scripts(script):
    passwords = script.place / "passwd"
    passwords.write_text("")
    (script.place / "martlet.toml").write_text(f"[auth]\npassword_file = '{passwords}'\n")
    for line in ["create-user a secretpassword", "setup-admin", "delete-user a"]:
        assert f"in the password file {passwords}: martlet passwd" in script(line, code=1)


def test_the_broker_is_a_process_with_a_pid_file(script):
    script("start")
    pid = int((script.place / "data/martlet.pid").read_text())
    os.kill(pid, 0)
    # One that was killed is started again.
    os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 20
    while "runs already" in script("start"):
        assert time.monotonic() < deadline
    assert int((script.place / "data/martlet.pid").read_text()) != pid
    script("stop")
    assert not (script.place / "data/martlet.pid").exists()
    assert "does not run" in script("stop")


def test_a_broker_that_does_not_start_says_why(script):
    with martlet_process.Node() as node:
        (script.place / ".env").write_text(f"MQTT_PORT={node.port()}\nMARTLET_HTTP__LISTEN=off\n")
        told = script("start", code=1)
        assert "is in use by" in told and "did not start" in told
        assert not (script.place / "data/martlet.pid").exists()


def test_systemd_starts_what_it_runs(script):
    programs = script.place / "programs"
    programs.mkdir()
    fake = programs / "systemctl"
    path = f"{programs}:{os.environ['PATH']}"
    fake.write_text(f"""#!/bin/sh
if [ "$1" = show ]; then echo LoadState=loaded; echo WorkingDirectory={script.place}; else echo "$@" >> {programs}/told; fi
""")
    fake.chmod(0o755)
    for verb in ("start", "stop", "restart"):
        script(verb, PATH=path)
    assert (programs / "told").read_text() == "".join(f"{verb} martlet.service\n" for verb in ("start", "stop", "restart"))
    assert not (script.place / "data").exists()
    fake.write_text("#!/bin/sh\necho LoadState=not-found\n")
    assert "The broker runs" in script("start", PATH=path)


@pytest.mark.parametrize("line, code, says", [
    ("help", 0, "generate-device ID"),
    ("", 1, "generate-device ID"),
    ("frobnicate", 2, "unrecognized subcommand 'frobnicate'"),
    ("create-user alone", 2, "required arguments"),
    ("delete-user nobody", 1, "nobody"),
    ("test admin", 2, "required"),
])
def test_what_is_wrong_with_a_line_is_said(script, line, code, says):
    assert says in script(line, code=code)


def test_without_a_user_it_tests_everybody_or_the_admin_of_the_document(script):
    script("setup")
    assert "Passed" in script("test") and "without a user" in script("test")
    script("setup-admin admin123")
    assert "Passed" in script("test") and "as admin" in script("test")
    script("setup-admin another-password")
    done = subprocess.run(["./mqtt_manage.sh", "test"], cwd=script.place, capture_output=True, text=True, timeout=60,
                          env=martlet_process.environment())
    assert done.returncode != 0 and "Failed" in done.stdout and "./mqtt_manage.sh test admin PASSWORD" in done.stdout


def test_certificates_are_made_where_the_guide_has_them(tmp_path):
    place = tmp_path / "docker/mosquitto"
    place.mkdir(parents=True)
    (place / "generate_certs.sh").symlink_to(martlet_process.binary())
    done = subprocess.run(["docker/mosquitto/generate_certs.sh"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and "docker/mosquitto/config/certs" in done.stdout, done
    made = {path.name for path in (place / "config/certs").iterdir()}
    assert {"ca.crt", "ca.key", "server.crt", "server.key"} <= made and not (tmp_path / "config").exists()


def test_mqtt_has_the_lines_of_the_document(tmp_path):
    (tmp_path / "mqtt").symlink_to(martlet_process.binary())
    path = f"{tmp_path}:{os.environ['PATH']}"

    def mqtt(line, node, **options):
        line = line.replace("localhost", "127.0.0.1").replace("1883", str(node.port()))
        return subprocess.Popen(["bash", "-c", f"exec {line}"], env={**martlet_process.environment(), "PATH": path},
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)

    with martlet_process.Node(variables=[("MQTT_BROKER_CREDENTIALS", "u:p"), ("MQTT_BROKER_AUTH_ENABLED", "true"),
                                         ("MQTT_BROKER_ALLOW_ANONYMOUS", "true")]) as node:
        sub = mqtt('mqtt sub -h localhost -p 1883 -t "test/topic"', node)
        deadline = time.monotonic() + 20
        while Mosquitto(node).pub("-t", "test/topic", "-m", "x", "-q", "1", "-V", "5", "-d").stdout.count("RC:16"):
            # Nobody is subscribed yet.
            assert time.monotonic() < deadline
        assert sub.stdout.readline() == "x\n"
        pub = mqtt('mqtt pub -h localhost -p 1883 -t "test/topic" -m "Hello, world!"', node)
        assert pub.wait(timeout=60) == 0 and sub.stdout.readline() == "Hello, world!\n"
        pub = mqtt('mqtt publish -h localhost -p 1883 -u u -pw p -t test/topic -m -pw', node)
        assert pub.wait(timeout=60) == 0 and sub.stdout.readline() == "-pw\n"
        assert mqtt('mqtt pub -h localhost -p 1883 -u u -pw wrong -t test/topic -m x', node).wait(timeout=60) != 0
        sub.kill()
        sub.wait()
        for line in ("mqtt shell", "mqtt", "mqtt stop"):
            other = mqtt(line, node)
            _, said = other.communicate(timeout=60)
            assert other.returncode == 1 and "mqtt has only the commands pub and sub" in said
