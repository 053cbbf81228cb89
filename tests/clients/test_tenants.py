"""Teams that own a tenant: the same Client Identifiers and topics, and nothing crosses: not by MQTT,
not by HTTP, not by what is retained, shared, kept for later or left as a Will."""

import base64
import contextlib
import http.client
import json
import re
import subprocess
import threading
import time
import urllib.parse

import paho.mqtt.client as paho
import pytest
import websockets
import websockets.sync.client
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

import martlet_process
from test_access import until
from test_http_api import native
from test_http_registry import (  # noqa: F401
    DEADLINE_SECS, KEY, ask, call, in_a_file, node)

TEAMS = ("north", "south")


class Device:
    """A client of MQTT 5, who it is, and what it was sent."""

    def __init__(self, node, client_id, user, secret, clean=True, will=None, kept_secs=0):
        self.got, self.code = [], None
        self.connected, self.came, self.ended = (threading.Event() for _ in range(3))
        self.client = paho.Client(
            paho.CallbackAPIVersion.VERSION2, client_id=client_id, protocol=paho.MQTTv5)
        if user:
            self.client.username_pw_set(user, secret)
        if will:
            self.client.will_set(will, b"gone", 1)
        self.client.on_connect = self._on_connect
        self.client.on_message = self._on_message
        self.client.on_disconnect = lambda *_: self.ended.set()
        properties = Properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = kept_secs
        self.client.connect("127.0.0.1", node.port(), clean_start=clean, properties=properties)
        self.client.loop_start()
        assert self.connected.wait(DEADLINE_SECS)

    def _on_connect(self, _client, _data, flags, code, _properties):
        self.code, self.session_present = code, flags.session_present
        self.connected.set()

    def _on_message(self, _client, _data, message):
        self.got.append((message.topic, message.payload.decode(), bool(message.retain)))
        self.came.set()

    def subscribe(self, topic, qos=1):
        assert self.codes_of([topic], qos) == [qos]

    def codes_of(self, filters, qos=1):
        """The answers to a SUBSCRIBE of these filters."""
        done, codes = threading.Event(), []
        self.client.on_subscribe = lambda *given: (codes.extend(code.value for code in given[3]), done.set())
        self.client.subscribe([(filter, qos) for filter in filters])
        assert done.wait(DEADLINE_SECS)
        return codes

    def publish(self, topic, payload, qos=1, retain=False):
        done = threading.Event()
        self.client.on_publish = lambda *_: done.set()
        self.client.publish(topic, payload, qos, retain)
        assert done.wait(DEADLINE_SECS)

    def expect(self, *messages):
        """These and no others; in their order, where it is promised: by topic and QoS."""
        while len(self.got) < len(messages):
            self.came.clear()
            assert len(self.got) >= len(messages) or self.came.wait(DEADLINE_SECS), self.got
        assert sorted(self.got) == sorted(messages)

    def close(self):
        self.client.disconnect()
        self.client.loop_stop()

    def break_off(self):
        self.client.loop_stop()
        self.client.socket().close()


@pytest.fixture
def teams(node):
    return make_teams(node)


def make_teams(node):
    """Two teams, each with a tenant, a key, and a device `pump` and one named `reader`."""
    call(node, "POST", "/api/v1/device-types", {"name": "free", "rules": ["topic readwrite #"]})
    found = {}
    for name in TEAMS:
        team = call(node, "POST", "/api/v1/teams", {"name": name, "owns_tenant": True})
        key = call(node, "POST", "/api/v1/keys", {
            "name": f"of {name}", "team": team["id"], "scopes": ["administrator"]})["key"]
        made = {one: call(node, "POST", "/api/v1/devices", {"id": one, "type": "free"}, key=key)
                for one in ("pump", "reader")}
        found[name] = {"id": team["id"], "key": key, **made}
    return found


def device(node, made, **how):
    return Device(node, made["id"], made["user_name"], made["secret"], **how)


def test_what_is_returned_once_connects_to_its_own_tenant_only(node, teams):
    for name in TEAMS:
        made = teams[name]["pump"]
        assert made["user_name"] == f"pump@{name}"
        own = device(node, made)
        assert own.code == 0, own.code
        own.close()
    north, south = (teams[name]["pump"] for name in TEAMS)
    for user, secret in ((north["user_name"], south["secret"]), ("pump", north["secret"]),
                         ("pump@nowhere", north["secret"]), ("pump@", north["secret"])):
        other = Device(node, "pump", user, secret)
        assert other.code.is_failure, user
        other.close()


@in_a_file
def test_nothing_crosses_by_mqtt(node, teams):
    """Each message is published by each team, and each reader gets that of its own alone."""
    readers = {name: device(node, teams[name]["reader"]) for name in TEAMS}
    for reader in readers.values():
        reader.subscribe("#", 2)
        reader.subscribe("$share/all/+/shared", 1)
    pumps = {name: device(node, teams[name]["pump"], will="pump/gone") for name in TEAMS}
    # Both are connected by the same Client Identifier: neither takes the other over.
    assert not any(pump.ended.is_set() for pump in pumps.values())
    for name, pump in pumps.items():
        for qos in (0, 1, 2):
            pump.publish("pump/state", f"{name} {qos}", qos)
        pump.publish("pump/kept", name, 1, retain=True)
        pump.break_off()
    for name, reader in readers.items():
        own = [("pump/state", f"{name} {qos}", False) for qos in (0, 1, 2)]
        reader.expect(*own, ("pump/kept", name, False), ("pump/gone", "gone", False))
    for name in TEAMS:
        late = device(node, teams[name]["pump"])
        late.subscribe("pump/kept")
        late.expect(("pump/kept", name, True))
        late.close()
    for reader in readers.values():
        reader.close()


def test_what_waits_for_a_client_is_its_tenants(start_node, variables, tmp_path):
    """Also after a restart, by the records of the store."""
    how = {"http": True, "variables": variables, "data_dir": tmp_path}
    node = start_node(**how)
    teams = make_teams(node)
    for name in TEAMS:
        reader = device(node, teams[name]["reader"], kept_secs=600)
        reader.subscribe("waits/#")
        reader.close()
    for name in TEAMS:
        pump = device(node, teams[name]["pump"])
        pump.publish("waits/for", name)
        pump.close()
    node.terminate()
    node.wait()
    node = start_node(**how)
    for name in TEAMS:
        reader = device(node, teams[name]["reader"], clean=False, kept_secs=600)
        reader.expect(("waits/for", name, False))
        reader.close()


def test_people_of_a_team_see_and_reach_its_clients_alone(node, teams):
    pumps = {name: device(node, teams[name]["pump"]) for name in TEAMS}
    for name, pump in pumps.items():
        pump.subscribe(f"only/{name}")
        pump.publish("kept", name, 1, retain=True)
    try:
        for name in TEAMS:
            of = {"key": teams[name]["key"]}
            other = next(one for one in TEAMS if one != name)
            clients = call(node, "GET", "/api/v1/clients?total=true", **of)
            assert [one["client_id"] for one in clients["items"]] == ["pump"]
            found = call(node, "GET", "/api/v1/clients/pump", **of)
            assert f"only/{name}" in json.dumps(found) and f"only/{other}" not in json.dumps(found)
            subscriptions = call(node, "GET", "/api/v1/subscriptions", **of)["items"]
            assert [one["filter"] for one in subscriptions] == [f"only/{name}"]
            kept = call(node, "GET", "/api/v1/retained?payload=true", **of)["items"]
            assert [base64.b64decode(one["payload"]).decode() if one.get("payload_encoding") == "base64"
                    else one["payload"] for one in kept] == [name]
            theirs = f"team={teams[other]['id']}"
            for path in ("clients", "subscriptions", "retained", "clients/pump", "sessions/pump"):
                call(node, "GET", f"/api/v1/{path}?{theirs}", **of, expect=403)
            call(node, "POST", f"/api/v1/publish?{theirs}", {"topic": "x", "payload": "y"}, **of,
                 expect=403)
            for path in ("status", "config", "logs/levels", "backup", f"why?name=pump&{theirs}"):
                call(node, "GET", f"/api/v1/{path}", **of, expect=403)
        # Who sees all says which.
        for name in TEAMS:
            found = call(node, "GET", f"/api/v1/subscriptions?team={name}")["items"]
            assert [one["filter"] for one in found] == [f"only/{name}"]
        assert call(node, "GET", "/api/v1/clients")["items"] == []
        call(node, "GET", "/api/v1/clients?team=nobody", expect=400)
        # What one team does reaches nobody of the other's.
        north, south = (pumps[name] for name in TEAMS)
        south.subscribe("#")
        south.expect(("kept", "south", True))
        of = {"key": teams["north"]["key"]}
        call(node, "POST", "/api/v1/publish", {"topic": "only/south", "payload": "no"}, **of)
        call(node, "DELETE", "/api/v1/retained/kept", **of)
        call(node, "DELETE", "/api/v1/clients/pump", **of)
        assert north.ended.wait(DEADLINE_SECS)
        south.publish("only/south", "yes")
        south.expect(("kept", "south", True), ("only/south", "yes", False))
        assert len(call(node, "GET", "/api/v1/retained", key=teams["south"]["key"])["items"]) == 1
    finally:
        for pump in pumps.values():
            pump.close()


def test_who_is_taken_back_in_one_tenant_stays_in_the_other(node, teams):
    north, south = (device(node, teams[name]["pump"]) for name in TEAMS)
    key = teams["north"]["key"]
    call(node, "PATCH", "/api/v1/devices/pump", {"status": "inactive"}, key=key)
    assert north.ended.wait(DEADLINE_SECS)
    call(node, "POST", "/api/v1/bans", {"kind": "client_id", "value": "reader", "why": "x"}, key=key)
    for made, is_in in ((teams["north"]["pump"], False), (teams["north"]["reader"], False),
                        (teams["south"]["reader"], True)):
        one = device(node, made)
        assert (one.code == 0) == is_in, (made["user_name"], one.code)
        one.close()
    assert not south.ended.is_set()
    # The team is deleted, and with it all of its devices are out.
    call(node, "DELETE", f"/api/v1/teams/{teams['south']['id']}")
    assert south.ended.wait(DEADLINE_SECS)
    again = device(node, teams["south"]["pump"])
    assert again.code.is_failure
    again.close()


def test_nobody_takes_a_name_that_means_a_device_of_a_team(node, teams):
    call(node, "POST", "/api/v1/devices", {"id": "pump@north"}, expect=422)
    call(node, "POST", "/api/v1/users", {"name": "x@north", "password": "0123456789"}, expect=422)
    call(node, "POST", "/api/v1/devices", {"id": "pump@west"})
    call(node, "POST", "/api/v1/teams", {"name": "west", "owns_tenant": True}, expect=409)
    call(node, "PATCH", f"/api/v1/teams/{teams['north']['id']}", {"name": "other"}, expect=422)


@in_a_file
def test_a_client_of_a_tenant_is_named_as_it_connects(node, teams):
    """By who sees all teams; `martlet client show` and `device show` do as well."""
    pumps = {name: device(node, teams[name]["pump"]) for name in TEAMS}
    try:
        made = call(node, "POST", "/api/v1/traces", {"client": "pump@south", "minutes": 1})
        assert made["client"] == "pump" and made["tenant"]
        for name, pump in pumps.items():
            pump.publish(f"traced/{name}", "x")
        node.wait_for_log("traced/south")
        assert "traced/north" not in node.log()
        call(node, "DELETE", "/api/v1/traces?client=pump@south")
        for what in ("clients", "sessions"):
            call(node, "GET", f"/api/v1/{what}/pump%40south")
            # Nor does a team reach another's so.
            call(node, "GET", f"/api/v1/{what}/pump%40south", key=teams["north"]["key"], expect=404)
        shown = martlet_process.run("client", "show", "pump@south", "--data-dir", node.data_dir)
        assert shown.returncode == 0 and "pump" in shown.stdout, shown.stderr
        traced = martlet_process.run("trace", "pump@north", "--data-dir", node.data_dir).stdout
        assert f"martlet events --client=pump --team=north --data-dir={node.data_dir} --type all" in traced
        call(node, "DELETE", "/api/v1/traces?client=pump&team=north")
    finally:
        for pump in pumps.values():
            pump.close()


@in_a_file
def test_a_trace_is_of_somebody(node):
    for body in ({"client": ""}, {"topic": ""}, {}):
        problem = call(node, "POST", "/api/v1/traces", body, expect=400)
        assert "is empty: expected a" in problem["detail"] or body == {}
    assert call(node, "GET", "/api/v1/traces")["items"] == []


@in_a_file
def test_a_request_is_asked_and_answered_in_its_tenant(node, teams):
    """Each team has a device of the same name and topics, which says whose it is."""
    pumps = {name: device(node, teams[name]["pump"]) for name in TEAMS}

    def answering(name):
        def answer(client, _data, asked):
            more = Properties(PacketTypes.PUBLISH)
            more.CorrelationData = asked.properties.CorrelationData
            client.publish(asked.properties.ResponseTopic, name, 1, properties=more)

        return answer

    for name, pump in pumps.items():
        pump.subscribe("whose")
        pump.client.on_message = answering(name)
    body = {"topic": "whose", "payload": "?"}
    try:
        for name in TEAMS:
            for path, key in ((f"?team={name}", KEY), ("", teams[name]["key"])):
                answer = call(node, "POST", f"/api/v1/request{path}", body, key=key)
                assert (answer["response"]["payload"], answer["matched"]) == (name, 1)
        call(node, "POST", "/api/v1/request", body, expect=404)
        # A trace is of a client of a tenant, too.
        made = call(node, "POST", "/api/v1/traces?team=south", {"client": "pump", "minutes": 1})
        assert made["client"] == "pump" and made["tenant"]
        for name, pump in pumps.items():
            pump.publish(f"traced/{name}", "x")
        node.wait_for_log("traced/south")
        assert "traced/north" not in node.log()
        call(node, "DELETE", "/api/v1/traces?client=pump", expect=404)
        call(node, "DELETE", "/api/v1/traces?client=pump&team=south")
    finally:
        for pump in pumps.values():
            pump.close()


@in_a_file
def test_events_are_of_the_team_that_asks(node, teams):
    """As a page and as a stream; who sees all teams gets all, or those of the one that it names."""
    for name in TEAMS:
        wrong = Device(node, "pump", f"pump@{name}", "wrong")
        assert wrong.code.is_failure
        pump = device(node, teams[name]["pump"])
        pump.publish(f"of/{name}", "x")
        pump.close()

    def listed(key, query=""):
        events = call(node, "GET", f"/api/v1/events?limit=100{query}", key=key)["items"]
        return [(one["what"], one.get("tenant")) for one in events if one["what"] == "connected"]

    def streamed(key, query=""):
        found = subprocess.run(
            ["curl", "-sN", "--max-time", "2", "-H", f"X-API-Key: {key}", "-H", "Accept: text/event-stream",
             f"{node.http_url}/api/v1/events?tail=1000&kinds=connected{query}"],
            capture_output=True, text=True, check=False).stdout
        return [json.loads(line[5:]) for line in found.splitlines() if line.startswith("data:")]

    for name in TEAMS:
        key = teams[name]["key"]
        # A stream is read for two seconds, which may be too short on a busy machine.
        for read in (listed, streamed):
            until(lambda: len(read(key)) == 1, "the team's own")
            until(lambda: len(read(KEY, f"&team={name}")) == 1, "that of the team that is named")
        ask_other = next(teams[one]["id"] for one in TEAMS if one != name)
        call(node, "GET", f"/api/v1/events?team={ask_other}", key=key, expect=403)
    assert len(listed(KEY)) == 2
    until(lambda: len(all_of := streamed(KEY)) == 2 == len({one["tenant"] for one in all_of}), "those of both teams")


def test_a_team_reaches_no_device_without_one_and_nobody_elses_people(node, teams):
    """Whatever team it names: another's, none, or one that there is not."""
    common = call(node, "POST", "/api/v1/devices", {"id": "common"})
    key = teams["north"]["key"]
    for named in ("x", teams["south"]["id"], "-", "%20"):
        for method, path, body in (("POST", "/rotate", {}), ("GET", "", None), ("DELETE", "", None),
                                   ("PATCH", "", {"type": "free"}), ("GET", "/configuration", None),
                                   ("POST", "/credentials", {"name": "mine"}), ("POST", "/purge", None)):
            call(node, method, f"/api/v1/devices/common{path}?team={named}", body, key=key, expect=403)
    client = Device(node, "common", "common", common["secret"])
    assert client.code == 0
    client.close()
    # Somebody of one team who has a say in the other: not the first team's to change.
    call(node, "POST", "/api/v1/users", {"name": "bob", "password": "0123456789"}, key=key)
    call(node, "PUT", f"/api/v1/teams/{teams['south']['id']}/members/bob", {"role": "administrator"})
    call(node, "PUT", "/api/v1/users/bob/password", {"password": "9876543210"}, key=key, expect=422)
    # And nobody is brought over from another.
    call(node, "POST", "/api/v1/users", {"name": "carol", "password": "0123456789"}, key=teams["south"]["key"])
    call(node, "PUT", f"/api/v1/teams/{teams['north']['id']}/members/carol", {"role": "viewer"}, key=key, expect=422)


@in_a_file
def test_another_team_in_the_query_is_refused_by_every_route(node, teams):
    """Whatever the route does with the parameter; the own team may be named by its name, too."""
    key, theirs = teams["north"]["key"], teams["south"]["id"]
    document = call(node, "GET", "/api/v1/openapi.json")
    tried = 0
    for path, item in native(document).items():
        if not path.startswith("/api/v1/"):
            continue
        for method, operation in item.items():
            if method == "parameters" or operation.get("security") == []:
                continue
            asked = re.sub(r"\{[^}]*\}", "x", path)
            for team in (theirs, "south", "no-such-team"):
                call(node, method.upper(), f"{asked}?team={team}", {} if method in ("post", "put", "patch") else None,
                     key=key, expect=403)
            tried += 1
    assert tried > 100
    new = {"name": "more", "scopes": ["viewer"]}
    call(node, "POST", f"/api/v1/keys?team={theirs}", new, key=key, expect=403)
    call(node, "GET", "/api/v1/clients?team=north", key=key)
    # A key for one team must not become one for all because the route ignores the parameter.
    problem = call(node, "POST", f"/api/v1/keys?team={theirs}", new, expect=400)
    assert "takes no team" in problem["detail"]


@in_a_file
def test_one_team_takes_half_of_what_teams_share(node, teams):
    """What is off counts as well, and costs no thread."""
    off = {"url": "https://example.invalid/", "filters": ["t"], "enabled": False}
    add = lambda name, team, expect=None: call(
        node, "PUT", f"/api/v1/webhooks/{name}", off, key=teams[team]["key"], expect=expect)
    for number in range(50):
        add(f"north-{number}", "north")
    assert "the team has 50" in add("one-more", "north", 409)["detail"]
    add("north-0", "north")
    add("south", "south")


def test_who_has_the_name_of_a_device_that_is_no_more_gets_nothing_of_it(node, teams):
    key = teams["north"]["key"]
    first = device(node, teams["north"]["reader"], kept_secs=600)
    first.subscribe("#")
    first.close()
    call(node, "DELETE", "/api/v1/devices/reader", key=key)
    call(node, "POST", "/api/v1/devices/reader/purge", key=key)
    made = call(node, "POST", "/api/v1/devices", {"id": "reader", "type": "free"}, key=key)
    again = device(node, made, clean=False, kept_secs=600)
    assert again.code == 0 and not again.session_present
    again.close()


def test_a_device_is_moved_from_tenant_to_tenant(start_node, variables):
    """By who sees all teams: it is out of the old one at once, with all that was it there."""
    node = start_node(http=True, variables=variables, settings=["http.rate=0", "presence.publish=true"])
    teams = make_teams(node)
    north, south = (teams[name] for name in TEAMS)
    of = {name: f"?team={teams[name]['id']}" for name in TEAMS}
    call(node, "POST", "/api/v1/users", {"name": "owner", "password": "0123456789"}, key=north["key"])
    group = call(node, "POST", "/api/v1/groups", {"name": "pumps"}, key=north["key"])
    made = call(node, "POST", "/api/v1/devices", {
        "id": "moves", "type": "free", "owner": "owner", "groups": [group["id"]], "tags": ["red"]}, key=north["key"])
    call(node, "PUT", "/api/v1/devices/moves/configuration/rate", {"value": "5"}, key=north["key"])
    watcher = device(node, north["reader"])
    first = device(node, made, kept_secs=600)
    first.subscribe("waits")
    first.publish("moves/kept", "north", retain=True)

    def move(name, to, **how):
        return call(node, "PATCH", f"/api/v1/devices/moves{of.get(name, '')}", {"team": to}, **how)

    # Not by a team's people, whether they give it away or take it.
    move("north", south["id"], key=north["key"], expect=404)
    call(node, "PATCH", "/api/v1/devices/moves", {"team": ""}, key=north["key"], expect=404)
    move("north", south["id"], key=south["key"], expect=403)
    assert not first.ended.is_set()
    moved = move("north", south["id"])
    assert first.ended.wait(DEADLINE_SECS)
    assert (moved["user_name"], moved["team"], moved["owner"], moved["groups"], moved["tags"]) == (
        "moves@south", south["id"], "", [], ["red"])
    call(node, "GET", "/api/v1/devices/moves", key=north["key"], expect=404)
    # The end of its connection may reach the tables after the answer.
    until(lambda: not call(node, "GET", f"/api/v1/devices/moves{of['south']}")["online"], "it is offline")
    ended = call(node, "GET", f"/api/v1/devices/moves{of['south']}")
    assert moved["last_seen_at"] in (None, ended["last_seen_at"])
    for name, key in ((one, teams[one]["key"]) for one in TEAMS):
        told = json.dumps(call(node, "GET", "/api/v1/audit?limit=100", key=key)["items"])
        elsewhere = teams[next(one for one in TEAMS if one != name)]["id"]
        assert "device.change" in told and elsewhere not in told
    old = Device(node, "moves", "moves@north", made["secret"])
    assert old.code.is_failure
    watcher.publish("waits", "x")
    now = Device(node, "moves", "moves@south", made["secret"], clean=False)
    assert now.code == 0 and not now.session_present and now.got == []
    now.subscribe("moves/kept")
    now.publish("moves/kept", "south", retain=True)
    now.expect(("moves/kept", "south", False))
    found = call(node, "GET", "/api/v1/devices/moves/configuration", key=south["key"])["items"]
    assert [(one["key"], one["value"]) for one in found] == [("rate", "5")]

    def session_is_gone():
        status, _, _ = ask(node, "/api/v1/sessions/moves", headers={"X-API-Key": north["key"]})
        return status == 404

    until(session_is_gone, "its session has ended")
    # Out of the tenants, and in again.
    move("south", "")
    assert now.ended.wait(DEADLINE_SECS)
    common = Device(node, "moves", "moves", made["secret"])
    assert common.code == 0
    # Where the name is taken it stays where it is.
    other = call(node, "POST", "/api/v1/devices", {"id": "moves"}, key=south["key"])
    problem = call(node, "PATCH", "/api/v1/devices/moves", {"team": south["id"]}, expect=409)
    assert "export this device" in problem["detail"]
    call(node, "PATCH", "/api/v1/devices/moves", {"team": "nowhere"}, expect=404)
    assert not common.ended.is_set() and call(node, "GET", "/api/v1/devices/moves")["team"] == ""
    call(node, "PATCH", "/api/v1/devices/moves", {"team": north["id"]})
    assert common.ended.wait(DEADLINE_SECS)
    for one, user, is_in in ((made, "moves@north", True), (made, "moves", False), (made, "moves@south", False),
                             (other, "moves@south", True)):
        client = Device(node, "moves", user, one["secret"])
        assert (client.code == 0) == is_in, user
        client.close()
    # Nobody of another tenant owns it.
    call(node, "PATCH", f"/api/v1/devices/moves{of['south']}", {"owner": "owner"}, expect=422)
    call(node, "PATCH", f"/api/v1/devices/moves{of['north']}", {"owner": "owner"})
    watcher.close()


# What the other team guesses, and what it never says.
MARK, HIDDEN = "southern", "hidden-in-the-south"


def state_of(node, key):
    """What a team's people see of it, without what changes by itself."""
    def bare(value):
        if isinstance(value, dict):
            return {name: bare(one) for name, one in value.items()
                    if name not in {"last_used_at", "last_seen_at", "last_message_at", "age_secs", "connected_secs", "online",
                             "online_changed_at", "address"}}
        return [bare(one) for one in value] if isinstance(value, list) else value
    paths = ("devices", "groups", "users", "teams", "keys", "provisioning-keys", "bans", "retained?payload=true",
             "subscriptions", "devices/target/credentials", "devices/target/configuration")
    found = {path: bare(call(node, "GET", f"/api/v1/{path}", key=key)["items"]) for path in paths}
    clients = call(node, "GET", "/api/v1/clients", key=key)["items"]
    found["clients"] = [(one["client_id"], one.get("connected")) for one in clients]
    return found


def samples(schema, document, names):
    """Bodies that a schema lets through, with the other team's names wherever a text fits."""
    if "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]]
    if "properties" not in schema:
        return [{}]
    bodies = []
    for name in names:
        body = {}
        for field, of in schema["properties"].items():
            kinds = of.get("type", "")
            kinds = kinds if isinstance(kinds, list) else [kinds]
            needed = field in schema.get("required", ())
            if "enum" in of:
                body[field] = of["enum"][0]
            elif "string" in kinds and of.get("format") != "date-time":
                body[field] = name
            elif needed and "array" in kinds:
                item = of.get("items", {})
                deeper = samples(item, document, [name]) if "$ref" in item else [name]
                body[field] = deeper
            elif needed and ("integer" in kinds or "number" in kinds):
                body[field] = of.get("minimum", 1)
            elif needed and "boolean" in kinds:
                body[field] = True
        bodies.append(body)
        bodies.append({field: one for field, one in body.items() if field in schema.get("required", ())})
    return bodies


def test_no_route_shows_or_changes_what_is_another_teams(node, teams):
    """Every route of the document, asked with one team's key for everything that the other has: under
    its ids and names, in the path, the query and the body."""
    south, north = teams["south"]["key"], teams["north"]["key"]
    of = {"key": south}
    group = call(node, "POST", "/api/v1/groups", {"name": f"{MARK} group", "description": HIDDEN}, **of)
    made = call(node, "POST", "/api/v1/devices", {
        "id": "target", "type": "free", "name": f"{MARK} pump", "description": HIDDEN, "tags": [HIDDEN],
        "groups": [group["id"]]}, **of)
    call(node, "PUT", f"/api/v1/devices/target/configuration/{MARK}", {"value": HIDDEN}, **of)
    call(node, "POST", "/api/v1/users", {"name": MARK, "password": "0123456789"}, **of)
    key = call(node, "POST", "/api/v1/keys", {"name": MARK, "scopes": ["viewer"]}, **of)
    provisioning = call(node, "POST", "/api/v1/provisioning-keys", {"name": MARK, "device_type": "free"}, **of)
    ban = call(node, "POST", "/api/v1/bans", {"kind": "client_id", "value": f"{MARK} client", "why": HIDDEN}, **of)
    credential = call(node, "GET", "/api/v1/devices/target/credentials", **of)["items"][0]
    client = device(node, made)
    client.subscribe(f"{MARK}/#")
    client.publish(f"{MARK}/kept", HIDDEN, 1, retain=True)
    client.expect((f"{MARK}/kept", HIDDEN, False))
    before = state_of(node, south)
    names = ["target", "target@south", "south", teams["south"]["id"], MARK, f"{MARK}/kept", f"{MARK}/#",
             group["id"], key["id"], provisioning["id"], ban["id"], credential["id"],
             str(made["number"]), f"{MARK} client"]
    document = call(node, "GET", "/api/v1/openapi.json", key=None)
    asked = shown = 0
    try:
        for path, item in native(document).items():
            for method, operation in item.items():
                if method not in ("get", "post", "put", "patch", "delete") or path.endswith("/shutdown"):
                    continue
                content = operation.get("requestBody", {}).get("content", {})
                schema = content.get("application/json", {}).get("schema")
                bodies = samples(schema, document, names) if schema else [None]
                holes = path.count("{")
                ways = names if holes else [None]
                for way in ways:
                    filled = path
                    while "{" in filled:
                        begin, end = filled.index("{"), filled.index("}")
                        filled = filled[:begin] + urllib.parse.quote(way, safe="") + filled[end + 1:]
                    is_first = way in (None, names[0])
                    # A team in the query is refused whatever the path and the body are.
                    queries = [""] + [f"?team={one}" for one in (teams["south"]["id"], "south") if is_first]
                    required = [one["name"] for one in operation.get("parameters", ())
                                if one["in"] == "query" and one.get("required")]
                    if required:
                        queries = ["?" + urllib.parse.urlencode({one: name for one in required}) for name in names]
                    for query in queries:
                        for body in bodies if is_first and query == queries[0] else bodies[:2]:
                            headers = {"X-API-Key": north, "If-Match": "*"}
                            text = None if body is None else json.dumps(body).encode()
                            if text:
                                headers["Content-Type"] = "application/json"
                            status, _, answer = ask(node, filled + query, method.upper(), headers, text)
                            asked += 1
                            assert status < 500 or status in (503,), (method, filled, query, body, answer)
                            shown += status < 300
                            assert HIDDEN.encode() not in answer, (method, filled, query, body, answer)
        assert asked > 1000 and shown > 50, (asked, shown)
        assert state_of(node, south) == before
        assert not client.ended.is_set()
        assert client.got == [(f"{MARK}/kept", HIDDEN, False)]
    finally:
        client.close()


@pytest.fixture
def stack():
    with contextlib.ExitStack() as stack:
        yield stack


@in_a_file
@pytest.mark.parametrize("by", ["key", "membership", "websocket"])
def test_a_stream_ends_at_once_with_the_right_to_it(node, teams, stack, by):
    """A key that is revoked; a member of two teams who is one of the other alone from now on."""
    headers = {"Accept": "text/event-stream"}
    if by == "membership":
        call(node, "POST", "/api/v1/users", {"name": "mem", "password": "correct horse"})
        for name in TEAMS:
            call(node, "PUT", f"/api/v1/teams/{teams[name]['id']}/members/mem", {"role": "administrator"})
        login = json.dumps({"user": "mem", "password": "correct horse"}).encode()
        _, answered, _ = ask(node, "/api/v1/session", "POST", {"Content-Type": "application/json"}, login)
        headers["Cookie"] = answered["Set-Cookie"].split(";")[0]
    else:
        made = call(node, "POST", "/api/v1/keys", {
            "name": "reads", "team": teams["north"]["id"], "scopes": ["events:read"]})
        headers["X-API-Key"] = made["key"]
    if by == "websocket":
        url = node.http_url.replace("http:", "ws:") + "/api/v1/events"
        stream = stack.enter_context(
            websockets.sync.client.connect(url, additional_headers={"X-API-Key": made["key"]}))
    else:
        place = urllib.parse.urlsplit(node.http_url)
        wire = http.client.HTTPConnection(place.hostname, place.port, timeout=DEADLINE_SECS)
        wire.request("GET", "/api/v1/events?kinds=connected", headers=headers)
        stream = wire.getresponse()
        assert stream.status == 200, stream.read()
    if by == "membership":
        # Of the two, whichever the session is for.
        asked = ask(node, "/api/v1/teams", headers={"Cookie": headers["Cookie"]})[2]
        [of] = [one for one in TEAMS if teams[one]["id"] == json.loads(asked)["items"][0]["id"]]
        call(node, "DELETE", f"/api/v1/teams/{teams[of]['id']}/members/mem")
    else:
        call(node, "DELETE", f"/api/v1/keys/{made['id']}")
    if by == "websocket":
        with pytest.raises(websockets.exceptions.ConnectionClosed):
            while True:
                stream.recv(timeout=DEADLINE_SECS)
    else:
        stream.read()


@in_a_file
def test_explain_knows_who_is_of_a_team_by_the_name_that_they_come_by(node, teams):
    asked = "/api/v1/acl/explain?user=pump@north&action=publish&topic=a"
    assert call(node, "GET", asked)["outcome"] == "permitted"
    assert call(node, "GET", f"{asked}&team=south")["outcome"] != "permitted"
    found = martlet_process.run("acl", "explain", "pump@north", "publish", "a", "--data-dir", node.data_dir)
    assert found.returncode == 0, found.stdout
