"""Integrations as operators see them: by command and by HTTP, on a node whose sink fails for a while."""

import contextlib
import json
import re
import sqlite3

import pytest

import martlet_process
from paho_client import Client
from test_http_api import KEY, KEYS
from test_http_registry import call
from test_operation import get
from test_sinks import configured, lines, until, until_lines
from test_tenants import Device, make_teams

NAME = "file/audit"
AUDIT = "/api/v1/integrations/file/audit"


def command(node, *arguments, code=0):
    """What `martlet integration ARGUMENTS` prints."""
    done = martlet_process.run("integration", *arguments, "--data-dir", str(node.data_dir))
    assert done.returncode == code, done
    return done.stdout if code == 0 else done.stdout + done.stderr


def why(node, *arguments):
    done = martlet_process.run("why", *arguments, "--data-dir", str(node.data_dir))
    return done.returncode, done.stdout


def state(node):
    return json.loads(command(node, "show", NAME, "--json"))


@pytest.fixture
def failing(start_node, tmp_path):
    """A node whose sink cannot write: its directory is a file."""
    options, path = configured(tmp_path)
    path.parent.rmdir()
    path.parent.write_text("")
    node = start_node(**options, http=True, variables=KEYS)
    # Before it is attached for the first time, it takes no messages.
    until(lambda: state(node)["state"] == "running", node.log)
    with Client(node, "pump-1") as client:
        for number in range(3):
            client.publish("plant/1", str(number))
    until(lambda: state(node)["state"] == "retrying" and state(node)["lag"] == 3,
          lambda: json.dumps(state(node)) + node.log())
    return node, path


def remedy(path):
    path.parent.unlink()
    path.parent.mkdir()


def test_a_sink_that_fails_is_shown_tested_and_recovers(failing):
    node, path = failing
    table = command(node, "ls")
    header, row = table.splitlines()
    assert header.split() == ["INTEGRATION", "STATE", "WAITING", "DELIVERED", "DEAD-LETTERS", "SINCE"]
    assert row.split()[:5] == [NAME, "retrying", "3", "0", "0"] and max(map(len, (header, row))) <= 80
    listed = json.loads(command(node, "ls", "--json"))["items"]
    assert [(one["name"], one["state"], one["lag"]) for one in listed] == [("audit", "retrying", 3)]
    until(lambda: "3 messages, 3 of them being sent" in command(node, "show", NAME), lambda: command(node, "show", NAME))
    shown = command(node, "show", NAME)
    assert "failing" in shown and "Not a directory" in shown
    assert "cannot reach its target" in command(node, "test", NAME, code=1)
    assert json.loads(martlet_process.run(
        "integration", "test", NAME, "--json", "--data-dir", str(node.data_dir)).stdout)["ok"] is False

    page = get(node, "/metrics")[2]
    labels = 'kind="file",name="audit"'
    assert f'martlet_integration_state{{{labels},state="retrying"}} 1' in page
    assert f"martlet_integration_lag_messages{{{labels}}} 3" in page
    assert f"martlet_integration_delivered_total{{{labels}}} 0" in page

    remedy(path)
    assert "can reach its target" in command(node, "test", NAME)
    # It may have tried again by itself meanwhile.
    assert re.search("its target is tried again at once|no message waits", command(node, "resume", NAME))
    assert [line["payload"] for line in until_lines(node, path, 3)] == ["0", "1", "2"]
    until(lambda: state(node)["state"] == "running" and state(node)["lag"] == 0, lambda: state(node))
    until(lambda: (state(node)["delivered"], state(node)["failure"]) == (3, None), lambda: state(node))
    found = state(node)
    assert "Not a directory" in found["last_error"]["error"]


def test_integrations_are_among_the_clients_only_if_they_are_asked_for(failing):
    node, _ = failing
    names = lambda query: [one["client_id"] for one in call(node, "GET", f"/api/v1/clients{query}", key=KEY)["items"]]
    assert not any(name.startswith("$") for name in names(""))
    assert names("?search=%24integration/file") != []
    listed = martlet_process.run("client", "ls", "--data-dir", node.data_dir).stdout
    assert "$integration" not in listed
    assert "$integration" in martlet_process.run("client", "ls", "$integration", "--data-dir", node.data_dir).stdout
    shown = martlet_process.run("top", "--once", "--data-dir", node.data_dir).stdout
    assert "0 sessions" in shown and "$integration" not in shown, shown


def test_why_names_the_integration_that_messages_wait_for(failing):
    node, path = failing
    for name in ("$integration/file/audit", NAME):
        code, said = why(node, name)
        assert code == 3 and said.startswith("3 messages wait for the integration file/audit: "), said
        assert "Not a directory" in said and "martlet integration test " in said, said
    code, said = why(node, "pump-1")
    assert "its messages wait for the integration file/audit: " in said, said
    _, said = why(node, "pump-1", "plant/1")
    assert "wait for the integration file/audit: " in said, said
    command(node, "pause", NAME)
    code, said = why(node, NAME)
    assert code == 3 and "which is paused" in said and "martlet integration resume " in said, said
    since = state(node)["paused_since"].split(".")[0]
    assert f"{since}Z" in command(node, "ls") and f"paused since {since}Z" in command(node, "show", NAME)
    health = martlet_process.run("health", "--data-dir", str(node.data_dir)).stdout
    assert f"note: The integration file/audit has been paused since {since.replace('T', ' ')} UTC, 3 messages wait" in health
    remedy(path)
    assert command(node, "resume", NAME) == f"{NAME} is resumed; 3 messages waited\n"
    until_lines(node, path, 3)
    until(lambda: not node.why(NAME)["wrong"], lambda: node.why(NAME))
    assert "integration" not in why(node, "pump-1", "plant/1")[1]


def test_a_pause_survives_a_restart_and_a_drain_ends_in_one(start_node, tmp_path):
    options, path = configured(tmp_path)
    node = start_node(**options)
    assert "is paused" in command(node, "pause", NAME)
    with Client(node, "pump-1") as client:
        client.publish("plant/1", "waits")
    since = state(node)["paused_since"]
    node.terminate()
    assert node.wait() == 0
    node = start_node(**options)
    until(lambda: state(node)["state"] == "paused" and state(node)["lag"] == 1, lambda: state(node))
    assert state(node)["paused_since"] == since
    assert lines(path) == []
    command(node, "drain", NAME)
    assert [line["payload"] for line in until_lines(node, path, 1)] == ["waits"]
    until(lambda: state(node)["state"] == "paused", lambda: state(node))
    with Client(node, "pump-1") as client:
        client.publish("plant/1", "later")
    assert [line["payload"] for line in lines(path)] == ["waits"]
    command(node, "resume", NAME)
    until_lines(node, path, 2)


def test_what_waits_is_counted_over_a_restart_while_the_sink_fails(start_node, tmp_path):
    options, path = configured(tmp_path)
    path.parent.rmdir()
    path.parent.write_text("")
    node = start_node(**options)
    until(lambda: state(node)["state"] == "running", node.log)
    with Client(node, "pump-1") as client:
        for number in range(3):
            client.publish("plant/1", str(number))
        client.client.publish("plant/1", "not kept", qos=0)
        client.publish("plant/1", "3")
    until(lambda: state(node)["lag"] == 5, lambda: state(node))
    node.terminate()
    assert node.wait() == 0
    assert "messages of QoS 0 that were not delivered are lost" in node.log()
    node = start_node(**options)
    until(lambda: state(node)["lag"] == 4, lambda: state(node))
    with Client(node, "pump-1") as client:
        for number in range(4, 20):
            client.publish("plant/1", str(number))
    # They wait until those of the run before are delivered.
    until(lambda: state(node)["lag"] == 20, lambda: state(node))
    remedy(path)
    told = [line["payload"] for line in until_lines(node, path, 20)]
    assert told == [str(number) for number in range(20)]
    until(lambda: state(node)["lag"] == 0, lambda: state(node))


def test_what_is_not_there_is_told_with_what_there_is(start_node, tmp_path):
    options, _ = configured(tmp_path)
    node = start_node(**options)
    said = command(node, "show", "file/other", code=1)
    assert f"there is no integration file/other: martlet integration ls --data-dir={node.data_dir} -c " in said
    assert "martlet.toml lists them" in said
    assert "such as file/audit" in command(node, "pause", "audit", code=2)
    assert command(node, "dead-letter", "ls", NAME) == ""
    assert json.loads(command(node, "dead-letter", "ls", NAME, "--json")) == {"items": []}
    assert "has no dead letter 7" in command(node, "dead-letter", "show", NAME, "7", code=1)
    assert "has no dead letter 7" in command(node, "dead-letter", "send", NAME, "7", code=1)
    assert "Dropped 0 dead letters" in command(node, "dead-letter", "rm", NAME, "--all")
    command(node, "dead-letter", "rm", NAME, code=2)


def test_a_team_operates_the_integrations_of_its_tenant_alone(start_node, tmp_path):
    options, path = configured(tmp_path, tenant="north")
    config = options["arguments"][1]
    with open(config, "a", encoding="utf-8") as file:
        file.write(f'[[sinks.file]]\nname = "common"\nfilters = ["#"]\npath = "{path.parent}/common.json"\n')
    node = start_node(**options, http=True, variables=KEYS)
    teams = make_teams(node)
    until(lambda: call(node, "GET", AUDIT)["state"] == "running", lambda: call(node, "GET", AUDIT), timeout=90)

    def names(key, query=""):
        return [one["name"] for one in call(node, "GET", f"/api/v1/integrations{query}", key=key)["items"]]

    north, south = teams["north"]["key"], teams["south"]["key"]
    assert names(KEY) == ["audit", "common"] and names(KEY, "?team=north") == ["audit"]
    assert names(north) == ["audit"] and names(south) == []
    call(node, "POST", f"{AUDIT}/pause", key=north)
    assert call(node, "GET", AUDIT, key=north)["state"] == "paused"
    call(node, "POST", f"{AUDIT}/resume", key=south, expect=404)
    call(node, "POST", "/api/v1/integrations/file/common/pause", key=north, expect=404)
    call(node, "POST", f"{AUDIT}/resume?team=south", key=north, expect=403)
    call(node, "POST", f"{AUDIT}/resume", key=north)


def test_what_waits_for_a_team_goes_when_the_team_is_removed_for_good_and_not_before(start_node, tmp_path):
    options, _ = configured(tmp_path, tenant="north")
    node = start_node(**options, http=True, variables=KEYS)
    made = make_teams(node)["north"]["pump"]
    until(lambda: call(node, "GET", AUDIT)["state"] == "running", lambda: call(node, "GET", AUDIT), timeout=90)
    command(node, "pause", NAME)
    device = Device(node, made["id"], made["user_name"], made["secret"])
    for number in range(3):
        device.publish("plant/1", str(number))
    device.close()
    until(lambda: state(node)["lag"] == 3, lambda: json.dumps(state(node)) + node.log())

    for one in ("pump", "reader"):
        call(node, "DELETE", f"/api/v1/devices/{one}?team=north")
    # Dead letters of its tenant go too, whoever's sink had them.
    tenant = call(node, "GET", "/api/v1/teams/north")["tenant"]
    with contextlib.closing(sqlite3.connect(f"{node.data_dir}/martlet.db", timeout=60)) as tables:
        letter = ("INSERT INTO dead_letters (id, node, kind, name, tenant, message_id, topic, bytes, payload_bytes, qos, "
                  "retain, retained, received_ms, refused_ms, reason, refusals, publisher, properties, payload) VALUES "
                  "(?, 'n', 'webhook', 'x', ?, ?, 't', 1, 1, 1, 0, 0, 1, 1, 'r', 1, '{}', '', '')")
        tables.executemany(letter, [(901, tenant, "901"), (902, 0, "902")])
        tables.commit()
    # A team that was deleted can be restored, with all that waits for it.
    call(node, "DELETE", "/api/v1/teams/north")
    until(lambda: state(node)["failure"], lambda: json.dumps(state(node)) + node.log())
    call(node, "POST", "/api/v1/teams/north/restore")
    until(lambda: state(node)["lag"] == 3, lambda: json.dumps(state(node)) + node.log())
    call(node, "DELETE", "/api/v1/teams/north")
    call(node, "POST", "/api/v1/teams/north/purge?with_members=true")
    until(lambda: "the team of the integration was removed: its messages are dropped" in node.log(), node.log)
    node.wait_for_log("messages=3")
    with contextlib.closing(sqlite3.connect(f"{node.data_dir}/martlet.db", timeout=60)) as tables:
        assert tables.execute("SELECT id FROM dead_letters").fetchall() == [(902,)]


def test_an_integration_counts_as_no_client(start_node, tmp_path):
    options, path = configured(tmp_path)
    node = start_node(**options, http=True, variables=KEYS)
    with Client(node, "pump-1") as client:
        client.publish("plant/1", "taken")
        until_lines(node, path, 1)
        status = call(node, "GET", "/api/v1/status")
        assert (status["connections"], status["sessions"]) == (1, 1)
    until(lambda: call(node, "GET", "/api/v1/status")["connections"] == 0, node.log)
    _, _, metrics = get(node, "/metrics")
    assert "\nmartlet_connects_accepted_total 1\n" in metrics and "\nmartlet_parts 2\n" in metrics, metrics
