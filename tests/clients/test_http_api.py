"""The HTTP API as callers on the network meet it: keys, TLS, requests that mean harm, and whether
the OpenAPI document says what is so (Schemathesis)."""

import json
import os
import re
import socket
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from urllib.parse import urlsplit

import pytest

import martlet_process

DEADLINE_SECS = 60
KEY = "0123456789abcdef0123456789abcdef"
VIEWER = "fedcba9876543210fedcba9876543210"
KEYS = {"MARTLET_HTTP__API_KEYS": f"all:{KEY},grafana:{VIEWER}:viewer"}


@pytest.fixture(scope="module")
def node():
    with martlet_process.Node(
        http=True, variables=KEYS, settings=["http.rate=0", "log.level=debug"]
    ) as node:
        yield node


def ask(node, path, method="GET", headers=(), body=None, context=None):
    """Status, headers and body of a request."""
    request = urllib.request.Request(
        node.http_url + path, method=method, headers=dict(headers), data=body
    )
    try:
        with urllib.request.urlopen(request, timeout=DEADLINE_SECS, context=context) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


# Tags of the routes of other systems.
SYSTEMS = ["Microservice", "MQTT panel", "IoTFlow", "Service-MQTT"]


def native(document):
    """The paths of the document without those of other systems, whose answers have forms of their own."""
    paths = {}
    for path, item in document["paths"].items():
        own = {method: one for method, one in item.items() if not set(SYSTEMS) & set(one["tags"])}
        if own:
            paths[path] = own
    assert len(paths) < len(document["paths"]), "other systems are served by default"
    return paths


def send(node, data, parts=()):
    """All that comes back for these bytes, until the node closes the connection."""
    place = urlsplit(node.http_url)
    with socket.create_connection((place.hostname, place.port), timeout=DEADLINE_SECS) as wire:
        try:
            wire.sendall(data)
            for part in parts:
                wire.sendall(part)
        except (BrokenPipeError, ConnectionResetError):
            pass
        answer = b""
        try:
            while piece := wire.recv(65536):
                if not answer:
                    wire.shutdown(socket.SHUT_WR)
                answer += piece
        except (OSError, TimeoutError) as error:
            assert not isinstance(error, TimeoutError), f"no end after {answer!r}"
        return answer


def statuses(answer):
    """Of all answers in it."""
    return [int(status) for status in re.findall(rb"^HTTP/1\.[01] (\d{3})", answer, re.M)]


# Who may


def test_keys_in_header_bearer_and_query_are_good_and_none_is_in_the_log(node):
    for path, headers in (
        ("/api/v1/status", {"X-API-Key": KEY}),
        ("/api/v1/status", {"Authorization": f"Bearer {KEY}"}),
        (f"/api/v1/status?api_key={KEY}", {}),
    ):
        status, _, body = ask(node, path, headers=headers)
        assert status == 200, body
        assert json.loads(body)["status"] == "ready"
    assert ask(node, "/api/v1/status")[0] == 401
    assert ask(node, "/api/v1/reload", "POST", {"X-API-Key": VIEWER})[0] == 403
    node.wait_for_log("api_key=***")
    assert KEY not in node.log()


def test_probes_metrics_and_the_document_need_no_key(node):
    for path in ("/health/live", "/health/ready", "/health/startup", "/healthz", "/metrics",
                 "/api/v1/openapi.json", "/docs/", "/docs/index.html", "/docs/swagger-ui-bundle.js"):
        assert ask(node, path)[0] == 200, path


def test_keys_of_other_programs_variables_are_good():
    variables = {"API_KEY_ENABLED": "true", "API_KEYS": f"{KEY}, {VIEWER}"}
    with martlet_process.Node(http=True, variables=KEYS) as node:
        for key in (KEY, VIEWER):
            assert ask(node, "/api/v1/status", headers={"X-API-Key": key})[0] == 200
        assert ask(node, "/api/v1/status", headers={"X-API-Key": "other"})[0] == 401


def test_this_machine_may_ask_until_there_is_an_administrator(tmp_path):
    with martlet_process.Node(http=True, data_dir=tmp_path / "data") as node:
        assert ask(node, "/api/v1/status")[0] == 200, "nobody has claimed the node, and it is on loopback"
        added = martlet_process.run("user", "add", "root", "--role", "administrator", "--generate", "--data-dir",
                                    node.data_dir)
        assert added.returncode == 0, added.stderr
        status, _, body = ask(node, "/api/v1/status")
        assert (status, json.loads(body)["type"]) == (401, "/problems/unauthenticated")
        assert ask(node, "/api/v1/shutdown", "POST")[0] == 401
        done = martlet_process.run("status", "--data-dir", node.data_dir)
        assert done.returncode == 0, done.stderr


def test_who_comes_through_a_trusted_proxy_is_not_on_this_machine():
    """Whatever headers the proxy adds."""
    with martlet_process.Node(http=True, settings=["http.trusted_proxies=127.0.0.1"]) as node:
        assert ask(node, "/api/v1/status")[0] == 401
        assert martlet_process.run("status", "--data-dir", node.data_dir).returncode == 0


def test_open_routes_are_told_of(tmp_path):
    settings = ["http.open_routes=POST /api/v1/reload"]
    added = martlet_process.run("user", "add", "root", "--role", "administrator", "--generate", "--data-dir",
                                tmp_path / "data")
    assert added.returncode == 0, added.stderr
    with martlet_process.Node(http=True, settings=settings, data_dir=tmp_path / "data", variables=KEYS) as node:
        assert ask(node, "/api/v1/reload", "POST")[0] == 200
        assert ask(node, "/api/v1/shutdown", "POST")[0] == 401
        report = json.loads(ask(node, "/health/ready")[2])
        own = ask(node, "/api/v1/health", headers={"X-API-Key": KEY})
        # To operators it also says how many may connect, and what to do about warnings.
        of_operators = json.loads(own[2])
        assert of_operators.pop("connections_max") > 0
        assert [one["configuration"] for one in of_operators.pop("remedies")] == ["http.open_routes"]
        assert own[0] == 200 and of_operators == report
        assert any("POST /api/v1/reload" in warning for warning in report["warnings"])


def test_an_open_route_is_named_as_a_list_and_without_the_prefix_of_the_api(tmp_path):
    """What is open is that and nothing else: a device adds itself, and no one reads the list."""
    config = tmp_path / "martlet.toml"
    config.write_text('[http]\nopen_routes = ["POST /devices"]\n')
    added = martlet_process.run("user", "add", "root", "--role", "administrator", "--generate", "--data-dir",
                                tmp_path / "data")
    assert added.returncode == 0, added.stderr
    with martlet_process.Node(http=True, arguments=["--config", str(config)], data_dir=tmp_path / "data") as node:
        headers = {"Content-Type": "application/json"}
        status, _, answer = ask(node, "/api/v1/devices", "POST", headers, b'{"id": "pump"}')
        assert status == 201 and json.loads(answer)["secret"], answer
        assert ask(node, "/api/v1/devices")[0] == 401
        assert any("POST /devices" in one for one in json.loads(ask(node, "/health/ready")[2])["warnings"])


def test_a_key_that_is_configured_wrongly_ends_the_start_and_is_not_shown():
    variables = {**martlet_process.environment(), "MARTLET_HTTP__API_KEYS": f"all:{KEY}:wievers"}
    done = subprocess.run(
        [martlet_process.binary(), "config", "check", "--data-dir", "/nowhere/martlet"],
        env=variables, capture_output=True, text=True, timeout=DEADLINE_SECS,
    )
    assert done.returncode != 0
    assert "scopes" in done.stderr + done.stdout
    assert KEY not in done.stderr + done.stdout


# TLS


def test_https_and_a_certificate_that_is_replaced(tmp_path):
    authority = tmp_path / "authority"
    for arguments in (
        ("cert", "ca", "--dir", str(authority)),
        ("cert", "server", "127.0.0.1", "--dir", str(authority)),
    ):
        done = martlet_process.run(*arguments)
        assert done.returncode == 0, done.stderr
    settings = [
        f"http.tls_certificate={authority}/server.crt", f"http.tls_key={authority}/server.key",
    ]
    with martlet_process.Node(http=True, settings=settings, variables=KEYS) as node:
        assert node.http_url.startswith("https://")
        trusting = ssl.create_default_context(cafile=str(authority / "ca.crt"))
        status, headers, _ = ask(
            node, "/api/v1/status", headers={"X-API-Key": KEY}, context=trusting
        )
        assert status == 200
        assert headers["Strict-Transport-Security"].startswith("max-age=")

        def serial():
            place = urlsplit(node.http_url)
            with socket.create_connection((place.hostname, place.port)) as wire:
                with trusting.wrap_socket(wire, server_hostname="127.0.0.1") as tls:
                    return tls.getpeercert()["serialNumber"]

        before = serial()
        done = martlet_process.run("cert", "renew", "server", "--dir", str(authority))
        assert done.returncode == 0, done.stderr
        done = martlet_process.run("reload", "--data-dir", node.data_dir)
        assert done.returncode == 0, done.stderr
        assert serial() != before


# Requests that mean harm


def test_headers_that_are_too_long_or_too_many(node):
    begin = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    long = begin + b"X: " + b"y" * 20_000 + b"\r\n\r\n"
    assert statuses(send(node, long)) == [431]
    many = begin + b"".join(b"X%d: 1\r\n" % number for number in range(70)) + b"\r\n"
    assert statuses(send(node, many)) == [431]
    endless = begin + b"X: " + b"y" * 200_000
    assert statuses(send(node, endless)) in ([431], [400], [])
    target = b"GET /" + b"y" * 10_000 + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    assert statuses(send(node, target)) == [414]


def test_what_is_no_http_is_refused(node):
    for data in (
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
        b"\x10\x10\x00\x04MQTT\x04\x02\x00\x3c\x00\x04abcd",
        b"GET /\xff\xfe HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"\r\n" * 1000 + b"x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHo st: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\nConnection: close\r\n\r\n",
    ):
        assert all(400 <= status < 500 for status in statuses(send(node, data))), data
    assert ask(node, "/health/live")[0] == 200


def test_a_request_cannot_be_hidden_in_another(node):
    """Where a length and chunks, or two lengths, say different things, nothing after it is taken
    for a request of its own."""
    hidden = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"
    begin = b"POST /api/v1/session HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    for more in (
        b"Content-Length: 5\r\nContent-Length: 6\r\n",
        b"Content-Length: +5\r\n",
        b"Content-Length: 5, 6\r\n",
        b"Transfer-Encoding: chunked, identity\r\n",
        b"Transfer-Encoding: xchunked\r\n",
        b"Transfer-Encoding : chunked\r\n",
        b"Transfer-Encoding:\r\n chunked\r\n",
    ):
        found = statuses(send(node, begin + more + b"\r\n" + b"0\r\n\r\n" + hidden))
        assert 200 not in found, (more, found)
        assert all(status < 500 for status in found), (more, found)
    both = begin + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    # Chunks are stronger than a length (RFC 9112, 6.3): no byte of them is a request.
    found = statuses(send(node, both))
    assert len(found) <= 1 and all(400 <= status < 500 for status in found), found


def test_paths_lead_nowhere_else(node):
    for path in (
        "/docs/..%2f..%2fetc%2fpasswd", "/docs/../../etc/passwd", "/docs/%00", "/docs/%ff",
        "//api/v1/status", "/api/v1/status/", "/API/V1/status", "/api/v1/status;a=b",
        "/api/v1/%73tatus%2f", "/docs/start.js/..",
    ):
        raw = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
        [status] = statuses(send(node, raw))
        assert status in (400, 401, 404), (path, status)


def test_a_body_that_is_too_long_is_not_read(node):
    begin = b"POST /api/v1/session HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    announced = begin + b"Content-Length: 999999999999\r\n\r\n"
    assert statuses(send(node, announced)) == [413]
    chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    chunked = begin + b"Transfer-Encoding: chunked\r\n\r\n"
    assert statuses(send(node, chunked, parts=[chunk] * 40)) in ([413], [])


@pytest.mark.parametrize("site", ["cross-site", "same-site", "odd"])
def test_what_a_page_of_another_site_causes_changes_nothing_without_origin_either(node, site):
    change = lambda *more: ask(node, "/api/v1/reload", "POST", {"X-API-Key": KEY, **dict(more)})[0]
    assert change(("Sec-Fetch-Site", site)) == 403
    assert change() < 300 and change(("Sec-Fetch-Site", "none")) < 300 and change(("Sec-Fetch-Site", "same-origin")) < 300
    assert ask(node, "/api/v1/status", "GET", {"X-API-Key": KEY, "Sec-Fetch-Site": site})[0] == 200


def test_headers_that_do_not_come_end_the_connection(node):
    """Whoever sends a byte now and then keeps no place for ever, and others are served meanwhile."""
    place = urlsplit(node.http_url)
    slow = [socket.create_connection((place.hostname, place.port)) for _ in range(50)]
    try:
        for wire in slow:
            wire.settimeout(DEADLINE_SECS * 2)
            wire.sendall(b"GET /health/live HTTP/1.1\r\nHo")
        assert ask(node, "/health/live")[0] == 200
        for wire in slow:
            answer = wire.recv(65536)
            assert statuses(answer) in ([408], []), answer
    finally:
        for wire in slow:
            wire.close()


def connect(node, source="127.0.0.1"):
    place = urlsplit(node.http_url)
    wire = socket.create_connection((place.hostname, place.port), DEADLINE_SECS, (source, 0))
    return wire


def status_by(wire, path):
    """The status of an answer; whether the node keeps the connection."""
    wire.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {KEY}\r\n\r\n".encode())
    answer = wire.recv(65536)
    [status] = statuses(answer)
    return status, b"connection: close" not in answer.lower()


STATUS = "/api/v1/status"


def rss_bytes(node):
    with open(f"/proc/{node.process.pid}/status") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) * 1024


def test_connections_beyond_the_limit_wait_a_little_and_are_served_or_refused():
    with martlet_process.Node(http=True, settings=["http.connections=2"], variables=KEYS) as node:
        first = [connect(node) for _ in range(2)]
        assert [status_by(wire, STATUS) for wire in first] == [(200, True)] * 2
        with connect(node) as waiting:
            request = f"GET {STATUS} HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {KEY}\r\n\r\n"
            waiting.sendall(request.encode())
            first.pop().close()
            assert statuses(waiting.recv(65536)) == [200]
            with connect(node) as beyond:
                assert status_by(beyond, STATUS) == (503, False)
        first.pop().close()


def test_who_holds_all_connections_keeps_nobody_of_another_address_and_no_probe_out():
    settings = ["http.connections=40", "http.connections_per_address=10"]
    held = []
    with martlet_process.Node(http=True, settings=settings, variables=KEYS) as node:
        try:
            # They send the beginning of a request, and no more.
            hold = lambda source: held.append(connect(node, source)) or held[-1].sendall(b"GET /")
            for _ in range(30):
                hold("127.0.0.2")
            with connect(node, "127.0.0.3") as other:
                assert status_by(other, STATUS) == (200, True)
            for source in range(4, 9):
                for _ in range(40):
                    hold(f"127.0.0.{source}")
            # All places are taken, and the reserve is full of who says nothing.
            for path in ("/health/live", "/health/ready", "/livez", "/metrics"):
                for source in ("127.0.0.2", "127.0.0.9"):
                    with connect(node, source) as probe:
                        assert status_by(probe, path) == (200, False), (path, source)
            with connect(node, "127.0.0.9") as late:
                assert status_by(late, STATUS) == (503, False)
            told = martlet_process.run("status", "--data-dir", node.data_dir)
            assert told.returncode == 0, told.stderr
        finally:
            for wire in held:
                wire.close()


def test_of_who_has_no_credentials_no_body_is_read(node):
    """Neither of one who has none, nor of one whose key is wrong, nor for a path that there is not."""
    for path, key, expected in (
        ("/api/v1/devices", b"", 401),
        ("/api/v1/devices", b"X-API-Key: wrong\r\n", 401),
        ("/api/v1/publish", b"", 401),
        ("/nothing", b"", 404),
    ):
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n".encode()
        with connect(node) as wire:
            # The body is announced and never comes.
            wire.sendall(head + key + b"Content-Length: 100000\r\n\r\n")
            answer = wire.recv(65536)
            assert statuses(answer) == [expected], path
            assert b"connection: close" in answer.lower(), answer


def test_of_a_request_beyond_the_rate_no_body_is_read():
    """Neither of one with a key. The answer says that the connection ends."""
    with martlet_process.Node(http=True, variables=KEYS, settings=["http.rate=1", "http.burst=1"]) as node:
        head = f"HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {KEY}\r\nContent-Type: application/json\r\n"
        few = f"GET /api/v1/status {head}\r\n" * 3
        # The body is announced and never comes.
        answer = send(node, f"{few}POST /api/v1/publish {head}Content-Length: 100000\r\n\r\n".encode())
        assert re.findall(rb"HTTP/1\.1 (\d{3}) ", answer) == [b"200", b"429", b"429", b"429"], answer
        assert b"connection: close" in answer.lower().rpartition(b"http/1.1 429")[2], answer


def test_bodies_in_chunks_of_one_byte_cost_no_more_than_their_bytes():
    with martlet_process.Node(http=True) as node:
        head = b"POST /api/v1/session HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        before = rss_bytes(node)
        wires = []
        try:
            for _ in range(100):
                wire = connect(node)
                wires.append(wire)
                wire.sendall(head + b"Transfer-Encoding: chunked\r\n\r\n")
                try:
                    wire.sendall(b"1\r\nx\r\n" * 60_000)
                except (BrokenPipeError, ConnectionResetError):
                    pass
            assert ask(node, "/health/live")[0] == 200
            assert rss_bytes(node) - before < 32 << 20
        finally:
            for wire in wires:
                wire.close()


# The document


def test_what_the_document_refers_to_is_in_it(node):
    document = json.loads(ask(node, "/api/v1/openapi.json")[2])
    for reference in set(re.findall(r'"\$ref": "(.*?)"', json.dumps(document))):
        found = document
        for part in reference.removeprefix("#/").split("/"):
            found = found[part]


@pytest.mark.parametrize("phases, examples", [
    # Examples of the document, and a few of Schemathesis's for each operation; its nine thousand at the bounds of what
    # is allowed take ten times as long.
    ("examples,fuzzing", 2), pytest.param("examples,coverage,fuzzing,stateful", 30, marks=pytest.mark.long)])
def test_the_document_says_what_is_so(node, tmp_path, phases, examples):
    """No status but those it names, no 5xx of a native route, no answer of another form, no route open that it says
    is closed."""
    settings = tmp_path / "schemathesis.toml"
    settings.write_text(
        f'[auth.openapi.key]\napi_key = "{KEY}"\n'
        # What the node cannot do for now has the statuses of the system: 500 or 503.
        f"[[operations]]\ninclude-tag = {json.dumps(SYSTEMS)}\nchecks.not_a_server_error.enabled = false\n")
    done = subprocess.run(
        [
            os.path.join(os.path.dirname(sys.executable), "schemathesis"),
            "--config-file", str(settings),
            "run", node.http_url + "/api/v1/openapi.json",
            "--phases", phases, "--seed", "1", "--max-examples", str(examples), "--workers", "1",
            # What a cursor or a Topic Name may be says no schema.
            # Rows of an import have an outcome each, and who leaves If-Match out is told by 428 (RFC 6585).
            "--exclude-checks", "positive_data_acceptance,negative_data_rejection,missing_required_header",
            # Of the ids of a device and of its command it throws away more than it likes.
            "--suppress-health-check", "filter_too_much",
            # It stops the node.
            "--exclude-path", "/api/v1/shutdown",
            # Who asks for events may wait five seconds for them.
            "--request-timeout", "9",
        ],
        cwd=tmp_path, capture_output=True, text=True, timeout=1500,
    )
    assert done.returncode == 0, done.stdout[:9000] + done.stdout[-4000:] + done.stderr[-2000:]
