"""Values as devices send them and as others read them again: large integers, what is no number, texts in CSV, times with a
zone, and refusals that name what is wrong."""

import csv
import gzip
import io
import json
import pathlib
import re

import pytest

import martlet_process
from paho_client import Client
from test_access import until
from test_http_api import KEY, KEYS, ask
from test_telemetry import call, connected, post, readings, rejected, values

DOCUMENT = pathlib.Path(__file__).parents[2] / "docs" / "telemetry.md"
MARK = "\ufeff"

RULES = """
[telemetry]
enabled = true

[[telemetry.rules]]
topic = "t/{device}"

[[telemetry.rules]]
topic = "v/{device}/{sensor}"
format = "value"
key = "{sensor}"

[[telemetry.rules]]
topic = "l/{device}"
format = "line"
ignore = ["host"]

[[telemetry.rules]]
topic = "tele/{device}/SENSOR"
time_member = "Time"

[[telemetry.rules]]
topic = "rtl_433/{device}"
time_member = "time"

[[telemetry.rules]]
topic = "ms/{device}"
time_member = "at"
time_unit = "ms"
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    path = tmp_path_factory.mktemp("values") / "martlet.toml"
    path.write_text(RULES)
    return ["-c", str(path)]


def start(config, **options):
    return martlet_process.Node(http=True, variables=KEYS, settings=["http.rate=0"], arguments=config, **options)


@pytest.fixture(scope="module")
def node(config):
    with start(config) as node:
        yield node


def device(node, device_id, **more):
    """A device that may publish everything, also for others."""
    if not any(one["name"] == "free" for one in call(node, "GET", "/device-types")["items"]):
        call(node, "POST", "/device-types", {"name": "free", "rules": ["topic readwrite #"]}, status=201)
    made = call(node, "POST", "/devices", {"id": device_id, "type": "free", **more}, status=201)
    return made["id"], made["secret"]


def exported(node, name, **query):
    """Type and text of an export of all values."""
    more = "".join(f"&{key}={value}" for key, value in query.items())
    status, head, text = ask(node, f"/api/v1/query?device={name}&from=1790000000{more}", headers={"X-API-Key": KEY})
    assert status == 200, text
    return head["Content-Type"], text.decode()


def rows(text):
    return list(csv.DictReader(io.StringIO(text.removeprefix(MARK), newline="")))


LARGE = {"eui": 7314159265358979323, "p53": 9007199254740993, "max": 2**63 - 1, "min": -2**63}


def test_integers_of_64_bits_come_back_as_they_were_sent(config, tmp_path):
    sent = {**LARGE, "val": LARGE["eui"] + 1, "bs.eui": LARGE["eui"] + 2, "http": LARGE["eui"] + 3}
    node = start(config, data_dir=tmp_path)
    named = device(node, "pump")
    with connected(node, named) as client:
        client.publish("t/pump", json.dumps({**LARGE, "ts": 1790000000}))
        client.publish("v/pump/val", str(sent["val"]))
        client.publish("l/pump", f"bs eui={sent['bs.eui']}i")
        for topic, payload in (("t/pump", '{"no": 18446744073709551615}'), ("v/pump/no", "18446744073709551615"),
                               ("l/pump", "bs no=18446744073709551615u")):
            client.publish(topic, payload)
    post(node, "pump", {"http": sent["http"]}, key=named[1])
    values(node, "pump", len(sent))
    for topic in ("t/pump", "v/pump/no", "l/pump"):
        assert [(one["reason"], one["device"]) for one in rejected(node, topic)] == [("bad_number", "pump")], topic
        assert "18446744073709551615" in rejected(node, topic)[0]["detail"], rejected(node, topic)
    node.process.kill()
    node.wait()
    node.close()
    with start(config, data_dir=tmp_path) as node:
        assert {key: value for _, key, value in readings(node, "pump")} == sent
        latest = call(node, "GET", "/devices/pump/telemetry/latest")
        assert {key: one["value"] for key, one in latest.items()} == sent
        assert {row["key"]: int(row["value"]) for row in rows(exported(node, "pump", format="csv")[1])} == sent
        lines = map(json.loads, exported(node, "pump", format="ndjson")[1].splitlines())
        assert {one["key"]: one["value"] for one in lines} == sent
        protocol = exported(node, "pump", format="line")[1]
        assert all(f" {key}={value} " in protocol for key, value in sent.items()), protocol
        functions = ["first", "last", "max", "min", "sum", "p50", "p95", "avg"]
        query = f"/query?device=pump&keys=p53&from=1790000000&bucket=all&functions={','.join(functions)}"
        [bucket] = call(node, "GET", query)["items"]
        assert [bucket[name] for name in functions] == [LARGE["p53"]] * len(functions), bucket
        assert not any(isinstance(bucket[name], float) for name in functions), bucket


def test_what_is_no_number_is_rejected_and_the_values_beside_it_are_stored(node, name):
    named = device(node, name)
    sent = [
        (f"t/{name}", '{"uptime": 74888, "temperature": nan, "humidity": nan}', "not_json", "JSON has no NaN"),
        (f"t/{name}", '{"a": -Infinity, "b": 1}', "not_json", "no infinity"),
        (f"l/{name}", "weather temperature=NaN,humidity=51", "bad_number", "NaN"),
        (f"v/{name}/plain", "nan", "bad_number", "NaN"),
    ]
    with connected(node, named) as client:
        for topic, payload, _, _ in sent:
            client.publish(topic, payload)
        client.publish(f"t/{name}", '{"temperature": "nan", "ok": 1, "huge": 1e999}')
        client.publish(f"v/{name}/state", "unavailable")
    found = [("weather.humidity", 51), ("ok", 1), ("temperature", "nan"), ("state", "unavailable")]
    assert sorted(values(node, name, 4)) == sorted(found)
    of_device = call(node, "GET", f"/telemetry/rejected?device={name}")["items"]
    for topic, _, reason, word in sent:
        details = [one["detail"] for one in of_device if (one["topic"], one["reason"]) == (topic, reason)]
        assert any(word in detail for detail in details), (topic, details)
    told = node.why(name)
    said = [one["sentence"] for one in [told, *told["also"]] if one["cause"] == "telemetry-not-stored"]
    assert any("NaN" in sentence for sentence in said), told
    told = call(node, "POST", f"/devices/{name}/telemetry", b'{"temperature": NaN, "x": 1}', 422, key=named[1])
    assert "NaN" in told["detail"], told
    for form in ("csv", "ndjson", "line"):
        assert len(exported(node, name, format=form)[1].splitlines()) == len(readings(node, name)) + (form == "csv")


TEXTS = {"f1": '=HYPERLINK("http://x";"y")', "f2": "@SUM(A1)", "f3": "+49 170", "f4": "-off", "f5": "\t=1",
         "plain": 'a,b\n"c"', "umlaut": "Küche 🔥", "comma": "1,5", "zeros": "007"}


def test_no_export_of_csv_has_a_formula(node, name):
    device(node, name, name="=1+1", location="@home")
    post(node, name, {**TEXTS, "n1": -3, "n2": -2.5, "ts": 1790000000})
    kind, text = exported(node, name, format="csv")
    found = {row["key"]: row["value"] for row in rows(text)}
    assert kind == "text/csv; charset=utf-8" and (found["n1"], found["n2"]) == ("-3", "-2.5")
    expected = {key: ("'" if key.startswith("f") else "") + value for key, value in TEXTS.items()}
    assert {key: found[key] for key in TEXTS} == expected
    # Buckets, whose last value may be a text, and the export of devices.
    _, text = exported(node, name, format="csv", bucket="all", functions="last")
    found = {row["key"]: row["last"] for row in rows(text)}
    assert found["n1"] == "-3" and {key: found[key] for key in TEXTS if found[key]} == {
        key: value for key, value in expected.items() if found[key]}, found
    status, _, text = ask(node, "/api/v1/devices/export", headers={"X-API-Key": KEY})
    [own] = [row for row in rows(text.decode()) if row["id"] == name]
    assert (status, own["name"], own["location"]) == (200, "'=1+1", "'@home")


def test_csv_begins_with_a_byte_order_mark_where_one_is_asked_for(node, name):
    device(node, name)
    post(node, name, {"a": "ü", "ts": 1790000000})
    values_of = f"/query?device={name}&from=1790000000&format=csv"
    for path in ("/devices/export?", f"{values_of}&", f"{values_of}&bucket=all&functions=last&"):
        text = lambda mark: ask(node, f"/api/v1{path}bom={mark}", headers={"X-API-Key": KEY})[2].decode()
        assert name in text("false") and text("true") == MARK + text("false"), (path, text("true"))


def test_a_plus_in_a_time_is_a_plus_however_it_is_written(node, name):
    device(node, name)
    post(node, name, [{"h": hour, "ts": f"2026-11-20T{hour:02}:30:00Z"} for hour in range(6)])
    for plus in ("%2B", "+"):
        span = f"from=2026-11-20T03:00:00{plus}01:00&to=2026-11-20T06:00:00{plus}01:00"
        for path in (f"/devices/{name}/telemetry?order=asc", f"/query?device={name}"):
            found = call(node, "GET", f"{path}&keys=h&{span}")["items"]
            assert [one["value"] for one in found] == [2, 3, 4], (path, plus, found)
    # So it is where something is deleted, and in other lists.
    span = "from=2026-11-20T03:00:00+01:00&to=2026-11-20T06:00:00+01:00"
    assert call(node, "DELETE", f"/devices/{name}/telemetry?{span}") == {"deleted": 3}
    assert [value for _, _, value in readings(node, name)] == [0, 1, 5]
    for path in ("audit", "metrics/history"):
        call(node, "GET", f"/{path}?from=2026-11-20T03:00:00+01:00")
    for wrong in ("from=2026-11-20T03:00:00Z&to=2026-11-20T01:00:00Z", "from=&to=", "from=yesterday",
                  "from=2026-13-01T00:00:00Z", "limit=0", "limit=-1"):
        call(node, "GET", f"/devices/{name}/telemetry?{wrong}", status=400)


def test_a_refused_body_names_line_or_element_and_member(node, name):
    device(node, name)
    lines = {"Content-Type": "application/x-ndjson"}
    for body, headers, pointer, words in [
        (b'[{"a": 1}, {"b": 18446744073709551615}]', {}, "/1/b", "item 2"),
        (b'{"a": 1}\n\n{"b": 18446744073709551615}\n', lines, "/2/b", "line 3"),
        (b'{"data": {"a": 1, "b": 1e400}}', {}, "/data/b", "b"),
        (b"m a=1\nm b=nan", {"Content-Type": "text/plain"}, "/1", "line 2"),
        (b'{"a": 1}\n\n{"b": "\xff"}\n', lines, "/2", "line 3: the payload is not UTF-8 text"),
    ]:
        told = call(node, "POST", f"/devices/{name}/telemetry", body, 422, headers)
        assert [one["pointer"] for one in told["errors"]] == [pointer] and words in told["detail"], told
    assert readings(node, name) == []
    listed = [one["detail"] for one in rejected(node, f"POST /api/v1/devices/{name}/telemetry")]
    assert any("line 2" in one or "line 3" in one for one in listed), listed


def test_a_message_with_one_bad_member_stores_its_other_members(node, name):
    named = device(node, name)
    with connected(node, named) as client:
        client.publish(f"t/{name}", '{"a": 1, "b,c": 2, "d": 18446744073709551615, "ts": 1790000000}')
        client.publish(f"t/{name}", '[{"e": 1}, {"f": 1e400, "g": 2}]')
    assert sorted(values(node, name, 3)) == [("a", 1), ("e", 1), ("g", 2)]
    assert {one["reason"] for one in rejected(node, f"t/{name}")} == {"bad_key", "bad_number"}


def test_telegraf_gives_up_what_is_refused(node, name):
    """Each status of a batch that will be refused again is one that the page has Telegraf give up."""
    device(node, name)
    [codes] = re.findall(r"`non_retryable_statuscodes = \[(.*)\]`", DOCUMENT.read_text())
    given_up = {int(code) for code in codes.split(",")}
    packed, long = {"Content-Encoding": "gzip"}, gzip.compress(b" " * 50_000_000)
    refused = set()
    for body, more in ((b"m a=nan", {}), (b"m", {}), (b"m a=1 soon", {}), (b"x", packed), (long, packed)):
        headers = {"X-API-Key": KEY, "Content-Type": "text/plain", **more}
        refused.add(ask(node, f"/api/v1/devices/{name}/telemetry", "POST", headers, body)[0])
    assert refused <= given_up and len(refused) == 3, refused


def test_a_rule_names_the_member_that_has_the_time(node, name):
    named = device(node, name)
    forms = [
        ("tele/{}/SENSOR", {"Time": "2026-09-21T14:13:20"}, "2026-09-21T14:13:20.000000Z"),
        ("rtl_433/{}", {"time": "2026-09-21 14:13:21"}, "2026-09-21T14:13:21.000000Z"),
        ("rtl_433/{}", {"time": 1790000002}, "2026-09-21T14:13:22.000000Z"),
        ("rtl_433/{}", {"time": 1790000003250}, "2026-09-21T14:13:23.250000Z"),
        ("ms/{}", {"at": 1790000004500}, "2026-09-21T14:13:24.500000Z"),
    ]
    with connected(node, named) as client:
        for topic, payload, _ in forms:
            client.publish(topic.format(name), json.dumps({**payload, "t": 1}))
    values(node, name, len(forms))
    assert readings(node, name) == [(time, "t", 1) for _, _, time in forms]


# Devices behind a gateway


def test_what_a_gateway_sends_for_a_device_is_found_by_the_device(node, name):
    gateway, child = device(node, f"{name}-gateway"), device(node, name)
    with connected(node, gateway) as client:
        client.publish(f"t/{name}", "no JSON")
        client.publish(f"t/{gateway[0]}", "no JSON either")
    until(lambda: call(node, "GET", f"/telemetry/rejected?device={name}")["items"], "it is rejected")
    [one] = call(node, "GET", f"/telemetry/rejected?device={name}")["items"]
    assert (one["topic"], one["device"], one["client_id"], one["reason"]) == (f"t/{name}", name, gateway[0], "not_json"), one
    shown = martlet_process.run("telemetry", "rejected", "--device", name, "--data-dir", node.data_dir).stdout
    assert f"t/{name} " in shown and f"t/{gateway[0]}" not in shown, shown
    told = node.why(child[0])
    found = [told, *told["also"]]
    [of_payload] = [one for one in found if one["cause"] == "telemetry-not-stored"]
    assert f"t/{name}, published by {gateway[0]}" in of_payload["sentence"], told


# At the command line


def test_a_query_shows_all_values_of_each_key_and_each_function(node, name):
    device(node, name)
    post(node, name, [{"state": value, "n": at, "ts": 1790000000 + at} for at, value in enumerate(["on", 7, "off"])])
    query = lambda *more: martlet_process.run("telemetry", "query", name, "--from", "2026-09-21T00:00:00Z", *more,
                                              "--data-dir", node.data_dir).stdout
    shown = query()
    of_state = [line for line in shown.splitlines() if "state" in line]
    assert [line.split()[-1] for line in of_state] == ["on", "7", "off"] and f"{name} n (3 values, last 2)" in shown, shown
    shown = query("-b", "1h", "-f", "min,max,last")
    assert re.search(r"MIN +MAX +LAST", shown) and "state" in shown, shown
    assert re.search(rf"{name} +n +0 +2 +2$", shown, re.M), shown
