"""SCRAM-SHA-256 as enhanced authentication, by a client of its own: Paho knows no AUTH."""

import base64
import hashlib
import hmac
import json
import secrets
import socket
import subprocess

import pytest

import martlet_process
from paho_client import Client
from test_access import until
from test_revocation import hashed

METHOD = b"SCRAM-SHA-256"
CREDENTIALS = [("MARTLET_AUTH__CREDENTIALS", "alice:secret,bob:wörd")]
CONNACK, AUTH, DISCONNECT, PINGRESP = 0x20, 0xF0, 0xE0, 0xD0
CONTINUE, AGAIN = 0x18, 0x19


def string(data):
    return len(data).to_bytes(2, "big") + data


def variable(number):
    out = bytearray()
    while True:
        out.append(number % 128 | (128 if number > 127 else 0))
        number //= 128
        if not number:
            return bytes(out)


def packet(kind, body):
    return bytes([kind]) + variable(len(body)) + body


def proof_properties(data, method=METHOD):
    properties = b"\x15" + string(method)
    if data is not None:
        properties += b"\x16" + string(data)
    return variable(len(properties)) + properties


class Scram:
    """The client's side as RFC 5802 and 7677 have it, by nothing but Python's library."""

    def __init__(self, user, password):
        self.password = password.encode()
        self.nonce = base64.b64encode(secrets.token_bytes(18))
        self.bare = b"n=" + user.encode() + b",r=" + self.nonce
        self.first = b"n,," + self.bare

    def answer(self, server_first):
        fields = dict(part.split(b"=", 1) for part in server_first.split(b","))
        assert fields[b"r"].startswith(self.nonce) and len(fields[b"r"]) > len(self.nonce)
        self.salt, self.iterations = base64.b64decode(fields[b"s"]), int(fields[b"i"])
        salted = hashlib.pbkdf2_hmac("sha256", self.password, self.salt, self.iterations)
        without_proof = b"c=biws,r=" + fields[b"r"]
        everything = b",".join([self.bare, server_first, without_proof])

        def mac(key, text):
            return hmac.digest(key, text, "sha256")

        client_key = mac(salted, b"Client Key")
        signature = mac(hashlib.sha256(client_key).digest(), everything)
        proof = bytes(one ^ other for one, other in zip(client_key, signature))
        self.expected = b"v=" + base64.b64encode(mac(mac(salted, b"Server Key"), everything))
        return without_proof + b",p=" + base64.b64encode(proof)


class Wire:
    """A connection with packets as bytes."""

    def __init__(self, node):
        self.socket = socket.create_connection(("127.0.0.1", node.port()), timeout=60)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def connect(self, client_id, data, method=METHOD, user=None):
        flags = 0x02 | (0x80 if user else 0)
        body = string(b"MQTT") + b"\x05" + bytes([flags]) + b"\x00\x00" + proof_properties(data, method)
        body += string(client_id.encode()) + (string(user.encode()) if user else b"")
        self.socket.sendall(packet(0x10, body))

    def auth(self, reason, data, method=METHOD):
        self.socket.sendall(packet(AUTH, bytes([reason]) + proof_properties(data, method)))

    def exactly(self, count):
        data = b""
        while len(data) < count:
            more = self.socket.recv(count - len(data))
            if not more:
                return None
            data += more
        return data

    def receive(self):
        """The next packet: its kind, its reason code, and its method and data; None at the end."""
        kind = self.exactly(1)
        if kind is None:
            return None
        length, shift = 0, 0
        while True:
            byte = self.exactly(1)[0]
            length |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                break
        body = self.exactly(length) if length else b""
        at = 1 if kind[0] == CONNACK else 0
        reason = body[at] if len(body) > at else 0
        properties = body[at + 2:]
        found = {}
        for identifier in (0x15, 0x16):
            # Both stand last in what this server sends, in this order, and nothing before them has these bytes.
            start = properties.find(bytes([identifier]))
            if start >= 0:
                length = int.from_bytes(properties[start + 1:start + 3], "big")
                found[identifier] = properties[start + 3:start + 3 + length]
                properties = properties[start + 3 + length:]
        return kind[0], reason, found.get(0x15), found.get(0x16)

    def prove(self, client_id, user, password, named=None):
        """CONNECT and its exchange; the CONNACK."""
        scram = Scram(user, password)
        self.connect(client_id, scram.first, user=named)
        kind, reason, method, data = self.receive()
        assert (kind, reason, method) == (AUTH, CONTINUE, METHOD)
        self.auth(CONTINUE, scram.answer(data))
        return scram, self.receive()

    def prove_again(self, user, password):
        """Re-authentication; the packet that ends it."""
        scram = Scram(user, password)
        self.auth(AGAIN, scram.first)
        kind, reason, method, data = self.receive()
        assert (kind, reason, method) == (AUTH, CONTINUE, METHOD)
        self.auth(CONTINUE, scram.answer(data))
        return scram, self.receive()

    def is_alive(self):
        self.socket.sendall(b"\xc0\x00")
        return self.receive()[0] == PINGRESP


@pytest.fixture
def node(start_node):
    return start_node(variables=CREDENTIALS, settings=["auth.scram=true", "auth.lockout_failures=0"])


def test_who_has_the_password_is_let_in_and_the_server_shows_that_it_knows_it(node):
    with Wire(node) as wire:
        scram, answer = wire.prove("a", "alice", "secret")
        assert answer == (CONNACK, 0, METHOD, scram.expected)
        assert scram.iterations >= 4096 and wire.is_alive()
    with Wire(node) as wire:
        # Not in ASCII, and with the name in CONNECT too.
        scram, answer = wire.prove("b", "bob", "wörd", named="bob")
        assert answer == (CONNACK, 0, METHOD, scram.expected)


def test_who_has_not_is_refused_and_cannot_tell_which_names_there_are(node):
    salts = {}
    for user in ["alice", "alice", "nobody", "nobody"]:
        with Wire(node) as wire:
            scram, answer = wire.prove("a", user, "wrong")
            assert answer[:2] == (CONNACK, 0x86) and wire.receive() is None
            salts.setdefault(user, set()).add((scram.salt, scram.iterations))
    assert all(len(found) == 1 for found in salts.values()), "the salt of a name is always the same"
    (alice, alices), (nobody, nobodys) = [next(iter(salts[user])) for user in ("alice", "nobody")]
    assert len(alice) == len(nobody) and alices == nobodys and alice != nobody
    node.wait_for_log("no SCRAM verifier of nobody is in auth.credentials")


def test_garbage_and_other_methods_are_refused(node):
    for data, method, reason in [(b"n,,n=alice,r=x", b"SCRAM-SHA-1", 0x8C), (b"p=tls-exporter,,n=alice,r=x", METHOD, 0x87),
                                 (b"", METHOD, 0x87), (None, METHOD, 0x87), (b"\xff" * 500, METHOD, 0x87)]:
        with Wire(node) as wire:
            wire.connect("a", data, method)
            assert wire.receive()[:2] == (CONNACK, reason), (data, method)
            assert wire.receive() is None
    with Wire(node) as wire:
        wire.connect("a", Scram("alice", "secret").first, user="bob")
        assert wire.receive()[:2] == (CONNACK, 0x87)
    with Wire(node) as wire:
        # What proved it once proves nothing again.
        scram, _ = wire.prove("a", "alice", "secret")
        with Wire(node) as thief:
            thief.connect("b", scram.first)
            _, _, _, data = thief.receive()
            thief.auth(CONTINUE, b"c=biws,r=" + data.split(b",")[0][2:] + b",p=" + scram.expected[2:])
            assert thief.receive()[:2] == (CONNACK, 0x86)


def test_where_scram_is_off_its_method_is_not_known(start_node):
    node = start_node(variables=CREDENTIALS)
    with Wire(node) as wire:
        wire.connect("a", Scram("alice", "secret").first)
        assert wire.receive()[:2] == (CONNACK, 0x8C) and wire.receive() is None
    node.wait_for_log("auth.scram")


def test_a_client_proves_again_who_it_is(node):
    with Wire(node) as wire:
        wire.prove("a", "alice", "secret")
        for _ in range(3):
            scram, answer = wire.prove_again("alice", "secret")
            assert answer == (AUTH, 0, METHOD, scram.expected)
            assert wire.is_alive()
        _, answer = wire.prove_again("alice", "wrong")
        assert answer[:2] == (DISCONNECT, 0x87) and wire.receive() is None
    node.wait_for_log("re-authentication refused")
    with Wire(node) as wire:
        wire.prove("a", "alice", "secret")
        # Nobody becomes somebody else.
        wire.auth(AGAIN, Scram("bob", "wörd").first)
        assert wire.receive()[:2] == (DISCONNECT, 0x87) and wire.receive() is None


def test_who_tries_passwords_by_scram_is_locked_out(start_node):
    node = start_node(variables=CREDENTIALS, settings=["auth.scram=true", "auth.lockout_failures=3"])
    for _ in range(3):
        with Wire(node) as wire:
            _, answer = wire.prove("a", "alice", "wrong")
            assert answer[1] == 0x86
    with Wire(node) as wire:
        wire.connect("a", Scram("alice", "secret").first)
        assert wire.receive()[:2] == (CONNACK, 0x9F)
    # Nor by sending the password.
    with pytest.raises(Exception):
        with Client(node, "b", username="alice", password="secret"):
            pass
    node.wait_for_log("locked out")


def test_a_password_that_is_taken_away_ends_the_connection(start_node, tmp_path):
    config = tmp_path / "martlet.toml"

    def write(users):
        config.write_text(f'[auth]\nscram = true\ncredentials = "{users}"\n')

    write("alice:secret,bob:word")
    node = start_node(arguments=["--config", str(config)])
    with Wire(node) as alice, Wire(node) as bob:
        alice.prove("a", "alice", "secret")
        bob.prove("b", "bob", "word")
        write("alice:secret,bob:other")
        done = martlet_process.run("reload", "--data-dir", node.data_dir)
        assert done.returncode == 0, done.stderr
        assert bob.receive()[:2] == (DISCONNECT, 0x87)
        assert alice.is_alive()
    with Wire(node) as bob:
        _, answer = bob.prove("b", "bob", "other")
        assert answer[:2] == (CONNACK, 0)


def martlet(node, command, *arguments):
    return [martlet_process.binary(), command, "-h", "127.0.0.1", "-p", str(node.port()), *arguments]


def test_the_commands_prove_their_password_and_send_none(node, name):
    right, wrong = ["--scram", "-u", "alice", "-P", "secret"], ["--scram", "-u", "alice", "-P", "wrong"]
    sub = subprocess.Popen(martlet(node, "sub", *right, "-i", name, "-t", name, "-C", "1", "-W", "20"), stdout=subprocess.PIPE, text=True)

    def has_come():
        done = martlet_process.run("pub", "-h", "127.0.0.1", "-p", str(node.port()), *right, "-t", name, "-m", "hello", "-q", "1")
        assert done.returncode == 0, done.stderr
        return sub.poll() is not None

    until(has_come, "a message for the subscriber")
    assert sub.communicate()[0] == "hello\n"
    done = martlet_process.run("pub", "-h", "127.0.0.1", "-p", str(node.port()), *wrong, "-t", name, "-m", "x")
    assert done.returncode == 0x86 and "Bad username or password" in done.stderr


class Impostor:
    """Takes one connection, knows no password, and lets in."""

    def __init__(self, answers):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.answers = answers

    def port(self):
        return self.listener.getsockname()[1]

    def serve(self):
        connection, _ = self.listener.accept()
        with connection:
            connection.settimeout(10)
            sent = connection.recv(4096)
            nonce = sent.split(b",r=")[1].split(b"\0")[0][:24]
            for answer in self.answers:
                connection.sendall(answer(nonce))
                sent = connection.recv(4096)
            return sent


def auth_of_impostor(nonce):
    data = b"r=" + nonce + b"mine,s=AAAA,i=1"
    return packet(AUTH, bytes([CONTINUE]) + proof_properties(data))


def connack_of_impostor(_nonce):
    data = b"v=" + base64.b64encode(bytes(32))
    return packet(CONNACK, b"\0\0" + proof_properties(data))


@pytest.mark.parametrize("answers", [[connack_of_impostor], [auth_of_impostor, connack_of_impostor]])
def test_a_server_that_does_not_know_the_password_gets_no_message(answers):
    impostor = Impostor(answers)
    command = martlet(impostor, "pub", "--scram", "-u", "alice", "-P", "secret", "-t", "t", "-m", "private")
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as pub:
        assert impostor.serve() == b"", "nothing is sent to it"
        _, said = pub.communicate(timeout=60)
    assert pub.returncode == 1 and "authentication failed" in said


def test_users_of_the_tables_prove_their_passwords_once_a_verifier_is_stored(start_node, tmp_path):
    config = tmp_path / "martlet.toml"

    def user(action, name, *more, scram, password="secret"):
        config.write_text(f'[node]\ndata_dir = "{tmp_path}/data"\n[auth]\nscram = {str(scram).lower()}\n')
        done = subprocess.run([martlet_process.binary(), "user", action, name, "-c", str(config), *more,
                               *(["--weak"] if action != "set" else [])],
                              input=password + "\n", capture_output=True, text=True, timeout=60,
                              env=martlet_process.environment())
        assert done.returncode == 0, done.stderr

    user("add", "early", scram=False)
    user("add", "alice", scram=True)
    node = start_node(data_dir=tmp_path / "data", settings=["auth.scram=true"])

    def let_in(name, password="secret"):
        done = subprocess.run(
            [martlet_process.binary(), "pub", "-p", str(node.port()), "-t", "t", "-m", "x", "-q", "1", "-V", "5",
             "--scram", "-u", name, "-P", password], capture_output=True, text=True, timeout=60,
            env=martlet_process.environment())
        return done.returncode == 0

    assert let_in("alice") and not let_in("alice", "wrong")
    assert not let_in("early")
    node.wait_for_log("no SCRAM verifier is stored for early: set the password again while auth.scram is on")
    user("passwd", "early", scram=True, password="another")
    assert let_in("early", "another") and not let_in("early")
    user("set", "alice", "--disable", scram=True)
    assert not let_in("alice")
    node.wait_for_log("user alice is disabled")


def test_names_and_passwords_are_the_same_in_each_of_their_forms(start_node):
    """SASLprep, RFC 5802 section 2.2: an umlaut in one letter or two, a soft hyphen that is not seen."""
    node = start_node(variables=[("MARTLET_AUTH__CREDENTIALS", "bob:wo\u0308rd")],
                      settings=["auth.scram=true", "auth.lockout_failures=0"])
    for number, (user, named) in enumerate([("bob", None), ("b\u00adob", "bob"), ("bob", "b\u00adob")]):
        with Wire(node) as wire:
            scram, answer = wire.prove(f"c{number}", user, "w\u00f6rd", named=named)
            assert answer == (CONNACK, 0, METHOD, scram.expected), (user, named)
    with Wire(node) as wire:
        wire.connect("d", Scram("bob\u0007", "w\u00f6rd").first)
        assert wire.receive()[:2] == (CONNACK, 0x87)
    node.wait_for_log("that SASLprep forbids")


def test_who_knows_a_name_decides_about_it_by_scram_as_by_a_password(start_node, tmp_path):
    """A disabled user, a device's identifier, and a name that another source has first."""
    def martlet(*words):
        done = subprocess.run([martlet_process.binary(), *words, "--data-dir", str(tmp_path / "data")],
                              input="tables\n", capture_output=True, text=True, timeout=60,
                              env={**martlet_process.environment(), "MARTLET_AUTH__SCRAM": "true"})
        assert done.returncode == 0, done.stderr

    martlet("user", "add", "--weak", "off")
    martlet("user", "set", "off", "--disable")
    martlet("user", "add", "--weak", "both")
    martlet("device", "add", "d1")
    passwords = tmp_path / "passwd"
    passwords.write_text(f"both:{hashed('file')}\n")
    passwords.chmod(0o600)
    node = start_node(
        data_dir=tmp_path / "data", variables={"MARTLET_AUTH__CREDENTIALS": "off:env,ann:env"},
        settings=["auth.scram=true", f"auth.password_file={passwords}", "auth.lockout_failures=0",
                  "auth.order=password-file, credentials, registry"])

    def let_in(name, password, client, *scram):
        done = subprocess.run(
            [martlet_process.binary(), "pub", "-p", str(node.port()), "-t", "t", "-m", "x", "-q", "1", "-V", "5",
             *scram, "-u", name, "-P", password, "-i", client], capture_output=True, text=True, timeout=60,
            env=martlet_process.environment())
        return done.returncode == 0

    for scram in [[], ["--scram"]]:
        assert let_in("ann", "env", "c", *scram)
        assert not let_in("ann", "env", "d1", *scram), "the identifier of a device"
        assert not let_in("off", "env", "c", *scram)
        assert not let_in("both", "tables", "c", *scram), "the password file has the name first"
    assert let_in("both", "file", "c")


def test_a_password_is_kept_for_scram_if_the_node_that_runs_speaks_it(start_node, tmp_path):
    """The command knows the data directory alone."""
    data_dir = str(tmp_path / "data")

    def user(*arguments):
        done = martlet_process.run("user", *arguments, "--generate", "--json", "--data-dir", data_dir)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)["password"]

    user("add", "first")
    node = start_node(settings=["auth.scram=true"], data_dir=data_dir)
    for arguments in [("add", "alice"), ("passwd", "alice"), ("passwd", "first")]:
        password = user(*arguments)
        with Wire(node) as wire:
            assert wire.prove(arguments[0], arguments[1], password)[1][:2] == (CONNACK, 0), arguments
