"""Topics of IoTFlow that the node itself has to do with: heartbeats and telemetry of devices, the
catalogue as it is configured, and what the node says of itself."""

import json
import time

import pytest

import martlet_process
import postgres_process
from paho_client import Client
from programs import Mosquitto
from test_3_iotflow import ADMIN, TOKEN, asked, has, key_of, registered

VARIABLES = {"IOTFLOW_ADMIN_TOKEN": TOKEN}
NATIVE = ("-H", f"X-API-Key: {TOKEN}", "-H", "Content-Type: application/json")


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def node(request):
    variables, server = dict(VARIABLES), None
    if request.param == "postgres":
        server = postgres_process.Server()
        variables["MARTLET_REGISTRY__URL"] = server.new_database()
    with martlet_process.Node(http=True, variables=variables.items()) as node:
        yield node
    if server:
        server.close()


def state(node, device):
    path = f"/api/v1/devices/{device['number']}/status"
    return asked(node, "GET", path, None, *ADMIN)[2]["device"]


def until(condition):
    """Waits until something holds, which is looked at again and again."""
    deadline = time.monotonic() + 20
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


def login(device):
    return ["-i", device["id"], "-u", device["id"], "-P", device["secret"]]


# ---- Heartbeats and telemetry


@pytest.mark.parametrize("path, qos", [
    ("status/heartbeat", "0"), ("heartbeat", "1"), ("telemetry", "1"), ("telemetry/sensors", "2"), ("status/online", "1"),
])
def test_a_message_by_mqtt_makes_its_device_online(node, path, qos):
    device = registered(node)
    assert state(node, device)["is_online"] is False
    payload = json.dumps({"status": "online", "uptime": 86400, "battery_level": 95, "signal_strength": -45,
                          "timestamp": "2025-07-01T10:30:00Z"})

    def told():
        # The node looks for the first device of this type, so that the first messages may be too early.
        sent = Mosquitto(node).pub(*login(device), "-q", qos, "-t", f"iotflow/devices/{device['id']}/{path}", "-m", payload)
        assert sent.returncode == 0, sent
        shown = state(node, device)
        return shown if shown["status_source"] == "database" and shown["is_online"] else None

    shown = until(told)
    assert shown["last_seen"]


def test_a_will_at_status_offline_makes_its_device_offline(node):
    device = registered(node)
    topic = f"iotflow/devices/{device['id']}/status"

    def seen():
        sent = Mosquitto(node).pub(*login(device), "-q", "1", "-t", f"{topic}/heartbeat", "-m", "x")
        assert sent.returncode == 0, sent
        return state(node, device)["status_source"] == "database" and state(node, device)["is_online"]

    until(seen)
    client = Client(node, device["id"]).credentials(device["id"], device["secret"]).will(f"{topic}/offline", "gone", qos=1)
    with client:
        client.drop()
    # It would be online for 300 s because of its heartbeat.
    until(lambda: not state(node, device)["is_online"])
    until(seen)
    # Telemetry that is stored after that is older.
    with Client(node, device["id"]).credentials(device["id"], device["secret"]) as client:
        client.publish(f"iotflow/devices/{device['id']}/telemetry/sensors", '{"temperature": 21.5}', 1)
        client.publish(f"{topic}/offline", "gone", 1)
    until(lambda: not state(node, device)["is_online"])


def test_other_messages_make_no_device_online(node):
    device, other = registered(node), registered(node)
    mosquitto = Mosquitto(node)
    for path in ("status/offline", "events/x"):
        sent = mosquitto.pub(*login(device), "-q", "1", "-t", f"iotflow/devices/{device['id']}/{path}", "-m", "x")
        assert sent.returncode == 0, sent
    # Another device has no heartbeats for this one.
    sent = mosquitto.pub(*login(other), "-V", "5", "-q", "1", "-t", f"iotflow/devices/{device['id']}/status/heartbeat", "-m", "x")
    assert "Not authorized" in sent.stdout + sent.stderr
    # What comes later is noted, so that what came before was looked at.
    until(lambda: mosquitto.pub(*login(other), "-t", f"iotflow/devices/{other['id']}/heartbeat", "-m", "x")
          and state(node, other)["is_online"])
    until(lambda: not state(node, device)["status_source"] == "broker")
    assert state(node, device)["is_online"] is False


def test_a_retained_heartbeat_is_no_sign_of_life_after_a_restart(tmp_path):
    settings = ["presence.timeout_secs=1"]
    with martlet_process.Node(http=True, data_dir=tmp_path, variables=VARIABLES.items(), settings=settings) as node:
        device = registered(node)
        topic = f"iotflow/devices/{device['id']}/status/heartbeat"
        sent = Mosquitto(node).pub(*login(device), "-r", "-q", "1", "-t", topic, "-m", "x")
        assert sent.returncode == 0, sent
    with martlet_process.Node(http=True, data_dir=tmp_path, variables=VARIABLES.items(), settings=settings) as node:
        other = registered(node)
        until(lambda: Mosquitto(node).pub(*login(other), "-t", f"iotflow/devices/{other['id']}/heartbeat", "-m", "x")
              and state(node, other)["is_online"])
        until(lambda: not state(node, device)["is_online"])


# ---- The catalogue


def test_base_qos_and_retain_of_the_catalogue_are_configured():
    settings = ["iotflow.base=plant/a", "iotflow.topics=system_metrics:1:true,device_commands_control:0:true",
                "iotflow.publish_secs=1"]
    with martlet_process.Node(http=True, settings=settings, variables=VARIABLES.items()) as node:
        answer = asked(node, "GET", "/api/v1/mqtt/topics/structure", None, *ADMIN)[2]
        assert answer["base_topic"] == "plant/a" and answer["wildcard_patterns"]["everything"] == "plant/a/#"
        entries = answer["topic_structures"]
        assert (entries["system_metrics"]["qos"], entries["system_metrics"]["retain"]) == (1, True)
        assert (entries["device_commands_control"]["qos"], entries["device_commands_control"]["retain"]) == (0, True)
        assert (entries["system_health"]["qos"], entries["system_health"]["retain"]) == (1, True)
        assert entries["system_health"]["full_topic_example"] == "plant/a/system/health"
        valid = lambda topic: asked(node, "POST", "/api/v1/mqtt/topics/validate", {"topic": topic}, *ADMIN)[2]["is_valid"]
        assert valid("plant/a/devices/7/telemetry") and not valid("iotflow/devices/7/telemetry")
        answer = asked(node, "POST", "/api/v1/mqtt/publish", {"topic": "plant/a/x", "payload": "x"}, *ADMIN)
        assert answer[0] == 200, answer
        # The rules of a device follow, and where its messages are noticed.
        device = registered(node)
        told = asked(node, "GET", "/api/v1/devices/mqtt-credentials", None, *key_of(device))[2]
        assert told["credentials"]["topics"]["telemetry_publish"] == f"plant/a/devices/{device['id']}/telemetry"
        mosquitto = Mosquitto(node)
        elsewhere = mosquitto.pub(*login(device), "-V", "5", "-q", "1", "-t", f"iotflow/devices/{device['id']}/heartbeat", "-m", "x")
        assert "Not authorized" in elsewhere.stdout + elsewhere.stderr
        until(lambda: mosquitto.pub(*login(device), "-t", f"plant/a/devices/{device['id']}/heartbeat", "-m", "x")
              and state(node, device)["is_online"])
        # And what the node publishes: it is retained now.
        administrator(node)
        options = ["-q", "1", "-u", "admin", "-P", PASSWORD, "-F", "%r %q"]
        until(lambda: read(node, "plant/a/system/metrics", *options)[-1] == "1 1")


def test_another_base_waits_for_a_restart(tmp_path):
    path = tmp_path / "martlet.toml"
    path.write_text('[iotflow]\nbase = "plant/a"\n')
    with martlet_process.Node(http=True, arguments=["-c", str(path)], variables=VARIABLES.items()) as node:
        device = registered(node)
        path.write_text('[iotflow]\nbase = "plant/b"\n')
        told = martlet_process.run("reload", "--data-dir", node.data_dir)
        assert "iotflow.base" in told.stdout + told.stderr and "restart" in told.stdout + told.stderr, told
        other = registered(node)
        for one in (device, other):
            for base, refused in (("plant/a", False), ("plant/b", True)):
                done = Mosquitto(node).pub(*login(one), "-V", "5", "-q", "1", "-t", f"{base}/devices/{one['id']}/telemetry", "-m", "x")
                assert ("Not authorized" in done.stdout + done.stderr) == refused, (base, done)


@pytest.mark.parametrize("setting, says", [
    ("iotflow.base=a/+", "cannot begin topics"), ("iotflow.base=$SYS", "cannot begin topics"),
    ("iotflow.base=", "cannot begin topics"), ("iotflow.topics=nothing:1:true", "a name among"),
    ("iotflow.topics=system_health:3:true", "0, 1 or 2"), ("iotflow.topics=system_health", "NAME:QOS:RETAIN"),
    ("iotflow.topics=system_health:1:yes", "true or false"), ("iotflow.publish_secs=-1", "iotflow.publish_secs"),
])
def test_what_is_wrong_with_a_setting_is_named(setting, says):
    done = martlet_process.run("config", "check", "--set", setting)
    assert done.returncode != 0 and says in done.stderr, done


# ---- What the node says of itself

PASSWORD = "0123456789abcdef-people"
PUBLISHED = {
    "system/health": {"status": "str", "node": "=ready", "timestamp": "time"},
    "system/metrics": {"version": "str", "uptime_seconds": "int", "memory_bytes": "int", "timestamp": "time"},
    "system/alerts": {"alerts": [], "count": "int", "timestamp": "time"},
    "monitoring/broker": {"connected": "bool", "version": "str", "subscriptions": "int", "retained_messages": "int",
                          "timestamp": "time"},
    "monitoring/clients": {"connected": "int", "sessions": "int", "maximum": "int", "timestamp": "time"},
    "monitoring/traffic": {"messages_received": "int", "messages_sent": "int", "messages_dropped": "int",
                           "bytes_received": "int", "bytes_sent": "int", "timestamp": "time"},
}


def user(node, name, role):
    body = {"name": name, "password": PASSWORD, "role": role}
    made = asked(node, "POST", "/api/v1/users", body, *NATIVE)
    assert made[0] == 201, made


def administrator(node):
    user(node, "admin", "administrator")


def read(node, topic, *options):
    """The first message, as a client with these options prints it."""
    client = Mosquitto(node).sub("-t", topic, "-C", "1", "-W", "20", *options)
    lines, status = client.messages()
    assert status == 0, lines
    return lines


@pytest.fixture(scope="module")
def publishing():
    with martlet_process.Node(http=True, settings=["iotflow.publish_secs=1"], variables=VARIABLES.items()) as node:
        administrator(node)
        user(node, "person", "user")
        yield node


@pytest.mark.parametrize("path", PUBLISHED)
def test_the_node_says_how_it_is(publishing, path):
    line = read(publishing, f"iotflow/{path}", "-u", "admin", "-P", PASSWORD)[-1]
    told = json.loads(line)
    golden = dict(PUBLISHED[path])
    if golden.pop("alerts", None) is not None:
        assert told["count"] == len(told["alerts"])
        assert all(isinstance(alert, str) for alert in told["alerts"])
    has(told, golden)


def test_health_and_alerts_are_retained(publishing):
    for path, retained in [("system/health", True), ("system/alerts", True), ("monitoring/broker", False)]:
        read(publishing, f"iotflow/{path}", "-u", "admin", "-P", PASSWORD)
        answer = asked(publishing, "GET", f"/api/v1/retained?filter=iotflow/{path}", None, *NATIVE)
        assert answer[0] == 200 and bool(answer[2]["items"]) is retained, answer


def test_only_administrators_use_these_topics(publishing):
    device = registered(publishing)
    for options in (["-u", "person", "-P", PASSWORD], login(device)):
        for topic in ("system/health", "monitoring/traffic"):
            sent = Mosquitto(publishing).pub(*options, "-V", "5", "-q", "1", "-t", f"iotflow/{topic}", "-m", "x")
            assert "Not authorized" in sent.stdout + sent.stderr, (options, sent)
        refused = Mosquitto(publishing).start("mosquitto_sub", *options, "-V", "5", "-t", "iotflow/system/#", "-W", "20")
        refused.wait_for("denied")
        # Commands are given by administrators alone.
        for topic in ("devices/x/commands/control", "fleet/commands/all", "commands/device-type/pump/x"):
            sent = Mosquitto(publishing).pub(*options, "-V", "5", "-q", "1", "-t", f"iotflow/{topic}", "-m", "x")
            assert "Not authorized" in sent.stdout + sent.stderr, (options, sent)
            sent = Mosquitto(publishing).pub("-u", "admin", "-P", PASSWORD, "-V", "5", "-q", "1", "-t", f"iotflow/{topic}", "-m", "x")
            assert "Not authorized" not in sent.stdout + sent.stderr and sent.returncode == 0, sent
    # Who subscribes to more gets the rest.
    client = Mosquitto(publishing).sub("-u", "person", "-P", PASSWORD, "-t", "iotflow/#", "-v", "-C", "1", "-W", "20")
    read(publishing, "iotflow/system/health", "-R", "-u", "admin", "-P", PASSWORD)
    sent = Mosquitto(publishing).pub("-u", "admin", "-P", PASSWORD, "-q", "1", "-t", "iotflow/devices/x/telemetry", "-m", "last")
    assert sent.returncode == 0
    lines, _ = client.messages()
    assert lines[-1:] == ["iotflow/devices/x/telemetry last"]
    sent = Mosquitto(publishing).pub("-u", "admin", "-P", PASSWORD, "-V", "5", "-q", "1", "-t", "iotflow/system/alerts", "-m", "{}")
    assert "Not authorized" not in sent.stdout + sent.stderr and sent.returncode == 0


def test_nothing_is_published_unless_it_is_asked_for(node):
    answer = asked(node, "GET", "/api/v1/retained?filter=iotflow/system/%23", None, *NATIVE)
    assert answer[0] == 200 and answer[2]["items"] == [], answer
