"""Names of messages in subjects and headers of NATS: of teams and devices, of every odd character, and too long ones."""

import datetime
import re

import pytest

import nats_process
from paho_client import Client, properties
from test_hook import hook  # noqa: F401
from test_http_registry import call
from test_nats import configured, letters, state, until_count
from test_sinks import until
from test_tenants import make_teams


@pytest.fixture(params=nats_process.BOTH)
def nats(request):
    server = nats_process.Server(source=request.param)
    nats_process.Client(server).add_stream("RAW", "raw.>")
    yield server
    server.close()


def test_a_subject_has_the_team_and_the_device(start_node, tmp_path, nats):
    node = start_node(**configured(tmp_path, nats.url, tenant="*", subject="raw.{tenant}.{device}"))
    teams = make_teams(node)
    common = call(node, "POST", "/api/v1/devices", {"id": "a.b", "type": "free"})
    before = datetime.datetime.now(datetime.timezone.utc)
    for made, text in ((teams["north"]["pump"], "north"), (teams["south"]["pump"], "south"), (common, "common")):
        with Client(node, made["id"]).credentials(made["user_name"], made["secret"]) as client:
            client.publish("plant/1", text)
    found = until_count(node, nats, 3)
    subjects = {payload.decode(): subject for subject, _, payload in found}
    assert subjects["common"] == "raw.-.a%2Eb" and len(set(subjects.values())) == 3
    for team in ("north", "south"):
        # Whether a device of another team of the same name is told apart by its team.
        assert re.fullmatch(rf"raw\.{team}\.pump(%40{team})?", subjects[team]), subjects
    # When the node received it.
    for _, head, _ in found:
        at = datetime.datetime.fromisoformat(head["Mqtt-Received-At"])
        assert at.tzinfo is not None and abs((at - before).total_seconds()) < 60, head
    devices = {payload.decode(): head["Mqtt-Device"] for _, head, payload in found}
    assert devices == {"north": "pump", "south": "pump", "common": "a.b"}


# Refused by the node, as the specification advises, so that they are in no topic and in no user name.
CONTROL = ["\x01", "\x1f", "\x7f", "\x85", "\t", "\r", "\n", "\r\n"]
# Blanks, a byte order mark, emoji, characters outside the Basic Multilingual Plane, and what NATS or templates know.
ODD = [" ", "\u00a0", "\u2028", "\ufeff", "\u200b", "\u202e", "😀",
       "👩‍👩‍👧", "𐍈", "\ufffd", "é", "e\u0301", "%", "%2E", "$", "_", "-", "'", "\"", "\\", "{user}", "*", ">", ".", "..", "+x"]


def read_back(token):
    """The name of a token, as the page says."""
    if token == "-":
        return None
    if token == "%":
        return ""
    return re.sub(rb"%([0-9A-F]{2})", lambda found: bytes([int(found[1], 16)]), token.encode()).decode()


def test_every_odd_character_is_in_one_token_and_can_be_read_back(start_node, tmp_path, nats, hook):
    """In user names, in the levels of topics, and in properties, which may have control characters too."""
    subject = "raw.{user}.{property:site}.{topic}"
    node = start_node(**configured(tmp_path, nats.url, filters=["t/#"], subject=subject),
                      settings=[f"auth.hook_url={hook.url}", "mqtt.allow_anonymous=true"])
    # A topic has no wildcard.
    topics = [text for text in ODD if not set("+#") & set(text)]
    values = [*ODD, *CONTROL]
    with Client(node, "pump-1") as client:
        for text in topics:
            client.publish(f"t/{text}/end", text)
        for text in values:
            client.publish("t/value", text, properties=properties("PUBLISH", UserProperty=("site", text)))
    for text in ODD:
        with Client(node, "pump-1").credentials(text, "x") as client:
            client.publish("t/user", text)
    found = until_count(node, nats, len(topics) + len(values) + len(ODD))
    assert letters(node) == []
    assert len({subject for subject, _, _ in found}) == len(found)
    for subject, _, payload in found:
        text, tokens = payload.decode(), subject.split(".")
        assert not re.search(r"[*> \x01-\x1f\x7f-\x9f]", subject), subject
        user, site, topic = tokens[1], tokens[2], tokens[4]
        assert len(tokens) == (6 if tokens[-1] == "end" else 5), subject
        if tokens[-1] == "end":
            # A level is always there, so that `-` is one.
            assert (user, site) == ("-", "-") and (topic == text == "-" or read_back(topic) == text), (subject, text)
        else:
            assert read_back(user if tokens[-1] == "user" else site) == text, (subject, text)


def test_control_characters_are_refused_before_they_reach_nats(start_node, tmp_path, nats):
    node = start_node(**configured(tmp_path, nats.url, filters=["#"], subject="raw.{user}.{topic}"))
    for text in CONTROL:
        with Client(node, "pump-1") as client:
            client.client.publish(f"t/{text}/end", "no", 1)
            assert client.wait_for_end().is_failure, text
        with Client(node, "pump-1").credentials(f"a{text}b", "x") as client:
            assert client.connack.is_failure, text
    with Client(node, "pump-1") as client:
        client.publish("t/last", "last")
    assert [payload for _, _, payload in until_count(node, nats, 1)] == [b"last"]


def test_a_subject_that_is_too_long_is_a_dead_letter_and_holds_up_nobody(start_node, tmp_path, nats):
    node = start_node(**configured(tmp_path, nats.url, filters=["t/#"], subject="raw.{topic}"))
    with Client(node, "pump-1") as client:
        # `é` is two bytes, and stays as it is.
        for topic in ("t/" + "a" * 2_000, "t/" + "a" * 2_100, "t/" + "é" * 1_100, "t" + 100 * ("/" + "b" * 21), "t/last"):
            client.publish(topic, topic[:10])
    found = until_count(node, nats, 2)
    assert [subject for subject, _, _ in found] == ["raw.t." + "a" * 2_000, "raw.t.last"]
    until(lambda: len(letters(node)) == 3, lambda: [state(node), letters(node)])
    assert all("2048" in one["reason"] or "2,048" in one["reason"] for one in letters(node)), letters(node)
