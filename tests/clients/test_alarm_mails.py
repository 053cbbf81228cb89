"""Mails and ntfy messages about alarms by TLS: servers with certificates of an authority of the test."""

import base64
import http.server
import json
import socketserver
import ssl
import threading

import pytest

from paho_client import Client
from test_access import until
from test_alarms import HOT
from test_cert import cert
from test_http_api import KEYS
from test_rules import call, configured


@pytest.fixture
def authority(tmp_path):
    """A directory with an authority and the certificate of a server."""
    directory = tmp_path / "certs"
    cert("ca", "--dir", directory)
    cert("server", "localhost", "127.0.0.1", "--dir", directory)
    return directory


class Session(socketserver.StreamRequestHandler):
    """SMTP with STARTTLS, or with TLS from the beginning; needs a login once it is encrypted."""

    def handle(self):
        server = self.server
        self.is_encrypted = False
        if server.is_tls_at_once:
            try:
                self.encrypt()
            except (ssl.SSLError, OSError):
                return
        self.say("220 mail ESMTP")
        self.is_known, self.receivers = False, []
        while line := self.rfile.readline():
            word = line.decode().strip()
            server.lines.append((self.is_encrypted, word.split(" ")[0].upper()))
            if not self.command(word):
                return

    def say(self, text):
        self.wfile.write(text.encode() + b"\r\n")

    def encrypt(self):
        self.connection = self.server.context.wrap_socket(self.connection, server_side=True)
        self.rfile, self.wfile = self.connection.makefile("rb"), self.connection.makefile("wb", buffering=0)
        self.is_encrypted = True

    def command(self, word):
        """Whether the session goes on."""
        server, upper = self.server, word.upper()
        if upper.startswith("EHLO"):
            more = "AUTH PLAIN LOGIN" if self.is_encrypted else "STARTTLS"
            self.say(f"250-mail\r\n250-8BITMIME\r\n250 {more}")
        elif upper == "STARTTLS":
            self.say("220 go on")
            try:
                self.encrypt()
            except (ssl.SSLError, OSError):
                return False
        elif upper.startswith("AUTH PLAIN"):
            self.is_known = base64.b64decode(word.split(" ")[2]).split(b"\0")[1:] == [b"martlet", b"pass word"]
            self.say("235 welcome" if self.is_known else "535 wrong")
        elif not self.is_known and server.needs_login and upper.startswith("MAIL"):
            self.say("530 log in first")
        elif upper.startswith("RCPT"):
            receiver = word.split("<")[1].split(">")[0]
            if receiver in server.refused:
                self.say("550 no such user")
            else:
                self.receivers.append(receiver)
                self.say("250 ok")
        elif upper == "DATA":
            self.say("354 go on")
            lines = []
            while (line := self.rfile.readline()) not in (b".\r\n", b""):
                lines.append(line.decode())
            server.mails.append((self.receivers, "".join(lines)))
            self.receivers = []
            self.say("250 ok")
        elif upper == "QUIT":
            self.say("221 bye")
            return False
        else:
            self.receivers = [] if upper.startswith(("MAIL", "RSET")) else self.receivers
            if upper.startswith("MAIL") and server.is_slow.is_set():
                server.released.wait(60)
                return False
            self.say("250 ok")
        return True


class Mails(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, authority, is_tls_at_once):
        super().__init__(("127.0.0.1", 0), Session)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(authority / "server.crt", authority / "server.key")
        self.is_tls_at_once, self.needs_login = is_tls_at_once, True
        self.mails, self.lines, self.refused = [], [], set()
        self.is_slow, self.released = threading.Event(), threading.Event()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, *_):
        pass


@pytest.fixture(params=["starttls", "tls"])
def mails(request, authority):
    with Mails(authority, request.param == "tls") as server:
        server.mode = request.param
        yield server
        server.released.set()
        server.shutdown()


def text_of(mails, to=("ops@example.com",), **keys):
    more = "".join(f"{key} = {json.dumps(str(value))}\n" for key, value in keys.items())
    return f"""{HOT}
[integrations]
allow_private = "127.0.0.0/8"

[[sinks.email]]
name = "operators"
filters = ["iotflow/system/alarms"]
server = "localhost"
port = {mails.server_address[1]}
tls = "{mails.mode}"
user = "martlet"
password = "pass word"
from = "Martlet <martlet@example.com>"
to = {json.dumps(list(to))}
{more}"""


def raise_alarm(node):
    with Client(node, "pump") as pump:
        pump.publish("plant/p1/temperature", "90")


def shown(node):
    return call(node, "GET", "/integrations/email/operators")


def test_a_mail_is_sent_by_tls_after_a_login(start_node, tmp_path, mails, authority):
    node = start_node(**configured(tmp_path, text=text_of(mails, ca_file=authority / "ca.crt")))
    call(node, "POST", "/integrations/email/operators/test")
    raise_alarm(node)
    until(lambda: mails.mails, node.log)
    [(receivers, mail)] = mails.mails
    assert receivers == ["ops@example.com"] and "p1 is at 90" in mail
    # Neither the login nor the mail went in clear.
    in_clear = {word for is_encrypted, word in mails.lines if not is_encrypted}
    assert in_clear <= {"EHLO", "STARTTLS"}, in_clear
    assert "pass word" not in node.log()


def test_a_server_with_a_wrong_certificate_gets_nothing_and_is_told(start_node, tmp_path, mails):
    node = start_node(**configured(tmp_path, text=text_of(mails)))
    raise_alarm(node)
    until(lambda: "certificate" in json.dumps(shown(node)), lambda: json.dumps(shown(node)))
    assert not mails.mails and "AUTH" not in {word for _, word in mails.lines}
    warnings = lambda: call(node, "GET", "/health")["warnings"]
    until(lambda: any("email/operators" in one and "certificate" in one for one in warnings()), lambda: warnings())


def test_a_refused_receiver_keeps_the_mail_from_no_other_and_is_told(start_node, tmp_path, mails, authority):
    mails.refused.add("gone@example.com")
    to = ("gone@example.com", "ops@example.com")
    node = start_node(**configured(tmp_path, text=text_of(mails, to, ca_file=authority / "ca.crt")))
    raise_alarm(node)
    until(lambda: mails.mails, node.log)
    assert [receivers for receivers, _ in mails.mails] == [["ops@example.com"]]
    until(lambda: "gone@example.com" in json.dumps(call(node, "GET", "/health")["warnings"]), node.log)
    assert shown(node)["dead_letters"] == 0


def test_a_mail_whose_only_receiver_is_refused_becomes_a_dead_letter(start_node, tmp_path, mails, authority):
    mails.refused.add("ops@example.com")
    node = start_node(**configured(tmp_path, text=text_of(mails, ca_file=authority / "ca.crt")))
    raise_alarm(node)
    until(lambda: shown(node)["dead_letters"] == 1, node.log)
    [letter] = call(node, "GET", "/integrations/email/operators/dead-letters")["items"]
    assert "no such user" in json.dumps(letter)


def test_a_slow_server_holds_up_no_rule(start_node, tmp_path, mails, authority):
    mails.is_slow.set()
    node = start_node(**configured(tmp_path, text=text_of(mails, ca_file=authority / "ca.crt")))
    with Client(node, "monitor") as monitor:
        monitor.subscribe("iotflow/system/alarms", qos=1)
        raise_alarm(node)
        assert json.loads(monitor.receive_payload())["change"] == "raised"
        until(lambda: any(word == "MAIL" for _, word in mails.lines), node.log)
        with Client(node, "pump") as pump:
            pump.publish("plant/p1/temperature", "10")
        assert json.loads(monitor.receive_payload())["change"] == "cleared"
    mails.is_slow.clear()
    mails.released.set()
    call(node, "POST", "/integrations/email/operators/resume", status=204)
    until(lambda: len(mails.mails) >= 2, node.log, 60)


class Ntfy(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"])).decode()
        self.server.seen.append((dict(self.headers.items()), body))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.mark.parametrize("is_trusted", [True, False])
def test_ntfy_is_told_by_https_if_its_certificate_is_good(start_node, tmp_path, authority, is_trusted):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Ntfy)
    server.seen, server.handle_error = [], lambda *_: None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority / "server.crt", authority / "server.key")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    text = f"""{HOT}
[integrations]
allow_private = "127.0.0.0/8"

[[sinks.webhook]]
name = "phones"
filters = ["iotflow/system/alarms"]
url = "https://localhost:{server.server_port}/plant"
format = "ntfy"
"""
    options = configured(tmp_path, text=text)
    if is_trusted:
        options["variables"] = {**KEYS, "SSL_CERT_FILE": str(authority / "ca.crt")}
    node = start_node(**options)
    raise_alarm(node)
    phones = lambda: json.dumps(call(node, "GET", "/integrations/webhook/phones"))
    if is_trusted:
        until(lambda: server.seen, node.log)
        headers, body = server.seen[0]
        headers = {name.lower(): value for name, value in headers.items()}
        assert headers["title"] == "[raised] hot p1" and "p1 is at 90" in body
        assert headers["priority"] and headers["tags"]
    else:
        until(lambda: "certificate" in phones(), phones)
        assert not server.seen
    server.shutdown()
    server.server_close()
