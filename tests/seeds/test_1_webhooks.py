"""Webhooks of the MQTT microservice: methods, time limits and pauses, several at once."""

import json
import threading
import time

import pytest

import martlet_process
from paho_client import Client
from test_1_microservice import asked
from test_connections import variables as of_connection
from test_connections import mosquitto, subscribe  # noqa: F401
from test_http_api import KEY
from test_sinks import until
from test_webhook_formats import Requests

ALLOWED = ["integrations.allow_private=127.0.0.0/8"]


class Receiver(Requests):
    """Takes PUT and PATCH too, and notes the time at which each request came."""

    def __init__(self):
        super().__init__()
        self.began, outer, handler = [], self, self.server.RequestHandlerClass
        post = handler.do_POST

        def noted(request):
            with outer.lock:
                outer.began.append(time.monotonic())
            post(request)

        handler.do_POST = handler.do_PUT = handler.do_PATCH = noted

    def pauses(self):
        """Seconds between the requests."""
        with self.lock:
            times = list(self.began)
        return [later - earlier for earlier, later in zip(times, times[1:])]


@pytest.fixture
def receivers():
    made = [Receiver(), Receiver()]
    yield made
    for one in made:
        one.close()


@pytest.fixture
def receiver(receivers):
    return receivers[0]


def payloads(receiver):
    return [body["payload"] for body in receiver.bodies()]


def add(node, receiver, **keys):
    status, _, body = asked(node, "POST", "/webhooks", {"url": receiver.url, "topic_filter": "hook/#", **keys})
    assert status == 201, body
    return body["webhook"]


def publish(node, *payloads, topic="hook/1"):
    with Client(node, "pump") as client:
        for payload in payloads:
            client.publish(topic, payload)


def test_two_webhooks_have_each_message_by_their_own_methods(tmp_path, receivers):
    with martlet_process.Node(http=True, data_dir=tmp_path / "data", settings=ALLOWED) as node:
        # Whatever the letters are.
        add(node, receivers[0], method="put", topic_filter="#")
        add(node, receivers[1], method="PATCH")
        publish(node, "no", topic="other")
        publish(node, "a", "b")
        until(lambda: payloads(receivers[0]) == ["no", "a", "b"] and payloads(receivers[1]) == ["a", "b"],
              lambda: [payloads(one) for one in receivers])
        assert receivers[0].methods == ["PUT"] * 3 and receivers[1].methods == ["PATCH"] * 2
        # One that fails does not hold up the other.
        receivers[0].answer = lambda body: 503
        publish(node, "c")
        until(lambda: payloads(receivers[1]) == ["a", "b", "c"], lambda: payloads(receivers[1]))
        receivers[0].answer = lambda body: 204
        until(lambda: payloads(receivers[0]) == ["no", "a", "b", "c"], node.log)


def test_the_pause_before_a_retry_is_as_configured(tmp_path, receiver):
    receiver.answer = lambda body: 204 if len(receiver.bodies(500)) == 3 else 500
    with martlet_process.Node(http=True, data_dir=tmp_path / "data", settings=ALLOWED) as node:
        add(node, receiver, retry_count=3, retry_delay=1)
        publish(node, "x")
        until(lambda: payloads(receiver) == ["x"], node.log)
    assert len(receiver.pauses()) == 3 and all(0.95 <= pause < 5 for pause in receiver.pauses()), receiver.pauses()


def test_the_time_limit_is_as_configured(tmp_path, receiver):
    go_on = threading.Event()
    receiver.answer = lambda body: 204 if body["payload"] != "slow" or go_on.wait(30) else 500
    with martlet_process.Node(http=True, data_dir=tmp_path / "data", settings=ALLOWED) as node:
        webhook = add(node, receiver, timeout=1, retry_count=5, retry_delay=1)
        publish(node, "slow")
        until(lambda: len(receiver.began) >= 2, node.log)
        # The time limit, and the pause.
        assert 1.9 <= receiver.pauses()[0] < 8, receiver.pauses()
        told = asked(node, "GET", f"/api/v1/integrations/webhook/{webhook['id']}")[2]
        assert "did not answer in time" in json.dumps(told), told
        go_on.set()
        until(lambda: "slow" in payloads(receiver), node.log)


def test_the_variables_have_a_method_a_time_limit_and_a_pause(tmp_path, receiver):
    go_on = threading.Event()
    receiver.answer = lambda body: 204 if go_on.wait(30) else 500
    variables = {"MQTT_BROKER_ENABLED": "true", "MQTT_BROKER_AUTH_ENABLED": "false", "WEBHOOK_ENABLED": "true",
                 "WEBHOOK_URL": receiver.url, "WEBHOOK_METHOD": "PUT", "WEBHOOK_TIMEOUT": "1", "WEBHOOK_RETRY_DELAY": "1"}
    with martlet_process.Node(http=True, variables=variables.items(), data_dir=tmp_path / "data") as node:
        publish(node, "x")
        until(lambda: len(receiver.began) >= 2, node.log)
        assert 1.9 <= receiver.pauses()[0] < 8, receiver.pauses()
        go_on.set()
        until(lambda: "x" in payloads(receiver), node.log)
        assert set(receiver.methods) == {"PUT"}


def test_what_came_from_a_named_connection_has_its_name_in_the_form_of_the_microservice(tmp_path, receiver, mosquitto):  # noqa: F811
    with martlet_process.Node(http=True, data_dir=tmp_path / "data", settings=ALLOWED,
                              variables=of_connection(mosquitto.port)) as node:
        body = {"url": receiver.url, "topic_filter": "a/#"}
        assert asked(node, "POST", "/webhooks", body, "-H", f"X-API-Key: {KEY}")[0] == 201
        subscribe(node, "a/#")
        with Client(mosquitto, "there", port=mosquitto.port) as there, Client(node, "here") as here:
            there.publish("a/1", "from there")
            until(lambda: len(receiver.bodies()) == 1, node.log)
            here.publish("a/2", "from here")
            until(lambda: len(receiver.bodies()) == 2, node.log)
        assert [(one["topic"], one["payload"], one["broker"]) for one in receiver.bodies()] == [
            ("a/1", "from there", "hivemq"), ("a/2", "from here", "internal")]
