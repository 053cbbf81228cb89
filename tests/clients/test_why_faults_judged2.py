"""More faults that a stranger put to `martlet why`: topics, rules, roles, Wills, listeners with users of their own and
keys by HTTP. The headline is the fault, and the command that is printed ends it."""

import json
import re

import pytest

import martlet_process
from paho_client import Client
from test_access import mosquitto_passwd, publish, until
from test_http_api import ask
from test_why_faults_keys import printed_or_last
from test_why_team_tokens import token
from why_faults import Faults, boss, node, printed_secret, published, reason_of  # noqa: F401


def printed(node, *arguments):
    return martlet_process.run("why", *arguments, "--data-dir", str(node.place.path)).stdout


# Topics and rules


def refused(client, topic):
    """A subscription that the node refuses."""
    [code] = client.subscribe(topic, 1)
    return code >= 0x80


def test_a_shared_subscription_of_another_broker_is_refused(node):  # noqa: F811
    node.user("worker", "--role", "user")
    with node.client("worker", client_id="worker1") as client:
        assert refused(client, "$shared/g/jobs/#")
        for asked in (["worker1"], ["worker1", "jobs/1"]):
            told = node.headline("not-permitted", "$shared/g/jobs/#", *asked)
            assert "$share/g/jobs/# is meant" in told["sentence"], told
            assert "subscribe to $share/g/jobs/#" in told["remedy"] and "command" not in told, told
    with node.client("worker", client_id="worker1") as client:
        client.subscribe("$share/g/jobs/#", 1)
        node.over("worker1")


def test_the_slash_of_a_client_identifier_keeps_a_rule_from_matching(node):  # noqa: F811
    node.run("role", "add", "halls", "--rule", "pattern write site/%c/#")
    node.user("porter", "--role", "halls")
    with node.client("porter", client_id="hall/3") as client:
        assert not published(client, "site/hall/3/t")
        for asked in (["hall/3"], ["hall/3", "site/hall/3/t"]):
            told = node.headline("not-permitted", "no rule permits it", *asked)
            assert "the Client Identifier hall/3 of the client has / in it, so that rules with %c" in told["remedy"], told
            assert "may publish to" not in told["sentence"] and "command" not in told, told
    with node.client("porter", client_id="hall-3") as client:
        assert published(client, "site/hall-3/t")
        node.over("hall-3")


def test_rules_before_the_first_user_are_for_clients_without_a_name(tmp_path):
    acl = tmp_path / "acl"
    acl.write_text("topic read news/#\n\nuser eve\ntopic readwrite #\n")
    passwords = mosquitto_passwd(tmp_path / "passwords", ("dan", "secret"), ("eve", "secret"))
    faults = Faults(settings=(f"auth.password_file={passwords}", f"auth.acl_file={acl}"))
    faults.user("boss", "--role", "administrator")
    with faults.start() as node, node.client("dan", client_id="dan1") as client:
        client.subscribe("news/#", 1)
        told = node.headline("not-permitted", "no rule permits it", "dan1", "news/1")
        assert "line 1 (news/#) is before the first user line" in told["remedy"], told
        assert "only to clients without a user name" in told["remedy"], told
        with acl.open("a") as file:
            file.write("user dan\ntopic read news/#\n")
        node.run("reload")
        node.over("dan1", "news/1")


def test_a_device_uses_the_topics_of_another_type(node):  # noqa: F811
    secret = node.device("flow1", "--type", "iotflow")
    with node.client("flow1", secret) as device:
        assert refused(device, "d/flow1/commands/+")
        for asked in (["flow1"], ["flow1", "d/flow1/commands/+"]):
            told = node.headline("not-permitted", "d/flow1/commands/+", *asked)
            assert "have the client use iotflow/devices/flow1/commands/+, which" in told["remedy"], told
    with node.client("flow1", secret) as device:
        assert not refused(device, "iotflow/devices/flow1/commands/+")
        node.over("flow1")


def test_a_user_has_no_role(node):  # noqa: F811
    node.user("anna", "--role", "none")
    with node.client("anna", client_id="anna1") as client:
        assert not published(client, "plant/x")
    for asked in (["anna"], ["anna1", "plant/x"]):
        told = node.headline("not-permitted", "no rule permits it", *asked)
        assert "the role none, which permits nothing" in told["remedy"], told
    assert told["command"].endswith("anna") and "--role=user" in told["command"], told
    node.carry_out(told)
    with node.client("anna", client_id="anna1") as client:
        assert published(client, "plant/x")
        node.over("anna1")


# Addresses


def test_an_address_of_a_device_of_another_tenant():
    with Faults() as node:
        node.run("team", "add", "north", "--own-tenant")
        secret = node.device("mv-1", "--team", "north")
        until(lambda: not node.comes("mv-1", secret), "it is refused")
        told = node.headline("unknown-name", "the device mv-1 belongs to another tenant", "127.0.0.1")
        assert "set the User Name of the client to mv-1@north" in told["remedy"] and "command" not in told, told
        assert told["remedy"] == node.why("mv-1")["remedy"], told
        assert node.comes("mv-1@north", secret, "mv-1")


def test_a_misspelt_device_comes_with_the_token_of_a_team_that_has_a_tenant():
    with Faults() as node:
        node.run("team", "add", "north", "--own-tenant")
        node.device("fan-10", "--team", "north")
        key, secret = token(node.run("team", "token", "add", "north", "fans"))
        until(lambda: not node.comes(key, secret, "fan_10"), "it is refused")
        said = 'the Client Identifier must be the id of one; it is "fan_10"'
        told = node.headline("wrong-client-id", said, "fan_10")
        assert "was refused in the tenant of the team north" in told["sentence"], told
        assert told["remedy"].startswith("did you mean fan-10?"), told
        of_tenant = node.headline("wrong-client-id", said, "fan_10", team="north")
        assert of_tenant["remedy"] == told["remedy"] and of_tenant["command"] == told["command"], of_tenant
        of_device = node.headline("never-connected", "a client with the Client Identifier fan_10 was refused", "fan-10@north")
        assert "set its Client Identifier to fan-10" in of_device["remedy"], of_device
        node.bash(told)
        until(lambda: node.comes(key, secret, "fan_10"), "it is added")
        node.over("fan_10", team="north")
        assert node.comes(key, secret, "fan-10")
        node.over("fan-10@north")


# Wills


def test_the_will_is_too_large(tmp_path):
    faults = Faults(settings=("limits.payload_bytes=1000",))
    faults.user("ann", "--role", "user")
    faults.run("team", "add", "north", "--own-tenant")
    secret = faults.device("fan", "--team", "north")
    with faults.start() as node:
        for client_id, login, names in (("cr3", ("ann", "secret"), ["cr3", "ann"]), ("fan", ("fan@north", secret), ["fan@north"])):
            client = Client(node.node, client_id).credentials(*login).will(f"d/{client_id}/gone", "x" * 2000)
            assert reason_of(client.start()).is_failure
            for name in names:
                told = node.headline("too-large", "its Will is refused: the payload is too long", name)
                assert "1000" in told["sentence"] and "limits.payload_bytes" in told["remedy"], told
            # It is of the tenant that its User Name says.
            if client_id == "fan":
                told = node.why("fan")
                assert told["cause"] == "nobody-known" and "where its User Name is fan@north" in told["sentence"], told
            with Client(node.node, client_id).credentials(*login).will(f"d/{client_id}/gone", "x"):
                for name in names:
                    node.over(name)


# Listeners


def own_users(tmp_path, *names):
    """A node with a listener of the tables, and one with a password file of its own."""
    passwords = mosquitto_passwd(tmp_path / "own", *((name, "secret") for name in names))
    (tmp_path / "martlet.toml").write_text(f"""
[auth]
enabled = "on"
[[listeners]]
url = "mqtt://127.0.0.1:0"
[[listeners]]
url = "mqtt://127.0.0.1:0"
password_file = "{passwords}"
""")
    faults = Faults(listen=(), arguments=("-c", str(tmp_path / "martlet.toml")))
    faults.user("boss", "--role", "administrator")
    return faults


def test_a_device_of_the_tables_comes_to_a_listener_with_users_of_its_own(tmp_path):
    faults = own_users(tmp_path, "old1")
    secret = faults.device("old-19")
    with faults.start() as node:
        usual, own = (int(url.rsplit(":", 1)[1]) for url in node.node.urls)
        assert publish(node.node, "d/old-19/x", "-u", "old-19", "-P", secret, "-i", "old-19", port=own)[0] != 0
        for _ in range(2):
            told = node.headline("unknown-name", "the listener that it connects to has a password file of its own", "old-19")
            assert f"a listener that uses the tables (mqtt://127.0.0.1:{usual})" in told["remedy"], told
            assert "--file=" in told["command"], told
        node.bash(told, given="another-one\n")
        node.run("reload")
        with Client(node.node, "old-19", port=own).credentials("old-19", "another-one"):
            node.over("old-19")
        with node.client("old-19", secret):
            node.over("old-19")


def test_a_user_of_a_listener_is_no_unknown_user_of_the_tables(tmp_path):
    with own_users(tmp_path, "old1").start() as node:
        _, own = (int(url.rsplit(":", 1)[1]) for url in node.node.urls)

        def comes(password):
            return publish(node.node, "x", "-u", "old1", "-P", password, "-i", "old1", port=own)[0] == 0

        assert not comes("wrong")
        told = node.headline("wrong-password", "wrong password", "old1")
        assert not any("no user of that name" in one["sentence"] for one in told["also"]), told
        node.bash(told, given="another-one\n")
        node.run("reload")
        assert comes("another-one")
        told = node.why("old1")
        assert "no user of that name" not in json.dumps(told) and "user add" not in json.dumps(told), told


def test_a_name_is_in_the_tables_and_in_the_password_file(tmp_path):
    """The tables decide, and what is printed changes them."""
    passwords = tmp_path / "passwords"
    faults = Faults(settings=(f"auth.password_file={passwords}",))
    faults.user("dan", password="of-tables")
    mosquitto_passwd(passwords, ("dan", "of-file"))
    with faults.start() as node:
        before = passwords.read_text()
        in_two = f"dan is in the tables and in the password file {passwords}: the tables decide"
        assert in_two in [one["sentence"] for one in node.why("dan")["also"]]
        assert node.comes("dan", "of-tables") and not node.comes("dan", "of-file")
        told = node.headline("wrong-password", "wrong password, according to the registry", "dan")
        assert f"the password file {passwords} has that name too: the tables decide" in told["sentence"], told
        node.bash(told, given="another-one\n")
        assert node.comes("dan", "another-one")
        assert passwords.read_text() == before
        node.over("dan")
        # The deleted one keeps the name.
        node.run("user", "rm", "dan")
        assert not node.comes("dan", "of-file")
        said = f"the tables keep its name, so the one in the password file {passwords} is not used"
        told = node.headline("deleted", said, "dan")
        node.bash(told)
        assert node.comes("dan", "another-one")
        node.run("user", "rm", "dan")
        told = node.headline("deleted", "the tables keep its name", "dan")
        purge = re.search(r"\((martlet user rm .*? dan)\)", told["remedy"]).group(1)
        node.bash({**told, "command": purge})
        assert node.comes("dan", "of-file") and passwords.read_text() == before
        assert "in the tables and in" not in json.dumps(node.why("dan"))


def test_a_device_beside_a_password_file(tmp_path):
    """It has no password, and an unknown user of the file would have no role."""
    passwords = mosquitto_passwd(tmp_path / "passwords", ("dan", "of-file"))
    faults = Faults(settings=(f"auth.password_file={passwords}",))
    secret = faults.device("pump")
    with faults.start() as node:
        assert node.comes("pump", secret)
        passwd = f"martlet user passwd --data-dir={node.place.path} pump 2>&1"
        told = node.bash({"command": passwd}, given="another-one\n", code=1)
        assert "pump is a device, which has a secret and no password" in told, told
        rotated = node.bash({"command": re.search(r"martlet device rotate .*? pump\b", told).group(0)})
        assert node.comes("pump", printed_secret(rotated))
        told = node.bash({"command": passwd.replace(" pump ", " nobody ")}, given="another-one\n", code=1)
        assert f"martlet user add --data-dir={node.place.path} nobody" in told, told
        assert not node.comes("bob", "of-file")
        told = node.headline("unknown-name", "no user of that name exists", "bob")
        assert "--file=" in told["remedy"] and "role" not in told["remedy"] and "the ACL file" in told["remedy"], told
        node.bash({"command": re.search(r"martlet user add .*? bob\b", told["remedy"]).group(0)}, given="of-file-too\n")
        assert node.comes("bob", "of-file-too")
        node.bash(told)


def test_no_login_is_checked_against_the_tables(tmp_path):
    passwords = mosquitto_passwd(tmp_path / "passwords", ("dan", "secret"))
    keys = tmp_path / "keys.json"
    keys.write_text(json.dumps({"keys": [{"kty": "oct", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3JldA", "alg": "HS256"}]}))
    settings = (f"auth.password_file={passwords}", f"auth.jwt_keys={keys}", "auth.jwt_algorithm=HS256")
    with Faults(settings=(*settings, "auth.registry=off")) as node:
        secret = node.device("tab-1")
        said = "the device tab-1 is in the tables, and no login is checked against them: auth.registry is off"
        told = node.headline("unknown-name", said, "tab-1")
        assert 'set auth.registry = "on"' in told["remedy"] and "command" not in told, told
        assert not node.comes("tab-1", secret)
        told = node.headline("unknown-name", said, "tab-1")
        assert 'set auth.registry = "on"' in told["remedy"] and "command" not in told, told
        node.restart(*settings, "auth.registry=on")
        assert node.comes("tab-1", secret)
        node.over("tab-1")


# Keys by HTTP


@pytest.fixture(scope="module")
def http():
    faults = Faults(settings=["telemetry.enabled=true"])
    faults.options["http"] = True
    faults.user("chief", "--role", "administrator", "--api-role", "administrator")
    with faults.start():
        yield faults


def requests(node, method, path, key, header="X-API-Key", body=None):
    """The status of the answer."""
    headers = {"Content-Type": "application/json"}
    headers[header] = key if header == "X-API-Key" else f"Bearer {key}"
    return ask(node.node, path, method, headers, body and json.dumps(body).encode())[0]


def test_an_api_key_lacks_a_scope(http):
    key = printed_or_last(http.run("key", "add", "shop-app", "--scope", "devices:read"))
    body = {"topic": "a", "payload": "1"}
    assert requests(http, "POST", "/api/v1/publish", key, body=body) == 403
    told = http.headline("not-permitted", "shop-app is an API key", "shop-app")
    said = "its last refused request: POST /api/v1/publish needs the scope messages:write, which the API key shop-app"
    assert said in told["sentence"], told
    assert "127.0.0.1" in json.dumps(http.why("127.0.0.1"))
    wider = printed_or_last(http.bash(told))
    assert requests(http, "POST", "/api/v1/publish", wider, body=body) == 200
    assert requests(http, "GET", "/api/v1/devices", wider) == 200
    http.over("shop-app")


@pytest.mark.parametrize("header", ["X-API-Key", "Authorization"])
def test_nobody_has_the_api_key(http, header):
    assert requests(http, "GET", "/api/v1/clients", "mk_" + "0" * 43, header) == 401
    said = "an HTTP request was refused: GET /api/v1/clients: unknown API key"
    told = http.headline("wrong-password", said, "127.0.0.1")
    http.run("key", "add", "listed", "--scope", "viewer")
    assert "listed" in http.bash(told), told
    assert "GET /api/v1/clients: unknown API key" in http.run("logs")


def test_refusals_of_unknown_keys_are_limited(http):
    for _ in range(200):
        assert requests(http, "GET", "/api/v1/alarms", "mk_" + "1" * 43) == 401
    lines = [line for line in http.run("logs").splitlines() if "/api/v1/alarms" in line]
    assert 0 < len(lines) < 100, len(lines)


def test_a_device_shows_its_secret_as_a_bearer(http):
    secret = http.device("br-1")
    path = "/api/v1/devices/br-1/telemetry"
    assert requests(http, "POST", path, secret + "x", "Authorization", {"t": 1}) == 401
    told = http.headline("wrong-password", f"its HTTP request was refused: POST {path}: the key that it shows is not valid", "br-1")
    assert requests(http, "POST", path, printed_secret(http.bash(told)), "Authorization", {"t": 1}) == 201
    assert requests(http, "GET", "/api/v1/devices", secret, "Authorization") == 401
    http.headline("not-permitted", "it shows the key of a device, and the route needs an API key", "br-1")
    assert requests(http, "POST", path, secret, "Authorization", {"t": 1}) == 201
    http.over("br-1")
