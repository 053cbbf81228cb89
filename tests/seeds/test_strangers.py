"""Strangers at every route of other systems, at every listener: who has no key and is not on this
machine gets nothing. The routes are those that the program declares, so that none is left out."""

import http.client
import json
import re
from urllib.parse import urlsplit

import pytest

import martlet_process
from server_process import free_ports
from test_http_listeners import own_address

SOURCES = martlet_process.ROOT / "crates/api/src/compat"
# Everybody is told that the node is there, and where routes and pages are: the same of every node.
OPEN = {(method, path) for method in ("GET", "HEAD") for path in ("/", "/health", "/docs/doc.json")}
INDEX = {"name", "version", "description", "endpoints", "documentation"}
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
REFUSED = {401, 403, 404, 405}


def declared():
    """Paths of all routes, as they are declared."""
    paths, handlers = [], 0
    for source in sorted(SOURCES.rglob("*.rs")):
        text = source.read_text()
        handlers += len(re.findall(r"#\[utoipa::path\(", text))
        paths += re.findall(r'#\[utoipa::path\(\s*\w+,\s*path = "(/[^"]*)"', text)
    assert len(paths) == handlers > 50, "a route whose path is not text here is not tested"
    assert "/" in paths
    return sorted(set(paths))


def filled(path, one, rest):
    """A path with something in place of its parameters."""
    return re.sub(r"\{\w+\}", one, re.sub(r"\{\*\w+\}", rest, path))


PATHS = sorted({filled(path, "1", "a/b") for path in declared()})


def test_all_systems_are_among_the_routes():
    assert {"/publish", "/webhooks/1", "/api/v1/devices/register", "/api/v1/mqtt/publish", "/api/v1/telemetry/1/latest",
            "/devices"} <= set(PATHS)


@pytest.fixture(scope="module", params=["without an administrator", "with a key"])
def node(request, tmp_path_factory):
    """A node with a listener for each system, by the names that these have, and one of each kind of its own."""
    place = tmp_path_factory.mktemp("strangers")
    ports = free_ports(7)
    (place / ".env").write_text("".join(f"{line}\n" for line in [
        f"HTTP_SERVER_PORT={ports[0]}", "HOST=0.0.0.0", f"PORT={ports[1]}", f"LISTEN_ADDR=:{ports[2]}",
    ]))
    (place / "martlet.toml").write_text("".join(
        f'[[http_listeners]]\nurl = "{host}:{port}"\ncompat = "{compat}"\n'
        for host, port, compat in [("0.0.0.0", ports[3], "4,3,2,1"), ("127.0.0.1", ports[4], "1,2,3,4"), ("0.0.0.0", ports[5], "2")]))
    variables = [("MARTLET_HTTP__API_KEYS", "all:0123456789abcdef-secret")] if request.param == "with a key" else []
    arguments = ["-c", str(place / "martlet.toml"), "-info", f"0.0.0.0:{ports[6]}"]
    # A limit of requests, or of wrong keys, would refuse before anybody is asked who he is.
    unlimited = ["http.rate=0", "auth.lockout_failures=0"]
    with martlet_process.Node(directory=place, http=True, arguments=arguments, variables=variables, settings=unlimited) as node:
        told = " ".join(node.announced)
        general = {int(port) for port in re.findall(r"http://127\.0\.0\.1:(\d+)", told)} - set(ports)
        node.http_ports = [*ports, *general]
        node.is_everywhere = {*ports[:4], *ports[5:]}
        yield node


def answers(host, port, headers):
    """Each request and the status of its answer."""
    connection = http.client.HTTPConnection(host, port, timeout=60)
    for path in PATHS:
        for method in METHODS:
            # Without a body: who were let in would be told so, and not be refused.
            connection.request(method, path, headers=headers)
            answer = connection.getresponse()
            answer.read()
            yield (method, path), answer.status
    connection.close()


def test_the_listeners_are_there(node):
    assert len(set(node.http_ports)) == 8
    for port in node.http_ports:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("GET", "/healthz")
        assert connection.getresponse().status == 200


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded", "Via", "X-Real-IP", "X-Forwarded-Host",
                                    "X-Forwarded-Proto", "CF-Connecting-IP", "True-Client-IP", "X-Client-IP"])
def test_who_comes_through_a_proxy_gets_nothing(node, header):
    value = {"Forwarded": "for=192.0.2.7", "Via": "1.1 proxy", "X-Forwarded-Host": "broker.example"}.get(header, "192.0.2.7")
    ports = node.http_ports if header == "X-Forwarded-For" else node.http_ports[:1]
    for port in ports:
        let_in = {request: status for request, status in answers("127.0.0.1", port, {header: value})
                  if status not in REFUSED and request not in OPEN}
        assert let_in == {}, port


def test_who_comes_from_elsewhere_gets_nothing(node):
    for port in sorted(node.is_everywhere):
        let_in = {request: status for request, status in answers(own_address(), port, {})
                  if status not in REFUSED and request not in OPEN}
        assert let_in == {}, port


def test_what_everybody_is_told_says_nothing_of_the_node(node):
    for port in node.http_ports:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        told = {}
        for path in ("/", "/health"):
            connection.request("GET", path, headers={"X-Forwarded-For": "192.0.2.7"})
            answer = connection.getresponse()
            told[path] = answer.status, answer.read()
        status, body = told["/"]
        assert status in {307, 401} or (status == 200 and set(json.loads(body)) == INDEX), (port, body)
        status, body = told["/health"]
        assert status in {404} or (status == 200 and json.loads(body) == {
            "status": "healthy", "message": "IoT Connectivity Layer is running", "version": "1.0.0"}), (port, body)


@pytest.mark.parametrize("header, value", [("X-API-Key", "wrong"), ("Authorization", "Bearer wrong")])
def test_a_wrong_key_opens_nothing(node, header, value):
    for port in node.http_ports:
        let_in = {request: status for request, status in answers("127.0.0.1", port, {header: value})
                  if status not in REFUSED and request not in OPEN}
        assert let_in == {}, port


def test_an_open_route_opens_that_alone(tmp_path):
    settings = ["http.rate=0", "http.open_routes=GET /broker/status,POST /devices/register"]
    with martlet_process.Node(http=True, settings=settings) as node:
        port = urlsplit(node.http_url).port
        let_in = {request for request, status in answers("127.0.0.1", port, {"X-Forwarded-For": "192.0.2.7"})
                  if status not in REFUSED}
        opened = {("GET", "/broker/status"), ("HEAD", "/broker/status"), ("POST", "/api/v1/devices/register")}
        assert let_in <= OPEN | opened and opened - {("HEAD", "/broker/status")} <= let_in, let_in
