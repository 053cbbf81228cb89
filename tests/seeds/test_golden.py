"""The golden answers: status, Content-Type, keys with their JSON types and constant texts of each
documented request; and what each answers to bad input. `golden/README.md` has the form of the files."""

import contextlib
import json
import pathlib
import re
import sqlite3

import pytest

import martlet_process
from test_3_iotflow import ADMIN, ERROR, TOKEN, asked, has, key_of, registered
from test_strangers import declared, filled

PLACE = pathlib.Path(__file__).parent / "golden"
GOLDEN = {path.stem: json.loads(path.read_text()) for path in sorted(PLACE.glob("*.json"))}
JSON = "application/json"
# The microservice shows keys in other ways than IoTFlow.
KEY = ("-H", f"X-API-Key: {TOKEN}")
WITH_BODY = [name for name, golden in GOLDEN.items() if "send" in golden]
GUARDED = [name for name, golden in GOLDEN.items() if not golden.get("open")]


def test_each_file_is_used():
    known = {"request", "as", "send", "status", "content_type", "body", "wrong", "open", "compat", "refused"}
    assert len(GOLDEN) > 60
    for name, golden in GOLDEN.items():
        assert set(golden) <= known and golden["as"] in ("administrator", "device"), name
        assert ("wrong" in golden) == ("send" in golden), name


def test_each_route_has_a_golden_answer():
    requests = [golden["request"].split(" ")[1].split("?")[0] for golden in GOLDEN.values()]
    without = [path for path in declared()
               if not any(re.fullmatch(filled(path, "[^/]+", ".+"), request) for request in requests)]
    assert without == []


@pytest.fixture(scope="module")
def nodes():
    """Nodes by `http.compat`. Registrations are limited, so that each test has few."""
    started = {}

    def node(golden):
        compat = golden.get("compat", "1,2,3,4")
        if compat not in started:
            started[compat] = martlet_process.Node(
                http=True, settings=[f"http.compat={compat}", "http.rate=0", "telemetry.enabled=true",
                                                "integrations.allow_private=127.0.0.0/8"],
                variables={"IOTFLOW_ADMIN_TOKEN": TOKEN}.items())
        return started[compat]

    yield node
    for node in started.values():
        node.close()


class Request:
    """A request of a file, and a device for it."""

    def __init__(self, node, name):
        golden = GOLDEN[name]
        self.node, self.system = node, name[0]
        device = registered(node)
        self.filled = {"{id}": device["id"], "{secret}": device["secret"]}
        self.method, path = golden["request"].split(" ", 1)
        self.path = path.replace("{number}", str(device["number"]))
        if "{message}" in path or path == "/messages":
            self.path = path.replace("{message}", kept_message(node))
        if "{command}" in path or path.endswith("/control/pending"):
            self.path = self.path.replace("{command}", sent_command(node, device))
        if "{webhook}" in path or path == "/webhooks":
            self.path = path.replace("{webhook}", added_webhook(node))
        as_administrator = ADMIN if self.system == "3" else KEY
        self.shown = key_of(device) if golden["as"] == "device" else as_administrator

    def fill(self, body):
        """A body with what is of the device in place of its parameters."""
        return {key: self.filled.get(value, value) if isinstance(value, str) else value for key, value in body.items()}

    def send(self, body=None, method=None, shown=None):
        body = self.fill(body) if isinstance(body, dict) else body
        return asked(self.node, method or self.method, self.path, body, *(self.shown if shown is None else shown))

    def expect_error(self, told, status):
        """An error in the form of the system; HEAD aside, each has a body."""
        assert told[0] == status, told
        if self.system == "1" and status == 401:
            assert told[1] == "text/plain"
        elif self.path == "/api/mqtt/auth":
            assert told[1] == JSON, told
            has(told[2], {"message": "str", **({"errors": {}} if status == 422 else {})})
        elif self.path == "/devices":
            assert told[1] == "text/plain", told
            has(json.loads(told[2]), {"error": "str"})
        elif self.path in ("/", "/healthz", "/docs/doc.json"):
            # Of the native API too, or without errors of its own.
            assert told[1] == "application/problem+json", told
        else:
            assert told[1] == JSON, told
            has(told[2], {"status": "=error", "message": "str"} if self.system == "1" else ERROR)


def kept_message(node):
    """The id of a message in the message log."""
    message = {"topic": "test/topic", "payload": "kept", "qos": 1}
    assert asked(node, "POST", "/publish", message, *KEY)[0] == 200
    return asked(node, "GET", "/messages?limit=1", None, *KEY)[2]["messages"][0]["id"]


def sent_command(node, device):
    """The number of a command that a device has not acknowledged."""
    told = asked(node, "POST", f"/api/v1/devices/{device['number']}/control", {"command": "open"}, *ADMIN)
    assert told[0] == 201, told
    return str(told[2]["id"])


def added_webhook(node):
    """The id of a webhook; all of them go at the next call, as there may be 100 at most."""
    for one in asked(node, "GET", "/webhooks?limit=1000", None, *KEY)[2]["webhooks"]:
        asked(node, "DELETE", f"/webhooks/{one['id']}", None, *KEY)
    webhook = {"url": "http://127.0.0.1:9/hook", "topic_filter": "none/#"}
    told = asked(node, "POST", "/webhooks", webhook, *KEY)
    assert told[0] == 201, told
    return told[2]["webhook"]["id"]


@pytest.mark.parametrize("name", GOLDEN)
def test_a_request_has_its_golden_answer(nodes, name):
    golden = GOLDEN[name]
    request = Request(nodes(golden), name)
    status, kind, body = request.send(golden.get("send"))
    assert (status, kind) == (golden["status"], golden["content_type"]), body
    has(body, golden["body"])


@pytest.mark.parametrize("name", GUARDED)
def test_nobody_asks_without_a_key(nodes, name):
    request = Request(nodes(GOLDEN[name]), name)
    # The node has a key, so that this machine is asked too.
    told = request.send(GOLDEN[name].get("send"), shown=())
    request.expect_error(told, 401)


@pytest.mark.parametrize("name", GOLDEN)
def test_another_method_is_refused(nodes, name):
    request = Request(nodes(GOLDEN[name]), name)
    request.expect_error(request.send(method="PATCH"), 405)


@pytest.mark.parametrize("name", WITH_BODY)
def test_a_malformed_body_is_refused(nodes, name):
    golden = GOLDEN[name]
    text = json.dumps(golden["send"])
    with asking(nodes, name) as request:
        for bad in ("{", "", "null", "7", "[]", '["x"]', text[:-1], text + "}"):
            request.expect_error(request.send(bad), golden.get("refused", 400))


@pytest.mark.parametrize("name", WITH_BODY)
def test_wrong_members_are_refused(nodes, name):
    with asking(nodes, name) as request:
        for bad in GOLDEN[name]["wrong"]:
            request.expect_error(request.send(bad), GOLDEN[name].get("refused", 400))


@contextlib.contextmanager
def asking(nodes, name):
    """A request that is sent several times: registrations are limited, and have a node of their own."""
    if name != "3-register":
        yield Request(nodes(GOLDEN[name]), name)
        return
    with martlet_process.Node(http=True, variables={"IOTFLOW_ADMIN_TOKEN": TOKEN}.items()) as node:
        yield Request(node, name)


@pytest.mark.parametrize("name", WITH_BODY)
def test_a_body_that_is_too_long_is_refused(nodes, name, tmp_path):
    golden = GOLDEN[name]
    request = Request(nodes(golden), name)
    path = tmp_path / "body"
    path.write_text(json.dumps({**golden["send"], "unknown": "x" * 3_000_000}))
    request.expect_error(request.send(f"@{path}"), 413)
    # The node goes on.
    assert asked(request.node, "GET", "/healthz")[0] == 200


@pytest.mark.parametrize("request_line, body, kind", [
    ("POST /devices", {"type": "x"}, "text/plain"),
    ("POST /api/v1/devices/register", {"name": "x", "device_type": "y"}, JSON),
    ("GET /api/v1/admin/devices", None, JSON),
])
def test_an_error_of_the_node_has_the_form_of_the_system(request_line, body, kind):
    """Of its errors from 500 on, a request can cause one from outside: the tables cannot be used."""
    method, path = request_line.split()
    with martlet_process.Node(http=True, settings=["http.rate=0"]) as node:
        assert asked(node, "POST", "/devices", {"type": "x"})[0] == 200
        with contextlib.closing(sqlite3.connect(f"{node.data_dir}/martlet.db", timeout=60)) as tables:
            tables.execute("DROP TABLE devices")
        status, found, told = asked(node, method, path, body)
        assert (status, found) == (503, kind), told
        told = told if isinstance(told, dict) else json.loads(told)
        members = {"error"} if kind == "text/plain" else {"error", "message", "path", "request_id", "timestamp"}
        assert set(told) == members and "cannot be used" in json.dumps(told)
