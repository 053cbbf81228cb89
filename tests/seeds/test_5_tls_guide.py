"""The guide to MQTT with TLS, from top to bottom: its lines as they are printed, but for ports and
the paths of its container, with openssl, mosquitto's clients and paho."""

import json
import os
import re
import shutil
import ssl
import subprocess
import threading

import paho.mqtt.client as paho
import pytest

import martlet_process
from documents import Reader
from programs import Output, need
from server_process import free_ports

DEADLINE_SECS = 60

CONF = """\
# Enable TLS listener
listener 8883
allow_anonymous false
password_file /mosquitto/config/passwd
certfile /mosquitto/config/certs/server.crt
keyfile /mosquitto/config/certs/server.key
cafile /mosquitto/config/certs/ca.crt
"""

ENV = """\
MQTT_BROKER_PORT=8883
MQTT_USE_TLS=true
MQTT_TLS_INSECURE=true  # Required for self-signed certs
MQTT_CA_CERTS=docker/mosquitto/config/certs/ca.crt
MQTT_USERNAME=device_user
MQTT_PASSWORD=your_password
"""


class Guide:
    """The directory of the guide, and a node with its configuration."""

    def __init__(self, place, conf=CONF):
        self.place, self.mosquitto = place, place / "docker/mosquitto"
        (self.mosquitto / "config").mkdir(parents=True)
        (self.mosquitto / "generate_certs.sh").symlink_to(martlet_process.binary())
        (self.place / "mosquitto_passwd").symlink_to(martlet_process.binary())
        [self.port] = free_ports(1)
        self.reader = Reader(place, {8883: self.port})
        self.typed("cd docker/mosquitto && ./generate_certs.sh")
        for option, user, password in [("-c ", "device_user", "your_password"), ("", "collector_user", "other_password")]:
            line = f"./mosquitto_passwd {option}docker/mosquitto/config/passwd {user}"
            self.typed(line, input=f"{password}\n{password}\n")
        text = conf.replace("/mosquitto/config", str(self.mosquitto / "config")).replace("8883", str(self.port))
        path = self.mosquitto / "config/mosquitto.conf"
        path.write_text(text)
        (self.place / ".env").write_text(ENV.replace("8883", str(self.port)))
        # Its working directory has no .env: that is of the clients.
        self.node = martlet_process.Node(listen=(), arguments=["--mosquitto-conf", str(path)])

    def typed(self, line, code=0, **options):
        """What a line prints, in the guide's directory."""
        done = self.reader.run(line, code, **options)
        return done.stdout + done.stderr


@pytest.fixture(scope="module")
def guide(tmp_path_factory):
    guide = Guide(tmp_path_factory.mktemp("guide"))
    yield guide
    guide.node.close()


PUB = """mosquitto_pub \\
  -h localhost \\
  -p 8883 \\
  --cafile docker/mosquitto/config/certs/ca.crt \\
"""


def test_the_certificates_are_what_the_guide_says(guide):
    certs = guide.mosquitto / "config/certs"
    text = guide.typed("openssl x509 -in docker/mosquitto/config/certs/server.crt -noout -text")
    assert re.search(r"DNS:localhost.*DNS:mosquitto.*127\.0\.0\.1", text) and "2048 bit" in text
    assert "OK" in guide.typed("openssl verify -CAfile docker/mosquitto/config/certs/ca.crt docker/mosquitto/config/certs/server.crt")
    for name, mode in [("ca.key", 0o600), ("server.key", 0o600), ("ca.crt", 0o644), ("server.crt", 0o644)]:
        assert (certs / name).stat().st_mode & 0o777 == mode, name


def test_both_users_log_in_and_nobody_else(guide):
    message = '-t test/topic -m "Hello TLS with Auth"'
    guide.typed(f"{PUB} -u device_user -P your_password {message}")
    guide.typed(f"{PUB} -u collector_user -P other_password {message}")
    told = guide.typed(f"{PUB} -u device_user -P wrong {message}", code=4)
    assert "bad user name or password" in told.lower()
    # The guide's first line has no login, which its own allow_anonymous false refuses.
    guide.typed(f'{PUB} -t test/topic -m "Hello TLS"', code=5)


def test_the_line_without_a_login_works_where_anonymous_clients_are_permitted(tmp_path):
    guide = Guide(tmp_path, CONF.replace("allow_anonymous false", "allow_anonymous true"))
    try:
        guide.typed(f'{PUB} -t test/topic -m "Hello TLS"')
    finally:
        guide.node.close()


def test_a_subscriber_shows_the_topics_of_devices(guide):
    sub = Output("mosquitto_sub", ["-h", "localhost", "-p", str(guide.port), "--cafile",
                                   str(guide.mosquitto / "config/certs/ca.crt"), "-u", "collector_user", "-P",
                                   "other_password", "-t", "device/data/+", "-v", "-C", "1", "-W", "20", "-d"])
    sub.wait_for("Subscribed (mid:")
    guide.typed(f"{PUB} -u device_user -P your_password -q 1 -t device/data/7 -m '{{\"speed\": 3}}'")
    lines, status = sub.messages()
    assert (lines[-1], status) == ('device/data/7 {"speed": 3}', 0)


def test_the_guides_variables_are_those_of_the_clients(guide):
    martlet = martlet_process.binary()
    guide.typed(f"{martlet} pub -h localhost -t test/topic -m x -q 1 -V 5 -i from-env")
    # With false the chain and the name are checked: the guide's authority is good.
    env = guide.place / ".env"
    kept = env.read_text()
    try:
        env.write_text(kept.replace("MQTT_TLS_INSECURE=true", "MQTT_TLS_INSECURE=false"))
        guide.typed(f"{martlet} pub -h localhost -t test/topic -m x -q 1 -V 5")
        env.write_text(kept.replace("your_password", "wrong"))
        guide.typed(f"{martlet} pub -h localhost -t test/topic -m x -q 1", code=4)
    finally:
        env.write_text(kept)


class Client:
    """A client of paho, as the guide's programs are: MQTT 3.1.1, keep-alive of 60 s."""

    def __init__(self, guide, name, password="your_password", cafile=True, insecure=False, clean=True):
        self.client = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id=name, clean_session=clean)
        self.client.username_pw_set("device_user", password)
        authority = str(guide.mosquitto / "config/certs/ca.crt")
        self.client.tls_set(ca_certs=authority if cafile else None,
                            cert_reqs=ssl.CERT_NONE if insecure else ssl.CERT_REQUIRED)
        self.client.tls_insecure_set(insecure)
        self.port, self.told, self.messages = guide.port, threading.Event(), []
        self.subscribed, self.arrived = threading.Event(), threading.Event()
        self.client.on_connect = self.connected
        self.client.on_subscribe = lambda *_: self.subscribed.set()
        self.client.on_message = self.got

    def connected(self, _client, _data, flags, reason, _properties):
        self.reason, self.present = reason, flags.session_present
        self.told.set()

    def got(self, _client, _data, message):
        self.messages.append(message.payload.decode())
        self.arrived.set()

    def connect(self):
        self.client.connect("localhost", self.port, keepalive=60)
        self.client.loop_start()
        assert self.told.wait(DEADLINE_SECS)
        return self

    def close(self):
        self.client.disconnect()
        self.client.loop_stop()


def test_what_the_guide_says_of_errors_is_what_paho_says(guide):
    with pytest.raises(ssl.SSLCertVerificationError, match="CERTIFICATE_VERIFY_FAILED"):
        Client(guide, "strict", cafile=False).connect()
    client = Client(guide, "insecure", cafile=False, insecure=True).connect()
    assert not client.reason.is_failure
    client.close()
    client = Client(guide, "wrong", password="wrong").connect()
    assert str(client.reason) == "Bad user name or password"
    client.close()


def test_messages_wait_for_a_session_that_is_not_clean(guide):
    client = Client(guide, "collector", clean=False).connect()
    client.client.subscribe("device/data/+", qos=1)
    assert client.subscribed.wait(DEADLINE_SECS)
    client.close()
    for number in range(3):
        guide.typed(f"{PUB} -u device_user -P your_password -q 1 -t device/data/7 -m {number}")
    again = Client(guide, "collector", clean=False).connect()
    assert again.present
    while len(again.messages) < 3:
        assert again.arrived.wait(DEADLINE_SECS)
        again.arrived.clear()
    assert again.messages == ["0", "1", "2"]
    again.close()


def test_a_missing_certificate_and_a_missing_password_file_are_named(guide, tmp_path):
    conf = (guide.mosquitto / "config/mosquitto.conf").read_text()
    for file in ("certs/server.crt", "passwd"):
        path = tmp_path / "mosquitto.conf"
        path.write_text(conf.replace(f"config/{file}", f"config/{file}-missing"))
        done = martlet_process.run("config", "check", "--mosquitto-conf", str(path))
        assert done.returncode != 0 and f"{file}-missing" in done.stderr + done.stdout, done
    assert "allow_anonymous" in guide.typed(f"{martlet_process.binary()} config show --mosquitto-conf docker/mosquitto/config/mosquitto.conf")


def test_a_client_certificate_is_asked_for_where_the_guide_recommends_it(tmp_path):
    need("openssl", "openssl")
    guide = Guide(tmp_path, CONF + "require_certificate true\n")
    try:
        martlet = shutil.which(martlet_process.binary())
        done = subprocess.run(["bash", "-c", f"{PUB} -u device_user -P your_password -t a -m x".replace("8883", str(guide.port))],
                              cwd=guide.place, capture_output=True, text=True, timeout=60)
        assert done.returncode != 0
        certs = "docker/mosquitto/config/certs"
        guide.typed(f"{martlet} cert client device-7 --dir {certs}")
        guide.typed(f"{PUB} --cert {certs}/device-7.crt --key {certs}/device-7.key -u device_user -P your_password -t a -m x -q 1")
    finally:
        guide.node.close()


def test_what_tls_costs_is_measured(tmp_path):
    """docs/benchmarks.md has the figures of this script; here it runs for a moment, and what does not depend on the machine
    is compared."""
    need("openssl", "openssl")
    cores, figures = sorted(os.sched_getaffinity(0)), tmp_path / "tls.jsonl"
    done = subprocess.run(
        [martlet_process.ROOT / "bench/tls", "--runs", "1", "--duration", "0.2", "--rate", "200", "--connects", "20", "--without",
         "mosquitto", "--cores", f"{cores[0]},{cores[-1]}", "--json", figures],
        env={**martlet_process.environment(), "MARTLET_BIN": martlet_process.binary()}, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done
    for row in ("Bytes on the wire per message of 1,024 B", "Latency at 200/s, QoS 1, p50", "Broker's CPU per message at full load",
                "Connecting one client, p50"):
        assert re.search(rf"^\| {re.escape(row)}.* \| martlet \| ", done.stdout, re.M), (row, done.stdout)
    _, plain, secure = map(json.loads, figures.read_text().splitlines())
    assert (plain["tls"], secure["tls"]) == (False, True)
    # A record of TLS 1.3 takes 22 bytes, and a message is one in each direction. What else is sent counts little.
    assert all(44 <= round(secure[key] - plain[key]) <= 45 for key in ("bytes-64", "bytes-1024"))
    assert 1.03 < secure["bytes-1024"] / plain["bytes-1024"] < 1.05
    assert plain["bytes-connect"] < secure["bytes-connect"]
    assert all(one[key] > 0 for one in (plain, secure) for key in ("latency-p50", "cpu-full", "connect-time", "connect-cpu"))
