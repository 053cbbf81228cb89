"""Faults of which `martlet why` names the true cause in its headline: of telemetry, integrations and rules,
and of clients that do not come in. What it advises, or the command that is printed, ends them."""

import http.server
import json
import shutil
import socket
import subprocess
import threading
import time

import pytest

import martlet_process
from test_access import until
from test_jwt import Signer
from test_tls import Authority
from test_why import expired
from test_websocket_refusals import request
from test_why_faults_admission import HERE, tls
from why_faults import Faults, published, reason_of

CONFIG = """
[integrations]
allow_private = ["127.0.0.0/8"]
[limits]
client_id_bytes = 40
retained_messages = 1
[telemetry]
enabled = true
[[telemetry.rules]]
topic = "d/{device}/telemetry"
key = "{key}"
[[sinks.file]]
name = "drop"
filters = ["drop/#"]
path = "drop.ndjson"
max_bytes = 20000
[[sinks.file]]
name = "other"
filters = ["other/#"]
path = "other.ndjson"
max_bytes = 20000
on_full = "hold"
[[sinks.webhook]]
name = "slow"
filters = ["slow/#"]
url = "http://127.0.0.1:PORT/slow"
[[rules]]
name = "hot"
topics = ["plant/+/t"]
device_type = "thermo"
when = "payload > 80"
actions = [{ publish = { topic = "alerts/{{ levels[1] }}", payload = "{{ payload }}" } }]
"""

SERVER = "extendedKeyUsage=serverAuth\nsubjectAltName=DNS:localhost"

# The webhook answers slowly before it is let go.
GO_ON = threading.Event()


class Slow(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        GO_ON.wait(3)
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    server = http.server.ThreadingHTTPServer((HERE, 0), Slow)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    path = tmp_path_factory.mktemp("named")
    (path / "martlet.toml").write_text(CONFIG.replace("PORT", str(server.server_port)))
    faults = Faults(arguments=("-c", str(path / "martlet.toml")))
    for name in ("boss", "ann"):
        faults.user(name, "--role", "administrator")
    with faults.start():
        yield faults
    GO_ON.set()
    server.shutdown()


@pytest.fixture(scope="module")
def boss(node):
    with node.client("boss", client_id="b1") as client:
        yield client


def also(answer, cause):
    return [one for one in answer["also"] if one["cause"] == cause]


# Telemetry


def test_telemetry_of_another_topic_is_not_the_cause(node, boss):
    assert published(boss, "d/ghost/telemetry")
    node.headline("telemetry-not-stored", "unknown_device", "b1")
    told = node.why("b1", "loop/x")
    assert told["cause"] == "subscriber-absent", told
    assert also(told, "telemetry-not-stored"), told


def test_telemetry_of_a_device_that_is_not_known_is_told_of_its_name(node, boss):
    boss.publish("d/spook/telemetry", '{"t": 1}')
    for asked in (["spook"], ["spook", "d/spook/telemetry"]):
        told = node.headline("telemetry-not-stored", "d/spook/telemetry, published by b1", *asked)
    for asked in (["telemetry/main"], ["telemetry/main", "d/spook/telemetry"]):
        node.headline("telemetry-not-stored", "d/spook/telemetry", *asked)
    node.bash(told)
    boss.publish("d/spook/telemetry", '{"t": 1}')
    node.over("telemetry/main", "d/spook/telemetry")


def test_telemetry_is_published_to_a_topic_that_no_rule_takes(node):
    secret = node.device("p2")
    with node.client("p2", secret) as device:
        # Of the last topics of messages that nobody got, some are not remembered: it publishes until one is.
        until(lambda: published(device, "d/p2/Telemetry") and node.why("p2")["wrong"], "nobody got it")
        for asked in (["p2"], ["p2", "d/p2/telemetry"]):
            told = node.headline("subscriber-absent", "telemetry/main does not forward that topic", *asked)
            assert "d/p2/Telemetry" in told["sentence"] and "upper and lower case" in told["sentence"], told
        assert "d/+/telemetry" in node.bash(told)


# Integrations and rules


def test_an_integration_is_paused_and_full(node, boss):
    node.run("integration", "pause", "file/drop")
    for _ in range(300):
        boss.publish("drop/1", "x" * 4000)
    told = node.headline("integration-paused", "the integration file/drop is paused, and its queue is full (max_bytes)",
                         "b1", "drop/1")
    assert "$integration" not in told["sentence"] and "dropped" in told["sentence"], told
    of_sink = node.why("file/drop")
    assert "`queue_full` in the configuration" not in json.dumps(of_sink), of_sink
    assert "max_bytes = 0" not in json.dumps(of_sink), of_sink
    node.bash(told)
    until(lambda: node.why("file/drop")["cause"] != "integration-paused", "it goes on")

    def is_told():
        after = node.why("b1", "drop/1")
        return "for the integration file/drop" in after["sentence"] and "max_bytes" in after.get("remedy", "")

    until(is_told, "what was dropped is told")


def test_of_another_sink_no_topic_is_told_without_one(node):
    node.run("integration", "pause", "file/other")
    other = node.client("boss", client_id="b3")
    with other:
        # Its publishers wait when it is full.
        for _ in range(300):
            other.client.publish("other/1", "x" * 4000, 1)
        until(lambda: "file/other" in json.dumps(node.why("ann")), "it is told")
        told = node.why("file/drop")
    assert "messages wait for the integration file/other" in json.dumps(told), told
    assert "messages of that topic wait" not in json.dumps(told), told
    node.run("integration", "resume", "file/other")


def test_a_webhook_falls_behind(node, boss):
    for number in range(8):
        boss.publish(f"slow/{number}", "x")
    told = node.headline("integration-failing", "falls behind", "webhook/slow", within=30)
    assert "messages wait, the oldest for 1" in told["sentence"], told
    GO_ON.set()
    node.bash(told)
    node.over("webhook/slow")


def test_a_rule_looks_at_another_type_of_device(node, boss):
    boss.publish("plant/1/t", "99")
    told = node.headline("rule-unmatched", "none is of a device of type thermo", "hot")
    assert "looked at 1 message " in told["sentence"]
    assert "thermo" in node.bash(told)


# Clients that do not come in


def test_a_client_identifier_is_too_long(node, boss):
    long = "b-" + "y" * 60
    assert reason_of(node.client("boss", client_id=long).start()).is_failure
    told = node.headline("limit-reached", "limits.client_id_bytes = 40", long)
    assert "give the client a shorter one" in told["remedy"] and "command" not in told
    with node.client("boss", client_id="b2") as other:
        assert reason_of(node.client("boss", client_id=long).start()).is_failure
        node.headline("limit-reached", "a client with this User Name was refused: the Client Identifier is too long", "boss")
        other.publish("x", "x")


def test_a_line_break_is_in_a_name_or_a_secret(node):
    secrets = {name: node.device(name) for name in ("n1", "n2", "n3")}
    assert reason_of(node.client("n1", secrets["n1"], client_id="n1\n").start()).is_failure
    told = node.headline("client-id-invalid", "control character in the Client Identifier", "n1")
    assert "line break" in told["remedy"]
    assert reason_of(node.client("n2 ", secrets["n2"], client_id="n2").start()).is_failure
    told = node.headline("unknown-name", 'its User Name is "n2 ", with white space around it', "n2")
    assert 'to "n2"' in told["remedy"] and "command" not in told
    for end in ("\n", " "):
        wrong = reason_of(node.client("n3", "nonsense" + end, client_id="n3").start())
        refused = reason_of(node.client("n3", secrets["n3"] + end, client_id="n3").start())
        assert refused == wrong
        # Shards tell of refusals at about the same time in any order: the one before the last may come last.
        assert reason_of(node.client("n3", secrets["n3"] + end, client_id="n3").start()).is_failure
        told = node.headline("wrong-password", "right but for the white space around it", "n3")
        assert "remove what is around the secret" in told["remedy"] and "command" not in told
    for name, secret in secrets.items():
        with node.client(name, secret):
            node.over(name)


@pytest.mark.parametrize("header", [b"PROXY TCP4 10.9.8.7 127.0.0.1 4000 1883\r\n",
                                    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + bytes(12)], ids=["v1", "v2"])
def test_a_proxy_sends_its_header_to_a_plain_listener(header):
    with Faults() as node:
        with socket.create_connection((HERE, node.node.port("mqtt")), timeout=60) as wire:
            wire.sendall(header)
            wire.recv(1)
        told = node.headline("proxy-refused", "a PROXY header was received", HERE)
        assert "set proxy_from" in told["remedy"]


def test_a_token_names_another_client_and_one_ends(tmp_path):
    signer = Signer(tmp_path, "HS256")
    with Faults(settings=[f"auth.jwt_keys={signer.file}", "auth.jwt_algorithm=HS256",
                          "auth.jwt_client_claim=cid"]) as node:
        assert not node.comes("jwt", signer.token(cid="c9"), "c8")
        told = node.headline("token-bad", 'its token is for the client "c9" (claim cid)', "c8")
        assert told["remedy"]
        token = signer.token(cid="c10", exp=int(time.time()) + 6)
        with node.client("jwt", token, client_id="c10") as client:
            client.wait_for_end()
            told = node.headline("credential-expired", "its token has expired", "c10")
        assert "connect with a new token" in told["remedy"] and told["since"]
        with node.client("jwt", signer.token(cid="c10"), client_id="c10"):
            node.over("c10")


def test_the_certificate_of_a_listener_has_expired(tmp_path):
    authority = Authority(tmp_path / "ca")
    certificate, key = expired(authority, "localhost", extensions=SERVER)
    settings = [f"tls.certificate={certificate}", f"tls.key={key}"]
    with Faults(settings=settings, listen=("mqtts://127.0.0.1:0",)) as node:
        secret = node.device("t1")
        assert not tls(node, "--cafile", authority.certificate, name="t1", password=secret)
        told = node.headline("server-certificate-expired", f"the listener's certificate {certificate} expired on 2021-01-01",
                             HERE)
        assert "martlet reload" in told["remedy"]
        node.headline("never-connected", "expired on 2021-01-01", "t1")
        health = martlet_process.run("health", "--data-dir", str(node.place.path))
        assert certificate in health.stdout and "expired on 2021-01-01" in health.stdout, health
        for new, old in zip(authority.sign("good"), (certificate, key)):
            shutil.copy(new, old)
        node.run("reload")
        assert tls(node, "--cafile", authority.certificate, name="t1", password=secret)
        node.over("t1")


def test_a_device_was_connected_when_the_backup_was_made(tmp_path):
    with Faults() as node:
        secret = node.device("p1")
        backup = tmp_path / "backup.tar"
        with node.client("p1", secret):
            presence = lambda: json.loads(node.run("device", "show", "p1", "--json")).get("online")
            until(lambda: presence() is not False, "the tables know it")
            time_left = time.monotonic() + 60
            while True:
                backup.unlink(missing_ok=True)
                node.run("backup", "create", str(backup))
                restored = tmp_path / f"restored-{time.monotonic_ns()}"
                subprocess.run([martlet_process.binary(), "backup", "restore", str(backup), "--data-dir", str(restored)],
                               check=True, capture_output=True, timeout=60)
                with Faults(path=restored) as other:
                    told = other.why("p1")
                    if "when the backup was made" in told["sentence"] or time.monotonic() > time_left:
                        break
            assert told["cause"] == "away" and told["wrong"], told
            assert "has not connected since" in told["sentence"], told


@pytest.fixture(scope="module")
def with_http():
    node = Faults(listen=("mqtt://127.0.0.1:0", "ws://127.0.0.1:0/mqtt"))
    node.options["http"] = True
    with node.start():
        yield node


# What comes to the port of HTTP, the answer to it, words of the headline, and a word of how it is mended.
AT_HTTP = {
    "mqtt": (b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00", 400, "MQTT was received at a port of HTTP",
             "the port of an MQTT listener"),
    "websocket": (request(Host="localhost"), 404, "MQTT over WebSocket was received at a port of HTTP",
                  "the port of a ws listener"),
    "websocket at the root": (request("GET / HTTP/1.1", Host="localhost"), 200,
                              "MQTT over WebSocket was received at a port of HTTP", "the port of a ws listener"),
    "tls": (bytes.fromhex("16030100c8010000c40303") + bytes(190), 400, "TLS was received at a port of plain HTTP",
            "the port of a listener with TLS"),
}


@pytest.mark.parametrize("kind", AT_HTTP)
def test_a_client_comes_to_the_port_of_http(with_http, kind):
    node, (first, status, said, mended) = with_http, AT_HTTP[kind]
    name = f"h-{list(AT_HTTP).index(kind)}"
    secret = node.device(name)
    with socket.create_connection((HERE, int(node.node.http_url.rsplit(":")[-1])), timeout=60) as wire:
        wire.sendall(first)
        assert wire.recv(12) == b"HTTP/1.1 %d" % status
    for asked, cause in ((HERE, "wrong-transport"), (name, "never-connected")):
        assert mended in node.headline(cause, said, asked)["remedy"]
    with node.client(name, secret, transport="websockets" if "websocket" in kind else "tcp"):
        node.over(name)
