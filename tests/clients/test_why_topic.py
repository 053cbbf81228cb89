"""martlet why with a topic: what is said to who reads it, and what to who publishes it."""

import json

import pytest

import martlet_process
from paho_client import Client, properties
from test_access import until
from test_registry import Place
from test_why import expect, verdict


@pytest.fixture
def place(tmp_path):
    """A user who may read dev/#, one who may publish there, and one who may do both."""
    place = Place(tmp_path / "data")
    for role, rules in (("reader", ["topic read dev/#"]), ("writer", ["topic write dev/#"]),
                        ("both", ["topic readwrite dev/#"])):
        place.run("role", "add", role, *(word for rule in rules for word in ("--rule", rule)))
    place.user("op", "--role", "reader")
    place.user("sam", "--role", "writer")
    place.user("ann", "--role", "both")
    return place


@pytest.fixture
def node(start_node, place):
    return start_node(data_dir=place.path)


def client(node, user, name=None, **options):
    return Client(node, name or user, **options).credentials(user, "secret")


def all_of(answer):
    return [answer, *answer["also"]]


def test_who_only_reads_is_told_what_it_lacks_for_reading(node):
    with client(node, "op", "panel") as op:
        op.subscribe("dev/+", 1)
        for name in ("op", "panel"):
            answer = expect(node, "not-permitted", "it may not read d/s1/t, and is not subscribed to it", name, "d/s1/t")
            assert "it may read dev/#" in answer["sentence"] and "publish" not in answer["sentence"]
            assert answer["command"].endswith(" reader 'topic read d/s1/t'"), answer
            # The other side is told after it, with what permits that.
            [other] = [one for one in answer["also"] if one["cause"] == "not-permitted"]
            assert other["sentence"].startswith("nor may it publish to d/s1/t")
            assert other["command"].endswith("topic write d/s1/t'")
        # What it may read and has no subscription for.
        answer = expect(node, "not-subscribed", "it may read dev/1/x, and has no subscription", "op", "dev/1/x")
        assert answer["remedy"] == "have the client subscribe to dev/1/x, or publish to what dev/+ matches"


def test_who_has_only_rules_for_reading_is_asked_about_as_a_reader(node):
    """It has never come: its rules say what it is for."""
    answer = expect(node, "not-permitted", "it may not read d/s1/t", "op", "d/s1/t")
    assert answer["command"].endswith("topic read d/s1/t'")
    answer = expect(node, "not-permitted", "it may not publish to d/s1/t", "sam", "d/s1/t")
    assert answer["command"].endswith("topic write d/s1/t'")


def test_who_neither_read_nor_published_is_told_both(node):
    answer = expect(node, "not-permitted", "it may neither publish to d/s1/t nor read it", "ann", "d/s1/t")
    assert answer["remedy"].startswith("if it should publish: ") and answer["command"].endswith("topic write d/s1/t'")
    [other] = [one for one in answer["also"] if one["cause"] == "not-permitted"]
    assert "if it should receive" in other["sentence"] and other["command"].endswith("topic read d/s1/t'")


def test_who_may_do_both_and_reads_another_topic_is_told_of_its_subscription_first(node):
    with client(node, "ann") as ann:
        ann.subscribe("dev/1", 1)
        answer = expect(node, "not-subscribed", "it has no subscription that dev/2 matches", "ann", "dev/2")
        assert any("nobody is subscribed" in one["sentence"] for one in answer["also"])
        with client(node, "op") as op:
            op.subscribe("dev/2", 1)
            answer = expect(node, "nothing-wrong", "to which 1 client is subscribed (op)", "ann", "dev/2")
            assert any(one["cause"] == "not-subscribed" for one in answer["also"])


def test_what_was_refused_decides_which_side_is_meant(node):
    with client(node, "ann") as ann:
        ann.subscribe("dev/1", 1)
        assert not ann.acknowledged("d/1")
        expect(node, "not-permitted", "it may not publish to d/1", "ann", "d/1")
        assert ann.subscribe("d/2", 1)[0] >= 0x80
        expect(node, "not-permitted", "it may not read d/2", "ann", "d/2")


def test_who_is_well_is_told_of_the_topic(node):
    with client(node, "op") as op, client(node, "sam") as sam:
        op.subscribe("dev/#", 1)
        said = "it is subscribed to dev/1 (by dev/# with QoS 1) and may read it"
        expect(node, "nothing-wrong", said, "op", "dev/1")
        sam.publish("dev/1", "x")
        expect(node, "nothing-wrong", "it may publish to dev/1, to which 1 client is subscribed (op)", "sam", "dev/1")
