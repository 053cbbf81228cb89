"""Requests by the HTTP API, and the devices that answer them: with MQTT 5's Response Topic and
Correlation Data, and with a topic that both know."""

import base64
import json
import threading
import time

import pytest

from paho_client import Client, V311, properties
from test_access import until
from test_http_api import KEYS
from test_http_broker import call, node  # noqa: F401 -- the fixture
from test_registry import Place


class Answering(Client):
    """A device that answers what comes, by a function of the request: topic, payload, options."""

    def __init__(self, node, name, answer, **options):
        super().__init__(node, name, **options)

        def received(client, _data, message):
            # In a thread of its own: the network loop must go on.
            for topic, payload, more in answer(message):
                client.publish(topic, payload, 1, **more)

        self.client.on_message = received


def told(message):
    """As MQTT 5 has it: where it was said, with what was said."""
    asked = message.properties
    more = {"CorrelationData": asked.CorrelationData, "ContentType": "text/plain"}
    more["UserProperty"] = [("unit", "C")]
    answer = properties("PUBLISH", **more)
    return [(asked.ResponseTopic, b"21.5", {"properties": answer})]


@pytest.mark.parametrize("qos", (0, 1, 2))
def test_a_device_answers_and_that_is_the_answer(node, name, qos):
    with Answering(node, name, told) as device:
        device.subscribe(f"{name}/ask", 1)
        body = {"topic": f"{name}/ask", "payload": "temperature?", "qos": qos}
        answer = call(node, "POST", "/request", body)
    assert answer["matched"] == 1 and answer["after_ms"] < 10_000
    response = answer["response"]
    assert response["topic"].startswith("response/api/")
    assert (response["payload"], response["payload_encoding"]) == ("21.5", "text")
    assert response["content_type"] == "text/plain"
    assert response["user_properties"] == [{"name": "unit", "value": "C"}]
    assert len(base64.b64decode(response["correlation_data_base64"])) == 16


def test_a_client_before_mqtt_5_answers_where_it_always_does(node, name):
    def always(message):
        return [(f"{name}/answer", bytes([0xFF, *message.payload]), {})]

    with Answering(node, name, always, version=V311) as device:
        device.publish(f"{name}/answer", "what was there before", retain=True)
        device.subscribe(f"{name}/ask", 1)
        body = {"topic": f"{name}/ask", "payload_base64": base64.b64encode(b"\x00").decode()}
        body["response_topic"] = f"{name}/answer"
        response = call(node, "POST", "/request", body)["response"]
    assert base64.b64decode(response["payload"]) == b"\xff\x00"
    assert response["payload_encoding"] == "base64"
    assert response["correlation_data_base64"] is None


def test_the_answer_to_another_request_is_none(node, name):
    def both(message):
        other = properties("PUBLISH", CorrelationData=b"another")
        (topic, payload, more), = told(message)
        return [(topic, b"not this", {"properties": other}), (topic, payload, more)]

    with Answering(node, name, both) as device:
        device.subscribe(f"{name}/ask", 1)
        mine = base64.b64encode(b"mine").decode()
        body = {"topic": f"{name}/ask", "correlation_data_base64": mine}
        response = call(node, "POST", "/request", body)["response"]
    assert (response["payload"], response["correlation_data_base64"]) == ("21.5", mine)


def test_nobody_there_is_said_at_once_and_silence_after_its_time(node, name):
    refused = call(node, "POST", "/request", {"topic": f"{name}/nobody", "timeout_ms": 60_000}, status=404)
    assert refused["type"] == "/problems/no-subscriber" and "nobody is subscribed" in refused["detail"]
    with Client(node, name) as device:
        device.subscribe(f"{name}/ask", 1)
        body = {"topic": f"{name}/ask", "payload": "?", "timeout_ms": 300}
        refused = call(node, "POST", "/request", body, status=504)
        assert "1 subscriber" in refused["detail"] and "300 ms" in refused["detail"]
        assert device.receive().payload == b"?"


def test_a_device_of_the_built_in_type_may_answer_and_who_may_not_is_named(start_node, tmp_path):
    place = Place(tmp_path / "data")
    place.run("device", "type", "add", "mute", "--rule", "pattern readwrite d/%c/#")
    secrets = {one: place.device(one, *options) for one, *options in (
        ["pump"], ["quiet", "--type", "mute"])}
    node = start_node(data_dir=place.path, http=True, variables=KEYS)
    answering = {one: Answering(node, one, told).credentials(one, secrets[one]) for one in secrets}
    with answering["pump"] as pump, answering["quiet"] as quiet:
        pump.subscribe("d/pump/ask", 1)
        quiet.subscribe("d/quiet/ask", 1)
        answer = call(node, "POST", "/request", {"topic": "d/pump/ask", "payload": "?"})
        assert answer["response"]["payload"] == "21.5"
        # Where it answers, nobody else reads.
        assert pump.subscribe("response/api/+", 1) == [0x87]
        body = {"topic": "d/quiet/ask", "payload": "?", "timeout_ms": 4000}
        refused = call(node, "POST", "/request", body, status=504)
        assert '"quiet" answered on "response/api/' in refused["detail"], refused
        assert "no rule permits it" in refused["detail"], refused
        # A refusal of before is not this one's.
        quiet.client.on_message = None
        body["timeout_ms"] = 300
        refused = call(node, "POST", "/request", body, status=504)
        assert "no response on" in refused["detail"] and "quiet\" answered" not in refused["detail"]


def test_many_ask_at_once_each_gets_its_own(node, name):
    with Answering(node, name, lambda asked: [
        (asked.properties.ResponseTopic, asked.payload, {
            "properties": properties("PUBLISH", CorrelationData=asked.properties.CorrelationData)
        })
    ]) as device:
        device.subscribe(f"{name}/+", 1)
        answers = {}

        def ask(number):
            body = {"topic": f"{name}/{number}", "payload": str(number), "qos": 1}
            answers[number] = call(node, "POST", "/request", body)["response"]["payload"]

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert answers == {number: str(number) for number in range(20)}


def test_the_node_s_own_sessions_are_nobody_s_and_leave_nothing(node, name):
    with Client(node, name) as watcher:
        watcher.subscribe(f"{name}/ask", 1)
        body = {"topic": f"{name}/ask", "timeout_ms": 5000}
        thread = threading.Thread(target=call, args=(node, "POST", "/request", body, 504))
        thread.start()
        watcher.receive()
        listed = call(node, "GET", "/clients?search=%24api")["items"]
        assert [one["client_id"] for one in listed] == ["$api/request/0"]
        assert not any(
            one["client_id"].startswith("$") for one in call(node, "GET", "/events")["items"]
        )

        def connections():
            return {one["url"]: one["connections"] for one in call(node, "GET", "/listeners")["items"]}

        # The client of the test before may be on its way out.
        until(lambda: connections() == {node.url("mqtt"): 1, node.http_url.rstrip("/"): None}, "one is connected")
        thread.join()
    until(lambda: not call(node, "GET", "/clients?search=%24api")["items"], "the session is gone")
    assert not [one for one in call(node, "GET", "/events?tail=1000")["items"]
                if one["client_id"].startswith("$")], json.dumps(name)
