"""Refused HTTP requests of devices that are put to `martlet why`: the headline is the fault, and what it advises ends it."""

import json

import pytest

from test_http_api import KEYS, ask
from why_faults import Faults, printed_secret


@pytest.fixture(scope="module")
def node():
    faults = Faults(settings=["telemetry.enabled=true", "http.body_bytes=4096"], variables=KEYS)
    faults.options["http"] = True
    with faults.start():
        yield faults


def sends(node, name, secret, body='{"t": 1}', to=None):
    """The status of the answer to telemetry that a device sends."""
    headers = {"X-API-Key": secret, "Content-Type": "application/json"}
    return ask(node.node, f"/api/v1/devices/{to or name}/telemetry", "POST", headers, body.encode())[0]


def before(node, name):
    return [one["sentence"] for one in node.why(name)["also"]]


def test_a_device_has_a_wrong_secret(node):
    secret = node.device("h1")
    assert sends(node, "h1", secret + "x") == 401
    told = node.headline(
        "wrong-password", "its HTTP request was refused: POST /api/v1/devices/h1/telemetry: the key that it shows is not valid", "h1")
    new = printed_secret(node.bash(told))
    assert sends(node, "h1", new) == 201
    node.over("h1")
    assert any("the device has been in contact again since then" in sentence for sentence in before(node, "h1"))


def test_a_device_of_a_team_with_a_tenant_has_a_wrong_secret(node):
    node.run("team", "add", "wards", "--own-tenant")
    secret = node.device("h1t", "--team", "wards")
    assert sends(node, "h1t", secret + "x") == 401
    told = node.headline("wrong-password", "its HTTP request was refused: POST /api/v1/devices/h1t/telemetry", "h1t@wards")
    new = printed_secret(node.bash(told))
    assert sends(node, "h1t", new) == 201
    node.over("h1t@wards")


def test_the_credential_of_a_device_has_ended(node):
    old = node.device("h2")
    new = json.loads(node.run("device", "rotate", "h2", "--now", "--json"))["secret"]
    assert sends(node, "h2", old) == 401
    told = node.headline("credential-expired", "has expired or is revoked", "h2")
    again = printed_secret(node.bash(told))
    assert sends(node, "h2", new) == 201 and sends(node, "h2", again) == 201
    node.over("h2")


def test_a_device_is_inactive(node):
    secret = node.device("h3")
    node.run("device", "set", "h3", "--status", "inactive")
    assert sends(node, "h3", secret) == 403
    told = node.headline("disabled", "inactive", "h3")
    node.bash(told)
    assert sends(node, "h3", secret) == 201
    node.over("h3")


def test_a_device_sends_values_of_another_one(node):
    secret = node.device("h4")
    node.device("h5")
    assert sends(node, "h4", secret, to="h5") == 403
    told = node.headline("not-permitted", "POST /api/v1/devices/h5/telemetry: a device sends and reads its own telemetry alone", "h4")
    assert "about itself" in told["remedy"]
    assert "HTTP request" not in json.dumps(node.why("h5"))
    assert sends(node, "h4", secret) == 201
    node.over("h4")


def test_a_device_of_a_team_with_a_tenant_sends_values_of_another_one(node):
    node.run("team", "add", "lifts", "--own-tenant")
    secret = node.device("h4t", "--team", "lifts")
    assert sends(node, "h4t", secret, to="h5") == 403
    node.headline("not-permitted", "POST /api/v1/devices/h5/telemetry: a device sends and reads its own telemetry alone", "h4t@lifts")
    assert sends(node, "h4t", secret) == 201
    node.over("h4t@lifts")


def test_a_body_is_too_long(node):
    secret = node.device("h6")
    assert sends(node, "h6", secret, json.dumps({"t": "x" * 5000})) == 413
    node.headline("request-invalid", "its HTTP request was refused: POST /api/v1/devices/h6/telemetry", "h6")


def test_telemetry_that_is_not_valid_is_reported_once(node):
    secret = node.device("h7")
    assert sends(node, "h7", secret, "no JSON") == 422
    told = node.headline("telemetry-not-stored", "POST /api/v1/devices/h7/telemetry", "h7")
    assert not any("HTTP request" in one["sentence"] for one in told["also"])
