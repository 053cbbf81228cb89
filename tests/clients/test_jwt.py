"""Signed tokens in the place of passwords: what is let in, what is not, and when it ends."""

import base64
import hashlib
import hmac
import http.server
import json
import subprocess
import threading
import time

import pytest

import martlet_process
from programs import need
from paho_client import Client
from test_access import publish, until

SECRET = b"a secret of more than thirty-two bytes"


def encoded(value):
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def openssl(*arguments, data=b""):
    done = subprocess.run([need("openssl", "openssl"), *map(str, arguments)], input=data, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def raw_signature(der):
    """r and s of an ECDSA signature, 32 bytes each, out of its DER."""
    at, parts = 2, []
    for _ in range(2):
        length = der[at + 1]
        parts.append(int.from_bytes(der[at + 2:at + 2 + length], "big").to_bytes(32, "big"))
        at += 2 + length
    return b"".join(parts)


class Signer:
    """Makes tokens with a key of this kind, and knows the file that the broker is given."""

    KINDS = {"RS256": ["genrsa", "2048"], "ES256": ["ecparam", "-genkey", "-noout", "-name", "prime256v1"],
             "EdDSA": ["genpkey", "-algorithm", "ed25519"]}

    def __init__(self, directory, algorithm):
        self.algorithm, self.directory = algorithm, directory
        self.file = directory / f"{algorithm}.key"
        if algorithm == "HS256":
            self.file.write_bytes(SECRET + b"\n")
            return
        self.private = directory / f"{algorithm}.pem"
        self.private.write_bytes(openssl(*self.KINDS[algorithm]))
        self.file.write_bytes(openssl("pkey", "-in", self.private, "-pubout"))

    def sign(self, data):
        if self.algorithm == "HS256":
            return hmac.new(SECRET, data, hashlib.sha256).digest()
        if self.algorithm == "EdDSA":
            (self.directory / "data").write_bytes(data)
            return openssl("pkeyutl", "-sign", "-rawin", "-inkey", self.private, "-in", self.directory / "data")
        signature = openssl("dgst", "-sha256", "-sign", self.private, data=data)
        return signature if self.algorithm == "RS256" else raw_signature(signature)

    def token(self, header=(), **claims):
        claims = {"sub": "device-7", "exp": int(time.time()) + 60, **claims}
        claims = {key: value for key, value in claims.items() if value is not None}
        data = encoded({"alg": self.algorithm, "typ": "JWT", **dict(header)}) + b"." + encoded(claims)
        return (data + b"." + encoded(self.sign(data))).decode()


def let_in(node, token, client="c1", topic="t"):
    code, said = publish(node, topic, "-V", "5", "-u", "jwt", "-P", token, "-i", client)
    return code == 0 and "ot authorized" not in said


@pytest.mark.parametrize("algorithm", ["HS256", "RS256", "ES256", "EdDSA"])
def test_a_token_is_good_for_its_key_alone(start_node, tmp_path, algorithm):
    signer = Signer(tmp_path, algorithm)
    node = start_node(settings=[f"auth.jwt_keys={signer.file}", f"auth.jwt_algorithm={algorithm}",
                                "auth.lockout_failures=0"])
    good = signer.token()
    assert let_in(node, good)
    head, claims, signature = good.split(".")
    other = encoded({"sub": "admin", "exp": int(time.time()) + 60}).decode()
    (tmp_path / "other").mkdir()
    now = int(time.time())
    bad = {
        "another's claims": f"{head}.{other}.{signature}",
        "no signature": f"{head}.{claims}.",
        "algorithm none": f"{encoded({'alg': 'none'}).decode()}.{claims}.",
        "another key": Signer(tmp_path / "other", algorithm).token() if algorithm != "HS256" else "",
        "expired": signer.token(exp=now - 60),
        "without an end": signer.token(exp=None),
        "not yet": signer.token(nbf=now + 60),
        "without a name": signer.token(sub=None),
        "an empty name": signer.token(sub=""),
        "a name that is none": signer.token(sub=7),
        "no token": "secret",
        "permissions that are none": signer.token(acl={"pub": ["a/#/b"]}),
        "permissions of an unknown kind": signer.token(acl={"write": ["a"]}),
        "a header that has to be understood": signer.token(header={"crit": ["b64"], "b64": True}),
    }
    for what, token in bad.items():
        assert not let_in(node, token), what
    assert good not in node.log()


def test_a_public_key_is_no_secret(start_node, tmp_path):
    """The oldest trick: a token signed by HMAC with the public key, which everybody may have."""
    signer = Signer(tmp_path, "RS256")
    node = start_node(settings=[f"auth.jwt_keys={signer.file}", "auth.jwt_algorithm=RS256"])
    data = encoded({"alg": "HS256"}) + b"." + encoded({"sub": "admin", "exp": int(time.time()) + 60})
    forged = data + b"." + encoded(hmac.new(signer.file.read_bytes(), data, hashlib.sha256).digest())
    assert not let_in(node, forged.decode())
    done = martlet_process.run("config", "check", "--set", f"auth.jwt_keys={signer.file}", "--set",
                               "auth.jwt_algorithm=HS256")
    assert done.returncode != 0 and "HS… needs a secret" in done.stderr


def test_a_token_says_what_its_client_may_do_and_when_it_ends(start_node, tmp_path):
    signer = Signer(tmp_path, "HS256")
    node = start_node(settings=[f"auth.jwt_keys={signer.file}", "auth.jwt_algorithm=HS256"])
    permitted = {"pub": ["d/%c/up"], "sub": ["d/%c/down"], "all": ["shared/%u"]}
    token = signer.token(acl=permitted)
    assert let_in(node, token, topic="d/c1/up") and let_in(node, token, topic="shared/device-7")
    assert not let_in(node, token, topic="d/c2/up") and not let_in(node, token, topic="d/c1/down")
    with Client(node, "c1").credentials("jwt", signer.token(acl=permitted, exp=int(time.time()) + 8)) as client:
        assert client.subscribe("d/c1/down") == [0]
        assert client.subscribe("d/c2/down")[0] >= 0x80
        client.wait_for_end()
    until(lambda: "its token has expired" in node.log(), "the log says why")


def test_issuer_audience_and_client_are_looked_at(start_node, tmp_path):
    signer = Signer(tmp_path, "HS256")
    node = start_node(settings=[
        f"auth.jwt_keys={signer.file}", "auth.jwt_algorithm=HS256", "auth.jwt_issuer=us", "auth.jwt_audience=mqtt",
        "auth.jwt_client_claim=client", "auth.jwt_user_claim=name"])
    good = {"iss": "us", "aud": ["mqtt", "web"], "client": "c1", "name": "x"}
    assert let_in(node, signer.token(**good))
    for claim in good:
        assert not let_in(node, signer.token(**{**good, claim: "other"})) or claim == "name", claim
        assert not let_in(node, signer.token(**{**good, claim: None})), claim
    assert not let_in(node, signer.token(**good), client="c2")


def test_keys_of_a_set_are_changed_while_it_runs(start_node, tmp_path):
    old = Signer(tmp_path, "HS256")
    jwks = tmp_path / "jwks.json"

    def write(*secrets):
        jwks.write_text(json.dumps({"keys": [
            {"kty": "oct", "kid": f"k{number}", "alg": "HS256", "k": encoded(secret).decode()}
            for number, secret in enumerate(secrets)]}))

    write(b"another secret of more than thirty-two bytes", SECRET)
    node = start_node(settings=[f"auth.jwt_keys={jwks}"])
    assert let_in(node, old.token()) and let_in(node, old.token(header={"kid": "k1"}))
    assert not let_in(node, old.token(header={"kid": "k0"}))
    write(b"another secret of more than thirty-two bytes")
    assert martlet_process.run("reload", "--data-dir", node.data_dir).returncode == 0
    assert not let_in(node, old.token())
    jwks.write_text('{"keys": [{"kty": "oct", "k": "AAAA"}]}')
    done = martlet_process.run("reload", "--data-dir", node.data_dir)
    assert done.returncode != 0 and "`alg` is missing" in done.stderr


def set_of(signer, **more):
    """The public key of an RSA signer as a set, with no `alg`."""
    modulus = openssl("rsa", "-in", signer.private, "-noout", "-modulus").decode().strip().partition("=")[2]
    key = {"kty": "RSA", "kid": "k1", "n": encoded(bytes.fromhex(modulus)).decode(), "e": "AQAB", **more}
    return json.dumps({"keys": [key]})


def test_a_key_of_a_set_that_does_not_say_for_what_it_is_is_for_what_is_configured(start_node, tmp_path):
    signer = Signer(tmp_path, "RS256")
    jwks = tmp_path / "jwks.json"
    jwks.write_text(set_of(signer))
    server = KeyServer()
    server.body = set_of(signer).encode()
    for keys in [jwks, server.url]:
        node = start_node(settings=[f"auth.jwt_keys={keys}", "auth.jwt_algorithm=RS256", "auth.lockout_failures=0"])
        assert let_in(node, signer.token())
        # What it is for is not the token's word, nor is a public key a secret.
        assert not let_in(node, signer.token(header={"alg": "RS384"}))
        assert not let_in(node, signer.token(header={"alg": "HS256"}))
    jwks.write_text(set_of(signer, alg="RS384"))
    node = start_node(settings=[f"auth.jwt_keys={jwks}", "auth.jwt_algorithm=RS256"])
    assert not let_in(node, signer.token()), "what it says of itself counts"
    jwks.write_text(set_of(signer))
    for algorithm in ["HS256", "ES256", "EdDSA"]:
        done = martlet_process.run("config", "check", "--set", f"auth.jwt_keys={jwks}", "--set",
                                   f"auth.jwt_algorithm={algorithm}")
        assert done.returncode != 0 and f"it is not a key for {algorithm}" in done.stderr, done.stderr


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
def test_a_private_key_is_not_what_tokens_are_checked_with(tmp_path, algorithm):
    signer = Signer(tmp_path, algorithm)
    done = martlet_process.run("config", "check", "--set", f"auth.jwt_keys={signer.private}", "--set",
                               f"auth.jwt_algorithm={algorithm}")
    assert done.returncode != 0 and f"{signer.private}: this is a private key" in done.stderr, done.stderr
    assert "openssl pkey -in PRIVATE -pubout" in done.stderr


@pytest.mark.parametrize("key", ["jwt_issuer", "jwt_audience", "jwt_client_claim"])
def test_what_is_asked_of_tokens_that_nobody_takes_is_remarked(key):
    done = martlet_process.run("config", "check", "--set", f"auth.{key}=us")
    assert f"auth.{key} is set, but without auth.jwt_keys no token is accepted" in done.stdout + done.stderr


class KeyServer(http.server.ThreadingHTTPServer):
    """Serves a set of keys; counts how often it is asked."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), KeyHandler)
        self.body, self.status, self.asked = b"", 200, 0
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}/jwks.json?token=private"

    def holds(self, **secrets):
        self.body = json.dumps({"keys": [
            {"kty": "oct", "kid": kid, "alg": "HS256", "k": encoded(secret).decode()}
            for kid, secret in secrets.items()]}).encode()


class KeyHandler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked += 1
        self.send_response(self.server.status)
        self.end_headers()
        self.wfile.write(self.server.body)

    def log_message(self, *_):
        pass


def test_keys_come_from_a_server_and_are_fetched_anew(start_node, tmp_path):
    signer = Signer(tmp_path, "HS256")
    server = KeyServer()
    server.status = 500
    node = start_node(settings=[f"auth.jwt_keys={server.url}", "auth.jwt_refresh_secs=1",
                                "auth.remember_secs=0", "auth.lockout_failures=0"])
    # Fails closed, and the client may come again.
    code, said = publish(node, "t", "-V", "5", "-u", "jwt", "-P", signer.token())
    assert code != 0 and "unavailable" in said, said
    server.status = 200
    server.holds(old=SECRET)
    until(lambda: let_in(node, signer.token()), "keys are fetched")
    asked, began = server.asked, time.monotonic()
    assert all(let_in(node, signer.token()) for _ in range(5))
    # Once a second, however long five clients take.
    assert server.asked - asked <= 1 + (time.monotonic() - began), "not for each client"
    # While the server does not answer the last keys hold.
    server.status = 503
    time.sleep(1.1)
    assert let_in(node, signer.token())
    server.status = 200
    server.holds(new=b"another secret of more than thirty-two bytes")
    until(lambda: not let_in(node, signer.token()), "old keys are given up")
    assert "private" not in node.log()


def test_keys_of_a_server_hold_when_files_are_read_again_while_it_is_down(start_node, tmp_path):
    signer = Signer(tmp_path, "HS256")
    server = KeyServer()
    server.holds(old=SECRET)
    node = start_node(settings=[f"auth.jwt_keys={server.url}", "auth.jwt_refresh_secs=600", "auth.remember_secs=0",
                                "auth.lockout_failures=0"])
    assert let_in(node, signer.token())
    with Client(node, "stays").credentials("jwt", signer.token()) as stays:
        server.status = 503
        assert martlet_process.run("reload", "--data-dir", node.data_dir).returncode == 0
        assert let_in(node, signer.token())
        stays.publish("t", "still here", qos=1)
    # It is asked at once what it has now, not when the time is over.
    server.status = 200
    server.holds(new=b"another secret of more than thirty-two bytes")
    assert martlet_process.run("reload", "--data-dir", node.data_dir).returncode == 0
    assert not let_in(node, signer.token())


@pytest.mark.parametrize("how", ["another", "none"])
def test_who_came_by_a_key_that_its_server_has_no_more_is_ended(start_node, tmp_path, how):
    """Though no token comes meanwhile; who came by another key stays."""
    signer = Signer(tmp_path, "HS256")
    server = KeyServer()
    other = b"another secret of more than thirty-two bytes"
    server.holds(goes=SECRET, stays=other)
    node = start_node(settings=[f"auth.jwt_keys={server.url}", "auth.jwt_refresh_secs=1", "auth.lockout_failures=0"])

    def signed(secret, kid):
        data = encoded({"alg": "HS256", "kid": kid}) + b"." + encoded({"sub": "device", "exp": int(time.time()) + 600})
        return (data + b"." + encoded(hmac.new(secret, data, hashlib.sha256).digest())).decode()

    with Client(node, "c1").credentials("jwt", signed(SECRET, "goes")) as goes, \
         Client(node, "c2").credentials("jwt", signed(other, "stays")) as stays:
        asked = server.asked
        until(lambda: server.asked >= asked + 2, "it is asked though no token comes")
        for client in (goes, stays):
            client.publish("t", "still here", qos=1)
        if how == "another":
            server.holds(stays=other)
        else:
            server.body = b'{"keys": []}'
        goes.wait_for_end()
        if how == "another":
            stays.publish("t", "still here", qos=1)
            assert not let_in(node, signed(SECRET, "goes"), "c1")
        else:
            stays.wait_for_end()


def test_keys_do_not_come_over_an_open_network():
    done = martlet_process.run("config", "check", "--set", "auth.jwt_keys=http://keys.example/jwks.json")
    assert done.returncode != 0 and "expected https://" in done.stderr


def test_a_token_that_has_ended_takes_no_session_over(start_node, tmp_path):
    signer = Signer(tmp_path, "HS256")
    node = start_node(settings=[f"auth.jwt_keys={signer.file}", "auth.jwt_algorithm=HS256"])
    ends = int(time.time()) + 6
    short = signer.token(exp=ends)
    # It is remembered from here on.
    assert let_in(node, short)
    with Client(node, "c1").credentials("jwt", signer.token()) as client:
        until(lambda: time.time() > ends + 0.1, "it has ended")
        assert not let_in(node, short)
        assert client.subscribe("t") == [0], "the other is there still"


def test_what_is_critical_and_not_understood_is_refused_with_that_reason(start_node, tmp_path):
    """RFC 7515 section 4.1.11."""
    signer = Signer(tmp_path, "HS256")
    node = start_node(settings=[f"auth.jwt_keys={signer.file}", "auth.jwt_algorithm=HS256"])
    assert not let_in(node, signer.token(header={"crit": ["exp"]}))
    node.wait_for_log("its header has `crit`")


def test_who_came_by_a_key_that_is_taken_away_goes_with_it(start_node, tmp_path):
    """A set of two keys loses one: within 50 ms of the reload."""
    keys = {"old": b"o" * 32, "new": b"n" * 32}
    path = tmp_path / "keys.json"

    def has(*names):
        path.write_text(json.dumps({"keys": [{"kty": "oct", "alg": "HS256", "kid": name,
                                              "k": encoded(keys[name]).decode()} for name in names]}))

    def token(name):
        data = encoded({"alg": "HS256", "kid": name}) + b"." + encoded({"sub": name, "exp": int(time.time()) + 600})
        return (data + b"." + encoded(hmac.new(keys[name], data, hashlib.sha256).digest())).decode()

    has("old", "new")
    node = start_node(settings=[f"auth.jwt_keys={path}"])
    with Client(node, "stays").credentials("jwt", token("new")) as stays:
        with Client(node, "goes", clean=False).credentials("jwt", token("old")) as goes:
            has("new")
            assert martlet_process.run("reload", "--data-dir", node.data_dir).returncode == 0
            goes.wait_for_end()
        stays.publish("t", "still here", qos=1)
        assert not let_in(node, token("old"), client="goes")
        # Another order of the same keys concerns nobody.
        has("old", "new")
        assert martlet_process.run("reload", "--data-dir", node.data_dir).returncode == 0
        stays.publish("t", "still here", qos=1)


def test_who_came_by_a_token_goes_when_another_source_has_the_name_first(start_node, tmp_path):
    signer = Signer(tmp_path, "HS256")
    passwords, config = tmp_path / "passwd", tmp_path / "martlet.toml"

    def write(order):
        config.write_text(f'[auth]\njwt_keys = "{signer.file}"\njwt_algorithm = "HS256"\n'
                          f'password_file = "{passwords}"\norder = "{order}"\n')

    martlet_process.run("passwd", "--weak", "-c", "-b", str(passwords), "ann", "pw")
    write("jwt, password-file")
    node = start_node(arguments=["-c", str(config)])

    def reload():
        done = martlet_process.run("reload", "--data-dir", node.data_dir)
        assert done.returncode == 0, done.stderr

    def came(name):
        return Client(node, name).credentials(name, signer.token(sub=name))

    with came("ann") as ann, came("bob") as bob, came("cy") as cy:
        write("password-file, jwt")
        reload()
        ann.wait_for_end()
        bob.publish("t", "no password file knows him", qos=1)
        martlet_process.run("passwd", "--weak", "-b", str(passwords), "bob", "pw")
        reload()
        bob.wait_for_end()
        cy.publish("t", "still here", qos=1)
