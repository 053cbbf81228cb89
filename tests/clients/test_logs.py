"""martlet logs: what was refused or lost, and the way to remedy it, in one line each."""

import json
import os
import pathlib
import queue
import re
import socket
import struct
import subprocess
import threading
import time
import urllib.request

import pytest

import martlet_process
from paho_client import Client, properties
from test_access import mosquitto_passwd, publish, until


def logs(node, *options):
    done = martlet_process.run("logs", "--data-dir", node.data_dir, *options)
    assert done.returncode == 0, done.stderr
    return done.stdout


def planted(start_node, tmp_path):
    path = mosquitto_passwd(tmp_path / "passwd", ("alice", "secret"))
    acl = tmp_path / "acl"
    acl.write_text("user alice\ntopic write up\n")
    return start_node(settings=[f"auth.password_file={path}", f"auth.acl_file={acl}", "limits.packet_bytes=1000",
                                "log.connections=false"])


def test_each_refusal_is_one_line_with_the_way_to_mend_it(start_node, tmp_path):
    node = planted(start_node, tmp_path)
    assert publish(node, "up", "-u", "alice", "-P", "guessed", "-i", "c1")[0] != 0
    assert publish(node, "up", "-u", "bob", "-P", "secret", "-i", "c2")[0] != 0
    assert publish(node, "up", "-i", "c3")[0] != 0
    publish(node, "down", "-u", "alice", "-P", "secret", "-i", "c4", "-V", "5")
    with Client(node, "c6").credentials("alice", "secret") as client:
        client.client.publish("up", "x" * 2000)
        client.wait_for_end()
    expected = {
        "c1": ["connect refused", "user alice", "wrong password, according to", "martlet user passwd"],
        "c2": ["connect refused", "user bob", "no user of that name exists", "martlet user add"],
        "c3": ["connect refused", "it has no credentials", "martlet user add"],
        "c4": ["publish refused", "down", "permit it in the ACL file (auth.acl_file)"],
        "c6": ["disconnected", "(limits.packet_bytes = 1000)", "raise limits.packet_bytes"],
    }
    for client, texts in expected.items():
        until(lambda: texts[0] in logs(node, client), f"{client} is told of")
        line = next(line for line in logs(node, client).splitlines() if texts[0] in line)
        for text in texts:
            assert text in line, line
        assert "127.0.0.1:" in line or texts[0] == "disconnected", line
        assert "secret" not in line and "guessed" not in line
    # Neither the lines of others nor those of success.
    assert "c1" not in logs(node, "c2")
    assert "c4" in logs(node) and ": c4" not in "".join(
        line for line in logs(node, "--trouble").splitlines() if "connected" in line)
    assert len(logs(node, "-n", "2").splitlines()) == 2
    entries = [json.loads(line) for line in logs(node, "--json").splitlines()]
    assert [entry["seq"] for entry in entries] == sorted(entry["seq"] for entry in entries)
    assert "connect refused" not in node.log()


def test_lines_name_the_user_and_say_if_the_name_is_only_claimed(start_node, tmp_path):
    node = planted(start_node, tmp_path)
    with Client(node, "c1").credentials("alice", "secret") as client:
        client.subscribe("#")
        client.client.publish("down", "x", qos=0)
        until(lambda: "publish refused" in logs(node, "c1"), "the refusal is told of")
    until(lambda: "disconnected" in logs(node, "c1"), "it has gone")
    told = logs(node, "c1").splitlines()
    for what in ["connected", "publish refused", "disconnected"]:
        assert any(f" {what}: c1, user alice" in line for line in told), (what, told)
    publish(node, "up", "-u", "alice", "-P", "wrong", "-i", "c2")
    until(lambda: "connect refused: c2, claims to be user alice" in logs(node, "alice"), "the name is not proved")
    open_node = start_node()
    publish(open_node, "up", "-u", "bob", "-P", "any", "-i", "c3")
    publish(open_node, "up", "-i", "c4")
    until(lambda: "disconnected: c3, claims to be user bob:" in logs(open_node, "bob"), "nobody asked for a proof")
    until(lambda: "disconnected: c4: " in logs(open_node, "c4"), "it gave no name")
    entries = [json.loads(line) for line in logs(open_node, "--json").splitlines()]
    assert {(entry.get("user_name"), entry.get("claimed")) for entry in entries} == {("bob", True), (None, None)}


def test_messages_beyond_the_rate_are_told_of_together(start_node):
    node = start_node(settings=["limits.publish_rate=10", "mqtt.rate_exceeded=drop-qos0"], http=True)
    with Client(node, "fast").credentials("alice", "x") as client:
        for _ in range(300):
            client.client.publish("t/1", "x", qos=0)
        until(lambda: "messages dropped: fast" in logs(node, "-t"), "it is told of while the client is there")
        client.client.publish("t/1", "x", qos=0)
    with Client(node, "slow") as client:
        client.publish("t/2", "x", qos=1)
    until(lambda: "disconnected: slow" in logs(node), "all have gone")
    entries = [json.loads(line) for line in logs(node, "-t", "--json").splitlines()]
    assert {(entry["what"], entry["client_id"], entry["topic"]) for entry in entries} == {
        ("messages dropped", "fast", "t/1")}
    line = logs(node, "-t").splitlines()[0]
    assert ", claims to be user alice (127.0.0.1:" in line and "(limits.publish_rate = 10)" in line, line
    with urllib.request.urlopen(f"{node.http_url}/metrics", timeout=60) as page:
        metrics = page.read().decode()
    dropped = next(line for line in metrics.splitlines() if 'reason="rate_exceeded"' in line)
    assert int(float(dropped.split()[-1])) == sum(entry["count"] for entry in entries) >= 200, dropped
    assert len(entries) <= 3, entries


def test_what_a_full_quota_refuses_is_told_of(start_node):
    node = start_node(settings=["limits.retained_messages=1"])
    with Client(node, "c1") as client:
        assert client.acknowledged("r/1", retain=True)
        assert not client.acknowledged("r/2", retain=True)
    until(lambda: "publish refused: c1" in logs(node, "-t"), "it is told of")
    line = logs(node, "-t")
    assert ", r/2: the node has" in line and "(limits.retained_messages = 1)" in line and "raise limits.retained_messages" in line, line


def test_a_client_that_is_slowed_is_told_of_once_and_counted(start_node):
    node = start_node(settings=["limits.publish_rate=5"], http=True)
    with Client(node, "fast").credentials("alice", "x") as client:
        for _ in range(30):
            client.client.publish("t/1", "x", qos=0)
        until(lambda: "publishes delayed: fast" in logs(node, "-t"), "it is told of while it is slowed")
        verdict = node.why("fast")
        assert verdict["cause"] == "too-fast" and "(limits.publish_rate = 5)" in verdict["sentence"], verdict
        assert "raise limits.publish_rate" in verdict["remedy"], verdict
        client.publish("t/1", "x", qos=1)
    entries = [json.loads(line) for line in logs(node, "-t", "--json").splitlines()]
    assert [(entry["what"], entry["client_id"], entry["limit"]) for entry in entries] == [
        ("publishes delayed", "fast", "limits.publish_rate")]
    with urllib.request.urlopen(f"{node.http_url}/metrics", timeout=60) as page:
        metrics = page.read().decode()
    line = next(line for line in metrics.splitlines() if line.startswith("martlet_publishes_delayed_total"))
    assert int(float(line.split()[-1])) >= 10, line


def test_messages_that_wait_for_the_rate_are_lost_when_their_client_leaves(start_node):
    node = start_node(settings=["limits.publish_rate=5"], http=True)
    publishes = b"".join(b"\x32\x06\x00\x01t" + struct.pack(">H", 1 + number) + b"x" for number in range(30))
    with socket.create_connection(("127.0.0.1", node.port()), timeout=60) as connection:
        connection.sendall(b"\x10\x0e\x00\x04MQTT\x04\x02\x00\x3c\x00\x02q1" + publishes)
    until(lambda: "still waited" in logs(node, "-t"), "it is told of")
    line = logs(node, "-t")
    assert "still waited when the client disconnected" in line and "QoS 0" not in line, line
    assert "stay connected until its messages are received" in line and "rate_exceeded" not in line, line


def string(text):
    return len(text).to_bytes(2, "big") + text


def packet(first, body):
    length, size = b"", len(body)
    while True:
        byte, size = size % 128, size // 128
        length += bytes([byte | 0x80 if size else byte])
        if not size:
            return bytes([first]) + length + body


def connect5(client_id, properties=b"", keep_alive=60, will=b""):
    flags = 0x02 | (0x16 if will else 0)
    return packet(0x10, string(b"MQTT") + bytes([5, flags]) + keep_alive.to_bytes(2, "big")
                  + bytes([len(properties)]) + properties + string(client_id) + will)


def publish5(topic, qos=0, retain=False, number=1, alias=0, payload=b"x"):
    properties = b"\x23" + alias.to_bytes(2, "big") if alias else b""
    identifier = number.to_bytes(2, "big") if qos else b""
    return packet(0x30 | qos << 1 | retain, string(topic) + identifier + bytes([len(properties)]) + properties
                  + payload)


def subscribe5(topic_filter):
    return packet(0x82, b"\x00\x01\x00" + string(topic_filter) + b"\x01")


# Settings, what a client sends, what is told of it, and the topic where there is one.
LIMITS = {
    "QoS": (["mqtt.max_qos=1"], publish5(b"a/q", qos=2), "publish refused", "mqtt.max_qos = 1", "a/q"),
    "QoS at the end": (["mqtt.max_qos=1"], publish5(b"a/q", qos=2), "disconnected", "mqtt.max_qos = 1", None),
    "retain": (["mqtt.retain_available=false"], publish5(b"a/r", retain=True), "publish refused",
               "mqtt.retain_available = false", "a/r"),
    "levels": (["limits.topic_levels=3"], publish5(b"a/b/c/d"), "publish refused", "limits.topic_levels = 3",
               "a/b/c/d"),
    "length": (["limits.topic_bytes=4"], publish5(b"abcde"), "publish refused", "limits.topic_bytes = 4", "abcde"),
    "payload": (["limits.payload_bytes=3"], publish5(b"p", qos=1, payload=b"long"), "publish refused",
                "limits.payload_bytes = 3", "p"),
    "packet": (["limits.packet_bytes=50"], publish5(b"p", payload=b"x" * 60), "disconnected",
               "limits.packet_bytes = 50", None),
    "alias": (["limits.topic_alias_maximum=2"], publish5(b"p", alias=3), "disconnected",
              "limits.topic_alias_maximum = 2", None),
    "receive maximum": (["limits.receive_maximum=1"],
                        publish5(b"p", qos=2, number=1) + publish5(b"p", qos=2, number=2), "disconnected",
                        "limits.receive_maximum = 1", None),
    "rate": (["limits.publish_rate=1", "mqtt.rate_exceeded=disconnect"], publish5(b"p") * 5, "disconnected",
             "limits.publish_rate = 1", None),
    "bytes": (["limits.publish_bytes_rate=1", "mqtt.rate_exceeded=disconnect"], publish5(b"p") * 5, "disconnected",
              "limits.publish_bytes_rate = 1", None),
    "keep alive": (["limits.keep_alive_max_secs=1"], b"", "disconnected", "limits.keep_alive_max_secs = 1", None),
    "subscriptions": (["limits.subscriptions_per_client=1"], subscribe5(b"a") + subscribe5(b"b"),
                      "subscribe refused", "limits.subscriptions_per_client = 1", "b"),
    "filters": (["limits.subscription_bytes=5"], subscribe5(b"abcdef"), "subscribe refused",
                "limits.subscription_bytes = 5", "abcdef"),
    "levels of a filter": (["limits.topic_levels=2"], subscribe5(b"a/b/#"), "subscribe refused",
                           "limits.topic_levels = 2", "a/b/#"),
    "wildcards": (["mqtt.wildcard_subscriptions=false"], subscribe5(b"a/#"), "disconnected",
                  "mqtt.wildcard_subscriptions = false", None),
    "share groups": (["mqtt.shared_subscriptions=false"], subscribe5(b"$share/g/a"), "disconnected",
                     "mqtt.shared_subscriptions = false", None),
    "retained messages": (["limits.retained_messages=1"],
                          publish5(b"r/1", qos=1, retain=True) + publish5(b"r/2", qos=1, retain=True),
                          "publish refused", "limits.retained_messages = 1", "r/2"),
    "retained bytes": (["limits.retained_bytes=1"], publish5(b"r/1", qos=1, retain=True), "publish refused",
                       "limits.retained_bytes = 1", "r/1"),
}


@pytest.mark.parametrize("name", LIMITS)
def test_a_refusal_by_a_limit_names_its_option_and_its_number(start_node, name):
    settings, sent, what, option, topic = LIMITS[name]
    node = start_node(settings=settings)
    with socket.create_connection(("127.0.0.1", node.port()), timeout=60) as wire:
        wire.sendall(connect5(b"c1"))
        assert wire.recv(100)[0] == 0x20
        wire.sendall(sent)

        def told():
            entries = map(json.loads, logs(node, "-t", "--json").splitlines())
            return [one for one in entries if one["what"] == what and one["client_id"] == "c1"]
        until(told, f"{what} is among the problems")
    [entry] = told()[:1]
    assert f"({option})" in entry["why"] and entry["limit"] == option.split(" ")[0], entry
    assert entry.get("topic") == topic, entry
    assert option.split(" ")[0] in entry["remedy"], entry
    asked = ["c1", topic] if topic and what == "publish refused" else ["c1"]
    verdict = node.why(*asked)
    told = [verdict, *verdict["also"]]
    assert any(f"({option})" in one["sentence"] and option.split(" ")[0] in one.get("remedy", "") for one in told), \
        verdict


REFUSED_CONNECTS = {
    "address": (["limits.connect_rate_per_address=1"], "limits.connect_rate_per_address = 1"),
    "rate": (["limits.connect_rate=1"], "limits.connect_rate = 1"),
    "connections": (["limits.connections=1"], "limits.connections = 1"),
    "sessions": (["limits.sessions=1"], "limits.sessions = 1"),
    "identifier": (["limits.client_id_bytes=1"], "limits.client_id_bytes = 1"),
    "packet": (["limits.connect_packet_bytes=14"], "limits.connect_packet_bytes = 14"),
    "Will": (["limits.will_bytes=1"], "limits.will_bytes = 1"),
    "QoS of the Will": (["mqtt.max_qos=0"], "mqtt.max_qos = 0"),
    "levels of the Will": (["limits.topic_levels=1"], "limits.topic_levels = 1"),
}


@pytest.mark.parametrize("name", REFUSED_CONNECTS)
def test_a_connection_that_a_limit_refuses_is_told_of_with_option_and_number(start_node, name):
    settings, option = REFUSED_CONNECTS[name]
    node = start_node(settings=settings)
    # A Will with QoS 1 and an empty list of properties.
    will = b"\x00" + string(b"w/1") + string(b"gone")
    wires = []
    try:
        for number in range(4):
            wire = socket.create_connection(("127.0.0.1", node.port()), timeout=60)
            wires.append(wire)
            wire.sendall(connect5(b"client-%d" % number if name != "connections" else b"c%d" % number,
                                  will=will if "Will" in name else b""))
            wire.recv(100)
        until(lambda: f"({option})" in logs(node, "-t"), "it is told of")
    finally:
        for wire in wires:
            wire.close()
    line = next(line for line in logs(node, "-t").splitlines() if f"({option})" in line)
    assert "connect refused" in line and "raise" in line, line


def test_who_is_shown_out_for_a_limit_is_in_trouble(start_node):
    node = start_node(settings=["limits.publish_rate=1", "mqtt.rate_exceeded=disconnect"])
    with Client(node, "fast") as client:
        for _ in range(20):
            client.client.publish("t", "x", qos=0)
        client.wait_for_end()
    until(lambda: "disconnected: fast" in logs(node, "-t"), "it is told of")
    assert "raise limits.publish_rate" in logs(node, "-t")


def hints(node):
    """The commands of all refusals, by client."""
    entries = map(json.loads, logs(node, "--json").splitlines())
    return {entry["client_id"]: entry["command"] for entry in entries if "command" in entry}


def pasted(command, directory, given=""):
    """What a shell makes of a line, in a directory that has nothing to do with the node."""
    path = f"{pathlib.Path(martlet_process.binary()).parent}:{os.environ['PATH']}"
    return subprocess.run(["bash", "-c", command], cwd=directory, input=given, capture_output=True, text=True,
                          env={**martlet_process.environment(), "PATH": path}, timeout=60)


# Who takes the quotes apart makes a file; the last letters turn the direction of writing.
NASTY = "-a'b\"; touch PWNED; $(touch PWNED) `touch PWNED` \\ | > \u202eevil"


def test_each_command_works_as_it_is_printed(start_node, tmp_path):
    """With a password file and an ACL file, for names that are made to break out of their quotes."""
    passwords = mosquitto_passwd(tmp_path / "passwd", ("alice", "secret"), (NASTY, "secret"))
    acl = tmp_path / "acl"
    acl.write_text("user alice\ntopic write up\n")
    config = tmp_path / "it's my.toml"
    config.write_text(f'[auth]\npassword_file = "{passwords}"\nacl_file = "{acl}"\n')
    node = start_node(arguments=["-c", str(config)], data_dir=tmp_path / "my data")
    for client_id, user in [("c1", "alice"), (NASTY, NASTY)]:
        with Client(node, client_id).credentials(user, "secret") as client:
            client.publish(NASTY, "x")
    publish(node, "up", "-u", "alice", "-P", "wrong", "-i", "c2")
    publish(node, "up", "-u", "bob", "-P", "wrong", "-i", "c3")
    publish(node, "up", "-u", NASTY, "-P", "wrong", "-i", "c5")
    with Client(node, "c4").credentials("alice", "secret").will(NASTY, "x"):
        pass
    until(lambda: len(hints(node)) == 3 and "c4" in logs(node, "-t"), "all are told of")
    outside = tmp_path / "outside"
    outside.mkdir()
    # A look at the rules is no remedy.
    assert hints(node).keys() == {"c2", "c3", "c5"}
    for client_id, line in [("c2", "alice"), ("c3", "bob"), ("c5", NASTY)]:
        done = pasted(hints(node)[client_id], outside, given="another one\n")
        assert done.returncode == 0, done
        assert publish(node, "up", "-u", line, "-P", "another one", "-i", "later")[0] == 0
    assert not list(outside.iterdir())
    shown = logs(node)
    assert "\\u{202e}" in shown and "\u202e" not in shown, shown
    assert all(command in shown for command in hints(node).values())


def test_commands_of_the_tables_work_as_they_are_printed(start_node, tmp_path):
    data_dir = tmp_path / "data"

    def martlet(*arguments, given="secret\n"):
        done = subprocess.run([martlet_process.binary(), *arguments, "--data-dir", data_dir], input=given,
                              capture_output=True, text=True, env=martlet_process.environment(), timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout

    martlet("user", "add", "--weak", "ann o'hara")
    martlet("user", "add", "--weak", "eve")
    martlet("role", "add", "reader", "--rule", "topic read a/#")
    martlet("user", "add", "--weak", "bob", "--role", "reader")
    secret = json.loads(martlet("device", "add", "d 1", "--json"))["secret"]
    node = start_node(data_dir=data_dir)
    martlet("user", "set", "ann o'hara", "--disable")
    martlet("device", "set", "d 1", "--status", "maintenance")
    publish(node, "t", "-u", "ann o'hara", "-P", "secret", "-i", "c1")
    publish(node, "t", "-u", "d 1", "-P", secret, "-i", "d 1")
    publish(node, "t", "-u", "eve", "-P", "wrong", "-i", "c2")
    publish(node, "t", "-u", "bob", "-P", "secret", "-i", "c3")
    with Client(node, "c4").credentials("bob", "secret") as client:
        client.subscribe("b/#")
    until(lambda: len(hints(node)) == 5, "all are told of")
    for client_id in ["c1", "d 1", "c2", "c3", "c4"]:
        done = pasted(hints(node)[client_id], tmp_path, given="longer than that\n")
        assert done.returncode == 0, (hints(node)[client_id], done)
    assert publish(node, "t", "-u", "ann o'hara", "-P", "secret", "-i", "c1")[0] == 0
    assert publish(node, "d/d 1/x", "-u", "d 1", "-P", secret, "-i", "d 1")[0] == 0
    assert publish(node, "t", "-u", "eve", "-P", "longer than that", "-i", "c2")[0] == 0


def test_logs_are_followed(start_node, tmp_path):
    node = planted(start_node, tmp_path)
    follow = subprocess.Popen([martlet_process.binary(), "logs", "-f", "-n", "0", "--data-dir", node.data_dir],
                              stdout=subprocess.PIPE, text=True, env=martlet_process.environment())
    lines = []
    reader = threading.Thread(target=lambda: lines.extend(follow.stdout), daemon=True)
    reader.start()
    try:
        def refused():
            publish(node, "up", "-i", "later")
            return any("later" in line for line in lines)
        until(refused, "it is shown while it happens")
    finally:
        follow.kill()
        follow.wait(timeout=60)


def test_reading_events_changes_no_log(start_node):
    """With log.drops off a dropped message has no line, whoever reads the events."""
    node = start_node(settings=["limits.queued_messages=1", "log.drops=false"])
    kept = properties("CONNECT", SessionExpiryInterval=600)
    away = Client(node, "away", clean=False, properties=kept).start()
    away.subscribe("t", qos=1)
    away.disconnect()
    reader = subprocess.Popen(
        [martlet_process.binary(), "events", "--type", "dropped", "--json", "--data-dir", node.data_dir],
        stdout=subprocess.PIPE, text=True)
    try:
        with Client(node, "publisher") as publisher:
            lines = queue.Queue()
            threading.Thread(target=lambda: [lines.put(line) for line in reader.stdout], daemon=True).start()

            def is_told():
                publisher.acknowledged("t")
                return not lines.empty()

            until(is_told, "the reader is told of drops")
    finally:
        reader.kill()
        reader.wait()
    assert '"away"' in lines.get()
    assert "message dropped" not in node.log() and "message dropped" not in logs(node, "-t")


def test_a_trace_begins_with_the_connect(start_node):
    node = start_node()
    done = martlet_process.run("trace", "d1", "--minutes", "10", "--data-dir", node.data_dir)
    assert done.returncode == 0, done.stderr
    Client(node, "d1").start().disconnect()
    node.wait_for_log("DISCONNECT")
    lines = [line for line in node.log().splitlines() if 'client_id="d1"' in line]
    place = lambda text: next(at for at, line in enumerate(lines) if text in line)
    assert place('"CONNECT"') < place("client connected") < place('"CONNACK"'), lines


def test_a_slow_reader_has_one_line_and_not_one_for_each_message(start_node):
    """QoS 0 messages that a client does not read fast enough are dropped, and the log says so."""
    node = start_node(settings=["limits.output_bytes=65536"])
    with socket.create_connection(("127.0.0.1", node.port()), timeout=60) as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.sendall(b"\x10\x10\x00\x04MQTT\x04\x02\x00\x00\x00\x04slow")
        slow.sendall(b"\x82\x06\x00\x01\x00\x01t\x00")
        martlet_process.receive_exactly(slow, 9)
        with Client(node, "publisher") as publisher:
            def is_told():
                for _ in range(50):
                    publisher.client.publish("t", b"x" * 50_000, qos=0)
                publisher.acknowledged("other")
                return "messages lost" in node.log()
            begun = time.monotonic()
            until(is_told, "the log says it")
            is_told()
        lines = [line for line in node.log().splitlines() if "messages lost" in line]
        assert len(lines) <= 2 + (time.monotonic() - begun) / 10, lines
        assert all('client_id="slow"' in line and "limits.output_bytes" in line for line in lines), lines
        assert all("count=" in line and 'reason="output_full"' in line for line in lines), lines
        until(lambda: "output full" in logs(node, "slow"), "the journal has it")


def test_a_lost_message_has_a_line_without_log_drops(start_node):
    """Of each client and reason there is one line in ten seconds, with what, why and how many."""
    node = start_node(settings=["log.drops=false"])
    small = properties("CONNECT", MaximumPacketSize=50)
    with Client(node, "small", properties=small) as receiver, Client(node, "publisher") as publisher:
        receiver.subscribe("t/+", qos=0)
        for number in range(20):
            publisher.client.publish(f"t/{number}", b"x" * 100, qos=0)
        publisher.acknowledged("other")
        until(lambda: "messages lost" in logs(node, "small"), "the journal has it")
        told = logs(node, "-t", "small")
        assert "packet_too_large" in told or "Maximum Packet Size" in told, told
        lines = [line for line in node.log().splitlines() if "messages lost" in line]
        assert len(lines) == 1 and 'topic="t/0"' in lines[0] and 'reason="packet_too_large"' in lines[0], lines
        until(lambda: "count=19" in node.log(), "the rest is told with its number", within=30)


def test_why_of_a_member_tells_what_its_share_group_lost(start_node):
    node = start_node(settings=["limits.queued_messages=2"])
    kept = properties("CONNECT", SessionExpiryInterval=600)
    member = Client(node, "member", clean=False, properties=kept).start()
    member.subscribe("$share/workers/t", qos=1)
    member.disconnect()
    with Client(node, "publisher") as publisher:
        for _ in range(6):
            publisher.acknowledged("t")

    def lost():
        answer = node.why("member")
        return [one for one in [answer, *answer.get("also", [])] if "$share/workers/t" in one["sentence"]]

    until(lambda: [one["count"] for one in lost()[:1]] == [4], "why tells all of them")
    answer = found = lost()
    assert found[0]["count"] == 4 and "(queue_full)" in found[0]["sentence"], answer
    assert "limits.queued_messages" in found[0]["sentence"] + found[0]["remedy"] and found[0]["since"], answer


def test_a_flood_of_lines_is_counted_and_told_in_one(start_node, tmp_path):
    """In the file and on standard error; lines of another kind are there."""
    log = tmp_path / "martlet.log"
    node = start_node(settings=["log.lines_per_second=5", f"log.file={log}"])
    for number in range(40):
        with socket.create_connection(("127.0.0.1", node.port())) as wire:
            wire.sendall(b"\x10\x10\x00\x04MQTT\x04\x02\x00\x3c\x00\x04" + f"{number:04}".encode())
            assert wire.recv(4)[3:] == b"\x00"
            wire.sendall(b"\xe0\x00")
            assert wire.recv(1) == b""
    node.wait_for_log("more than 5 lines of one kind in a second")
    node.terminate()
    node.wait()
    for text in (node.log(), log.read_text()):
        shown = text.count("client connected client_id")
        lines = [line for line in text.splitlines() if "lines of one kind" in line and "client connected" in line]
        left_out = sum(int(re.search(r"lines=(\d+)", line)[1]) for line in lines)
        assert shown + left_out == 40 and left_out > 0, text
