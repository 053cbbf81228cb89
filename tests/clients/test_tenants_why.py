"""What `why`, events and bans say and do where teams own tenants: two of them have devices of the
same names, something is wrong with those of one, and the other neither sees nor feels it."""

import json
import socket
import subprocess

import pytest

import martlet_process
from programs import need
from test_access import until
from test_http_api import KEY, KEYS
from test_http_registry import (  # noqa: F401
    DEADLINE_SECS, call, in_a_file, node)
from test_scram import CONNACK, CONTINUE, Scram, Wire
from test_tenants import TEAMS, Device, device, make_teams
from test_tls import Authority
from test_why import expect_of, expired


@pytest.fixture
def teams(node):
    return make_teams(node)


def why(node, key, query="name=pump"):
    return call(node, "GET", f"/api/v1/why?{query}", key=key)


def expect_why(node, key, cause, said, query="name=pump"):
    return expect_of(lambda: why(node, key, query), cause, said)


def refused(node, *who, **how):
    one = Device(node, *who, **how)
    one.client.loop_stop()
    assert one.code.is_failure, who
    return one.code


def let_in(node, made):
    one = device(node, made)
    one.close()
    return one.code == 0


@in_a_file
def test_a_wrong_password_in_one_tenant_is_told_there_and_nowhere_else(node, teams):
    for _ in range(3):
        refused(node, "pump", "pump@north", "wrong")
    keys = {name: teams[name]["key"] for name in TEAMS}
    answer = expect_why(node, keys["north"], "wrong-password", "wrong credential for device pump")
    assert (answer["state"], answer["count"], answer["name"]) == ("refused", 3, "pump")
    # Without the team it would be about the device of the common tenant.
    assert answer["command"].startswith("martlet device rotate ") and "--team=north" in answer["command"]
    for query in ("name=pump@north", "name=pump&team=north", f"name=pump&team={teams['north']['id']}"):
        expect_why(node, KEY, "wrong-password", "wrong credential for device pump", query)
    expect_why(node, keys["north"], "wrong-password", "", "name=pump@north")
    # Of those who have the same name nobody tried.
    call(node, "POST", "/api/v1/devices", {"id": "pump"})
    for key, query in ((keys["south"], "name=pump"), (KEY, "name=pump"), (KEY, "name=pump@south")):
        answer = expect_why(node, key, "never-connected", "neither connected nor tried", query)
        assert (answer["state"], answer["evidence"], answer["also"]) == ("never-seen", [], [])
    # What is another team's is nobody that is known.
    answer = expect_why(node, keys["south"], "nobody-known", "", "name=pump@north")
    assert answer["evidence"] == []
    call(node, "GET", "/api/v1/why?name=pump&team=north", key=keys["south"], expect=403)

    def refusals(key, query=""):
        page = call(node, "GET", f"/api/v1/events?limit=100{query}", key=key)["items"]
        return [(one["what"], one["client_id"], one.get("user_name")) for one in page]

    assert refusals(keys["north"]) == [("connect refused", "pump", "pump")] * 3
    assert refusals(KEY, "&team=north") == refusals(keys["north"])
    assert refusals(keys["south"]) == []
    # Of a team that there is not, it is the node's.
    refused(node, "x", "x@nowhere", "wrong")
    until(lambda: ("connect refused", "x", "x@nowhere") in refusals(KEY), "it is told")
    assert all("nowhere" not in str(refusals(keys[name])) for name in TEAMS)


@in_a_file
def test_by_command_why_knows_a_device_of_a_team(node, teams):
    refused(node, "pump", "pump@north", "wrong")
    expect_why(node, KEY, "wrong-password", "", "name=pump@north")
    for named in (["pump@north"], ["pump", "--team", "north"]):
        done = martlet_process.run("why", *named, "--data-dir", node.data_dir, "--json")
        answer = json.loads(done.stdout)
        assert (answer["cause"], answer["name"]) == ("wrong-password", "pump"), done.stdout
    done = martlet_process.run("why", "pump", "--data-dir", node.data_dir, "--json")
    assert json.loads(done.stdout)["cause"] == "nobody-known"


@in_a_file
def test_who_receives_a_topic_is_looked_for_in_the_tenant_that_asks(node, teams):
    keys = {name: teams[name]["key"] for name in TEAMS}
    readers = device(node, teams["south"]["reader"])
    readers.subscribe("pump/#")
    pumps = [device(node, teams[name]["pump"]) for name in TEAMS]
    query = "name=pump&topic=pump/state"
    try:
        answer = expect_why(node, keys["north"], "subscriber-absent", "nobody is subscribed", query)
        assert "reader" not in json.dumps(answer)
        expect_why(node, keys["south"], "nothing-wrong", "1 client is subscribed (reader)", query)
        # The rules that decide are those of its own session.
        call(node, "POST", "/api/v1/device-types", {"name": "other", "rules": ["topic write only/that"]})
        call(node, "PATCH", "/api/v1/devices/pump", {"type": "other"}, key=keys["north"])
        answer = expect_why(node, keys["north"], "not-permitted", "may not publish to pump/state", query)
        assert "only/that" in answer["sentence"]
        expect_why(node, keys["south"], "nothing-wrong", "1 client is subscribed (reader)", query)
    finally:
        for one in (readers, *pumps):
            one.close()


def test_what_the_tables_know_of_a_name_is_told_in_its_tenant(node, teams):
    keys = {name: teams[name]["key"] for name in TEAMS}
    for name in TEAMS:
        one = device(node, teams[name]["pump"])
        one.close()
    call(node, "PATCH", "/api/v1/devices/pump", {"status": "maintenance"}, key=keys["north"])
    call(node, "DELETE", "/api/v1/devices/reader", key=keys["north"])
    expect_why(node, keys["north"], "disabled", "device pump has the status maintenance")
    expect_why(node, keys["north"], "deleted", "removed from the registry", "name=reader")
    expect_why(node, keys["south"], "away", "it is not connected")
    expect_why(node, keys["south"], "never-connected", "", "name=reader")
    call(node, "POST", "/api/v1/devices/reader/purge", key=keys["north"])
    expect_why(node, keys["north"], "deleted", "removed from the registry", "name=reader")
    call(node, "DELETE", "/api/v1/devices/reader", key=keys["south"])
    call(node, "POST", "/api/v1/devices/reader/purge", key=keys["south"])
    call(node, "POST", "/api/v1/devices", {"id": "elsewhere"}, key=keys["north"])
    call(node, "POST", "/api/v1/devices/elsewhere/purge", key=keys["north"])
    for key in (keys["south"], KEY):
        expect_why(node, key, "nobody-known", "", "name=elsewhere")


@in_a_file
def test_what_is_refused_before_anybody_is_asked_is_told_to_the_team_that_is_named(node, teams):
    """By a limit or the Will, whatever the password is."""
    connect = b"\x00\x04MQTT\x04\xc6\x00\x3c" + b"".join(
        len(part).to_bytes(2, "big") + part
        for part in (b"pump", b"$SYS/own", b"gone", b"pump@north", b"whatever"))
    with socket.create_connection(("127.0.0.1", node.port()), timeout=DEADLINE_SECS) as refused_one:
        refused_one.sendall(bytes([0x10, len(connect)]) + connect)
        assert refused_one.recv(4) == b"\x20\x02\x00\x05"
    keys = {name: teams[name]["key"] for name in TEAMS}
    said = "Will Topic is one of the server's own"
    until(lambda: said in json.dumps(why(node, keys["north"])), "it is told there")
    assert why(node, keys["north"])["state"] == "refused"
    assert said not in json.dumps(why(node, keys["south"]))


def test_who_went_with_a_team_is_told_which_to_restore(node, teams):
    """Of one that owns a tenant, by the name that its devices come by, and of one that owns none."""
    plain = call(node, "POST", "/api/v1/teams", {"name": "plain"})["id"]
    call(node, "POST", "/api/v1/devices", {"id": "valve", "team": plain})
    north = teams["north"]["id"]
    call(node, "POST", "/api/v1/devices", {"id": "lone"}, key=teams["north"]["key"])
    call(node, "DELETE", "/api/v1/devices/reader", key=teams["north"]["key"])
    for team, name, device_of in (("north", "pump", "pump@north"), ("plain", "valve", "valve")):
        team_id = {"north": north, "plain": plain}[team]
        call(node, "DELETE", f"/api/v1/teams/{team_id}")
        answer = expect_why(node, KEY, "deleted", f"with its team {team}", f"name={device_of}")
        assert f"restore the team {team}, which also restores it" == answer["remedy"]
        assert answer["command"].startswith("martlet team restore ") and answer["command"].endswith(team_id)
        # Nothing else would bring it back.
        assert not any("device restore" in json.dumps(one) for one in answer["also"]), answer
    for team in ("north", north):
        expect_why(node, KEY, "deleted", "with its team north", f"name=pump&team={team}")
    assert call(node, "GET", "/api/v1/why?name=nobody&team=north", expect=400)["title"]
    assert "User Name of the client to pump@south" in expect_why(node, KEY, "nobody-known", "", "name=pump")["remedy"]
    answer = expect_why(node, KEY, "nobody-known", "", "name=lone")
    assert "ask why lone@north does not work" in answer["remedy"] and "command" not in answer
    answer = why(node, teams["south"]["key"], "name=lone")
    assert "lone@north" not in json.dumps(answer), answer
    answer = expect_why(node, KEY, "deleted", "its team north was deleted later", "name=reader@north")
    assert "restore the team north first, then it" == answer["remedy"]
    # Another team is told nothing of it.
    answer = why(node, teams["south"]["key"], "name=pump@north")
    assert answer["cause"] == "nobody-known" and "team north" not in json.dumps(answer), answer
    call(node, "POST", f"/api/v1/teams/{north}/restore")
    assert let_in(node, teams["north"]["pump"])


@in_a_file
def test_a_refusal_that_names_nobody_is_told_to_who_sees_all_alone(node, teams):
    """It may be any team's, whose devices come from one address."""
    for name in TEAMS:
        device(node, teams[name]["pump"]).close()
    with socket.create_connection(("127.0.0.1", node.port()), timeout=DEADLINE_SECS) as stranger:
        stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
        while stranger.recv(1000):
            pass
    for name in TEAMS:
        # It is in no tenant, and so no more than a remark.
        answer = expect_why(node, KEY, "away", "it is not connected", f"name=pump@{name}")
        assert any(one["cause"] == "wrong-transport" for one in answer["also"])
        assert any("an HTTP request was received" in one["text"] for one in answer["evidence"])
        answer = why(node, teams[name]["key"])
        assert answer["cause"] == "away" and "HTTP request" not in json.dumps(answer)


@in_a_file
def test_a_lock_out_is_of_the_name_in_its_tenant(start_node, variables):
    node = start_node(http=True, variables=variables, settings=["auth.lockout_failures=3"])
    teams = make_teams(node)
    at_home = device(node, teams["south"]["pump"])
    for number in range(4):
        refused(node, "pump", "pump@north", f"wrong {number}")
    expect_why(node, teams["north"]["key"], "locked-out", "locked out")
    answer = why(node, teams["south"]["key"])
    assert (answer["cause"], answer["also"]) == ("nothing-wrong", [])
    at_home.close()


@in_a_file
def test_a_certificate_and_scram_say_whose_client_is_refused(start_node, variables, tmp_path):
    authority = Authority(tmp_path / "ca")
    server = authority.sign("server")
    node = start_node(
        http=True, variables=variables, listen=("mqtt://127.0.0.1:0", "mqtts://127.0.0.1:0"), settings=[
            f"tls.certificate={server[0]}", f"tls.key={server[1]}", "tls.client_certificates=optional",
            f"tls.client_ca={authority.certificate}", "auth.certificate_user_name=common-name",
            "auth.scram=true", "auth.lockout_failures=0"])
    teams = make_teams(node)
    keys = {name: teams[name]["key"] for name in TEAMS}

    def publish_with(certificate, client_id):
        subprocess.run([need("mosquitto_pub", "mosquitto-clients"), "-h", "localhost", "-p",
                        str(node.port("mqtts")), "--cafile", authority.certificate, "-t", "t", "-m", "x", "-i",
                        client_id, "--cert", certificate[0], "--key", certificate[1]],
                       capture_output=True, timeout=60)

    # In the handshake, and after it.
    publish_with(expired(authority, "pump@north"), "pump")
    expect_why(node, keys["north"], "certificate-expired", "has expired")
    call(node, "PATCH", "/api/v1/devices/reader", {"status": "inactive"}, key=keys["north"])
    publish_with(authority.sign("reader@north", usage="clientAuth"), "reader")
    answer = expect_why(node, keys["north"], "disabled", "device reader is inactive", "name=reader")
    assert answer["state"] == "refused"
    # By SCRAM there need be no name in CONNECT.
    for name in TEAMS:
        call(node, "POST", "/api/v1/users", {"name": f"ann-{name}", "password": "0123456789"}, key=keys[name])
    with Wire(node) as wire:
        _, answer = wire.prove("desk", "ann-north", "wrong")
        assert answer[:2] == (CONNACK, 0x86)
    expect_why(node, keys["north"], "wrong-password", "SCRAM-SHA-256 as ann-north", "name=ann-north")
    expect_why(node, KEY, "wrong-password", "SCRAM-SHA-256 as ann-north", "name=ann-north")
    events = {name: call(node, "GET", "/api/v1/events?limit=100", key=keys[name])["items"] for name in TEAMS}
    assert [one["user_name"] for one in events["north"]] == ["pump", "reader", "ann-north"]
    assert events["south"] == []
    for query in ("name=pump", "name=reader"):
        assert why(node, keys["south"], query)["evidence"] == []


@in_a_file
def test_who_has_no_good_credential_left_is_told_so(node, teams):
    key = teams["north"]["key"]
    call(node, "POST", "/api/v1/devices", {"id": "pump"})
    for path, who, query in (("pump", key, "name=pump"), ("pump", KEY, "name=pump")):
        call(node, "POST", f"/api/v1/devices/{path}/credentials", {"name": "second"}, key=who)
        for one in call(node, "GET", f"/api/v1/devices/{path}/credentials", key=who)["items"]:
            call(node, "DELETE", f"/api/v1/devices/{path}/credentials/{one['id']}", key=who)
        answer = expect_why(node, who, "credential-expired", "all 2 of its credentials were revoked, the last on",
                            query)
        assert answer["remedy"] == "give it another credential"
        assert answer["command"].endswith("pump") and ("--team=north" in answer["command"]) == (who == key)
    # It comes with what it has, and that is still what is wrong.
    refused(node, "pump", "pump@north", teams["north"]["pump"]["secret"])
    answer = expect_why(node, key, "credential-expired", "all 2 of its credentials")
    until(lambda: why(node, key)["state"] == "refused", "it was refused")
    assert why(node, teams["south"]["key"])["cause"] == "never-connected"


@in_a_file
def test_a_stranger_who_tries_the_name_of_who_is_connected_is_a_remark(node, teams):
    key = teams["north"]["key"]
    pump = device(node, teams["north"]["pump"])
    for _ in range(2):
        refused(node, "pump", "pump@north", "wrong")
    said = "a client at 127.0.0.1 tried its name with a wrong password 2 times"
    until(lambda: any(said in one["sentence"] for one in why(node, key)["also"]), "it is a remark")
    answer = why(node, key)
    assert (answer["cause"], answer["state"]) == ("nothing-wrong", "connected"), answer
    assert "rotate" not in json.dumps(answer) and "another credential" not in json.dumps(answer)
    pump.close()


def test_a_ban_is_of_the_tenant_that_it_is_made_in(node, teams):
    """Whoever makes it, and however the tenant is said."""
    keys = {name: teams[name]["key"] for name in TEAMS}
    common = call(node, "POST", "/api/v1/devices", {"id": "pump", "type": "free"})
    north = teams["north"]["id"]

    def bans(key):
        return call(node, "GET", "/api/v1/bans", key=key)["items"]

    for key, query, body in (
            (keys["north"], "", {"kind": "client_id", "value": "pump"}),
            (keys["north"], "", {"kind": "user_name", "value": "pump"}),
            (keys["north"], "", {"kind": "user_name", "value": "pump@north"}),
            (keys["north"], "", {"kind": "address", "value": "127.0.0.0/8"}),
            (KEY, "?team=north", {"kind": "client_id", "value": "pump"}),
            (KEY, f"?team={north}", {"kind": "user_name", "value": "pump@north"}),
            (KEY, "", {"kind": "user_name", "value": "pump", "team": "north"}),
            (KEY, "", {"kind": "address", "value": "127.0.0.1", "team": north}),
            (KEY, "", {"kind": "user_name", "value": "pump@north"}),
            (KEY, "", {"kind": "client_id", "value": "pump@north"})):
        inside = {name: device(node, teams[name]["pump"]) for name in TEAMS}
        made = call(node, "POST", f"/api/v1/bans{query}", {**body, "why": "it makes noise"}, key=key)
        assert made["team"] == north and "@" not in made["value"]
        assert inside["north"].ended.wait(DEADLINE_SECS), body
        assert not let_in(node, teams["north"]["pump"]), body
        assert not inside["south"].ended.is_set()
        inside["south"].close()
        assert let_in(node, teams["south"]["pump"]) and let_in(node, common), body
        # Who it is of sees it, is told why, and takes it back.
        assert [one["id"] for one in bans(keys["north"])] == [made["id"]]
        assert bans(keys["south"]) == [] and [one["team"] for one in bans(KEY)] == [north]
        expect_why(node, keys["north"], "banned", "is banned: it makes noise")
        assert "banned" not in json.dumps(why(node, keys["south"]))
        call(node, "DELETE", f"/api/v1/bans/{made['id']}", key=keys["south"], expect=404)
        call(node, "DELETE", f"/api/v1/bans/{made['id']}", key=keys["north"])
        assert let_in(node, teams["north"]["pump"]), body
    # One of the common tenant is of nobody else; of an address it is of all.
    made = call(node, "POST", "/api/v1/bans", {"kind": "client_id", "value": "pump"})
    assert made["team"] is None and not let_in(node, common)
    assert all(let_in(node, teams[name]["pump"]) for name in TEAMS)
    call(node, "DELETE", f"/api/v1/bans/{made['id']}")
    call(node, "POST", "/api/v1/bans", {"kind": "address", "value": "127.0.0.1"})
    assert not any(let_in(node, made) for made in (common, *(teams[name]["pump"] for name in TEAMS)))
    assert bans(keys["north"]) == []


@in_a_file
def test_a_ban_of_no_tenant_is_refused(node, teams):
    call(node, "POST", "/api/v1/teams", {"name": "plain"})
    body = {"kind": "client_id", "value": "pump"}
    for team in ("plain", "nowhere", ""):
        call(node, "POST", "/api/v1/bans", {**body, "team": team}, expect=422)
    call(node, "POST", "/api/v1/bans?team=north", {**body, "team": "south"}, expect=422)
    for query, more in (("?team=south", {}), ("", {"team": teams["south"]["id"]})):
        call(node, "POST", f"/api/v1/bans{query}", {**body, **more}, key=teams["north"]["key"], expect=403)
    assert call(node, "GET", "/api/v1/bans")["items"] == []


@in_a_file
def test_a_ban_holds_who_proves_a_password_in_steps_in_its_tenant(start_node, variables):
    node = start_node(http=True, variables=variables, settings=["auth.scram=true", "auth.lockout_failures=0"])
    teams = make_teams(node)
    for name in TEAMS:
        call(node, "POST", "/api/v1/users", {"name": f"ann-{name}", "password": "0123456789"},
             key=teams[name]["key"])

    def reason(name):
        with Wire(node) as wire:
            _, answer = wire.prove("desk", f"ann-{name}", "0123456789")
            return answer[1]

    def first_answer(name):
        with Wire(node) as wire:
            wire.connect("desk", Scram(f"ann-{name}", "x").first)
            kind, code, _, _ = wire.receive()
            return kind, code

    assert [reason(name) for name in TEAMS] == [0, 0]
    of_client = {"kind": "client_id", "value": "desk"}
    # In the common tenant that Client Identifier is somebody else's.
    made = call(node, "POST", "/api/v1/bans", of_client)
    assert [reason(name) for name in TEAMS] == [0, 0]
    call(node, "DELETE", f"/api/v1/bans/{made['id']}")
    for key, body in ((teams["north"]["key"], of_client),
                      (KEY, {"kind": "user_name", "value": "ann-north"}),
                      (KEY, {"kind": "user_name", "value": "ann-north@north"}),
                      (teams["north"]["key"], {"kind": "address", "value": "127.0.0.1"})):
        made = call(node, "POST", "/api/v1/bans", body, key=key)
        assert first_answer("north") == (CONNACK, 0x8A), body
        assert reason("south") == 0, body
        call(node, "DELETE", f"/api/v1/bans/{made['id']}")
    # Between its first step and its last.
    with Wire(node) as wire:
        scram = Scram("ann-north", "0123456789")
        wire.connect("desk", scram.first)
        data = wire.receive()[3]
        call(node, "POST", "/api/v1/bans", of_client, key=teams["north"]["key"])
        wire.auth(CONTINUE, scram.answer(data))
        assert wire.receive()[:2] == (CONNACK, 0x8A)


def test_by_command_a_ban_names_a_team(start_node):
    node = start_node(http=True, variables=dict(KEYS))
    teams = make_teams(node)
    for value, *options in (["pump@north"], ["pump", "--team", "north"]):
        pump = device(node, teams["north"]["pump"])
        done = martlet_process.run("ban", "add", "client-id", value, *options, "--data-dir", node.data_dir,
                                   "--json")
        assert done.returncode == 0, done.stderr
        assert pump.ended.wait(DEADLINE_SECS)
        assert not let_in(node, teams["north"]["pump"]) and let_in(node, teams["south"]["pump"])
        call(node, "DELETE", f"/api/v1/bans/{json.loads(done.stdout)['id']}")
