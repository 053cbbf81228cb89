"""Team tokens: a key and a secret by which each device of a team logs in; and POST /api/mqtt/auth, by
which another broker asks who a client is."""

import json
import re
import subprocess
import time

import pytest

import martlet_process
import postgres_process
from test_access import publish
from test_hook import HookServer, let_in, node_of
from test_http_api import KEY, KEYS
from test_http_registry import call
from test_registry import Place, is_permitted
from test_revocation import LIMIT_SECS, Device, Pulse

BIG = "b" * 20 + "-key"


@pytest.fixture(params=["sqlite", "postgres"])
def node(request, start_node):
    variables, server = dict(KEYS), None
    if request.param == "postgres":
        server = postgres_process.Server()
        variables["MARTLET_REGISTRY__URL"] = server.new_database()
    yield start_node(settings=["http.rate=0", "log.level=info"], variables=variables.items(), http=True)
    if server:
        server.close()


def add_team(node, name, **fields):
    return call(node, "POST", "/api/v1/teams", {"name": name, **fields})


def add_device(node, name, team=None, **fields):
    team = {"team": team} if team else {}
    return call(node, "POST", "/api/v1/devices", {"id": name, **team, **fields})


def add_token(node, team="plant", name="panel", **options):
    made = call(node, "POST", f"/api/v1/teams/{team}/tokens", {"name": name}, **options)
    return made, (made["credentials"]["key"], made["credentials"]["secret"])


def is_in(node, client_id, login, topic=None):
    """Whether the device is let in, and may use a topic of its own."""
    user, password = login
    return publish(node, topic or f"d/{client_id}/x", "-i", client_id, "-u", user, "-P", password)[0] == 0


def auth(node, client_id="pump", login=("", ""), *options, body=None, host=None):
    """Status and answer of POST /api/mqtt/auth, as another broker asks it."""
    body = {"client_id": client_id, "api_key": login[0], "api_secret": login[1]} if body is None else body
    body = body if isinstance(body, str) else json.dumps(body)
    done = subprocess.run(["curl", "-sS", "-w", "\n%{http_code}", "-X", "POST", (host or node.http_url) + "/api/mqtt/auth",
                           "-H", "Accept: application/json", "-H", "Content-Type: application/json", "-d", body, *options],
                          capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done
    answer, _, status = done.stdout.rpartition("\n")
    return int(status), json.loads(answer) if answer else None


def test_a_token_lets_in_the_devices_of_its_team_alone(node):
    team = add_team(node, "plant")
    add_team(node, "other")
    add_device(node, "pump", "plant"), add_device(node, "valve", "plant")
    add_device(node, "strange", "other"), add_device(node, "free")
    made, login = add_token(node)
    assert re.fullmatch("[0-9A-Za-z]{24}", login[0]) and re.fullmatch("[0-9A-Za-z]{32}", login[1])
    assert made["team"] == team["id"] and made["revoked_at"] is None
    assert is_in(node, "pump", login) and is_in(node, "valve", login)
    # It has the rights of the device that the Client Identifier names.
    named = ("-u", login[0], "-P", login[1], "-i", "pump")
    assert is_permitted(node, "d/pump/x", *named) and not is_permitted(node, "d/valve/x", *named)
    for client_id in ("strange", "free", "nobody"):
        assert not is_in(node, client_id, login, "t")
    assert not is_in(node, "pump", (login[0], "wrong")) and not is_in(node, "pump", ("wrong", login[1]))
    call(node, "PATCH", "/api/v1/devices/valve", {"status": "inactive"})
    assert not is_in(node, "valve", login)
    # Neither is shown again, nor written anywhere.
    listed = call(node, "GET", "/api/v1/teams/plant/tokens")
    assert listed == {"items": [{key: made[key] for key in ("id", "number", "team", "name", "created_at", "revoked_at")}]}
    told = json.dumps(call(node, "GET", "/api/v1/audit")) + node.log()
    assert "team_token.add" in told and login[1] not in told


@pytest.mark.timed
def test_a_revoked_token_ends_connections_at_once_and_can_be_restored(node):
    add_team(node, "plant")
    own = add_device(node, "pump", "plant")["secret"]
    add_device(node, "valve", "plant"), add_device(node, "lamp", "plant")
    made, login = add_token(node)
    _, second = add_token(node, name="second")
    path = f"/api/v1/teams/plant/tokens/{made['id']}"
    connected = [Device(node, login[0], password=login[1], client_id=name) for name in ("valve", "lamp")]
    stays, pulse = Device(node, "pump", password=own), Pulse(node, "pulse", password=add_device(node, "pulse")["secret"])
    for _ in range(20):
        pulse.beat()
    call(node, "DELETE", path)
    answered = time.time_ns()
    took = [(one.wait_for_end() - answered) / 1e6 for one in connected]
    late = pulse.beyond(took, LIMIT_SECS * 1000)
    assert not late, f"too late: {late}"
    assert stays.is_connected() and not is_in(node, "valve", login) and is_in(node, "valve", second)
    call(node, "DELETE", path, expect=404)
    assert call(node, "GET", "/api/v1/teams/plant/tokens")["items"][0]["revoked_at"]
    assert call(node, "POST", f"{path}/restore")["revoked_at"] is None
    assert is_in(node, "valve", login)
    call(node, "POST", f"{path}/restore", expect=404)
    assert stays.is_connected()


def test_a_device_that_leaves_the_team_is_disconnected(node):
    add_team(node, "plant"), add_team(node, "other")
    add_device(node, "pump", "plant")
    own = add_device(node, "valve", "plant")["secret"]
    _, login = add_token(node)
    gone, stays = Device(node, login[0], password=login[1], client_id="pump"), Device(node, "valve", password=own)
    for name in ("pump", "valve"):
        call(node, "PATCH", f"/api/v1/devices/{name}", {"team": "other"})
    gone.wait_for_end()
    # Its own secret is as good as it was.
    assert stays.is_connected() and not is_in(node, "pump", login)


def test_a_team_with_a_tenant_has_tokens_too(node):
    add_team(node, "apart", owns_tenant=True)
    add_device(node, "pump", "apart"), add_device(node, "pump")
    made, login = add_token(node, "apart")
    one = Device(node, login[0], password=login[1], client_id="pump")
    clients = call(node, "GET", "/api/v1/clients?team=apart")["items"]
    assert [client["client_id"] for client in clients] == ["pump"]
    call(node, "DELETE", f"/api/v1/teams/apart/tokens/{made['id']}")
    one.wait_for_end()


def test_who_manages_the_tokens_of_a_team(node):
    add_team(node, "plant"), add_team(node, "other")
    key = lambda team, *scopes: call(node, "POST", "/api/v1/keys", {"name": "k", "scopes": scopes, "team": team})["key"]
    own, reads, other = key("plant", "administrator"), key("plant", "keys:read"), key("other", "administrator")
    lacks = key("plant", "keys:write")
    made, _ = add_token(node, key=own)
    token = f"/api/v1/teams/plant/tokens/{made['id']}"
    assert len(call(node, "GET", "/api/v1/teams/plant/tokens", key=reads)["items"]) == 1
    for who, status in ((reads, 403), (lacks, 403), (other, 404)):
        call(node, "POST", "/api/v1/teams/plant/tokens", {"name": "x"}, key=who, expect=status)
        call(node, "DELETE", token, key=who, expect=status)
        call(node, "POST", f"{token}/restore", key=who, expect=status)
    call(node, "GET", "/api/v1/teams/plant/tokens", key=other, expect=404)
    for body in ({}, {"name": ""}, {"name": 7}, {"name": "x", "more": 1}):
        call(node, "POST", "/api/v1/teams/plant/tokens", body, key=own, expect=422)
    call(node, "DELETE", token, key=own)
    call(node, "POST", f"{token}/restore", key=own)


def test_the_commands_about_team_tokens(tmp_path, start_node):
    place = Place(tmp_path / "data")
    place.run("team", "add", "plant")
    place.run("device", "add", "pump", "--team", "plant")
    told = place.run("team", "token", "add", "plant", "panel")
    key, secret = re.search(r"user name (\w{24})", told).group(1), re.search(r"password +(\w{32})", told).group(1)
    [one] = json.loads(place.run("team", "token", "ls", "plant", "--json"))["items"]
    assert one["name"] == "panel" and one["revoked_at"] is None
    shown = place.run("team", "token", "ls", "plant")
    assert "panel" in shown and key not in shown and secret not in shown
    assert shown.splitlines()[1].split()[1:] == ["panel", "valid"]
    node = start_node(data_dir=place.path)
    assert is_in(node, "pump", (key, secret))
    connected = Device(node, key, password=secret, client_id="pump")
    assert f"team token restore --data-dir={place.path} plant" in place.run("team", "token", "rm", "plant", one["id"])
    connected.wait_for_end()
    assert not is_in(node, "pump", (key, secret)) and "revoked" in place.run("team", "token", "ls", "plant")
    place.run("team", "token", "restore", "plant", one["id"])
    assert is_in(node, "pump", (key, secret))
    assert "no team token" in place.run("team", "token", "rm", "plant", "nothing", code=1)
    assert "there is no team nobody" in place.run("team", "token", "add", "nobody", "x", code=1)


# ---- POST /api/mqtt/auth


def test_another_broker_asks_who_a_client_is(node):
    add_team(node, "plant")
    device = add_device(node, "pump", "plant")
    made, login = add_token(node)
    status, numbers = auth(node, "pump", login)
    assert status == 200 and set(numbers) == {"team_id", "api_token_id", "mqtt_client_id"}, numbers
    assert (numbers["api_token_id"], numbers["mqtt_client_id"]) == (made["number"], device["number"])
    assert numbers["team_id"] > 0
    unauthorized = (401, {"message": "Credentials Unauthorized"})
    for client_id, bad in (("pump", (login[0], "wrong")), ("nobody", login), ("pump", ("nobody", "wrong"))):
        assert auth(node, client_id, bad) == unauthorized
    # The same chain: a device's own secret is good too. There is no token then.
    own = auth(node, "pump", ("pump", device["secret"]))
    assert own == (200, {**numbers, "api_token_id": 0})
    assert auth(node, "other", ("pump", device["secret"])) == unauthorized
    # A user has the number of its team, and no other.
    for name, team in (("ann", "plant"), ("bob", "")):
        call(node, "POST", "/api/v1/users", {"name": name, "password": "a-long-password", "role": "user", "team": team})
        expected = {"team_id": numbers["team_id"] if team else 0, "api_token_id": 0, "mqtt_client_id": 0}
        assert auth(node, "any", (name, "a-long-password")) == (200, expected)
    call(node, "PATCH", "/api/v1/users/bob", {"team": "plant"})
    assert auth(node, "any", ("bob", "a-long-password"))[1]["team_id"] == numbers["team_id"]
    # The numbers are the same after a change, and after a restart.
    call(node, "PATCH", "/api/v1/teams/plant", {"name": "works"})
    assert auth(node, "pump", login) == (200, numbers)
    call(node, "DELETE", f"/api/v1/teams/works/tokens/{made['id']}")
    assert auth(node, "pump", login) == unauthorized
    call(node, "POST", f"/api/v1/teams/works/tokens/{made['id']}/restore")
    assert auth(node, "pump", login) == (200, numbers)


@pytest.mark.parametrize("body, message, fields", [
    ({}, "The client id field is required. (and 2 more errors)", ["client_id", "api_key", "api_secret"]),
    ("", "The client id field is required. (and 2 more errors)", ["client_id", "api_key", "api_secret"]),
    ("{", "The client id field is required. (and 2 more errors)", ["client_id", "api_key", "api_secret"]),
    ("[1]", "The client id field is required. (and 2 more errors)", ["client_id", "api_key", "api_secret"]),
    ({"client_id": "c", "api_key": "k", "api_secret": ""}, "The api secret field is required.", ["api_secret"]),
    ({"client_id": 7, "api_key": "k", "api_secret": "s"}, "The client id field must be a string.", ["client_id"]),
])
def test_what_is_missing_in_a_question_is_named(start_node, body, message, fields):
    node = start_node(http=True)
    status, told = auth(node, body=body)
    assert (status, told["message"], sorted(told["errors"])) == (422, message, sorted(fields)), told


def test_who_may_ask(start_node):
    variables = [("MARTLET_HTTP__API_KEYS", f"auth:{BIG}:auth:check,viewer:{BIG}2:viewer,all:{KEY}")]
    node = start_node(http=True, variables=variables, settings=["http.rate=0"])
    place = Place(node.data_dir)
    login = ("pump", place.device("pump"))
    proxied = ("-H", "X-Forwarded-For: 192.0.2.7")
    assert auth(node, "pump", login)[0] == 200, "this machine"
    assert auth(node, "pump", login, *proxied)[0] == 401
    assert auth(node, "pump", login, "-H", "Host: broker.example")[0] in (401, 421)
    assert auth(node, "pump", login, *proxied, "-H", f"X-API-Key: {BIG}")[0] == 200
    status, told = auth(node, "pump", login, "-H", f"X-API-Key: {BIG}2")
    assert status == 403 and "auth:check" in told["message"]
    status, told = auth(node, "pump", login, "-H", "X-API-Key: wrong")
    assert status == 401 and set(told) == {"message"}
    # It is no change, and none of the audit log.
    assert "/api/mqtt/auth" not in json.dumps(call(node, "GET", "/api/v1/audit"))


def test_the_hook_is_not_asked_again(start_node):
    hook = HookServer()
    try:
        node = node_of(start_node, hook)
        assert let_in(node) and len(hook.asked) == 1
        other = start_node(http=True, settings=[f"auth.hook_url={hook.url}"])
        assert auth(other, "c1", ("key", "secret"))[0] == 401 and len(hook.asked) == 1
    finally:
        hook.close()


def test_a_node_asks_another_node(start_node):
    asked = start_node(http=True, settings=["http.rate=0"])
    place = Place(asked.data_dir)
    place.run("team", "add", "plant")
    place.run("device", "add", "pump", "--team", "plant")
    made = json.loads(place.run("team", "token", "add", "plant", "panel", "--json"))["credentials"]
    node = start_node(settings=[f"auth.hook_url={asked.http_url}/api/mqtt/auth"])
    good = ("-i", "pump", "-u", made["key"], "-P", made["secret"])
    assert publish(node, "t", *good)[0] == 0
    assert publish(node, "t", *good[:-1], "wrong")[0] != 0
    assert publish(node, "t", "-i", "other", *good[2:])[0] != 0


def test_wrong_credentials_lock_the_name_out(start_node):
    node = start_node(http=True, settings=["auth.lockout_failures=3", "auth.lockout_secs=60", "http.rate=0"])
    place = Place(node.data_dir)
    login, other = ("pump", place.device("pump")), ("valve", place.device("valve"))
    assert auth(node, "pump", login)[0] == 200
    for at in range(3):
        assert auth(node, "pump", ("pump", f"wrong {at}"))[0] == 401
    assert auth(node, "pump", login)[0] == 401, "it is locked out"
    [lockout] = call_socket(node, "lockout", "ls")
    assert (lockout["user_name"], lockout["address"]) == ("pump", None)
    # The broker that asks is not: others of its clients are let in.
    assert auth(node, "valve", other)[0] == 200


def call_socket(node, *command):
    done = martlet_process.run(*command, "--json", "--data-dir", node.data_dir)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["items"]
