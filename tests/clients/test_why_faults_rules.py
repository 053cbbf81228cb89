"""Faults of rules and topics that are put to `martlet why`: the headline is the fault, and the command
that is printed, or the advice, ends it."""

import pytest

from paho_client import Client
from test_access import until
from why_faults import KEPT, Faults, boss, published, reason_of  # noqa: F401


@pytest.fixture(scope="module")
def node():
    faults = Faults()
    for role, rule in (("reader", "topic read plant/#"), ("writer", "topic write plant/#")):
        faults.run("role", "add", role, "--rule", rule)
    faults.run("device", "type", "add", "sensor", "--rule", "pattern write plant/%c/state",
               "--rule", "pattern read plant/%c/set")
    faults.user("boss", "--role", "administrator")
    with faults.start():
        yield faults


def test_the_rules_of_a_group_forbid_what_a_device_publishes(node):
    """No rule of its type helps, nor another type."""
    node.run("group", "add", "shop")
    node.run("device", "type", "add", "rig", "--rule", "pattern write plant/%c/#")
    secret = node.device("r0", "--type", "sensor")
    node.run("group", "member", "add", "shop", "r0")
    body = '{"rules": ["topic deny plant/r0/state"]}'
    status, text = node.node.admin.ask("PUT", "/api/v1/groups/shop/rules", body, **{"if-match": "*"})
    assert status == 200, text
    with node.client("r0", secret) as device:
        for _ in range(2):
            assert not published(device, "plant/r0/state")
            for asked in (["r0", "plant/r0/state"], ["r0"]):
                told = node.headline("not-permitted", "group shop rule 1", *asked)
                assert "remove the rule from the group shop, or the device from the group" in told["remedy"], told
                assert " type" not in told["remedy"] and "member rm" in told["command"], told
            node.run("device", "set", "--type", "rig", "r0")
        node.carry_out(told)
        assert published(device, "plant/r0/state")
        node.over("r0")


def test_the_type_of_a_device_does_not_permit_what_it_publishes(node):
    secret = node.device("r1", "--type", "sensor")
    with node.client("r1", secret) as device:
        assert not published(device, "plant/r1/alarm")
        for asked in (["r1", "plant/r1/alarm"], ["r1"]):
            told = node.headline("not-permitted", "plant/r1/alarm", *asked)
            assert "publish" in told["sentence"]
        node.bash(told)
        assert published(device, "plant/r1/alarm")
        node.over("r1")


def test_a_device_publishes_with_the_name_of_another(node):
    secret = node.device("r2", "--type", "sensor")
    with node.client("r2", secret) as device:
        assert not published(device, "plant/r1/state")
        told = node.headline("wrong-topic", 'permits plant/r2/state, with its own name instead of "r1"',
                             "r2", "plant/r1/state")
        assert "publish to a topic that plant/r2/state matches" in told["remedy"]
        with node.client("boss", client_id="viewer") as viewer:
            viewer.subscribe("plant/r2/state", 1)
            assert published(device, "plant/r2/state")
            node.over("r2", "plant/r2/state")


def test_a_role_does_not_permit_a_subscription(node):
    node.user("ann", "--role", "reader")
    with node.client("ann") as app:
        assert app.subscribe("store/+", 1)[0] >= 0x80
        answers = [node.headline("not-permitted", "store/", *asked) for asked in (["ann", "store/1"], ["ann"], ["ann", "store/+"])]
        for told in answers:
            assert "publish" not in told["sentence"] and "topic read store/" in told["command"], told
        assert "it may not read store/+" in told["sentence"], told
        node.bash(told)
        assert app.subscribe("store/+", 1) == [1]
        node.over("ann", "store/+")
        node.over("ann")
        # Of the one topic that was asked about.
        node.bash(answers[0])
        assert app.subscribe("store/1", 1) == [1]


def test_a_refused_subscription_is_over_after_a_reconnect_that_subscribes_well(node):
    node.user("bob", "--role", "reader")
    with node.client("bob") as app:
        assert app.subscribe("plnt/#", 1)[0] >= 0x80
        told = node.headline("not-permitted", "its subscription to plnt/# was refused", "bob")
        assert "have the client use another topic" in told["remedy"] or "command" in told
    with node.client("bob") as app:
        app.subscribe("plant/#", 1)
        node.over("bob")
        [before] = [one for one in node.why("bob")["also"] if "plnt/#" in one["sentence"]]
        assert "it has connected again since" in before["sentence"] and "command" not in before
        node.bash(told)
        assert app.subscribe("plnt/#", 1) == [1]


def test_a_subscriber_may_not_read_one_of_the_topics_that_it_is_subscribed_to(node, boss):
    node.run("role", "add", "watcher", "--rule", "topic deny lab/secret", "--rule", "topic read lab/#")
    node.user("carl", "--role", "watcher")
    with node.client("carl") as app:
        app.subscribe("lab/#", 1)
        assert published(boss, "lab/secret")
        told = node.headline("not-permitted", "it is subscribed to lab/#, and may not read lab/secret", "carl",
                             "lab/secret")
        node.bash(told)
        assert published(boss, "lab/secret") and app.receive().topic == "lab/secret"
        node.over("carl", "lab/secret")


def test_rules_changed_and_forbid_a_subscription_that_is_there(node, boss):
    secret = node.device("r8", "--type", "sensor")
    with node.client("r8", secret) as device:
        device.subscribe("plant/r8/set", 1)
        node.run("device", "type", "deny", "sensor", "topic plant/r8/set")
        assert published(boss, "plant/r8/set")
        told = node.headline("not-permitted", "it is subscribed, and may not read plant/r8/set", "r8")
        node.bash(told)
        assert published(boss, "plant/r8/set") and device.receive().topic == "plant/r8/set"
        node.over("r8")


def test_who_only_reads_is_asked_about_reading(node):
    node.user("dora", "--role", "reader")
    with node.client("dora") as app:
        app.subscribe("plant/1", 1)
        told = node.headline("not-permitted", "it may not read office/1, and is not subscribed to it", "dora", "office/1")
        node.bash(told)
        app.subscribe("office/1", 1)
        node.over("dora", "office/1")


def test_who_reads_topics_of_its_own_name_is_asked_about_reading_another(node):
    secret = node.device("r3", "--type", "sensor")
    with node.client("r3", secret) as device:
        device.subscribe("plant/r3/set", 1)
        told = node.headline("wrong-topic", 'it may not read plant/r9/set: ', "r3", "plant/r9/set")
        assert 'permits plant/r3/set, with its own name instead of "r9"' in told["sentence"]
        node.over("r3", "plant/r3/set")


def test_the_will_of_a_client_is_not_permitted(node):
    secret = node.device("r4", "--type", "sensor")

    def with_will():
        return node.client("r4", secret).will("plant/r4/gone", "x")

    assert reason_of(with_will().start()).is_failure
    told = node.headline("not-permitted", "the Will", "r4")
    assert "plant/r4/gone" in told["sentence"]
    node.bash(told)
    with with_will() as device:
        assert not device.connack.is_failure
        node.over("r4")


def test_a_device_publishes_to_a_topic_of_the_server(node):
    with node.client("boss", client_id="sys") as app:
        assert not published(app, "$SYS/broker/x")
        told = node.headline("not-permitted", "$SYS/broker/x", "sys")
        assert "$SYS" in told["remedy"] and "command" not in told


def test_a_device_subscribes_to_nearly_the_topic(node, boss):
    secret = node.device("f3")
    with node.client("f3", secret) as device:
        device.subscribe("d/f3/cmd", 1)
        assert published(boss, "d/f3/command")
        near = 'level 3 is "cmd" in the filter and "command" in the topic'
        for asked in (["f3"], ["f3", "d/f3/command"]):
            told = node.headline("not-subscribed", near, *asked)
            assert "it is subscribed to d/f3/cmd" in told["sentence"] and told["count"] >= 1
            assert "subscribe to d/f3/command" in told["remedy"]
        # The publisher is told the same.
        told = node.headline("subscriber-absent", near, "console", "d/f3/command")
        assert "f3 is subscribed to d/f3/cmd" in told["sentence"]
        device.subscribe("d/f3/command", 1)
        assert published(boss, "d/f3/command") and device.receive().topic == "d/f3/command"
        node.over("f3")
        node.over("f3", "d/f3/command")


@pytest.mark.parametrize("filter, topic, words", [
    ("/d/f4/set", "d/f4/set", "the filter begins with /, and the topic does not"),
    ("d/f4/SET", "d/f4/set", "upper and lower case differ"),
    ("d/f4", "d/f4/set", "the topic has more levels, which d/f4/# would match"),
])
def test_a_filter_misses_by_a_slash_by_case_or_by_levels(node, boss, filter, topic, words):
    with node.client("boss", client_id="f4") as device:
        device.subscribe(filter, 1)
        assert published(boss, topic)
        node.headline("not-subscribed", words, "f4", topic)
        told = node.headline("not-subscribed", words, "f4")
        assert f"it is subscribed to {filter}" in told["sentence"], told
        device.subscribe(topic, 1)
        assert published(boss, topic) and device.receive().topic == topic
        node.over("f4", topic)


def test_a_message_came_before_its_subscriber(node, boss):
    secret = node.device("f5")
    assert published(boss, "d/f5/cmd")
    with node.client("f5", secret) as device:
        device.subscribe("d/f5/cmd", 0)
        for asked in (["f5", "d/f5/cmd"], ["f5"]):
            told = node.headline("not-retained", "arrived before it subscribed to d/f5/cmd, and was not retained", *asked)
            assert "1 message that console published to d/f5/cmd" in told["sentence"]
            assert "publish with RETAIN" in told["remedy"]
        # As the advice has it.
        assert published(boss, "d/f5/cmd") and device.receive().topic == "d/f5/cmd"
        node.over("f5", "d/f5/cmd")
        node.over("f5")
    boss.publish("d/f5/cmd", "x", retain=True)
    with node.client("f5", secret) as device:
        device.subscribe("d/f5/cmd", 0)
        assert device.receive().retain


def test_the_publisher_of_a_topic_was_refused_by_its_type(node, tmp_path):
    secret = node.device("r5", "--type", "sensor")
    node.user("fred", "--role", "reader")
    with node.client("fred") as app, node.client("r5", secret) as device:
        app.subscribe("plant/r5/level", 1)
        assert not published(device, "plant/r5/level")
        for asked in (["fred", "plant/r5/level"], ["fred"]):
            told = node.headline("not-permitted", "r5 published to plant/r5/level, and was refused", *asked)
        node.bash(told)
        assert published(device, "plant/r5/level") and app.receive().topic == "plant/r5/level"
        node.over("fred", "plant/r5/level")


def test_the_publisher_is_in_another_tenant_than_the_device(node, boss):
    node.run("team", "add", "west", "--own-tenant")
    secret = node.device("fan", "--team", "west")
    with node.client("fan@west", secret, "fan") as device:
        device.subscribe("d/fan/cmd", 1)
        assert published(boss, "d/fan/cmd")
        for asked in (["fan@west"], ["fan@west", "d/fan/cmd"]):
            told = node.headline("not-subscribed", "arrived in the common tenant", *asked)
            assert "of the same team" in told["remedy"]
        node.user("wim", "--team", "west", "--role", "administrator")
        with node.client("wim") as app:
            assert published(app, "d/fan/cmd") and device.receive().topic == "d/fan/cmd"


def test_nobody_is_subscribed(node):
    node.user("gina", "--role", "writer")
    with node.client("gina") as app:
        assert published(app, "plant/7/log")
        told = node.headline("subscriber-absent", "nobody is subscribed to it", "gina", "plant/7/log")
        assert "to which Topic Filter it subscribes" in told["remedy"]
        with node.client("boss", client_id="log") as log:
            log.subscribe("plant/7/log", 1)
            node.over("gina", "plant/7/log")


def test_the_subscriber_is_away(node, boss):
    with node.client("boss", client_id="store", **KEPT) as store:
        store.subscribe("archive/1", 1)
    told = node.headline("subscriber-absent", "(store) none is connected", "console", "archive/1")
    assert "command" not in told
    with node.client("boss", client_id="store", **KEPT):
        node.over("console", "archive/1")


def test_a_client_that_subscribes_with_qos_0_has_no_fault(node, boss):
    with node.client("boss", client_id="qos0") as app:
        app.subscribe("qos/0", 0)
        assert published(boss, "qos/0") and app.receive().qos == 0
        node.over("qos0", "qos/0")
        answer = node.why("qos0", "qos/0")
        assert (answer["cause"], answer["wrong"]) == ("nothing-wrong", False), answer
        assert any(one["cause"] == "qos-downgraded" for one in answer["also"]), answer


def test_a_rule_of_the_type_forbids_what_another_permits(node):
    secret = node.device("r6", "--type", "sensor")
    node.run("device", "type", "deny", "sensor", "pattern plant/%c/state")
    with node.client("r6", secret) as device:
        assert not published(device, "plant/r6/state")
        told = node.headline("not-permitted", "plant/r6/state", "r6", "plant/r6/state")
        node.bash(told)
        assert published(device, "plant/r6/state")
        node.over("r6")


def test_a_device_of_the_type_that_comes_with_the_program_lacks_a_topic(node):
    secret = node.device("r7")
    with node.client("r7", secret) as device:
        assert not published(device, "shared/r7")
        told = node.headline("not-permitted", "its publish to shared/r7 was refused", "r7")
        assert "martlet device type add NAME" in told["remedy"] and "command" not in told
        node.run("device", "type", "add", "wide", "--rule", "topic readwrite shared/#")
        node.run("device", "set", "r7", "--type", "wide")
        until(lambda: published(device, "shared/r7"), "its type permits it")
        node.over("r7")
