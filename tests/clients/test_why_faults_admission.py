"""Faults of TLS, WebSocket, tokens, hooks and listeners that are put to `martlet why`: the headline is
the fault, and what it advises ends it."""

import http.client
import socket
import ssl
import subprocess
import time

import pytest

import martlet_process
from programs import need
from paho_client import Client
from server_process import free_port, free_ports
from test_access import until
from test_hook import HookServer
from test_jwt import Signer
from test_tls import Authority
from test_websocket_refusals import request
from test_why import expired
from why_faults import Faults

HERE = "127.0.0.1"


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("ours") / "ca")


@pytest.fixture(scope="module")
def stranger(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("theirs") / "ca", name="Others")


@pytest.fixture(scope="module")
def node(authority):
    certificate, key = authority.sign("server")
    urls = ("mqtt://127.0.0.1:0", "mqtts://127.0.0.1:0", "ws://127.0.0.1:0/mqtt")
    faults = Faults(settings=[f"tls.certificate={certificate}", f"tls.key={key}"], listen=urls)
    with faults.start():
        yield faults


@pytest.fixture(scope="module")
def rsa(authority):
    certificate, key = authority.sign("rsa", "rsa:2048")
    faults = Faults(settings=[f"tls.certificate={certificate}", f"tls.key={key}"], listen=("mqtts://127.0.0.1:0",))
    with faults.start():
        yield faults


def tls(node, *options, name="x", password="x"):
    """Whether mosquitto_pub is let in by TLS."""
    done = subprocess.run(
        [need("mosquitto_pub", "mosquitto-clients"), "-h", "localhost", "-p", str(node.node.port("mqtts")), "-i", name,
         "-u", name, "-P", password, "-t", f"d/{name}/x", "-m", "x", "-q", "1", *options], capture_output=True, timeout=60)
    return done.returncode == 0


def sends(node, scheme, data):
    """What comes back for bytes that are not MQTT."""
    with socket.create_connection((HERE, node.node.port(scheme)), timeout=60) as wire:
        wire.sendall(data)
        came = b""
        try:
            while more := wire.recv(4096):
                came += more
        except ConnectionResetError:
            pass
        return came


def shake_hands(node, context, host="localhost"):
    """TLS with the node, as a client that expects this name in the certificate."""
    with socket.create_connection((HERE, node.node.port("mqtts")), timeout=60) as wire, \
            context.wrap_socket(wire, server_hostname=host):
        pass


def nameless(node, name, cause, said):
    """The answers for an address and for a device that has never come by its name."""
    told = node.headline(cause, said, HERE)
    assert told["sentence"].startswith("a client without a name was refused: ") and told["state"] == "refused"
    of_device = node.headline("never-connected", said, name)
    assert f"perhaps it is the client without a name at {HERE}" in of_device["sentence"]
    assert f"if it is that client: {told['remedy']}" in of_device["remedy"]
    return told


def test_a_client_does_not_trust_the_certificate_of_the_server(node, authority, stranger):
    secret = node.device("t1")
    assert not tls(node, "--cafile", stranger.certificate, name="t1", password=secret)
    told = nameless(node, "t1", "server-not-trusted", "does not trust the server's certificate")
    assert "CA" in told["remedy"]
    with pytest.raises(ssl.SSLCertVerificationError, match="(?i)hostname mismatch"):
        shake_hands(node, ssl.create_default_context(cafile=authority.certificate), "broker.example")
    until(lambda: node.why(HERE).get("count") == 2, "it is refused for the name too")
    assert "by a name that is in the certificate" in node.why("t1")["remedy"]
    assert tls(node, "--cafile", authority.certificate, name="t1", password=secret)
    node.over("t1")


@pytest.mark.parametrize("ciphers, said, advice", [
    ("ECDHE-RSA-AES128-GCM-SHA256", "suites are for RSA, and the key of the listener's certificate is ECDSA",
     "give the listener a certificate with an RSA key"),
    ("AES128-GCM-SHA256", "no TLS key exchange group in common", "have the client offer cipher suites with ECDHE"),
])
def test_a_client_knows_rsa_alone(node, ciphers, said, advice):
    """The listener's key is one of a curve."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(ciphers)
    with pytest.raises(ssl.SSLError, match="(?i)handshake.failure"):
        shake_hands(node, context)
    name = f"rsa-{ciphers}"
    node.device(name)
    assert advice in nameless(node, name, "tls-failed", said)["remedy"]


def test_a_client_ends_the_connection_in_the_handshake(node, authority):
    """It does not accept the certificate, and sends no alert."""
    secret = node.device("off-1")
    come, go = ssl.MemoryBIO(), ssl.MemoryBIO()
    with socket.create_connection((HERE, node.node.port("mqtts")), timeout=60) as wire:
        with pytest.raises(ssl.SSLWantReadError):
            ssl.create_default_context().wrap_bio(come, go, server_hostname="localhost").do_handshake()
        wire.sendall(go.read())
        assert wire.recv(100)
    told = nameless(node, "off-1", "tls-failed", "the client ended the connection in the TLS handshake")
    assert "the name that it connects to is in the certificate" in told["remedy"], told
    assert tls(node, "--cafile", authority.certificate, name="off-1", password=secret)
    node.over("off-1")


def test_a_client_ends_the_connection_after_the_handshake(rsa, authority):
    """Likewise. A probe without a byte is told of nowhere."""
    secret = rsa.device("off-2")
    socket.create_connection((HERE, rsa.node.port("mqtts")), timeout=60).close()
    shake_hands(rsa, ssl.create_default_context(cafile=authority.certificate))
    told = nameless(rsa, "off-2", "tls-failed", "the client ended the connection after the TLS handshake")
    assert told["count"] == 1 and not told["also"], told
    assert "the name that it connects to is in the certificate" in told["remedy"], told
    assert tls(rsa, "--cafile", authority.certificate, name="off-2", password=secret)
    rsa.over("off-2")


def test_the_listener_has_a_key_of_the_kind_that_a_client_knows(rsa, authority):
    """What was advised to who knows RSA alone; and the other way round."""
    context = ssl.create_default_context(cafile=authority.certificate)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE-RSA-AES128-GCM-SHA256")
    shake_hands(rsa, context)
    context.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256")
    with pytest.raises(ssl.SSLError, match="(?i)handshake.failure"):
        shake_hands(rsa, context)
    told = rsa.headline("tls-failed", "suites are for ECDSA, and the key of the listener's certificate is RSA", HERE)
    assert "a certificate with an ECDSA key" in told["remedy"], told


def test_a_client_speaks_plain_mqtt_to_a_port_of_tls(node):
    secret = node.device("t2")
    sends(node, "mqtts", b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00")
    told = nameless(node, "t2", "wrong-transport", "speaks plain MQTT to the listener mqtts://127.0.0.1:0, which expects TLS")
    assert "turn on TLS in the client" in told["remedy"] and "the port of a listener without TLS" in told["remedy"]
    assert node.comes("t2", secret)
    node.over("t2")


def test_a_client_speaks_tls_to_a_port_of_plain_mqtt(node):
    secret = node.device("t3")
    sends(node, "mqtt", bytes.fromhex("16030100c8010000c40303") + bytes(190))
    told = nameless(node, "t3", "wrong-transport", "TLS was received at a port of plain MQTT")
    assert "the port of a listener with TLS" in told["remedy"]
    assert node.comes("t3", secret)
    node.over("t3")


@pytest.mark.parametrize("name, first, said, mended", [
    ("t4-http", b"GET / HTTP/1.1\r\n\r\n", "an HTTP request was received at a port of plain MQTT", "the port of the HTTP listener"),
    ("t4-ws", request(), "an HTTP request was received at a port of plain MQTT", "over WebSocket that of a ws listener"),
    ("t4-ssh", b"SSH-2.0-OpenSSH_9.2\r\n", "the first packet is not CONNECT", "another protocol"),
])
def test_a_client_sends_something_else_to_a_port_of_plain_mqtt(node, name, first, said, mended):
    node.device(name)
    sends(node, "mqtt", first)
    assert mended in nameless(node, name, "wrong-transport", said)["remedy"]


# What is asked for, the cause, words of the headline, and a word of how it is mended.
WEB = {
    "path": (request("GET /other HTTP/1.1"), "websocket-refused", "path", "path of the listener's URL"),
    "origin": (request(Origin="https://app.example"), "origin-refused", "the origin of the page is not allowed", "`origins` of the listener"),
    "subprotocol": (request(Sec_WebSocket_Protocol="chat"), "websocket-refused", "subprotocol", "subprotocol mqtt"),
    "page": (request(Upgrade=None), "wrong-transport", "WebSocket", "connect with ws://"),
    "plain": (b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00", "wrong-transport", "HTTP", "without WebSocket"),
}


@pytest.mark.parametrize("kind", WEB)
def test_a_websocket_request_is_refused(node, kind):
    asked, cause, said, mended = WEB[kind]
    name = f"w-{kind}"
    secret = node.device(name)
    assert b" 101 " not in sends(node, "ws", asked)
    told = nameless(node, name, cause, said)
    assert mended in told["remedy"], told
    # As the advice has it.
    with node.client(name, secret, transport="websockets"):
        node.over(name)


@pytest.fixture(scope="module")
def strict(authority):
    certificate, key = authority.sign("strict")
    faults = Faults(listen=("mqtts://127.0.0.1:0",), settings=[
        f"tls.certificate={certificate}", f"tls.key={key}", "tls.client_certificates=required",
        f"tls.client_ca={authority.certificate}", "auth.certificate_user_name=common-name"])
    faults.device("c0", "--no-secret")
    with faults.start():
        yield faults


def by_certificate(node, authority, certificate, name):
    return tls(node, "--cafile", authority.certificate, "--cert", certificate[0], "--key", certificate[1], name=name)


@pytest.mark.parametrize("kind, cause, said", [
    ("expired", "certificate-expired", "has expired"), ("early", "clock-wrong", "not valid yet"),
    ("foreign", "certificate-foreign", "of another CA"), ("server", "certificate-unfit", "not for clients")])
def test_the_certificate_of_a_device_is_not_good(strict, authority, stranger, kind, cause, said):
    name = f"c-{kind}"
    strict.device(name, "--no-secret")
    bad = {"expired": lambda: expired(authority, name),
           "early": lambda: expired(authority, name, begin="20400101000000Z", end="20410101000000Z"),
           "foreign": lambda: stranger.sign(name, usage="clientAuth"),
           "server": lambda: authority.sign(name)}[kind]()
    assert not by_certificate(strict, authority, bad, name)
    told = strict.headline(cause, said, name)
    assert told["remedy"]
    assert by_certificate(strict, authority, authority.sign(name, usage="clientAuth"), name)
    strict.over(name)


def test_a_client_presents_no_certificate(strict, authority):
    assert not tls(strict, "--cafile", authority.certificate)
    told = nameless(strict, "c0", "certificate-missing", "requires a client certificate")
    assert "certificate" in told["remedy"]
    assert by_certificate(strict, authority, authority.sign("c0", usage="clientAuth"), "c0")
    strict.over("c0")


def test_a_certificate_names_a_device_that_is_not_there(strict, authority):
    certificate = authority.sign("c1", usage="clientAuth")
    assert not by_certificate(strict, authority, certificate, "c1")
    told = strict.headline("unknown-name", "c1", "c1")
    strict.bash(told)
    assert by_certificate(strict, authority, certificate, "c1")
    strict.over("c1")


def test_a_certificate_comes_with_another_client_identifier(strict, authority):
    """A refusal by TLS before that is of somebody else, who gave no name. Most clients send no User Name then."""
    certificate = authority.sign("c2", usage="clientAuth")
    strict.device("c2", "--no-secret")
    strict.device("c3", "--no-secret")
    assert not tls(strict, "--cafile", authority.certificate)
    for other, options in (("pump-2", ()), ("c3", ()), ("pump-2", ("-u", "c2"))):
        done = subprocess.run(
            [need("mosquitto_pub", "mosquitto-clients"), "-h", "localhost", "-p", str(strict.node.port("mqtts")), "-i", other,
             "-t", "d/c2/x", "-m", "x", "-q", "1", "--cafile", authority.certificate, "--cert", certificate[0], "--key",
             certificate[1], *options], capture_output=True, timeout=60)
        assert done.returncode != 0
        for asked in ("c2", other):
            told = strict.headline("wrong-client-id", f"the Client Identifier of the device c2 must be c2, since its topics are "
                                   f"named after it; it is \"{other}\"", asked)
            assert told["state"] == "refused" and "set the Client Identifier (client id) of the client to c2" in told["remedy"]
    assert by_certificate(strict, authority, certificate, "c2")
    strict.over("c2")


def test_a_token_is_not_good(tmp_path):
    signer = Signer(tmp_path, "HS256")
    with Faults(settings=[f"auth.jwt_keys={signer.file}", "auth.jwt_algorithm=HS256"]) as node:
        now = int(time.time())
        for cause, said, mended, claims in (
                ("token-bad", "its token is not valid: it has expired", "new token", {"exp": now - 600}),
                ("clock-wrong", "its token is not valid: it is not valid yet", "clock", {"nbf": now + 600})):
            assert not node.comes("jwt", signer.token(**claims), "c1")
            assert mended in node.headline(cause, said, "c1")["remedy"]
        head, claims, _ = signer.token().split(".")
        assert not node.comes("jwt", f"{head}.{claims}.{signer.token(sub='other').rsplit('.')[-1]}", "c1")
        node.headline("token-bad", "it was signed with another key, or changed since", "c1")
        assert node.comes("jwt", signer.token(), "c1")
        node.over("c1")


def test_a_hook_refuses_and_does_not_answer():
    hook = HookServer()
    settings = [f"auth.hook_url={hook.url}", "auth.hook_timeout_ms=2000", "auth.refusal_remember_secs=0"]
    with Faults(settings=settings) as node:
        hook.status, hook.body = 401, b'{"message":"Credentials Unauthorized"}'
        assert not node.comes("key", "secret", "h1")
        told = node.headline("hook-refused", "the hook answered", "h1")
        assert "auth.hook_url" in told["remedy"]
        hook.delay_secs = 6
        assert not node.comes("key", "secret", "h2")
        told = node.headline("hook-down", "no answer within", "h2")
        assert "auth.hook_url" in told["remedy"]
        hook.status, hook.body, hook.delay_secs = 200, b'{"team_id":1,"api_token_id":2,"mqtt_client_id":3}', 0
        assert node.comes("key", "secret", "h1") and node.comes("key", "secret", "h2")
        node.over("h1")
        node.over("h2")
    hook.close()


def test_a_listener_was_closed():
    with Faults(listen=[f"mqtt://{HERE}:{port}" for port in free_ports(2)]) as node:
        secret = node.device("l1")
        first, second = node.node.urls
        with node.client("l1", secret, port=int(second.rsplit(":")[-1])):
            node.over("l1")
        node.options["listen"] = (first,)
        node.restart()
        told = node.headline("listener-closed", f"it connected to {second} before", "l1")
        assert "listen there again" in told["remedy"] and first in told["sentence"]
        node.options["listen"] = (first, second)
        node.restart()
        with node.client("l1", secret):
            node.over("l1")


def test_a_node_was_stopped_without_notice():
    with Faults(listen=(f"mqtt://{HERE}:{free_port()}",)) as node:
        secret = node.device("l2")
        with node.client("l2", secret) as device:
            node.over("l2")
            node.restart()
            device.wait_for_end()
        node.headline("away", "it is not connected", "l2")
        with node.client("l2", secret):
            node.over("l2")
