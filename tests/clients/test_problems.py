"""What the API says of a request that is wrong: which member or parameter, what was expected there,
what came, and the API's own way to remedy it; and what its document says of what may be sent."""

import json
import re
from pathlib import Path

import pytest

import martlet_process
from test_http_api import KEY, KEYS, ask, native
from test_http_registry import call


@pytest.fixture(scope="module")
def node():
    with martlet_process.Node(http=True, variables=KEYS, settings=["http.rate=0"]) as node:
        yield node


@pytest.fixture(scope="module")
def document(node):
    return call(node, "GET", "/api/v1/openapi.json")


@pytest.mark.parametrize("body, pointer, said", [
    ({"id": "d", "tags": [7]}, "/tags/0", "expected a string, and found the number 7"),
    ({"id": "d", "tags": "x"}, "/tags", "expected an array, and found the text \"x\""),
    ({"id": 7}, "/id", "expected a string, and found the number 7"),
    ({"id": "d", "colour": 1}, "/colour", "unknown field; expected one of id, "),
    ([7], "", "expected an object, found a list"),
    ("d", "", "expected an object, and found the text \"d\""),
    ({"id": "d", "status": "off"}, "/status", "\"off\" is not one of active, inactive, maintenance"),
])
def test_a_member_that_is_wrong_is_named(node, body, pointer, said):
    is_told(call(node, "POST", "/api/v1/devices", body, expect=422), pointer, said)


def test_a_member_that_is_missing_is_named(node):
    problem = call(node, "POST", "/api/v1/users", {"password": "correct horse battery"}, expect=422)
    is_told(problem, "/name", "the field is missing")


def is_told(problem, pointer, said):
    [error] = problem["errors"]
    assert error["pointer"] == pointer and said in error["detail"], problem
    where = f"the body: {pointer}: " if pointer else "the body: "
    assert problem["detail"].startswith(where + error["detail"]), problem
    assert "line 1" not in json.dumps(problem) and "struct" not in json.dumps(problem)


@pytest.mark.parametrize("query, parameter, said", [
    ("limit=x", "limit", "expected a whole number"),
    ("limit=0", "limit", "expected 1 to 1000"),
    ("online=yes", "online", "expected true or false"),
    ("status=off", "status", "\"off\" is not one of active, inactive, maintenance"),
    ("sort=size", "sort", "\"size\" is not one of id, created, last_seen"),
    ("limti=1", "limti", "unknown field; expected"),
    ("q=a%00b", "q", "U+0000 is not allowed"),
    ("format=csv", "format", "applies only to exports"),
])
def test_a_parameter_that_is_wrong_is_named(node, query, parameter, said):
    problem = call(node, "GET", f"/api/v1/devices?{query}", expect=400)
    [error] = problem["errors"]
    assert error["parameter"] == parameter and said in error["detail"], problem
    assert problem["detail"] == f"the query: {parameter}: {error['detail']}", problem


@pytest.mark.parametrize("name", ["limit=5", "cursor=x", "total=true", "sort=id"])
def test_an_export_takes_nothing_that_it_would_not_heed(node, name):
    problem = call(node, "GET", f"/api/v1/devices/export?{name}", expect=400)
    assert problem["errors"][0]["parameter"] == name.split("=")[0], problem


def test_the_way_to_mend_it_is_the_apis_own(node):
    def said(method, path, body=None, expect=409):
        return call(node, method, f"/api/v1/{path}", body, expect=expect)["detail"]

    call(node, "POST", "/api/v1/devices", {"id": "d1"})
    call(node, "POST", "/api/v1/users", {"name": "ann", "password": "0123456789"})
    call(node, "POST", "/api/v1/roles", {"name": "reader", "rules": ["topic read a"]})
    for told, way in (
            (said("GET", "devices/d9", expect=404), "GET /api/v1/devices (martlet device ls)"),
            (said("GET", "users/bob", expect=404), "GET /api/v1/users (martlet user ls)"),
            (said("GET", "roles/none-such", expect=404), "GET /api/v1/roles (martlet role ls)"),
            (said("POST", "devices", {"id": "d1"}), "POST /api/v1/devices/d1/rotate (martlet "),
            (said("POST", "users", {"name": "ann", "password": "0123456789"}),
             "PUT /api/v1/users/ann/password (martlet "),
            (said("POST", "roles", {"name": "reader", "rules": []}), "PUT /api/v1/roles/reader (martlet ")):
        assert way in told
    call(node, "DELETE", "/api/v1/devices/d1")
    assert "POST /api/v1/devices/d1/restore (martlet " in said("POST", "devices", {"id": "d1"})
    call(node, "DELETE", "/api/v1/users/ann")
    told = said("POST", "users", {"name": "ann", "password": "0123456789"})
    assert "POST /api/v1/users/ann/restore (martlet " in told


def test_what_helps_is_a_member_of_its_own(node):
    call(node, "POST", "/api/v1/devices", {"id": "d2"})
    call(node, "DELETE", "/api/v1/devices/d2")
    told = call(node, "POST", "/api/v1/devices", {"id": "d2"}, expect=409)
    of = lambda kind, sentence, method, path, command: {
        "kind": kind, "sentence": sentence, "method": method, "path": f"/api/v1/{path}", "command": f"martlet {command}"}
    assert told["remedies"] == [
        of("request", "restores it", "POST", "devices/d2/restore", "device restore d2"),
        of("request", "removes it permanently", "POST", "devices/d2/purge", "device rm --purge d2")], told
    assert told["detail"].startswith(told["reason"] + ": "), told
    told = call(node, "GET", "/api/v1/devices?team=none", expect=400)
    assert told["remedies"] == [of("view", "lists them", "GET", "teams", "team ls")], told
    assert told["reason"] == "there is no team none" and told["errors"][0]["parameter"] == "team", told
    told = call(node, "GET", "/api/v1/devices?limit=x", expect=400)
    assert "remedies" not in told and told["reason"] == told["errors"][0]["detail"], told


def test_closed_lists_of_words_are_in_the_document(document):
    schemas = document["components"]["schemas"]

    def words(schema, field):
        found = schemas[schema]["properties"][field]
        if "$ref" in found:
            found = schemas[found["$ref"].rsplit("/", 1)[1]]
        return found.get("items", found)["enum"]

    assert words("Device", "status") == words("NewDevice", "status") == ["active", "inactive", "maintenance"]
    assert words("CredentialView", "kind") == ["secret", "certificate"]
    assert words("Ban", "kind") == words("NewBan", "kind") == ["client_id", "user_name", "address"]
    roles = ["administrator", "operator", "viewer", "none"]
    for schema in ("User", "NewUser"):
        assert words(schema, "api_role") == roles, schema
    assert words("MemberView", "role") == words("MemberBody", "role") == roles[:3]
    scopes = words("NewApiKey", "scopes")
    assert {"devices:write", "viewer"} <= set(scopes) and words("ApiKeyChange", "scopes") == scopes
    assert "connect refused" in words("Event", "what")
    assert {"connected", "published"} <= set(words("FeedEvent", "kind"))
    # What may be left out is not asked for.
    assert "required" not in schemas["NewDevice"]
    assert "api_role" not in schemas["NewUser"]["required"]
    assert "status" in schemas["Device"]["required"]


def test_the_document_says_which_requests_take_an_idempotency_key(node, document):
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            takes = {one["name"] for one in operation.get("parameters", []) if one["in"] == "header"}
            is_write = method in ("post", "put", "patch", "delete")
            # Where nobody has said who they are, it is nobody's; but a device may ask again.
            is_known = operation["security"] != [] or path == "/api/v1/provision"
            assert ("Idempotency-Key" in takes) == (is_write and is_known), (method, path)


def test_lists_and_exports_have_the_parameters_that_they_heed(document):
    def names(path):
        return {one["name"] for one in document["paths"][path]["get"]["parameters"]}

    only_of_list = {"limit", "cursor", "total", "sort"}
    assert only_of_list <= names("/api/v1/devices") and "format" not in names("/api/v1/devices")
    assert names("/api/v1/devices/export") == names("/api/v1/devices") - only_of_list | {"format"}


def test_the_page_about_the_api_has_its_scopes_and_roles_as_they_are(node, document):
    page = (Path(__file__).parents[2] / "docs" / "api.md").read_text()
    rows = dict(re.findall(r"^\| `([a-z]+(?::[a-z]+)?)` \| .*?([^|]*) \|$", page, re.MULTILINE))
    routes = {}
    for path, methods in native(document).items():
        for method, operation in methods.items():
            scope = operation.get("x-scope")
            routes.setdefault(scope, set()).add((method.upper(), path.removeprefix("/api/v1")))
    scopes = call(node, "GET", "/api/v1/session")["scopes"]
    for scope in scopes:
        told = re.findall(r"([A-Z ]+) `([^`]+)`", rows[scope])
        told = {(method, path) for methods, path in told for method in methods.split()}
        assert told == routes.get(scope, set()), scope
    for role in ("administrator", "operator", "viewer"):
        key = call(node, "POST", "/api/v1/keys", {"name": role, "scopes": [role]})["key"]
        has = call(node, "GET", "/api/v1/session", key=key)["scopes"]
        told = scopes if rows[role].strip() == "all of them" else re.findall("`([^`]+)`", rows[role])
        assert told == has, role


def test_what_a_limit_refuses_names_the_option_and_its_number(start_node):
    node = start_node(http=True, variables=KEYS, settings=[
        "limits.topic_bytes=20", "limits.topic_levels=3", "limits.payload_bytes=50", "http.body_bytes=2000", "http.rate=1",
        "http.burst=5", "http.connections_per_address=2"])
    headers = {"X-API-Key": KEY, "Content-Type": "application/json"}
    said = lambda path, body: json.loads(ask(node, path, "POST", headers, json.dumps(body).encode())[2])["detail"]
    cases = [
        (said("/api/v1/publish", {"topic": "x" * 21}), ["21 bytes", "limits.topic_bytes is 20"]),
        (said("/api/v1/publish", {"topic": "a/b/c/d"}), ["4 levels", "limits.topic_levels is 3"]),
        (said("/api/v1/publish", {"topic": "a", "payload": "x" * 51}), ["limits.payload_bytes, 50"]),
        (said("/api/v1/devices", {"id": "x" * 3000}), ["2000 bytes", "http.body_bytes"]),
    ]
    answers = [ask(node, "/api/v1/status", "GET", headers) for _ in range(8)]
    refused = next(body for status, _, body in answers if status == 429)
    cases.append((json.loads(refused)["detail"], ["5 at once", "1 a second", "http.burst, http.rate"]))
    for text, wanted in cases:
        for part in wanted:
            assert part in text, (text, part)
