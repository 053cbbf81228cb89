"""martlet cert: what it makes is good for OpenSSL, for Mosquitto's clients and for the broker."""

import fcntl
import json
import os
import shutil
import socket
import ssl
import subprocess

import pytest

import martlet_process
from programs import need
from test_access import publish, until

DEADLINE_SECS = 60


def cert(*arguments, cwd=None, code=0):
    done = subprocess.run([martlet_process.binary(), "cert", *map(str, arguments)], capture_output=True, text=True,
                          cwd=cwd, env=martlet_process.environment(), timeout=DEADLINE_SECS)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def openssl(*arguments, cwd=None):
    done = subprocess.run([need("openssl", "openssl"), *map(str, arguments)], capture_output=True, text=True, cwd=cwd,
                          timeout=DEADLINE_SECS)
    return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module", params=[[], ["--rsa", "2048"]], ids=["p256", "rsa"])
def made(request, tmp_path_factory):
    """A directory with a CA, a server's and a device's certificate."""
    directory = tmp_path_factory.mktemp("made") / "certs"
    cert("ca", "--dir", directory, *request.param)
    cert("server", "localhost", "127.0.0.1", "--dir", directory, *request.param)
    cert("client", "device-7", "--dir", directory, *request.param)
    return directory


@pytest.fixture
def authority(made, tmp_path):
    """A copy of it."""
    return shutil.copytree(made, tmp_path / "certs")


def test_openssl_finds_them_good(authority):
    for name, purpose in [("server", "sslserver"), ("device-7", "sslclient")]:
        code, said = openssl("verify", "-x509_strict", "-purpose", purpose, "-CAfile", authority / "ca.crt",
                             authority / f"{name}.crt")
        assert code == 0, said
        assert (authority / f"{name}.key").stat().st_mode & 0o777 == 0o600
        assert (authority / f"{name}.crt").stat().st_mode & 0o777 == 0o644
    assert (authority / "ca.key").stat().st_mode & 0o777 == 0o600
    code, said = openssl("verify", "-purpose", "sslserver", "-CAfile", authority / "ca.crt", authority / "device-7.crt")
    assert code != 0, "a device is not a server"
    shown = json.loads(cert("show", authority / "server.crt", "--json"))
    code, said = openssl("x509", "-in", authority / "server.crt", "-noout", "-fingerprint", "-sha256")
    assert shown["fingerprint_sha256"] in said and shown["names"] == ["localhost", "127.0.0.1"]


def test_nothing_is_written_over(authority):
    before = {path.name: path.read_bytes() for path in authority.iterdir()}
    for arguments in [["ca"], ["server", "other"], ["client", "device-7"]]:
        assert "already exists and is not overwritten" in cert(*arguments, "--dir", authority, code=1)
    assert before == {path.name: path.read_bytes() for path in authority.iterdir()}
    assert "not a valid name for files" in cert("client", "../evil", "--dir", authority, code=1)


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
    assert told.returncode == 0 and "certificates of 1 listener" in told.stdout, told
    assert "no longer accepted" not in told.stdout, "no user is concerned"
    assert "client certificates are checked again" in told.stdout
    try:
        while "DISCONNECT" not in (line := gone.stdout.readline()):
            assert line, "it was not told"
        node.wait_for_log("the client's certificate is revoked")
        assert stays.poll() is None
    finally:
        for subscriber in (gone, stays):
            subscriber.kill()
            subscriber.wait(timeout=60)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
def test_a_certificate_that_is_revoked_within_its_handshake_is_not_let_in(authority, start_node, version):
    """The server has asked for it by the list of before, and the client answers after the reload."""
    cert("crl", "--dir", authority)
    node = start_node(
        settings=[f"tls.certificate={authority}/server.crt", f"tls.key={authority}/server.key",
                  "tls.client_certificates=required", f"tls.client_ca={authority}/ca.crt",
                  f"tls.client_crl={authority}/crl.pem"], listen=("mqtts://127.0.0.1:0",))
    for name, ends in [("stays", False), ("gone", True)]:
        cert("client", name, "--dir", authority)
        context = ssl.create_default_context(cafile=authority / "ca.crt")
        context.minimum_version = context.maximum_version = version
        context.load_cert_chain(authority / f"{name}.crt", authority / f"{name}.key")
        come, go = ssl.MemoryBIO(), ssl.MemoryBIO()
        secure = context.wrap_bio(come, go, server_hostname="localhost")

        def step(of):
            try:
                return of() or True
            except ssl.SSLWantReadError:
                return False

        with socket.create_connection(("127.0.0.1", node.port("mqtts")), timeout=DEADLINE_SECS) as plain:
            step(secure.do_handshake)
            plain.sendall(go.read())
            come.write(plain.recv(65536))
            is_done = step(secure.do_handshake)
            if ends:
                cert("revoke", name, "--dir", authority)
            assert martlet_process.run("reload", "--data-dir", node.data_dir).returncode == 0
            plain.sendall(go.read())
            got = b""
            try:
                while not is_done and (more := plain.recv(65536)):
                    come.write(more)
                    is_done = step(secure.do_handshake)
                secure.write(b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x00\x00\x01c")
                plain.sendall(go.read())
                while not got and (more := plain.recv(65536)):
                    come.write(more)
                    if (read := step(lambda: secure.read(100))) is True:
                        break
                    got = read or b""
            except (ssl.SSLError, ConnectionError):
                assert ends
            assert (got[:4] == b"\x20\x02\x00\x00") != ends, (name, got)
    node.wait_for_log("the client's certificate is revoked")


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
        return [entry["certificate"] for entry in json.loads(cert("list", "--dir", authority, "--json"))["items"]
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


def is_good(authority, certificate):
    code, said = openssl("verify", "-crl_check", "-CAfile", authority / "ca.crt", "-CRLfile", authority / "crl.pem",
                         certificate)
    assert (code == 0) != ("revoked" in said), said
    return code == 0


def serial(certificate):
    return json.loads(cert("show", certificate, "--json"))["serial"]


def keep(authority, name, of="device-7"):
    """A copy of a device's certificate, as the device has it, outside the authority."""
    copy = authority.parent / name
    copy.write_bytes((authority / f"{of}.crt").read_bytes())
    return copy


def test_who_revokes_a_name_revokes_what_renew_has_replaced(authority):
    cert("client", "device-8", "--dir", authority)
    first = keep(authority, "first.crt")
    cert("renew", "device-7", "--dir", authority)
    second = keep(authority, "second.crt")
    cert("renew", "device-7", "--dir", authority)
    listed = cert("list", "--dir", authority)
    assert serial(first) in listed and serial(second) in listed
    without = [one for one in json.loads(cert("list", "--dir", authority, "--json"))["items"] if one["certificate"] is None]
    assert [one["name"] for one in without] == ["device-7", "device-7"]
    said = cert("revoke", "device-7", "--dir", authority)
    for certificate in (first, second, authority / "device-7.crt"):
        assert serial(certificate) in said and not is_good(authority, certificate)
    assert "note" not in said and is_good(authority, authority / "device-8.crt")
    assert "without a file" not in cert("list", "--dir", authority)
    # And with nothing of it here.
    for end in ("crt", "key"):
        (authority / f"device-8.{end}").rename(authority.parent / f"device-8.{end}")
    cert("revoke", "device-8", "--dir", authority)
    assert not is_good(authority, authority.parent / "device-8.crt")


def test_who_makes_a_certificate_again_revokes_that_of_before_by_its_name_too(authority):
    first = keep(authority, "first.crt")
    for end in ("crt", "key"):
        (authority / f"device-7.{end}").unlink()
    cert("client", "device-7", "--dir", authority)
    assert serial(first) in cert("list", "--dir", authority)
    cert("revoke", "device-7", "--dir", authority)
    assert not is_good(authority, first) and not is_good(authority, authority / "device-7.crt")


def test_serial_numbers_in_the_register_may_be_written_as_people_do(authority):
    device = serial(authority / "device-7.crt")
    (authority / "revoked.txt").write_text(f"list 5\n{device.upper()} 1700000000\n00{device} 1700000000\nabc 12\n")
    cert("crl", "--dir", authority)
    code, text = openssl("crl", "-in", authority / "crl.pem", "-noout", "-text")
    assert code == 0 and text.count("Serial Number:") == 2 and "Serial Number: 0ABC" in text, text
    assert not is_good(authority, authority / "device-7.crt")
    assert "is revoked" in cert("renew", "device-7", "--dir", authority, code=1)
    assert (authority / "revoked.txt").read_text() == f"list 6\n{device} 1700000000\n0abc 12\n"


def test_what_has_ended_is_in_no_list(authority):
    cert("client", "short", "--dir", authority, "--days", "0")
    lines = (authority / "issued.txt").read_text().splitlines()
    line = next(line for line in lines if " short " in line).split(" ")
    line[1], line[2] = "2020-01-01T00:00:00Z", "2021-01-01T00:00:00Z"
    (authority / "issued.txt").write_text("\n".join([*lines[:-1], " ".join(line), ""]))
    for end in ("crt", "key"):
        (authority / f"short.{end}").unlink()
    assert "short" not in cert("list", "--dir", authority)
    assert json.loads(cert("revoke", "short", "--dir", authority, "--json"))["serials"] == []


def test_one_certificate_is_revoked_by_its_file_or_its_serial_number(authority):
    first = keep(authority, "first.crt")
    cert("renew", "device-7", "--dir", authority)
    second = keep(authority, "second.crt")
    cert("renew", "device-7", "--dir", authority)
    said = cert("revoke", first, "--dir", authority)
    assert not is_good(authority, first) and is_good(authority, second)
    assert f"another certificate of device-7 is still valid: serial {serial(second)}" in said
    colons = ":".join(serial(second)[at:at + 2] for at in range(0, 32, 2)).upper()
    said = cert("revoke", "--serial", colons, "--dir", authority)
    assert not is_good(authority, second) and is_good(authority, authority / "device-7.crt")
    assert serial(authority / "device-7.crt") in said
    # A number that the authority does not know, as of a certificate from before the index.
    assert "has no certificate of this number" in cert("revoke", "--serial", "8F00", "--dir", authority)
    code, text = openssl("crl", "-in", authority / "crl.pem", "-noout", "-text")
    assert code == 0 and "Serial Number: 8F00" in text and text.count("Serial Number:") == 3
    cert("crl", "--dir", authority)
    assert openssl("crl", "-in", authority / "crl.pem", "-noout", "-text")[1].count("Serial Number:") == 3
    before = (authority / "crl.pem").read_bytes()
    other = authority.parent / "other"
    cert("ca", "--dir", other)
    cert("client", "device-7", "--dir", other)
    assert "of another authority" in cert("revoke", other / "device-7.crt", "--dir", authority, code=1)
    assert "the authority's own" in cert("revoke", authority / "ca.crt", "--dir", authority, code=1)
    assert "own serial number" in cert("revoke", "--serial", serial(authority / "ca.crt"), "--dir", authority, code=1)
    for nonsense in ["device-7", "0", "7f" * 21]:
        assert "not a valid serial number" in cert("revoke", "--serial", nonsense, "--dir", authority, code=1)
    assert "no certificate by the name of nobody" in cert("revoke", "nobody", "--dir", authority, code=1)
    assert (authority / "crl.pem").read_bytes() == before


def test_an_authority_from_before_the_index_gets_one_and_is_told_what_may_be_missing(authority):
    first = keep(authority, "first.crt")
    cert("renew", "device-7", "--dir", authority)
    (authority / "issued.txt").unlink()
    second = keep(authority, "second.crt")
    cert("renew", "device-7", "--dir", authority)
    text = (authority / "issued.txt").read_text()
    assert [line.split(" ")[3:5] for line in text.splitlines() if line[0] != "#"] == [
        ["found", "device-7"], ["found", "server"], ["issued", "device-7"]]
    said = cert("revoke", "device-7", "--dir", authority)
    assert not is_good(authority, second) and not is_good(authority, authority / "device-7.crt")
    assert is_good(authority, first) and "device-7 was here before" in said
    cert("revoke", first, "--dir", authority)
    assert not is_good(authority, first)
    cert("client", "device-8", "--dir", authority)
    assert "note" not in cert("revoke", "device-8", "--dir", authority)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, who works in the directory of another")
def test_the_index_is_the_directorys_owners_also_when_root_makes_it(authority):
    (authority / "issued.txt").unlink()
    os.chown(authority, 65534, 65534)
    cert("crl", "--dir", authority)
    made = (authority / "issued.txt").stat()
    assert (made.st_uid, made.st_mode & 0o777) == (65534, 0o600)
    cert("renew", "device-7", "--dir", authority)
    assert (authority / "issued.txt").stat().st_uid == 65534


def test_commands_at_once_forget_nobody(tmp_path):
    def at_once(*commands):
        running = [subprocess.Popen([martlet_process.binary(), "cert", *command, "--dir", tmp_path],
                                    stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                    env=martlet_process.environment()) for command in commands]
        return [(one.communicate(timeout=DEADLINE_SECS)[0], one.returncode) for one in running]

    assert sorted(code for _, code in at_once(["ca"], ["ca"], ["ca"])) == [0, 1, 1]
    devices = [f"device-{number}" for number in range(12)]
    said = at_once(*[["client", device] for device in devices])
    assert all(code == 0 for _, code in said), said
    said = at_once(*[["revoke", device] for device in devices], ["crl"])
    assert all(code == 0 for _, code in said), said
    code, text = openssl("crl", "-in", tmp_path / "crl.pem", "-noout", "-text", "-crlnumber")
    assert code == 0 and text.count("Serial Number:") == 12 and "crlNumber=0x0D" in text, text
    assert cert("list", "--dir", tmp_path).count("revoked") == 12
    assert not list(tmp_path.glob("*.new"))


def test_what_a_run_that_was_cut_off_has_left_is_removed(authority):
    left, theirs = authority / "device-9.key.0123456789abcdef.new", authority / "notes.new"
    for path in (left, theirs):
        path.write_text("x")
    cert("crl", "--dir", authority)
    assert not left.exists() and theirs.exists()


def test_who_waits_for_another_command_is_told(authority):
    held = os.open(authority, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    waiting = subprocess.Popen([martlet_process.binary(), "cert", "revoke", "device-7", "--dir", authority],
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               env=martlet_process.environment())
    try:
        assert f"waiting for another command that changes {authority}" in waiting.stderr.readline()
        assert "revoked" not in cert("list", "--dir", authority), "who reads does not wait"
        os.close(held)
        said, _ = waiting.communicate(timeout=DEADLINE_SECS)
        assert waiting.returncode == 0 and "revoked device-7" in said
    finally:
        waiting.kill()
        waiting.wait(timeout=DEADLINE_SECS)


def test_a_server_that_requires_a_certificate_is_said_to(authority, start_node):
    settings = [f"tls.certificate={authority}/server.crt", f"tls.key={authority}/server.key",
                "tls.client_certificates=required", f"tls.client_ca={authority}/ca.crt"]
    node = start_node(settings=settings, listen=("mqtts://127.0.0.1:0", "mqtt://127.0.0.1:0"))
    server = f"127.0.0.1:{node.port('mqtts')}"
    said = cert("check", server, "--cafile", authority / "ca.crt", code=1)
    assert "trusted and valid for 127.0.0.1, but the server refuses this client: the server requires a certificate" in said
    told = json.loads(cert("check", server, "--cafile", authority / "ca.crt", "--json", code=1))
    assert told["trusted"] and not told["accepted"]
    own = ["--cert", authority / "device-7.crt", "--key", authority / "device-7.key"]
    assert "\ntrusted, and for 127.0.0.1\n" in cert(
        "check", server, "--cafile", authority / "ca.crt", *own)
    assert "NOT trusted: the server's certificate is of no CA" in cert("check", server, *own, code=1)
    said = cert("check", f"127.0.0.1:{node.port('mqtt')}", "--cafile", authority / "ca.crt", code=1)
    assert "no TLS" in said and "check that this is its TLS port" in said


def test_the_script_of_the_guide(tmp_path):
    link = tmp_path / "generate_certs.sh"
    link.symlink_to(martlet_process.binary())
    done = subprocess.run([str(link)], capture_output=True, text=True, cwd=tmp_path, timeout=DEADLINE_SECS)
    assert done.returncode == 0 and "Next steps" in done.stdout, done.stderr
    made = tmp_path / "config/certs"
    assert sorted(path.name for path in made.iterdir()) == ["ca.crt", "ca.key", "issued.txt", "server.crt",
                                                           "server.key"]
    code, said = openssl("x509", "-in", made / "server.crt", "-noout", "-text")
    assert "CN = mosquitto" in said and "DNS:localhost, DNS:mosquitto, IP Address:127.0.0.1" in said
    assert "Public-Key: (2048 bit)" in said
    assert openssl("verify", "-CAfile", made / "ca.crt", made / "server.crt")[0] == 0
    again = subprocess.run([str(link)], capture_output=True, text=True, cwd=tmp_path, timeout=DEADLINE_SECS)
    assert again.returncode != 0 and "is not overwritten" in again.stderr
