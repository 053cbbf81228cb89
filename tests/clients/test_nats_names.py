"""Names of messages in subjects and headers of NATS: of teams and devices, of every odd character, and too long ones."""

import datetime
import re

import pytest

import nats_process
from paho_client import Client
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
    assert [head["Mqtt-Device"] for _, head, _ in found] == ["pump", "pump", "a.b"]


# Control characters, blanks, a byte order mark, emoji, and characters outside the Basic Multilingual Plane.
ODD = ["\x01", "\x1f", "\x7f", "\x85", "\t", "\r", "\n", "\r\n", " ", "\u00a0", "\u2028", "\ufeff", "\u200b", "\u202e", "😀",
       "👩‍👩‍👧", "𐍈", "\ufffd", "é", "e\u0301", "%", "%2E", "$", "_", "-", "'", "\"", "\\", "{user}", "*", ">", ".", "..", "+x"]


def read_back(token):
    """The name of a token, as the page says."""
    if token == "-":
        return None
    if token == "%":
        return ""
    return re.sub(rb"%([0-9A-F]{2})", lambda found: bytes([int(found[1], 16)]), token.encode()).decode()


def test_every_odd_character_is_in_one_token_and_can_be_read_back(start_node, tmp_path, nats):
    """In user names, and in the levels of topics."""
    node = start_node(**configured(tmp_path, nats.url, filters=["t/#"], subject="raw.{user}.{topic}"))
    # A topic has no wildcard.
    topics = [text for text in ODD if not set("+#") & set(text)]
    with Client(node, "pump-1") as client:
        for text in topics:
            client.publish(f"t/{text}/end", text)
    for text in ODD:
        with Client(node, "pump-1").credentials(text, "x") as client:
            client.publish("t/user", text)
    found = until_count(node, nats, len(topics) + len(ODD))
    assert letters(node) == []
    assert len({subject for subject, _, _ in found}) == len(found)
    for subject, head, payload in found:
        text, tokens = payload.decode(), subject.split(".")
        assert not set("*> \t\r\n\ufeff\x01\x7f") & set(subject), subject
        if tokens[-1] == "user":
            assert len(tokens) == 4 and read_back(tokens[1]) == text, (subject, text)
        else:
            assert len(tokens) == 5 and tokens[1] == "-" and read_back(tokens[3]) == text, (subject, text)
            assert "\r" not in head["Mqtt-Topic"] and "\n" not in head["Mqtt-Topic"]


def test_a_subject_that_is_too_long_is_a_dead_letter_and_holds_up_nobody(start_node, tmp_path, nats):
    node = start_node(**configured(tmp_path, nats.url, filters=["t/#"], subject="raw.{topic}"))
    with Client(node, "pump-1") as client:
        # Each `é` is six bytes of a subject.
        for topic in ("t/" + "a" * 2_000, "t/" + "a" * 2_100, "t/" + "é" * 400, "t/" + "/".join("b" * 1_500), "t/last"):
            client.publish(topic, topic[:10])
    found = until_count(node, nats, 2)
    assert [subject for subject, _, _ in found] == ["raw.t." + "a" * 2_000, "raw.t.last"]
    until(lambda: len(letters(node)) == 3, lambda: [state(node), letters(node)])
    assert all("2048" in one["reason"] or "2,048" in one["reason"] for one in letters(node)), letters(node)
