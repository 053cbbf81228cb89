"""Commands to devices: their states, over restarts and kills of the node, and commands to groups."""

import json
import socket
import struct
import time

import pytest

import martlet_process
from paho_client import Client, properties
from test_http_api import KEY
from test_http_registry import call, in_a_file
from test_sinks import until

LONG = properties("CONNECT", SessionExpiryInterval=3600)


@pytest.fixture
def commanding(start_node, variables):
    """A node with its tables in SQLite, and in PostgreSQL."""
    return start_node(http=True, variables=variables, settings=["http.rate=0"])


def add(node, device, **how):
    return call(node, "POST", "/api/v1/devices", {"id": device, **how})


def send(node, device, command, **how):
    return call(node, "POST", f"/api/v1/devices/{device}/commands", {"command": command, **how})


def shown(node, device, command):
    return call(node, "GET", f"/api/v1/devices/{device}/commands/{command}")


def until_state(node, device, command, state):
    def told():
        return f"not {state}: {shown(node, device, command)}\n{node.log()}"

    until(lambda: shown(node, device, command)["state"] == state, told)
    return shown(node, device, command)


def connect(node, made, **how):
    client = Client(node, made["id"], **how).credentials(made["user_name"], made["secret"])
    return client.start()


def answer(client, device, command, status, **more):
    body = {"command_id": command, "status": status, **more}
    client.publish(f"d/{device}/status/command", json.dumps(body))


def test_a_command_passes_its_states(commanding):
    made = add(commanding, "pump")
    client = connect(commanding, made)
    client.subscribe("d/pump/commands/#", qos=1)
    sent = send(commanding, "pump", "open", parameters={"valve": 3})
    message = client.receive()
    assert message.topic == "d/pump/commands/control" == sent["topic"]
    assert not message.retain
    body = json.loads(message.payload)
    assert (body["id"], body["command"], body["parameters"]) == (sent["id"], "open", {"valve": 3})
    assert 86_300 < message.properties.MessageExpiryInterval <= 86_400
    assert message.properties.ResponseTopic == "d/pump/status/command"
    assert message.properties.CorrelationData == sent["id"].encode()
    delivered = until_state(commanding, "pump", sent["id"], "delivered")
    assert delivered["attempts"] == 1 and delivered["sent_at"] and delivered["delivered_at"]
    answer(client, "pump", sent["id"], "opened")
    until(lambda: "not understood: status must be" in shown(commanding, "pump", sent["id"])["result"],
          lambda: shown(commanding, "pump", sent["id"]))
    assert shown(commanding, "pump", sent["id"])["state"] == "delivered"
    answer(client, "pump", sent["id"], "progress", progress=40)
    until(lambda: shown(commanding, "pump", sent["id"])["progress"] == 40, "no progress")
    assert shown(commanding, "pump", sent["id"])["state"] == "acknowledged"
    # By Correlation Data, as a client of MQTT 5 answers.
    correlation = properties("PUBLISH", CorrelationData=sent["id"].encode())
    client.publish(message.properties.ResponseTopic, '{"status":"succeeded","result":"done"}',
                   properties=correlation)
    done = until_state(commanding, "pump", sent["id"], "succeeded")
    assert done["result"] == "done" and done["finished_at"]
    # An end is final.
    answer(client, "pump", sent["id"], "failed")
    other = send(commanding, "pump", "close")["id"]
    answer(client, "pump", other, "failed", result="stuck")
    assert until_state(commanding, "pump", other, "failed")["result"] == "stuck"
    assert shown(commanding, "pump", sent["id"])["state"] == "succeeded"
    listed = call(commanding, "GET", "/api/v1/devices/pump/commands")["items"]
    assert [one["id"] for one in listed] == [other, sent["id"]]
    client.disconnect()


def test_a_command_waits_for_a_device_that_subscribes_later(commanding):
    made = add(commanding, "pump")
    sent = send(commanding, "pump", "open")["id"]
    # A monitor has it, which is not the device.
    call(commanding, "POST", "/api/v1/device-types", {"name": "free", "rules": ["topic readwrite #"]})
    monitor = connect(commanding, add(commanding, "watcher", type="free"))
    monitor.subscribe("d/+/commands/#", qos=1)
    other = send(commanding, "pump", "close")["id"]
    # The first one may be on its way yet.
    ids = iter(lambda: json.loads(monitor.receive().payload)["id"], other)
    assert set(ids) <= {sent}
    until_state(commanding, "pump", other, "pending")
    client = connect(commanding, made)
    client.subscribe("d/pump/commands/#", qos=2)
    came = {json.loads(client.receive().payload)["id"] for _ in range(2)}
    assert came == {sent, other}
    for one in came:
        until_state(commanding, "pump", one, "delivered")
    client.disconnect()
    monitor.disconnect()


@in_a_file
def test_a_command_stays_sent_at_qos_0(commanding):
    made = add(commanding, "pump")
    client = connect(commanding, made)
    client.subscribe("d/pump/commands/#", qos=0)
    sent = send(commanding, "pump", "open")["id"]
    client.receive()
    until_state(commanding, "pump", sent, "sent")
    client.subscribe("d/pump/commands/#", qos=0)
    # Longer than a device that subscribes may take for what was queued for it.
    time.sleep(4)
    assert client.messages.empty()
    assert shown(commanding, "pump", sent)["state"] == "sent"
    client.disconnect()


class Wire:
    """A device that sends and receives single packets of MQTT 3.1.1."""

    def __init__(self, node, made):
        self.socket = socket.create_connection(("127.0.0.1", node.port()), timeout=60)
        parts = [made["id"], made["user_name"], made["secret"]]
        texts = b"".join(struct.pack(">H", len(part)) + part.encode() for part in parts)
        self.send(0x10, b"\0\x04MQTT\x04\xc2\0\0" + texts)
        assert self.receive() == (0x20, b"\0\0")

    def send(self, kind, body):
        assert len(body) < 128
        self.socket.sendall(bytes([kind, len(body)]) + body)

    def exactly(self, count):
        got = b""
        while len(got) < count:
            more = self.socket.recv(count - len(got))
            assert more, "the connection has ended"
            got += more
        return got

    def receive(self):
        kind, length, shift = self.exactly(1)[0], 0, 0
        while True:
            (byte,) = self.exactly(1)
            length |= (byte & 0x7F) << shift
            if byte < 128:
                return kind, self.exactly(length)
            shift += 7

    def subscribe(self, topic, qos):
        self.send(0x82, b"\0\x01" + struct.pack(">H", len(topic)) + topic.encode() + bytes([qos]))
        assert self.receive() == (0x90, bytes([0, 1, qos]))


@in_a_file
@pytest.mark.parametrize("qos, answer_kind", [(1, 0x40), (2, 0x50)])
def test_a_command_is_delivered_by_puback_or_pubrec_and_not_before(commanding, qos, answer_kind):
    """At QoS 2 the device has it with PUBREC; PUBCOMP is not waited for."""
    wire = Wire(commanding, add(commanding, "pump"))
    wire.subscribe("d/pump/commands/#", qos)
    first = send(commanding, "pump", "open", qos=qos)["id"]
    kind, body = wire.receive()
    assert kind == 0x30 | qos << 1
    packet_id = body[2 + body[1]:][:2]
    until_state(commanding, "pump", first, "sent")
    # A ping that is answered: the node has read all that the device has sent, which is no answer.
    wire.send(0xC0, b"")
    assert wire.receive() == (0xD0, b"")
    assert shown(commanding, "pump", first)["state"] == "sent"
    wire.send(answer_kind, packet_id)
    until_state(commanding, "pump", first, "delivered")
    if qos == 2:
        assert wire.receive() == (0x62, packet_id)
    wire.socket.close()


def test_a_command_expires_and_is_retried(commanding):
    made = add(commanding, "pump")
    sent = send(commanding, "pump", "open", expires_secs=4)["id"]
    until_state(commanding, "pump", sent, "expired")
    client = connect(commanding, made)
    client.subscribe("d/pump/commands/#", qos=1)
    path = f"/api/v1/devices/pump/commands/{sent}"
    assert call(commanding, "POST", f"{path}/retry")["state"] == "pending"
    assert json.loads(client.receive().payload)["id"] == sent
    until_state(commanding, "pump", sent, "delivered")
    assert call(commanding, "DELETE", path)["state"] == "cancelled"
    call(commanding, "DELETE", path, expect=409)
    call(commanding, "POST", f"{path}/retry", expect=409)
    client.disconnect()


def test_commands_end_with_their_device(commanding):
    for device in ("gone", "disabled"):
        add(commanding, device)
        send(commanding, device, "open", id="c")
    call(commanding, "DELETE", "/api/v1/devices/gone")
    call(commanding, "PATCH", "/api/v1/devices/disabled", {"status": "inactive"})
    ended = shown(commanding, "disabled", "c")
    assert ended["state"] == "cancelled" and "disabled" in ended["result"]
    call(commanding, "POST", "/api/v1/devices/gone/restore")
    assert shown(commanding, "gone", "c")["state"] == "cancelled"
    call(commanding, "POST", "/api/v1/devices/disabled/commands", {"command": "x"}, expect=409)


@in_a_file
def test_what_cannot_be_a_command_is_refused(commanding):
    add(commanding, "pump")
    path = "/api/v1/devices/pump/commands"
    send(commanding, "pump", "open", id="c")
    call(commanding, "POST", path, {"command": "open", "id": "c"}, expect=409)
    for wrong in (
        {"command": ""},
        {"command": "x", "kind": "a/b"},
        {"command": "x", "qos": 3},
        {"command": "x", "expires_secs": 0},
        {"command": "x", "id": "a/b"},
        {"command": "x", "parameters": "x" * 70_000},
    ):
        call(commanding, "POST", path, wrong, expect=422)
    call(commanding, "POST", "/api/v1/devices/none/commands", {"command": "x"}, expect=404)
    call(commanding, "GET", f"{path}/none", expect=404)


def test_a_device_asks_for_its_commands(commanding):
    made = add(commanding, "pump")
    client = connect(commanding, made)
    client.subscribe("d/pump/commands/#", qos=1)
    sent = send(commanding, "pump", "open")["id"]
    client.receive()
    until_state(commanding, "pump", sent, "delivered")
    client.publish("d/pump/status/command/pending", "")
    assert json.loads(client.receive().payload)["id"] == sent
    assert until_state(commanding, "pump", sent, "delivered")["attempts"] == 2
    answer(client, "pump", sent, "acknowledged")
    until_state(commanding, "pump", sent, "acknowledged")
    client.disconnect()


def test_a_group_has_a_state_per_device_and_their_sum(commanding):
    group = call(commanding, "POST", "/api/v1/groups", {"name": "pumps"})["id"]
    made = [add(commanding, f"p{at}", groups=[group]) for at in range(3)]
    add(commanding, "other")
    call(commanding, "POST", "/api/v1/device-types", {"name": "free", "rules": ["topic readwrite #"]})
    watcher = connect(commanding, add(commanding, "watcher", type="free"))
    watcher.subscribe("iotflow/fleet/status/pumps", qos=1)
    clients = [connect(commanding, one) for one in made[:2]]
    for at, client in enumerate(clients):
        client.subscribe(f"d/p{at}/commands/#", qos=1)
    path = "/api/v1/groups/pumps/commands"
    sent = call(commanding, "POST", path, {"command": "open", "id": "all"})
    assert sent == {"id": "all", "group": group, "devices": 3, "left_out": 0}
    for at, client in enumerate(clients):
        assert json.loads(client.receive().payload)["id"] == "all"
        until_state(commanding, f"p{at}", "all", "delivered")
    answer(clients[0], "p0", "all", "succeeded")
    expected = {"succeeded": 1, "delivered": 1, "pending": 1}

    def states():
        return call(commanding, "GET", path)["items"][0]["states"]

    until(lambda: states() == expected, lambda: f"the states are {states()}")
    while json.loads(watcher.receive().payload)["commands"][0]["states"] != expected:
        pass
    for client in (*clients, watcher):
        client.disconnect()


def test_the_states_of_a_command_to_a_tag_are_published_in_sum(commanding):
    made = [add(commanding, f"p{at}", tags=["north"]) for at in range(2)]
    add(commanding, "other")
    call(commanding, "POST", "/api/v1/device-types", {"name": "free", "rules": ["topic readwrite #"]})
    watcher = connect(commanding, add(commanding, "watcher", type="free"))
    watcher.subscribe("iotflow/fleet/status/+", qos=1)
    client = connect(commanding, made[0])
    client.subscribe("d/p0/commands/#", qos=1)
    sent = call(commanding, "POST", "/api/v1/commands?tag=north", {"command": "open"})
    assert sent["devices"] == 2
    assert json.loads(client.receive().payload)["id"] == sent["id"]
    until_state(commanding, "p0", sent["id"], "delivered")
    answer(client, "p0", sent["id"], "succeeded")
    while True:
        message = watcher.receive()
        assert message.topic == f"iotflow/fleet/status/{sent['id']}" and not message.retain
        (command,) = json.loads(message.payload)["commands"]
        assert command["command_id"] == sent["id"] and command["command"] == "open"
        if command["states"] == {"succeeded": 1, "pending": 1}:
            break
    call(commanding, "DELETE", f"/api/v1/devices/p1/commands/{sent['id']}")
    while json.loads(watcher.receive().payload)["commands"][0]["states"] != {"succeeded": 1, "cancelled": 1}:
        pass
    # Nothing of it is left for those that subscribe later.
    late = connect(commanding, add(commanding, "late", type="free"))
    late.subscribe("iotflow/fleet/status/#", qos=1)
    late.publish("iotflow/fleet/status/end", "", qos=1)
    assert late.receive().topic == "iotflow/fleet/status/end"
    for one in (client, watcher, late):
        one.disconnect()


def test_each_tenant_has_the_sum_of_its_own_devices(commanding):
    team = call(commanding, "POST", "/api/v1/teams", {"name": "south", "owns_tenant": True})["id"]
    call(commanding, "POST", "/api/v1/device-types", {"name": "free", "rules": ["topic readwrite #"]})
    watchers = []
    for of, count in (({}, 1), ({"team": team}, 2)):
        for at in range(count):
            add(commanding, f"p{at}", tags=["north"], **of)
        watchers.append(connect(commanding, add(commanding, "watcher", type="free", **of)))
        watchers[-1].subscribe("iotflow/fleet/status/#", qos=1)
    sent = call(commanding, "POST", "/api/v1/commands?tag=north", {"command": "open"})
    assert sent["devices"] == 3
    for watcher, count in zip(watchers, (1, 2)):
        message = watcher.receive()
        assert message.topic == f"iotflow/fleet/status/{sent['id']}"
        assert json.loads(message.payload)["commands"][0]["states"] == {"pending": count}
        watcher.disconnect()


def test_teams_see_their_own_commands_alone(commanding):
    keys = {}
    for name in ("north", "south"):
        team = call(commanding, "POST", "/api/v1/teams", {"name": name, "owns_tenant": True})["id"]
        keys[name] = call(commanding, "POST", "/api/v1/keys", {
            "name": name, "team": team, "scopes": ["devices:read", "devices:write"]})["key"]
    made = call(commanding, "POST", "/api/v1/devices", {"id": "pump"}, key=keys["north"])
    path = "/api/v1/devices/pump/commands"
    call(commanding, "POST", path, {"command": "open", "id": "c"}, key=keys["south"], expect=404)
    call(commanding, "POST", path, {"command": "open", "id": "c"}, key=keys["north"])
    call(commanding, "GET", f"{path}/c", key=keys["south"], expect=404)
    client = connect(commanding, made)
    client.subscribe("d/pump/commands/#", qos=1)
    assert json.loads(client.receive().payload)["id"] == "c"
    answer(client, "pump", "c", "succeeded")
    until(lambda: call(commanding, "GET", f"{path}/c", key=keys["north"])["state"] == "succeeded",
          "the answer is not noted")
    client.disconnect()


def test_commands_survive_kills_of_the_node(tmp_path, start_node):
    """Killed at any time, the node gives the device each command at least once, by its id."""
    variables = {"MARTLET_HTTP__API_KEYS": f"all:{KEY}"}
    how = {"http": True, "variables": variables, "data_dir": tmp_path, "settings": ["http.rate=0"]}
    node = start_node(**how)
    made = add(node, "pump")
    client = connect(node, made, clean=False, properties=LONG)
    client.subscribe("d/pump/commands/#", qos=1)
    client.disconnect()
    came, sent = set(), []
    for round in range(5):
        for _ in range(20):
            sent.append(send(node, "pump", "open")["id"])
        # Some are published, and some are not.
        time.sleep(0.01 * round)
        if round % 2:
            client = connect(node, made, clean=False, properties=LONG)
            came.add(json.loads(client.receive().payload)["id"])
        node.process.kill()
        node.process.wait()
        if round % 2:
            client.client.loop_stop()
            while not client.messages.empty():
                came.add(json.loads(client.messages.get().payload)["id"])
        node = start_node(**how)
    client = connect(node, made, clean=False, properties=LONG)
    client.subscribe("d/pump/commands/#", qos=1)

    def all_came():
        while not client.messages.empty():
            came.add(json.loads(client.messages.get().payload)["id"])
        return came >= set(sent)

    until(all_came, lambda: f"{len(set(sent) - came)} of {len(sent)} commands did not come")
    for one in sent:
        answer(client, "pump", one, "succeeded")
    for one in sent:
        until_state(node, "pump", one, "succeeded")
    client.disconnect()


def test_a_command_by_type_and_tag_has_a_state_per_device(commanding):
    group = call(commanding, "POST", "/api/v1/groups", {"name": "pumps"})["id"]
    north = add(commanding, "north", tags=["cold"], groups=[group])
    add(commanding, "south", tags=["cold"])
    add(commanding, "warm", groups=[group])
    add(commanding, "off", tags=["cold"])
    call(commanding, "PATCH", "/api/v1/devices/off", {"status": "inactive"})
    client = connect(commanding, north)
    client.subscribe("d/north/commands/#", qos=1)
    sent = call(commanding, "POST", "/api/v1/commands?tag=cold&type=device", {"command": "open", "id": "all"})
    assert sent == {"id": "all", "group": "", "devices": 2, "left_out": 1}
    assert json.loads(client.receive().payload)["id"] == "all"
    until_state(commanding, "north", "all", "delivered")
    answer(client, "north", "all", "succeeded")
    until_state(commanding, "north", "all", "succeeded")
    states = {one["device"]: one["state"] for one in call(commanding, "GET", "/api/v1/commands/all/devices")["items"]}
    assert states == {"north": "succeeded", "south": "pending"}
    open_ones = call(commanding, "GET", "/api/v1/commands/all/devices?open=true")["items"]
    assert [one["device"] for one in open_ones] == ["south"]
    [report] = call(commanding, "GET", "/api/v1/commands?id=all")["items"]
    assert (report["devices"], report["states"]) == (2, {"succeeded": 1, "pending": 1})
    # All that is said must hold, and something must be said.
    assert call(commanding, "POST", "/api/v1/commands?tag=cold&group=pumps", {"command": "x"})["devices"] == 1
    call(commanding, "POST", "/api/v1/commands", {"command": "x"}, expect=400)
    call(commanding, "POST", "/api/v1/commands?type=none", {"command": "x"}, expect=400)
    call(commanding, "POST", "/api/v1/commands?tag=cold", {"command": "x", "id": "all"}, expect=409)
    call(commanding, "GET", "/api/v1/commands/none/devices", expect=404)
    client.disconnect()


def test_the_devices_of_a_group_command_come_by_page(commanding):
    group = call(commanding, "POST", "/api/v1/groups", {"name": "pumps"})["id"]
    for at in range(5):
        add(commanding, f"p{at}", groups=[group])
    call(commanding, "POST", "/api/v1/groups/pumps/commands", {"command": "open", "id": "all"})
    path, seen = "/api/v1/groups/pumps/commands/all", []
    page = call(commanding, "GET", f"{path}?limit=2")
    while True:
        seen += [one["device"] for one in page["items"]]
        if page["next"] is None:
            break
        page = call(commanding, "GET", f"{path}?limit=2&cursor={page['next']}")
    assert seen == [f"p{at}" for at in range(5)]
    call(commanding, "GET", "/api/v1/groups/pumps/commands/none", expect=404)


def test_commands_at_the_command_line(start_node, tmp_path):
    node = start_node(http=True, variables={"MARTLET_HTTP__API_KEYS": f"all:{KEY}"}, data_dir=tmp_path, settings=["http.rate=0"])

    def martlet(*args, code=0):
        done = martlet_process.run("command", *args, "--data-dir", tmp_path, timeout=60)
        assert done.returncode == code, (args, done)
        return done.stdout

    made = add(node, "pump", tags=["cold"])
    told = martlet("send", "open", "--device", "pump", "--parameters", '{"valve": 3}', "--id", "c1")
    assert "c1" in told and "pump" in told
    assert "pending" in martlet("ls", "--device", "pump")
    shown = json.loads(martlet("show", "c1", "--device", "pump", "--json"))
    assert (shown["parameters"], shown["state"]) == ({"valve": 3}, "pending")
    assert "c1" in martlet("cancel", "c1", "--device", "pump")
    assert "cancelled" in martlet("show", "c1", "--device", "pump")
    martlet("retry", "c1", "--device", "pump", code=1)
    # What has not ended in time is told from what has.
    martlet("send", "open", "--tag", "cold", "--id", "c2", "--wait", "1", code=3)
    client = connect(node, made)
    client.client.on_message = lambda _client, _data, message: client.client.publish(
        "d/pump/status/command", json.dumps({"command_id": json.loads(message.payload)["id"], "status": "succeeded"}), 1)
    client.subscribe("d/pump/commands/#", qos=1)
    assert "1 succeeded" in martlet("watch", "c2")
    told = json.loads(martlet("send", "open", "--device", "pump", "--wait", "30", "--json"))
    assert told["state"] == "succeeded"
    assert "1 succeeded" in martlet("ls")
    client.disconnect()
