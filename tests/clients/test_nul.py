"""U+0000, which PostgreSQL keeps in no text, in every path, parameter and body that the API takes: that
is the fault of who asks, never the database's."""

import itertools
import json
import urllib.parse

from test_http_api import KEY, ask, native
from test_http_registry import call, node  # noqa: F401 -- the fixture

NUL = "\0"
# What ends the node, or what waits for somebody else.
LEFT_OUT = ("/shutdown", "/backup")
# What the fields of bodies are where a text of any kind will not do.
SANE = {
    "id": "fresh-{}", "name": "fresh-{}", "password": "0123456789abcdef", "scopes": ["viewer"], "kind": "client_id",
    "value": "v", "topic": "t", "rules": ["topic read a"], "devices": [], "messages": [], "role": "viewer",
}


def resolved(schema, document):
    while "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]]
    return schema


def bodies(schema, document, numbers):
    """A body for each text in it, which alone has the character."""
    schema = resolved(schema, document)
    fields = schema.get("properties", {})

    def sane():
        needed = {field: SANE.get(field, "x") for field in schema.get("required", ())}
        number = next(numbers)
        return {name: one.format(number) if isinstance(one, str) else one for name, one in needed.items()}

    for field, of in fields.items():
        kinds = of.get("type", "string")
        kinds = kinds if isinstance(kinds, list) else [kinds]
        if "string" in kinds:
            yield sane() | {field: f"a{NUL}b"}
            yield sane() | {field: NUL}
        elif "array" in kinds:
            item = resolved(of.get("items", {}), document)
            if "properties" in item:
                yield from (sane() | {field: [one]} for one in bodies(item, document, numbers))
            else:
                yield sane() | {field: [f"a{NUL}b"]}


def test_the_character_nul_is_refused_and_no_fault_of_the_database(node):
    call(node, "POST", "/api/v1/devices", {"id": "x"})
    team = call(node, "POST", "/api/v1/teams", {"name": "team"})["id"]
    group = call(node, "POST", "/api/v1/groups", {"name": "group"})["id"]
    call(node, "POST", "/api/v1/users", {"name": "y", "password": "0123456789abcdef"})
    document = call(node, "GET", "/api/v1/openapi.json", key=None)
    numbers, asked = itertools.count(), 0

    def expect(method, path, body=None, kind="application/json", statuses=range(200, 500)):
        headers = {"X-API-Key": KEY, "If-Match": "*", "Content-Type": kind}
        data = json.dumps(body).encode() if isinstance(body, dict) else body
        status, _, answer = ask(node, path, method, headers, data)
        assert status in statuses, (method, path, body, status, answer[:500])

    for path, item in native(document).items():
        for method, operation in item.items():
            if method not in ("get", "post", "put", "patch", "delete") or path.endswith(LEFT_OUT):
                continue
            path = path.replace("users/{name}", "users/y").replace("members/{user}", "members/y")
            path = path.replace("teams/{id}", f"teams/{team}").replace("groups/{id}", f"groups/{group}")
            method, named = method.upper(), operation.get("parameters", [])
            of_path = [one["name"] for one in named if f"{{{one['name']}}}" in path]
            target = path
            for name in of_path:
                target = target.replace(f"{{{name}}}", "x")
                for text in (NUL, f"x{NUL}"):
                    odd = path.replace(f"{{{name}}}", urllib.parse.quote(text))
                    for other in of_path:
                        odd = odd.replace(f"{{{other}}}", "x")
                    expect(method, odd, {} if "requestBody" in operation else None, statuses=(400,))
                    asked += 1
            for one in named:
                if one["in"] == "query":
                    expect(method, f"{target}?{one['name']}=a%00", statuses=(400,))
                    asked += 1
            content = operation.get("requestBody", {}).get("content", {})
            if "application/json" in content:
                for body in bodies(content["application/json"]["schema"], document, numbers):
                    expect(method, target, body)
                    asked += 1
    for column in ("id", "name", "type", "description", "owner", "team", "tags", "groups", "secret"):
        table = f"id,{column}\nnul-{column},a{NUL}b\n" if column != "id" else f"id\na{NUL}b\n"
        expect("POST", "/api/v1/devices/import", table.encode(), "text/csv")
        asked += 1
    assert asked > 300
    # Nothing of it is kept, and the database answers.
    listed = ask(node, "/api/v1/devices?limit=1000", headers={"X-API-Key": KEY})[2]
    assert b"\\u0000" not in listed and call(node, "GET", "/api/v1/devices/x")["id"] == "x"
