"""What teams share: names of what they add, the turns of their rules, and the part of the node that one team may have."""

import concurrent.futures
import itertools
import json
import secrets
import time
import urllib.request

import pytest

import martlet_process
from test_access import until
from paho_client import Client, properties
from test_http_registry import KEY, ask, call
from test_tenants import TEAMS, Device, device, make_teams

# It takes as many steps as a rule may use for one message.
COSTLY = " || ".join(["json(payload) == ''"] * 40)


@pytest.fixture
def teams(node):
    return make_teams(node)


@pytest.fixture
def node(start_node, variables, tmp_path):
    return start_node(http=True, variables=variables, data_dir=tmp_path / "data", settings=[
        "http.rate=0", "telemetry.enabled=true", "telemetry.text_bytes=65536", "limits.memory_bytes=64000000", "limits.team_percent=50"])


def metrics(node):
    return ask(node, "/metrics", headers={"X-API-Key": KEY})[2].decode()


def shares(node, key=KEY, query=""):
    """What is used of what all teams share, by team and pool, in the order of the answer."""
    items = call(node, "GET", f"/api/v1/shares{query}", key=key)["items"]
    return {(one["team"], one["pool"]): one for one in items}


def warnings(node, path="/api/v1/health", key=KEY):
    """Sentences of health about shares of teams."""
    _, _, body = ask(node, path, headers={"X-API-Key": key} if key else {})
    return [one for one in json.loads(body)["warnings"] if "share of" in one]


def test_names_are_names_within_a_team(node, teams, tmp_path):
    hook = lambda filter: {"url": "https://example.invalid/", "filters": [filter]}
    bridge = lambda filter: {"url": "mqtt://example.invalid:1", "topics": [f"{filter} out"]}
    rule = lambda filter: {"topics": [filter], "actions": ["stop"]}
    kinds = (("webhooks", hook), ("bridges", bridge), ("rules", rule))
    for kind, made in kinds:
        for team in TEAMS:
            call(node, "PUT", f"/api/v1/{kind}/main", made(team), key=teams[team]["key"], expect=201)
            call(node, "PUT", f"/api/v1/{kind}/main", made(team), key=teams[team]["key"], expect=200)
        # Who sees all teams names one.
        problem = call(node, "GET", f"/api/v1/{kind}/main", expect=404)
        assert "several teams" in problem["detail"], problem
        call(node, "PUT", f"/api/v1/{kind}/main", made("all"), expect=201)
        found = lambda query, key=KEY: call(node, "GET", f"/api/v1/{kind}/main{query}", key=key)
        texts = [json.dumps(found("", teams[team]["key"])) for team in TEAMS]
        assert all(f'"{team}' in text for team, text in zip(TEAMS, texts)), texts
        assert '"all' in json.dumps(found("")) and '"south' in json.dumps(found("?team=south"))
    page = metrics(node)
    for name in ("main", "north/main", "south/main"):
        for of in ('kind="webhook"', 'kind="bridge"', 'kind="rules"'):
            assert page.count(f'martlet_integration_in_hand_messages{{{of},name="{name}"}}') == 1, (name, of)
        assert page.count(f'martlet_rules_messages_total{{rule="{name}"}}') == 1, name
    key = teams["north"]["key"]
    of_kind = lambda items: [(one["name"], one["full_name"]) for one in items if one["kind"] == "webhook"]
    listed = call(node, "GET", "/api/v1/integrations", key=key)["items"]
    assert of_kind(listed) == [("main", "north/main")]
    # Each order goes to the own one.
    call(node, "POST", "/api/v1/integrations/webhook/main/pause", key=key)
    state = lambda query: call(node, "GET", f"/api/v1/integrations/webhook/main{query}")["state"]
    assert (state("?team=north"), state("?team=south") != "paused", state("") != "paused") == ("paused", True, True)
    data = str(tmp_path / "data")
    run = lambda *words: martlet_process.run(*words, "--data-dir", data)
    shown = run("integration", "show", "webhook/north/main")
    assert shown.returncode == 0 and "paused" in shown.stdout, shown
    assert "\norder        publisher\n" in shown.stdout, shown
    assert "webhook/north/main" in run("why", "webhook/main", "--team", "north").stdout
    call(node, "DELETE", "/api/v1/rules/none", expect=404)
    removed = run("rule", "rm", "--team", "south", "main")
    assert removed.returncode == 0, removed
    assert call(node, "GET", "/api/v1/rules", key=teams["south"]["key"])["items"] == []
    for kind, _ in kinds:
        call(node, "DELETE", f"/api/v1/{kind}/main", key=key, expect=204)
        call(node, "GET", f"/api/v1/{kind}/main", key=key, expect=404)
        call(node, "GET", f"/api/v1/{kind}/main")


def test_rules_of_a_team_do_not_wait_for_those_of_another(node, teams):
    """By order: what one team's rules make of a message comes while another team's queue is not empty."""
    rule = {"topics": ["t"], "actions": [{"publish": {"topic": "seen", "payload": "{{ payload }}"}}]}
    for team in TEAMS:
        call(node, "PUT", "/api/v1/rules/pass-on", rule, key=teams[team]["key"])
    readers = {team: device(node, teams[team]["reader"]) for team in TEAMS}
    pumps = {team: device(node, teams[team]["pump"]) for team in TEAMS}
    for reader in readers.values():
        reader.subscribe("seen")
    north = teams["north"]["key"]
    queue = lambda: call(node, "GET", "/api/v1/integrations/rules/main", key=north)
    call(node, "POST", "/api/v1/integrations/rules/main/pause", key=north)
    for number in range(20):
        pumps["north"].publish("t", str(number))
    pumps["south"].publish("t", "0")
    readers["south"].expect(("seen", "0", False))
    assert readers["north"].got == [] and queue()["state"] == "paused"
    call(node, "POST", "/api/v1/integrations/rules/main/resume", key=north)
    readers["north"].expect(*[("seen", str(number), False) for number in range(20)])
    # Many rules that cost as much as they may.
    costly = {"topics": ["burn"], "when": COSTLY, "actions": ["stop"]}
    for number in range(40):
        call(node, "PUT", f"/api/v1/rules/burn-{number}", costly, key=north)
    for _ in range(5):
        pumps["north"].publish("burn", json.dumps(["x" * 50] * 1000))
    pumps["south"].publish("t", "1")
    readers["south"].expect(("seen", "0", False), ("seen", "1", False))
    looked = sum(one["counts"]["messages"] for one in call(node, "GET", "/api/v1/rules", key=north)["items"]
                 if one["name"].startswith("burn"))
    assert looked < 200, "the rules of the other team were not through"
    for one in (*readers.values(), *pumps.values()):
        one.close()


def test_the_results_of_queries_are_bounded_for_one_team(node, teams):
    """A team may have 4 of the 8 MB for results. What is beyond is refused, and another team's query is answered."""
    for team in TEAMS:
        key = teams[team]["key"]
        for first in range(0, 80, 10):
            batch = [{"ts": 1790000000000 + number, "values": {"text": "x" * 60_000}} for number in range(first, first + 10)]
            call(node, "POST", "/api/v1/devices/pump/telemetry", batch, key=key)
    query = lambda team, limit: ask(
        node, f"/api/v1/query?device=pump&from=2020-01-01T00:00:00Z&limit={limit}",
        headers={"X-API-Key": teams[team]["key"]})
    status, _, text = query("north", 1_000)
    assert status == 503 and b"results of queries" in text, (status, text[:200])
    assert query("north", 5)[0] == 200
    with concurrent.futures.ThreadPoolExecutor(60) as pool:
        asked = [pool.submit(query, "north", 20) for _ in range(60)]
        assert query("south", 5)[0] == 200
        assert {one.result()[0] for one in asked} <= {200, 503}
    assert query("north", 5)[0] == 200


def test_one_team_has_its_share_of_sessions_connections_and_retained_messages(start_node, variables, tmp_path):
    data = str(tmp_path / "data")
    run = lambda *words: martlet_process.run(*words, "--data-dir", data)
    node = start_node(http=True, variables=variables, data_dir=data, settings=[
        "http.rate=0", "limits.team_percent=20", "limits.sessions=25", "limits.connections=17",
        "limits.retained_messages=15"])
    teams = make_teams(node)
    for number in range(4):
        for team in TEAMS:
            made = {"id": f"more-{number}", "type": "free"}
            teams[team][number] = call(node, "POST", "/api/v1/devices", made, key=teams[team]["key"])
    clients = [device(node, teams["north"][number], kept_secs=600) for number in range(2)]
    numbers = lambda found, *which: [found[which][field] for field in ("used", "share", "limit")]
    found = shares(node)
    assert numbers(found, "north", "connections") == [2, 3, 17]
    assert numbers(found, "north", "sessions") == [2, 5, 25]
    assert ("south", "connections") not in found, "it uses none"
    clients.append(device(node, teams["north"][2], kept_secs=600))
    assert [client.code.value for client in clients] == [0, 0, 0]
    refused = device(node, teams["north"][3])
    assert refused.code.is_failure, refused.code
    refused.close()
    # It has reached its share: it is the first in the list, and why names the share.
    found = shares(node)
    assert list(found)[0] == ("north", "connections")
    assert numbers(found, "north", "connections") == [3, 3, 17] and found["north", "connections"]["used_ratio"] == 1
    assert 'martlet_team_share_used_ratio{team="north",pool="connections"} 1.0\n' in metrics(node)
    told = run("why", "more-3@north").stdout
    assert "its share of the connections (limits.team_percent of what others leave of 17)" in told, told
    # Each team sees its own: the other one has a part of what the first one leaves.
    for team, used, share in (("north", 3, 3), ("south", 0, 2)):
        seen = shares(node, teams[team]["key"])
        assert {one for one, _ in seen} == {team} and numbers(seen, team, "connections") == [used, share, 17]
        # Other programs use the disk, so its share changes.
        steady = lambda items: [one for one in items if one["pool"] != "stored_bytes"]
        assert steady(seen.values()) == steady(shares(node, query=f"?team={team}").values())
        shown = run("team", "show", team, "--json")
        assert steady(json.loads(shown.stdout)["items"]) == steady(seen.values()), shown
    call(node, "GET", "/api/v1/shares?team=south", key=teams["north"]["key"], expect=403)
    plain = call(node, "POST", "/api/v1/devices", {"id": "plain", "type": "free"})
    common = device(node, plain)
    assert numbers(shares(node), None, "connections") == [1, None, 17]
    common.close()
    [row] = [line.split() for line in run("team", "show").stdout.splitlines() if "north  connections" in line]
    assert row == ["north", "connections", "3", "3", "17", "count", "100", "%"]
    others = [device(node, teams["south"][number]) for number in range(3)]
    assert [client.code.value for client in others[:2]] == [0, 0] and others[2].code.is_failure
    others.pop().close()
    # Something is left for those who belong to no team. Then north has more than its share, and keeps what it has.
    more = [plain, *(call(node, "POST", "/api/v1/devices", {"id": f"plain-{number}", "type": "free"}) for number in range(2))]
    commons = [device(node, made) for made in more]
    assert [common.code.value for common in commons] == [0, 0, 0]
    assert numbers(shares(node), "north", "connections") == [3, 2, 17]
    again = device(node, teams["north"][0], kept_secs=600)
    assert again.code.value == 0, "it takes over"
    clients[0] = again
    for common in commons:
        common.close()
    until(lambda: numbers(shares(node), "south", "connections") == [2, 2, 17] and (None, "connections") not in shares(node),
          "their connections have ended")
    # One that has gone makes room; its session is still one of four.
    clients.pop().close()
    clients.append(device(node, teams["north"][3], kept_secs=600))
    assert clients[-1].code.value == 0
    clients.pop().close()
    refused = device(node, teams["north"]["reader"])
    assert refused.code.is_failure, refused.code
    refused.close()
    for number in range(4):
        clients[0].publish(f"kept/{number}", "x", retain=True)
        others[0].publish(f"kept/{number}", "x", retain=True)
    kept = lambda team: [one["topic"] for one in call(
        node, "GET", "/api/v1/retained", key=teams[team]["key"])["items"] if one["topic"].startswith("kept/")]
    assert kept("north") == kept("south") == ["kept/0", "kept/1"]
    found = shares(node)
    for team in TEAMS:
        assert numbers(found, team, "retained_messages") == [2, 2, 15]
        assert 0 < found[team, "retained_bytes"]["used"] < 1000
    for one in (*clients, *others):
        one.close()


def test_one_team_has_its_share_of_stored_messages(start_node, variables, tmp_path):
    node = start_node(http=True, variables=variables, data_dir=tmp_path / "data", settings=[
        "http.rate=0", "limits.store_bytes=67108864", "limits.store_stalled_secs=5"])
    teams = make_teams(node)

    def client(team, who, **how):
        made = teams[team][who]
        return Client(node, made["id"], **how).credentials(made["user_name"], made["secret"])

    def lasting(team):
        kept = properties("CONNECT", SessionExpiryInterval=3600)
        return client(team, "reader", clean=False, properties=kept)

    for team in TEAMS:
        with lasting(team) as reader:
            assert reader.subscribe("d/#", qos=1) == [1]
    # It publishes for a reader that is away, until its messages wait for too long.
    payload, acknowledged = "x" * 200_000, 0
    north = client("north", "pump").start()
    with pytest.raises(AssertionError, match="not acknowledged"):
        for acknowledged in range(2000):
            north.publish(f"d/{acknowledged}", payload)
    assert "limits.team_percent" in north.ended_because, north.ended_because
    north.client.loop_stop()
    found = shares(node)["north", "stored_bytes"]
    # Half of what limits.store_bytes leaves beside ballast and spare segment is shared: half of that, and a little more.
    assert 19 << 20 <= found["limit"] <= 20 << 20 and 9 << 20 <= found["used"] < 12 << 20, found
    assert "its share of the message store" in martlet_process.run(
        "why", "pump@north", "--data-dir", str(tmp_path / "data")).stdout
    [warning] = warnings(node)
    assert "Team north has its share of the message store" in warning and "raise limits.team_percent" in warning
    [without_names] = warnings(node, "/health/ready", key=None)
    assert without_names == warning.replace("Team north", "A team")
    # The other team has room, and so has the first one when its reader takes what waits.
    with client("south", "pump") as south:
        for number in range(20):
            south.publish(f"d/{number}", payload)
    with lasting("north") as reader, client("north", "pump") as north:
        topics = {reader.receive().topic for _ in range(acknowledged)}
        assert topics >= {f"d/{number}" for number in range(acknowledged)}
        north.publish("d/again", payload)
    until(lambda: warnings(node) == [], "health warns no more")


def test_one_team_has_its_share_of_subscriptions_and_of_telemetry(start_node, variables):
    node = start_node(http=True, variables=variables, settings=[
        "http.rate=0", "telemetry.enabled=true", "telemetry.series=45", "limits.team_percent=5",
        "limits.memory_bytes=16777216", "telemetry.keep_bytes=1048576"])
    teams = make_teams(node)
    readers = {team: device(node, teams[team]["reader"]) for team in TEAMS}
    filters = [f"{'x' * 1000}/{number}" for number in range(400)]
    for team in TEAMS:
        found = readers[team].codes_of(filters)
        # The reader's shard has half of 5 % of 14.7 MB: 164 subscriptions of 2,238 bytes, or 156 beside the other team's.
        assert (sorted(set(found)), found) == ([1, 0x97], sorted(found)) and 154 < found.count(1) < 168, found
        [used] = [one for one in shares(node, teams[team]["key"]).values() if one["pool"] == "subscription_bytes"]
        # The other shard has none, so half of the share is used.
        assert 0.98 < used["used_ratio"] <= 1 and 0.48 < used["used"] / used["share"] < 0.52, used
    values = "/api/v1/devices/pump/telemetry"
    for team in TEAMS:
        key = teams[team]["key"]
        keys = lambda: shares(node, key)[team, "telemetry_keys"]
        call(node, "POST", values, {"a": 1}, key=key)
        assert (keys()["used"], keys()["share"], keys()["limit"]) == (1, 2, 45)
        call(node, "POST", values, {"b": 1}, key=key)
        assert keys()["used_ratio"] == 1
        refused = call(node, "POST", values, {"c": 1}, key=key, expect=422)
        assert "the team has its share" in refused["detail"] and "limits.team_percent" in refused["detail"], refused
        [rejected] = call(node, "GET", "/api/v1/telemetry/rejected", key=key)["items"]
        assert rejected["reason"] == "team_series"
        # Known keys are stored still, and what was deleted makes room.
        call(node, "POST", values, {"a": 2}, key=key)
        call(node, "DELETE", f"{values}?keys=a&from=*&to=*", key=key)
        assert keys()["used"] == 1
        call(node, "POST", values, {"c": 1}, key=key)
    north, south = (teams[team]["key"] for team in TEAMS)
    # A team has its share of the values of today and later.
    at_ms = lambda: int(time.time() * 1000) + 40_000_000
    batch = lambda: [{"ts": at_ms() + place, "values": {"c": secrets.token_hex(1500)}} for place in range(10)]
    sent = lambda key: ask(node, values, "POST", {"X-API-Key": key, "Content-Type": "application/json"},
                           json.dumps(batch()).encode())
    answers = []
    until(lambda: ("north", "telemetry_bytes") in shares(node, north), "bytes are counted after the start")
    until(lambda: answers.append(sent(north)) or answers[-1][0] != 201, "the team has its share of the bytes")
    status, _, body = answers[-1]
    assert status == 422 and b"share of the bytes" in body and b"limits.team_percent" in body, (status, body)
    assert call(node, "GET", "/api/v1/telemetry/rejected", key=north)["items"][0]["reason"] == "team_bytes"
    used = shares(node, north)["north", "telemetry_bytes"]
    assert used["limit"] == 1048576 and used["used"] >= used["share"] > 45_000 and used["used_ratio"] >= 1, used
    assert sent(south)[0] == 201
    call(node, "DELETE", f"{values}?keys=c&from=*&to=*", key=north)
    until(lambda: sent(north)[0] == 201, "what was deleted makes room")
    for one in readers.values():
        one.close()


def test_a_team_does_not_fill_the_file_of_telemetry_and_deletions_work_in_a_full_one(start_node, variables):
    """The file is so small that all values would fit into memory, where they wait to be packed."""
    node = start_node(http=True, variables=variables, settings=[
        "http.rate=0", "telemetry.enabled=true", "telemetry.file_bytes=12000000"])
    teams = make_teams(node)
    north, south = (teams[team]["key"] for team in TEAMS)
    call(node, "POST", "/api/v1/devices", {"id": "plain", "type": "free"})
    values = lambda name: f"/api/v1/devices/{name}/telemetry"
    numbers = itertools.count(1_790_000_000_000)

    def send(key, name="pump", count=200):
        batch = [{"ts": next(numbers), "values": {"text": secrets.token_hex(1500)}} for _ in range(count)]
        headers = {"X-API-Key": key, "Content-Type": "application/json"}
        status, _, body = ask(node, values(name), "POST", headers, json.dumps(batch).encode())
        return status, body

    def fill(key, name="pump"):
        """Returns the first answer that is not 201, and how many came before."""
        for count in range(30):
            status, body = send(key, name)
            if status != 201:
                return status, body, count
        raise AssertionError("it is never full")

    call(node, "POST", values("pump"), {"a": 1}, key=north)
    until(lambda: ("north", "telemetry_bytes") in shares(node, north), "bytes are counted after the start")
    status, body, count = fill(north)
    # A batch has 600 kB, more in the file; half of that is 6 MB.
    assert status == 422 and b"share of the bytes" in body and 4 <= count <= 12, (status, body, count)
    assert call(node, "GET", "/api/v1/telemetry/rejected", key=north)["items"][0]["reason"] == "team_bytes"
    until(lambda: warnings(node) != [], "health warns")
    [warning] = warnings(node)
    assert "Team north has its share of the bytes of telemetry" in warning, warning
    assert "north" not in str(warnings(node, "/health/ready", key=None))
    assert send(south)[0] == 201 and send(south)[0] == 201
    # Who belongs to no team fills the rest. Then all can delete, and have room again.
    status, body, _ = fill(KEY, "plain")
    assert status == 503, (status, body)
    call(node, "DELETE", f"{values('pump')}?from=*&to=*", key=south)
    until(lambda: send(south, count=50)[0] == 201, "what was deleted is counted")
    call(node, "DELETE", f"{values('pump')}?from=*&to=*", key=north)
    until(lambda: send(north)[0] == 201, "what was deleted makes room")
    until(lambda: warnings(node) == [], "health warns no more")


def test_shares_of_what_teams_add_and_of_what_they_follow(start_node, variables):
    node = start_node(http=True, variables=variables, settings=[
        "http.rate=0", "telemetry.enabled=true", "firmware.total_bytes=1000", "limits.team_percent=4"])
    teams = make_teams(node)
    north, south = (teams[team]["key"] for team in TEAMS)
    plain = call(node, "POST", "/api/v1/teams", {"name": "plain"})
    hook = lambda name, key, expect=201: call(
        node, "PUT", f"/api/v1/webhooks/{name}", {"url": "https://example.invalid/", "filters": ["t"]}, key=key, expect=expect)
    hook("one", KEY)
    hook("one", south)
    for name in ("one", "two"):
        hook(name, north)
    used = lambda key, team, pool: [shares(node, key)[team, pool][field] for field in ("used", "share", "limit")]
    assert used(north, "north", "webhooks") == [2, 3, 100]
    hook("three", north)
    refused = hook("four", north, expect=409)
    assert "3 integrations" in refused["detail"], refused
    assert used(north, "north", "webhooks") == [3, 3, 100]
    assert used(south, "south", "webhooks") == [1, 3, 100]
    assert used(KEY, None, "webhooks") == [1, None, 100]
    rule = {"topics": ["t"], "when": "payload > previous + 10", "actions": ["stop"]}
    call(node, "PUT", "/api/v1/rules/first", rule, key=north)
    assert used(north, "north", "rules") == [1, 40, 1000]
    pump = device(node, teams["north"]["pump"])
    pump.publish("t", "1")
    pump.close()
    until(lambda: used(north, "north", "previous_values") == [1, 50000, 50000], "the payload is remembered")
    upload = "/api/v1/firmware?name=pump&version=1&device_type=free"
    call(node, "POST", upload, b"x" * 20, key=north, kind="application/octet-stream")
    assert used(north, "north", "firmware_bytes") == [20, 40, 1000]
    url = f"{node.http_url}/api/v1/telemetry/tail?device=pump"
    with urllib.request.urlopen(urllib.request.Request(url, headers={"X-API-Key": north})):
        assert used(north, "north", "telemetry_streams") == [1, 10, 256]
        assert used(south, "south", "telemetry_streams") == [0, 10, 256]
    # A team without a tenant of its own has no clients.
    of_plain = {pool for _, pool in shares(node, query=f"?team={plain['id']}")}
    assert "webhooks" in of_plain and not of_plain & {"connections", "sessions", "telemetry_keys"}
