"""What a team does with commands, twins, firmware, rollouts, rules, alarms and telemetry: it is in the audit log of this team,
and needs a scope that may change."""

import json

import pytest

from test_http_registry import call
from test_sinks import until

RULE = {"topics": ["t"], "alarm": {"threshold": {"above": 5}}}
# What is changed, by whoever may: method, path, body.
CHANGES = [
    ("POST", "/devices/pump/commands", {"command": "open", "id": "one"}),
    ("DELETE", "/devices/pump/commands/one", None),
    ("POST", "/groups/pumps/commands", {"command": "open", "id": "two"}),
    ("POST", "/commands?tag=hall", {"command": "open", "id": "three"}),
    ("PATCH", "/devices/pump/twin/desired", {"interval": 30}),
    ("PATCH", "/groups/pumps/twin/desired", {"interval": 60}),
    ("POST", "/firmware?name=fw&version=2.0&device_type=device", b"firmware"),
    ("POST", "/rollouts", {"firmware": "fw", "version": "2.0", "tag": "hall"}),
    ("PUT", "/rules/high", RULE),
    ("PATCH", "/rules/high", {"enabled": False}),
    ("DELETE", "/rules/high", None),
    ("POST", "/devices/pump/telemetry", {"a": 1, "ts": 1790000000}),
    ("DELETE", "/devices/pump/telemetry?from=*&to=*", None),
]
ACTIONS = {"command.add", "command.cancel", "twin.set", "firmware.add", "rollout.add", "rule.add", "rule.change", "rule.remove"}


@pytest.fixture
def node(start_node, variables):
    """A node with its tables in SQLite, and in PostgreSQL."""
    return start_node(http=True, variables=variables, settings=["http.rate=0", "telemetry.enabled=true"])


def team_of(node, name, scopes):
    team = call(node, "POST", "/api/v1/teams", {"name": name, "owns_tenant": True})["id"]
    return [call(node, "POST", "/api/v1/keys", {"name": f"{name} {at}", "team": team, "scopes": each})["key"]
            for at, each in enumerate(scopes)]


def change(node, key, method, path, body, expect=None):
    kind = "application/octet-stream" if isinstance(body, bytes) else "application/json"
    return call(node, method, f"/api/v1{path}", body, key=key, kind=kind, expect=expect)


def test_what_a_team_changes_is_in_its_audit_log_and_needs_a_scope(node):
    reading = ["devices:read", "telemetry:read", "integrations:read", "node:read", "audit:read"]
    owner, reader = team_of(node, "north", [["administrator"], reading])
    [stranger] = team_of(node, "south", [["administrator"]])
    group = call(node, "POST", "/api/v1/groups", {"name": "pumps"}, key=owner)["id"]
    call(node, "POST", "/api/v1/devices", {"id": "pump", "tags": ["hall"], "groups": [group]}, key=owner)
    for method, path, body in CHANGES:
        path = path.replace("/groups/pumps/", f"/groups/{group}/")
        change(node, reader, method, path, body, expect=403)
        change(node, owner, method, path, body)

    def actions(key):
        return {one["action"] for one in call(node, "GET", "/api/v1/audit?limit=200", key=key)["items"]}

    until(lambda: ACTIONS <= actions(owner), lambda: f"{ACTIONS - actions(owner)} are missing in {actions(owner)}")
    assert not ACTIONS & actions(stranger)
    # Nothing of it is seen by another team either.
    for path in ("/devices/pump/commands", "/devices/pump/twin", "/devices/pump/telemetry"):
        call(node, "GET", f"/api/v1{path}", key=stranger, expect=404)
    for path in ("/commands", "/firmware", "/rollouts", "/rules", "/alarms"):
        assert call(node, "GET", f"/api/v1{path}", key=stranger)["items"] == [], path
    assert "pumps" not in json.dumps(call(node, "GET", "/api/v1/groups", key=stranger))
