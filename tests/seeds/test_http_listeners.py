"""HTTP listeners with their own routes: whose routes they serve, which need no key, and what is told
of that at the start."""

import json
import socket

import pytest

import martlet_process
from server_process import free_ports
from test_variables import get

KEY = "0123456789abcdef-secret"


def configuration(place, *tables):
    text = "".join("[[http_listeners]]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in table.items())
                   for table in tables)
    path = place / "martlet.toml"
    path.write_text(text)
    return ["-c", str(path)]


def node_with(place, *tables, **options):
    return martlet_process.Node(arguments=configuration(place, *tables), **{"http": True, **options})


def own_address():
    """An address of this machine that is not loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("198.51.100.1", 9))
        except OSError:
            pytest.skip("this machine has no address but loopback")
        return probe.getsockname()[0]


def test_each_listener_serves_what_it_says(tmp_path):
    [off, panel, open_] = free_ports(3)
    tables = [{"url": f"127.0.0.1:{off}", "compat": "off"},
              {"url": f"http://127.0.0.1:{panel}", "compat": ["2"]},
              {"url": f"127.0.0.1:{open_}", "open_routes": ["GET /broker/status"], "metrics": "json"}]
    with node_with(tmp_path, *tables, variables=[("MARTLET_HTTP__API_KEYS", f"all:{KEY}")]) as node:
        ask = lambda port, path, *options: get(f"http://127.0.0.1:{port}{path}", *options)
        key = ("-H", f"X-API-Key: {KEY}")
        assert ask(off, "/broker/status", *key)[0] == 404 and ask(off, "/", *key)[0] == 307
        assert ask(off, "/api/v1/status", *key)[0] == 200
        assert ask(panel, "/broker/status", *key)[0] == 404 and "clients_connected" in ask(panel, "/", *key)[2]
        assert ask(open_, "/broker/status")[0] == 200 and ask(open_, "/status")[0] == 401
        general = next(line.split()[-1] for line in node.announced if line.startswith("health and metrics on "))
        assert get(f"{general}/broker/status")[0] == 401
        assert get(f"{general}/broker/status", *key)[0] == 200
        # Errors have the form of the systems that the listener has.
        assert ask(off, "/publish", *key)[1] == "application/problem+json"
        assert ask(open_, "/publish", *key)[1] == "application/json"
        listeners = json.loads(get(f"{general}/api/v1/listeners", *key)[2])["items"]
        assert len([one for one in listeners if one["protocol"] == "http"]) == 4
        assert node.log().count("http.open_routes permits all clients to use GET /broker/status") == 1


@pytest.mark.parametrize("accept, compat, metrics, kind", [
    (None, "1,2", None, "text/plain"),
    ("application/json", "1,2", None, "application/json"),
    ("application/json", "2", None, "text/plain"),
    (None, "1,2", "json", "application/json"),
    ("*/*", "1,2", "json", "application/json"),
    (None, "2", "json", "text/plain"),
    ("text/plain", "1,2", "json", "text/plain"),
    ("application/openmetrics-text;version=1.0.0,text/plain;q=0.5,*/*;q=0.1", "1,2", "json", "application/openmetrics-text"),
    ("application/json", "off", "prometheus", "text/plain"),
])
def test_the_form_of_the_metrics(tmp_path, accept, compat, metrics, kind):
    [port] = free_ports(1)
    table = {"url": f"127.0.0.1:{port}", "compat": compat, **({"metrics": metrics} if metrics else {})}
    with node_with(tmp_path, table, http=False):
        options = ["-H", f"Accept: {accept}"] if accept else ["-H", "Accept:"]
        assert get(f"http://127.0.0.1:{port}/metrics", *options)[:2] == (200, kind)


def test_the_system_that_is_named_first_has_a_path_of_several(tmp_path):
    """/ is the second system's alone so far; its order changes nothing about the first one's paths."""
    ports = free_ports(2)
    tables = [{"url": f"127.0.0.1:{port}", "compat": compat} for port, compat in zip(ports, ["1,2", "2,1"])]
    with node_with(tmp_path, *tables, http=False):
        for port in ports:
            url = f"http://127.0.0.1:{port}"
            assert json.loads(get(f"{url}/status")[2])["status"] == "no_clients" and get(f"{url}/logs")[1] == "text/plain"
            assert "clients_connected" in get(f"{url}/")[2]
            assert get(f"{url}/", "-H", "Accept: text/html")[0] == 307


@pytest.mark.parametrize("tables, says", [
    ([{"compat": "1"}], "an HTTP listener needs `url`"),
    ([{"url": "127.0.0.1:8099", "compat": "7"}], 'line 3: compat: "7" is not known'),
    ([{"url": "127.0.0.1:8099", "compat": "1,1"}], "compat: 1 occurs twice"),
    ([{"url": "127.0.0.1:8099", "open_routes": "devices"}], 'open_routes: "devices" is not a valid route'),
    ([{"url": "127.0.0.1:8099", "metrics": "xml"}], "expected one of prometheus, json"),
    ([{"url": "ftp://127.0.0.1:8099"}], '"ftp://127.0.0.1:8099" is not a valid address'),
    ([{"url": "nowhere"}], '"nowhere" is not a valid address'),
    ([{"url": "https://127.0.0.1:8099"}], "requests https://, which needs a certificate"),
    ([{"url": "127.0.0.1:8099", "color": "red"}], "unknown key `color`"),
    ([{"url": "127.0.0.1:8099"}, {"url": "127.0.0.1:8099"}], "127.0.0.1:8099 is an address of the HTTP listener 127.0.0.1:8099 too"),
    ([{"url": "127.0.0.1:8099"}, {"url": "0.0.0.0:8099"}], "0.0.0.0:8099 is an address of the HTTP listener 127.0.0.1:8099 too"),
    ([{"url": "127.0.0.1:1883"}], "127.0.0.1:1883 of the HTTP server is where the listener mqtt://127.0.0.1:1883"),
])
def test_what_is_wrong_with_a_listener_is_named(tmp_path, tables, says):
    done = martlet_process.run("config", "check", *configuration(tmp_path, *tables))
    assert done.returncode != 0 and says in done.stderr, done.stderr


def test_listeners_are_tables_and_say_so(tmp_path):
    path = tmp_path / "martlet.toml"
    for text, says in [("http_listeners = 7\n", "[[http_listeners]] tables"), ("[http_listeners]\nurl = 'x'\n", "[[http_listeners]]")]:
        path.write_text(text)
        done = martlet_process.run("config", "check", "-c", str(path))
        assert done.returncode != 0 and says in done.stderr, done.stderr


def test_an_address_in_use_is_named_with_what_asks_for_it(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as busy:
        url = f"127.0.0.1:{busy.getsockname()[1]}"
        done = martlet_process.run("serve", "--listen", "mqtt://127.0.0.1:0", "--http", "off", "--http-addr", url,
                                   "--data-dir", str(tmp_path / "data"))
        assert done.returncode != 0 and f"command line --http-addr: cannot listen on {url}" in done.stderr, done
        assert "in use by" in done.stderr


def test_who_needs_a_key_and_from_where_is_told_at_the_start(tmp_path):
    [port] = free_ports(1)
    everywhere = {"url": f"0.0.0.0:{port}", "compat": "1"}
    line = lambda node, url: next(text for text in node.facts(f"{url}: ") if " key" in text)
    with node_with(tmp_path, everywhere) as node:
        told = line(node, f"http://0.0.0.0:{port}")
        until_then = "until there is an administrator or an API key, programs on this machine need no key"
        assert f"{until_then}; those on other machines need one" in told
        assert any(text.endswith(until_then) for text in node.facts(until_then))
        # It is so.
        assert get(f"http://127.0.0.1:{port}/broker/status")[0] == 200
        assert get(f"http://{own_address()}:{port}/broker/status")[0] == 401
        forwarded = get(f"http://127.0.0.1:{port}/broker/status", "-H", "X-Forwarded-For: 192.0.2.7")
        assert forwarded[0] == 401
    keys = {"API_KEY_ENABLED": "true", "API_KEYS": KEY}
    with node_with(tmp_path, {**everywhere, "open_routes": "GET /logs"}, variables=keys.items()) as node:
        told = line(node, f"http://0.0.0.0:{port}")
        assert "need a key or a session (X-API-Key: KEY), from every machine; without one all clients may use GET /logs" in told
        assert get(f"http://127.0.0.1:{port}/broker/status")[0] == 401
        for host in ("127.0.0.1", own_address()):
            assert get(f"http://{host}:{port}/broker/status", "-H", f"X-API-Key: {KEY}")[0] == 200
            assert get(f"http://{host}:{port}/logs")[0] == 200


def test_a_listener_that_was_added_waits_for_a_restart(tmp_path):
    arguments = configuration(tmp_path)
    with martlet_process.Node(arguments=arguments) as node:
        configuration(tmp_path, {"url": "127.0.0.1:8099"})
        done = martlet_process.run("reload", "--data-dir", node.data_dir)
        assert done.returncode == 3 and "[[http_listeners]] has changed, which needs a restart" in done.stdout, done


def test_the_default_listener_gives_way_to_another_at_its_address():
    """Neither is an address that is listened on twice, nor does one of another port replace it."""
    def listeners(*options):
        done = martlet_process.run("config", "show", "--json", *options)
        told = json.loads(done.stdout)
        return [table["url"]["value"] for table in told["http_listeners"]]
    assert listeners("--http-addr", ":8080") == ["0.0.0.0:8080"]
    assert martlet_process.run("config", "check", "--http-addr", ":8080").returncode == 0
    done = martlet_process.run("config", "check", "--http-addr", ":8080", "--http", "127.0.0.1:8080")
    assert done.returncode != 0 and "which http.listen requests" in done.stderr, done
