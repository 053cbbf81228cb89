"""TLS against OpenSSL's client, Mosquitto's and Paho: trust, client certificates, what is not TLS."""

import socket
import ssl
import subprocess

import paho.mqtt.client as paho
import pytest

from conftest import need

DEADLINE_SECS = 10


class Authority:
    """A CA in a directory, made with OpenSSL, and what it signs."""

    def __init__(self, directory, name="Test CA"):
        self.directory = directory
        directory.mkdir()
        self.certificate = str(directory / "ca.crt")
        self._openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                      "-keyout", "ca.key", "-out", "ca.crt", "-subj", f"/CN={name}", "-days", "2")

    def _openssl(self, *arguments):
        subprocess.run([need("openssl", "openssl"), *arguments], cwd=self.directory, check=True,
                       capture_output=True, timeout=60)

    def sign(self, name, key="rsa:2048", usage="serverAuth", days=2):
        """Certificate and key, by their paths."""
        of_key = ["-newkey", key] if key.startswith("rsa") else ["-newkey", "ec", "-pkeyopt", key]
        self._openssl("req", *of_key, "-nodes", "-keyout", f"{name}.key", "-out", f"{name}.csr",
                      "-subj", f"/CN={name}")
        extensions = self.directory / f"{name}.ext"
        extensions.write_text(f"subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage={usage}\n")
        self._openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.crt", "-CAkey", "ca.key",
                      "-CAcreateserial", "-out", f"{name}.crt", "-days", str(days), "-extfile",
                      extensions.name)
        return str(self.directory / f"{name}.crt"), str(self.directory / f"{name}.key")


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("tls") / "ca")


@pytest.fixture(scope="module")
def stranger(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("tls") / "stranger", name="Stranger")


@pytest.fixture(scope="module", params=["rsa:2048", "ec_paramgen_curve:P-256"])
def server(request, authority):
    return authority.sign("server-" + request.param.split(":")[0], key=request.param)


@pytest.fixture
def secure(start_node, server):
    """Starts a node with mqtts:// and wss:// listeners; the ports of both."""

    def start(*settings):
        files = [f"tls.certificate={server[0]}", f"tls.key={server[1]}", "log.level=info"]
        node = start_node(settings=[*files, *settings],
                          listen=("mqtts://127.0.0.1:0", "wss://127.0.0.1:0/mqtt"))
        return node, node.port("mqtts"), node.port("wss")

    return start


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_openssl_verifies_the_chain_and_the_name(secure, authority, version):
    _, port, _ = secure()
    done = subprocess.run(
        [need("openssl", "openssl"), "s_client", "-connect", f"127.0.0.1:{port}", version, "-CAfile",
         authority.certificate, "-verify_return_error", "-verify_hostname", "localhost"],
        input="", capture_output=True, text=True, timeout=DEADLINE_SECS)
    assert "Verify return code: 0 (ok)" in done.stdout, done.stdout + done.stderr


def test_versions_before_1_2_are_refused(secure):
    _, port, _ = secure()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_SECS) as plain:
        with pytest.raises(ssl.SSLError):
            context.wrap_socket(plain)


def test_mosquittos_clients_publish_and_subscribe(secure, authority, name):
    _, port, _ = secure()
    to = ["-h", "localhost", "-p", str(port), "--cafile", authority.certificate, "-t", name]
    subprocess.run([need("mosquitto_pub", "mosquitto-clients"), *to, "-m", "hello", "-r", "-q", "2"],
                   check=True, timeout=DEADLINE_SECS)
    got = subprocess.run([need("mosquitto_sub", "mosquitto-clients"), *to, "-C", "1"], check=True,
                         capture_output=True, text=True, timeout=DEADLINE_SECS)
    assert got.stdout == "hello\n"


@pytest.mark.parametrize("transport", ["tcp", "websockets"])
def test_paho_moves_large_messages(secure, authority, name, transport):
    _, tls, wss = secure()
    client = paho.Client(paho.CallbackAPIVersion.VERSION2, transport=transport)
    client.ws_set_options("/mqtt")
    client.tls_set(authority.certificate)
    payload = bytes(range(256)) * 2000
    got = []

    def connected(*_):
        client.subscribe(name, qos=1)

    def arrived(_client, _data, message):
        got.append(message.payload)
        client.disconnect()

    client.on_connect = connected
    client.on_subscribe = lambda *_: client.publish(name, payload, qos=1)
    client.on_message = arrived
    client.connect("localhost", tls if transport == "tcp" else wss)
    client.loop_forever()
    assert got == [payload]


def test_a_client_certificate_is_required_and_has_to_be_good(secure, authority, stranger, name):
    node, port, _ = secure("tls.client_certificates=required", f"tls.client_ca={authority.certificate}")
    to = ["-h", "localhost", "-p", str(port), "--cafile", authority.certificate, "-t", name, "-m", "x"]

    def publish(certificate=None):
        own = ["--cert", certificate[0], "--key", certificate[1]] if certificate else []
        return subprocess.run([need("mosquitto_pub", "mosquitto-clients"), *to, *own],
                              capture_output=True, timeout=DEADLINE_SECS).returncode

    assert publish(authority.sign("device", usage="clientAuth")) == 0
    assert publish() != 0
    assert publish(stranger.sign("device", usage="clientAuth")) != 0
    assert publish(authority.sign("wrong-purpose", usage="serverAuth")) != 0
    for why in ["requires a client certificate", "of another CA", "is not for clients"]:
        node.wait_for_log(why)


def test_mqtt_without_tls_on_the_port_is_told_in_the_log(secure):
    node, port, _ = secure()
    with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_SECS) as plain:
        plain.sendall(b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x00\x00\x01a")
        plain.recv(100)
    node.wait_for_log("not TLS")
