"""TLS against OpenSSL's client, Mosquitto's and Paho: trust, client certificates, what is not TLS."""

import re
import socket
import ssl
import subprocess

import paho.mqtt.client as paho
import pytest

import martlet_process
from programs import need

DEADLINE_SECS = 60


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

    def sign(self, name, key="ec_paramgen_curve:P-256", usage="serverAuth", days=2, names="DNS:localhost,IP:127.0.0.1"):
        """Certificate and key, by their paths."""
        of_key = ["-newkey", key] if key.startswith("rsa") else ["-newkey", "ec", "-pkeyopt", key]
        self._openssl("req", *of_key, "-nodes", "-keyout", f"{name}.key", "-out", f"{name}.csr",
                      "-subj", f"/CN={name}")
        extensions = self.directory / f"{name}.ext"
        extensions.write_text(f"subjectAltName={names}\nextendedKeyUsage={usage}\n")
        self._openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.crt", "-CAkey", "ca.key",
                      "-CAcreateserial", "-out", f"{name}.crt", "-days", str(days), "-extfile",
                      extensions.name)
        return str(self.directory / f"{name}.crt"), str(self.directory / f"{name}.key")


    def sign_authority(self, directory, name="Intermediate CA"):
        """A CA between this one and what it signs itself."""
        between = Authority(directory, name)
        extensions = self.directory / "between.ext"
        extensions.write_text("basicConstraints=critical,CA:TRUE\nkeyUsage=keyCertSign,cRLSign\n")
        between._openssl("req", "-new", "-key", "ca.key", "-subj", f"/CN={name}", "-out", "ca.csr")
        self._openssl("x509", "-req", "-in", f"{directory}/ca.csr", "-CA", "ca.crt", "-CAkey", "ca.key",
                      "-CAcreateserial", "-out", between.certificate, "-days", "2", "-extfile", extensions.name)
        return between


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


def test_ciphers_with_help_by_the_processor_are_preferred_unless_the_client_has_none(secure, authority):
    _, port, _ = secure()
    for offered, chosen in [
        (["-tls1_3"], "TLS_AES_128_GCM_SHA256"),
        (["-tls1_3", "-ciphersuites", "TLS_AES_256_GCM_SHA384"], "TLS_AES_256_GCM_SHA384"),
        (["-tls1_3", "-ciphersuites", "TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256"],
         "TLS_CHACHA20_POLY1305_SHA256"),
        (["-tls1_2"], "ECDHE-.*-AES128-GCM-SHA256"),
        (["-tls1_2", "-cipher", "ECDHE+CHACHA20:ECDHE+AES128"], "ECDHE-.*-CHACHA20-POLY1305"),
    ]:
        done = subprocess.run(
            [need("openssl", "openssl"), "s_client", "-connect", f"127.0.0.1:{port}", "-CAfile",
             authority.certificate, *offered],
            input="", capture_output=True, text=True, timeout=DEADLINE_SECS)
        assert re.search(f"Cipher is {chosen}$", done.stdout, re.MULTILINE), (offered, done.stdout)


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
    # Whose it was, as far as the certificate says.
    refused = next(line for line in node.log().splitlines() if "is not for clients" in line)
    assert 'claimed_user_name="wrong-purpose"' in refused, refused


def test_plain_mqtt_to_a_port_of_tls_is_logged(secure):
    node, port, _ = secure()
    with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_SECS) as plain:
        plain.sendall(b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x00\x00\x01a")
        plain.recv(100)
    node.wait_for_log("the client speaks plain MQTT to the listener mqtts://")


def martlet(*arguments, variables=()):
    """Runs a client command of ours; exit code and what it printed."""
    done = subprocess.run([martlet_process.binary(), *arguments], capture_output=True, text=True,
                          env={**martlet_process.environment(), **dict(variables)}, timeout=2 * DEADLINE_SECS)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("transport", ["mqtts", "wss"])
def test_our_clients_publish_and_subscribe(secure, authority, name, transport):
    _, tls, wss = secure()
    trust = ["--cafile", authority.certificate]
    to = {"mqtts": ["-p", str(tls)], "wss": ["-p", str(wss), "--ws"]}[transport]
    code, said = martlet("pub", *to, *trust, "-t", name, "-m", "hello", "-q", "1", "-r")
    assert code == 0, said
    url = {"mqtts": f"mqtts://localhost:{tls}/{name}", "wss": f"wss://localhost:{wss}/mqtt"}[transport]
    topic = [] if transport == "mqtts" else ["-t", name]
    code, said = martlet("sub", "-L", url, *trust, *topic, "-C", "1")
    assert (code, said) == (0, "hello\n")


def test_our_clients_say_why_a_server_is_not_trusted(secure, authority, stranger, name):
    _, port, _ = secure()
    to = ["pub", "-p", str(port), "-t", name, "-m", "x"]
    code, said = martlet(*to, "--cafile", stranger.certificate)
    assert code == 1 and "of no CA that is trusted here: give its CA with --cafile" in said
    code, said = martlet(*to, "--tls-use-os-certs")
    assert code == 1 and "of no CA that is trusted here" in said
    trust = ["--cafile", authority.certificate]
    assert martlet(*to, "--cafile", stranger.certificate, "--insecure")[0] == 1
    assert martlet(*to, *trust, "--tls-version", "tlsv1.2")[0] == 0
    code, said = martlet(*to, *trust, "--tls-version", "tlsv1.1")
    assert code == 1 and "expected tlsv1.2 or tlsv1.3" in said


@pytest.fixture
def elsewhere(start_node, authority):
    """The port of a node whose certificate is for another host."""
    certificate, key = authority.sign("elsewhere", names="DNS:elsewhere.example")
    node = start_node(settings=[f"tls.certificate={certificate}", f"tls.key={key}"],
                      listen=("mqtts://127.0.0.1:0",))
    return node.port("mqtts")


def test_a_certificate_of_another_host_is_taken_with_insecure_alone(elsewhere, authority, name):
    to = ["pub", "-p", str(elsewhere), "-t", name, "-m", "x", "--cafile", authority.certificate]
    code, said = martlet(*to)
    assert code == 1 and "is not for localhost, but for elsewhere.example" in said, said
    assert martlet(*to, "--insecure")[0] == 0


def test_a_server_may_have_signed_itself(start_node, tmp_path, name):
    subprocess.run([need("openssl", "openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "own.key",
                    "-out", "own.crt", "-subj", "/CN=localhost", "-days", "2", "-addext",
                    "subjectAltName=DNS:localhost"], cwd=tmp_path, check=True, capture_output=True)
    node = start_node(settings=[f"tls.certificate={tmp_path}/own.crt", f"tls.key={tmp_path}/own.key"],
                      listen=("mqtts://127.0.0.1:0",))
    to = ["pub", "-p", str(node.port("mqtts")), "-t", name, "-m", "x"]
    code, said = martlet(*to, "--cafile", f"{tmp_path}/own.crt")
    assert code == 0, said
    code, said = martlet(*to, "--cafile", f"{tmp_path}/own.crt", "-h", "127.0.0.1")
    assert code == 1 and "is not for" in said, said


def test_our_clients_show_their_certificate(secure, authority, name):
    _, tls, wss = secure("tls.client_certificates=required", f"tls.client_ca={authority.certificate}")
    certificate, key = authority.sign("device", usage="clientAuth")
    own = ["--cert", certificate, "--key", key]
    for to in [["-p", str(tls)], ["-p", str(wss), "--ws"]]:
        to = ["pub", *to, "--cafile", authority.certificate, "-t", name, "-m", "x", "-q", "1"]
        assert martlet(*to, *own)[0] == 0
        code, said = martlet(*to)
        assert code != 0 and "the server requires a certificate of the client" in said, said


def test_our_clients_understand_the_environment_of_device_programs(secure, elsewhere, authority, name):
    _, port, _ = secure()
    variables = {"MQTT_BROKER_HOST": "localhost", "MQTT_BROKER_PORT": str(port), "MQTT_USE_TLS": "true",
                 "MQTT_CA_CERTS": authority.certificate}
    assert martlet("pub", "-t", name, "-m", "x", "-q", "1", variables=variables)[0] == 0
    blind = {**variables, "MQTT_CA_CERTS": "", "MQTT_BROKER_PORT": str(elsewhere)}
    assert martlet("pub", "-t", name, "-m", "x", variables=blind)[0] == 1
    blind["MQTT_TLS_INSECURE"] = "true"
    assert martlet("pub", "-t", name, "-m", "x", "-q", "1", variables=blind)[0] == 0
    code, said = martlet("pub", "-t", name, "-m", "x", variables={**variables, "MQTT_PASSWORD": "hunter2"})
    assert code == 1 and "both or none" in said and "hunter2" not in said


@pytest.mark.parametrize("scenario", [["pipes", "--qos", "1"], ["fan-out"], ["pipes", "--payload", "20000"],
                                      ["connects"], ["connects", "--tls-resume"]])
def test_the_load_generator_speaks_tls(secure, authority, scenario):
    _, port, _ = secure()
    code, said = martlet("bench", *scenario, "--port", str(port), "--cafile", authority.certificate,
                         "--clients", "20", "--duration", "0.3", "--warmup", "0.1", "--json")
    assert code == 0, said


@pytest.fixture
def by_a_guide(tmp_path):
    """CA, server's and client's certificates as guides make them, with no word about extensions."""
    def openssl(*arguments):
        subprocess.run([need("openssl", "openssl"), *arguments], cwd=tmp_path, check=True, capture_output=True, timeout=60)

    openssl("req", "-new", "-x509", "-days", "2", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-out", "ca.crt",
            "-subj", "/CN=guide-ca")
    for name in ("localhost", "device-1"):
        openssl("req", "-new", "-newkey", "rsa:2048", "-nodes", "-keyout", f"{name}.key", "-out", f"{name}.csr",
                "-subj", f"/CN={name}")
        openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-out",
                f"{name}.crt", "-days", "2")
        text = subprocess.run(["openssl", "x509", "-in", tmp_path / f"{name}.crt", "-noout", "-text"],
                              capture_output=True, text=True, timeout=60)
        if "Version: 1" not in text.stdout:
            pytest.skip("this OpenSSL makes version 3 of it")
    return tmp_path


def at_guides_listener(start_node, by_a_guide, *settings):
    return start_node(listen=("mqtts://127.0.0.1:0",), settings=[
        f"tls.certificate={by_a_guide}/localhost.crt", f"tls.key={by_a_guide}/localhost.key", f"tls.client_ca={by_a_guide}/ca.crt",
        "tls.client_certificates=required", "auth.certificate_user_name=common-name", *settings])


def publish_with(node, by_a_guide, certificate, key, version):
    return subprocess.run(
        [need("mosquitto_pub", "mosquitto-clients"), "-h", "localhost", "-p", str(node.port("mqtts")), "--cafile",
         by_a_guide / "ca.crt", "--cert", certificate, "--key", key, "--tls-version", f"tlsv{version}", "-t", "t", "-m", "m",
         "-q", "1", "-i", "by-certificate"], capture_output=True, text=True, timeout=DEADLINE_SECS)


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_certificates_of_version_1_are_accepted_if_that_is_configured(start_node, by_a_guide, stranger, version):
    node = at_guides_listener(start_node, by_a_guide, "tls.x509_version1=true")
    done = publish_with(node, by_a_guide, by_a_guide / "device-1.crt", by_a_guide / "device-1.key", version)
    assert done.returncode == 0, done.stderr + node.log()
    other = stranger.sign(f"other-{version}", usage="clientAuth")
    assert publish_with(node, by_a_guide, *other, version).returncode != 0


def test_a_refused_certificate_of_version_1_names_the_key_that_accepts_it(start_node, by_a_guide):
    node = at_guides_listener(start_node, by_a_guide)
    done = publish_with(node, by_a_guide, by_a_guide / "device-1.crt", by_a_guide / "device-1.key", "1.2")
    assert done.returncode != 0
    node.wait_for_log("not of X.509 version 3")
    line = next(line for line in node.log().splitlines() if "not of X.509 version 3" in line)
    assert "x509_version1" in line and "device-1" in line, line


@pytest.mark.parametrize(("options", "said", "remedy"), [
    (["-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0"], "no TLS version in common", "TLS 1.2 or later"),
    (["-tls1_2", "-cipher", "AES128-SHA"], "no TLS key exchange group in common", "cipher suites with ECDHE"),
])
def test_a_client_without_tls_in_common_is_told_what_it_lacks(secure, options, said, remedy):
    node, port, _ = secure()
    subprocess.run([need("openssl", "openssl"), "s_client", "-connect", f"127.0.0.1:{port}", *options],
                   input="", capture_output=True, text=True, timeout=DEADLINE_SECS)
    node.wait_for_log(said)
    line = next(line for line in node.log().splitlines() if said in line)
    assert remedy in line and "MQTT library" not in line, line
