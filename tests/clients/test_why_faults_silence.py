"""Faults that leave no refusal of the client that is asked about, put to `martlet why`: a device that is
not there or publishes elsewhere, and connections that break again and again."""

import json

import pytest

import martlet_process
from paho_client import V311, Client
from test_access import until
from why_faults import KEPT, Faults, boss, published  # noqa: F401


@pytest.fixture(scope="module")
def node():
    settings = ["limits.subscriptions_per_client=3", "limits.publish_rate=40", "mqtt.rate_exceeded=drop-qos0",
                "mqtt.sys_interval_secs=0", "node.threads=2"]
    faults = Faults(settings=settings)
    for name in ("boss", "app", "log", "site"):
        faults.user(name, "--role", "administrator")
    with faults.start():
        yield faults


@pytest.fixture
def app(node):
    """A back end that is subscribed to the state of all devices."""
    with node.client("app") as client:
        client.subscribe("d/+/state", 1)
        yield client


@pytest.fixture(params=["nobody", "a logger"])
def others(node, request):
    """Nearly every site has a client that is subscribed to all topics."""
    if request.param == "nobody":
        yield
        return
    with node.client("log", client_id="logger") as client:
        client.subscribe("#", 0)
        yield client


def away(node, name):
    until(lambda: node.why(name)["state"] == "away", "it is gone")


def test_a_subscription_beyond_the_limit_is_told_after_a_message_too(node, boss):
    with node.client("site", client_id="subs", version=V311) as client:
        for topic in ("aa/1", "bb/1", "cc/1", "plant/7/x"):
            client.subscribe(topic, 1)
        said = "its subscription to plant/7/x was refused: the session has the maximum number of subscriptions"
        node.headline("limit-reached", said, "subs", "plant/7/x")
        assert published(boss, "plant/7/x")
        until(lambda: node.why("console", "plant/7/x")["wrong"], "the message is noted")
        told = node.headline("limit-reached", said, "subs", "plant/7/x")
        assert "limits.subscriptions_per_client" in told["remedy"]
        assert not any("has no subscription" in also["sentence"] for also in told["also"]), told


@pytest.mark.parametrize("ends", ["breaks", "goes"])
def test_the_device_of_the_topic_has_gone(node, app, ends):
    secret = node.device(ends)
    with node.client(ends, secret) as device:
        assert published(device, f"d/{ends}/state")
        node.over("app", f"d/{ends}/state")
        if ends == "breaks":
            device.drop()
    away(node, ends)
    told = node.headline("publisher-absent", f"the device {ends}, named in the topic, is not connected", "app",
                         f"d/{ends}/state")
    assert "since" in told, told
    asked = node.bash(told, code=3 if ends == "breaks" else 0)
    assert asked.startswith(f"{ends}: away since"), asked
    with node.client(ends, secret):
        node.over("app", f"d/{ends}/state")


def test_the_device_of_the_topic_has_never_connected(node, app):
    node.device("never")
    told = node.headline("publisher-absent", "the device never, named in the topic, has never connected", "app",
                         "d/never/state")
    assert "the device never exists, and has neither connected nor tried to" in node.bash(told, code=3)
    # Of other topics nothing is known.
    assert not node.why("app", "d/nobody/state")["wrong"]


def test_the_keep_alive_of_the_device_of_the_topic_runs_out(node, app):
    secret = node.device("still")
    with node.client("still", secret, keepalive=1) as device:
        # It says nothing more, and its connection is there.
        device.client.loop_stop()
        told = node.headline("publisher-absent", "the device still, named in the topic, is not connected", "app",
                             "d/still/state")
        assert "Keep Alive" in node.bash(told, code=3)


def test_a_connected_device_has_published_nothing(node, app):
    secret = node.device("mute")
    with node.client("mute", secret) as device:
        # Messages are noted from the first second of the node on.
        said = "it has published nothing since it connected on "
        for asked in (["mute"], ["mute", "d/mute/state"]):
            until(lambda: said in node.why(*asked)["sentence"], "it is silent")
            assert not node.why(*asked)["wrong"]
        said = "; the device mute, named in the topic, has published nothing since it connected on "
        until(lambda: said in node.why("app", "d/mute/state")["sentence"], "it is named")
        assert published(device, "d/mute/state")
        for asked in (["mute"], ["mute", "d/mute/state"], ["app", "d/mute/state"]):
            until(lambda: "has published nothing" not in node.why(*asked)["sentence"], "the message is noted")
        # The tables date it up to some seconds later, which must not be after the next connection began.
        until(lambda: json.loads(node.run("device", "show", "mute", "--json"))["last_message_at"], "the tables have it")
    # It says so again of the next connection, though the tables have the message.
    with node.client("mute", secret):
        until(lambda: said.split(", ")[-1] in node.why("app", "d/mute/state")["sentence"], "it is silent again")


def test_a_connection_breaks_again_and_again(node):
    secret = node.device("flap")
    for _ in range(4):
        with node.client("flap", secret) as device:
            device.drop()
        away(node, "flap")
    with node.client("flap", secret):
        told = node.headline("unstable", "its connection broke 4 times, though it is connected now", "flap")
        assert told["count"] == 4 and "since" in told and "network" in told["remedy"], told


def test_a_client_disconnects_again_and_again(node):
    secret = node.device("hasty")
    for _ in range(12):
        with node.client("hasty", secret):
            pass
        # The next connection comes to another shard, perhaps before that one has read the DISCONNECT.
        away(node, "hasty")
    with node.client("hasty", secret):
        node.headline("unstable", "it connects and disconnects repeatedly: it sent DISCONNECT 12 times", "hasty")


def test_a_client_that_was_here_before_is_well(node):
    secret = node.device("calm")
    for _ in range(2):
        with node.client("calm", secret):
            pass
        away(node, "calm")
    with node.client("calm", secret) as device:
        device.drop()
    away(node, "calm")
    with node.client("calm", secret):
        node.over("calm")


def test_a_device_publishes_with_a_slash_in_front(node, app):
    secret = node.device("slash")
    with node.client("slash", secret, version=V311) as device:
        device.client.publish("/d/slash/state", "x", 0)
        for asked, said in (("app", "slash published to /d/slash/state, and was refused"),
                            ("slash", "its publish to /d/slash/state was refused")):
            told = node.headline("not-permitted", said, asked, "d/slash/state")
            assert "d/slash/state is likely meant: /d/slash/state begins with /" in told["sentence"], told


def test_a_device_publishes_with_another_case(node, app, others):
    name = "case-1" if others else "case-2"
    secret = node.device(name)
    with node.client(name, secret) as device:
        assert published(device, f"d/{name}/State")
        for asked, cause in (("app", "not-subscribed"), (name, "subscriber-absent")):
            told = node.headline(cause, f"that {name} published to d/{name}/State reached", asked, f"d/{name}/state")
            assert f"d/{name}/state is likely meant: upper and lower case differ" in told["sentence"], told
        node.headline("not-subscribed", "since that filter does not match: upper and lower case differ", "app")


def test_topics_have_a_prefix(node, app, boss, others):
    name = "p6" if others else "p7"
    assert published(boss, f"acme/d/{name}/state")
    told = node.headline("not-subscribed", f"that console published to acme/d/{name}/state reached", "app",
                         f"d/{name}/state")
    assert f"acme/d/{name}/state begins with acme/, and d/{name}/state does not" in told["sentence"], told
    node.headline("not-subscribed", "the topic begins with acme/, and the filter does not", "app")
    node.headline("subscriber-absent", f"published to acme/d/{name}/state", "console", f"d/{name}/state")


def test_a_subscription_has_a_prefix(node, boss, others):
    name = "p8" if others else "p9"
    with node.client("site", client_id=f"site-{name}") as site:
        site.subscribe(f"acme/d/{name}/level", 1)
        assert published(boss, f"d/{name}/level")
        told = node.headline("not-subscribed", "which does not match: the filter begins with acme/", f"site-{name}",
                             f"d/{name}/level")
        assert f"have it subscribe to d/{name}/level" in told["remedy"]


def test_a_session_ends_with_its_connection(node, boss, others):
    """By MQTT 5 a session ends so where no Session Expiry Interval is given, also with Clean Start 0."""
    name, line = ("exp-1", "job-1") if others else ("exp-2", "job-2")
    filter, topic = f"{line}/#", f"{line}/1"
    with node.client("site", client_id=name, clean=False) as client:
        client.subscribe(filter, 1)
    away(node, name)
    assert published(boss, topic)
    with node.client("site", client_id=name, clean=False) as client:
        client.subscribe(filter, 1)
        told = node.headline("not-retained", f"arrived before it subscribed to {filter}", name, topic)
        said = "its session ended with that connection: its Session Expiry Interval is 0"
        assert said in told["sentence"] and "it was connected until " in told["sentence"], told
        if others:
            # It may have got them.
            assert not node.why("logger", topic)["wrong"]
        # Now it gets them.
        assert published(boss, topic) and client.receive().topic == topic
        node.over(name, topic)
    with node.client("site", client_id=name, **KEPT) as client:
        client.subscribe(filter, 1)
    away(node, name)
    assert published(boss, topic)
    with node.client("site", client_id=name, **KEPT) as client:
        assert client.receive().topic == topic


def test_a_gateway_may_not_publish_for_a_device(node, app):
    gateway, _child = node.device("gw"), node.device("child")
    with node.client("gw", gateway, version=V311) as client:
        client.client.publish("d/child/state", "x", 0)
        for asked in (["child"], ["child", "d/child/state"], ["app", "d/child/state"]):
            node.headline("not-permitted", "gw published to d/child/state, and was refused", *asked)


@pytest.mark.parametrize("filter,meant", [
    ("$shared/crew/line/#", "$share/crew/line/#"), ("$queue/line/#", "$share/GROUP/line/#")])
def test_a_shared_subscription_of_another_broker(node, boss, others, filter, meant):
    with node.client("site", client_id="crew") as crew:
        crew.subscribe(filter, 1)
        assert published(boss, "line/1/state")
        node.headline("not-subscribed", f"which does not match: {meant} is meant", "crew", "line/1/state")
        node.headline("not-subscribed", f"it is subscribed to {filter}", "crew")
        crew.unsubscribe(filter)
        crew.subscribe(meant.replace("GROUP", "crew"), 1)
        node.over("crew")
        assert published(boss, "line/1/state") and crew.receive().topic == "line/1/state"


def test_messages_come_twice(node, boss):
    with node.client("site", client_id="twice") as client:
        for filter in ("twice/#", "$share/g/twice/#"):
            client.subscribe(filter, 1)
        assert published(boss, "twice/1")
        assert [client.receive().topic for _ in range(2)] == ["twice/1"] * 2
        client.expect_no_message()
        node.over("twice", "twice/1")
        answer = node.why("twice", "twice/1")
        assert not answer["wrong"] and "it receives each message twice" in answer["sentence"], answer
        assert "2 of its subscriptions match twice/1 (" in answer["sentence"], answer
        assert "$share/g/twice/#" in answer["sentence"], answer


def test_messages_come_to_two_clients_of_a_user(node, boss):
    with node.client("site", client_id="w-1") as one, node.client("site", client_id="w-2") as other:
        one.subscribe("$share/a/ord/#", 1)
        other.subscribe("$share/b/ord/#", 1)
        assert published(boss, "ord/1")
        assert one.receive().topic == other.receive().topic == "ord/1"
        until(lambda: "they receive each message twice" in node.why("site", "ord/1")["sentence"], "both are known")
        answer = node.why("site", "ord/1")
        assert not answer["wrong"] and "they receive each message twice" in answer["sentence"], answer
        assert "$share/a/ord/# of w-1" in answer["sentence"], answer


def test_the_publisher_is_over_its_rate(node, app):
    secret = node.device("fast")
    with node.client("fast", secret) as device:
        for number in range(400):
            device.client.publish("d/fast/state", str(number), 0)
        for asked in (["fast"], ["app", "d/fast/state"]):
            told = node.headline("too-fast", "to d/fast/state were dropped: ", *asked)
            assert "limits.publish_rate" in told["remedy"]
        told = node.headline("too-fast", "messages that fast published to d/fast/state were dropped", "app", "d/fast/state")


def test_a_gateway_is_over_its_rate_with_messages_of_a_device(node, app):
    """The device itself never connects."""
    node.device("child-2")
    with node.client("site", client_id="gw-2") as gateway:
        for number in range(400):
            gateway.client.publish("d/child-2/state", str(number), 0)
        for asked in (["child-2"], ["child-2", "d/child-2/state"]):
            node.headline("too-fast", "messages that gw-2 published to d/child-2/state were dropped", *asked)


@pytest.mark.parametrize("filter,topic,off", [
    ("$SYS/#", "$SYS/broker/uptime", "mqtt.sys_interval_secs"),
    ("$events/connected", "$events/connected", "events.publish"),
    ("$events/#", "$events/refused", "events.publish"),
    ("iotflow/devices/+/status/#", "iotflow/devices/d1/status/online", "presence.publish"),
])
def test_the_node_does_not_publish_what_is_subscribed(node, filter, topic, off):
    with node.client("site", client_id="ops") as ops:
        ops.subscribe(filter, 1)
        for asked in (["ops"], ["ops", topic]):
            told = node.headline("not-published", "the node does not publish messages of ", *asked)
            assert off in told["sentence"] and f"set {off}" in told["remedy"], told


def test_the_node_publishes_what_is_subscribed():
    settings = ["events.publish=connected", "presence.publish=true"]
    with martlet_process.Node(settings=settings) as node, Client(node, "ops") as ops:
        for filter in ("$SYS/#", "$events/connected", "iotflow/devices/+/status/#"):
            ops.subscribe(filter, 1)
        done = martlet_process.run("why", "ops", "--data-dir", str(node.data_dir), "--json")
        assert done.returncode == 0, done.stdout


def test_all_topics_are_without_those_of_the_node(node):
    with node.client("site", client_id="all") as client:
        client.subscribe("#", 0)
        node.headline("not-published", "statistics are switched off", "all", "$SYS/broker/uptime")
        said = "a filter that begins with a wildcard does not match topics that begin with $"
        assert said in str(node.why("all", "$SYS/broker/uptime")["also"])
