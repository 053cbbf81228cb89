"""Sinks: messages in a file, over kills of the node, full disks and rotations."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import threading
import time
import urllib.request

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

import martlet_process
from programs import need
from server_process import free_port
from paho_client import Client
from test_http_api import KEYS
from test_http_registry import call

DEADLINE_SECS = 60


def configured(tmp_path, **keys):
    """Options of a node with one sink, and the sink's file."""
    path = tmp_path / "out" / "messages.json"
    path.parent.mkdir(exist_ok=True)
    keys = {"name": "audit", "filters": ["plant/#"], "path": str(path), **keys}
    config = tmp_path / "martlet.toml"
    lines = [f"{key} = {json.dumps(value)}" for key, value in keys.items()]
    config.write_text("\n".join(["[[sinks.file]]", *lines]) + "\n")
    options = {"arguments": ("-c", str(config)), "data_dir": tmp_path / "data"}
    return options, path


def lines(path):
    """What stands in the file: whole lines of JSON."""
    try:
        text = path.read_text()
    except FileNotFoundError:  # Not there yet, or just renamed.
        return []
    # The last one may be torn, as a crash leaves it, until the sink mends it.
    return [json.loads(line) for line in text.splitlines(True) if line.endswith("\n")]


def until(condition, what, timeout=DEADLINE_SECS):
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, what() if callable(what) else what
        time.sleep(0.02)


def until_lines(node, path, count):
    def told():
        return f"{len(lines(path))} of {count} lines came:\n{node.log()}"

    until(lambda: len(lines(path)) >= count, told)
    return lines(path)


def warnings(node):
    with urllib.request.urlopen(node.http_url + "/api/v1/health", timeout=60) as answer:
        return json.load(answer)["warnings"]


def test_a_message_is_a_line_of_the_file(start_node, tmp_path):
    options, path = configured(tmp_path)
    node = start_node(**options)
    before = int(time.time() * 1000)
    with Client(node, "pump-1").credentials("ann", "secret") as client:
        client.publish("plant/1/temperature", "21.5 °C", retain=True)
        client.publish("plant/1/raw", b"\x00\xff", qos=2)
        client.publish("elsewhere", "not taken")
        client.publish("plant/2", "")
    first, second, third = until_lines(node, path, 3)
    assert set(first) == {
        "id", "topic", "payload", "qos", "retain", "client_id", "user", "device", "received_at",
        "repeated",
    }
    assert isinstance(first["id"], str) and first["id"] != second["id"]
    found = (first["topic"], first["payload"], first["qos"], first["retain"])
    assert found == ("plant/1/temperature", "21.5 °C", 1, True)
    names = (first["client_id"], first["user"], first["device"], first["repeated"])
    # Nobody has checked that it is ann.
    assert names == ("pump-1", None, None, False)
    assert first["received_at"].endswith("Z") and len(first["received_at"]) == 24
    seconds = time.strftime("%Y-%m-%dT%H:", time.gmtime(before / 1000))
    assert first["received_at"].startswith(seconds[:10])
    assert "payload" not in second and second["payload_base64"] == "AP8="
    assert (second["qos"], second["retain"]) == (2, False)
    assert (third["topic"], third["payload"]) == ("plant/2", "")
    assert path.stat().st_mode & 0o137 == 0


def test_messages_of_all_tenants_name_their_teams(start_node, tmp_path):
    options, path = configured(tmp_path, tenant="*", filters=["plant/#"])
    (tmp_path / "martlet.toml").write_text(
        (tmp_path / "martlet.toml").read_text()
        + f"[[sinks.file]]\nname = 'own'\nfilters = ['#']\npath = '{path.parent}/own.json'\ntenant = 'north'\n"
    )
    node = start_node(**options, http=True, variables=KEYS)
    call(node, "POST", "/api/v1/device-types", {"name": "free", "rules": ["topic readwrite #"]})
    devices = {}
    for team in ("north", "south", None):
        body = {"id": "pump", "type": "free"}
        if team:
            body["team"] = call(node, "POST", "/api/v1/teams", {"name": team, "owns_tenant": True})["id"]
        devices[team] = call(node, "POST", "/api/v1/devices", body)
    # The sink of the team is attached once the team is there.
    until(lambda: "an integration works again" in node.log(), node.log)
    for count, (team, made) in enumerate(devices.items(), 1):
        with Client(node, "pump").credentials(made["user_name"], made["secret"]) as client:
            client.publish("plant/1", team or "common")
        # Messages of two clients are in no order otherwise.
        until_lines(node, path, count)
    found = until_lines(node, path, 3)
    assert [(line["team"], line["payload"]) for line in found] == [("north", "north"), ("south", "south"), (None, "common")]
    own = until_lines(node, path.parent / "own.json", 1)
    assert [line["payload"] for line in own] == ["north"] and "team" not in own[0], own


def is_acknowledged(info):
    try:
        return info.is_published()
    except RuntimeError:  # The connection had ended when it was published.
        return False


class Publisher(threading.Thread):
    """Publishes numbers with QoS 1 until it is told to stop, over all ends of its connection, and
    notes which were acknowledged."""

    def __init__(self, ports, name, count):
        super().__init__(daemon=True)
        self.ports, self.name, self.count = ports, name, count
        self.acknowledged = set()
        self.stopped = threading.Event()

    def run(self):
        while len(self.acknowledged) < self.count and not self.stopped.is_set():
            self.connect_and_publish()

    def connect_and_publish(self):
        client = mqtt.Client(
            CallbackAPIVersion.VERSION2, client_id=self.name, reconnect_on_failure=False
        )
        client.max_inflight_messages_set(200)
        connected, ended, sent = threading.Event(), threading.Event(), []
        client.on_connect = lambda *_: connected.set()
        client.on_disconnect = lambda *_: ended.set()
        try:
            client.connect("127.0.0.1", self.ports[-1])
        except OSError:
            time.sleep(0.02)
            return

        def is_over():
            return ended.is_set() or self.stopped.is_set()

        def note(most):
            """Notes what is acknowledged until so many at most are not."""
            while True:
                done = {number for number, info in sent if is_acknowledged(info)}
                self.acknowledged |= done
                sent[:] = [one for one in sent if one[0] not in done]
                if len(sent) <= most or is_over():
                    return
                time.sleep(0.001)

        client.loop_start()
        if connected.wait(5):
            missing = [one for one in range(self.count) if one not in self.acknowledged]
            for begin in range(0, len(missing), 50):
                for number in missing[begin : begin + 50]:
                    sent.append((number, client.publish(f"plant/{self.name}", str(number), 1)))
                note(100)
                if is_over():
                    break
            note(0)
        client.loop_stop()


def test_every_acknowledged_message_is_in_the_file_although_the_node_is_killed(tmp_path):
    options, path = configured(tmp_path)
    count, kills = 5_000, 6
    node = martlet_process.Node(**options)
    # Each run of the node has a port of its own.
    ports = [node.port()]
    publishers = [Publisher(ports, name, count) for name in ("a", "b")]
    try:
        for publisher in publishers:
            publisher.start()
        for kill in range(1, kills + 1):
            share = 2 * count * kill // (kills + 1)
            until(lambda: sum(len(one.acknowledged) for one in publishers) >= share, "too slow")
            node.process.send_signal(signal.SIGKILL)
            node.process.wait()
            node = martlet_process.Node(**options)
            ports.append(node.port())
        for publisher in publishers:
            publisher.join(DEADLINE_SECS)
            assert len(publisher.acknowledged) == count

        wanted = {(f"plant/{one.name}", str(number)) for one in publishers for number in range(count)}

        def missing():
            return wanted - {(line["topic"], line["payload"]) for line in lines(path)}

        until(lambda: not missing(), lambda: f"missing: {len(missing())}\n{node.log()}")
        found = lines(path)
        # A message is written twice only if the second line says so.
        seen = set()
        for line in found:
            assert line["id"] not in seen or line["repeated"], line
            seen.add(line["id"])
        # In the order of receipt: only what is repeated comes later than it came in.
        for topic in {line["topic"] for line in found}:
            new = [line for line in found if line["topic"] == topic and not line["repeated"]]
            # The upper bits are the shard, which a client may change with a restart.
            ids = [int(line["id"]) % 2**58 for line in new]
            assert ids == sorted(ids)
    finally:
        for publisher in publishers:
            publisher.stopped.set()
        node.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts")
def test_a_full_file_system_loses_nothing_and_is_told(start_node, tmp_path):
    options, path = configured(tmp_path)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", path.parent], check=True)
    try:
        node = start_node(**options, http=True)
        with Client(node, "pump-1") as client:
            for number in range(200):
                client.publish("plant/1", f"{number} " + "x" * 1000)
        until(lambda: "No space left" in node.log(), node.log)
        told = "The integration file/audit has not delivered"
        until(lambda: any(told in one for one in warnings(node)), "no warning")
        # Nothing of a line that did not fit is left.
        assert len(lines(path)) < 200
        subprocess.run(["mount", "-o", "remount,size=1m", path.parent], check=True)
        found = until_lines(node, path, 200)
        payloads = [line["payload"].split()[0] for line in found]
        assert payloads == [str(number) for number in range(200)]
        until(lambda: not any(told in one for one in warnings(node)), "the warning stays")
        node.wait_for_log("an integration works again")
        node.close()
    finally:
        subprocess.run(["umount", path.parent], check=True)


def test_a_directory_that_is_missing_is_told_and_nothing_is_lost(start_node, tmp_path):
    options, path = configured(tmp_path)
    path.parent.rmdir()
    node = start_node(**options)
    assert "the sink \"audit\" could not write now" in node.log()
    with Client(node, "pump-1") as client:
        for number in range(300):
            client.publish("plant/1", str(number))
    node.wait_for_log("an integration failed and is tried again")
    path.parent.mkdir()
    found = until_lines(node, path, 300)
    assert [line["payload"] for line in found] == [str(number) for number in range(300)]


def test_publishers_wait_for_a_sink_that_holds_them_and_nothing_is_lost(start_node, tmp_path):
    options, path = configured(tmp_path, max_bytes=20_000, on_full="hold")
    path.parent.rmdir()
    node = start_node(**options, http=True)
    count = 1_000
    publisher = Publisher([node.port()], "a", count)
    publisher.start()
    try:
        told = "its queue is full, and clients that publish for it wait"
        until(lambda: any(told in one for one in warnings(node)), node.log)
        acknowledged = len(publisher.acknowledged)
        assert acknowledged < count
        # A client that publishes something else does not wait.
        with Client(node, "other") as client:
            client.publish("elsewhere", "x")
        path.parent.mkdir()
        publisher.join(DEADLINE_SECS)
        assert len(publisher.acknowledged) == count
        found = until_lines(node, path, count)
        assert [line["payload"] for line in found] == [str(number) for number in range(count)]
        until(lambda: not any("file/audit" in one for one in warnings(node)), "the warning stays")
    finally:
        publisher.stopped.set()


def test_the_oldest_messages_make_room_at_max_bytes_and_that_is_told(start_node, tmp_path):
    options, path = configured(tmp_path, max_bytes=20_000)
    path.parent.rmdir()
    node = start_node(**options, http=True)
    count = 1_000
    with Client(node, "pump-1") as client:
        for number in range(count):
            client.publish("plant/1", str(number))
    told = "at which the oldest messages are dropped"
    until(lambda: any(told in one for one in warnings(node)), lambda: str(warnings(node)))

    def dropped():
        metrics = urllib.request.urlopen(node.http_url + "/metrics", timeout=60).read().decode()
        return sum(float(line.split()[-1]) for line in metrics.splitlines() if 'reason="queue_full"' in line)

    until(lambda: dropped() > 500, lambda: f"{dropped()} are dropped")
    path.parent.mkdir()
    until(lambda: any_line(path, str(count - 1)), node.log)
    found = [int(line["payload"]) for line in lines(path)]
    # First what was in hand, then the newest of the others.
    first = next(at for at, number in enumerate(found) if number != at)
    assert found[first:] == list(range(count - len(found) + first, count))


def test_a_message_that_waits_too_long_is_dropped(start_node, tmp_path):
    options, path = configured(tmp_path, max_age_secs=2)
    path.parent.rmdir()
    node = start_node(**options, http=True)
    with Client(node, "pump-1") as client:
        for number in range(400):
            client.publish("plant/1", str(number))

        def is_counted():
            answer = urllib.request.urlopen(node.http_url + "/metrics", timeout=60)
            metrics = answer.read().decode().splitlines()
            dropped = [line for line in metrics if 'reason="too_old"' in line]
            return sum(float(line.split()[-1]) for line in dropped) > 200

        until(is_counted, node.log)
        path.parent.mkdir()

        def has_come():
            # The pause before the next attempt may be longer than a message waits.
            client.publish("plant/1", "new")
            return any_line(path, "new")

        until(has_come, node.log)


@pytest.mark.parametrize("keep", (True, False))
def test_qos_0_is_kept_where_that_is_asked_for(start_node, tmp_path, keep):
    options, path = configured(tmp_path, keep_qos0=keep)
    path.parent.rmdir()
    node = start_node(**options)
    with Client(node, "pump-1") as client:
        for number in range(400):
            client.publish("plant/1", str(number), qos=0)
        # Behind all others.
        client.publish("plant/1", "end", qos=1)
    if keep:
        node.process.send_signal(signal.SIGTERM)
        assert node.wait() == 0
        node = start_node(**options)
    path.parent.mkdir()
    until(lambda: any(line["payload"] == "end" for line in lines(path)), node.log)
    found = [line["payload"] for line in lines(path)]
    if keep:
        assert found == [*map(str, range(400)), "end"]
    else:
        assert len(found) < 401, "more than its credit cannot wait"


def test_a_large_file_is_renamed_and_one_that_was_moved_is_made_anew(start_node, tmp_path):
    options, path = configured(tmp_path, file_bytes=2_000, files_kept=2)
    node = start_node(**options)
    with Client(node, "pump-1") as client:
        for number in range(40):
            client.publish("plant/1", str(number))
            until(lambda: any_line(path, str(number)), node.log)
        moved = path.with_name("moved")
        path.rename(moved)
        client.publish("plant/1", "after")
        until(lambda: any_line(path, "after"), node.log)
    assert [line["payload"] for line in lines(path)] == ["after"]
    rotated = [pathlib.Path(f"{path}.{number}") for number in (1, 2)]
    kept = [line["payload"] for one in (rotated[1], rotated[0], moved) for line in lines(one)]
    assert kept == [str(number) for number in range(40 - len(kept), 40)]
    assert len(kept) > 10
    assert all(one.stat().st_size <= 2_000 for one in rotated)
    assert not pathlib.Path(f"{path}.3").exists()


def test_the_second_sink_of_a_file_waits_for_the_first(start_node, tmp_path):
    options, path = configured(tmp_path)
    first = start_node(**options)
    other = tmp_path / "other"
    other.mkdir()
    (other / "out").symlink_to(path.parent)
    (other / "martlet.toml").write_text(
        (tmp_path / "martlet.toml").read_text().replace(str(path), str(other / "out" / path.name))
    )
    second = start_node(arguments=("-c", str(other / "martlet.toml")), data_dir=other / "data", http=True)
    with Client(first, "pump-1") as one, Client(second, "pump-2") as two:
        one.publish("plant/1", "first")
        until_lines(first, path, 1)
        two.publish("plant/2", "second")
        until(lambda: any("another" in text for text in warnings(second)), lambda: warnings(second))
        one.publish("plant/1", "third")
        until_lines(first, path, 2)
    assert [line["payload"] for line in lines(path)] == ["first", "third"]
    first.terminate()
    assert first.wait() == 0
    assert [line["payload"] for line in until_lines(second, path, 3)] == ["first", "third", "second"]


@pytest.mark.parametrize("durability", ("sync", "memory"))
def test_no_id_comes_twice_after_a_data_directory_is_put_back(start_node, tmp_path, durability):
    options, path = configured(tmp_path)
    options["settings"] = [f"store.durability={durability}"]

    def publish_some():
        before = len(lines(path))
        node = start_node(**options)
        with Client(node, "pump-1") as client:
            for number in range(300):
                client.publish("plant/1", str(number))
        until_lines(node, path, before + 300)
        node.terminate()
        assert node.wait() == 0

    publish_some()
    copy = tmp_path / "copy"
    shutil.copytree(options["data_dir"], copy)
    publish_some()
    shutil.rmtree(options["data_dir"])
    copy.rename(options["data_dir"])
    publish_some()
    ids = [line["id"] for line in lines(path)]
    assert len(set(ids)) == len(ids) == 900


def any_line(path, payload):
    return any(line["payload"] == payload for line in lines(path))


def test_a_torn_line_is_mended_and_a_stop_settles_what_is_written(start_node, tmp_path):
    options, path = configured(tmp_path)
    path.write_text('{"id":1,"payload":"old"}\n{"id":2,"top')
    node = start_node(**options)
    with Client(node, "pump-1") as client:
        client.publish("plant/1", "new")
    assert [line["payload"] for line in until_lines(node, path, 2)] == ["old", "new"]
    node.terminate()
    assert node.wait() == 0
    node = start_node(**options)
    with Client(node, "pump-1") as client:
        client.publish("plant/1", "after")
    found = until_lines(node, path, 3)
    assert [(line["payload"], line.get("repeated")) for line in found[1:]] == [
        ("new", False),
        ("after", False),
    ]


def test_a_sink_that_is_not_configured_any_more_has_no_queue(start_node, tmp_path):
    options, path = configured(tmp_path)
    path.parent.rmdir()
    node = start_node(**options)
    with Client(node, "pump-1") as client:
        client.publish("plant/1", "dropped with its queue")
    # By the other thread, whose lane has a queue of its own.
    with Client(node, "pump-2") as client:
        client.publish("plant/1", "dropped too")
    node.terminate()
    assert node.wait() == 0
    config = pathlib.Path(options["arguments"][1])
    text = config.read_text()
    config.write_text("")
    node = start_node(**options)
    node.wait_for_log("no longer configured: its messages are dropped")
    told = [line for line in node.log().splitlines() if "no longer configured" in line]
    assert len(told) == 1 and "$integration/file/audit\" messages=2" in told[0], told
    node.terminate()
    assert node.wait() == 0
    config.write_text(text)
    path.parent.mkdir()
    node = start_node(**options)
    with Client(node, "pump-1") as client:
        client.publish("plant/1", "new")
    assert [line["payload"] for line in until_lines(node, path, 1)] == ["new"]


def test_config_check_finds_what_is_wrong_with_sinks(tmp_path):
    options, path = configured(tmp_path)
    check = ("config", "check", *options["arguments"], "--data-dir", str(tmp_path / "data"))
    done = martlet_process.run(*check)
    assert done.returncode == 0, done.stderr
    path.parent.rmdir()
    done = martlet_process.run(*check)
    assert done.returncode == 0 and str(path) in done.stdout
    configured(tmp_path, filters=["plant/#/x"])
    done = martlet_process.run(*check)
    assert done.returncode == 1 and "plant/#/x" in done.stderr
    configured(tmp_path)
    shown = martlet_process.run("config", "show", *options["arguments"])
    assert "[[sinks.file]]" in shown.stdout and 'filters = ["plant/#"]' in shown.stdout


def test_order_and_messages_are_kept_over_kills_with_other_numbers_of_threads(tmp_path):
    options, path = configured(tmp_path)
    number_of = {f"plant/{device}": 0 for device in range(6)}
    for threads in (2, 1, 3, 2):
        node = martlet_process.Node(**{**options, "arguments": (*options["arguments"], "--threads", str(threads))})
        try:
            clients = [Client(node, f"device-{device}").__enter__() for device in range(6)]
            for _ in range(50):
                for device, client in enumerate(clients):
                    topic = f"plant/{device}"
                    # Returns when it is acknowledged.
                    client.publish(topic, str(number_of[topic]), qos=1)
                    number_of[topic] += 1
        finally:
            node.process.kill()
            node.process.wait()
    node = martlet_process.Node(**options)
    try:
        until_lines(node, path, sum(number_of.values()))

        def firsts(topic):
            """What came, without what came again."""
            payloads = [int(line["payload"]) for line in lines(path) if line["topic"] == topic]
            return list(dict.fromkeys(payloads))

        for topic, count in number_of.items():
            until(lambda: len(firsts(topic)) == count, lambda: f"{topic}: {firsts(topic)}")
            assert firsts(topic) == list(range(count)), topic
    finally:
        node.close()


def test_a_line_is_synced_before_its_message_is_settled(start_node, tmp_path):
    """By the calls of the node: a write to the file, its sync, and only then the next batch."""
    strace = need("strace", "strace")
    options, path = configured(tmp_path)
    node = start_node(**options)
    trace = tmp_path / "trace"
    calls = "write,fdatasync,fsync,renameat,renameat2,rename"
    watcher = subprocess.Popen(
        [strace, "-f", "-y", "-qq", "-o", trace, "-e", f"trace={calls}", "-p", str(node.process.pid)],
        stderr=subprocess.PIPE)
    try:
        until(lambda: os.path.exists(trace) and all(tracers_of(node.process.pid)), "strace does not attach")
        with Client(node, "pump-1") as client:
            for number in range(20):
                client.publish("plant/1", str(number))
        until_lines(node, path, 20)
        node.close()
    finally:
        watcher.terminate()
        watcher.wait(10)
    of_file = [line for line in trace.read_text().splitlines() if str(path) in line]
    kinds = ["sync" if "sync(" in line else "write" for line in of_file if "write(" in line or "sync(" in line]
    assert kinds and kinds[-1] == "sync", of_file
    assert not any(pair == ("write", "write") for pair in zip(kinds, kinds[1:])), of_file
    # Its name is durable too.
    directory = f"<{path.parent}>"
    assert any("sync(" in line and directory in line for line in trace.read_text().splitlines())


def tracers_of(pid):
    """Who traces each thread; 0 is nobody."""
    texts = [path.read_text() for path in pathlib.Path(f"/proc/{pid}/task").glob("*/status")]
    return [int(line.split()[1]) for text in texts for line in text.splitlines() if line.startswith("TracerPid")]


def test_what_is_acknowledged_as_soon_as_the_port_is_open_is_delivered(tmp_path):
    """From the first start on, and over restarts with fewer and more threads while messages wait."""
    options, path = configured(tmp_path)
    # Nothing can be written there.
    path.mkdir()
    count, names = 200, []
    for turn, threads in enumerate(("4", "1", "4")):
        port = free_port()
        publishers = [Publisher([port], f"{turn}-{number}", count) for number in range(4)]
        for publisher in publishers:
            # It tries to connect until there is a node.
            publisher.start()
        node = martlet_process.Node(**{
            **options, "listen": [f"mqtt://127.0.0.1:{port}"],
            "arguments": (*options["arguments"], "--threads", threads)})
        try:
            for publisher in publishers:
                publisher.join(DEADLINE_SECS)
                assert len(publisher.acknowledged) == count, node.log()
                names.append(publisher.name)
        finally:
            for publisher in publishers:
                publisher.stopped.set()
            node.close()
    path.rmdir()
    node = martlet_process.Node(**options)
    try:
        wanted = {(f"plant/{name}", str(number)) for name in names for number in range(count)}

        def missing():
            return wanted - {(line["topic"], line["payload"]) for line in lines(path)}

        until(lambda: not missing(), lambda: f"missing: {len(missing())} {sorted(missing())[:5]}\n{node.log()}")
    finally:
        node.close()
