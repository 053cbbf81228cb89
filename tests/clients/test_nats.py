"""The NATS sink against nats-server, Debian's and a newer one, over kills and hangs of the server."""

import json
import threading

import pytest

import martlet_process
import nats_process
from paho_client import V311, Client, properties
from server_process import free_port
from test_hook import hook  # noqa: F401
from test_http_api import KEY, KEYS
from test_http_registry import call
from test_sinks import until
from test_webhooks import set_secret


@pytest.fixture(params=nats_process.BOTH)
def nats(request):
    server = nats_process.Server(source=request.param)
    yield server
    server.close()


def configured(tmp_path, url, allowed='["127.0.0.0/8"]', **keys):
    keys = {"name": "raw", "filters": ["plant/#"], "url": url, **keys}
    lines = [f"{key} = {json.dumps(value)}" for key, value in keys.items()]
    config = tmp_path / "martlet.toml"
    config.write_text("\n".join(
        ["[integrations]", f"allow_private = {allowed}", "[[sinks.nats]]", *lines]) + "\n")
    return {"arguments": ("-c", str(config)), "data_dir": tmp_path / "data", "http": True, "variables": KEYS}


def state(node):
    return call(node, "GET", "/api/v1/integrations/nats/raw", key=KEY)


def letters(node):
    return call(node, "GET", "/api/v1/integrations/nats/raw/dead-letters", key=KEY)["items"]


def warnings(node):
    return call(node, "GET", "/api/v1/health")["warnings"]


def until_count(node, nats, count, stream="RAW"):
    asks = nats_process.Client(nats)
    until(lambda: asks.count(stream) >= count, lambda: f"{asks.count(stream)} of {count}\n{node.log()}")
    return asks.all(stream)


def test_a_message_is_in_the_stream_with_its_headers(start_node, tmp_path, nats):
    nats_process.Client(nats).add_stream("RAW", "raw.>")
    # Of several addresses the first that answers is used.
    node = start_node(**configured(tmp_path, f"nats://127.0.0.1:{free_port()},{nats.url}"))
    with Client(node, "pump-1").credentials("ann", "secret") as client:
        client.publish("plant/1", b"\x00\xff", qos=2, retain=True)
        client.publish("plant/ü", "21.5")
    # Messages of two clients are in no order otherwise.
    until_count(node, nats, 2)
    with Client(node, "pump-2") as client:
        client.publish("plant/2", "none")
    found = until_count(node, nats, 3)
    assert [(subject, payload) for subject, _, payload in found] == [
        ("raw.-", b"\x00\xff"), ("raw.-", b"21.5"), ("raw.-", b"none")]
    head = found[0][1]
    assert (head["Mqtt-Topic"], head["Mqtt-Qos"], head["Mqtt-Retain"]) == ("plant/1", "2", "true")
    # Nobody has checked that it is ann.
    assert head["Mqtt-Client-Id"] == "pump-1" and "Mqtt-User" not in head
    assert found[1][1]["Mqtt-Topic"] == "plant/ü"
    assert len({head["Nats-Msg-Id"] for _, head, _ in found}) == 3


def test_a_subject_has_properties_of_the_message(start_node, tmp_path, nats):
    nats_process.Client(nats).add_stream("RAW", "raw.>")
    node = start_node(**configured(tmp_path, nats.url, subject="raw.{property:site}.{content_type}.{property:a b}"))
    odd = properties("PUBLISH", ContentType="text/a.b", UserProperty=[("site", "*.>"), ("a b", ""), ("site", "second")])
    with Client(node, "pump-1") as client:
        client.publish("plant/1", "1", properties=odd)
        client.publish("plant/1", "2", properties=properties("PUBLISH", UserProperty=[("Site", "x"), ("a b", "-")]))
    found = until_count(node, nats, 2)
    assert [(subject, payload) for subject, _, payload in found] == [
        ("raw.%2A%2E%3E.text/a%2Eb.%", b"1"), ("raw.-.-.%2D", b"2")]


@pytest.mark.parametrize("source", nats_process.BOTH)
def test_the_mqtt_mapping_is_that_of_the_server(start_node, tmp_path, source):
    """Each topic has the same subject, whether a client publishes it to the node or to nats-server's own MQTT listener."""
    port = free_port()
    server = nats_process.Server(f'server_name: "mqtt"\nmqtt {{ listen: "127.0.0.1:{port}" }}', source=source)
    topics = ["m/a", "m/a/b", "m//b", "m/", "m///", "m/a.b/c", "m/a..b", "m/.", "m/ü", "m/a%2F", "m/$x", "m/a\\b"]
    if source == nats_process.DEBIAN:
        # It takes no dots in topics.
        topics = [topic for topic in topics if "." not in topic]
    try:
        nats_process.Client(server).add_stream("M", "m.>")
        node = start_node(**configured(tmp_path, server.url, filters=["m/#"], subject="{topic:mqtt}"))
        with Client(None, "theirs", version=V311, port=port) as theirs, Client(node, "ours") as ours:
            for number, topic in enumerate(topics):
                theirs.publish(topic, f"theirs {number}")
                ours.publish(topic, f"ours {number}")
        found = until_count(node, server, 2 * len(topics), "M")
        subjects = {payload.decode(): subject for subject, _, payload in found}
        of = lambda name: {topic: subjects[f"{name} {number}"] for number, topic in enumerate(topics)}
        assert of("ours") == of("theirs")
    finally:
        server.close()


def test_a_payload_above_the_limit_of_the_server_is_a_dead_letter(start_node, tmp_path):
    server = nats_process.Server("max_payload: 20000")
    try:
        nats_process.Client(server).add_stream("RAW", "raw.>")
        # Nothing listens at the first address.
        url = f"nats://127.0.0.1:{free_port()},{server.url}"
        node = start_node(**configured(tmp_path, url))
        with Client(node, "pump-1") as client:
            for payload in ["first", "x" * 30_000, "last"]:
                client.publish("plant/1", payload)
        found = until_count(node, server, 2)
        assert [payload for _, _, payload in found] == [b"first", b"last"]
        until(lambda: len(letters(node)) == 1, lambda: state(node))
        assert "limit of 20000 exceeded" in letters(node)[0]["reason"]
    finally:
        server.close()


def test_nothing_is_lost_and_the_order_is_kept_over_kills_of_the_server(start_node, tmp_path, nats):
    nats_process.Client(nats).add_stream("RAW", "raw.>", duplicate_window=120_000_000_000)
    node = start_node(**configured(tmp_path, nats.url, subject="raw.{client}"))
    publishers, each = 4, 1_500
    sent = [0] * publishers

    def publish(number):
        with Client(node, f"pump-{number}") as client:
            for at in range(each):
                client.publish(f"plant/{number}", str(at))
                sent[number] = at + 1

    threads = [threading.Thread(target=publish, args=(number,)) for number in range(publishers)]
    for thread in threads:
        thread.start()
    for share in (4, 2):
        until(lambda: sum(sent) >= publishers * each // share, lambda: sent)
        nats.kill()
        # What is published meanwhile waits.
        before = sum(sent)
        until(lambda: sum(sent) >= min(before + 200, publishers * each), lambda: sent)
        until(lambda: state(node)["state"] == "retrying", lambda: state(node))
        until(lambda: any("NATS cannot be reached" in one or "was lost" in one for one in warnings(node)),
              lambda: warnings(node))
        nats.start()
        call(node, "POST", "/api/v1/integrations/nats/raw/resume", key=KEY)
    for thread in threads:
        thread.join()
    found = until_count(node, nats, publishers * each)
    for number in range(publishers):
        got = [int(payload) for subject, _, payload in found if subject == f"raw.pump-{number}"]
        assert got == list(range(each)), f"pump-{number}"


def test_a_hanging_server_is_told_apart_and_nothing_is_lost(start_node, tmp_path, nats):
    nats_process.Client(nats).add_stream("RAW", "raw.>")
    node = start_node(**configured(tmp_path, nats.url, timeout_secs=1))
    with Client(node, "pump-1") as client:
        client.publish("plant/1", "0")
        until_count(node, nats, 1)
        nats.hang()
        for at in range(1, 50):
            client.publish("plant/1", str(at))
        until(lambda: any("does not acknowledge in time" in one for one in warnings(node)), lambda: warnings(node))
        until(lambda: any("does not answer" in one for one in warnings(node)), lambda: warnings(node))
        nats.go_on()
    call(node, "POST", "/api/v1/integrations/nats/raw/resume", key=KEY)
    found = until_count(node, nats, 50)
    assert [payload for _, _, payload in found] == [str(at).encode() for at in range(50)]
    nats.kill()
    with Client(node, "pump-1") as client:
        client.publish("plant/1", "50")
    until(lambda: any("cannot be reached" in one for one in warnings(node)), lambda: warnings(node))


def test_a_slow_server_is_waited_for_and_not_called_unreachable(start_node, tmp_path, nats):
    """It answers within the time limit, but runs for 20 ms in half a second alone."""
    nats_process.Client(nats).add_stream("RAW", "raw.>")
    node = start_node(**configured(tmp_path, nats.url))
    with Client(node, "pump-1") as client:
        client.publish("plant/1", "0")
        until_count(node, nats, 1)
        is_over, lags, states, told = threading.Event(), [], set(), []

        def throttle():
            while not is_over.wait(0.02):
                nats.hang()
                is_over.wait(0.5)
                nats.go_on()

        thread = threading.Thread(target=throttle)
        thread.start()
        try:
            for at in range(1, 200):
                client.publish("plant/1", str(at))
                if at % 10 == 0:
                    seen = state(node)
                    lags.append(seen["lag"])
                    states.add(seen["state"])
                    told += warnings(node)
            until(lambda: state(node)["delivered"] == 200, lambda: state(node))
            told += warnings(node)
        finally:
            is_over.set()
            thread.join()
    assert max(lags) > 0 and states == {"running"}, (lags, states)
    assert not any("NATS" in one for one in told), told
    found = until_count(node, nats, 200)
    assert [payload for _, _, payload in found] == [str(at).encode() for at in range(200)]


def test_no_name_makes_a_wildcard_or_a_further_token(start_node, tmp_path, nats, hook):
    nats_process.Client(nats).add_stream("RAW", "raw.>")
    node = start_node(**configured(tmp_path, nats.url, filters=["#"], subject="raw.{user}.{topic}"),
                      settings=[f"auth.hook_url={hook.url}"])
    names = ["*", ">", "a.b", "a b", "", "-", "%", "é", "\u00a0", "$SYS"]
    for name in names:
        with Client(node, "pump-1").credentials(name, "x") as client:
            client.publish(f"t/{name}/{name}", "x")
    found = until_count(node, nats, len(names))
    subjects = [subject for subject, _, _ in found]
    assert len(set(subjects)) == len(names)
    for name, subject in zip(names, subjects):
        tokens = subject.split(".")
        assert len(tokens) == 5 and "*" not in subject and ">" not in subject and tokens[1] != "-", (name, subject)


def test_private_addresses_need_permission(start_node, tmp_path, nats):
    node = start_node(**configured(tmp_path, nats.url, allowed="[]"))
    with Client(node, "pump-1") as client:
        client.publish("plant/1", "x")
    until(lambda: any("allow_private" in one for one in warnings(node)), lambda: warnings(node))


def test_a_missing_stream_is_created_and_an_existing_one_is_not_changed(start_node, tmp_path, nats):
    node = start_node(**configured(
        tmp_path, nats.url, stream="NEW", stream_max_age_secs=3600, stream_max_bytes=5_000_000,
        stream_duplicates_secs=60))
    with Client(node, "pump-1") as client:
        client.publish("plant/1", "x")
    until_count(node, nats, 1, "NEW")
    node.close()
    made = nats_process.Client(nats).stream_info("NEW")["config"]
    assert (made["subjects"], made["discard"], made["storage"]) == (["raw.>"], "old", "file")
    assert (made["max_age"], made["max_bytes"], made["duplicate_window"]) == (3600 * 10**9, 5_000_000, 60 * 10**9)
    node = start_node(**configured(tmp_path, nats.url, stream="NEW", stream_max_age_secs=7200))
    with Client(node, "pump-1") as client:
        client.publish("plant/1", "y")
    until_count(node, nats, 2, "NEW")
    assert nats_process.Client(nats).stream_info("NEW")["config"] == made


def test_a_subject_that_no_stream_takes_is_told(start_node, tmp_path, nats):
    node = start_node(**configured(tmp_path, nats.url, create_stream=False))
    with Client(node, "pump-1").credentials("ann", "x") as client:
        client.publish("plant/1", "x")
    until(lambda: any("no stream contains" in one for one in warnings(node)), lambda: warnings(node))
    nats_process.Client(nats).add_stream("RAW", "raw.>")
    until_count(node, nats, 1)


def test_a_message_of_mqtt_5_passes_its_content_type(start_node, tmp_path, nats):
    node = start_node(**configured(tmp_path, nats.url, stream="RAW"))
    with Client(node, "pump-1") as client:
        client.publish("plant/1", "{}", properties=properties("PUBLISH", ContentType="application/json"))
    assert until_count(node, nats, 1)[0][1]["Content-Type"] == "application/json"


# A user's nkey of an example of NATS, and its public key.
SEED = "SUAIO3FHUX5PNV2LQIIP7TZ3N4L7TX3W53MQGEIVYFIGA635OZCKEYHFLM"
PUBLIC = "UD2FLLGFERQVQQ3SBKONNG2QMIMTZQKKLTU3AVG5I3EQEFHBPGPE2XQS"


@pytest.mark.parametrize("keys, server", [
    ({"user": "martlet", "password": "known-pass"}, 'authorization { user: martlet, password: "known-pass" }'),
    ({"token": "known-token"}, 'authorization { token: "known-token" }'),
])
def test_credentials_are_shown_and_wrong_ones_are_told(start_node, tmp_path, keys, server):
    nats = nats_process.Server(server)
    try:
        shown = {"user": "martlet", "pass": "known-pass"} if "user" in keys else {"auth_token": "known-token"}
        node = start_node(**configured(tmp_path, nats.url, stream="RAW", **keys))
        with Client(node, "pump-1") as client:
            client.publish("plant/1", "x")
        asks = nats_process.Client(nats, **shown)
        until(lambda: asks.count("RAW") == 1, node.log)
        node.close()
        node = start_node(**configured(tmp_path, nats.url, **{**keys, list(keys)[-1]: "other-secret"}))
        with Client(node, "pump-1") as client:
            client.publish("plant/1", "y")
        until(lambda: any("rejects the credentials" in one for one in warnings(node)), lambda: warnings(node))
        assert "other-secret" not in node.log() + json.dumps(warnings(node))
    finally:
        nats.close()


def test_an_nkey_is_a_secret_and_signs(start_node, tmp_path):
    nats = nats_process.Server(
        "authorization { users: [ { nkey: %s }, { user: asks, password: asks } ] }" % PUBLIC)
    try:
        node = start_node(**configured(tmp_path, nats.url, stream="RAW", nkey="${secret:seed}"))
        with Client(node, "pump-1") as client:
            client.publish("plant/1", "x")
        remedy = f"martlet secret set seed --data-dir={node.data_dir}"
        until(lambda: any(remedy in one for one in warnings(node)), lambda: warnings(node))
        set_secret(node, "seed", SEED)
        asks = nats_process.Client(nats, user="asks", **{"pass": "asks"})
        until(lambda: asks.count("RAW") == 1, node.log)
        assert SEED not in node.log()
    finally:
        nats.close()


def test_an_operator_can_test_the_target(start_node, tmp_path, nats):
    node = start_node(**configured(tmp_path, nats.url))
    test = ("integration", "test", "nats/raw", "--data-dir", str(node.data_dir))
    done = martlet_process.run(*test)
    assert done.returncode == 0, done
    nats.kill()
    done = martlet_process.run(*test)
    assert done.returncode != 0 and "cannot be reached" in done.stdout + done.stderr, done


def test_several_sinks_have_connections_of_their_own(start_node, tmp_path):
    servers = [nats_process.Server(source=source) for source in nats_process.BOTH]
    try:
        options = configured(tmp_path, servers[0].url, stream="RAW")
        with open(tmp_path / "martlet.toml", "a", encoding="utf-8") as file:
            file.write(f'[[sinks.nats]]\nname = "other"\nfilters = ["plant/#"]\nurl = "{servers[1].url}"\n'
                       'stream = "RAW"\nsubject = "{topic}"\n'.replace("{topic}", "other.{topic}"))
        node = start_node(**options)
        servers[0].kill()
        with Client(node, "pump-1") as client:
            client.publish("plant/1", "x")
        # One that is away does not hold up the other.
        assert until_count(node, servers[1], 1)[0][0] == "other.plant.1"
        servers[0].start()
        assert until_count(node, servers[0], 1)[0][0] == "raw.-"
    finally:
        for server in servers:
            server.close()
