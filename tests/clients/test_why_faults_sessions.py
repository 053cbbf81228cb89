"""Faults of sessions, their number and their end, and of devices that publish nothing, which are put to
`martlet why`: the headline is the fault, and what it advises ends it."""

import pytest

from paho_client import V311, properties
from test_access import until
from why_faults import KEPT, Faults, boss, published, reason_of  # noqa: F401

EXPIRY_SECS = 1
INACTIVE_AFTER_SECS = 10
# The node looks for inactive devices every few seconds, some seconds after the time is over.
INACTIVE_WITHIN_SECS = 60


@pytest.fixture(scope="module")
def node():
    faults = Faults(settings=[f"limits.session_expiry_max_secs={EXPIRY_SECS}"])
    for name in ("boss", "ann"):
        faults.user(name, "--role", "administrator")
    faults.run("device", "type", "add", "gateway", "--client-id", "any", "--max-sessions", "1",
               "--rule", "pattern readwrite gw/%u/#")
    faults.run("device", "type", "add", "meter", "--inactive-after", f"{INACTIVE_AFTER_SECS}s",
               "--rule", "pattern readwrite d/%u/#")
    with faults.start():
        yield faults


def is_accepted(client):
    accepted = not reason_of(client.start()).is_failure
    if accepted:
        client.disconnect()
    return accepted


# Whether a client of the device has the name of the device.
@pytest.mark.parametrize("first", ["gw-1-1", "gw-1"])
def test_a_device_has_as_many_sessions_as_its_type_permits(first):
    with Faults() as node:
        node.run("device", "type", "add", "gateway", "--client-id", "any", "--max-sessions", "1",
                 "--rule", "pattern readwrite gw/%u/#")
        secret = node.device("gw-1", "--type", "gateway")
        with node.client("gw-1", secret, client_id=first):
            assert not is_accepted(node.client("gw-1", secret, client_id="gw-1-2"))
            told = node.headline("limit-reached", "client gw-1-2 is refused: the device has as many sessions as its type "
                                 "permits (max_sessions = 1)", "gw-1")
            assert told["state"] == "connected" and "same Client Identifier each time" in told["remedy"], told
            asked = node.headline("limit-reached", "max_sessions = 1", "gw-1-2")
            assert asked["command"] == told["command"]
            node.bash(told)
            with node.client("gw-1", secret, client_id="gw-1-2"):
                node.over("gw-1")
                until(lambda: "2 of its 2 clients are connected" in node.why("gw-1")["sentence"], "both are there")
                node.over("gw-1-2")


def missed_after_its_session_ended(node, boss, name, **how):
    """A message that came after the node has ended the session of a client, which has come again."""
    topic = f"late/{name}"
    with node.client("ann", client_id=name, **how) as app:
        app.subscribe(topic, 1)
    until(lambda: name not in node.run("client", "ls"), "its session ends")
    assert published(boss, topic)
    return topic


@pytest.mark.parametrize("version", [V311, 5])
def test_the_node_ends_a_session_earlier_than_its_client_wants(node, boss, version):
    name = f"late-{version}"
    how = {"clean": False, "version": V311} if version == V311 else KEPT
    topic = missed_after_its_session_ended(node, boss, name, **how)
    with node.client("ann", client_id=name, **how) as app:
        app.subscribe(topic, 1)
        for asked in ([name], [name, topic]):
            told = node.headline("session-ended", f"1 message that console published to {topic} arrived after its session "
                                 f"had ended, and was not retained: its session ends {EXPIRY_SECS} s after its connection "
                                 "(limits.session_expiry_max_secs", *asked)
            assert "raise limits.session_expiry_max_secs" in told["remedy"], told
            assert "Clean Start 0" not in told["remedy"], told


def test_a_session_is_kept_for_longer_once_the_limit_is_raised():
    with Faults(settings=["limits.session_expiry_max_secs=60"]) as node:
        for name in ("boss", "ann"):
            node.user(name, "--role", "administrator")
        with node.client("ann", client_id="kept", **KEPT) as app:
            app.subscribe("late/kept", 1)
        with node.client("boss", client_id="console") as boss:
            assert published(boss, "late/kept")
        with node.client("ann", client_id="kept", **KEPT) as app:
            assert app.receive().topic == "late/kept"
            node.over("kept", "late/kept")


def test_a_session_ends_as_its_client_wants(boss):
    with Faults() as node:
        for name in ("boss", "ann"):
            node.user(name, "--role", "administrator")
        how = {"clean": False, "properties": properties("CONNECT", SessionExpiryInterval=1)}
        with node.client("boss", client_id="console") as console:
            topic = missed_after_its_session_ended(node, console, "short", **how)
            with node.client("ann", client_id="short", **how) as app:
                app.subscribe(topic, 1)
                told = node.headline("session-ended", "its session ends 1 s after its connection", "short", topic)
                assert "limits" not in told["sentence"], told
                assert "longer Session Expiry Interval" in told["remedy"], told


# Whether the session of the member outlives its connection.
@pytest.mark.parametrize("kept", [False, True])
def test_a_member_of_a_share_group_does_not_acknowledge(node, boss, kept):
    name, topic, group = f"lazy-{kept}", f"work/{kept}", f"$share/crew/work/{kept}"
    how = {"properties": properties("CONNECT", ReceiveMaximum=2, SessionExpiryInterval=600 if kept else 0)}
    with node.client("ann", client_id=name, **how).manual_acknowledgements() as lazy:
        with node.client("ann", client_id=f"{name}-2") as other:
            for member in (lazy, other):
                member.subscribe(group, 1)
            for _ in range(8):
                boss.publish(topic, "x")
            for asked in ([name], [name, topic]):
                told = node.headline("slow-reader", "it has not acknowledged the 2 messages that were sent to it, which is its "
                                     f"maximum at one time, so its share group {group} sends it no more", *asked)
                assert "PUBACK" in told["remedy"] and "Receive Maximum" in told["remedy"], told
                assert "wait" not in told["sentence"], told
            # The others get them.
            for asked in ([f"{name}-2", topic], ["console", topic]):
                assert not node.why(*asked)["wrong"]
            for _ in range(6):
                assert other.receive().topic == topic
        until(lambda: node.why(f"{name}-2")["state"] == "away", "it is gone")
        # Nobody gets them now.
        for _ in range(3):
            boss.publish(topic, "y")
        for asked in ([name], [name, topic]):
            node.headline("slow-reader", f"its share group {group} sends it no more; 3 messages wait in the group", *asked)
        told = node.headline("slow-reader", f"{name}, which is subscribed to {topic} (by {group}), has not acknowledged 2 of "
                             "the messages that were sent to it", "console", topic)
        assert "3 wait" in told["sentence"] and "PUBACK" in told["remedy"], told
        for _ in range(5):
            message = lazy.receive()
            lazy.client.ack(message.mid, message.qos)
        for asked in ([name], [name, topic], ["console", topic]):
            node.over(*asked)


def test_a_subscriber_does_not_acknowledge_what_others_publish(node, boss):
    """Who publishes is told."""
    how = {"properties": properties("CONNECT", ReceiveMaximum=1)}
    with node.client("ann", client_id="lazy", **how).manual_acknowledgements() as lazy:
        lazy.subscribe("work/alone", 1)
        for _ in range(3):
            boss.publish("work/alone", "x")
        node.headline("slow-reader", "it has not acknowledged the message that was sent to it", "lazy", "work/alone")
        told = node.headline("slow-reader", "lazy, which is subscribed to work/alone, has not acknowledged 1 of the messages",
                             "console", "work/alone")
        assert "2 wait" in told["sentence"], told
        for _ in range(3):
            message = lazy.receive()
            lazy.client.ack(message.mid, message.qos)
        node.over("console", "work/alone")


def test_a_device_publishes_nothing(node):
    secret = node.device("meter-1", "--type", "meter")
    with node.client("meter-1", secret) as meter:
        assert published(meter, "d/meter-1/state")
        told = node.headline("inactive", "it has published nothing since", "meter-1", within=INACTIVE_WITHIN_SECS)
        assert f"the type meter counts a device as inactive after {INACTIVE_AFTER_SECS} s without a message" in told["sentence"]
        assert "martlet device type rules --inactive-after=TIME meter" in told["remedy"], told
    # It left as it wanted to, and is missed all the same.
    until(lambda: node.why("meter-1")["state"] == "away", "it is gone")
    told = node.headline("inactive", "it has published nothing since", "meter-1")
    assert any("the client sent DISCONNECT" in one["sentence"] for one in told["also"]), told
    # What keeps it out is told first.
    node.run("device", "set", "meter-1", "--status", "maintenance")
    assert not node.comes("meter-1", secret)
    told = node.headline("disabled", "device meter-1 has the status maintenance", "meter-1")
    assert any(one["cause"] == "inactive" for one in told["also"]), told
    node.bash(told)
    with node.client("meter-1", secret) as meter:
        assert published(meter, "d/meter-1/state")
        node.over("meter-1", within=INACTIVE_WITHIN_SECS)
