"""Versions of firmware: uploads, signatures, ranges, pieces by MQTT, and kills of the node."""

import base64
import contextlib
import hashlib
import http.client
import json
import os
import subprocess
from urllib.parse import quote, urlsplit

import pytest

import martlet_process
from paho_client import Client, properties
from test_http_api import KEY, ask
from test_http_registry import call, in_a_file
from test_rollouts import upload
from test_sinks import until

CONTENT = bytes(range(256)) * 1_000


@pytest.fixture
def node(start_node, variables):
    """A node with its tables in SQLite, and in PostgreSQL."""
    return start_node(http=True, variables=variables, settings=["http.rate=0"])


def get(node, path="/api/v1/firmware/pump/2.0/file", key=KEY, **headers):
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    return ask(node, path, "GET", {"X-API-Key": key, **headers})


def device(node, name="p0", **how):
    return call(node, "POST", "/api/v1/devices", {"id": name, **how})


def test_a_file_is_stored_listed_and_deleted(node):
    added = upload(node, content=CONTENT)
    digest = hashlib.sha256(CONTENT).hexdigest()
    assert (added["size"], added["sha256"], added["verified"]) == (len(CONTENT), digest, False)
    upload(node, content=b"other", expect=409)
    upload(node, version="2.1", content=CONTENT)
    listed = call(node, "GET", "/api/v1/firmware?name=pump")["items"]
    assert [one["version"] for one in listed] == ["2.1", "2.0"]
    call(node, "DELETE", "/api/v1/firmware/pump/2.0")
    call(node, "GET", "/api/v1/firmware/pump/2.0", expect=404)
    # Two versions have had the same file.
    assert get(node, "/api/v1/firmware/pump/2.1/file")[2] == CONTENT
    call(node, "DELETE", "/api/v1/firmware/pump/2.1")
    assert get(node, "/api/v1/firmware/pump/2.1/file")[0] == 404


@in_a_file
def test_what_is_not_as_it_was_said_is_not_kept(node):
    upload(node, content=CONTENT, sha256="0" * 64, expect=422)
    upload(node, content=b"", expect=422)
    upload(node, name="a%2Fb", expect=422)
    upload(node, version="..", expect=422)
    upload(node, device_type="none", expect=422)
    call(node, "POST", "/api/v1/firmware?name=pump", b"x", kind="application/octet-stream", expect=400)
    assert call(node, "GET", "/api/v1/firmware")["items"] == []
    assert upload(node, content=CONTENT, sha256=hashlib.sha256(CONTENT).hexdigest().upper())["size"] == len(CONTENT)


def test_bounds_of_one_file_and_of_all(start_node, tmp_path):
    node = start_node(http=True, variables={"MARTLET_HTTP__API_KEYS": f"all:{KEY}"}, data_dir=tmp_path,
                      settings=["firmware.max_bytes=1000", "firmware.total_bytes=1500"])
    upload(node, content=b"x" * 1_001, expect=413)
    upload(node, content=b"x" * 1_000)
    upload(node, version="2.1", content=b"y" * 501, expect=409)
    upload(node, version="2.1", content=b"y" * 500)
    # In chunks, without a length.
    place = urlsplit(node.http_url)
    wire = http.client.HTTPConnection(place.hostname, place.port, timeout=60)
    # The node may answer before the last chunk has gone.
    with contextlib.suppress(BrokenPipeError):
        wire.request("POST", "/api/v1/firmware?name=pump&version=3&device_type=device", iter([b"z" * 600, b"z" * 600]),
                     {"X-API-Key": KEY, "Content-Type": "application/octet-stream"}, encode_chunked=True)
    assert wire.getresponse().status in (409, 413)
    until(lambda: len(list((tmp_path / "firmware").iterdir())) == 2, lambda: f"{list((tmp_path / 'firmware').iterdir())}")


@in_a_file
def test_ranges_of_a_file(node):
    upload(node, content=CONTENT)
    status, headers, body = get(node)
    assert (status, body) == (200, CONTENT)
    etag = headers["ETag"]
    assert etag == f'"{hashlib.sha256(CONTENT).hexdigest()}"' and headers["Accept-Ranges"] == "bytes"
    status, headers, body = get(node, Range="bytes=1000-1099")
    assert (status, body) == (206, CONTENT[1000:1100])
    assert headers["Content-Range"] == f"bytes 1000-1099/{len(CONTENT)}" and headers["Content-Length"] == "100"
    assert get(node, Range="bytes=-5")[2] == CONTENT[-5:]
    assert get(node, Range="bytes=255990-")[2] == CONTENT[255_990:]
    status, headers, body = get(node, Range=f"bytes={len(CONTENT)}-")
    assert status == 416 and headers["Content-Range"] == f"bytes */{len(CONTENT)}"
    assert json.loads(body)["type"] == "/problems/range-not-satisfiable"
    assert get(node, Range="bytes=0-9", If_Range=etag)[0] == 206
    assert get(node, Range="bytes=0-9", If_Range='"other"')[0] == 200
    assert get(node, If_None_Match=etag)[0] == 304


def test_pieces_count_in_the_rate_by_their_bytes(start_node):
    keys = {"MARTLET_HTTP__API_KEYS": f"all:{KEY}"}
    node = start_node(http=True, variables=keys, settings=["http.rate=1", "http.burst=20"])
    upload(node, content=CONTENT)
    pieces = [get(node, Range=f"bytes={at}-{at + 999}") for at in range(0, len(CONTENT), 1_000)]
    assert b"".join(body for status, _, body in pieces if status == 206) == CONTENT
    refused = [get(node)[0] for _ in range(60)]
    assert 429 in refused, "whole files count as requests"


def test_a_device_loads_firmware_for_its_type_with_its_own_key(node):
    upload(node, content=CONTENT)
    upload(node, name="valve", content=b"valve", device_type="iotflow")
    made = device(node)
    assert get(node, key=made["secret"], Range="bytes=0-9")[2] == CONTENT[:10]
    assert get(node, "/api/v1/firmware/valve/2.0/file", key=made["secret"])[0] == 404
    assert get(node, "/api/v1/firmware", key=made["secret"])[0] in (401, 403)
    assert get(node, key="no key of anybody")[0] == 401


def test_a_file_elsewhere_is_referred_to(node):
    body = {"name": "pump", "version": "2.0", "device_type": "device", "url": "https://files.example/pump.bin",
            "size": 10, "sha256": "ab" * 32}
    call(node, "POST", "/api/v1/firmware", {**body, "url": "file:///etc/passwd"}, expect=422)
    assert call(node, "POST", "/api/v1/firmware", body)["url"] == body["url"]
    place = urlsplit(node.http_url)
    wire = http.client.HTTPConnection(place.hostname, place.port, timeout=60)
    wire.request("GET", "/api/v1/firmware/pump/2.0/file", headers={"X-API-Key": KEY})
    answer = wire.getresponse()
    assert (answer.status, answer.headers["Location"]) == (307, body["url"])


def openssl(*words, **how):
    return subprocess.run(["openssl", *words], check=True, capture_output=True, **how).stdout


def test_a_signature_is_verified_with_the_keys_of_the_configuration(start_node, tmp_path):
    """Made with OpenSSL, as the page says."""
    key, digest = tmp_path / "key.pem", tmp_path / "digest"
    openssl("genpkey", "-algorithm", "ed25519", "-out", str(key))
    public = openssl("pkey", "-in", str(key), "-pubout").decode()
    public = "".join(line for line in public.splitlines() if "KEY" not in line)
    digest.write_bytes(hashlib.sha256(CONTENT).digest())
    signature = openssl("pkeyutl", "-sign", "-inkey", str(key), "-rawin", "-in", str(digest))
    signature = quote(base64.b64encode(signature).decode(), safe="")
    node = start_node(http=True, variables={"MARTLET_HTTP__API_KEYS": f"all:{KEY}"}, data_dir=tmp_path / "data",
                      settings=[f"firmware.public_keys={public}"])
    upload(node, content=CONTENT, expect=422)
    upload(node, content=b"other", signature=signature, expect=422)
    assert upload(node, content=CONTENT, signature=signature)["verified"]


@in_a_file
def test_pieces_by_mqtt(node):
    made = device(node)
    upload(node, content=CONTENT)
    client = Client(node, "p0").credentials(made["user_name"], made["secret"]).start()
    for filter in ("d/p0/firmware/chunk/#", "d/p0/firmware/error", "d/p0/x"):
        client.subscribe(filter, qos=1)

    def request(body, **how):
        client.publish("d/p0/firmware/get", json.dumps({"name": "pump", "version": "2.0", **body}), **how)
        return client.receive()

    def is_served():
        client.publish("d/p0/firmware/get", json.dumps({"name": "pump", "version": "2.0", "length": 1}), qos=1)
        return not client.messages.empty()

    # The node begins to serve pieces some seconds after the first firmware was added.
    until(is_served, "no piece comes")
    message = request({"offset": 1_000, "length": 500})
    while not message.topic.endswith("/1000"):
        message = client.receive()
    assert message.topic == "d/p0/firmware/chunk/pump/2.0/1000" and message.payload == CONTENT[1_000:1_500]
    found = dict(message.properties.UserProperty)
    assert (found["offset"], found["size"]) == ("1000", str(len(CONTENT)))
    how = properties("PUBLISH", ResponseTopic="d/p0/x", CorrelationData=b"7")
    message = request({"chunk": 3, "size": 4096}, properties=how)
    assert (message.topic, message.payload) == ("d/p0/x", CONTENT[12_288:16_384])
    assert message.properties.CorrelationData == b"7"
    # All of it.
    whole = b""
    while len(whole) < len(CONTENT):
        whole += request({"offset": len(whole), "length": 65_536}).payload
    assert whole == CONTENT
    for wrong in ({"name": 7}, {"length": 65_537}, {"version": "3"}, {"offset": len(CONTENT)}):
        message = request(wrong)
        assert message.topic == "d/p0/firmware/error" and json.loads(message.payload)["error"], wrong
    # The node answers on the device's own topics alone.
    how = properties("PUBLISH", ResponseTopic="d/p1/x")
    message = request({}, properties=how)
    assert "Response Topic" in json.loads(message.payload)["error"]
    client.disconnect()


@in_a_file
def test_a_piece_that_is_too_long_for_the_device_is_told(node):
    made = device(node)
    upload(node, content=CONTENT)
    how = properties("CONNECT", MaximumPacketSize=2_000)
    client = Client(node, "p0", properties=how).credentials(made["user_name"], made["secret"]).start()
    client.subscribe("d/p0/firmware/error", qos=1)
    client.subscribe("d/p0/firmware/chunk/#", qos=1)

    def told():
        client.publish("d/p0/firmware/get", json.dumps({"name": "pump", "version": "2.0", "length": 4_096}), qos=1)
        return not client.messages.empty()

    until(told, "nothing is told")
    assert "Maximum Packet Size" in json.loads(client.receive().payload)["error"]
    client.disconnect()


def test_kills_leave_whole_files_alone(tmp_path, start_node):
    """An upload that a kill breaks off leaves nothing, and one that was answered is whole."""
    how = {"http": True, "variables": {"MARTLET_HTTP__API_KEYS": f"all:{KEY}"}, "data_dir": tmp_path,
           "settings": ["http.rate=0"]}
    node = start_node(**how)
    for at in range(4):
        content = os.urandom(2_000_000)
        upload(node, version=f"1.{at}", content=content)
        place = urlsplit(node.http_url)
        wire = http.client.HTTPConnection(place.hostname, place.port, timeout=60)
        wire.putrequest("POST", "/api/v1/firmware?name=half&version=1&device_type=device")
        for name, value in (("X-API-Key", KEY), ("Content-Length", "3000000"), ("Content-Type", "application/x")):
            wire.putheader(name, value)
        wire.endheaders()
        wire.send(b"x" * 1_000_000)
        until(lambda: any((tmp_path / "firmware").glob("*.part")), "the upload has not begun")
        node.process.kill()
        node.process.wait()
        wire.close()
        node = start_node(**how)
        assert get(node, f"/api/v1/firmware/pump/1.{at}/file")[2] == content
        files = tmp_path / "firmware"
        until(lambda: not any(files.glob("*.part")) and not any(files.glob("*.ready")), "parts of files are left")
    assert [one["version"] for one in call(node, "GET", "/api/v1/firmware")["items"]] == ["1.3", "1.2", "1.1", "1.0"]
    assert len(list((tmp_path / "firmware").iterdir())) == 4


def test_a_backup_has_the_files(tmp_path, start_node):
    variables = {"MARTLET_HTTP__API_KEYS": f"all:{KEY}"}
    run = lambda place, *words: martlet_process.run("backup", *words, "--data-dir", str(place))
    node = start_node(http=True, variables=variables, data_dir=tmp_path / "first")
    upload(node, content=CONTENT)
    upload(node, version="2.1", content=b"other")
    assert run(tmp_path / "first", "create", str(tmp_path / "of-node.tar")).returncode == 0
    node.terminate()
    node.wait()
    assert run(tmp_path / "first", "create", str(tmp_path / "at-rest.tar")).returncode == 0
    for name in ("of-node", "at-rest"):
        place = tmp_path / name
        # A file that is there already is the same.
        (place / "firmware").mkdir(parents=True)
        (place / "firmware" / hashlib.sha256(b"other").hexdigest()).write_bytes(b"other")
        done = run(place, "restore", str(tmp_path / f"{name}.tar"))
        assert done.returncode == 0, done.stderr
        node = start_node(http=True, variables=variables, data_dir=place)
        assert get(node)[2] == CONTENT
        assert get(node, "/api/v1/firmware/pump/2.1/file")[2] == b"other"
        assert not (place / "store.restoring").exists() and not (place / "store.restored").exists()
