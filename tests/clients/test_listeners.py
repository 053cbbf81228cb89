"""What a listener lets in: Unix sockets, proxies, limits of its own, versions of TLS."""

import os
import socket
import ssl
import stat
import subprocess
import time

import pytest

import martlet_process
from programs import need
from paho_client import Client
from test_access import mosquitto_passwd, publish, until
from test_mosquitto_conf import upgraded
from test_revocation import hashed
from test_tls import Authority


def configured(tmp_path, text):
    path = tmp_path / "martlet.toml"
    path.write_text(text)
    return ["-c", str(path)]


def test_a_unix_socket_is_a_listener_for_whoever_may_write_to_it(start_node, tmp_path, short_path):
    path = short_path / "mqtt.sock"
    node = start_node(listen=(), arguments=configured(
        tmp_path, f'[[listeners]]\nurl = "unix://{path}"\nmode = "0600"\n'))
    assert node.urls == [f"unix://{path}"]
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    sub = subprocess.Popen([martlet_process.binary(), "sub", "--unix", str(path), "-t", "t", "-C", "2", "-v", "-d"],
                           stdout=subprocess.PIPE, text=True)
    while "SUBACK" not in sub.stdout.readline():
        assert sub.poll() is None
    for command in ([need("mosquitto_pub", "mosquitto-clients")], [martlet_process.binary(), "pub"]):
        done = subprocess.run([*command, "--unix", str(path), "-t", "t", "-m", "x", "-q", "1"],
                              capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
    out, _ = sub.communicate(timeout=60)
    assert out.count("t x") == 2
    with socket.socket(socket.AF_UNIX) as quiet:
        quiet.connect(str(path))
        quiet.sendall(b"\x10\x11\x00\x04MQTT\x04\x02\x00\x00\x00\x05quiet")
        assert quiet.recv(4) == b"\x20\x02\x00\x00"
        shown = martlet_process.run("client", "show", "quiet", "--data-dir", str(node.data_dir)).stdout
        assert "keep alive    none: " in shown and "TCP" not in shown, shown
    node.close()
    assert not path.exists()


def test_a_proxy_says_where_clients_come_from(start_node, tmp_path):
    node = start_node(listen=(), arguments=configured(
        tmp_path, '[[listeners]]\nurl = "mqtt://127.0.0.1:0"\nproxy_from = "127.0.0.1, 10.0.0.0/8"\n'))
    with socket.create_connection(("127.0.0.1", node.port()), timeout=60) as proxy:
        proxy.sendall(b"PROXY TCP4 192.0.2.33 127.0.0.1 4711 1883\r\n\x10\x0e\x00\x04MQTT\x04\x02\x00\x3c\x00\x02me")
        assert proxy.recv(4) == b"\x20\x02\x00\x00"
        node.wait_for_log("192.0.2.33:4711")
    assert publish(node, "t")[0] != 0
    node.wait_for_log("did not begin with a PROXY header")


def test_a_proxy_stands_before_tls(start_node, tmp_path):
    authority = Authority(tmp_path / "ca")
    certificate, key = authority.sign("server")
    node = start_node(listen=(), arguments=configured(tmp_path, f"""
[[listeners]]
url = "mqtts://127.0.0.1:0"
certificate = "{certificate}"
key = "{key}"
proxy_from = "127.0.0.1"
"""))
    context = ssl.create_default_context(cafile=authority.certificate)
    with socket.create_connection(("127.0.0.1", node.port("mqtts")), timeout=60) as plain:
        plain.sendall(b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c\xc0\x00\x02\x22\x7f\x00\x00\x01\x12\x67\x22\xb3")
        with context.wrap_socket(plain, server_hostname="localhost") as client:
            client.sendall(b"\x10\x0e\x00\x04MQTT\x04\x02\x00\x3c\x00\x02me")
            assert client.recv(4) == b"\x20\x02\x00\x00"
    node.wait_for_log("192.0.2.34:4711")


def test_tls_1_3_alone(start_node, tmp_path):
    authority = Authority(tmp_path / "ca")
    certificate, key = authority.sign("server")
    node = start_node(listen=("mqtts://127.0.0.1:0",), settings=[
        f"tls.certificate={certificate}", f"tls.key={key}", "tls.version=1.3"])
    options = ["--cafile", authority.certificate]
    port = node.port("mqtts")
    assert publish(node, "t", *options, port=port)[0] == 0
    context = ssl.create_default_context(cafile=authority.certificate)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with socket.create_connection(("127.0.0.1", port), timeout=60) as plain, pytest.raises(ssl.SSLError):
        context.wrap_socket(plain, server_hostname="localhost")
    node.wait_for_log("no TLS version in common")


def test_a_listener_has_so_many_places(start_node, tmp_path):
    node = start_node(listen=(), arguments=configured(tmp_path, """
[[listeners]]
url = "mqtt://127.0.0.1:0"
max_connections = 1
"""))
    with Client(node, "one"):
        code, said = publish(node, "t", "-V", "5")
        assert code != 0 and "busy" in said.lower(), said
        node.wait_for_log("(max_connections = 1)")
    until(lambda: publish(node, "t")[0] == 0, "its place is free again")


def test_what_cannot_be_understood_does_not_start(tmp_path):
    for line, why in [
        ('proxy_from = "everybody"', "not a valid address or network"),
        ('url = "unix://relative"', "no absolute path"),
        ('mode = "rw"', "not a valid mode such as 0660"),
        ('tls_version = "1.3"', "is for encrypted listeners"),
        ('tls_version = "1.1"', "expected"),
        # Nobody can show a certificate there, so everybody would be let in without.
        ('client_certificates = "required"', "`client_certificates` is for encrypted listeners"),
        ('client_certificates = "optional"', "`client_certificates` is for encrypted listeners"),
        ('[tls]\nclient_certificates = "required"', "no listener is encrypted"),
    ]:
        url = "" if line.startswith("url") else 'url = "mqtt://127.0.0.1:0"\n'
        done = martlet_process.run("config", "check", *configured(tmp_path, f"[[listeners]]\n{url}{line}\n"))
        assert done.returncode != 0 and why in done.stderr, (line, done.stderr)


def two_realms(start_node, tmp_path):
    """A node with credentials of its own, and a listener for guests with others."""
    main = mosquitto_passwd(tmp_path / "main", ("alice", "secret"))
    guests = mosquitto_passwd(tmp_path / "guests", ("alice", "guest"))
    return start_node(listen=(), arguments=configured(tmp_path, f"""
[auth]
password_file = "{main}"
[[listeners]]
url = "mqtt://127.0.0.1:0"
[[listeners]]
url = "mqtt://127.0.0.1:0"
name = "guests"
password_file = "{guests}"
"""))


def test_users_of_one_name_at_two_doors_are_two_users(start_node, tmp_path):
    node = two_realms(start_node, tmp_path)
    main, guests = (int(url.rsplit(":", 1)[1]) for url in node.urls)

    def let_in(port, password):
        return publish(node, "t", "-u", "alice", "-P", password, "-i", "c1", port=port)[0] == 0

    for _ in range(2):
        assert let_in(main, "secret") and not let_in(main, "guest")
        assert let_in(guests, "guest") and not let_in(guests, "secret")
    # Nor does one take the other's session.
    subscribe = [need("mosquitto_sub", "mosquitto-clients"), "-h", "127.0.0.1", "-t", "t", "-q", "1", "-c", "-i",
                 "lasting", "-u", "alice", "-E"]
    assert subprocess.run([*subscribe, "-p", str(main), "-P", "secret"], timeout=60).returncode == 0
    assert subprocess.run([*subscribe, "-p", str(guests), "-P", "guest"], timeout=60, capture_output=True).returncode != 0
    node.wait_for_log("the session of this Client Identifier is another user's")


def test_who_is_removed_at_one_door_stays_at_the_other(start_node, tmp_path):
    node = two_realms(start_node, tmp_path)
    main, guests = (int(url.rsplit(":", 1)[1]) for url in node.urls)

    def at(port, client_id, password):
        client = Client(node, client_id, port=port)
        return client.credentials("alice", password)

    with at(main, "main", "secret") as stays, at(guests, "guest", "guest") as gone:
        (tmp_path / "guests").write_text("# no users\n")
        assert martlet_process.run("reload", "--data-dir", node.data_dir).returncode == 0
        gone.wait_for_end()
        stays.publish("t", "still here", qos=1)
    assert publish(node, "t", "-u", "alice", "-P", "secret", port=main)[0] == 0


def reason(port, address, password):
    """What alice is told whom a proxy says to come from there."""
    body = b"\x00\x04MQTT\x05\xc2\x00\x3c\x00" + b"".join(
        len(part).to_bytes(2, "big") + part for part in (b"c", b"alice", password))
    with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
        client.sendall(f"PROXY TCP4 {address} 127.0.0.1 4711 1883\r\n".encode() + bytes([0x10, len(body)]) + body)
        return client.recv(64)[3]


def test_guesses_at_one_listener_lock_nobody_out_at_the_other(start_node, tmp_path):
    """By a proxy's word from other addresses, so that it is the name that is counted."""
    paths = {name: mosquitto_passwd(tmp_path / name, ("alice", name)) for name in ("main", "guests")}
    node = start_node(listen=(), arguments=configured(tmp_path, f"""
[auth]
lockout_failures = 3
password_file = "{paths['main']}"
[[listeners]]
url = "mqtt://127.0.0.1:0"
proxy_from = "127.0.0.1"
[[listeners]]
url = "mqtt://127.0.0.1:0"
name = "guests"
password_file = "{paths['guests']}"
proxy_from = "127.0.0.1"
"""))
    main, guests = (int(url.rsplit(":", 1)[1]) for url in node.urls)

    assert [reason(guests, f"192.0.2.{last}", b"guess-%d" % last) for last in range(1, 4)] == [0x86] * 3
    assert reason(guests, "192.0.2.9", b"guests") == 0x9F
    assert reason(main, "192.0.2.9", b"main") == 0


def test_addresses_of_one_64_are_locked_out_together(start_node, tmp_path):
    passwords = mosquitto_passwd(tmp_path / "passwd", ("bob", "b"))
    node = start_node(listen=(), arguments=configured(tmp_path, f"""
[auth]
lockout_failures = 3
password_file = "{passwords}"
[[listeners]]
url = "mqtt://127.0.0.1:0"
proxy_from = "127.0.0.1"
"""))

    def guess(address):
        """Under a name that nobody guessed before, so that it is the address that is counted."""
        body = b"\x00\x04MQTT\x05\xc2\x00\x3c\x00" + b"\x00\x00" + b"".join(
            len(part).to_bytes(2, "big") + part for part in (address.encode(), b"guess"))
        with socket.create_connection(("127.0.0.1", node.port()), timeout=60) as client:
            client.sendall(f"PROXY TCP6 {address} ::1 4711 1883\r\n".encode() + bytes([0x10, len(body)]) + body)
            return client.recv(64)[3]

    assert [guess(f"2001:db8:0:1:{last}::1") for last in range(1, 4)] == [0x86] * 3
    assert guess("2001:db8:0:1::9") == 0x9F
    assert guess("2001:db8:0:2::9") == 0x86


@pytest.mark.parametrize("key", ['password_file = ""', 'acl_file = ""', 'certificate_user_name = "off"'])
def test_a_listener_is_not_open_because_its_own_keys_are_empty(start_node, tmp_path, key):
    passwords = mosquitto_passwd(tmp_path / "passwd", ("alice", "secret"))
    node = start_node(listen=(), arguments=configured(
        tmp_path, f'[auth]\npassword_file = "{passwords}"\n[[listeners]]\nurl = "mqtt://127.0.0.1:0"\n{key}\n'))
    assert publish(node, "t")[0] != 0
    assert publish(node, "t", "-u", "alice", "-P", "wrong")[0] != 0


def test_two_listeners_do_not_have_one_name(tmp_path):
    listener = '[[listeners]]\nurl = "mqtt://127.0.0.1:{}"\nname = "x"\n'
    done = martlet_process.run("config", "check", *configured(tmp_path, listener.format(1) + listener.format(2)))
    assert done.returncode != 0 and "two listeners have the name" in done.stderr


@pytest.mark.long
def test_one_address_with_many_guesses_keeps_nobody_waiting(start_node, tmp_path):
    """Each guess takes a core for some 100 ms; by a proxy's word they come from one address."""
    passwords = tmp_path / "passwd"
    passwords.write_text("".join(f"{user}:{hashed(user, 300_000)}\n" for user in ("alice", "bob", "carol")))
    node = start_node(listen=(), arguments=configured(tmp_path, f"""
[auth]
lockout_failures = 0
password_file = "{passwords}"
[[listeners]]
url = "mqtt://127.0.0.1:0"
proxy_from = "127.0.0.1"
"""))

    def connect(address, user, password):
        client = socket.create_connection(("127.0.0.1", node.port()), timeout=60)
        parts = (f"{address} {user}".encode(), user.encode(), password.encode())
        body = b"\x00\x04MQTT\x05\xc2\x00\x3c\x00" + b"".join(len(part).to_bytes(2, "big") + part for part in parts)
        client.sendall(f"PROXY TCP4 {address} 127.0.0.1 4711 1883\r\n".encode() + bytes([0x10, len(body)]) + body)
        return client

    def let_in_after(address, user):
        began = time.monotonic()
        with connect(address, user, user) as client:
            assert client.recv(64)[3] == 0
        return time.monotonic() - began

    alone = let_in_after("192.0.2.2", "bob")
    guesses = [connect("192.0.2.1", "alice", f"guess-{number}") for number in range(100)]
    assert guesses[0].recv(64)[3] == 0x86
    beside = let_in_after("192.0.2.3", "carol")
    print(f"\nalone after {alone:.3f} s, beside 100 guesses after {beside:.3f} s")
    assert beside < 20 * alone, "they wait their turn"
    for client in guesses:
        client.close()
    # Nobody waits for these any more.
    assert let_in_after("192.0.2.1", "carol") < 20 * alone


def test_guesses_that_are_sent_at_once_are_locked_out_too(start_node, tmp_path):
    passwords = mosquitto_passwd(tmp_path / "passwd", ("admin", "guess-299"))
    node = start_node(settings=[f"auth.password_file={passwords}", "auth.lockout_failures=10"])

    def connect(password):
        client = socket.create_connection(("127.0.0.1", node.port()), timeout=30)
        body = b"\x00\x04MQTT\x05\xc2\x00\x3c\x00" + b"\x00\x00" + b"\x00\x05admin"
        body += len(password).to_bytes(2, "big") + password
        client.sendall(bytes([0x10, len(body)]) + body)
        return client

    clients = [connect(f"guess-{number}".encode()) for number in range(300)]
    reasons = []
    for client in clients:
        with client:
            reasons.append(client.recv(64)[3])
    assert 0 not in reasons, "the password was found"
    assert 159 in reasons and 134 in reasons


@pytest.mark.parametrize("keys, evil, here", [
    ("", 403, 101),
    ('origins = "*"', 101, 101),
    ('origins = "https://evil.example"', 101, 403),
    ("allow_anonymous = false", 101, 101),
])
def test_pages_of_others_do_not_reach_who_is_open_to_this_machine(start_node, tmp_path, keys, evil, here):
    node = start_node(listen=(), arguments=configured(
        tmp_path, f'[[listeners]]\nurl = "ws://127.0.0.1:0"\n{keys}\n'))
    assert upgraded(node.port("ws"), origin="https://evil.example") == evil
    assert upgraded(node.port("ws"), origin="http://localhost:3000") == here
    assert upgraded(node.port("ws")) == 101
    if evil == 403:
        node.wait_for_log("the origin of the page is not allowed")
