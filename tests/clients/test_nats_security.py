"""TLS, client certificates and files of credentials of the NATS sink, against nats-server."""

import socket
import ssl
import threading

import pytest

import nats_accounts
import nats_process
from paho_client import Client
from test_nats import configured, warnings
from test_sinks import until
from test_tls import Authority


def until_created(node, nats, count):
    """The monitor of the server says what is in its streams, without credentials."""
    until(lambda: nats.stored() == count, lambda: f"{nats.stored()} of {count}\n{node.log()}")


@pytest.fixture(params=nats_process.BOTH)
def source(request):
    return request.param


def test_tls_with_a_client_certificate(start_node, tmp_path, source):
    authority = Authority(tmp_path / "ca")
    certificate, key = authority.sign("server", names="DNS:localhost")
    ca = {"ca_file": authority.certificate}
    nats = nats_process.Server(
        f'tls {{ cert_file: "{certificate}", key_file: "{key}", ca_file: "{authority.certificate}", verify: true }}',
        source=source, monitored=True)
    url = nats.url.replace("nats://127.0.0.1", "tls://localhost")
    shown = dict(zip(("certificate_file", "key_file"), authority.sign("client", usage="clientAuth")))
    try:
        node = start_node(**configured(tmp_path, url, **ca, **shown))
        with Client(node, "pump-1") as client:
            client.publish("plant/1", "x")
        until_created(node, nats, 1)
        node.close()
        # Without its own certificate, without the authority, and under a name that the certificate does not have.
        for keys in (ca, shown, {**ca, **shown, "url": url.replace("localhost", "127.0.0.1")}):
            node = start_node(**configured(tmp_path, **{"url": url, **keys}))
            with Client(node, "pump-1") as client:
                client.publish("plant/1", "y")
            until(lambda: any("NATS cannot be reached" in one for one in warnings(node)), lambda: warnings(node))
            node.close()
        assert nats.stored() == 1
    finally:
        nats.close()


def test_what_is_connected_to_is_the_address_that_was_checked(start_node, tmp_path, source, resolving):
    authority = Authority(tmp_path / "ca")
    certificate, key = authority.sign("server", names="DNS:moves.example")
    nats = nats_process.Server(f'tls {{ cert_file: "{certificate}", key_file: "{key}" }}',
                               source=source, monitored=True)
    # The name has a permitted address when it is looked up first, and another one after that.
    with socket.create_server(("127.0.0.2", nats.port)) as other:
        other.setblocking(False)
        try:
            options = configured(tmp_path, f"tls://moves.example:{nats.port}", allowed='["127.0.0.1"]',
                                 ca_file=authority.certificate)
            node = start_node(**{**options, "variables": {
                **options["variables"], **resolving("moves.example", "127.0.0.1 127.0.0.2")}})
            with Client(node, "pump-1") as client:
                for at in range(3):
                    client.publish(f"plant/{at}", "x")
            until_created(node, nats, 3)
            with pytest.raises(BlockingIOError):
                other.accept()
        finally:
            nats.close()


def test_the_handshake_names_the_host(start_node, tmp_path):
    authority = Authority(tmp_path / "ca")
    certificate, key = authority.sign("server", names="DNS:localhost")
    context, names = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), []
    context.load_cert_chain(certificate, key)
    context.sni_callback = lambda _socket, name, _context: names.append(name)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        def serve():
            while True:
                try:
                    wire, _ = listener.accept()
                    with wire:
                        wire.sendall(b'INFO {"server_id":"a","version":"2.10.0","max_payload":1,"tls_required":true}\r\n')
                        context.wrap_socket(wire, server_side=True).close()
                except OSError:
                    if listener.fileno() < 0:
                        return

        threading.Thread(target=serve, daemon=True).start()
        url = f"tls://localhost:{listener.getsockname()[1]}"
        node = start_node(**configured(tmp_path, url, ca_file=authority.certificate))
        with Client(node, "pump-1") as client:
            client.publish("plant/1", "x")
        until(lambda: names, node.log)
        assert set(names) == {"localhost"}


def test_tls_is_not_left_out_where_the_server_has_none(start_node, tmp_path, source):
    nats = nats_process.Server(source=source, monitored=True)
    try:
        node = start_node(**configured(tmp_path, nats.url.replace("nats://127.0.0.1", "tls://localhost")))
        with Client(node, "pump-1") as client:
            client.publish("plant/1", "x")
        until(lambda: any("NATS cannot be reached" in one for one in warnings(node)), lambda: warnings(node))
        assert nats.stored() == 0
    finally:
        nats.close()


def test_a_file_of_credentials_of_an_account(start_node, tmp_path, source):
    accounts = nats_accounts.Accounts(tmp_path)
    nats = nats_process.Server(accounts.config(), source=source, monitored=True)
    try:
        node = start_node(**configured(tmp_path, nats.url, credentials_file=str(accounts.credentials)))
        with Client(node, "pump-1") as client:
            client.publish("plant/1", "x")
        until_created(node, nats, 1)
        text = accounts.credentials.read_text()
        # A file is read at each connection: another seed is not that of the JWT.
        accounts.credentials.write_text(text.replace(accounts.user.seed, nats_accounts.Key(tmp_path / "u2", nats_accounts.USER).seed))
        nats.kill()
        nats.start()
        with Client(node, "pump-1") as client:
            client.publish("plant/1", "y")
        until(lambda: any("rejects the credentials" in one for one in warnings(node)), lambda: warnings(node))
        accounts.credentials.write_text(text)
        until_created(node, nats, 2)
        assert accounts.user.seed not in node.log()
    finally:
        nats.close()


def test_a_file_without_credentials_is_told(start_node, tmp_path):
    nats = nats_process.Server()
    (tmp_path / "empty.creds").write_text("nothing\n")
    try:
        node = start_node(**configured(tmp_path, nats.url, credentials_file=str(tmp_path / "empty.creds")))
        with Client(node, "pump-1") as client:
            client.publish("plant/1", "x")
        until(lambda: any("USER NKEY SEED" in one for one in warnings(node)), lambda: warnings(node))
    finally:
        nats.close()
