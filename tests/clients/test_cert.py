"""martlet cert: what it makes is good for OpenSSL, for Mosquitto's clients and for the broker."""

import json
import subprocess
import time

import pytest

import martlet_process
from conftest import need
from test_access import publish, until

DEADLINE_SECS = 20


def cert(*arguments, cwd=None, code=0):
    done = subprocess.run([martlet_process.binary(), "cert", *map(str, arguments)], capture_output=True, text=True,
                          cwd=cwd, env=martlet_process.environment(), timeout=DEADLINE_SECS)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def openssl(*arguments, cwd=None):
    done = subprocess.run([need("openssl", "openssl"), *map(str, arguments)], capture_output=True, text=True, cwd=cwd,
                          timeout=DEADLINE_SECS)
    return done.returncode, done.stdout + done.stderr


@pytest.fixture(params=[[], ["--rsa", "2048"]], ids=["p256", "rsa"])
def authority(request, tmp_path):
    """A directory with a CA, a server's and a device's certificate."""
    directory = tmp_path / "certs"
    cert("ca", "--dir", directory, *request.param)
    cert("server", "localhost", "127.0.0.1", "--dir", directory, *request.param)
    cert("client", "device-7", "--dir", directory, *request.param)
    return directory


def test_openssl_finds_them_good(authority):
    for name, purpose in [("server", "sslserver"), ("device-7", "sslclient")]:
        code, said = openssl("verify", "-x509_strict", "-purpose", purpose, "-CAfile", authority / "ca.crt",
                             authority / f"{name}.crt")
        assert code == 0, said
        assert (authority / f"{name}.key").stat().st_mode & 0o777 == 0o600
        assert (authority / f"{name}.crt").stat().st_mode & 0o777 == 0o644
    assert (authority / "ca.key").stat().st_mode & 0o777 == 0o600
    code, said = openssl("verify", "-purpose", "sslserver", "-CAfile", authority / "ca.crt", authority / "device-7.crt")
    assert code != 0, "a device is no server"
    shown = json.loads(cert("show", authority / "server.crt", "--json"))
    code, said = openssl("x509", "-in", authority / "server.crt", "-noout", "-fingerprint", "-sha256")
    assert shown["fingerprint_sha256"] in said and shown["names"] == ["localhost", "127.0.0.1"]


def test_nothing_is_written_over(authority):
    before = {path.name: path.read_bytes() for path in authority.iterdir()}
    for arguments in [["ca"], ["server", "other"], ["client", "device-7"]]:
        assert "is there already and is not written over" in cert(*arguments, "--dir", authority, code=1)
    assert before == {path.name: path.read_bytes() for path in authority.iterdir()}
    assert "no name for files" in cert("client", "../evil", "--dir", authority, code=1)


def test_a_renewed_certificate_has_the_same_key_and_names(authority):
    before = json.loads(cert("show", authority / "server.crt", "--json"))
    key = (authority / "server.key").read_bytes()
    cert("renew", "server", "--dir", authority, "--days", "30")
    after = json.loads(cert("show", authority / "server.crt", "--json"))
    assert after["names"] == before["names"] and after["serial"] != before["serial"]
    assert (authority / "server.key").read_bytes() == key
    assert openssl("verify", "-CAfile", authority / "ca.crt", authority / "server.crt")[0] == 0
    assert "server.crt" in cert("list", "--dir", authority, "--expiring", "31", code=1)
    assert cert("list", "--dir", authority, "--expiring", "29") == ""


def test_the_broker_takes_them_until_they_are_revoked(authority, start_node):
    cert("crl", "--dir", authority)
    node = start_node(
        settings=[f"tls.certificate={authority}/server.crt", f"tls.key={authority}/server.key",
                  "tls.client_certificates=required", f"tls.client_ca={authority}/ca.crt",
                  f"tls.client_crl={authority}/crl.pem"], listen=("mqtts://127.0.0.1:0", "wss://127.0.0.1:0"))
    cert("client", "device-8", "--dir", authority)

    def let_in(name):
        own = ["--cafile", str(authority / "ca.crt"), "--cert", str(authority / f"{name}.crt"), "--key",
               str(authority / f"{name}.key")]
        return publish(node, "t", *own, port=node.port("mqtts"))[0] == 0

    assert let_in("device-7") and let_in("device-8")
    cert("revoke", "device-7", "--dir", authority)
    code, said = openssl("verify", "-crl_check", "-CAfile", authority / "ca.crt", "-CRLfile", authority / "crl.pem",
                         authority / "device-7.crt")
    assert code != 0 and "revoked" in said, said
    until(lambda: not let_in("device-7"), "it is not let in any more")
    assert let_in("device-8")
    cert("revoke", "device-8", "--dir", authority)
    until(lambda: not let_in("device-8"), "it is not let in any more")
    assert not let_in("device-7"), "it is still in the list"
    assert cert("list", "--dir", authority).count("revoked") == 2


@pytest.mark.parametrize("scheme", ["mqtts", "wss"])
def test_who_is_connected_by_a_certificate_that_is_revoked_is_shown_out(authority, start_node, scheme):
    cert("crl", "--dir", authority)
    node = start_node(
        settings=[f"tls.certificate={authority}/server.crt", f"tls.key={authority}/server.key",
                  "tls.client_certificates=required", f"tls.client_ca={authority}/ca.crt",
                  f"tls.client_crl={authority}/crl.pem"], listen=(f"{scheme}://127.0.0.1:0",))

    def connected(name):
        cert("client", name, "--dir", authority)
        subscriber = subprocess.Popen(
            [martlet_process.binary(), "sub", "-L", f"{scheme}://localhost:{node.port(scheme)}/mqtt", "-t", "t",
             "-V", "5", "-d", "--cafile", authority / "ca.crt", "--cert", authority / f"{name}.crt", "--key",
             authority / f"{name}.key", "-i", name], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        while "SUBACK" not in (line := subscriber.stdout.readline()):
            assert line, "it has ended"
        return subscriber

    gone, stays = connected(f"{scheme}-gone"), connected(f"{scheme}-stays")
    cert("revoke", f"{scheme}-gone", "--dir", authority)
    told = martlet_process.run("reload", "--data-dir", node.data_dir)
    assert told.returncode == 0 and "credentials of 0 users are gone" in told.stdout, told
    assert "clients' certificates are looked at again" in told.stdout
    begin = time.monotonic()
    try:
        while "DISCONNECT" not in (line := gone.stdout.readline()):
            assert line, "it was not told"
        assert time.monotonic() - begin < 5
        node.wait_for_log("the client's certificate is revoked")
        assert stays.poll() is None
    finally:
        for subscriber in (gone, stays):
            subscriber.kill()
            subscriber.wait(timeout=20)


def test_a_server_is_checked(authority, start_node):
    node = start_node(settings=[f"tls.certificate={authority}/server.crt", f"tls.key={authority}/server.key"],
                      listen=("mqtts://127.0.0.1:0",))
    server = f"127.0.0.1:{node.port('mqtts')}"
    said = cert("check", server, "--cafile", authority / "ca.crt")
    assert "TLSv1.3" in said and " days left" in said and "trusted, and for 127.0.0.1" in said
    assert "of no CA that is trusted here" in cert("check", server, code=1)
    said = cert("check", server, "--cafile", authority / "ca.crt", "--servername", "elsewhere.example", code=1)
    assert "is not for elsewhere.example, but for localhost, 127.0.0.1" in said
    assert "no connection" in cert("check", "127.0.0.1:1", code=2)


def test_who_removes_the_list_makes_nobody_good_again(authority):
    def revoked():
        return [entry["certificate"] for entry in json.loads(cert("list", "--dir", authority, "--json"))
                if entry["revoked"]]

    def number():
        code, said = openssl("crl", "-in", authority / "crl.pem", "-noout", "-crlnumber")
        assert code == 0, said
        return int(said.strip().split("=0x")[-1].split("=")[-1], 16)

    cert("crl", "--dir", authority)
    empty = (authority / "crl.pem").read_bytes()
    cert("revoke", "device-7", "--dir", authority)
    before = number()
    for spoil in [lambda path: path.unlink(), lambda path: path.write_bytes(empty)]:
        spoil(authority / "crl.pem")
        cert("crl", "--dir", authority)
        code, said = openssl("verify", "-crl_check", "-CAfile", authority / "ca.crt", "-CRLfile", authority / "crl.pem",
                             authority / "device-7.crt")
        assert code != 0 and "revoked" in said, said
        assert revoked() == [f"{authority}/device-7.crt"] and number() > before
    # An authority from before there was a register has the list alone.
    (authority / "revoked.txt").unlink()
    cert("crl", "--dir", authority)
    assert len(revoked()) == 1 and (authority / "revoked.txt").exists()
    (authority / "revoked.txt").write_text("list 3\nnonsense\n")
    assert "revoked.txt line 2" in cert("crl", "--dir", authority, code=1)


def test_a_server_that_requires_a_certificate_is_said_to(authority, start_node):
    settings = [f"tls.certificate={authority}/server.crt", f"tls.key={authority}/server.key",
                "tls.client_certificates=required", f"tls.client_ca={authority}/ca.crt"]
    node = start_node(settings=settings, listen=("mqtts://127.0.0.1:0", "mqtt://127.0.0.1:0"))
    server = f"127.0.0.1:{node.port('mqtts')}"
    said = cert("check", server, "--cafile", authority / "ca.crt", code=1)
    assert "trusted, and for 127.0.0.1, but this client is refused: the server requires a certificate" in said
    told = json.loads(cert("check", server, "--cafile", authority / "ca.crt", "--json", code=1))
    assert told["trusted"] and not told["accepted"]
    own = ["--cert", authority / "device-7.crt", "--key", authority / "device-7.key"]
    assert "\ntrusted, and for 127.0.0.1\n" in cert(
        "check", server, "--cafile", authority / "ca.crt", *own)
    assert "NOT trusted: the server's certificate is of no CA" in cert("check", server, *own, code=1)
    said = cert("check", f"127.0.0.1:{node.port('mqtt')}", "--cafile", authority / "ca.crt", code=1)
    assert "no TLS" in said and "is this its port for TLS?" in said


def test_the_script_of_the_guide(tmp_path):
    link = tmp_path / "generate_certs.sh"
    link.symlink_to(martlet_process.binary())
    done = subprocess.run([str(link)], capture_output=True, text=True, cwd=tmp_path, timeout=DEADLINE_SECS)
    assert done.returncode == 0 and "Next steps" in done.stdout, done.stderr
    made = tmp_path / "config/certs"
    assert sorted(path.name for path in made.iterdir()) == ["ca.crt", "ca.key", "server.crt", "server.key"]
    code, said = openssl("x509", "-in", made / "server.crt", "-noout", "-text")
    assert "CN = mosquitto" in said and "DNS:localhost, DNS:mosquitto, IP Address:127.0.0.1" in said
    assert "Public-Key: (2048 bit)" in said
    assert openssl("verify", "-CAfile", made / "ca.crt", made / "server.crt")[0] == 0
    again = subprocess.run([str(link)], capture_output=True, text=True, cwd=tmp_path, timeout=DEADLINE_SECS)
    assert again.returncode != 0 and "not written over" in again.stderr
