"""What a listener lets in: Unix sockets, proxies, limits of its own, versions of TLS."""

import os
import socket
import ssl
import stat
import subprocess

import pytest

import martlet_process
from conftest import need
from paho_client import Client
from test_access import publish, until
from test_tls import Authority


def configured(tmp_path, text):
    path = tmp_path / "martlet.toml"
    path.write_text(text)
    return ["-c", str(path)]


def test_a_unix_socket_is_a_listener_for_whoever_may_write_to_it(start_node, tmp_path):
    path = tmp_path / "mqtt.sock"
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
                              capture_output=True, text=True, timeout=20)
        assert done.returncode == 0, done.stderr
    out, _ = sub.communicate(timeout=20)
    assert out.count("t x") == 2
    node.close()
    assert not path.exists()


def test_a_proxy_says_where_clients_come_from(start_node, tmp_path):
    node = start_node(listen=(), arguments=configured(
        tmp_path, '[[listeners]]\nurl = "mqtt://127.0.0.1:0"\nproxy_from = "127.0.0.1, 10.0.0.0/8"\n'))
    with socket.create_connection(("127.0.0.1", node.port()), timeout=20) as proxy:
        proxy.sendall(b"PROXY TCP4 192.0.2.33 127.0.0.1 4711 1883\r\n\x10\x0e\x00\x04MQTT\x04\x02\x00\x3c\x00\x02me")
        assert proxy.recv(4) == b"\x20\x02\x00\x00"
        node.wait_for_log("192.0.2.33:4711")
    assert publish(node, "t")[0] != 0
    node.wait_for_log("no PROXY header")


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
    with socket.create_connection(("127.0.0.1", node.port("mqtts")), timeout=20) as plain:
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
    with socket.create_connection(("127.0.0.1", port), timeout=20) as plain, pytest.raises(ssl.SSLError):
        context.wrap_socket(plain, server_hostname="localhost")
    node.wait_for_log("no TLS version or cipher suite in common")


def test_a_listener_has_so_many_places(start_node, tmp_path):
    node = start_node(listen=(), arguments=configured(tmp_path, """
[[listeners]]
url = "mqtt://127.0.0.1:0"
max_connections = 1
"""))
    with Client(node, "one"):
        code, said = publish(node, "t", "-V", "5")
        assert code != 0 and "busy" in said.lower(), said
        node.wait_for_log("the listener's limit max_connections")
    until(lambda: publish(node, "t")[0] == 0, "its place is free again")


def test_what_cannot_be_understood_does_not_start(tmp_path):
    for line, why in [
        ('proxy_from = "everybody"', "no address or network"),
        ('url = "unix://relative"', "no absolute path"),
        ('mode = "rw"', "no mode such as 0660"),
        ('tls_version = "1.3"', "is for encrypted listeners"),
        ('tls_version = "1.1"', "expected"),
    ]:
        url = "" if line.startswith("url") else 'url = "mqtt://127.0.0.1:0"\n'
        done = martlet_process.run("config", "check", *configured(tmp_path, f"[[listeners]]\n{url}{line}\n"))
        assert done.returncode != 0 and why in done.stderr, (line, done.stderr)
