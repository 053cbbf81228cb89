"""The tables in PostgreSQL over the network: by TLS, whose certificate is looked at, and with a password."""

import pytest

import postgres_process
from test_http_api import KEYS
from test_http_registry import Client, call
from test_tls import Authority

PASSWORD = "only-for-the-database"


def test_a_database_is_reached_by_tls_and_only_if_it_is_the_right_one(start_node, tmp_path):
    authority, stranger = Authority(tmp_path / "ca"), Authority(tmp_path / "stranger", name="Stranger")
    server = postgres_process.Server()
    try:
        server.run("createdb", "-T", "template0", "things")
        port = server.serve_tls(*authority.sign("database"), PASSWORD)

        def start(ca, mode="verify-full", password=PASSWORD, host="localhost"):
            url = f"postgres://martlet:{password}@{host}:{port}/things?sslmode={mode}&sslrootcert={ca.certificate}"
            settings = ["registry.wait_secs=1"]
            return start_node(http=True, settings=settings, variables={**KEYS, "MARTLET_REGISTRY__URL": url})

        for wrong in ({"ca": stranger}, {"ca": authority, "password": "wrong"}, {"ca": authority, "mode": "disable"}):
            with pytest.raises(RuntimeError) as told:
                start(**wrong)
            assert "127.0.0.1" in str(told.value) or "localhost" in str(told.value), told.value
            assert PASSWORD not in str(told.value)
        node = start(authority)
        secret = call(node, "POST", "/api/v1/devices", {"id": "pump"})["secret"]
        client = Client(node, "pump", secret)
        try:
            assert client.code == 0 and client.publish("d/pump/x")
        finally:
            client.close()
        assert PASSWORD not in node.log()
    finally:
        server.close()
