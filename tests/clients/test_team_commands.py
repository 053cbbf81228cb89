"""Commands about devices, users, clients and topics of a team, and what is deleted and comes back."""

import datetime
import json
import os
import re
import shlex
import subprocess

import pytest

import martlet_process
from paho_client import Client
from test_access import publish, until
from test_registry import DEADLINE_SECS, Place, device, martlet, place, start  # noqa: F401


def shown(place, *arguments):
    return json.loads(place.run(*arguments, "--json"))


def ids(place, *options):
    return [one["user_name"] for one in shown(place, "device", "ls", *options)["items"]]


def is_in(node, name, secret):
    return publish(node, f"d/{name}/x", "-i", name, "-u", name, "-P", secret)[0] == 0


def test_a_deleted_device_is_gone_at_once_and_comes_back_as_it_was(start, place):
    secret = place.device("d1", "--name", "Pump of the cellar")
    node = start()
    with device(node, "d1", secret) as connected:
        said = place.run("device", "rm", "d1")
        connected.wait_for_end()
    assert "The name stays reserved until 20" in said and "(registry.deleted_keep_days)" in said
    node_of = f"--data-dir={place.path}"
    assert f"martlet device restore {node_of} d1\n" in said and f"martlet device rm --purge {node_of} d1\n" in said
    assert not is_in(node, "d1", secret)
    assert ids(place) == [] and ids(place, "--deleted") == ["d1"]
    [listed] = shown(place, "device", "ls", "--deleted")["items"]
    header, line = place.run("device", "ls", "--deleted").splitlines()
    kept_until = datetime.datetime.fromisoformat(listed["deleted_at"]) + datetime.timedelta(days=30)
    assert header.split()[2] == "UNTIL" and line.split()[:3] == ["d1", "deleted", kept_until.date().isoformat()]
    for command in (["show"], ["rotate"], ["set", "--name=x"], ["rm"]):
        said = place.run("device", *command, "d1", code=1)
        assert "there is no device d1: it was deleted" in said and f"martlet device restore {node_of} d1 " in said
    assert f"martlet device restore {node_of} d1 " in place.run("device", "add", "d1", code=1), "its id stays taken"
    assert shown(place, "device", "restore", "d1")["name"] == "Pump of the cellar"
    assert is_in(node, "d1", secret) and ids(place, "--deleted") == []
    assert "the device d1 is not deleted" in place.run("device", "restore", "d1", code=1)


def test_a_list_of_devices_with_a_kind_shows_it(place):
    place.device("d1")
    assert "KIND" not in place.run("device", "ls")
    place.device("d2", "--kind", "valve")
    header, one = place.run("device", "ls", "--kind", "valve").splitlines()
    assert header.split() == ["DEVICE", "STATUS", "ONLINE", "TYPE", "KIND", "CREDENTIALS", "NAME"]
    assert one.split()[:5] == ["d2", "active", "never", "device", "valve"]
    assert place.run("device", "ls").splitlines()[1].split()[4] == "-"


def test_what_is_advised_about_a_device_of_a_team_leaves_that_of_another_tenant_alone(place):
    """A device of the same id in the common tenant: what is printed, pasted into a shell, is about the other one."""
    place.run("team", "add", "north", "--own-tenant")
    place.device("pump")
    place.run("device", "add", "pump", "--team", "north")

    def advised(*arguments):
        said = place.run("device", *arguments, "--team", "north", code=1)
        found = re.findall(r"martlet (device .*? pump)\b", said)
        assert found and all("--team=north" in one for one in found), said
        return found

    assert [shlex.split(one)[1] for one in advised("add", "pump")] == ["rotate"]
    place.run("device", "rm", "pump", "--team", "north")
    for arguments in (["show", "pump"], ["rotate", "pump"], ["set", "pump", "--name=x"], ["rm", "pump"]):
        [restore] = advised(*arguments)
    martlet(*shlex.split(restore))
    assert sorted(ids(place)) == ["pump", "pump@north"]
    place.run("device", "rm", "pump", "--team", "north")
    restore, purge = advised("add", "pump")
    martlet(*shlex.split(restore))
    martlet(*shlex.split(purge), "--yes")
    assert ids(place) == ["pump"] and ids(place, "--deleted") == []
    assert shown(place, "device", "show", "pump")["credentials"] == 1
    said = place.run("device", "add", "valve", "--team", "north", "--group", "hall", code=1)
    assert f"martlet group add --data-dir={place.path} --team=north hall" in said, said


@pytest.mark.parametrize("name", ("-d", "--json", "a b", "it's"))
@pytest.mark.parametrize("noun, team", (("device", None), ("device", "-ops"), ("user", None), ("team", None)))
def test_commands_that_are_printed_about_what_is_deleted_are_typed_as_they_are(place, noun, team, name):
    """Names that begin with a dash or need quotes, and a team of such a name."""
    if team:
        martlet("team", "add", "--own-tenant", "--data-dir", place.path, "--", team)
    of = [f"--data-dir={place.path}", *([f"--team={team}"] if team else [])]
    password = {"user": ["--generate"]}.get(noun, [])

    def run(action, *options, code=0):
        return martlet(noun, action, *of, *options, "--", name, code=code)

    def typed(said, action):
        """The one command that does this, as it was printed."""
        begin = re.escape(f"martlet {noun} {action} --data-dir=")
        found = re.findall(rf"{begin}.*?(?= restores it|, martlet| removes it|\n|$)", said)
        assert found, said
        return shlex.split(found[0])[1:]

    run("add", *password)
    martlet(*typed(run("rm"), "restore"))
    purge = typed(run("rm"), "rm --purge")
    said = run("add", *password, code=1)
    assert typed(said, "rm --purge") == purge
    martlet(*typed(said, "restore"))
    run("rm")
    martlet(*purge[:2], "--yes", *purge[2:])
    run("add", *password)


@pytest.mark.parametrize("deleted", (False, True), ids=("there", "deleted"))
def test_what_is_purged_is_gone_for_good_and_its_id_is_free(place, deleted):
    place.device("d1")
    if deleted:
        place.run("device", "rm", "d1")
    assert "permanently" in place.run("device", "rm", "d1", "--purge", "--yes")
    assert ids(place) == ids(place, "--deleted") == []
    assert "no device d1" in place.run("device", "restore", "d1", code=1)
    place.device("d1")
    place.run("device", "rm", "d1", "--yes", code=2)


@pytest.mark.parametrize("answer", ("n", "", "yes"), ids=("no", "nothing", "yes"))
def test_at_a_terminal_it_is_asked_before_something_is_gone_for_good(place, answer):
    place.device("d1")
    terminal, end = os.openpty()
    try:
        command = subprocess.Popen([martlet_process.binary(), "device", "rm", "d1", "--purge", "--data-dir", str(place.path)],
                                   stdin=end, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                   env=martlet_process.environment())
        os.write(terminal, f"{answer}\n".encode())
        _, said = command.communicate(timeout=DEADLINE_SECS)
    finally:
        os.close(terminal)
        os.close(end)
    assert "Remove the device d1 permanently" in said and "[y/N]" in said
    assert command.returncode == (0 if answer == "yes" else 1), said
    assert ids(place) == ([] if answer == "yes" else ["d1"])


def test_a_deleted_user_comes_back_with_the_password_or_is_purged(start, place):
    place.user("bob")
    place.user("alice")
    node = start()

    def may():
        return publish(node, "t", "-u", "alice", "-P", "secret")[0] == 0

    def names(*options):
        return [one["name"] for one in shown(place, "user", "ls", *options)["items"]]

    assert may() and f"martlet user restore --data-dir={place.path} alice\n" in place.run("user", "rm", "alice")
    assert not may() and names() == ["bob"] and names("--deleted") == ["alice"]
    assert "deleted" in place.run("user", "ls", "--deleted") and "enabled" not in place.run("user", "ls", "--deleted")
    again = martlet("user", "add", "alice", "--weak", "--data-dir", place.path, given="other\n", code=1)
    assert f"martlet user restore --data-dir={place.path} alice " in again
    place.run("user", "restore", "alice")
    assert may() and names() == ["alice", "bob"]
    place.run("user", "rm", "alice", "--purge", "--yes")
    assert not may() and names("--deleted") == []
    place.user("alice", password="another one")
    assert not may()


def test_commands_reach_the_devices_of_one_team_and_leave_those_of_others(start, place):
    for team in ("north", "south"):
        place.run("team", "add", team, "--own-tenant")
    common = shown(place, "device", "add", "pump")
    made = {team: shown(place, "device", "add", "pump", "--team", team) for team in ("north", "south")}
    assert common["user_name"] == "pump" and made["north"]["user_name"] == "pump@north"
    assert "-u pump@north " in made["north"]["try"]
    assert sorted(ids(place)) == ["pump", "pump@north", "pump@south"]
    assert ids(place, "--team", "north") == ["pump@north"]
    north = {one["name"]: one["id"] for one in shown(place, "team", "ls")["items"]}["north"]
    assert shown(place, "device", "show", "pump", "--team", north)["team"] == north
    # As it connects.
    assert shown(place, "device", "show", "pump@north")["team"] == north
    node = start()

    def is_in(user_name, secret):
        return publish(node, "d/pump/x", "-i", "pump", "-u", user_name, "-P", secret)[0] == 0

    def all_in():
        all_of = {"common": common, **made}
        return {team for team, one in all_of.items() if is_in(one["user_name"], one["secret"])}

    everybody = {"common", "north", "south"}
    assert all_in() == everybody
    with device(node, "pump@north", made["north"]["secret"], client_id="pump") as ended, \
            device(node, "pump@south", made["south"]["secret"], client_id="pump") as stays:
        place.run("device", "set", "pump", "--team", "north", "--status", "inactive")
        ended.wait_for_end()
        stays.publish("d/pump/x", "1", qos=1)
    assert all_in() == everybody - {"north"}
    place.run("device", "set", "pump", "--team", "north", "--status", "active")
    made["north"] |= shown(place, "device", "rotate", "pump", "--team", "north", "--now")
    assert all_in() == everybody
    said = place.run("device", "rm", "pump", "--team", "south")
    assert f"martlet device restore --data-dir={place.path} --team=south pump\n" in said
    assert all_in() == everybody - {"south"} and ids(place, "--deleted") == ["pump@south"]
    assert "the device pump is not deleted" in place.run("device", "restore", "pump", "--team", "north", code=1)
    place.run("device", "restore", "pump", "--team", "south")
    place.run("device", "rm", "pump", "--team", "north", "--purge", "--yes")
    assert all_in() == everybody - {"north"} and ids(place, "--deleted") == []
    assert "there is no team nowhere" in place.run("device", "ls", "--team", "nowhere", code=1)


def test_what_a_team_has_moves_by_a_table_and_its_groups_take_its_devices(place):
    place.run("team", "add", "north", "--own-tenant")
    place.device("pump")
    place.run("device", "import", "-", "--team", "north", given="id,name\npump,Pump\nmeter,Meter\n")
    assert sorted(ids(place, "--team", "north")) == ["meter@north", "pump@north"]
    place.run("group", "add", "site", "--team", "north")
    place.run("group", "member", "add", "site", "pump")
    assert shown(place, "device", "show", "pump", "--team", "north")["groups"]
    assert not shown(place, "device", "show", "pump")["groups"]
    table = place.run("device", "export", "--team", "north")
    for one in ("pump", "meter"):
        place.run("device", "rm", one, "--team", "north", "--purge")
    place.run("device", "import", "-", given=table)
    assert sorted(ids(place, "--team", "north")) == ["meter@north", "pump@north"]


def test_clients_sessions_and_retained_messages_of_a_team(start, place):
    place.run("team", "add", "north", "--own-tenant")
    north = shown(place, "device", "add", "pump", "--team", "north")
    common = shown(place, "device", "add", "pump")
    node = start()
    with device(node, "pump@north", north["secret"], client_id="pump") as of_north, \
            device(node, "pump", common["secret"]) as of_all:
        of_north.subscribe("d/pump/#", 1)
        of_north.publish("d/pump/kept", "north", qos=1, retain=True)
        of_all.publish("d/pump/kept", "all", qos=1, retain=True)
        of_team = ("--team", "north")
        listed = shown(place, "client", "ls", *of_team)["items"]
        assert [one["client_id"] for one in listed] == ["pump"]
        found = shown(place, "client", "show", "pump", *of_team)
        assert len(found["subscriptions"]) == 1
        assert shown(place, "client", "show", "pump")["subscriptions"] == []
        filters = [one["filter"] for one in shown(place, "client", "subscriptions", *of_team)["items"]]
        assert filters == ["d/pump/#"]
        others = shown(place, "client", "subscriptions")["items"]
        # The node is a client of its own.
        assert [one for one in others if not one["client_id"].startswith("$")] == []
        assert place.run("retained", "get", "d/pump/kept", *of_team) == "north"
        assert place.run("retained", "get", "d/pump/kept") == "all"
        assert "1 retained" in place.run("retained", "rm", "#", *of_team)
        assert shown(place, "retained", "ls", *of_team)["items"] == []
        assert len(shown(place, "retained", "ls")["items"]) == 1
        place.run("client", "kick", "pump", *of_team)
        of_north.wait_for_end()
        of_all.publish("d/pump/x", "1", qos=1)
    for command in (["client", "ls"], ["retained", "ls"], ["session", "rm", "pump"]):
        assert "no team" in place.run(*command, "--team", "nowhere", code=1)


def test_a_user_of_a_team_is_in_its_tenant(start, place):
    place.run("team", "add", "north", "--own-tenant")
    place.user("ann", "--team", "north")
    place.user("bob")
    node = start()
    with Client(node, "a").credentials("ann", "secret") as ann, \
            Client(node, "b").credentials("bob", "secret") as bob:
        bob.subscribe("t", 1)
        ann.publish("t", "of north", qos=1)
        bob.publish("t", "of all", qos=1)
        assert bob.receive().payload == b"of all"
    place.run("user", "set", "bob", "--team", "north")
    teams = {one["name"]: one["team"] for one in shown(place, "user", "ls")["items"]}
    assert teams["ann"] == teams["bob"] != ""
    place.run("user", "set", "bob", "--team", "")
    teams = {one["name"]: one["team"] for one in shown(place, "user", "ls")["items"]}
    assert teams["bob"] == ""


def test_a_deleted_team_comes_back_with_its_devices(start, place):
    made = shown(place, "team", "add", "north", "--own-tenant")
    north = shown(place, "device", "add", "pump", "--team", "north")
    node = start()

    def is_in():
        return publish(node, "d/pump/x", "-i", "pump", "-u", "pump@north", "-P", north["secret"])[0] == 0

    line = next(one for one in place.run("device", "show", "pump", "--team", "north").splitlines() if one.startswith("team"))
    assert line.split() == ["team", "north"]
    told = place.run("team", "rm", "north")
    assert f"martlet team restore --data-dir={place.path} north " in told and made["id"] not in told
    assert not is_in() and shown(place, "team", "ls")["items"] == []
    assert [one["name"] for one in shown(place, "team", "ls", "--deleted")["items"]] == ["north"]
    place.run("team", "restore", made["id"])
    assert is_in()


def test_a_device_is_changed_in_all_that_is_said_of_it(place):
    for team in ("north", "south"):
        place.run("team", "add", team)
        place.run("group", "add", "hall", "--team", team)
    place.run("group", "add", "yard")
    place.user("ann")
    place.device("pump", "--team", "north", "--location", "roof", "--tag", "wet", "--tag", "blue", "--group", "hall",
                 "--owner", "ann", "--firmware-version", "1.2", "--status", "maintenance")
    groups = {(one["team"], one["name"]): one["id"] for one in shown(place, "group", "ls")["items"]}
    teams = {one["name"]: one["id"] for one in shown(place, "team", "ls")["items"]}
    found = shown(place, "device", "show", "pump")
    assert (found["location"], found["tags"], found["owner"], found["firmware_version"], found["status"]) == (
        "roof", ["blue", "wet"], "ann", "1.2", "maintenance")
    assert found["groups"] == [groups[teams["north"], "hall"]]
    place.run("device", "set", "pump", "--location", "cellar", "--untag", "wet", "--tag", "dry", "--join", "yard",
              "--description", "two pumps", "--owner", "", "--status", "active")
    found = shown(place, "device", "show", "pump")
    assert (found["location"], found["tags"], found["owner"], found["description"]) == (
        "cellar", ["blue", "dry"], "", "two pumps")
    assert found["groups"] == [groups[teams["north"], "hall"], groups["", "yard"]]
    place.run("device", "set", "pump", "--to-team", "south", "--join", "hall")
    found = shown(place, "device", "show", "pump")
    assert found["team"] == teams["south"]
    assert found["groups"] == [groups[teams["south"], "hall"], groups["", "yard"]]
    place.run("device", "set", "pump", "--leave", "yard")
    assert shown(place, "device", "show", "pump")["groups"] == [groups[teams["south"], "hall"]]
    assert "in no group yard" in place.run("device", "set", "pump", "--leave", "yard", code=1)
    for command, mend in ((["set", "pump", "--join", "nowhere"], f"martlet group add --data-dir={place.path} --team=south nowhere"),
                          (["add", "new", "--group", "nowhere"], f"martlet group add --data-dir={place.path} nowhere")):
        told = place.run("device", *command, code=1)
        assert "there is no group nowhere: " in told and mend in told
    place.run("team", "add", "away")
    place.run("group", "add", "theirs", "--team", "away")
    told = place.run("device", "set", "pump", "--join", "theirs", code=1)
    assert "the group theirs belongs to another team than the device" in told
    place.run("device", "set", "pump", code=2)
    # Of several of one name that of the device's team.
    place.run("device", "set", "pump", "--leave", "hall")
    place.run("group", "member", "add", "hall", "pump")
    assert shown(place, "device", "show", "pump")["groups"] == [groups[teams["south"], "hall"]]
    assert shown(place, "device", "add", "later", "--no-secret")["secret"] is None
    assert {row.split()[4] for row in place.run("device", "ls").splitlines()[1:]} >= {"0", "1"}


def test_a_team_is_removed_for_good(place):
    place.run("team", "add", "north", "--own-tenant")
    place.device("pump", "--team", "north")
    place.user("bob", "--team", "north")
    told = place.run("team", "rm", "--purge", "north", "--yes", code=1)
    assert "1 device" in told and "--with-members" in told
    said = place.run("team", "rm", "--purge", "--with-members", "north", "--yes")
    assert "devices: 1, users: 1" in said
    assert ids(place) == [] and shown(place, "team", "ls", "--deleted")["items"] == []
    place.run("team", "add", "north")
    place.run("team", "rm", "north")
    place.run("team", "restore", "north")
    place.run("team", "rm", "north")
    gone = shown(place, "team", "rm", "--purge", "north")
    assert (gone["name"], gone["devices"], gone["users"]) == ("north", 0, 0)


def test_users_are_listed_with_their_teams_and_the_audit_log_by_who_it_was(place):
    place.run("team", "add", "north")
    place.user("bob", "--team", "north", "--api-role", "viewer")
    assert "bob" in (line := place.run("user", "ls")) and " north " in line and " viewer " not in line, line
    [one] = shown(place, "user", "ls")["items"]
    [north] = shown(place, "team", "ls")["items"]
    assert (one["team"], one["api_role"]) == (north["id"], "none")
    assert one["teams"] == [{"team": north["id"], "role": "viewer"}]
    [bob] = shown(place, "team", "member", "ls", "north")["items"]
    assert (bob["user"], bob["role"]) == ("bob", "viewer")
    place.run("team", "member", "set", "north", "bob", "--role", "operator")
    assert "operator" in place.run("team", "member", "ls", "north")
    place.run("team", "member", "rm", "north", "bob")
    assert shown(place, "team", "member", "ls", "north")["items"] == []
    place.user("eve", "--team", "north", "--api-role", "viewer", "--all-teams")
    [eve] = [one for one in shown(place, "user", "ls")["items"] if one["name"] == "eve"]
    assert eve["api_role"] == "viewer" and eve["teams"] == []
    place.run("user", "rm", "--purge", "--yes", "eve")
    own = str(os.getuid())
    of_mine = shown(place, "audit", "--who", own)["items"]
    assert of_mine and of_mine == shown(place, "audit", "--who", f"uid {own}")["items"]


def test_a_device_that_is_named_as_it_connects_is_tried_by_its_own_id(start, place):
    place.run("team", "add", "north", "--own-tenant")
    place.device("c-3", "--team", "north")
    node = start()
    plain = shown(place, "device", "rotate", "c-3", "--team", "north")
    qualified = shown(place, "device", "rotate", "c-3@north")
    for told in (plain, qualified):
        assert told["id"] == "c-3" and " -i c-3 -u c-3@north " in told["try"] and " -t d/c-3/" in told["try"], told
    assert publish(node, "d/c-3/x", "-i", "c-3", "-u", "c-3@north", "-P", qualified["secret"])[0] == 0


def test_groups_of_one_name_are_told_apart_by_their_team(place):
    for team in ("north", "south"):
        place.run("team", "add", team, "--own-tenant")
        place.run("group", "add", "hall", "--team", team)
        place.device("pump", "--team", team)
    place.run("group", "add", "yard")
    place.run("team", "add", "west")
    told = place.run("group", "show", "hall", code=1)
    assert "several groups" in told and "--team TEAM" in told
    assert "several groups" in place.run("group", "rm", "hall", code=1)
    assert "several groups" in place.run("group", "member", "add", "hall", "pump", code=1)
    teams = {one["id"]: one["name"] for one in shown(place, "team", "ls")["items"]}
    listed = {teams[one["team"]]: one for one in shown(place, "group", "ls")["items"] if one["name"] == "hall"}
    assert sorted(listed) == ["north", "south"] and " north" in place.run("group", "ls")
    assert [one["id"] for one in shown(place, "group", "ls", "--team", "south")["items"]] == [listed["south"]["id"]]
    found = shown(place, "group", "show", "hall", "--team", "south")
    assert found == {**listed["south"], "rules": []} and "south" in place.run("group", "show", "hall", "--team", "south")
    place.run("group", "member", "add", "hall", "pump", "--team", "south")
    # No team's, with devices of one.
    place.run("group", "member", "add", "yard", "pump", "--team", "south")
    groups = shown(place, "device", "show", "pump@south")["groups"]
    assert listed["south"]["id"] in groups and len(groups) == 2
    assert shown(place, "device", "show", "pump@north")["groups"] == []
    place.run("group", "member", "rm", "hall", "pump", "--team", "south")
    assert len(shown(place, "device", "show", "pump@south")["groups"]) == 1
    assert "no group hall" in place.run("group", "rm", "hall", "--team", "west", code=1)
    place.run("group", "rm", "hall", "--team", "north")
    assert teams[shown(place, "group", "show", "hall")["team"]] == "south", "it is one group's alone now"


def test_who_looks_for_a_device_of_a_team_is_told_of_which(place):
    for team in ("north", "south"):
        place.run("team", "add", team, "--own-tenant")
        place.device("pump", "--team", team)
    for command in (["show"], ["rm"], ["rm", "--purge", "--yes"], ["rotate"]):
        said = place.run("device", *command, "pump", code=1)
        assert "there is no device pump: there is one in the team north, and one in south" in said
        assert "--team=north" in said
    assert "martlet device ls" in place.run("device", "show", "valve", code=1)
    place.run("team", "add", "west")
    assert "one in the team" not in place.run("device", "show", "pump", "--team", "west", code=1)


def test_a_ban_is_taken_back_by_what_it_was_added_with(place):
    place.run("team", "add", "north", "--own-tenant")
    for words in (("client_id", "c1"), ("client-id", "c1"), ("user", "bob"), ("address", "10.0.0.0/8"),
                  ("user", "bob", "--team", "north"), ("user", "bob@north")):
        place.run("ban", "add", *words)
        assert len(shown(place, "ban", "ls")["items"]) == 1
        place.run("ban", "rm", *words)
        assert shown(place, "ban", "ls")["items"] == [], words
    made = shown(place, "ban", "add", "user", "bob")
    assert "there is no such ban of bob" in place.run("ban", "rm", "client-id", "bob", code=1)
    assert "is not one of client_id, user_name" in place.run("ban", "rm", "name", "bob", code=1)
    place.run("ban", "rm", made["id"])
    assert len(shown(place, "audit", "-n", "3")["items"]) == 3


def test_a_ban_says_of_whom_it_is_until_when_and_what_it_replaces(place):
    for team in ("north", "south"):
        place.run("team", "add", team, "--own-tenant")
    place.user("nina", "--team", "north")
    place.run("ban", "add", "address", "192.0.2.1")
    assert "TEAM" not in place.run("ban", "ls").splitlines()[0]
    # A user's name is enough, whatever team it is of: to add the ban, and to remove it.
    said = place.run("ban", "add", "user", "nina")
    [ban] = [one for one in shown(place, "ban", "ls")["items"] if one["value"] == "nina"]
    teams = {one["name"]: one["id"] for one in shown(place, "team", "ls")["items"]}
    assert ban["team"] == teams["north"] and f"nina of the team north is banned for ever ({ban['id']})" in said
    header, *lines = place.run("ban", "ls").splitlines()
    assert header.split()[3] == "TEAM" and any(line.split()[2:4] == ["nina", "north"] for line in lines)
    said = place.run("ban", "add", "user", "nina", "--for", "1h")
    assert " UTC (" in said and f"it replaces the ban {ban['id']}" in said
    again = shown(place, "ban", "add", "user", "nina@north")
    assert again["replaced"] and again["until"] is None and len(shown(place, "ban", "ls")["items"]) == 2
    place.run("ban", "rm", "user", "nina")
    # A ban of a name that a user of a team has later.
    place.run("ban", "add", "user", "otto")
    place.user("otto", "--team", "north")
    place.run("ban", "rm", "user", "otto")
    # A name that no user has: the teams are named that have such a ban.
    place.run("ban", "add", "client-id", "pump", "--team", "south")
    said = place.run("ban", "rm", "client-id", "pump", code=1)
    assert "one in the team south" in said and "--team=south" in said
    place.run("ban", "rm", "client-id", "pump", "--team", "south")
    for words in (["user", "nina@nosuch"], ["user", "nina", "--team", "nosuch"], ["client-id", "c", "--team", "nosuch"]):
        said = place.run("ban", "add", *words, code=1)
        assert "no team nosuch" in said and "martlet team ls" in said, said
    assert len(shown(place, "ban", "ls")["items"]) == 1
    # A user whom another system knows may have an address of e-mail for a name.
    place.run("ban", "add", "user", "nina@example.org")


def test_a_ban_that_has_ended_is_marked(place):
    place.run("ban", "add", "user", "ann")
    made = shown(place, "ban", "add", "user", "bob", "--for", "1s")
    until(lambda: [one["value"] for one in shown(place, "ban", "ls")["items"]] == ["ann"], "the ban has ended")
    told = {one["id"]: not one["holds"] for one in shown(place, "ban", "ls", "--ended")["items"]}
    assert told.pop(made["id"]) is True and list(told.values()) == [False]
    lines = place.run("ban", "ls", "--ended").splitlines()
    assert [made["id"] in line for line in lines] == ["(ended)" in line for line in lines]


def test_keys_are_listed_with_their_team(place):
    place.run("team", "add", "north")
    place.run("key", "add", "app", "--scope", "devices:read", "--team", "north")
    assert " north" in place.run("key", "ls")
    assert shown(place, "key", "ls")["items"][0]["team"] == shown(place, "team", "ls")["items"][0]["id"]


@pytest.mark.parametrize("wrong", ("[mqtt]\nbogus = 1\n", "[mqtt\n"), ids=("key", "syntax"))
def test_a_node_is_found_by_a_file_with_which_something_is_wrong(start, place, tmp_path, wrong):
    start()
    file = tmp_path / "martlet.toml"
    file.write_text(f'[node]\ndata_dir = "{place.path}"\n{wrong}')
    for command in ("status", "health"):
        done = subprocess.run([martlet_process.binary(), command, "-c", str(file)], text=True, capture_output=True,
                              env=martlet_process.environment(), timeout=DEADLINE_SECS)
        assert done.returncode == 0 and done.stdout, done.stderr
        assert str(file) in done.stderr and ("bogus" in done.stderr or "line 3" in done.stderr), done.stderr
    file.write_text(wrong)
    done = subprocess.run([martlet_process.binary(), "status", "-c", str(file)], text=True, capture_output=True,
                          env=martlet_process.environment(), timeout=DEADLINE_SECS)
    assert done.returncode == 1 and "--data-dir DIR" in done.stderr
    place.run("status", "-c", str(file))
