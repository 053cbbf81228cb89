"""martlet logs: what was refused or lost, and the way to mend it, in one line each."""

import json
import os
import pathlib
import subprocess
import threading
import urllib.request

import martlet_process
from paho_client import Client
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
    assert publish(node, "up", "-u", "alice", "-P", "wrong", "-i", "c1")[0] != 0
    assert publish(node, "up", "-u", "bob", "-P", "secret", "-i", "c2")[0] != 0
    assert publish(node, "up", "-i", "c3")[0] != 0
    publish(node, "down", "-u", "alice", "-P", "secret", "-i", "c4", "-V", "5")
    with Client(node, "c6").credentials("alice", "secret") as client:
        client.client.publish("up", "x" * 2000)
        client.wait_for_end()
    expected = {
        "c1": ["connect refused", "user alice", "the password is not that of", "martlet user passwd"],
        "c2": ["connect refused", "user bob", "nobody of that name is known", "martlet user add"],
        "c3": ["connect refused", "it has no credentials", "martlet user add"],
        "c4": ["publish refused", "down", "martlet acl explain", " --client-id=c4 alice publish down"],
        "c6": ["disconnected", "limit packet_bytes", "raise limits.packet_bytes"],
    }
    for client, texts in expected.items():
        until(lambda: texts[0] in logs(node, client), f"{client} is told of")
        line = next(line for line in logs(node, client).splitlines() if texts[0] in line)
        for text in texts:
            assert text in line, line
        assert "127.0.0.1:" in line or texts[0] == "disconnected", line
        assert "secret" not in line and "wrong" not in line
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
    assert ", claims to be user alice (127.0.0.1:" in line and "limit publish_rate" in line, line
    with urllib.request.urlopen(f"{node.http_url}/metrics", timeout=20) as page:
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
    assert ", r/2: limit retained_messages" in line and "raise limits.retained_messages" in line, line


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
                          env={**martlet_process.environment(), "PATH": path}, timeout=20)


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
    with Client(node, "c4").credentials("alice", "secret").will(NASTY, "x"):
        pass
    until(lambda: len(hints(node)) == 5, "all are told of")
    outside = tmp_path / "outside"
    outside.mkdir()
    for client_id in ["c1", NASTY, "c4"]:
        done = pasted(hints(node)[client_id], outside)
        assert done.returncode == 1 and done.stdout.startswith("refused: "), done
    for client_id, line in [("c2", "alice"), ("c3", "bob")]:
        done = pasted(hints(node)[client_id], outside, given="another one\n")
        assert done.returncode == 0 and line in done.stdout, done
        assert publish(node, "up", "-u", line, "-P", "another one", "-i", "later")[0] == 0
    assert not list(outside.iterdir())
    shown = logs(node)
    assert "\\u{202e}" in shown and "\u202e" not in shown, shown
    assert all(command in shown for command in hints(node).values())


def test_commands_of_the_tables_work_as_they_are_printed(start_node, tmp_path):
    data_dir = tmp_path / "data"

    def martlet(*arguments, given="secret\n"):
        done = subprocess.run([martlet_process.binary(), *arguments, "--data-dir", data_dir], input=given,
                              capture_output=True, text=True, env=martlet_process.environment(), timeout=20)
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
        follow.wait(timeout=20)
