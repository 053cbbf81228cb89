"""Mosquitto's configuration files: run by Mosquitto and by ours, and the same clients are let in."""

import json
import pathlib
import re
import shutil
import socket
import subprocess

import pytest

import martlet_process
from programs import need
from server_process import free_port
from test_access import mosquitto_passwd, until
from test_tls import Authority

DEADLINE_SECS = 60


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Names that configurations below have in braces."""
    directory = tmp_path_factory.mktemp("conf")
    authority = Authority(directory / "ca")
    certificate, key = authority.sign("server")
    device = authority.sign("device-7", usage="clientAuth")
    passwords = mosquitto_passwd(directory / "passwd", ("alice", "a"), ("bob", "b"), ("device-7", "x"))
    others = mosquitto_passwd(directory / "others", ("carol", "c"))
    acl = directory / "acl"
    acl.write_text("topic read news\nuser alice\ntopic up/#\npattern write d/%u\n")
    hashed, other = directory / "hashed", directory / "other"
    for at, trusted in [(hashed, authority), (other, Authority(directory / "stranger", name="Stranger"))]:
        at.mkdir()
        shutil.copy(trusted.certificate, at / "ca.pem")
        subprocess.run([need("openssl", "openssl"), "rehash", str(at)], check=True, capture_output=True, timeout=60)
    # It is there, and not by the name that counts.
    shutil.copy(authority.certificate, other / "unhashed.pem")
    directory.chmod(0o755)
    for path in [directory, *directory.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    return {"ca": authority.certificate, "crt": certificate, "key": key, "device": device, "passwd": passwords,
            "others": others, "acl": acl, "dir": directory, "hashed": hashed, "other": other}


CONFIGURATIONS = {
    "nobody": "listener {one} 127.0.0.1\n",
    "anonymous": "listener {one} 127.0.0.1\nallow_anonymous true\n",
    "passwords": "listener {one} 127.0.0.1\npassword_file {passwd}\n",
    "passwords before the listener": "password_file {passwd}\nallow_anonymous false\nlistener {one} 127.0.0.1\n",
    "both": "listener {one} 127.0.0.1\npassword_file {passwd}\nallow_anonymous true\n",
    "acl": "listener {one} 127.0.0.1\npassword_file {passwd}\nacl_file {acl}\nallow_anonymous true\n",
    "acl alone": "listener {one} 127.0.0.1\nacl_file {acl}\nallow_anonymous true\n",
    "port": "port {one}\nbind_address 127.0.0.1\npassword_file {passwd}\n",
    "two listeners": "password_file {passwd}\nlistener {one} 127.0.0.1\nlistener {two} 127.0.0.1\n",
    "per listener": "per_listener_settings true\nlistener {one} 127.0.0.1\npassword_file {passwd}\n"
                    "listener {two} 127.0.0.1\nallow_anonymous true\n",
    "per listener, other users": "per_listener_settings true\nlistener {one} 127.0.0.1\npassword_file {passwd}\n"
                                 "acl_file {acl}\nlistener {two} 127.0.0.1\npassword_file {others}\n",
    "tls": "listener {one} 127.0.0.1\ncertfile {crt}\nkeyfile {key}\nallow_anonymous true\n",
    "mutual tls": "listener {one} 127.0.0.1\ncertfile {crt}\nkeyfile {key}\ncafile {ca}\nrequire_certificate true\n"
                  "allow_anonymous true\n",
    "a directory of CAs": "listener {one} 127.0.0.1\ncertfile {crt}\nkeyfile {key}\ncapath {hashed}\n"
                          "require_certificate true\nallow_anonymous true\n",
    "a directory of other CAs": "listener {one} 127.0.0.1\ncertfile {crt}\nkeyfile {key}\ncapath {other}\n"
                                "require_certificate true\nallow_anonymous true\ntls_version tlsv1.3\n",
    "names in certificates": "listener {one} 127.0.0.1\ncertfile {crt}\nkeyfile {key}\ncafile {ca}\n"
                             "require_certificate true\nuse_identity_as_username true\nacl_file {acl}\n",
}

USERS = [None, ("alice", "a"), ("alice", "wrong"), ("bob", "b"), ("carol", "c")]
TOPICS = ["up/1", "d/alice", "d/device-7", "x"]


def attempts(port, files, secure):
    """What each client is told: whether it is let in, and which topics it may publish to."""
    told = {}
    for user in USERS:
        for with_certificate in [False, True] if secure else [False]:
            options = ["-u", user[0], "-P", user[1]] if user else []
            if secure:
                options += ["--cafile", files["ca"]]
            if with_certificate:
                options += ["--cert", files["device"][0], "--key", files["device"][1]]
            for topic in TOPICS:
                done = subprocess.run(
                    [need("mosquitto_pub", "mosquitto-clients"), "-h", "localhost", "-p", str(port), "-V", "5", "-q",
                     "1", "-t", topic, "-m", "x", *options], capture_output=True, text=True, timeout=DEADLINE_SECS)
                refused = "ot authorized" in done.stdout + done.stderr or "ot authorised" in done.stdout + done.stderr
                told[(user, with_certificate, topic)] = done.returncode == 0 and not refused
    return told


def listening(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
        return True
    except OSError:
        return False


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_the_same_clients_are_let_in(start_node, files, tmp_path, name):
    secure = "certfile" in CONFIGURATIONS[name]

    def ask(config_of):
        ports = {"one": free_port(), "two": free_port()}
        path = tmp_path / f"{ports['one']}.conf"
        path.write_text(CONFIGURATIONS[name].format(**files, **ports))
        used = [port for key, port in ports.items() if "{" + key + "}" in CONFIGURATIONS[name]]
        running = config_of(path)
        try:
            for port in used:
                until(lambda: listening(port), "it listens")
            return [attempts(port, files, secure) for port in used]
        finally:
            running()

    def theirs(path):
        with open(path, "a") as config:
            config.write("user root\n")
        broker = subprocess.Popen([need("mosquitto", "mosquitto"), "-c", str(path)], stdout=subprocess.DEVNULL,
                                  stderr=subprocess.DEVNULL)
        return lambda: (broker.kill(), broker.wait())

    def ours(path):
        node = start_node(arguments=["--mosquitto-conf", str(path)], listen=())
        return node.close

    expected, found = ask(theirs), ask(ours)
    for one, other in zip(expected, found):
        for attempt, permitted in one.items():
            if name == "acl alone" and attempt[0] is not None:
                # Mosquitto believes names that nobody has proved; here they are none.
                assert permitted or not other[attempt], attempt
            else:
                assert other[attempt] == permitted, attempt
    lets_nobody_in = name in ("nobody", "a directory of other CAs")
    assert any(any(one.values()) for one in expected) != lets_nobody_in


def imported(path, *more):
    return martlet_process.run("import", "mosquitto", str(path), *more)


def test_what_is_imported_is_what_is_run(files, tmp_path):
    for number, (name, text) in enumerate(CONFIGURATIONS.items()):
        conf, toml = tmp_path / f"{number}.conf", tmp_path / f"{number}.toml"
        conf.write_text(text.format(**files, one=1883, two=1884))
        done = imported(conf, "--out", str(toml))
        assert done.returncode == 0, (name, done.stderr)

        def shown(option, path):
            done = martlet_process.run("config", "show", "--json", option, str(path))
            assert done.returncode == 0, done.stderr
            shown = json.loads(done.stdout)
            values = {entry["key"]: entry["value"] for entry in shown["values"]}
            return values, [{key: entry["value"] for key, entry in table.items()} for table in shown["listeners"]]

        assert shown("--config", toml) == shown("--mosquitto-conf", conf), name


def test_a_guides_configuration_is_reported_line_by_line(files, tmp_path):
    conf = tmp_path / "mosquitto.conf"
    conf.write_text(f"""
# a guide's
persistence true
persistence_location {tmp_path}/data/
log_dest stdout
log_type error
listener 1883
listener 8883
cafile {files['ca']}
certfile {files['crt']}
keyfile {files['key']}
tls_version tlsv1.2
allow_anonymous false
password_file {files['passwd']}
max_inflight_messages 20
max_queued_messages 1000
persistent_client_expiration 2m
connection to-the-cloud
address cloud.example:8883
remote_username me
remote_password hunter2
topic # out 1
""")
    done = imported(conf, "--json", "--out", str(tmp_path / "martlet.toml"))
    assert done.returncode == 0, done.stderr
    report = {entry["line"].split()[0]: entry["outcome"] for entry in json.loads(done.stdout)["items"]}
    assert report["persistent_client_expiration"] == "mapped" and report["persistence"] == "changed"
    assert report["log_dest"] == "changed" and report["log_type"] == "mapped"
    assert "unsupported" not in report.values() and "hunter2" not in done.stdout
    notes = {entry["line"].split()[0]: entry["note"] for entry in json.loads(done.stdout)["items"]}
    remedy = f"martlet secret set bridge-to-the-cloud --data-dir={tmp_path}/data/martlet"
    assert notes["remote_password"] == 'password = "${secret:bridge-to-the-cloud}"; then: ' + remedy
    written = (tmp_path / "martlet.toml").read_text()
    assert remedy in written
    assert '[[bridges]]' in written and 'url = "mqtt://cloud.example:8883"' in written
    assert 'password = "${secret:bridge-to-the-cloud}"' in written and 'topics = ["# out 1"]' in written
    assert "session_expiry_max_secs = 5184000" in written and "queued_messages = 1000" in written
    assert 'listen = "off"' in written and "no HTTP" in {entry["line"] for entry in json.loads(done.stdout)["items"]}
    again = imported(conf, "--out", str(tmp_path / "martlet.toml"))
    assert again.returncode == 1 and "is not overwritten: name another with --out, or remove it" in again.stderr


@pytest.mark.parametrize("line, why", [
    ("plugin /usr/lib/mosquitto_dynamic_security.so", "plugins decide which clients are accepted"),
    ("psk_file /etc/psk", "pre-shared keys"),
    ("mount_point a/", "mount points are not supported"),
    ("clientid_prefixes a-", "client identifiers"),
    ("use_username_as_clientid true", "client identifiers"),
    ("allow_anonymus false", "is unknown"),
    ("allow_anonymous maybe", "true or false"),
    ("password_file /nowhere/passwd", "/nowhere/passwd"),
    ("acl_file /nowhere/acl", "/nowhere/acl"),
    ("bind_interface eth0", "bound to addresses"),
    ("include_dir /nowhere", "cannot read"),
    ("capath /etc/ssl", "the listener has no certfile and keyfile"),
    ("proxy_protocol_v2_require_tls true", "is not checked whether"),
    ("websockets_origin https://a.example,https://b.example", "expected one origin"),
    ("enable_proxy_protocol 3", "expected 1 or 2"),
    ("message_size_limit much", "a whole number"),
])
def test_what_would_leave_a_door_open_does_not_start(tmp_path, line, why):
    conf = tmp_path / "mosquitto.conf"
    conf.write_text(f"listener 1883 127.0.0.1\n{line}\n")
    done = martlet_process.run("config", "check", "--mosquitto-conf", str(conf))
    assert done.returncode != 0 and why in done.stderr, done.stderr


def test_debians_own_file_runs(start_node, tmp_path):
    """With its include_dir; without listeners it is this machine's alone."""
    included = tmp_path / "conf.d"
    included.mkdir()
    (included / "a.conf").write_text("max_queued_messages 77\n")
    conf = tmp_path / "mosquitto.conf"
    conf.write_text(f"pid_file /run/mosquitto/mosquitto.pid\n\npersistence true\npersistence_location {tmp_path}/\n\n"
                    f"log_dest file /var/log/mosquitto/mosquitto.log\n\ninclude_dir {included}\n")
    done = martlet_process.run("config", "show", "--mosquitto-conf", str(conf))
    assert "queued_messages = 77" in done.stdout and 'url = "mqtt://127.0.0.1:1883"' in done.stdout


def upgraded(port, path="/mqtt", origin=None):
    """Status of the answer to a browser that wants to open a WebSocket."""
    lines = [f"GET {path} HTTP/1.1", "Host: broker", "Upgrade: websocket", "Connection: Upgrade",
             "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Protocol: mqtt"]
    lines += [f"Origin: {origin}"] if origin else []
    with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_SECS) as stream:
        stream.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        return int(stream.recv(1000).split()[1])


def test_websockets_of_a_mosquitto_conf_are_open_at_any_path_to_the_pages_that_it_names(start_node, tmp_path):
    conf = tmp_path / "mosquitto.conf"
    ports = free_port(), free_port()
    conf.write_text(f"allow_anonymous true\nlistener {ports[0]} 127.0.0.1\nprotocol websockets\n"
                    f"listener {ports[1]} 127.0.0.1\nprotocol websockets\nwebsockets_origin https://panel.example\n"
                    "websockets_origin https://other.example\n")
    start_node(arguments=["--mosquitto-conf", str(conf)], listen=())
    for path in ["/", "/mqtt", "/ws?token=1"]:
        assert upgraded(ports[0], path, "https://any.example") == 101
    for origin, status in [("https://panel.example", 101), ("https://other.example", 101), (None, 101),
                           ("https://any.example", 403)]:
        assert upgraded(ports[1], "/", origin) == status, origin


def test_a_mosquitto_behind_a_proxy_stays_behind_it(start_node, tmp_path):
    conf = tmp_path / "mosquitto.conf"
    port = free_port()
    conf.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\nenable_proxy_protocol 2\n")
    node = start_node(arguments=["--mosquitto-conf", str(conf)], listen=())
    connect = b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01p"
    with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_SECS) as stream:
        header = b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c" + bytes([192, 0, 2, 1, 192, 0, 2, 9, 1, 1, 1, 1])
        stream.sendall(header + connect)
        assert stream.recv(4) == b"\x20\x02\x00\x00"
        node.wait_for_log('address="192.0.2.1:257"')
    with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_SECS) as stream:
        stream.sendall(connect)
        assert stream.recv(4) == b"", "the header is not left out"


def test_what_is_not_there_is_named_only_where_it_is_wished_for(tmp_path):
    conf = tmp_path / "mosquitto.conf"
    for value, outcome in [("false", "not needed"), ("true", "unsupported")]:
        conf.write_text(f"queue_qos0_messages {value}\nupgrade_outgoing_qos {value}\n")
        report = {entry["line"].split()[0]: entry["outcome"] for entry in json.loads(imported(conf, "--json").stderr)["items"]}
        assert report["queue_qos0_messages"] == report["upgrade_outgoing_qos"] == outcome


@pytest.mark.parametrize("extra", ["", "require_certificate true\n"])
def test_a_certificate_alone_is_served_with_what_cafile_has_of_its_chain(tmp_path, start_node, extra):
    """As OpenSSL does: clients that know the root alone trust the server."""
    root = Authority(tmp_path / "root")
    between = root.sign_authority(tmp_path / "between")
    certificate, key = between.sign("server")
    device = between.sign("device", usage="clientAuth")
    together = tmp_path / "cafile.crt"
    together.write_text(pathlib.Path(root.certificate).read_text() + pathlib.Path(between.certificate).read_text())
    conf, port = tmp_path / "mosquitto.conf", free_port()
    conf.write_text(f"listener {port} 127.0.0.1\ncertfile {certificate}\nkeyfile {key}\ncafile {together}\n"
                    f"allow_anonymous true\n{extra}")
    start_node(arguments=["--mosquitto-conf", str(conf)], listen=())
    shown = subprocess.run(
        [need("openssl", "openssl"), "s_client", "-connect", f"127.0.0.1:{port}", "-CAfile", root.certificate,
         "-verify_return_error", "-showcerts", "-cert", device[0], "-key", device[1]],
        input=b"", capture_output=True, timeout=30)
    text = shown.stdout.decode()
    assert "Verify return code: 0 (ok)" in text, text + shown.stderr.decode()
    assert text.count("BEGIN CERTIFICATE") == 2, "the root is the client's own"


@pytest.mark.parametrize("keyword", ["use_identity_as_username", "use_subject_as_username"])
def test_names_in_certificates_that_nobody_is_asked_for_do_not_start(files, tmp_path, keyword):
    """Mosquitto starts, and refuses everybody; here the password would be enough."""
    port, conf = free_port(), tmp_path / "mosquitto.conf"
    text = (f"listener {port} 127.0.0.1\ncertfile {files['crt']}\nkeyfile {files['key']}\ncafile {files['ca']}\n"
            f"{keyword} true\npassword_file {files['passwd']}\nacl_file {files['acl']}\n")
    conf.write_text(text + "user root\n")
    broker = subprocess.Popen([need("mosquitto", "mosquitto"), "-c", str(conf)], stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL)
    try:
        until(lambda: listening(port), "it listens")
        assert not any(attempts(port, files, True).values())
    finally:
        broker.kill()
        broker.wait()
    done = martlet_process.run("config", "check", "--mosquitto-conf", str(conf))
    assert done.returncode != 0 and f"mosquitto.conf line 5: {keyword}: without require_certificate" in done.stderr
    # Before the first listener it holds for none, there too.
    conf.write_text(f"{keyword} true\n" + text.replace(f"{keyword} true\n", ""))
    done = martlet_process.run("config", "check", "--mosquitto-conf", str(conf))
    assert done.returncode != 0 and "is before the first listener" in done.stderr, done.stderr


@pytest.mark.parametrize("lines, packets, payloads", [
    (["message_size_limit 1000"], 2_000_000, 1000),
    (["message_size_limit 0"], 2_000_000, 0),
    (["message_size_limit 268435455"], 2_000_000, 268435455),
    (["message_size_limit 1000", "max_packet_size 5000"], 5000, 1000),
    (["max_packet_size 268435455", "message_size_limit 1000"], 268435455, 1000),
])
def test_payloads_and_packets_have_limits_of_their_own(tmp_path, lines, packets, payloads):
    conf = tmp_path / "mosquitto.conf"
    conf.write_text("\n".join(lines) + "\n")
    values = values_of(conf)
    assert (values["limits.packet_bytes"][0], values["limits.payload_bytes"][0]) == (packets, payloads)
    told = {entry["line"]: entry for entry in json.loads(imported(conf, "--json").stderr)["items"]}
    # A line that says what holds without it is a default.
    assert told[lines[-1]]["outcome"] == ("default" if lines[-1] == "message_size_limit 0" else "mapped")
    for line in lines:
        # A payload that fits into no packet.
        if line == "message_size_limit 268435455":
            assert "max_packet_size" in told[line]["note"] and "2000000" in told[line]["note"]


def test_lines_of_old_guides_are_taken(tmp_path):
    conf = tmp_path / "mosquitto.conf"
    conf.write_text("retry_interval 20\nallow_zero_length_clientid true\n")
    report = {entry["line"]: entry["outcome"] for entry in json.loads(imported(conf, "--json").stderr)["items"]}
    assert report["retry_interval 20"] == "not needed" and report["allow_zero_length_clientid true"] == "mapped"


def test_a_listener_that_nobody_can_use_yet_starts_as_in_mosquitto(tmp_path):
    """A listener for other machines without credentials: nobody is let in until somebody is added."""
    conf = tmp_path / "mosquitto.conf"
    conf.write_text("listener 1883\n")
    assert imported(conf).returncode == 0
    # A password file of the listener itself stays empty whoever is added to the tables.
    (tmp_path / "nobody").write_text("# none\n")
    conf.write_text(f"per_listener_settings true\nlistener 1883\nacl_file {tmp_path}/nobody\n")
    done = imported(conf)
    assert done.returncode == 3 and "no client could connect" in done.stderr, done


def test_its_file_given_as_a_configuration_is_recognised(tmp_path):
    conf = tmp_path / "mosquitto.conf"
    conf.write_text("# Mosquitto\nlistener 1883\nallow_anonymous true\n")
    done = martlet_process.run("config", "check", "-c", str(conf))
    assert done.returncode == 1 and "given with --mosquitto-conf FILE" in done.stderr, done


def test_everything_that_blocks_is_told_at_once(tmp_path):
    config, out = tmp_path / "mosquitto.conf", tmp_path / "martlet.toml"
    config.write_text(f"""listener 1883 127.0.0.1
no_such_keyword yes
max_inflight_messages many
include_dir {tmp_path}/none.d
allow_anonymous perhaps
password_file {tmp_path}/none.passwd
acl_file {tmp_path}/none.acl
listener 8883
certfile {tmp_path}/none.crt
keyfile {tmp_path}/none.key
""")
    done = martlet_process.run("import", "mosquitto", str(config), "--out", str(out))
    assert done.returncode == 1 and not out.exists()
    for line, keyword in ((2, "no_such_keyword"), (3, "max_inflight_messages"), (4, "include_dir"), (5, "allow_anonymous")):
        assert f"{config} line {line}: {keyword}: " in done.stderr, done.stderr
    for name in ("passwd", "acl", "crt", "key"):
        assert done.stderr.count(f"{tmp_path}/none.{name}:") == 1, done.stderr
    # The same where all lines are understood and files are missing.
    config.write_text(f"""listener 1883 127.0.0.1
password_file {tmp_path}/none.passwd
acl_file {tmp_path}/none.acl
listener 8883
certfile {tmp_path}/none.crt
keyfile {tmp_path}/none.key
listener 8884
""")
    done = martlet_process.run("import", "mosquitto", str(config), "--out", str(out))
    assert done.returncode == 3, done
    for name in ("passwd", "acl", "crt", "key"):
        assert done.stdout.count(f"none.{name}: No such file") == 1, done.stdout


def values_of(conf):
    """The configuration that a file becomes: keys with values and where they come from."""
    done = martlet_process.run("config", "show", "--json", "--mosquitto-conf", str(conf))
    assert done.returncode == 0, done.stderr
    return {entry["key"]: (entry["value"], entry["source"]) for entry in json.loads(done.stdout)["values"]}


def test_packets_are_limited_as_in_mosquitto_2_1_and_it_is_said_so(tmp_path):
    conf = tmp_path / "mosquitto.conf"
    conf.write_text("allow_anonymous true\n")
    assert values_of(conf)["limits.packet_bytes"] == (2_000_000, "mosquitto 2.1's default")
    report = {entry["line"]: entry for entry in json.loads(imported(conf, "--json").stderr)["items"]}
    note = report["no max_packet_size"]["note"]
    assert "limits.packet_bytes = 2000000" in note and "Mosquitto 2.1" in note and "2.0" in note
    conf.write_text("allow_anonymous true\nmax_packet_size 5000\nmessage_size_limit 100\n")
    values = values_of(conf)
    assert values["limits.packet_bytes"][0] == 5000 and values["limits.payload_bytes"][0] == 100
    assert "no max_packet_size" not in imported(conf).stderr


def test_a_full_queue_keeps_the_oldest_messages_as_in_mosquitto(tmp_path):
    conf = tmp_path / "mosquitto.conf"
    conf.write_text("allow_anonymous true\nmax_queued_messages 100\n")
    values = values_of(conf)
    assert values["mqtt.queue_full"] == ("drop-newest", "mosquitto's default")
    assert values["limits.queued_messages"][0] == 100
    report = {entry["line"]: entry for entry in json.loads(imported(conf, "--json").stderr)["items"]}
    assert "as in Mosquitto" in report["full queues"]["note"]


class Spoken:
    """A connection byte by byte, of MQTT 3.1.1 unless told otherwise."""

    def __init__(self, port, flags=2, client_id=b"c", version=4):
        self.socket = socket.create_connection(("127.0.0.1", port), DEADLINE_SECS)
        properties = b"\0" if version == 5 else b""
        body = b"\0\4MQTT" + bytes([version, flags, 0, 0]) + properties + len(client_id).to_bytes(2) + client_id
        self.send(0x10, body)

    def send(self, first, body):
        length, rest = b"", len(body)
        while True:
            rest, low = divmod(rest, 128)
            length += bytes([low | (0x80 if rest else 0)])
            if not rest:
                break
        self.socket.sendall(bytes([first]) + length + body)

    def read(self, length):
        """This number of bytes, or fewer if the connection ends before."""
        found = b""
        while len(found) < length and (more := self.socket.recv(length - len(found))):
            found += more
        return found

    def read_packet(self):
        """The first byte of the next packet and all that follows its Remaining Length, which is one byte."""
        first, length = self.read(2)
        return bytes([first]) + self.read(length)


@pytest.fixture(params=["mosquitto", "martlet"])
def broker(request, tmp_path, start_node):
    """Starts Mosquitto or ours with a file; gives the port that {port} stands for in it."""
    ended = []

    def start(text):
        port, conf = free_port(), tmp_path / "mosquitto.conf"
        conf.write_text(text.format(port=port) + ("user root\n" if request.param == "mosquitto" else ""))
        if request.param == "mosquitto":
            process = subprocess.Popen([need("mosquitto", "mosquitto"), "-c", str(conf)],
                                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            ended.append(process)
            until(lambda: listening(port), "it listens")
        else:
            start_node(arguments=["--mosquitto-conf", str(conf)], listen=())
        return port

    start.is_mosquitto = request.param == "mosquitto"
    yield start
    for process in ended:
        process.kill()
        process.wait()


OPEN = "listener {port} 127.0.0.1\nallow_anonymous true\n"


def test_message_size_limit_is_of_the_payload_and_drops_quietly(broker):
    port = broker(OPEN + "message_size_limit 100\n")
    client = Spoken(port)
    assert client.read(4) == b"\x20\2\0\0"
    client.send(0x82, b"\0\1\0\1t\1")
    assert client.read(5) == b"\x90\3\0\1\1"
    topic = b"t"
    client.send(0x32, b"\0\1" + topic + b"\0\2" + b"x" * 101)
    assert client.read(4) == b"\x40\2\0\2", "acknowledged, and sent to nobody"
    client.send(0x32, b"\0\1" + topic + b"\0\3" + b"y" * 100)
    both = client.read(4 + 2 + 5 + 100)
    assert b"\x40\2\0\3" in both and b"x" not in both and both.count(b"y") == 100


@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("version", [4, 5])
def test_what_is_beyond_message_size_limit_is_answered(broker, version, qos):
    """At QoS 0 with nothing, before MQTT 5 as if it were accepted, in MQTT 5 with a reason that says no."""
    port = broker(OPEN + "message_size_limit 100\n")
    client = Spoken(port, version=version)
    assert client.read_packet()[1:3] == b"\0\0"
    properties = b"\0" * (version == 5)
    client.send(0x82, b"\0\1" + properties + b"\0\1t\2")
    assert client.read_packet()[-1] == 2
    client.send(0x30 | qos << 1, b"\0\1t" + b"\0\2" * (qos > 0) + properties + b"x" * 101)
    client.send(0xC0, b"")
    if qos:
        answer = client.read_packet()
        assert answer[:3] == bytes([0x40 if qos == 1 else 0x50]) + b"\0\2"
        if version == 5:
            # Mosquitto's 0x95 is no reason of PUBACK and PUBREC [MQTT-3.4.2-1] [MQTT-3.5.2-1]: Paho's Python client
            # ends with an error when it comes. Mosquitto's manual says 0x83.
            assert answer[3] == (0x95 if broker.is_mosquitto else 0x83), answer.hex()
    assert client.read(2) == b"\xd0\0", "the connection goes on, and nobody got the message"
    if qos == 2 and version == 5:
        # The Packet Identifier is free again, without a PUBREL.
        client.send(0x34, b"\0\1u\0\2\0y")
        assert client.read_packet()[:3] == b"\x50\0\2"


@pytest.mark.parametrize("version", [4, 5])
def test_an_assigned_identifier_has_mosquittos_form(broker, version):
    client = Spoken(broker(OPEN), client_id=b"", version=version)
    told = client.read_packet()
    assert told[1:3] == b"\0\0"
    if version == 5:
        assigned = re.search(rb"\x12\0\x29(.{41})", told)
        assert assigned and re.fullmatch(r"auto-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", assigned[1].decode(), re.I)


@pytest.mark.parametrize("place", ["of all", "of the listener"])
@pytest.mark.parametrize("version, refused", [(4, b"\x20\2\0\2"), (5, b"\x20")])
def test_an_empty_client_identifier_is_refused_where_the_file_says_so(broker, place, version, refused):
    line = "allow_zero_length_clientid false\n"
    port = broker(line + OPEN if place == "of all" else "per_listener_settings true\n" + OPEN + line)
    client = Spoken(port, client_id=b"", version=version)
    told = client.read(100)
    assert told.startswith(refused) and (version == 4 or told[3] >= 0x80), told.hex()
    assert Spoken(port, version=version).read(4)[3] == 0


@pytest.mark.parametrize("keyword", ["max_qos", "maximum_qos"])
def test_the_highest_qos_is_that_of_the_file(broker, keyword):
    port = broker(OPEN + f"{keyword} 1\n")
    client = Spoken(port)
    assert client.read(4) == b"\x20\2\0\0"
    client.send(0x82, b"\0\1\0\1t\2")
    assert client.read(5) == b"\x90\3\0\1\1", "QoS 1 is granted for 2"
    client.send(0x34, b"\0\1t\0\2x")
    assert client.read(4) == b"", "QoS 2 is too high"


def test_an_acl_file_refuses_a_subscription_at_once_where_that_is_said(start_node, tmp_path):
    acl = tmp_path / "acl"
    acl.write_text("topic read news/#\ntopic deny news/secret\n")

    filters = [b"news/today", b"news/#", b"news/secret", b"#", b"other"]

    def reasons(port, version):
        client = Spoken(port, version=version)
        assert client.read_packet()[1:3] == b"\0\0"
        body = b"\0\1" + b"\0" * (version == 5)
        client.send(0x82, body + b"".join(len(one).to_bytes(2) + one + b"\1" for one in filters))
        return list(client.read_packet()[-len(filters):])

    def granted(subscribe):
        config = tmp_path / "martlet.toml"
        config.write_text(f'[auth]\nacl_file = "{acl}"\n[mqtt]\nallow_anonymous = true\n{subscribe}')
        node = start_node(arguments=["-c", str(config)])
        told = martlet_process.run("acl", "explain", "-", "subscribe", "other", "--acl-file", str(acl), "-c", str(config))
        return reasons(node.port(), 4), reasons(node.port(), 5), told.returncode

    assert granted("") == ([1, 1, 1, 1, 1], [1, 1, 1, 1, 1], 0)
    refused = [1, 1, 0x80, 0x80, 0x80], [1, 1, 0x87, 0x87, 0x87]
    assert granted('[acl]\nsubscribe = "refuse"\n') == (*refused, 1), "0x87 is Not authorized, as Mosquitto says it"


def test_the_report_says_what_states_a_default_and_what_becomes_of_persistence(tmp_path):
    conf = tmp_path / "mosquitto.conf"
    report = lambda: {entry["line"]: entry for entry in json.loads(imported(conf, "--json").stderr)["items"]}
    conf.write_text("sys_interval 10\nretain_available true\nlistener 1883\nmax_connections -1\nprotocol mqtt\n"
                    "per_listener_settings false\nmax_inflight_messages 7\n")
    told = report()
    for line in ("sys_interval 10", "retain_available true", "max_connections -1", "protocol mqtt",
                 "per_listener_settings false"):
        assert told[line]["outcome"] == "default", told[line]
    assert told["max_inflight_messages 7"]["outcome"] == "mapped"
    persistence = told["no persistence"]
    assert persistence["outcome"] == "changed" and "survive a restart" in persistence["note"]
    counted = imported(conf).stderr.splitlines()[-1]
    assert "5 state a default" in counted, counted
    conf.write_text("persistence true\npersistence_location /var/lib/mosquitto/\npersistence_file m.db\n"
                    "autosave_interval 1800\nautosave_on_changes true\n")
    told = report()
    assert "synced before it is acknowledged" in told["persistence true"]["note"]
    assert "mosquitto.db is not read" in told["persistence true"]["note"]
    location = told["persistence_location /var/lib/mosquitto/"]
    assert 'node.data_dir = "/var/lib/mosquitto/martlet"' in location["note"] and location["outcome"] == "changed"
    for line in ("persistence_file m.db", "autosave_interval 1800", "autosave_on_changes true"):
        assert told[line]["outcome"] == "not needed" and "store" in told[line]["note"], told[line]
    assert "no persistence" not in told
    conf.write_text("persistence false\nauto_id_prefix site-\n")
    told = report()
    assert 'store.durability = "memory"' in told["persistence false"]["note"]
    assert told["auto_id_prefix site-"]["outcome"] == "unsupported"


def test_where_mosquitto_logs_to_and_how_much_is_taken_over(start_node, tmp_path):
    conf = tmp_path / "mosquitto.conf"
    log, port = tmp_path / "mosquitto.log", free_port()

    def said(*lines):
        conf.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\n" + "".join(f"{line}\n" for line in lines))
        done = imported(conf, "--json")
        values = {key: value.strip().strip('"') for key, value in re.findall(r"^(\w+) = (.*?)\s+#", done.stdout, re.MULTILINE)}
        return done, values, {entry["line"]: entry for entry in json.loads(done.stderr.splitlines()[0])["items"]}

    _, values, report = said(f"log_dest file {log}", "log_type error", "log_type warning")
    assert values["file"] == str(log) and values["level"] == "warn", values
    assert report[f"log_dest file {log}"]["outcome"] == "mapped", report
    assert said("log_type debug", "log_type error")[1]["level"] == "debug", "lines add to each other"
    assert said("log_dest none")[1]["level"] == said("log_type none")[1]["level"] == "off"
    outcomes = {"log_dest stderr": "default", "log_dest stdout": "changed", "log_dest syslog": "changed",
                "log_dest topic": "unsupported", "log_timestamp true": "not needed", "log_type subscribe": "not needed",
                "log_timestamp_format %Y": "not needed", "log_facility 5": "not needed", "websockets_log_level 7": "not needed"}
    told = {line: entry["outcome"] for line, entry in said(*outcomes)[2].items() if line in outcomes}
    assert told == outcomes
    for wrong in ("log_dest file", "log_dest nowhere", "log_type loud"):
        assert said(wrong)[0].returncode == 1, wrong
    done, _, report = said("log_dest file /nowhere/mosquitto.log")
    assert done.returncode == 3 and "/nowhere/mosquitto.log" in report["all of it"]["note"], done
    # And it runs.
    said(f"log_dest file {log}")
    start_node(arguments=["--mosquitto-conf", str(conf)], listen=())
    until(lambda: log.exists() and "ready" in log.read_text(), "the log is in the file")


def test_an_import_with_errors_reports_the_other_lines_too_and_whose_users_count(tmp_path):
    conf = tmp_path / "mosquitto.conf"
    conf.write_text("listener 1883 127.0.0.1\nplugin /x.so\nmax_queued_messages 77\nallow_anonymus false\nlog_dest topic\n")
    done = imported(conf)
    assert done.returncode == 1 and done.stdout == "", "nothing is written"
    lines = done.stderr.splitlines()
    words = {line.split(": ", 1)[1].split()[0]: line.split()[0] for line in lines if "line " in line and not line.startswith((" ", "martlet"))}
    assert words == {"listener": "mapped", "plugin": "refused", "max_queued_messages": "mapped", "allow_anonymus": "refused",
                     "log_dest": "unsupported"}, done.stderr
    assert ", 2 refused" in done.stderr and "martlet: 2 errors:" in done.stderr
    conf.write_text(f"listener 1883 127.0.0.1\npersistence true\npersistence_location {tmp_path}/\n")
    done = imported(conf)
    assert f"those of the data directory {tmp_path}/martlet, as for a node" in done.stderr, done.stderr
    # Nobody can be added to the listener's own users.
    (tmp_path / "acl").write_text("")
    conf.write_text(f"per_listener_settings true\nlistener 1883\nacl_file {tmp_path}/acl\npersistence true\n"
                    f"persistence_location {tmp_path}/\n")
    done = imported(conf, "--json")
    assert done.returncode == 3 and f"those of {tmp_path}/martlet" in json.loads(done.stderr)["items"][-1]["note"]


@pytest.mark.parametrize("line", [
    "max_qos 1", "max_connections 5", "protocol websockets", "socket_domain ipv4", "listener_allow_anonymous true",
    "enable_proxy_protocol 2", "websockets_origin https://panel.example", "tls_version tlsv1.3", "capath /etc/ssl/certs",
])
def test_what_a_listener_would_lack_because_it_stands_before_the_first_one_is_an_error(tmp_path, line):
    """Mosquitto opens port 1883, too, for most of these, and the listener below does not have them."""
    conf = tmp_path / "mosquitto.conf"
    conf.write_text(f"{line}\nlistener 1884 127.0.0.1\nallow_anonymous true\n")
    done = imported(conf, "--json")
    keyword = line.split()[0]
    why = "is before the first listener, so it applies to none; move it below its listener"
    assert done.returncode == 1 and f"mosquitto.conf line 1: {keyword} {why}" in done.stderr, done.stderr
    report = json.loads(done.stderr[:done.stderr.rindex("}\nmartlet: ") + 1])["items"]
    assert [entry["outcome"] for entry in report if entry["line"] == line] == ["refused"], report


def test_a_line_before_the_first_listener_that_changes_nothing_or_is_that_of_port_is_good(tmp_path):
    conf = tmp_path / "mosquitto.conf"
    for text in ["max_qos 2\nmax_connections -1\nprotocol mqtt\nlistener 1884 127.0.0.1\nallow_anonymous true\n",
                 "max_qos 1\nport 1883\nbind_address 127.0.0.1\nlistener 1884 127.0.0.1\nallow_anonymous true\n"]:
        conf.write_text(text)
        assert imported(conf).returncode == 0, imported(conf).stderr
    assert imported(conf).stdout.count("max_qos = 1") == 1


@pytest.mark.parametrize("lines, said", [
    ("max_packet_size 10", "line 2: max_packet_size: expected a whole number from 20 to 268435455"),
    ("max_packet_size 0", "line 2: max_packet_size: expected a whole number from 20 to 268435455"),
    ("certfile /nowhere/c.pem", "line 2: certfile: the listener has no keyfile; TLS needs both: add `keyfile PATH`"),
    ("keyfile /nowhere/k.pem", "line 2: keyfile: the listener has no certfile; TLS needs both: add `certfile PATH`"),
    ("listener 70000", 'line 2: listener: "70000" is not a port: expected listener PORT [ADDRESS], with a port from 1 to 65535'),
    ("port 0", "line 2: port: expected a port from 1 to 65535"),
    ("sys_interval x", 'line 2: sys_interval: "x" is not a whole number; expected 0 or more'),
    ("connection a\naddress b:99999\ntopic # both", 'line 3: address: "99999" in b:99999 is not a port: expected HOST:PORT'),
    ("password_file /nowhere/passwd\nport x", "line 2: cannot read /nowhere/passwd: No such file"),
])
def test_an_error_of_an_import_names_the_line_and_what_is_expected(tmp_path, lines, said):
    conf = tmp_path / "mosquitto.conf"
    conf.write_text(f"listener 1884 127.0.0.1\n{lines}\n")
    done = imported(conf)
    assert done.returncode == 1 and f"mosquitto.conf {said}" in done.stderr, done.stderr
    assert "no `address`" not in done.stderr, "the error is told once"


# What controls a terminal, or turns the direction of writing.
CONTROLS = ["\x1b]0;owned\x07", "\x7f", "\x9b2J", "\u202e", "\u2066"]


def test_nothing_of_a_file_controls_the_terminal(tmp_path):
    conf = tmp_path / "mosquitto.conf"
    conf.write_text("".join(f"bridge_{text} yes\nlistener 188{at} 127.0.0.1\nlog_dest file /tmp/{text}\n" for at, text in enumerate(CONTROLS)))
    for more in ((), ("--json",)):
        done = imported(conf, *more)
        said = done.stdout + done.stderr
        assert "owned" in said
        found = [text for text in "\x1b\x07\x7f\x9b\u202e\u2066" if text in said]
        assert not found, (found, said)


def test_a_file_without_an_end_is_refused(tmp_path):
    for arguments in (("mosquitto", "/dev/zero"), ("mosquitto", "--password-file", "/dev/zero", "--data-dir", str(tmp_path))):
        done = martlet_process.run("import", *arguments)
        assert done.returncode == 1 and "larger than 64 MiB" in done.stderr, done.stderr
