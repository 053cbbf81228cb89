"""The hook that is asked who a client is: slow, down, lying, and well."""

import http.server
import json
import socket
import subprocess
import threading
import time

import pytest

import martlet_process
from programs import need
from paho_client import Client
from test_access import publish, until

DEADLINE_SECS = 60
# The panel's answer to right credentials.
PANEL = b'{"team_id":1,"api_token_id":2,"mqtt_client_id":3}'


class HookServer:
    """Answers as it is told, and remembers what it was asked."""

    def __init__(self):
        self.asked = []
        self.status, self.body, self.delay_secs = 200, PANEL, 0
        self.cache_control = None
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                length = int(self.headers["Content-Length"])
                outer.asked.append((self.path, self.headers["Accept"], json.loads(self.rfile.read(length))))
                time.sleep(outer.delay_secs)
                self.send_response(outer.status)
                self.send_header("Content-Length", str(len(outer.body)))
                if outer.cache_control:
                    self.send_header("Cache-Control", outer.cache_control)
                if outer.status in (301, 302, 307):
                    self.send_header("Location", "/elsewhere")
                self.end_headers()
                self.wfile.write(outer.body)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/api/mqtt/auth"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def hook():
    server = HookServer()
    yield server
    server.close()


def node_of(start_node, hook, *settings, **options):
    return start_node(settings=[f"auth.hook_url={hook.url}", "auth.hook_timeout_ms=10000",
                                "auth.refusal_remember_secs=0", *settings], **options)


def let_in(node, user="key", password="secret", client="c1"):
    return publish(node, "t", "-u", user, "-P", password, "-i", client)[0] == 0


def test_the_panels_question_and_its_answers(start_node, hook):
    node = node_of(start_node, hook)
    assert let_in(node)
    assert hook.asked == [("/api/mqtt/auth", "application/json",
                           {"client_id": "c1", "api_key": "key", "api_secret": "secret"})]
    # What was right is remembered; another password or another client is another question.
    assert let_in(node) and len(hook.asked) == 1
    hook.status, hook.body = 401, b'{"message":"Credentials Unauthorized"}'
    assert let_in(node) and not let_in(node, password="other") and not let_in(node, client="c2")
    for status, body in [(422, b'{"message":"x","errors":{}}'), (201, PANEL), (204, b""), (302, b""), (404, PANEL),
                         (500, PANEL), (401, PANEL)]:
        hook.status, hook.body = status, body
        assert not let_in(node, client=f"c-{status}"), status
    asked = len(hook.asked)
    assert not let_in(node, password=""), "nobody is asked about no password"
    assert len(hook.asked) == asked


@pytest.mark.parametrize("cache_control, is_asked_again", [
    ("max-age=0", True), ("no-store", True), ("private, max-age=0", True), ("max-age=3600", False), ("private", False),
])
def test_an_answer_is_remembered_no_longer_than_it_says(start_node, hook, cache_control, is_asked_again):
    node = node_of(start_node, hook)
    hook.cache_control = cache_control
    assert let_in(node) and let_in(node)
    assert len(hook.asked) == (2 if is_asked_again else 1)


def test_an_answer_of_some_seconds_is_asked_for_after_them(start_node, hook):
    node = node_of(start_node, hook)
    hook.cache_control = "max-age=5"
    assert let_in(node) and let_in(node) and len(hook.asked) == 1
    # The next login after them is another question.
    until(lambda: let_in(node) and len(hook.asked) == 2, "it is asked for again")


def test_a_refusal_is_remembered_no_longer_than_it_says(start_node, hook):
    node = node_of(start_node, hook, "auth.refusal_remember_secs=60")
    hook.status, hook.cache_control = 401, "max-age=0"
    assert not let_in(node)
    hook.status = 200
    assert let_in(node)


def test_a_hook_that_is_slow_or_down_lets_nobody_in_but_who_was_there_of_late(start_node, hook):
    node = node_of(start_node, hook, "auth.hook_timeout_ms=2000")
    assert let_in(node)
    hook.delay_secs = 120
    began = time.monotonic()
    assert not let_in(node, client="c2")
    assert time.monotonic() - began < 60, "it is not waited for longer than was said"
    until(lambda: "no answer within 2000 ms" in node.log(), "the log says why")
    assert let_in(node)
    hook.delay_secs = 0
    assert let_in(node, client="c2")
    hook.close()
    assert not let_in(node, client="c3") and let_in(node, client="c2")
    # Told to forget what it knows, nobody is.
    assert martlet_process.run("reload", "--data-dir", node.data_dir).returncode == 0
    assert not let_in(node, client="c2")
    assert "secret" not in node.log()


@pytest.mark.parametrize("form, right, wrong", [
    ("panel", [(200, PANEL), (200, b' {"team_id": 0}\n')],
     [(200, b"{}"), (200, b'{"message":"Credentials Unauthorized"}'), (200, b'{"success": true, "data": {}}'),
      (200, b'{"team_id": -1}'), (200, b'{"team_id": 1.5}'), (200, b'{"team_id": "1"}'), (200, b'{"team_id": null}'),
      (200, b'{"team_id": 1, "error": "unknown client"}'),
      (200, b"<!doctype html><title>Sign in to this network</title>"), (200, b""), (200, b"ok"), (200, b"[]"),
      (200, b'"allow"'), (200, b"true"), (200, b"null"), (200, b"{"), (200, b"{} {}"), (204, b"{}"), (201, b"{}"),
      (200, b"\xff\xfe{}"), (200, b"{" + b" " * 100_000 + b"}")]),
    ("status", [(200, b""), (204, b"")], [(401, b""), (403, b""), (302, b""), (503, b"")]),
    ("go-auth", [(200, b""), (200, b"ok"), (200, b'{"Ok": true, "Error": ""}')],
     [(200, b'{"Ok": false, "Error": "no"}'), (200, b'{"ok": true}'), (200, b"no"), (401, b'{"Ok": true}')]),
    ("result", [(200, b'{"result": "allow"}'), (200, b'{"result": "allow", "is_superuser": false}')],
     [(200, b'{"result": "deny"}'), (200, b'{"result": "ignore"}'), (200, b"{}"), (200, b"allow"), (200, b""),
      (200, b'{"result": true}'), (200, b'{"result": "allow", "is_superuser": "no"}'),
      (200, b'{"result": "allow", "acl": "all"}'), (200, b'{"result": "allow", "expire_at": "never"}'),
      (200, b'{"result": "allow", "acl": [{"permission": "allow", "action": "all", "topic": "a/#/b"}]}'),
      (200, b'{"result": "allow", "acl": [{"permission": "allow", "action": "all", "topic": "a", "qos": [0]}]}'),
      (200, b'{"result": "allow", "acl": [{"permission": "allow", "action": "all", "topic": "eq a/#"}]}'),
      (200, b'{"result": "allow", "acl": [{"permission": "deny", "action": "all", "topic": "eq a/#"}]}'),
      (200, b'{"result": "allow", "acl": [{"permission": "allow", "action": "all", "topic": "a/${cert_common_name}"}]}'),
      (200, b'{"result": "allow", "acl": [{"permission": "allow", "action": "all", "topic": "a", "retain": false}]}'),
      (200, b'{"result": "allow", "acl": [{"permission": "allow", "action": "all", "topic": "a", "who": "b"}]}'),
      (200, b'{"result": "allow", "acl": [{"permission": "ignore", "action": "all", "topic": "a"}]}'),
      (204, b""), (200, b'{"result": "allow"' + b" " * 100_000 + b"}")]),
])
def test_other_forms(start_node, hook, form, right, wrong):
    node = node_of(start_node, hook, f"auth.hook_form={form}")
    for expected, answers in [(True, right), (False, wrong)]:
        for number, (hook.status, hook.body) in enumerate(answers):
            assert let_in(node, client=f"{expected}-{number}") == expected, (hook.status, hook.body[:40])
    asked = {"client_id": "True-0", "api_key": "key", "api_secret": "secret"} if form == "panel" else {
        "username": "key", "password": "secret", "clientid": "True-0"}
    assert hook.asked[0][2] == asked


def test_the_same_question_is_under_way_once(start_node, hook):
    node = node_of(start_node, hook, "auth.hook_timeout_ms=5000")
    hook.delay_secs = 0.5
    command = [need("mosquitto_pub", "mosquitto-clients"), "-h", "localhost", "-p", str(node.port()), "-t", "t", "-m",
               "x", "-u", "key", "-P", "secret", "-i", "same"]
    several = [subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for _ in range(5)]
    for one in several:
        one.wait(DEADLINE_SECS)
    assert len(hook.asked) == 1


def test_a_hook_that_answers_nobody_keeps_no_client_waiting_for_long(start_node, hook):
    """However many wait for it, from however many addresses: twice as long as an answer may take."""
    node = node_of(start_node, hook, "auth.hook_timeout_ms=1000", "auth.hook_concurrency=4",
                   "auth.lockout_failures=0", "limits.connect_rate_per_address=0")
    hook.delay_secs = 120
    wires = []
    try:
        for number in range(200):
            name = f"client-{number}".encode()
            source = (f"127.0.{1 + number // 100}.{1 + number % 100}", 0)
            wires.append(socket.create_connection(("127.0.0.1", node.port()), DEADLINE_SECS, source))
            text = lambda value: len(value).to_bytes(2, "big") + value
            body = text(b"MQTT") + b"\x05\xc2\x00\x3c\x00" + text(name) + text(name) + text(b"secret")
            wires[-1].sendall(bytes([0x10, len(body)]) + body)
        began = time.monotonic()
        assert not let_in(node, client="innocent")
        assert time.monotonic() - began < 60
        for wire in wires:
            wire.settimeout(max(0.1, began + 60 - time.monotonic()))
            assert wire.recv(64)[3] == 0x88, "it may come again"
    finally:
        for wire in wires:
            wire.close()
    until(lambda: "auth.hook_concurrency" in node.log(), "the log says what was in the way")


def test_a_hook_and_a_password_file_go_together(start_node, hook, tmp_path):
    path = tmp_path / "passwd"
    martlet_process.run("passwd", "--weak", "-c", "-b", str(path), "admin", "pw")
    node = node_of(start_node, hook, f"auth.password_file={path}")
    hook.status = 401
    assert let_in(node, user="admin", password="pw") and hook.asked == []
    assert not let_in(node, user="admin", password="secret"), "the file knows the user, so the hook is not asked"
    assert not let_in(node)
    hook.status = 200
    assert let_in(node)


def test_a_url_that_is_none_does_not_start():
    done = martlet_process.run("config", "check", "--set", "auth.hook_url=panel.example")
    assert done.returncode != 0 and "auth.hook_url" in done.stderr


def test_an_answer_says_what_a_client_may_do_and_until_when(start_node, hook):
    node = node_of(start_node, hook, "auth.hook_form=result")
    acl = [{"permission": "deny", "action": "publish", "topic": "d/${clientid}/secret"},
           {"permission": "allow", "action": "publish", "topic": "d/${clientid}/#"},
           {"permission": "allow", "action": "subscribe", "topic": "to/${username}"}]
    hook.body = json.dumps({"result": "allow", "acl": acl, "expire_at": int(time.time()) + 8}).encode()

    def may_publish(topic, client="c1"):
        code, said = publish(node, topic, "-V", "5", "-u", "key", "-P", "secret", "-i", client)
        return code == 0 and "ot authorized" not in said

    assert may_publish("d/c1/up") and not may_publish("d/c1/secret") and not may_publish("d/c2/up")
    assert not may_publish("other")
    with Client(node, "c1").credentials("key", "secret") as client:
        assert client.subscribe("to/key") == [0]
        assert client.subscribe("to/other")[0] >= 0x80
        client.wait_for_end()
    hook.body = b'{"result": "allow", "is_superuser": true}'
    assert may_publish("anything", client="admin")


def test_whom_a_hook_does_not_know_the_next_source_may(start_node, hook, tmp_path):
    path = tmp_path / "passwd"
    martlet_process.run("passwd", "--weak", "-c", "-b", str(path), "admin", "pw")
    node = node_of(start_node, hook, "auth.hook_form=result", f"auth.password_file={path}",
                   "auth.order=hook, password-file")
    hook.body = b'{"result": "ignore"}'
    assert let_in(node, "admin", "pw") and not let_in(node, "admin", "wrong")
    hook.body = b'{"result": "deny"}'
    assert not let_in(node, "admin", "pw", client="c2")


def test_whom_a_hook_let_in_goes_with_it(start_node, hook, tmp_path):
    """By the reload; who is in the password file stays."""
    passwords, config = tmp_path / "passwd", tmp_path / "martlet.toml"
    martlet_process.run("passwd", "--weak", "-c", "-b", str(passwords), "admin", "pw")
    listed = f'[auth]\npassword_file = "{passwords}"\n'
    config.write_text(listed + f'hook_url = "{hook.url}"\n')
    node = start_node(arguments=["--config", str(config)])
    with Client(node, "c1").credentials("key", "secret") as goes, Client(node, "c2").credentials("admin", "pw") as stays:
        config.write_text(listed + f'hook_url = "{hook.url}"\nhook_timeout_ms = 700\n')
        assert martlet_process.run("reload", "--data-dir", node.data_dir).returncode == 0
        goes.publish("t", "the same hook", qos=1)
        config.write_text(listed)
        assert martlet_process.run("reload", "--data-dir", node.data_dir).returncode == 0
        goes.wait_for_end()
        stays.publish("t", "still here", qos=1)


def test_who_was_deleted_is_let_in_by_nobody_until_the_name_is_free(start_node, hook):
    node = node_of(start_node, hook)

    def martlet(*words):
        done = martlet_process.run(*words, "--data-dir", node.data_dir)
        assert done.returncode == 0, done.stderr

    assert let_in(node)
    martlet("user", "add", "key", "--generate")
    martlet("device", "add", "pump")
    with Client(node, "c2").credentials("key", "from the hook") as goes:
        martlet("user", "rm", "key")
        goes.wait_for_end()
    martlet("device", "rm", "pump")
    for user, client in (("key", "c1"), ("pump", "pump")):
        code, said = publish(node, "t", "-u", user, "-P", "secret", "-i", client)
        assert code != 0 and "not authorised" in said, said
    why = martlet_process.run("why", "key", "--data-dir", node.data_dir).stdout
    assert "user key was deleted" in why, why
    martlet("user", "rm", "--purge", "--yes", "key")
    martlet("device", "rm", "--purge", "--yes", "pump")
    assert let_in(node) and let_in(node, "pump", client="pump")


@pytest.mark.parametrize("in_use", [True, False])
def test_whose_name_is_a_teams_from_now_on_is_ended(start_node, hook, in_use):
    """By the creation of the team, and of users in it. Tables with a team alone let nobody in, so they are asked
    for nobody."""
    node = node_of(start_node, hook)

    def martlet(*words):
        done = martlet_process.run(*words, "--data-dir", node.data_dir)
        assert done.returncode == 0, done.stderr

    if in_use:
        martlet("user", "add", "somebody", "--generate")
    came = lambda client, user: Client(node, client).credentials(user, "from the hook")
    with came("c1", "x@north") as qualified, came("c2", "tim") as made, came("c3", "ann") as moved, \
         came("c4", "x@south") as other, came("c5", "north") as alone:
        martlet("team", "add", "north", "--own-tenant")
        if in_use:
            qualified.wait_for_end()
        martlet("user", "add", "tim", "--generate", "--team", "north")
        made.wait_for_end()
        if not in_use:
            qualified.wait_for_end()
        moved.publish("t", "still here", qos=1)
        martlet("user", "add", "ann", "--generate", "--team", "north")
        moved.wait_for_end()
        for stays in (other, alone):
            stays.publish("t", "still here", qos=1)
    assert not let_in(node, "x@north") and not let_in(node, "tim")


def test_who_was_deleted_in_a_team_is_let_in_nowhere_else(start_node, hook):
    node = node_of(start_node, hook)

    def martlet(*words):
        done = martlet_process.run(*words, "--data-dir", node.data_dir)
        assert done.returncode == 0, done.stderr

    martlet("team", "add", "north", "--own-tenant")
    martlet("user", "add", "tim", "--generate", "--team", "north")
    martlet("device", "add", "pump", "--team", "north")
    martlet("user", "rm", "tim")
    assert not let_in(node, "tim") and let_in(node, "somebody")
    martlet("team", "rm", "north")
    for name in ("tim", "tim@north", "pump@north", "anybody@north"):
        assert not let_in(node, name, client="pump"), name
    martlet("team", "rm", "--purge", "--yes", "north")
    assert let_in(node, "anybody@north")


def test_passwords_of_its_url_are_shown_nowhere(start_node, hook, tmp_path):
    url = hook.url.replace("http://", "http://panel:hunter2@") + "?api_key=hunter2&site=7"
    config = tmp_path / "martlet.toml"
    config.write_text(f'[auth]\nhook_url = "{url}"\njwt_keys = "{url}"\n')
    for form in [[], ["--json"], ["--changed"]]:
        shown = martlet_process.run("config", "show", "-c", str(config), "--data-dir", str(tmp_path / "d"), *form)
        assert shown.returncode == 0 and "site=7" in shown.stdout, shown
        assert "hunter2" not in shown.stdout + shown.stderr and "***@127.0.0.1" in shown.stdout
    node = start_node(arguments=["-c", str(config)])
    assert publish(node, "t", "-u", "alice", "-P", "x")[0] == 0
    hook.close()
    assert publish(node, "t", "-u", "bob", "-P", "x")[0] != 0
    until(lambda: "hook" in martlet_process.run("logs", "-t", "--data-dir", node.data_dir).stdout, "it is told of")
    told = martlet_process.run("logs", "--data-dir", node.data_dir).stdout
    assert "hunter2" not in told + node.log()


def test_explain_knows_what_the_hook_said_of_who_is_connected(start_node, hook):
    rules = [{"permission": "allow", "action": "publish", "topic": "up/${clientid}"}]
    hook.body = json.dumps({"result": "allow", "acl": rules}).encode()
    node = node_of(start_node, hook, "auth.hook_form=result")

    def explain(topic, code):
        told = martlet_process.run("acl", "explain", "alice", "publish", topic, "--client-id", "c1",
                                   "--data-dir", node.data_dir)
        assert told.returncode == code, told
        return told.stdout

    assert "the hook (auth.hook_url) will decide at its login whether alice is accepted" in explain("other", 0)
    with Client(node, "c1").credentials("alice", "x"):
        assert "rule 1 of the hook's answer" in explain("up/c1", 0)
        assert "these rules were received at its login" in explain("other", 1)
