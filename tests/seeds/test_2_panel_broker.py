"""The document of the MQTT panel's broker: started by its name and with its options, it asks the
panel who a client is, and tells its statistics. Its events are tested in clients/test_events.py."""

import contextlib
import json
import socket
import subprocess

import pytest

import martlet_process
from programs import Mosquitto
from test_hook import PANEL, HookServer
from test_sinks import until

HERE = "127.0.0.1:0"


@pytest.fixture(scope="module")
def panel():
    server = HookServer()
    yield server
    server.close()


@pytest.fixture(scope="module")
def node(panel, tmp_path_factory):
    link = tmp_path_factory.mktemp("bin") / "mqtt-panel-broker"
    link.symlink_to(martlet_process.binary())
    options = ["-tcp", HERE, "-ws", HERE, "-info", HERE, "-auth-url", panel.url, "-api-token-ttl=1h30m",
               "-auto-clean-interval", "168h"]
    with martlet_process.Node(command=[link], listen=(), http=False, arguments=options) as node:
        yield node


def statistics(node, *options):
    done = subprocess.run(["curl", "-sS", "-i", node.http_url + "/", *options], capture_output=True, text=True, timeout=60)
    head, _, body = done.stdout.replace("\r\n", "\n").partition("\n\n")
    return int(head.split()[1]), head, body


def test_it_listens_where_its_options_say(node):
    schemes = [url.split(":")[0] for url in node.urls]
    assert schemes == ["mqtt", "ws"], node.urls
    assert "-auto-clean-interval has no effect" in node.log()


def test_the_panel_is_asked_who_a_client_is(node, panel):
    panel.status = 200
    good = Mosquitto(node).pub("-t", "a", "-m", "x", "-q", "1", "-i", "client-1", "-u", "key", "-P", "secret")
    assert good.returncode == 0, good.stderr
    path, accept, body = panel.asked[-1]
    assert (path, accept) == ("/api/mqtt/auth", "application/json")
    assert body == {"client_id": "client-1", "api_key": "key", "api_secret": "secret"}
    for status in (401, 422):
        panel.status, panel.body = status, b'{"message":"Credentials Unauthorized"}'
        bad = Mosquitto(node).pub("-t", "a", "-m", "x", "-i", f"client-{status}", "-u", "key", "-P", "wrong")
        assert bad.returncode != 0


def test_its_statistics_have_the_names_of_its_library(node):
    status, head, body = statistics(node)
    assert status == 200 and "content-type: application/json" in head
    told = json.loads(body)
    assert list(told) == [
        "version", "started", "time", "uptime", "bytes_received", "bytes_sent", "clients_connected",
        "clients_disconnected", "clients_maximum", "clients_total", "messages_received", "messages_sent",
        "messages_dropped", "retained", "inflight", "inflight_dropped", "subscriptions", "packets_received",
        "packets_sent", "memory_alloc", "threads",
    ]
    assert isinstance(told["version"], str) and all(type(told[name]) is int for name in list(told)[1:])
    assert told["started"] + told["uptime"] == told["time"] and told["memory_alloc"] > 0


def test_a_browser_is_led_to_the_pages(node):
    status, head, _ = statistics(node, "-H", "Accept: text/html,application/xhtml+xml")
    assert status == 307 and "location: /docs/" in head and "vary: accept" in head.lower()


def test_strangers_read_no_statistics():
    variables = [("MARTLET_HTTP__API_KEYS", "v:0123456789abcdef0:viewer")]
    with martlet_process.Node(http=True, variables=variables) as node:
        assert statistics(node)[0] == 401
        assert statistics(node, "-H", "X-API-Key: 0123456789abcdef0")[0] == 200
        assert statistics(node, "-H", "Accept: text/html")[0] == 307


def test_another_broker_asks_here_as_it_asks_the_panel():
    """With the panel's contract: 200 with numbers, 401, 422; and the broker that asks is this one."""
    with martlet_process.Node(http=True) as node:
        run = lambda *command: json.loads(martlet_process.run(*command, "--json", "--data-dir", node.data_dir).stdout)
        run("team", "add", "plant")
        run("device", "add", "client-1", "--team", "plant")
        token = run("team", "token", "add", "plant", "panel")["credentials"]

        def asked(**members):
            done = subprocess.run(["curl", "-sS", "-w", "\n%{http_code}", node.http_url + "/api/mqtt/auth", "-d", json.dumps(members),
                                   "-H", "Accept: application/json"], capture_output=True, text=True, timeout=60)
            body, _, status = done.stdout.rpartition("\n")
            return int(status), json.loads(body)

        good = {"client_id": "client-1", "api_key": token["key"], "api_secret": token["secret"]}
        status, numbers = asked(**good)
        assert status == 200 and list(numbers) == ["team_id", "api_token_id", "mqtt_client_id"]
        assert all(type(number) is int and number > 0 for number in numbers.values())
        assert asked(**good) == (200, numbers)
        assert asked(**{**good, "api_secret": "wrong"}) == (401, {"message": "Credentials Unauthorized"})
        assert asked(**{**good, "client_id": "other"}) == (401, {"message": "Credentials Unauthorized"})
        status, told = asked(client_id="client-1", api_key=token["key"])
        assert status == 422 and told == {"message": "The api secret field is required.",
                                          "errors": {"api_secret": ["The api secret field is required."]}}
        with martlet_process.Node(arguments=["-auth-url", node.http_url + "/api/mqtt/auth"]) as broker:
            login = ("-i", "client-1", "-u", token["key"], "-P")
            assert Mosquitto(broker).pub("-t", "a", "-m", "x", "-q", "1", *login, token["secret"]).returncode == 0
            assert Mosquitto(broker).pub("-t", "a", "-m", "x", *login, "wrong").returncode != 0


@pytest.mark.parametrize("options, says", [
    (["-api-token-ttl", "1d"], 'is "1d", expected a duration such as 24h'),
    (["-api-token-ttl", "200h"], "auth.remember_secs"),
    (["-info", "nowhere"], "-info"),
    (["-tcp", "nowhere"], "nowhere"),
])
def test_what_is_wrong_with_an_option_is_named(options, says, tmp_path):
    done = martlet_process.run("serve", *options, "--data-dir", str(tmp_path / "data"))
    assert done.returncode != 0 and says in done.stderr, done


def test_it_starts_beside_reverb_and_its_name_has_the_commands_that_it_prints(panel, tmp_path):
    link = tmp_path / "mqtt-panel-broker"
    link.symlink_to(martlet_process.binary())
    panel.status, panel.body = 200, PANEL
    with contextlib.ExitStack() as reverb:
        with contextlib.suppress(OSError):
            # Another test may have the port: it is in use in any case.
            reverb.enter_context(socket.create_server(("127.0.0.1", 8080)))
        # Nothing is there.
        with socket.create_server(("127.0.0.1", 0)) as closed:
            reverb_at = "127.0.0.1:%s" % closed.getsockname()[1]
        options = ["-tcp", "127.0.0.1:0", "-ws", "127.0.0.1:0", "-auth-url", panel.url, "-reverb-host", reverb_at]
        with martlet_process.Node(command=[str(link)], arguments=options, listen=(), http=None) as node:
            assert "the default address of HTTP, 0.0.0.0:8080, is in use" in node.log()
            until(lambda: "cannot push events; retrying" in node.log(), node.log)
            node.wait_for_log("ready")
            warnings = [line for line in node.log().splitlines() if " WARN " in line and "push" in line]
            assert len(warnings) == 1, warnings
            printed = [line.removeprefix("See how it is: ") for line in node.announced]
            printed = [line.replace("USER", "key").replace("PASSWORD", "secret") for line in printed]
            [sub, pub, status] = [line for line in printed if str(link) in line]
            start = lambda line: subprocess.Popen(["bash", "-c", f"exec {line}"], env=martlet_process.environment(),
                                                  text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            reading = start(f"{sub} -C 1 -W 30")
            told = lambda: json.loads(start(f"{status} --json").communicate(timeout=60)[0])
            until(lambda: told()["subscriptions"] == 1, node.log)
            assert start(pub).wait(timeout=60) == 0
            assert reading.communicate(timeout=60)[0] == "hello/world it works\n"
            # What is set elsewhere is in force.
            for own, expected in (({}, "ws://127.0.0.1:8080/app/"),
                                  ({"MARTLET_EVENTS__PUSH_URL": "ws://127.0.0.1:8081/app/mine"}, "ws://127.0.0.1:8081/app/")):
                shown = subprocess.run([link, "config", "show", "--as-panel-broker"], capture_output=True, text=True, timeout=20,
                                       env=martlet_process.environment() | own)
                assert expected in shown.stdout and "http://mqtt-panel.test/" in shown.stdout, shown
