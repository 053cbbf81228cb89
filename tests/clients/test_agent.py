"""`martlet agent`: nothing that was taken is lost and the order is kept, whichever side dies."""

import json
import os
import pathlib
import signal
import sqlite3
import subprocess
import threading
import time

import pytest

from agent_process import Agent, environment_file
from martlet_process import ROOT, Node, binary, run
from mosquitto_process import Mosquitto
from paho_client import V311, Client
from programs import need
from server_process import free_port
from test_tls import Authority

TOPIC = "device/data/7"
DEADLINE_SECS = 60


@pytest.fixture
def start_agent(tmp_path):
    """Starts agents of a test's own, each with its directory: start_agent(options…, name=…)."""
    started = []

    def start(*options, name="agent", **more):
        agent = Agent(tmp_path / name, *options, **more)
        started.append(agent)
        return agent

    yield start
    for agent in started:
        agent.close()


class Broker:
    """A node that keeps port and data over kills, and a session at it that misses nothing."""

    def __init__(self, data_dir):
        self.data_dir, self.port = data_dir, free_port()
        self.start()
        with self.session() as session:
            session.subscribe("device/data/+", qos=1)

    def start(self):
        self.node = Node(listen=(f"mqtt://127.0.0.1:{self.port}",), data_dir=self.data_dir)

    def session(self):
        return Client(self.node, "reader", version=V311, clean=False, port=self.port)

    def kill(self):
        self.node.process.kill()
        self.node.wait()

    def payloads(self, last):
        """All payloads up to the last one, as they arrive."""
        found = []
        with self.session() as session:
            while not found or found[-1] != last:
                found.append(session.messages.get(timeout=DEADLINE_SECS).payload.decode())
        return found


@pytest.fixture
def broker(tmp_path):
    started = Broker(tmp_path / "data")
    yield started
    started.node.close()


def once(payloads):
    """Each payload where it came first."""
    return list(dict.fromkeys(payloads))


def numbers(count, first=0):
    return [str(number) for number in range(first, first + count)]


def lines(texts):
    return "".join(f"{text}\n" for text in texts)


def test_lines_of_standard_input_arrive_in_order_and_the_agent_ends(start_agent, broker):
    agent = start_agent("--topic", TOPIC, port=broker.port)
    agent.write(lines(numbers(500)) + "the last without an end")
    assert agent.end() == 0
    assert broker.payloads("the last without an end") == [*numbers(500), "the last without an end"]
    # Counts of nothing are no news.
    assert "acknowledged 501\n" in agent.log() and "damaged" not in agent.log()


def test_nothing_is_lost_and_the_order_is_kept_when_the_broker_is_killed_under_load(start_agent, broker):
    count, kills = 3_000, 3
    agent = start_agent("--topic", TOPIC, port=broker.port)
    rest = iter(numbers(count))
    for _ in range(kills):
        for _ in range(count // (kills + 1)):
            agent.write(f"{next(rest)}\n")
        agent.wait_for_log("connected to")
        broker.kill()
        for _ in range(50):
            agent.write(f"{next(rest)}\n")
        broker.start()
    agent.write(lines(rest))
    assert agent.end() == 0
    came = broker.payloads(str(count - 1))
    assert once(came) == numbers(count)
    # Those that waited for their PUBACK when it died.
    assert len(came) - count <= kills * 100


def test_nothing_is_lost_and_the_order_is_kept_when_the_agent_is_killed_under_load(start_agent, broker, tmp_path):
    count, kills = 4_000, 6
    folder = tmp_path / "folder"
    folder.mkdir()
    is_written = threading.Event()

    def write():
        with open(folder / "log", "a", encoding="ascii") as log:
            for number in range(count):
                log.write(f"{number}\n")
                if number % 20 == 0:
                    log.flush()
                    is_written.wait(0.02)

    writer = threading.Thread(target=write)
    agent = start_agent("--topic", TOPIC, "--folder", str(folder), port=broker.port)
    writer.start()
    with broker.session() as session:
        came = []
        for kill in range(kills):
            # Each kill comes when more was delivered than at the one before.
            for _ in range(100 + 37 * kill):
                came.append(session.messages.get(timeout=DEADLINE_SECS).payload.decode())
            agent.kill()
            agent.start()
        while came[-1] != str(count - 1):
            came.append(session.messages.get(timeout=DEADLINE_SECS).payload.decode())
    writer.join()
    assert once(came) == numbers(count)
    agent.wait_until(messages=0)
    assert agent.stop() == 0


def test_another_broker_is_stopped_and_started_under_load(start_agent):
    mosquitto = Mosquitto()
    try:
        def session():
            return Client(None, "reader", version=V311, clean=False, port=mosquitto.port)

        with session() as reader:
            reader.subscribe("device/data/+", qos=1)
        agent = start_agent("--topic", TOPIC, port=mosquitto.port)
        for first in range(0, 900, 300):
            agent.write(lines(numbers(150, first)))
            agent.wait_for_log("connected to")
            mosquitto.stop()
            agent.write(lines(numbers(150, first + 150)))
            mosquitto.start()
        assert agent.end() == 0
        with session() as reader:
            came = []
            while not came or came[-1] != "899":
                came.append(reader.receive_payload())
        assert once(came) == numbers(900)
    finally:
        mosquitto.close()


def test_a_broker_that_hangs_stops_nobody_who_writes(start_agent, broker):
    agent = start_agent("--topic", TOPIC, port=broker.port)
    agent.wait_for_log("connected to")
    broker.node.process.send_signal(signal.SIGSTOP)
    agent.write(lines(numbers(1_000)))
    agent.wait_until(taken=1_000, messages=1_000, acknowledged=0)
    broker.node.process.send_signal(signal.SIGCONT)
    assert agent.end() == 0
    assert broker.payloads("999") == numbers(1_000)


def test_what_was_taken_from_a_pipe_survives_a_kill_while_there_is_no_broker(start_agent, broker, tmp_path):
    pipe = str(tmp_path / "pipe")
    broker.kill()
    agent = start_agent("--topic", TOPIC, "--pipe", pipe, port=broker.port)
    agent.wait_for_log("the queue")
    for first in range(0, 300, 100):
        # Writers come and go; the last line of each has no end.
        with open(pipe, "w", encoding="ascii") as writer:
            writer.write(lines(numbers(100, first))[:-1])
        agent.wait_until(taken=first + 100)
    agent.kill()
    broker.start()
    agent.start()
    assert once(broker.payloads("299")) == numbers(300)
    agent.wait_until(messages=0)


def test_a_full_queue_drops_the_oldest_and_counts_them(start_agent, broker):
    broker.kill()
    agent = start_agent("--topic", TOPIC, "--queue-messages", "50", port=broker.port)
    for number in numbers(200):
        agent.write(f"{number}\n")
    agent.wait_until(taken=200, messages=50, dropped=150)
    assert "the queue is full" in agent.log()
    broker.start()
    assert agent.end() == 0
    assert broker.payloads("199") == numbers(50, 150)
    assert "dropped 150" in agent.log().splitlines()[-1]


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 4 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(place)], capture_output=True).returncode:
        pytest.skip("a file system of its own may be mounted by root alone")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_a_full_disk_makes_the_writer_wait_and_loses_nothing(start_agent, broker, small_disk):
    broker.kill()
    agent = start_agent("--topic", TOPIC, "--queue", str(small_disk / "queue"), port=broker.port)
    texts = [f"{number} {'x' * 30_000}" for number in range(200)]
    writer = threading.Thread(target=agent.write, args=(lines(texts),))
    writer.start()
    agent.wait_for_log("the disk has no room for more messages in the queue; no input is read")
    assert writer.is_alive() and agent.ask()["dropped"] == 0
    broker.start()
    writer.join()
    assert agent.end() == 0
    assert once(broker.payloads(texts[-1])) == texts


def test_files_of_a_folder_are_followed_and_dropped_in(start_agent, broker, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "engine.log").write_text("1\n2\n")
    agent = start_agent("--topic", "device/data/{file}", "--folder", str(folder), port=broker.port)
    with broker.session() as session:
        def received():
            message = session.receive()
            return message.topic, message.payload.decode()

        assert [received(), received()] == [("device/data/engine", "1"), ("device/data/engine", "2")]
        with open(folder / "engine.log", "a", encoding="ascii") as log:
            log.write("3\n")
        assert received() == ("device/data/engine", "3")
        # As a program does that drops whole files in: nobody sees half of one.
        (folder / ".new").write_text("4\n")
        os.rename(folder / ".new", folder / "trip.jsonl")
        assert received() == ("device/data/trip", "4")
        agent.wait_until(messages=0)
        assert agent.stop() == 0
        agent.start()
        with open(folder / "engine.log", "a", encoding="ascii") as log:
            log.write("5\n")
        assert received() == ("device/data/engine", "5")


def test_metrics_are_flat_json_with_the_names_of_device_programs(start_agent, broker):
    start_agent("--metrics", "1", "--device-id", "7", port=broker.port)
    with broker.session() as session:
        message = session.receive()
    assert (message.topic, message.qos) == (TOPIC, 1)
    found = json.loads(message.payload)
    assert found["device_id"] == "7"
    assert abs(found["timestamp"] - time.time()) < 60
    expected = {"cpu_usage", "ram_usage", "memory_total", "memory_used", "memory_available", "memory_percent",
                "disk_total", "disk_used", "disk_free", "disk_percent", "network_bytes_sent", "network_bytes_recv",
                "load_1m", "load_5m", "load_15m", "uptime_seconds", "agent_queue_messages", "agent_dropped"}
    assert expected <= found.keys()
    assert 0 <= found["cpu_usage"] <= 100 and found["memory_used"] < found["memory_total"]


@pytest.mark.long
def test_the_rate_is_kept(start_agent, broker):
    agent = start_agent("--topic", TOPIC, "--rate", "100", port=broker.port)
    agent.wait_for_log("connected to")
    with broker.session() as session:
        # From before the first one on: whoever looks at the clock when it has come may do so late.
        began = time.monotonic()
        agent.write(lines(numbers(250)))
        came = [session.receive_payload() for _ in range(250)]
        took = time.monotonic() - began
    assert came == numbers(250)
    assert 2.2 <= took < 10


@pytest.fixture
def seed_queue(tmp_path):
    """A queue of the guide's devices with 120 messages."""
    path = tmp_path / "device_7_queue.db"
    with sqlite3.connect(path) as database:
        database.execute(
            "CREATE TABLE messages (id INTEGER PRIMARY KEY AUTOINCREMENT, topic TEXT NOT NULL, payload TEXT NOT NULL, "
            "qos INTEGER DEFAULT 1, timestamp REAL NOT NULL, created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP)")
        fill(database, numbers(120))
    database.close()
    return path


def fill(database, payloads, topic=TOPIC):
    for payload in payloads:
        database.execute("INSERT INTO messages (topic, payload, timestamp) VALUES (?, ?, ?)", (topic, payload, 17.5))


def test_a_queue_in_sqlite_is_imported_once_in_order_and_not_changed(start_agent, broker, seed_queue, tmp_path):
    before = seed_queue.read_bytes()
    listed = os.listdir(tmp_path)
    queue = str(tmp_path / "agent/queue")

    def imported(file):
        done = run("agent", "import", str(file), "--queue", queue)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout.removeprefix(f"{file}: ")

    assert imported(seed_queue) == "120 messages imported, 0 were imported before; 120 are in the queue\n"
    assert imported(seed_queue) == "0 messages imported, 120 were imported before; 120 are in the queue\n"
    assert (seed_queue.read_bytes(), set(os.listdir(tmp_path)) - set(listed)) == (before, {"agent"})
    # A copy is no other queue, and what was added to it since is new.
    copy = tmp_path / "copy.db"
    copy.write_bytes(before)
    with sqlite3.connect(copy) as database:
        fill(database, ["120"])
    database.close()
    assert imported(copy) == "1 messages imported, 120 were imported before; 121 are in the queue\n"
    agent = start_agent(port=broker.port)
    assert agent.end() == 0
    assert broker.payloads("120") == numbers(121)
    assert imported(copy) == "0 messages imported, 121 were imported before; 0 are in the queue\n"


def test_an_import_says_what_it_leaves_out_and_what_it_cannot_read(seed_queue, tmp_path):
    queue = str(tmp_path / "queue")
    with sqlite3.connect(seed_queue) as database:
        fill(database, ["x"], topic="device/+/data")
        database.execute("INSERT INTO messages (topic, payload, timestamp) VALUES (CAST(x'ff' AS TEXT), 'x', 17.5)")
    database.close()
    done = run("agent", "import", str(seed_queue), "--queue", queue, "--queue-messages", "100")
    assert done.returncode == 3
    assert "2 rows have a topic that no broker accepts and were left out: 121, 122" in done.stderr
    assert "its 20 oldest messages were dropped" in done.stderr
    missing = run("agent", "import", str(tmp_path / "none.db"), "--queue", queue)
    assert (missing.returncode, "there is no such file" in missing.stderr) == (1, True)
    other = tmp_path / "other.db"
    sqlite3.connect(other).execute("CREATE TABLE t (a)").connection.close()
    wrong = run("agent", "import", str(other), "--queue", queue)
    assert (wrong.returncode, "expected a table messages" in wrong.stderr) == (1, True)


def test_a_second_agent_and_an_import_do_not_share_a_queue(start_agent, broker, seed_queue):
    agent = start_agent(port=broker.port)
    agent.wait_for_log("connected to")
    done = run("agent", "import", str(seed_queue), "--queue", agent.queue)
    assert (done.returncode, "in use by another agent" in done.stderr) == (1, True)


def test_the_guides_env_file_connects_with_tls_login_and_client_certificate(start_agent, start_node, tmp_path):
    authority = Authority(tmp_path / "ca")
    certificate, key = authority.sign("server")
    of_device, key_of_device = authority.sign("device", usage="clientAuth")
    passwords = tmp_path / "passwd"
    assert run("passwd", "-b", "-c", str(passwords), "device_user", "a long secret").returncode == 0
    node = start_node(listen=("mqtts://127.0.0.1:0", "mqtt://127.0.0.1:0"),
                      settings=[f"tls.certificate={certificate}", f"tls.key={key}",
                                f"tls.client_ca={authority.certificate}", "tls.client_certificates=required",
                                f"auth.password_file={passwords}", "mqtt.allow_anonymous=true"])
    place = tmp_path / "device"
    place.mkdir()
    environment_file(place / ".env", MQTT_BROKER_HOST="localhost", MQTT_BROKER_PORT=node.port("mqtts"),
                     MQTT_USE_TLS="true", MQTT_CA_CERTS=authority.certificate, MQTT_CERTFILE=of_device,
                     MQTT_KEYFILE=key_of_device, MQTT_USERNAME="device_user", MQTT_PASSWORD="a long secret",
                     MQTT_CLIENT_ID="7")
    with Client(node, "reader") as reader:
        reader.subscribe("device/data/+", qos=1)
        agent = start_agent(directory=place)
        agent.write("hello\n")
        message = reader.receive()
        assert (message.topic, message.payload) == ("device/data/7", b"hello")
        assert agent.end() == 0
        # The environment is stronger than the file.
        agent = start_agent(name="other", directory=place, variables={"MQTT_CLIENT_ID": "8", "MQTT_PASSWORD": "wrong"})
        agent.wait_for_log("the broker refuses the connection of 8 .*check MQTT_USERNAME and MQTT_PASSWORD")
        assert "a long secret" not in agent.log() and "wrong" not in agent.log()


def test_a_client_identifier_is_made_once_for_a_queue(start_agent, broker):
    agent = start_agent(port=broker.port)
    first = agent.wait_for_log(r"connected to \S+ as (agent[0-9a-f]{16});")[1]
    agent.kill()
    begin = len(agent.log())
    agent.start()
    assert agent.wait_for_log(r"connected to \S+ as (\S+);", begin)[1] == first


def test_version_3_1_1_is_spoken_on_request(start_agent, broker):
    agent = start_agent("--topic", TOPIC, "--protocol-version", "311", port=broker.port)
    agent.write("x\n")
    assert agent.end() == 0
    assert broker.payloads("x") == ["x"]


def test_what_the_broker_refuses_is_removed_counted_and_told(start_agent, start_node, tmp_path):
    acl = tmp_path / "acl"
    acl.write_text("topic write device/data/good\n")
    node = start_node(settings=[f"auth.acl_file={acl}", "mqtt.allow_anonymous=true"])
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "bad").write_text("x\n")
    (folder / "good").write_text("y\n")
    agent = start_agent("--topic", "device/data/{file}", "--folder", str(folder), port=node.port())
    agent.wait_until(messages=0, refused=1, acknowledged=1)
    agent.wait_for_log('the broker refuses a message to "device/data/bad", which is removed: Not authorized')


def test_a_broker_that_takes_qos_0_only_loses_no_message(start_agent, start_node, tmp_path):
    node = start_node(settings=["mqtt.max_qos=0", "mqtt.allow_anonymous=true"])
    agent = start_agent("--topic", TOPIC, port=node.port())
    agent.write("x\ny\n")
    agent.wait_until(taken=2, messages=2)
    agent.wait_for_log(rf"127.0.0.1:{node.port()}: the broker accepts only messages of QoS 0.*all messages stay.*--host")
    assert agent.ask()["refused"] == 0
    agent.kill()
    data = Node(settings=["mqtt.allow_anonymous=true"], data_dir=tmp_path / "other")
    try:
        with Client(data, "reader") as reader:
            reader.subscribe(TOPIC, qos=1)
            again = start_agent("--topic", TOPIC, port=data.port())
            assert [reader.receive().payload for _ in range(2)] == [b"x", b"y"]
            again.wait_until(messages=0, refused=0)
    finally:
        data.close()


def test_an_env_file_may_begin_with_a_bom(start_agent, broker, tmp_path):
    place = tmp_path / "device"
    place.mkdir()
    environment_file(place / ".env", **{"\ufeffMQTT_CLIENT_ID": "7", "MQTT_BROKER_PORT": broker.port})
    start_agent(directory=place).wait_for_log(f":{broker.port} as 7;")


def test_a_wrong_option_and_a_missing_folder_are_told(tmp_path):
    missing = run("agent", "--folder", str(tmp_path / "none"), "--queue", str(tmp_path / "queue"))
    assert missing.returncode == 1
    assert f"cannot read the folder {tmp_path / 'none'}" in missing.stderr
    wrong = run("agent", "--topic", "a/#", "--queue", str(tmp_path / "queue"))
    assert (wrong.returncode, "expected a Topic Name" in wrong.stderr) == (1, True)


def test_systemd_accepts_the_unit_and_finds_it_well_confined(tmp_path):
    unit = (ROOT / "deploy/agent/martlet-agent.service").read_text()
    place = tmp_path / "martlet-agent.service"
    place.write_text(unit.replace("/usr/local/bin/martlet-agent", binary()))
    analyze = need("systemd-analyze", "systemd")
    verified = subprocess.run([analyze, "verify", str(place)], capture_output=True, text=True, timeout=DEADLINE_SECS)
    told = [line for line in verified.stderr.splitlines() if "martlet-agent" in line]
    assert told == []
    # Tenths of a point, from 0 to 100: above 50 is what systemd calls exposed.
    done = subprocess.run([analyze, "security", "--offline=true", "--threshold=20", "--no-pager", str(place)],
                          capture_output=True, text=True, timeout=DEADLINE_SECS)
    assert done.returncode == 0, done.stdout[-200:]


@pytest.mark.parametrize("protocol", ["5", "311"])
def test_the_session_of_an_agent_outlives_its_connection(start_agent, tmp_path, protocol):
    with Node(data_dir=tmp_path / "data") as node:
        agent = start_agent("--topic", TOPIC, "--id", "tractor-7", "--protocol-version", protocol, port=node.port())
        agent.wait_for_log("connected to")
        shown = json.loads(run("client", "show", "tractor-7", "--json", "--data-dir", str(node.data_dir)).stdout)
        client = shown["client"]
        assert (shown["connection"]["clean_start"], client["keep_alive_secs"]) == (False, 60), shown
        assert client["session_expiry_secs"] == (7 * 86_400 if protocol == "5" else 2**32 - 1), shown
        agent.kill()
        node.wait_for_log("disconnected client_id=\"tractor-7\"")
        agent.start()
        agent.wait_for_log("connected to", len(agent.log()) // 2)
        node.wait_for_log("session_present=true")


# The limit holds for the program that is shipped, which bench/agent measures. That of a debug build is larger.
SMALL_PROGRAM_MEMORY_MAX = 15_000_000


def test_the_small_program_loses_nothing_and_takes_little_memory(start_agent, broker):
    program = pathlib.Path(binary()).with_name("martlet-agent")
    if not program.is_file():
        pytest.skip(f"{program} is not there: cargo build --workspace --bins")
    count = 3_000
    agent = start_agent("--topic", TOPIC, port=broker.port, program=[str(program)])
    agent.wait_for_log("connected to")
    agent.write(lines(numbers(count // 2)))
    broker.kill()
    agent.write(lines(numbers(count // 2, first=count // 2)))
    agent.wait_for_log("next attempt")
    assert agent.memory() <= SMALL_PROGRAM_MEMORY_MAX
    broker.start()
    agent.wait_until(messages=0)
    assert agent.memory() <= SMALL_PROGRAM_MEMORY_MAX
    assert agent.end() == 0
    assert once(broker.payloads(str(count - 1))) == numbers(count)
