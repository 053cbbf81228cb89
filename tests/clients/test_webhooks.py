"""Webhooks: messages as HTTP requests, over failures of the receiver and kills of the node, with secrets."""

import base64
import datetime
import hashlib
import hmac
import http.server
import json
import pathlib
import subprocess
import threading
import time
import urllib.parse

import pytest

import martlet_process
from paho_client import Client
from test_http_api import KEY, KEYS
from test_http_registry import call
from test_sinks import until
from test_tenants import make_teams

TOKEN = "known-token-0123456789"
SIGNING_KEY = "known-signing-key-0123456789"


class Receiver:
    """A webhook's receiver: keeps what came, and answers as `answer` says."""

    def __init__(self):
        self.received, self.tried, self.lock = [], [], threading.Lock()
        self.answer = lambda message: (204, {}, b"")
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                message = json.loads(body)
                status, headers, text = outer.answer(message)
                with outer.lock:
                    outer.tried.append((time.monotonic(), status, message))
                    if status < 300:
                        outer.received.append((message, dict(self.headers), body))
                self.send_response(status)
                for name, value in {**headers, "content-length": len(text)}.items():
                    self.send_header(name, str(value))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def payloads(self):
        with self.lock:
            return [message["payload"] for message, _, _ in self.received]

    def close(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def receiver():
    made = Receiver()
    yield made
    made.close()


def configured(tmp_path, url, allowed='["127.0.0.0/8"]', **keys):
    keys = {"name": "crm", "filters": ["plant/#"], "url": url, **keys}
    lines = [f"{key} = {json.dumps(value)}" for key, value in keys.items()]
    config = tmp_path / "martlet.toml"
    config.write_text("\n".join(
        ["[integrations]", f"allow_private = {allowed}", "[[sinks.webhook]]", *lines]) + "\n")
    return {"arguments": ("-c", str(config)), "data_dir": tmp_path / "data", "http": True, "variables": KEYS}


def set_secret(node, name, value):
    done = subprocess.run(
        [martlet_process.binary(), "secret", "set", name, "--data-dir", str(node.data_dir)],
        input=value + "\n", capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done


def warnings(node):
    return call(node, "GET", "/api/v1/health")["warnings"]


def state(node):
    return call(node, "GET", "/api/v1/integrations/webhook/crm", key=KEY)


def shown(*arguments):
    done = martlet_process.run(*arguments)
    return done.stdout + done.stderr


def publish(node, *payloads, client="pump-1"):
    with Client(node, client) as publisher:
        for payload in payloads:
            publisher.publish("plant/1", payload)


def until_payloads(node, receiver, expected):
    until(lambda: receiver.payloads() == expected, lambda: f"{receiver.payloads()}\n{node.log()}")


def test_a_message_is_a_signed_request(start_node, tmp_path, receiver):
    node = start_node(**configured(tmp_path, receiver.url, signing_key=SIGNING_KEY))
    with Client(node, "pump-1").credentials("boss", "x") as client:
        client.publish("plant/1", "21.5")
    until_payloads(node, receiver, ["21.5"])
    message, headers, body = receiver.received[0]
    assert (message["topic"], message["qos"], message["client_id"]) == ("plant/1", 1, "pump-1")
    # Nobody has checked that it is boss.
    assert (message["user"], message["device"]) == (None, None) and b"boss" not in body
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    expected = base64.b64encode(hmac.new(SIGNING_KEY.encode(), signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == "v1," + expected
    assert abs(time.time() - int(headers["webhook-timestamp"])) < 60


def test_failures_are_repeated_in_order_and_refusals_become_dead_letters(start_node, tmp_path, receiver):
    node = start_node(**configured(tmp_path, receiver.url))
    receiver.answer = lambda message: (500, {}, b"no")
    publish(node, "0", "1", "bad", "2")
    until(lambda: len(receiver.tried) >= 2, node.log)
    until(lambda: any("answered 500" in one for one in warnings(node)), lambda: warnings(node))
    receiver.answer = lambda message: (
        (400, {}, b"no\nsuch thing") if message["payload"] == "bad" else (200, {}, b""))
    until_payloads(node, receiver, ["0", "1", "2"])
    until(lambda: state(node)["dead_letters_stored"] == 1, lambda: state(node))
    letters = call(node, "GET", "/api/v1/integrations/webhook/crm/dead-letters", key=KEY)["items"]
    assert letters[0]["reason"] == "the target answered 400 Bad Request: no such thing"


def test_retry_after_is_respected(start_node, tmp_path, receiver):
    node = start_node(**configured(tmp_path, receiver.url))
    receiver.answer = lambda message: (503, {"retry-after": 3}, b"") if not receiver.tried else (200, {}, b"")
    publish(node, "0")
    until_payloads(node, receiver, ["0"])
    first, second = (at for at, _, _ in receiver.tried)
    assert second - first >= 2.9


def test_private_addresses_are_refused_unless_they_are_listed(start_node, tmp_path, receiver):
    url = receiver.url.replace("127.0.0.1", "localhost")
    node = start_node(**configured(tmp_path, url, allowed="[]"))
    publish(node, "0")
    until(lambda: any("integrations.allow_private" in one for one in warnings(node)), node.log)
    assert receiver.tried == []


def test_redirects_are_not_followed(start_node, tmp_path, receiver):
    other = Receiver()
    receiver.answer = lambda message: (307, {"location": other.url}, b"")
    node = start_node(**configured(tmp_path, receiver.url))
    publish(node, "0")
    until(lambda: any("redirects are not followed" in one for one in warnings(node)), node.log)
    assert other.tried == []
    other.close()


def test_secrets_are_waited_for_changed_while_it_runs_and_shown_nowhere(start_node, tmp_path, receiver):
    options = configured(tmp_path, receiver.url, headers=["Authorization: Bearer ${secret:token}", f"X-Plain: {TOKEN}"])
    node = start_node(**options)
    publish(node, "0")
    until(lambda: any('no secret "token"' in one for one in warnings(node)), node.log)
    assert state(node)["secret_trouble"] == "secret_missing"
    set_secret(node, "token", TOKEN)
    until_payloads(node, receiver, ["0"])
    assert receiver.received[0][1]["authorization"] == "Bearer " + TOKEN
    assert (pathlib.Path(node.data_dir) / "secrets.key").stat().st_mode & 0o777 == 0o600

    set_secret(node, "token", TOKEN + "-new")
    publish(node, "1")
    until_payloads(node, receiver, ["0", "1"])
    assert receiver.received[1][1]["authorization"] == "Bearer " + TOKEN + "-new"

    receiver.answer = lambda message: (400, {}, f"{TOKEN}-new is wrong".encode())
    publish(node, "2")
    until(lambda: state(node)["dead_letters_stored"] == 1, lambda: state(node))
    of_node = ("--data-dir", str(node.data_dir))
    texts = [node.log()]
    texts += [shown("config", "show", *options["arguments"]), shown("secret", "ls", *of_node)]
    texts += [shown("secret", "ls", "--json", *of_node), shown("integration", "show", "webhook/crm", *of_node)]
    for path in ("/api/v1/audit", "/api/v1/config", "/api/v1/health", "/api/v1/secrets",
                 "/api/v1/integrations/webhook/crm/dead-letters"):
        texts.append(json.dumps(call(node, "GET", path, key=KEY)))
    assert "secret.add" in texts[5] and "secret.change" in texts[5]
    for text in texts:
        assert TOKEN not in text, text
    for path in pathlib.Path(node.data_dir).iterdir():
        assert not path.is_file() or TOKEN.encode() not in path.read_bytes(), path

    refused = martlet_process.run("secret", "rm", "token", *of_node)
    assert refused.returncode == 1 and "webhook/crm" in refused.stderr
    assert martlet_process.run("secret", "rm", "token", "--force", *of_node).returncode == 0
    until(lambda: state(node)["secret_trouble"] == "secret_missing", lambda: state(node))


def test_an_answer_that_repeats_secrets_is_kept_without_them(start_node, tmp_path, receiver):
    url = receiver.url.replace("http://", "http://me:url-pass-77@") + "?api_key=query-key-77"
    node = start_node(**configured(
        tmp_path, url, headers=["X-Api-Key: ${secret:long}", "Cookie: sid=cookie-77"], signing_key=SIGNING_KEY))
    long_secret = "long-77" + "k" * 3000
    set_secret(node, "long", long_secret)
    answers = [
        long_secret, "x " + " " * 1000 + long_secret, json.dumps({"cookie": "sid=cookie-77", "key": SIGNING_KEY}),
        "basic " + base64.b64encode(b"me:url-pass-77").decode(), "/?api_key=query-key-77 is wrong, url%2Dpass%2D77 too"]
    receiver.answer = lambda message: (400, {}, answers[int(message["payload"])].encode())
    publish(node, *(str(at) for at in range(len(answers))))
    until(lambda: state(node)["dead_letters_stored"] == len(answers), lambda: state(node))
    letters = call(node, "GET", "/api/v1/integrations/webhook/crm/dead-letters", key=KEY)["items"]
    reasons = [letter["reason"].removeprefix("the target answered 400 Bad Request: ") for letter in letters]
    assert reasons == [
        "***", "x ***", '{"cookie": "***", "key": "***"}', "basic ***", "/?api_key=*** is wrong, *** too"], reasons
    texts = [node.log().encode(), *(path.read_bytes() for path in pathlib.Path(node.data_dir).glob("martlet.db*"))]
    for secret in ("long-77", "kkkk", "cookie-77", "pass-77", "key-77", SIGNING_KEY):
        assert not any(secret.encode() in text for text in texts), secret


def test_without_its_key_file_it_stops_and_goes_on_when_it_is_back(start_node, tmp_path, receiver):
    node = start_node(**configured(tmp_path, receiver.url, signing_key="${secret:key}"))
    set_secret(node, "key", SIGNING_KEY)
    publish(node, "0")
    until_payloads(node, receiver, ["0"])
    key_file, away = pathlib.Path(node.data_dir) / "secrets.key", tmp_path / "away.key"
    key_file.rename(away)
    until(lambda: any("secrets.key does not exist" in one for one in warnings(node)), node.log)
    publish(node, "1")
    done = subprocess.run(
        [martlet_process.binary(), "secret", "set", "other", "--data-dir", str(node.data_dir)],
        input="x", capture_output=True, text=True, timeout=30)
    assert done.returncode == 1 and "copy it from a node" in done.stderr and not key_file.exists()
    assert receiver.payloads() == ["0"]
    away.chmod(0o640)
    away.rename(key_file)
    until(lambda: any("chmod 600" in one for one in warnings(node)), node.log)
    key_file.chmod(0o600)
    until_payloads(node, receiver, ["0", "1"])
    until(lambda: state(node)["secret_trouble"] is None, lambda: state(node))


def test_a_signing_key_that_is_too_short_is_told_before_a_message_comes(start_node, tmp_path, receiver):
    node = start_node(**configured(tmp_path, receiver.url, signing_key="${secret:key}"))
    of_node = ("--data-dir", str(node.data_dir))
    set_secret(node, "key", "short")
    until(lambda: state(node)["secret_trouble"] == "secret_unusable", lambda: state(node))
    why = f'the secret "key" cannot be used: `signing_key` has fewer than 16 bytes'
    sets = f"martlet secret set key --data-dir={node.data_dir}"
    told = [shown("integration", "show", "webhook/crm", *of_node), martlet_process.run("health", *of_node).stdout,
            martlet_process.run("why", "webhook/crm", *of_node).stdout]
    for text in told:
        assert why in text and sets in text, text
    publish(node, "0")
    set_secret(node, "key", SIGNING_KEY)
    until_payloads(node, receiver, ["0"])
    until(lambda: state(node)["secret_trouble"] is None, lambda: state(node))


def test_a_team_sees_and_changes_its_own_secrets_only(start_node, tmp_path, receiver):
    options = configured(
        tmp_path, receiver.url, tenant="north", headers=["Authorization: Bearer ${secret:token}"])
    node = start_node(**options)
    teams = make_teams(node)
    north, south = teams["north"]["key"], teams["south"]["key"]
    secret = "/api/v1/secrets/token"

    def names(key, query=""):
        return [(one["team"], one["used_by"]) for one in call(node, "GET", f"/api/v1/secrets{query}", key=key)["items"]]

    call(node, "PUT", secret, {"value": "of south, long"}, key=south)
    call(node, "PUT", secret, {"value": "of all, long"})
    until(lambda: state(node)["secret_trouble"] == "secret_missing", lambda: state(node))
    call(node, "PUT", secret, {"value": "of north, long"}, key=north)
    until(lambda: state(node)["secret_trouble"] is None, lambda: state(node))
    assert names(north) == [(teams["north"]["id"], ["webhook/crm"])]
    assert names(south) == [(teams["south"]["id"], [])]
    assert len(names(KEY)) == 3 and len(names(KEY, "?team=north")) == 1
    call(node, "PUT", f"{secret}?team=south", {"value": "x"}, key=north, expect=403)
    call(node, "DELETE", secret, key=north, expect=409)
    call(node, "DELETE", secret, key=south)
    call(node, "DELETE", secret, key=south, expect=404)
    call(node, "GET", "/api/v1/secrets/token", expect=405)


def test_a_backup_says_whether_it_has_the_key_file(start_node, tmp_path, receiver):
    node = start_node(**configured(tmp_path, receiver.url))
    set_secret(node, "key", SIGNING_KEY)
    of_node = ("--data-dir", str(node.data_dir))
    for option, has_key in (((), False), (("--with-key-file",), True)):
        target = tmp_path / f"{has_key}.backup"
        made = martlet_process.run("backup", "create", str(target), *option, *of_node)
        assert made.returncode == 0 and ("NOT in it" in made.stderr) != has_key, made
        found = json.loads(martlet_process.run("backup", "verify", str(target), "--json").stdout)
        assert found["key_file"] is has_key
        restored = tmp_path / f"{has_key}.data"
        restored.mkdir()
        done = martlet_process.run("backup", "restore", str(target), "--data-dir", str(restored))
        assert done.returncode == 0, done
        assert (restored / "secrets.key").exists() is has_key
        if has_key:
            assert (restored / "secrets.key").read_bytes() == (pathlib.Path(node.data_dir) / "secrets.key").read_bytes()


def test_kills_of_the_node_lose_nothing_and_keep_the_order(start_node, tmp_path, receiver):
    options = configured(tmp_path, receiver.url, in_flight=4)
    rounds, each = 3, 200
    for turn in range(rounds):
        node = start_node(**options)
        publish(node, *(str(turn * each + number) for number in range(each)))
        node.process.kill()
        node.process.wait()
    node = start_node(**options)
    wanted = {str(number) for number in range(rounds * each)}
    until(lambda: set(receiver.payloads()) == wanted, lambda: f"{len(set(receiver.payloads()))}\n{node.log()}")
    first = list(dict.fromkeys(receiver.payloads()))
    assert first == [str(number) for number in range(rounds * each)]


def test_a_receiver_that_hangs_and_fails_and_a_node_that_is_killed_lose_nothing(start_node, tmp_path, receiver):
    """By turns the receiver takes all, answers 500, hangs and closes connections; the node is killed."""
    options = configured(tmp_path, receiver.url, in_flight=4, timeout_secs=1)
    ways = {
        "takes": lambda message: (204, {}, b""),
        "fails": lambda message: (500, {}, b"no"),
        # Longer than the time limit: it is taken, and the node does not know.
        "hangs": lambda message: time.sleep(2) or (204, {}, b""),
        "closes": lambda message: (_ for _ in ()).throw(ConnectionResetError()),
    }
    each, sent = 40, []
    for turn, way in enumerate(["fails", "takes", "hangs", "takes", "closes", "hangs", "fails", "takes"] * 2):
        receiver.answer = ways[way]
        node = start_node(**options)
        numbers = [str(turn * each + number) for number in range(each)]
        # The publisher comes by another shard after each start, and the order is kept all the same.
        publish(node, *numbers)
        sent += numbers
        node.process.kill()
        node.process.wait()
    receiver.answer = ways["takes"]
    node = start_node(**options)
    until(lambda: set(receiver.payloads()) == set(sent), lambda: f"{len(set(receiver.payloads()))} of {len(sent)}\n{node.log()}")
    assert list(dict.fromkeys(receiver.payloads())) == sent


def test_a_message_at_which_the_receiver_fails_holds_up_no_other_publisher(start_node, tmp_path, receiver):
    """The receiver ends the connection, does not answer in time, or redirects. An operator gives the message up."""
    ways = {
        "closes": lambda: (_ for _ in ()).throw(ConnectionResetError()),
        "hangs": lambda: time.sleep(1.5) or (204, {}, b""),
        "redirects": lambda: (302, {"location": receiver.url}, b""),
    }
    node = start_node(**configured(tmp_path, receiver.url, timeout_secs=1, max_attempts=0))
    for way, answer in ways.items():
        receiver.answer = lambda message: answer() if message["payload"] == way else (204, {}, b"")
        publish(node, way, f"behind {way}", client="bad")
        until(lambda: len([1 for _, _, one in receiver.tried if one["payload"] == way]) > 0 or state(node)["failure"], node.log)
        others = [f"{way} {number}" for number in range(50)]
        publish(node, *others[:25], client="pump-1")
        publish(node, *others[25:], client="pump-2")
        until(lambda: set(others) <= set(receiver.payloads()), lambda: f"{receiver.payloads()}\n{node.log()}")
        assert f"behind {way}" not in receiver.payloads()
        until(lambda: state(node)["lag"] == 2, lambda: state(node))
        done = martlet_process.run("integration", "skip", "webhook/crm", "--data-dir", str(node.data_dir))
        assert done.returncode == 0, done
        until(lambda: f"behind {way}" in receiver.payloads(), lambda: f"{state(node)}\n{node.log()}")
        until(lambda: state(node)["state"] == "running", lambda: state(node))
    letters = call(node, "GET", "/api/v1/integrations/webhook/crm/dead-letters", key=KEY)["items"]
    assert {one["topic"] for one in letters} == {"plant/1"} and len(letters) == len(ways)
    done = martlet_process.run("integration", "skip", "webhook/crm", "--data-dir", str(node.data_dir))
    assert done.returncode == 1 and "no message at which it has failed" in done.stderr, done
    call(node, "POST", "/api/v1/integrations/webhook/crm/skip", key=KEY, expect=409)


def test_what_waits_while_the_receiver_hangs_is_seen_at_once(start_node, tmp_path, receiver):
    node = start_node(**configured(tmp_path, receiver.url, timeout_secs=30))
    let_go = threading.Event()
    receiver.answer = lambda message: let_go.wait(30) and (204, {}, b"")
    publish(node, "0", client="first")
    publish(node, *map(str, range(1, 300)))
    until(lambda: state(node)["lag"] == 300, lambda: state(node))
    assert state(node)["delivered"] == 0
    let_go.set()
    until(lambda: state(node)["lag"] == 0, lambda: state(node))


def test_the_session_of_an_integration_is_changed_by_its_configuration_alone(start_node, tmp_path, receiver):
    node = start_node(**configured(tmp_path, receiver.url))
    receiver.answer = lambda message: (503, {}, b"")
    payloads = [str(number) for number in range(20)]
    publish(node, *payloads)
    until(lambda: state(node)["lag"] == 20, lambda: state(node))
    assert call(node, "GET", "/api/v1/sessions", key=KEY)["items"] == []
    own = [one["client_id"] for one in call(node, "GET", "/api/v1/sessions?search=$integration/", key=KEY)["items"]]
    assert own
    for client_id in own:
        path = "/api/v1/sessions/" + urllib.parse.quote(client_id, safe="")
        problem = call(node, "DELETE", path, key=KEY, expect=409)
        assert "webhook/crm" in problem["detail"] and "configuration" in problem["detail"], problem
        done = martlet_process.run("session", "rm", client_id, "--data-dir", str(node.data_dir))
        assert done.returncode == 1 and "webhook/crm" in done.stderr, done
        client = "/api/v1/clients/" + urllib.parse.quote(client_id, safe="")
        everything = {"filter": "#", "qos": 2}
        for method, path, body in [
            ("POST", client + "/subscriptions", everything),
            ("DELETE", client + "/subscriptions?filter=plant%2F%23", None),
            ("DELETE", client, None),
        ]:
            problem = call(node, method, path, body, key=KEY, expect=409)
            assert "webhook/crm" in problem["detail"], problem
    receiver.answer = lambda message: (204, {}, b"")
    call(node, "POST", "/api/v1/integrations/webhook/crm/resume", key=KEY)
    until_payloads(node, receiver, payloads)


def test_why_tells_since_when_a_webhook_fails(start_node, tmp_path, receiver):
    node = start_node(**configured(tmp_path, receiver.url))
    receiver.answer = lambda message: (500, {}, b"no")
    began = time.time()
    publish(node, "0")
    until(lambda: any("answered 500" in one for one in warnings(node)), node.log)
    answer = call(node, "GET", "/api/v1/why?name=webhook/crm", key=KEY)
    assert answer["sentence"].startswith("1 message waits for the integration webhook/crm: the target answered 500")
    since = datetime.datetime.fromisoformat(answer["since"]).timestamp()
    assert began - 1 <= since <= time.time() + 1, answer
    assert answer["command"].startswith("martlet integration test ")


def test_a_webhook_of_all_tenants_is_the_nodes_own(start_node, tmp_path, receiver):
    node = start_node(**configured(
        tmp_path, receiver.url, tenant="*", headers=["Authorization: Bearer ${secret:token}"]))
    teams = make_teams(node)
    set_secret(node, "token", TOKEN)
    until(lambda: state(node)["secret_trouble"] is None, lambda: state(node))
    assert martlet_process.run("secret", "rm", "token", "--data-dir", str(node.data_dir)).returncode == 1
    receiver.answer = lambda message: (400, {}, b"not this one")
    for team in teams.values():
        made = team["pump"]
        with Client(node, "pump").credentials(made["user_name"], made["secret"]) as client:
            client.publish("plant/1", "x")
    until(lambda: state(node)["dead_letters_stored"] == 2, lambda: state(node))
    assert receiver.tried and not receiver.received
    letters = "/api/v1/integrations/webhook/crm/dead-letters"
    assert len(call(node, "GET", letters, key=KEY)["items"]) == 2
    # A team neither sees nor drops what the node's own integration could not deliver.
    north = teams["north"]["key"]
    call(node, "GET", letters, key=north, expect=404)
    call(node, "DELETE", f"{letters}?all=true", key=north, expect=404)
    call(node, "GET", f"{letters}/1", key=north, expect=404)
    assert state(node)["dead_letters_stored"] == 2


def test_a_refused_message_stops_it_until_it_is_skipped(start_node, tmp_path, receiver):
    """Over a restart too."""
    receiver.answer = lambda message: (400, {}, b"no") if message["payload"] == "bad" else (204, {}, b"")
    options = configured(tmp_path, receiver.url, on_reject="stop")
    node = start_node(**options)
    publish(node, "0", "bad", "1")

    def activity():
        return state(node)["state"]

    until(lambda: activity() == "stopped", lambda: activity())
    node.close()
    node = start_node(**options)
    until(lambda: activity() == "stopped", lambda: activity())
    assert receiver.payloads() == ["0"]
    of_node = ("--data-dir", str(node.data_dir))
    tried = len(receiver.tried)
    assert martlet_process.run("integration", "resume", "webhook/crm", *of_node).returncode == 0
    until(lambda: activity() == "stopped" and len(receiver.tried) > tried, lambda: activity())
    assert martlet_process.run("integration", "skip", "webhook/crm", *of_node).returncode == 0
    until(lambda: receiver.payloads() == ["0", "1"], node.log)
    until(lambda: state(node)["dead_letters_stored"] == 1, lambda: state(node))


def test_no_secret_is_in_a_log_that_has_everything(start_node, tmp_path, receiver):
    options = configured(
        tmp_path, receiver.url + "/${secret:path}", signing_key="${secret:key}",
        headers=["Authorization: Bearer ${secret:token}"])
    node = start_node(**{**options, "variables": {**KEYS, "MARTLET_LOG__LEVEL": "trace"}})
    values = {"path": "known-path-0123456789", "key": SIGNING_KEY, "token": TOKEN}
    for name, value in values.items():
        set_secret(node, name, value)
    publish(node, "0")
    until_payloads(node, receiver, ["0"])

    def end(message):
        raise ConnectionResetError

    # Also the connection that is kept.
    receiver.answer = end
    receiver.server.socket.close()
    publish(node, "1")
    until(lambda: any("webhook/crm" in one for one in warnings(node)), node.log)
    assert martlet_process.run("integration", "test", "webhook/crm", "--data-dir", str(node.data_dir)).returncode == 1
    log, told = node.log(), json.dumps(state(node)) + str(warnings(node))
    for value in values.values():
        assert value not in log and value not in told


def test_why_names_all_secrets_that_are_missing_and_how_to_set_them(start_node, tmp_path, receiver):
    options = configured(
        tmp_path, receiver.url, signing_key="${secret:key}", headers=["Authorization: Bearer ${secret:token}"])
    pathlib.Path(options["arguments"][1]).chmod(0o644)
    node = start_node(**options)

    finding = lambda: node.why("webhook/crm")

    until(lambda: 'no secret' in finding()["sentence"], node.log)
    sentence, command = finding()["sentence"], finding()["command"]
    assert "key" in sentence and "token" in sentence, sentence
    assert command.startswith("martlet secret set "), command
    # The remedy can be pasted: it names the node.
    assert f" --data-dir={node.data_dir}" in sentence, sentence
    # A file with nothing but references to secrets may be read by all.
    assert not any("may read" in one for one in warnings(node)), warnings(node)
