"""Clients, sessions, subscriptions, retained messages and publishing by the HTTP API, against
clients that are really there; and the commands that ask the same."""

import base64
import json
import threading
from urllib.parse import quote

import pytest

import martlet_process
from paho_client import Client, V311, properties
from test_access import until
from test_http_api import KEY, KEYS, VIEWER, ask

SESSION = {"SessionExpiryInterval": 3600}


@pytest.fixture(scope="module")
def node():
    with martlet_process.Node(
        http=True, variables=KEYS, settings=["http.rate=0", "node.threads=2"]
    ) as node:
        yield node


def call(node, method, path, body=None, status=200, headers=(), key=KEY):
    """The answer's body, read as JSON."""
    headers = {"X-API-Key": key, **dict(headers)}
    data = None
    if body is not None:
        headers["Content-Type"] = "application/json"
        data = json.dumps(body).encode()
    found, answered, text = ask(node, "/api/v1" + path, method, headers, data)
    assert found == status, (method, path, found, text[:2000])
    if found >= 400:
        assert answered["Content-Type"] == "application/problem+json"
    return json.loads(text) if text else None


def command(node, *arguments, code=0):
    done = martlet_process.run(*arguments, "--data-dir", node.data_dir)
    assert done.returncode == code, done.stderr + done.stdout
    return done.stdout


def durable(node, client_id, **options):
    return Client(
        node, client_id, clean=False, properties=properties("CONNECT", **SESSION), **options
    )


# Clients


ODD_NAMES = ("a/b", "a%2Fb", "é ü", "..", "a?b#c", "\U0001f426", "+;=&", "x" * 200)


@pytest.mark.parametrize("client_id", ODD_NAMES)
def test_a_client_of_any_name_is_found_looked_at_and_kicked(node, client_id):
    path = "/clients/" + quote(client_id, safe="").replace(".", "%2E")
    with Client(node, client_id, keepalive=55) as client:
        client.subscribe("odd/+", 1)
        found = call(node, "GET", path)
        assert found["client"]["client_id"] == client_id
        assert found["client"]["keep_alive_secs"] == 55
        assert found["connection"]["listener"]
        assert [one["filter"] for one in found["subscriptions"]] == ["odd/+"]
        listed = call(node, "GET", "/clients?search=" + quote(client_id, safe=""))
        assert client_id in [one["client_id"] for one in listed["items"]]
        call(node, "DELETE", path, status=204)
        assert client.wait_for_end().value == 0x98
    call(node, "DELETE", path, status=404)


def test_clients_come_page_by_page_each_once(node, name):
    with_names = [f"{name}-{number:02}" for number in range(25)]
    clients = [Client(node, one, version=V311).start() for one in with_names]
    try:
        found, cursor = [], ""
        for _ in range(10):
            page = call(node, "GET", f"/clients?search={name}&limit=7&total=true{cursor}")
            assert page["total"] == 25
            found += [one["client_id"] for one in page["items"]]
            if page["next"] is None:
                break
            cursor = f"&cursor={page['next']}"
        assert found == with_names
        # A cursor belongs to its list.
        call(node, "GET", f"/clients?search=other&limit=7{cursor}", status=400)
        shown = json.loads(command(node, "client", "ls", name, "--json", "--limit", "9"))["items"]
        assert [one["client_id"] for one in shown] == with_names[:9]
    finally:
        for client in clients:
            client.disconnect()


def test_clients_of_a_user_and_those_that_are_away(node, name):
    with durable(node, f"{name}-a").credentials("ada", "x"):
        listed = call(node, "GET", f"/clients?search={name}&user=ada")
        assert [one["client_id"] for one in listed["items"]] == [f"{name}-a"]
        assert call(node, "GET", f"/clients?search={name}&user=ad")["items"] == []
        assert call(node, "GET", f"/clients?search={name}&connected=false")["items"] == []
    found = f"/clients?search={name}&connected=false"
    until(lambda: call(node, "GET", found)["items"], "it is away")
    [away] = call(node, "GET", found)["items"]
    assert away["client_id"] == f"{name}-a"
    assert call(node, "GET", f"/clients?search={name}&connected=true")["items"] == []


def test_the_last_packet_of_a_client_is_shown_and_what_no_keep_alive_means(node, name):
    with Client(node, name, keepalive=0) as client:
        shown = lambda: call(node, "GET", f"/clients/{name}")
        first = shown()
        assert first["client"]["keep_alive_secs"] == 0
        assert first["connection"]["last_packet_at"] >= first["client"]["connected_at"]

        def is_later():
            client.publish(f"{name}/t", "1")
            return shown()["connection"]["last_packet_at"] > first["connection"]["last_packet_at"]

        until(is_later, "a packet has arrived since")
        text = command(node, "client", "show", name)
        [line] = [line for line in text.splitlines() if line.startswith("last packet")]
        assert line.split()[-1] > first["connection"]["last_packet_at"]
        assert "only TCP shows that" in text
        why = json.loads(command(node, "why", name, "--json"))
        [last] = [one["at"] for one in why["evidence"] if one["text"] == "its last packet arrived"]
        assert last > first["connection"]["last_packet_at"]
    with Client(node, name, keepalive=30):
        assert "30 s" in command(node, "client", "show", name)


def test_a_queue_and_what_is_in_flight_are_shown_without_payloads(node, name):
    body = {"topic": f"{name}/kept", "payload": "s3cret", "qos": 1}
    with durable(node, name).manual_acknowledgements() as client:
        client.subscribe(f"{name}/#", 1)
        call(node, "POST", "/publish", body)
        assert client.receive_payload() == "s3cret"
        found = call(node, "GET", f"/clients/{name}")
        [sent] = found["in_flight"]
        # What it is about may lie in the store alone.
        assert sent["topic"] in (f"{name}/kept", None)
        assert (sent["state"], sent["qos"]) == ("unacknowledged", 1)
        assert "s3cret" not in json.dumps(found)
        assert f"{name}/#" in command(node, "client", "show", name)
    until(lambda: call(node, "GET", f"/clients/{name}")["connection"] is None, "it is away")
    call(node, "POST", "/publish", body)
    found = call(node, "GET", f"/clients/{name}")
    assert found["connection"] is None and found["left_at"].endswith("Z")
    waiting = found["queue"] + found["in_flight"]
    assert [one["qos"] for one in waiting] == [1, 1]
    assert "away since" in command(node, "client", "show", name)


# Sessions


def test_a_session_ends_with_all_that_is_in_it(node, name):
    with durable(node, name) as client:
        client.subscribe(name, 1)
    until(lambda: not call(node, "GET", f"/sessions/{name}")["connected"], "the client has gone")
    found = call(node, "GET", f"/sessions/{name}")
    assert (found["durable"], found["subscriptions"], found["connected"]) == (True, 1, False)
    call(node, "DELETE", f"/sessions/{name}", status=204)
    call(node, "GET", f"/sessions/{name}", status=404)
    call(node, "DELETE", f"/sessions/{name}", status=404)
    with durable(node, name) as client:
        assert not client.session_present
        # One that is connected ends too.
        assert "ended" in command(node, "session", "rm", name)
        assert client.wait_for_end().value == 0x98
    command(node, "session", "rm", name, code=1)


# Subscriptions


def test_a_client_is_subscribed_and_gets_what_is_published(node, name):
    with Client(node, name) as client:
        path = f"/clients/{name}/subscriptions"
        granted = call(node, "POST", path, {"filter": f"{name}/+", "qos": 1})
        assert (granted["qos"], granted["reason"]) == (1, "Granted QoS 1")
        outcome = call(
            node, "POST", "/publish",
            {
                "topic": f"{name}/x", "payload_base64": base64.b64encode(b"\0\xff").decode(),
                "qos": 1, "content_type": "a/b", "correlation_data_base64": "AQI=",
                "response_topic": "r", "message_expiry_secs": 60,
                "user_properties": [{"name": "n", "value": "1"}, {"name": "n", "value": "2"}],
            },
        )
        assert outcome["matched"] >= 1 and outcome["reason_code"] == 0
        message = client.receive()
        assert (message.topic, message.payload, message.qos) == (f"{name}/x", b"\0\xff", 1)
        assert message.properties.ContentType == "a/b"
        assert message.properties.CorrelationData == b"\x01\x02"
        assert message.properties.ResponseTopic == "r"
        assert message.properties.UserProperty == [("n", "1"), ("n", "2")]
        listed = call(node, "GET", f"/subscriptions?topic={name}/x&total=true")
        assert (listed["total"], listed["items"][0]["client_id"]) == (1, name)
        assert call(node, "GET", f"/subscriptions?topic={name}/x/y")["items"] == []
        assert name in command(node, "client", "subscriptions", "--topic", f"{name}/x")
        call(node, "DELETE", f"{path}?filter={quote(name + '/+', safe='')}", status=204)
        outcome = call(node, "POST", "/publish", {"topic": f"{name}/x", "qos": 1})
        assert outcome["reason"] == "No matching subscribers"
        client.expect_no_message()


def test_shared_subscriptions_are_found_by_their_name(node, name):
    with Client(node, f"{name}-1") as one, Client(node, f"{name}-2") as other:
        one.subscribe(f"$share/{name}/jobs", 1)
        other.subscribe("jobs", 1)
        found = call(node, "GET", f"/subscriptions?share_name={name}")["items"]
        assert [(item["client_id"], item["share_name"]) for item in found] == [(f"{name}-1", name)]


# Publishing


def test_what_is_published_by_one_caller_keeps_its_order(node, name):
    with Client(node, name) as client:
        client.subscribe(name, 1)
        numbers = range(2000)
        messages = [{"topic": name, "payload_json": number, "qos": 1} for number in numbers]
        answer = call(node, "POST", "/publish/bulk", {"messages": messages})
        assert (answer["published"], answer["refused"]) == (2000, 0)
        assert len({outcome["message_id"] for outcome in answer["outcomes"]}) == 2000
        call(node, "POST", "/publish", {"topic": name, "payload": "2000", "qos": 1})
        assert [int(client.receive_payload()) for _ in range(2001)] == list(range(2001))


def test_ten_thousand_messages_in_a_long_body(node, name):
    long = "x" * 1000
    messages = [{"topic": name, "payload": long} for _ in range(10_000)]
    headers = {"Idempotency-Key": name}
    answer = call(node, "POST", "/publish/bulk", {"messages": messages}, headers=headers)
    assert answer["published"] == 10_000
    again = call(node, "POST", "/publish/bulk", {"messages": messages}, headers=headers)
    assert again == answer
    messages.append({"topic": name})
    call(node, "POST", "/publish/bulk", {"messages": messages}, status=422)


def test_a_request_that_is_sent_again_publishes_once(node, name):
    with Client(node, name) as client:
        client.subscribe(name, 1)
        for _ in range(3):
            call(
                node, "POST", "/publish", {"topic": name, "payload": "once", "qos": 1},
                headers={"Idempotency-Key": name},
            )
        assert client.receive_payload() == "once"
        client.expect_no_message()


@pytest.mark.parametrize(
    "body, pointer",
    [
        ({"topic": "$SYS/broker/uptime", "payload": "9"}, "/topic"),
        ({"topic": "a/#"}, "/topic"),
        ({"topic": "a", "payload": "x" * 990_000, "content_type": "y" * 60_000}, "/payload"),
        ({"topic": "a", "qos": 7}, "/qos"),
        ({"topic": "a", "payload": "a", "payload_json": 1}, "/payload"),
    ],
)
def test_what_no_client_could_publish_is_refused(node, body, pointer):
    problem = call(node, "POST", "/publish", body, status=422)
    assert problem["errors"][0]["pointer"] == pointer


def test_a_limit_that_is_off_is_not_named(node):
    body = {"topic": "a", "payload": "x" * 1_100_000}
    detail = call(node, "POST", "/publish", body, status=422)["detail"]
    assert "limits.packet_bytes, 1048576" in detail and "payload_bytes" not in detail, detail


def test_many_publish_at_once(node, name):
    """Callers side by side: each is answered, and each message arrives once."""
    with Client(node, name) as client:
        client.subscribe(f"{name}/#", 1)

        def publish(number):
            for round_ in range(20):
                body = {"topic": f"{name}/{number}", "payload": f"{round_}", "qos": 1}
                call(node, "POST", "/publish", body)

        threads = [threading.Thread(target=publish, args=(number,)) for number in range(5)]
        for thread in threads:
            thread.start()
        came = {}
        for _ in range(100):
            message = client.receive()
            came.setdefault(message.topic, []).append(int(message.payload))
        for thread in threads:
            thread.join()
        assert len(came) == 5
        assert all(numbers == list(range(20)) for numbers in came.values())


# Retained messages


def test_retained_messages_are_read_searched_and_taken_away(node, name):
    with Client(node, name) as client:
        client.publish(f"{name}/text", "hëllo", retain=True)
        client.publish(f"{name}/bytes", b"\xff\0", retain=True)
        client.publish(
            f"{name}/typed", b"<script>1</script>", retain=True,
            properties=properties("PUBLISH", ContentType="text/html"),
        )
    filter_ = quote(f"{name}/#", safe="")
    page = call(node, "GET", f"/retained?filter={filter_}&payload=true&total=true&limit=2")
    assert page["total"] == 3
    shown = {one["topic"]: (one["payload"], one["payload_encoding"]) for one in page["items"]}
    assert shown[f"{name}/bytes"] == ("/wA=", "base64")
    assert shown[f"{name}/text"] == ("hëllo", "text")
    page = call(node, "GET", f"/retained?filter={filter_}&payload=true&limit=2&cursor={page['next']}")
    assert ([one["topic"] for one in page["items"]], page["next"]) == ([f"{name}/typed"], None)
    found = call(node, "GET", f"/retained?filter={filter_}&search=byt")["items"]
    assert [(one["topic"], one["payload"]) for one in found] == [(f"{name}/bytes", None)]
    headers = {"X-API-Key": VIEWER, "Accept": "application/octet-stream"}
    status, answered, body = ask(node, f"/api/v1/retained/{name}/bytes", headers=headers)
    assert (status, body) == (200, b"\xff\0")
    headers["Accept"] = "text/html"
    _, answered, body = ask(node, f"/api/v1/retained/{name}/typed", headers=headers)
    assert (answered["Content-Type"], body) == ("text/html", b"<script>1</script>")
    assert "sandbox" in answered["Content-Security-Policy"]
    assert f"{name}/text" in command(node, "retained", "ls", f"{name}/#")
    assert command(node, "retained", "get", f"{name}/text") == "hëllo"
    before = call(node, "DELETE", f"/retained?filter={filter_}&preview=true")
    assert (before["count"], len(before["topics"])) == (3, 3)
    call(node, "DELETE", f"/retained/{name}/text", status=204)
    call(node, "DELETE", f"/retained/{name}/text", status=404)
    call(node, "DELETE", f"/retained?filter={filter_}", status=403, key=VIEWER)
    assert "2 retained messages would be removed" in command(
        node, "retained", "rm", f"{name}/#", "--preview"
    )
    assert command(node, "retained", "rm", f"{name}/#") == "Removed 2 retained messages\n"
    assert call(node, "GET", f"/retained?filter={filter_}&total=true")["total"] == 0
    call(node, "GET", "/retained?filter=%24SYS/%23")


def test_a_long_topic_does_not_end_the_pages(node, name):
    topics = sorted(f"{name}/" + letter * 30_000 for letter in "abc")
    for topic in topics:
        call(node, "POST", "/publish", {"topic": topic, "retain": True, "payload": "x"})
    filter_, found, cursor = quote(f"{name}/+", safe=""), [], ""
    for _ in topics:
        page = call(node, "GET", f"/retained?filter={filter_}&limit=1{cursor}")
        found += [one["topic"] for one in page["items"]]
        cursor = f"&cursor={page['next']}"
    assert (found, page["next"]) == (topics, None)


# The node


def test_a_restart_keeps_what_was_answered(tmp_path):
    data_dir = tmp_path / "data"
    with martlet_process.Node(http=True, variables=KEYS, data_dir=data_dir) as node:
        with durable(node, "kept"):
            pass
        call(node, "POST", "/clients/kept/subscriptions", {"filter": "t", "qos": 1})
        call(node, "POST", "/publish", {"topic": "t", "payload": "1", "qos": 1, "retain": True})
        node.process.kill()
        node.process.wait()
    with martlet_process.Node(http=True, variables=KEYS, data_dir=data_dir) as node:
        assert call(node, "GET", "/retained/t")["payload"] == "1"
        with durable(node, "kept") as client:
            assert client.session_present
            assert client.receive_payload() == "1"


def test_listeners_certificates_and_the_configuration_without_secrets(tmp_path):
    authority = tmp_path / "authority"
    for arguments in (
        ("cert", "ca", "--dir", str(authority)),
        ("cert", "server", "127.0.0.1", "--dir", str(authority)),
    ):
        assert martlet_process.run(*arguments).returncode == 0
    settings = [
        f"tls.certificate={authority}/server.crt", f"tls.key={authority}/server.key",
        "limits.in_flight=17",
    ]
    listen = ("mqtt://127.0.0.1:0", "mqtts://127.0.0.1:0")
    with martlet_process.Node(
        http=True, variables=KEYS, settings=settings, listen=listen
    ) as node:
        listeners = call(node, "GET", "/listeners")["items"]
        assert [(one["protocol"], one["is_secure"]) for one in listeners] == [
            ("mqtt", False), ("mqtt", True), ("http", False),
        ]
        [shown] = call(node, "GET", "/certificates")["items"]
        assert shown["file"] == f"{authority}/server.crt" and shown["used_as"] == "server"
        assert shown["days_left"] > 0 and shown["not_after"].endswith("Z")
        before = shown["serial"]
        assert martlet_process.run("cert", "renew", "server", "--dir", str(authority)).returncode == 0
        command(node, "reload")
        assert call(node, "GET", "/certificates")["items"][0]["serial"] != before
        configuration = call(node, "GET", "/config")
        values = {one["key"]: one for one in configuration["values"]}
        assert values["limits.in_flight"]["value"] == 17
        assert values["limits.in_flight"]["source"] == "command line --set"
        assert values["http.api_keys"]["value"] == "***"
        assert KEY not in json.dumps(configuration)
        call(node, "GET", "/config", status=403, key=VIEWER)
        assert call(node, "GET", "/version")["api"] == "v1"
        assert command(node, "health").startswith("ready\n")


def test_a_command_without_a_node_says_so(tmp_path):
    for arguments in (("client", "ls"), ("session", "rm", "x"), ("retained", "ls"), ("health",)):
        done = martlet_process.run(*arguments, "--data-dir", str(tmp_path))
        assert done.returncode == 1
        assert "no node answers" in done.stderr
