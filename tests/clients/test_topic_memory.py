"""What the node remembers of topics: the last payloads, rates and publishers, as the API and the
command tell them, within their limits."""

import json
import time
from urllib.parse import quote

import pytest

import martlet_process
from paho_client import Client
from test_access import until
from test_http_api import KEYS, VIEWER, ask
from test_http_broker import call, command

SETTINGS = (
    "topic_memory.filters=plant/#,$control/+",
    "topic_memory.payloads=3",
    "topic_memory.payload_bytes=16",
    "topic_memory.topics=50",
)


@pytest.fixture(scope="module")
def node():
    with martlet_process.Node(
        http=True, variables=KEYS, settings=["http.rate=0", "node.threads=2", *SETTINGS]
    ) as node:
        with Client(node, "probe") as client:
            until(lambda: probed(node, client), "the node remembers")
        yield node


def history(node, topic, status=200, query=""):
    return call(node, "GET", f"/topics/{quote(topic, safe='')}/history{query}", status=status)


def remembered(node, topic, count):
    """The messages of a topic, once so many were published on it since it is remembered."""

    def find():
        found = call(node, "GET", f"/topics?filter={quote(topic, safe='')}")["items"]
        return found and found[0]["messages"] >= count

    until(find, f"{count} messages of {topic} are remembered")
    return history(node, topic)["items"]


def test_the_last_payloads_of_a_topic_are_told_the_newest_first(node, name):
    topic = f"plant/{name}/temp"
    with Client(node, name).credentials("ada", "x") as client:
        for number in range(5):
            client.publish(topic, f"value {number}", number % 3, retain=number == 4)
        client.publish(topic, b"\xff\x00", 0)
        client.publish(topic, "longer than is remembered of a payload", 1)
    found = remembered(node, topic, 7)
    assert [one["payload"] for one in found] == ["longer than is r", "/wA=", "value 4"]
    assert [one["payload_encoding"] for one in found] == ["text", "base64", "text"]
    assert [one["payload_is_whole"] for one in found] == [False, True, True]
    assert [one["payload_bytes"] for one in found] == [38, 2, 7]
    assert [one["qos"] for one in found] == [1, 0, 1]
    assert [one["retain"] for one in found] == [False, False, True]
    publisher = {"client_id": name, "user_name": "ada", "is_device": False}
    assert all(one["publisher"] == publisher for one in found)
    assert len(history(node, topic, query="?limit=1")["items"]) == 1
    shown = command(node, "topic", "history", topic)
    assert "value 4" in shown and "longer than is r…" in shown and "ff00" in shown


def test_topics_are_searched_by_words_filters_and_page_by_page(node, name):
    topics = [f"plant/{name}/Hall-{number}/temperature" for number in range(9)]
    topics.append(f"plant/{name}/roof/wind")
    with Client(node, f"{name}-c") as client:
        for topic in topics:
            client.publish(topic, "1", 1)
    remembered(node, topics[-1], 1)
    base = f"/topics?filter=plant/{name}/%23"

    def names(query):
        return [one["topic"] for one in call(node, "GET", base + query)["items"]]

    assert names("&search=TEMP+hall-4") == [topics[4]]
    assert names("&search=h*5*ture") == [topics[5]]
    assert names("&search=w?nd") == [topics[9]]
    found, cursor = [], ""
    while True:
        page = call(node, "GET", f"{base}&limit=4&total=true{cursor}")
        assert page["total"] == 10
        found += [one["topic"] for one in page["items"]]
        if page["next"] is None:
            break
        cursor = f"&cursor={page['next']}"
    assert found == topics
    shown = command(node, "topic", "ls", f"plant/{name}/+/wind", "--json")
    [one] = json.loads(shown)["items"]
    assert one["messages"] == 1 and one["last"]["publisher"]["client_id"] == f"{name}-c"


@pytest.mark.long
def test_a_rate_is_near_what_is_published(node, name):
    topic = f"plant/{name}/steady"
    with Client(node, name) as client:
        begun = time.monotonic()
        for number in range(40):
            client.publish(topic, str(number), 1)
            # A rate is about time: these are the intervals of the messages.
            time.sleep(0.05)
        took = time.monotonic() - begun
        remembered(node, topic, 40)
        [one] = call(node, "GET", f"/topics?filter={topic}")["items"]
    assert 0.6 * 40 / took < one["rate"] < 1.6 * 40 / took


def test_what_is_not_remembered_says_why(node, name):
    with Client(node, name) as client:
        client.publish(f"other/{name}", "x", 1)
    told = history(node, f"other/{name}", status=404)["detail"]
    assert "topic_memory.filters" in told
    assert "nothing was published" in history(node, f"plant/{name}/none", status=404)["detail"]
    history(node, "plant/+", status=400)
    call(node, "GET", "/topics?search=" + "x" * 257, status=400)
    call(node, "GET", "/topics", status=403, key=VIEWER)


def test_the_topics_that_are_longest_silent_make_room_and_are_counted(name):
    with martlet_process.Node(http=True, variables=KEYS, settings=[*SETTINGS]) as node:
        with Client(node, name) as client:
            # Clients are let in before the node remembers.
            until(lambda: probed(node, client), "the node remembers")
            for number in range(80):
                client.publish(f"plant/{number:03}", "x", 1)
            client.publish("plant/last", "x", 1)
        remembered(node, "plant/last", 1)
        page = call(node, "GET", "/topics?limit=1000&total=true")
        assert page["total"] == 50
        assert page["items"][0]["topic"] == "plant/031"
        metrics = node_metrics(node)
        assert 'martlet_topic_memory_dropped_total{reason="too_many"} 32' in metrics
        assert "martlet_topic_memory_topics 50" in metrics
        assert 'held_for="topics"' in metrics


def test_a_node_that_remembers_nothing_says_which_key_is_missing():
    with martlet_process.Node(http=True, variables=KEYS) as node:
        told = call(node, "GET", "/topics", status=409)["detail"]
        assert "topic_memory.filters" in told
        assert "topic_memory" not in node_metrics(node)
        failed = martlet_process.run("topic", "ls", "--data-dir", node.data_dir)
        assert failed.returncode == 1 and "topic_memory.filters" in failed.stderr


@pytest.mark.parametrize("filters", ["a/#/b", "$share/g/a", "a,b+"])
def test_what_is_no_topic_filter_is_an_error_that_names_the_key(filters):
    done = martlet_process.run("config", "check", "--set", f"topic_memory.filters={filters}")
    assert done.returncode != 0
    assert "topic_memory.filters" in done.stderr


def probed(node, client):
    client.publish("plant/probe", "x", 1)
    return call(node, "GET", "/topics")["items"]


def node_metrics(node):
    return ask(node, "/metrics")[2].decode()
