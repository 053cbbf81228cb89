"""Dead letters and the messages before them: of whom they are, how they are listed and sent again, and when a
message becomes one."""

import contextlib
import json
import sqlite3
import time

import martlet_process
from paho_client import Client
from test_http_api import KEY
from test_http_registry import call
from test_sinks import Publisher, until
from test_webhooks import (  # noqa: F401
    configured, publish, receiver, state, until_payloads, warnings)

CRM = "/api/v1/integrations/webhook/crm"
LETTERS = f"{CRM}/dead-letters"
# Messages of 1,000 bytes of queue, and some that were under way.
BEYOND = 50


def command(node, *arguments, code=0):
    done = martlet_process.run("integration", *arguments, "--data-dir", str(node.data_dir))
    assert done.returncode == code, done
    return done.stdout + done.stderr


def until_stored(node, count):
    until(lambda: state(node)["dead_letters_stored"] == count, lambda: f"{state(node)}\n{node.log()}")


def made_team(node, name):
    team = call(node, "POST", "/api/v1/teams", {"name": name, "owns_tenant": True})
    return call(node, "POST", "/api/v1/keys", {
        "name": f"of {name}", "team": team["id"], "scopes": ["administrator"]})["key"]


def test_a_sink_of_a_team_is_attached_when_the_team_is_made_also_without_users_and_devices(
        start_node, tmp_path, receiver):
    node = start_node(**configured(tmp_path, receiver.url, tenant="north"))
    until(lambda: state(node)["failure"] is not None, node.log)
    found = state(node)
    assert found["state"] == "starting", found
    assert 'there is no team "north" with a tenant of its own (martlet team add north --own-tenant' in found["failure"]["error"]
    north, south = made_team(node, "north"), made_team(node, "south")
    until(lambda: state(node)["state"] == "running", lambda: f"{state(node)}\n{node.log()}")
    receiver.answer = lambda message: (400, {}, b"not this one")
    call(node, "POST", "/api/v1/publish", {"topic": "plant/1", "payload": "x", "qos": 1}, key=north)
    until_stored(node, 1)
    # Each team sees its own letters, and of others not even that there are some.
    assert [one["topic"] for one in call(node, "GET", LETTERS, key=north)["items"]] == ["plant/1"]
    call(node, "GET", LETTERS, key=south, expect=404)
    call(node, "GET", f"{LETTERS}?limit=1", key=south, expect=404)
    call(node, "GET", f"{LETTERS}/1", key=south, expect=404)
    assert call(node, "GET", f"{LETTERS}/1", key=north)["payload"] == "x"


def test_tables_that_are_switched_off_are_named_as_the_cause(start_node, tmp_path, receiver):
    options = configured(tmp_path, receiver.url, tenant="north")
    node = start_node(**options, settings=["auth.registry=off"])
    until(lambda: state(node)["failure"] is not None, node.log)
    assert "the tables of users and devices are not used: auth.registry is off" in state(node)["failure"]["error"]


def test_letters_that_are_to_be_sent_again_are_sent_after_a_restart_too(start_node, tmp_path, receiver):
    options = configured(tmp_path, receiver.url)
    node = start_node(**options)
    receiver.answer = lambda message: (400, {}, b"no")
    publish(node, "0", "1", "2")
    until_stored(node, 3)
    # From now on it is down: nothing is sent before the restart.
    receiver.answer = lambda message: (503, {}, b"later")
    assert "2 dead letters to be sent again" in command(node, "dead-letter", "send", "webhook/crm", "1", "3")
    assert state(node)["sending_again"] == 2
    node.close()
    receiver.answer = lambda message: (204, {}, b"")
    node = start_node(**options)
    until_stored(node, 1)
    assert sorted(receiver.payloads()) == ["0", "2"]
    node.wait_for_log("dead letters from before the restart are sent again")
    node.close()
    # What was sent is not sent once more.
    node = start_node(**options)
    publish(node, "3")
    until(lambda: "3" in receiver.payloads(), node.log)
    assert sorted(receiver.payloads()) == ["0", "2", "3"]


def test_long_topics_are_cut_in_the_list(start_node, tmp_path, receiver):
    node = start_node(**configured(tmp_path, receiver.url))
    receiver.answer = lambda message: (400, {}, b"no")
    topic = "plant/" + "x" * 300
    with Client(node, "pump-1") as client:
        client.publish("plant/1", "0")
        client.publish(topic, "1")
    until_stored(node, 2)
    rows = command(node, "dead-letter", "ls", "webhook/crm").splitlines()
    assert [len(row) < 160 for row in rows] == [True] * 3, rows
    assert "…" in rows[2] and "the target answered 400" in rows[2]
    listed = json.loads(command(node, "dead-letter", "ls", "webhook/crm", "--json"))["items"]
    assert listed[1]["topic"] == topic


def test_a_message_that_the_receiver_always_fails_at_holds_up_the_others_for_some_attempts_only(
        start_node, tmp_path, receiver):
    node = start_node(**configured(tmp_path, receiver.url, max_attempts=3))
    receiver.answer = lambda message: (500, {}, b"oops") if message["payload"] == "bad" else (204, {}, b"")
    publish(node, "0", "bad", "1", "2")
    until_payloads(node, receiver, ["0", "1", "2"])
    until_stored(node, 1)
    letter = call(node, "GET", LETTERS)["items"][0]
    assert letter["reason"] == "the target answered 500 Internal Server Error: oops (3 attempts)"


def test_a_receiver_that_is_down_is_tried_without_end(start_node, tmp_path, receiver):
    node = start_node(**configured(tmp_path, receiver.url, max_attempts=1))
    for status in (503, 502, 504, 429):
        before = len(receiver.tried)
        receiver.answer = lambda message, status=status: (status, {}, b"later")
        publish(node, str(status))
        until(lambda: len(receiver.tried) >= before + 2, node.log)
    assert state(node)["dead_letters_stored"] == 0
    receiver.answer = lambda message: (204, {}, b"")
    until_payloads(node, receiver, ["503", "502", "504", "429"])


def test_a_secret_is_one_line_and_has_a_name_that_paths_and_commands_can_have(start_node, tmp_path, receiver):
    node = start_node(**configured(tmp_path, receiver.url))
    for value, has in (("a\nb", "a line break"), ("a\rb", "a line break"), ("a\0b", "a NUL character")):
        answer = call(node, "PUT", "/api/v1/secrets/token", {"value": value}, expect=422)
        assert f"it has {has}, which neither a URL nor a header may have" in answer["detail"], answer
    for name in ("-token", "%2e", "%2e%2e"):
        answer = call(node, "PUT", f"/api/v1/secrets/{name}", {"value": "x"}, expect=422)
        assert "is not a valid name of a secret" in answer["detail"], answer
    call(node, "PUT", "/api/v1/secrets/.token", {"value": "x"})


def test_qos_0_that_a_busy_sink_could_not_take_is_told_with_the_key_that_keeps_it(start_node, tmp_path, receiver):
    receiver.answer = lambda message: time.sleep(0.2) or (503, {}, b"later")
    node = start_node(**configured(tmp_path, receiver.url), settings=["node.threads=1"])
    with Client(node, "pump-1") as client:
        # A webhook has 1,000 messages in hand.
        for number in range(3_000):
            client.publish("plant/1", str(number), qos=0)
        client.publish("plant/1", "end", qos=1)

    asked = lambda: json.dumps(node.why("webhook/crm"))
    until(lambda: "keep_qos0" in asked(), lambda: asked() + node.log())
    assert "read" not in json.dumps(node.why("webhook/crm")["evidence"]), asked()
    logs = lambda: martlet_process.run("logs", "--data-dir", str(node.data_dir)).stdout
    until(lambda: "keep_qos0" in logs(), logs)
    logged = logs()
    assert "keep_qos0" in logged and "read faster" not in logged, logged


def test_a_reload_has_a_sink_that_fails_try_again_at_once(start_node, tmp_path, receiver):
    node = start_node(**configured(tmp_path, receiver.url))
    receiver.answer = lambda message: (503, {}, b"later")
    publish(node, "0")
    # The next attempt is 8 s away at least.
    until(lambda: len(receiver.tried) >= 6, node.log)
    receiver.answer = lambda message: (204, {}, b"")
    assert martlet_process.run("reload", "--data-dir", str(node.data_dir)).returncode == 0
    until(lambda: receiver.payloads() == ["0"], node.log, timeout=7)


def test_a_tiny_queue_that_holds_takes_a_bounded_number_of_messages(start_node, tmp_path, receiver):
    """Beside those that the sink has in hand."""
    node = start_node(**configured(tmp_path, receiver.url, max_bytes=1_000, on_full="hold"), settings=["node.threads=2"])
    receiver.answer = lambda message: (503, {}, b"later")
    # A webhook has 1,000 messages in hand, of each of two threads.
    count, in_hand = 3_000, 1_000
    publisher = Publisher([node.port()], "a", count)
    publisher.start()
    try:
        told = "its queue is full, and clients that publish for it wait"
        until(lambda: any(told in one for one in warnings(node)), node.log)
        until(lambda: state(node)["lag"] == len(publisher.acknowledged), lambda: f"{state(node)} {len(publisher.acknowledged)}")
        waiting = state(node)["lag"]
        assert in_hand < waiting < in_hand + BEYOND, waiting
        receiver.answer = lambda message: (204, {}, b"")
        publisher.join(60)
        until(lambda: receiver.payloads() == [str(number) for number in range(count)], node.log)
    finally:
        publisher.stopped.set()


def test_a_letter_with_a_flipped_bit_holds_up_no_other_and_can_be_dropped(start_node, tmp_path, receiver):
    options = configured(tmp_path, receiver.url)
    node = start_node(**options)
    receiver.answer = lambda message: (400, {}, b"no")
    publish(node, "first one", "second one", "third one")
    until_stored(node, 3)
    node.terminate()
    node.wait()
    with contextlib.closing(sqlite3.connect(tmp_path / "data/martlet.db")) as tables, tables:
        [whole] = tables.execute("SELECT payload FROM dead_letters WHERE id = 2").fetchone()
        tables.execute("UPDATE dead_letters SET payload = ? WHERE id = 2", [chr(ord(whole[0]) ^ 1) + whole[1:]])
    receiver.answer = lambda message: (204, {}, b"")
    node = start_node(**options)
    told = command(node, "dead-letter", "show", "webhook/crm", "2", code=1)
    assert "the dead letter 2 is damaged: its checksum is wrong" in told, told
    command(node, "dead-letter", "send", "webhook/crm", "--all")
    publish(node, "new")
    until(lambda: sorted(receiver.payloads()) == ["first one", "new", "third one"], node.log)
    until_stored(node, 1)
    assert state(node)["state"] == "running"
    shown = command(node, "dead-letter", "ls", "webhook/crm")
    assert "damaged: its checksum is wrong" in shown, shown
    command(node, "dead-letter", "rm", "webhook/crm", "2")
