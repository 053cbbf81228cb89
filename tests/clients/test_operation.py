"""What an operator sees: starting, stopping, asking, configuring."""

import contextlib
import json
import os
import re
import socket
import stat
import struct
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

import martlet_process
from paho_client import V5, V311, Client, properties

DEADLINE_SECS = 60
TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


def get(node, path):
    """Status, headers and body of an HTTP request."""
    try:
        with urllib.request.urlopen(node.http_url + path, timeout=DEADLINE_SECS) as answer:
            return answer.status, answer.headers, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read().decode()


def ask(node, *arguments):
    """`martlet COMMAND` about that node, which must succeed."""
    done = martlet_process.run(*arguments, "--data-dir", node.data_dir)
    assert done.returncode == 0, done.stderr
    return done.stdout


# Stopping


def test_sigterm_ends_with_status_0_and_tells_the_clients(start_node, name):
    node = start_node()
    v5 = Client(node, f"{name}-5", V5).start()
    v311 = Client(node, f"{name}-4", V311).start()
    node.terminate()
    assert v5.wait_for_end().value == 0x8B
    v311.wait_for_end()
    assert node.wait() == 0
    for client in (v5, v311):
        client.client.loop_stop()


def test_sigint_ends_with_status_0(start_node):
    node = start_node()
    node.process.send_signal(2)
    assert node.wait() == 0


@contextlib.contextmanager
def client_that_reads_nothing(node, name):
    """A node that stops waits for it, because it still has output for it."""
    with socket.socket() as stuck, Client(node, f"{name}-p") as publisher:
        stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stuck.settimeout(DEADLINE_SECS)
        stuck.connect(("127.0.0.1", node.port()))
        stuck.sendall(connect_packet(4) + subscribe_packet(name, 4))
        martlet_process.receive_exactly(stuck, 9)
        for _ in range(40):
            publisher.publish(name, bytes(200_000))
        yield publisher


def test_a_repeated_signal_is_one_wish_and_a_later_one_ends_at_once(start_node, name):
    node = start_node(settings=["mqtt.shutdown_grace_secs=60"])
    with client_that_reads_nothing(node, name) as other:
        node.terminate()
        other.wait_for_end()
        node.terminate()
        time.sleep(1.1)
        assert node.process.poll() is None, node.log()
        node.terminate()
        assert node.wait() == 1
    assert node.log().count("a second signal") == 1


def test_stop_says_for_whom_it_waits(start_node, name):
    node = start_node(settings=["mqtt.shutdown_grace_secs=60"])
    with client_that_reads_nothing(node, name):
        done = martlet_process.run("stop", "--timeout", "3", "--data-dir", node.data_dir)
        assert done.returncode == 2
        assert "waiting for 1 client to receive its last output" in done.stderr
        node.process.kill()


def test_stop_ends_the_node(start_node, name):
    node = start_node()
    client = Client(node, name).start()
    ask(node, "stop")
    assert client.wait_for_end().value == 0x8B
    assert node.wait() == 0
    client.client.loop_stop()
    assert not (Path(node.data_dir) / "admin.sock").exists()
    again = martlet_process.run("stop", "--data-dir", node.data_dir)
    assert again.returncode != 0
    assert "no node answers" in again.stderr


def test_an_idle_half_open_connection_does_not_delay_the_stop(start_node):
    node = start_node()
    with socket.create_connection(("127.0.0.1", node.port())) as silent:
        silent.sendall(b"\x10")
        node.terminate()
        assert node.wait() == 0


def test_the_will_is_kept_when_the_node_stops(start_node, name):
    node = start_node()
    witness = Client(node, f"{name}-s").start()
    witness.subscribe(name, 1)
    client = Client(node, f"{name}-w").will(name, "gone", qos=1).start()
    node.terminate()
    assert node.wait() == 0
    witness.wait_for_end()
    assert witness.messages.empty()
    for one in (client, witness):
        one.client.loop_stop()


# Starting


def test_a_second_node_on_the_data_directory_is_refused(start_node):
    node = start_node()
    second = martlet_process.run(
        "serve", "--http", "off", "--listen", "mqtt://127.0.0.1:0", "--data-dir", node.data_dir
    )
    assert second.returncode != 0
    assert node.data_dir in second.stderr
    assert str(node.process.pid) in second.stderr
    assert "--data-dir" in second.stderr
    assert node.process.poll() is None


def test_a_node_starts_again_on_the_directory_of_a_killed_one(start_node, tmp_path, name):
    node = start_node(data_dir=tmp_path)
    node.process.kill()
    node.wait()
    again = start_node(data_dir=tmp_path)
    with Client(again, name) as client:
        assert client.connack.value == 0


def test_a_port_in_use_names_address_and_process(start_node, tmp_path):
    node = start_node()
    address = f"127.0.0.1:{node.port()}"
    second = martlet_process.run(
        *["serve", "--http", "off", "--listen", f"mqtt://{address}"],
        *["--data-dir", str(tmp_path / "data")],
    )
    assert second.returncode != 0
    assert address in second.stderr
    assert f"{node.process.pid}" in second.stderr


def test_an_http_port_in_use_says_what_to_do(start_node, tmp_path):
    node = start_node(http=True)
    address = node.http_url.removeprefix("http://")
    second = martlet_process.run(
        *["serve", "--http", address, "--listen", "mqtt://127.0.0.1:0"],
        *["--data-dir", str(tmp_path / "data")],
    )
    assert second.returncode != 0
    assert address in second.stderr
    assert "--http" in second.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes a network of its own")
def test_a_port_below_1024_says_which_right_it_needs(tmp_path):
    """In a network where no port is free for all."""
    serve = f"{martlet_process.binary()} serve --data-dir {tmp_path}/data"
    script = f"""echo 1024 > /proc/sys/net/ipv4/ip_unprivileged_port_start
{serve} --http off --listen mqtt://127.0.0.1:883
{serve} --http 127.0.0.1:80 --listen mqtt://127.0.0.1:0"""
    command = ["unshare", "--net", "setpriv", "--bounding-set", "-net_bind_service", "--inh-caps", "-net_bind_service",
               "bash", "-c", f"ip link set lo up\n{script}"]
    done = subprocess.run(
        command, env=martlet_process.environment(), capture_output=True, text=True, timeout=DEADLINE_SECS)
    said = [line for line in done.stderr.splitlines() if line.startswith("martlet: ")]
    assert len(said) == 2 and done.returncode == 1, done
    for line, address in zip(said, ("127.0.0.1:883", "127.0.0.1:80")):
        assert f"cannot listen on {address}; a port below 1024 needs" in line and "CAP_NET_BIND_SERVICE" in line, line
        assert "choose a higher port" in line, line


def test_the_data_directory_is_its_users_alone(start_node, tmp_path):
    node = start_node(data_dir=tmp_path / "new")
    assert node.process.poll() is None
    socket_mode = (tmp_path / "new" / "admin.sock").stat().st_mode
    assert stat.S_IMODE(socket_mode) == 0o600


def test_a_store_that_others_may_read_is_told_and_left_as_it_is(start_node, tmp_path):
    node = start_node(data_dir=tmp_path)
    store = tmp_path / "store"
    file = next(store.glob("*.log"))
    assert "chmod" not in node.log()
    for wide, mode in ((store, 0o750), (file, 0o644)):
        node.terminate()
        assert node.wait() == 0
        before = wide.stat().st_mode
        wide.chmod(mode)
        node = start_node(data_dir=tmp_path)
        assert f"run chmod -R go= {store} to change that" in ask(node, "status")
        assert stat.S_IMODE(wide.stat().st_mode) == mode
        wide.chmod(before)


@pytest.mark.parametrize("mode", [0o777, 0o775, 0o755])
def test_a_data_directory_that_others_may_write_to_is_told(start_node, tmp_path, mode):
    data = tmp_path / "data"
    data.mkdir()
    data.chmod(mode)
    node = start_node(data_dir=data)
    warned = [warning for warning in json.loads(ask(node, "status", "--json"))["warnings"] if "data directory" in warning]
    if mode == 0o755:
        assert not warned
    else:
        assert f"run chmod go-w {data} to change that" in warned[0] and f"(mode 0{mode:o})" in warned[0]
    assert data.stat().st_mode & 0o777 == mode, "it is left as it is"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_data_directory_of_another_user_is_told(start_node, tmp_path):
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    os.chown(data, 65534, 65534)
    node = start_node(data_dir=data)
    warned = json.loads(ask(node, "status", "--json"))["warnings"]
    assert f"belongs to another user (65534, this is 0), who may replace its contents: run chown -R 0 {data} " in warned[0]


def test_what_is_open_by_http_beyond_this_machine_is_told(start_node, tmp_path):
    config = tmp_path / "martlet.toml"
    config.write_text('[http]\nlisten = "0.0.0.0:0"\n')
    node = start_node(arguments=["--config", str(config)], http=None)
    warned = json.loads(ask(node, "status", "--json"))["warnings"]
    [open_to] = [warning for warning in warned if "other machines" in warning]
    [in_plain] = [warning for warning in warned if "no TLS" in warning]
    assert "http://0.0.0.0:" in open_to and "a key or a session" in open_to, open_to
    assert "http://0.0.0.0:" in in_plain and "secrets of new devices" in in_plain, in_plain


def test_all_threads_serve_clients(start_node, name):
    node = start_node(settings=["node.threads=4"])
    clients = [Client(node, f"{name}-{i}").start() for i in range(12)]
    for client in clients:
        client.subscribe(name, 1)
    clients[0].publish(name, "to all")
    assert [client.receive_payload() for client in clients] == ["to all"] * 12
    for client in clients:
        client.disconnect()


# Asking


def test_status_counts_what_is_there(start_node, name):
    node = start_node(settings=["mqtt.sys_interval_secs=0"])
    with Client(node, name) as client:
        client.subscribe(name, 1)
        client.publish(name, "kept", retain=True)
        client.receive()
        status = json.loads(ask(node, "status", "--json"))
        assert status["status"] == "ready"
        assert status["connections"] == 1
        assert status["sessions"] == 1
        assert status["subscriptions"] == 1
        assert status["retained_messages"] == 1
        assert status["publishes_received"] == 1
        assert status["listeners"] == node.urls
        assert status["data_dir"] == node.data_dir
        text = ask(node, "status")
        assert node.urls[0] in text
        assert "1 connected, 1 session, 1 subscription" in text


def test_status_tells_the_durability(start_node):
    for settings, mode, interval_ms, words in (
        ([], "sync", None, "acknowledged when synced"),
        (["store.durability=interval", "store.interval_ms=70"], "interval", 70, "every 70 ms"),
        (["store.durability=memory"], "memory", None, "a restart loses everything"),
    ):
        node = start_node(settings=settings)
        told = json.loads(ask(node, "status", "--json"))
        assert (told["durability"], told["interval_ms"]) == (mode, interval_ms)
        assert re.search(f"^durability +{mode}: .*{words}$", ask(node, "status"), re.MULTILINE)


def test_clients_are_listed(start_node, name):
    node = start_node()
    with Client(node, name, keepalive=77) as client:
        client.subscribe(name, 1)
        listed = json.loads(ask(node, "clients", "--json"))
        assert listed["total"] == 1
        one = listed["items"][0]
        assert (one["client_id"], one["connected"], one["keep_alive_secs"]) == (name, True, 77)
        assert one["address"].startswith("127.0.0.1:")
        assert one["subscriptions"] == 1
        text = ask(node, "clients")
        assert name in text
        assert "connected" in text


def test_asking_without_a_node_fails_and_says_so(tmp_path):
    for command in ("status", "clients", "stop"):
        done = martlet_process.run(command, "--data-dir", str(tmp_path))
        assert done.returncode != 0
        assert "no node answers" in done.stderr
        assert done.stdout == ""


def test_health_tells_alive_and_ready(node):
    for path, word in (("/health/live", "alive"), ("/health/ready", "ready")):
        status, _, body = get(node, path)
        assert status == 200
        assert json.loads(body)["status"] == word


def test_other_paths_are_not_found(node):
    status, _, _ = get(node, "/api/v1/nothing")
    assert status == 404


def test_many_connects_at_once_on_several_shards_are_all_answered(start_node):
    node = start_node(settings=["node.threads=4"])
    streams = [socket.create_connection(("127.0.0.1", node.port()), timeout=60) for _ in range(400)]
    for i, stream in enumerate(streams):
        client_id = b"many-%03d" % i
        body = b"\0\4MQTT\4\2\0\x3c" + struct.pack(">H", len(client_id)) + client_id
        stream.sendall(bytes([0x10, len(body)]) + body)
    for stream in streams:
        assert stream.recv(4) == bytes.fromhex("20020000")
        stream.close()


def test_a_connect_on_the_http_port_is_refused(node):
    # F23: not HTTP, so 400 or a close, never an MQTT answer.
    host, port = node.http_url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=5) as stream:
        stream.sendall(bytes.fromhex("100c00044d5154540402003c0000"))
        stream.shutdown(socket.SHUT_WR)
        answer = stream.recv(100)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 400")


def test_a_full_queue_is_logged_once_and_a_warning_until_it_is_worked_off(start_node, name):
    node = start_node(http=True, settings=["limits.queued_messages=10"])
    with Client(node, name, V311, clean=False) as sleeper:
        sleeper.subscribe("queued", 1)
    with Client(node, f"{name}-p", V311) as publisher:
        for number in range(30):
            publisher.publish("queued", str(number))
    warning = "The queue of 1 session or share group is full"
    assert warning in ask(node, "status")
    assert warning in get(node, "/health/ready")[2]
    assert "\nmartlet_queues_full 1\n" in get(node, "/metrics")[2]
    with Client(node, name, V311, clean=False) as sleeper:
        for _ in range(10):
            sleeper.receive()
    assert warning not in ask(node, "status")
    assert node.terminate() is None and node.wait() == 0
    told = [line for line in Path(node.log_path).read_text().splitlines() if "a queue is full" in line]
    assert len(told) == 1 and name in told[0] and "drop-oldest" in told[0], told


# Packets that clients do not send on their own


def connect_packet(version):
    body = b"\0\4MQTT" + bytes([version]) + b"\2\0\x3c" + (b"\0" if version == 5 else b"") + b"\0\1r"
    return bytes([0x10, len(body)]) + body


def talk(node, *packets):
    """Sends packets; gives all that came until the connection was closed or silent."""
    with socket.create_connection(("127.0.0.1", node.port()), timeout=DEADLINE_SECS) as client:
        client.sendall(b"".join(packets))
        client.shutdown(socket.SHUT_WR)
        data = b""
        while more := client.recv(65536):
            data += more
        return data


def subscribe_packet(filter_text, version):
    filter_bytes = filter_text.encode()
    body = b"\0\1" + (b"\0" if version == 5 else b"")
    body += struct.pack("!H", len(filter_bytes)) + filter_bytes + b"\1"
    return bytes([0x82, len(body)]) + body


def test_a_misplaced_wildcard_ends_an_older_client_and_refuses_a_newer_ones_filter(node):
    """[MQTT-3.1.1/4.8.0-1] before 5; [MQTT-3.9.3-1], 0x8F, in 5."""
    ping, pong = b"\xc0\0", b"\xd0\0"
    assert talk(node, connect_packet(4), ping).endswith(pong)
    old = talk(node, connect_packet(4), subscribe_packet("a/+b", 4), ping)
    assert old == b"\x20\2\0\0"
    new = talk(node, connect_packet(5), subscribe_packet("a/+b", 5), ping)
    assert new.endswith(b"\x8f" + pong)


def test_a_property_of_another_packet_is_malformed(node):
    """MQTT 5 section 2.2.2.2: 0x81."""
    body = b"\0\1a\2\x24\1"
    answer = talk(node, connect_packet(5), bytes([0x30, len(body)]) + body)
    assert re.search(rb"\xe0.\x81", answer, re.S)


def test_a_client_that_comes_back_at_once_is_heard_out_first(start_node, name):
    """What it sent on its old connection, DISCONNECT too, counts before the new one takes over."""
    node = start_node(settings=["node.threads=4"])
    topic, will, count = name.encode(), f"{name}/will".encode(), 300
    payload = b"\0\4back" + struct.pack("!H", len(will)) + will + b"\0\4gone"
    body = b"\0\4MQTT\4\x06\0\x3c" + payload
    connect = bytes([0x10, len(body)]) + body
    with Client(node, f"{name}-w") as witness:
        witness.subscribe(f"{name}/#", 0)
        for i in range(count):
            body = struct.pack("!H", len(topic)) + topic + str(i).encode()
            with socket.create_connection(("127.0.0.1", node.port()), DEADLINE_SECS) as client:
                client.sendall(connect)
                assert client.recv(4) == b"\x20\2\0\0"
                client.sendall(bytes([0x30, len(body)]) + body + b"\xe0\0")
        got = [witness.receive() for _ in range(count)]
        assert [message.payload for message in got] == [str(i).encode() for i in range(count)]
        witness.expect_no_message()


def test_plain_http_on_the_mqtt_port_is_closed(node):
    assert talk(node, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n") == b""


def test_help_and_version_are_there():
    done = martlet_process.run("--version")
    assert done.returncode == 0
    assert re.match(r"martlet \d+\.\d+\.\d+", done.stdout)
    assert martlet_process.run("--help").returncode == 0
    assert martlet_process.run("no-such-command").returncode != 0


def test_the_first_lines_name_the_setup_link_and_the_tables(start_node, tmp_path):
    command = [martlet_process.binary(), "serve", "--data-dir", str(tmp_path / "data"), "--http", "127.0.0.1:0", "--listen",
               "mqtt://127.0.0.1:0"]
    node = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            env=martlet_process.environment())
    try:
        said = ""
        for line in node.stdout:
            said += line
            if line.startswith("See how"):
                break
        assert re.search(r"http://127\.0\.0\.1:\d+/setup#[\w-]{20,}", said), said
        assert len(said.splitlines()) < 12 and "warning" not in said, said
    finally:
        node.terminate()
        log = node.communicate()[1]
    assert f"users and devices in {tmp_path}/data/martlet.db" in log
    warnings = [line.partition(" WARN ")[2] for line in log.splitlines() if " WARN " in line]
    assert len(warnings) == len(set(warnings)), "each once"


def test_a_start_that_fails_says_so_in_json(tmp_path):
    config = tmp_path / "martlet.toml"
    config.write_text('[log]\nformat = "json"\nlevels = "x"\n')
    for more in (["--log-format", "json", "--set", "log.level=loud"], ["-c", str(config)],
                 ["--log-format", "json", "--set", "auth.password_file=/nowhere"],
                 ["--log-format", "json", "--set", "nope=1"], ["--log-format", "json", "--nope"]):
        done = martlet_process.run("serve", "--data-dir", str(tmp_path / "data"), *more)
        assert done.returncode == (2 if more[-1] == "--nope" else 1) and done.stdout == "", done
        lines = [json.loads(line) for line in done.stderr.splitlines()]
        assert lines[-1]["level"] == "ERROR" and all(TIMESTAMP.fullmatch(line["timestamp"]) for line in lines), lines
        assert lines[-1]["message"].startswith("martlet: ") or more[-1] == "--nope", lines


def test_the_level_of_the_log_is_changed_while_the_node_runs(start_node):
    node = start_node()

    def level(*arguments, code=0):
        done = martlet_process.run("log", "level", *arguments, "--data-dir", node.data_dir)
        assert done.returncode == code, done
        return done.stdout + done.stderr

    assert level() == "everything: info\n"
    assert level("warn") == "everything: warn\n"
    assert "until 20" in level("debug", "--area", "api", "--minutes", "5")
    assert level("default", "--area", "api") == "everything: warn\n"
    assert json.loads(level("--json"))["level"] == "warn"
    assert "loud" in level("loud", code=1)


# The store's limit


@pytest.mark.parametrize("mib", [64, 80, 96])
def test_a_store_that_takes_store_bytes_is_full_and_takes_more_when_there_is_room(start_node, name, mib):
    limit = mib << 20
    node = start_node(
        settings=[
            f"limits.store_bytes={limit}",
            "limits.store_stalled_secs=3600",
            "limits.queued_bytes=1000000000",
        ],
        http=True,
    )
    store = Path(node.data_dir) / "store"

    def used():
        return sum(path.stat().st_size for path in store.iterdir())

    def is_full():
        report = json.loads(get(node, "/health/ready")[2])
        return any("limits.store_bytes" in warning for warning in report["warnings"])

    expiry = properties("CONNECT", SessionExpiryInterval=3600)
    keeper = Client(node, f"{name}-keeper", V5, clean=False, properties=expiry).start()
    keeper.subscribe(name, qos=1)
    keeper.disconnect()
    with Client(node, f"{name}-publisher", V5) as publisher:
        sent = []
        while not is_full():
            assert len(sent) < 200, "it takes more than its limit"
            sent.append(publisher.client.publish(name, os.urandom(1_000_000), qos=1))
            deadline = time.monotonic() + 5
            while not sent[-1].is_published() and not is_full():
                assert time.monotonic() < deadline
                time.sleep(0.01)
        assert 20 < len(sent)
        assert used() <= limit + (8 << 20), "but for what ends messages"
        # What would make it grow waits, new sessions are refused, QoS 0 goes on.
        sent.append(publisher.client.publish(name, b"waits", qos=1))
        new = Client(node, f"{name}-new", V5, clean=False, properties=expiry).start()
        assert new.connack.value == 0x97
        new.client.loop_stop()
        with Client(node, f"{name}-quick", V5) as quick:
            quick.subscribe(f"{name}/0", qos=0)
            quick.client.publish(f"{name}/0", b"x", qos=0)
            assert quick.messages.get(timeout=DEADLINE_SECS).payload == b"x"
        assert not sent[-1].is_published()
        # Who takes what is queued makes room.
        keeper = Client(node, f"{name}-keeper", V5, clean=False, properties=expiry).start()
        got = [keeper.messages.get(timeout=30).payload for _ in sent]
        assert got[-1] == b"waits"
        for one in sent:
            one.wait_for_publish(timeout=30)
            assert one.is_published()
        keeper.disconnect()
        deadline = time.monotonic() + 30
        while is_full():
            assert time.monotonic() < deadline, "it is full though there is room"
            time.sleep(0.05)


def test_a_limit_in_which_no_store_has_room_is_refused():
    for limit, code in ((0, 0), (1, 1), ((64 << 20) - 1, 1), (64 << 20, 0)):
        done = martlet_process.run("config", "check", "--set", f"limits.store_bytes={limit}")
        assert done.returncode == code, done
        if code != 0:
            assert "expected 0, or a whole number of at least 67108864" in done.stderr, done.stderr


def test_the_setup_link_is_in_no_log(tmp_path):
    """A terminal or a pipe gets it; a file or the journal, which stay, get the name of a file."""
    for kind in ("pipe", "file"):
        data, log, out = (tmp_path / f"{kind}-{what}" for what in ("data", "log", "out"))
        command = [martlet_process.binary(), "serve", "--data-dir", str(data), "--http", "127.0.0.1:0", "--listen",
                   "mqtt://127.0.0.1:0", "--set", f"log.file={log}"]
        with open(out, "wb") as stdout:
            node = subprocess.Popen(command, stdout=subprocess.PIPE if kind == "pipe" else stdout, stderr=subprocess.PIPE,
                                    text=True, env=martlet_process.environment())
        try:
            said = ""
            if kind == "pipe":
                for line in node.stdout:
                    said += line
                    if line.startswith("See how"):
                        break
            else:
                deadline = time.monotonic() + 3 * DEADLINE_SECS
                while "See how" not in said:
                    assert time.monotonic() < deadline, said
                    said = out.read_text()
                    time.sleep(0.02)
            url = re.search(r"health and metrics on (\S+)", said)[1]
            link = data / "setup-link"
            if kind == "pipe":
                found = re.search(r"/setup#([\w-]+)", said)[1]
                assert not link.exists()
            else:
                assert "/setup#" not in said and str(link) in said, said
                assert stat.S_IMODE(link.stat().st_mode) == 0o600
                found = re.search(r"/setup#([\w-]+)", link.read_text())[1]
            body = json.dumps({"token": found, "name": "ada", "password": "correct horse"}).encode()
            request = urllib.request.Request(f"{url}/api/v1/setup", body, {"Content-Type": "application/json"})
            assert urllib.request.urlopen(request, timeout=DEADLINE_SECS).status == 201
            deadline = time.monotonic() + DEADLINE_SECS
            while link.exists():
                assert time.monotonic() < deadline, "it is removed once there is an administrator"
                time.sleep(0.02)
        finally:
            node.terminate()
            told = node.communicate(timeout=DEADLINE_SECS)[1]
        for text in (told, log.read_text()):
            assert found not in text and "no administrator yet" in text, text


def test_a_first_start_is_healthy_and_warns_once_of_one_thing(tmp_path):
    with martlet_process.Node(data_dir=tmp_path / "data", http=True) as node:
        node.wait_for_log("ready")
        warnings = [line for line in node.log().splitlines() if " WARN " in line and "administ" in line]
        assert len(warnings) == 1 and "no administrator yet" in warnings[0] and "open to all users" in warnings[0], warnings
        health = ["health", "--data-dir", str(tmp_path / "data")]
        done = martlet_process.run(*health)
        assert done.returncode == 0 and "warning: The node has no administrator yet" in done.stdout, done
        for command in ("health", "status"):
            told = martlet_process.run(command, *health[1:]).stdout
            assert f"martlet user add --data-dir={tmp_path}/data NAME --role administrator" in told, told
            [warning] = json.loads(martlet_process.run(command, *health[1:], "--json").stdout)["warnings"]
            assert f"martlet user add --data-dir={tmp_path}/data NAME --role administrator" in warning, warning
        # The listener of this node alone is open.
        closed = "command line: only the listeners that are named are open; to open the default ones too, add "
        assert f"{closed}--listen ws://127.0.0.1:9001/mqtt" in node.log()
        assert martlet_process.run(*health, "--strict").returncode == 3


def test_fields_of_the_json_log_are_json(start_node):
    """No value is in the form that a program prints for its own programmers."""
    node = start_node(listen=("mqtt://127.0.0.1:0", "ws://127.0.0.1:0/mqtt"), arguments=["--log-format", "json"], http=True,
                      settings=["log.level=trace", "log.drops=true"])
    with Client(node, "a client") as client:
        client.subscribe("a/#")
        client.client.publish("a/b", "x", qos=1).wait_for_publish(DEADLINE_SECS)
    node.terminate()
    assert node.wait() == 0
    announced = [json.loads(line) for line in node.announced]
    lines = [json.loads(line) for line in node.log().splitlines()]
    assert all(TIMESTAMP.fullmatch(line["timestamp"]) and line["level"] for line in announced + lines), announced
    ready = next(line for line in lines if line["message"] == "ready")
    assert ready["listeners"] == ", ".join(node.urls)
    for line in lines:
        for name, value in line.items():
            assert not isinstance(value, str) or not re.search(r'^(\[|Some\(|None$|Ok\(|")|\w+ \{ ', value), (name, line)


def test_a_reload_that_changes_nothing_is_not_in_the_audit_log(start_node, tmp_path):
    acl = tmp_path / "acl"
    acl.write_text("topic readwrite #\n")
    node = start_node(settings=[f"auth.acl_file={acl}"])
    audited = lambda: json.loads(ask(node, "audit", "--json", "--action", "http.post"))["items"]
    for _ in range(3):
        assert "nothing has changed" in ask(node, "reload")
    assert audited() == []
    acl.write_text("topic readwrite a/#\n")
    assert f"changed: {acl}" in ask(node, "reload")
    assert [entry["changed"]["changed"] for entry in audited()] == [[str(acl)]]
