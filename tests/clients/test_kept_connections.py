"""Servers that close a kept HTTP connection just when the next request is under way: each part of the node that sends
requests sends that one again, on a new connection, and nobody is refused or told of a failure."""

import json
import socket
import threading

import pytest

from paho_client import Client
from test_access import publish, until
from test_http_api import KEY, KEYS
from test_http_registry import call
from test_jwt import SECRET, Signer, encoded

OK = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s"
PANEL = b'{"team_id":1,"api_token_id":2,"mqtt_client_id":3}'
JWKS = json.dumps({"keys": [{"kty": "oct", "kid": "k", "alg": "HS256", "k": encoded(SECRET).decode()}]}).encode()


class Server:
    """Answers the first request of each connection, reads the second, and closes the connection without a byte."""

    def __init__(self, body=b"", answer=None):
        self.answer = answer or OK % (len(body), body)
        self.answered, self.dropped = [], 0
        self.closes_after_answer = answer is not None
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/x"
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                wire, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(wire,), daemon=True).start()

    def serve(self, wire):
        with wire, wire.makefile("rb") as stream:
            body = self.request(stream)
            if body is None:
                return
            self.answered.append(body)
            wire.sendall(self.answer)
            if not self.closes_after_answer and self.request(stream) is not None:
                self.dropped += 1

    @staticmethod
    def request(stream):
        """The body of the next request; None at the end of the connection."""
        if not stream.readline():
            return None
        length = 0
        while (line := stream.readline()) not in (b"\r\n", b""):
            name, _, value = line.partition(b":")
            length = int(value) if name.lower() == b"content-length" else length
        return stream.read(length)

    def close(self):
        self.listener.close()


@pytest.fixture
def serve():
    servers = []

    def start(*arguments, **options):
        servers.append(Server(*arguments, **options))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def let_in(node, password, client="c1"):
    return publish(node, "t", "-u", "key", "-P", password, "-i", client)[0] == 0


# Answers that end with their connection, and one in chunks.
ANSWERS = {
    "kept": None,
    "closed": b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (len(PANEL), PANEL),
    "closed without a word": OK % (len(PANEL), PANEL),
    "http/1.0": b"HTTP/1.0 200 OK\r\n\r\n" + PANEL,
    "chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n8\r\n%s\r\n%x\r\n%s\r\n0\r\n\r\n"
              % (PANEL[:8], len(PANEL) - 8, PANEL[8:]),
}


@pytest.mark.parametrize("how", ANSWERS)
def test_a_hook_refuses_nobody(start_node, serve, how):
    server = serve(PANEL, answer=ANSWERS[how])
    node = start_node(settings=[f"auth.hook_url={server.url}", "auth.remember_secs=0"])
    assert all(let_in(node, f"secret-{number}", f"c{number}") for number in range(6)), node.log()
    assert how != "kept" or server.dropped >= 2


def test_keys_of_tokens_are_fetched(start_node, tmp_path, serve):
    server, signer = serve(JWKS), Signer(tmp_path, "HS256")
    node = start_node(settings=[f"auth.jwt_keys={server.url}", "auth.jwt_refresh_secs=1", "auth.remember_secs=0"])
    # Once there are keys they are fetched again without a token.
    assert let_in(node, signer.token())
    until(lambda: len(server.answered) >= 2, node.log)
    assert server.dropped >= 1 and "cannot fetch token keys" not in node.log(), node.log()


def test_keys_may_begin_with_a_byte_order_mark(start_node, tmp_path, serve):
    server, signer = serve(b"\xef\xbb\xbf" + JWKS), Signer(tmp_path, "HS256")
    node = start_node(settings=[f"auth.jwt_keys={server.url}"])
    assert let_in(node, signer.token()), node.log()


CONFIG = """
[integrations]
allow_private = ["127.0.0.0/8"]
"""
SINK = """
[[sinks.webhook]]
name = "crm"
filters = ["plant/#"]
url = "URL"
"""
RULE = """
[[rules]]
name = "told"
topics = ["plant/#"]
actions = [{ webhook = { url = "URL" } }]
"""


@pytest.mark.parametrize("text, path", [
    (SINK, "webhook/crm"), (SINK + 'format = "ntfy"\n', "webhook/crm"), (RULE, "rule-webhook/told.0"),
], ids=["webhook", "ntfy", "rule"])
def test_a_webhook_has_not_failed(start_node, tmp_path, serve, text, path):
    server = serve()
    config = tmp_path / "martlet.toml"
    config.write_text(CONFIG + text.replace("URL", server.url))
    node = start_node(http=True, variables=KEYS, arguments=["-c", str(config)])
    with Client(node, "pump-1") as client:
        for number in range(4):
            client.publish("plant/1", str(number))
            # One at a time, so that the connection is kept for the next one.
            until(lambda: len(server.answered) == number + 1, node.log)
    shown = call(node, "GET", f"/api/v1/integrations/{path}", key=KEY)
    assert server.dropped >= 1 and (shown["last_error"], shown["failure"], shown["repeated"]) == (None, None, 0), shown
