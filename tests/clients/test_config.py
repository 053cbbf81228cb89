"""`martlet config`: what is in force and where it is from, and what is refused."""

import json
import subprocess

import pytest

import martlet_process
from test_operation import DEADLINE_SECS


def test_config_show_names_value_and_source(tmp_path):
    file = tmp_path / "martlet.toml"
    file.write_text("[limits]\nin_flight = 7\n")
    done = martlet_process.run(
        "config", "show", "--json", "--config", str(file), "--set", "mqtt.max_qos=1"
    )
    assert done.returncode == 0, done.stderr
    values = {entry["key"]: entry for entry in json.loads(done.stdout)["values"]}
    assert values["limits.in_flight"]["value"] == 7
    assert "martlet.toml" in values["limits.in_flight"]["source"]
    assert values["mqtt.max_qos"]["value"] == 1
    assert values["mqtt.max_qos"]["source"] == "command line --set"
    assert values["limits.receive_maximum"]["source"] == "default"


def test_config_check_accepts_a_good_file(tmp_path):
    file = tmp_path / "martlet.toml"
    file.write_text('[[listeners]]\nurl = "mqtt://127.0.0.1:18830"\n')
    free = tmp_path / "free"
    done = martlet_process.run("config", "check", "--config", str(file), "--data-dir", str(free))
    assert done.returncode == 0, done.stderr
    assert "18830" in done.stdout
    assert "warning" not in done.stdout
    assert not free.exists()


def test_config_check_warns_of_integrations_that_may_not_connect(tmp_path):
    file = tmp_path / "martlet.toml"
    hook = '[[sinks.webhook]]\nname = "hook"\nfilters = ["#"]\nurl = "http://localhost:8000/"\n'
    nats = '[[sources.nats]]\nname = "cmd"\nstream = "CMD"\nurl = "nats://10.0.0.1:4222"\n'
    bridge = '[[bridges]]\nname = "up"\nurl = "mqtt://a.example,mqtt://192.168.0.1"\ntopics = ["# in"]\n'
    check = lambda: martlet_process.run("config", "check", "-c", str(file), "--data-dir", str(tmp_path / "data"))
    file.write_text(hook + nats + bridge)
    done = check()
    assert done.returncode == 0, done
    told = [line for line in done.stdout.splitlines() if "it will not connect" in line]
    assert len(told) == 3 and all("integrations.allow_private" in line for line in told), done
    expected = f"warning: {file} line 1: [[sinks.webhook]]: it will not connect: 127.0.0.1 "
    assert any(line.startswith(expected) for line in told), done
    file.write_text('[integrations]\nallow_private = ["127.0.0.0/8", "10.0.0.0/8", "192.168.0.1"]\n' + hook + nats + bridge)
    done = check()
    assert "it will not connect" not in done.stdout, done


def test_config_check_warns_of_stars_in_filters(tmp_path):
    file = tmp_path / "martlet.toml"
    file.write_text("""
[messages]
keep = ["a/#", "b/*"]
[topic_memory]
filters = ["c/*/d"]
[[sinks.webhook]]
name = "hook"
filters = ["*", "a/+"]
url = "https://h.example/"
[[bridges]]
name = "up"
url = "mqtt://a.example"
topics = ["e/* out 1", "f/# in"]
[[rules]]
name = "r1"
topics = ["g/*"]
actions = ["stop"]
[[telemetry.rules]]
topic = "h/{device}/*"
""")
    done = martlet_process.run("config", "check", "-c", str(file), "--data-dir", str(tmp_path / "data"))
    told = [line for line in done.stdout.splitlines() if "* is an ordinary character in a Topic Filter" in line]
    filters = ("*", "e/*", "g/*", "h/{device}/*", "c/*/d", "b/*")
    assert done.returncode == 0 and len(told) == len(filters), done
    assert all(line.startswith(f"warning: {file} line ") for line in told), told
    assert {line.split("`")[1] for line in told} == set(filters), told


def test_config_check_refuses_a_data_directory_that_a_node_refuses(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    cut_off = tmp_path / "cut-off"
    (cut_off / "store.restoring").mkdir(parents=True)
    bad_store = tmp_path / "bad-store"
    bad_store.mkdir()
    (bad_store / "store").write_text("")
    for data_dir, words in (
        (file / "data", "cannot be made"),
        (file, ""),
        ("/proc/nope", "cannot be made"),
        (cut_off, "a restore into"),
        (bad_store, ""),
    ):
        options = ("--data-dir", str(data_dir), "--listen", "mqtt://127.0.0.1:0", "--http", "off")
        for command in (("serve",), ("config", "check")):
            done = martlet_process.run(*command, *options)
            assert done.returncode == 1, (command, data_dir)
            assert str(data_dir) in done.stderr
        assert words in done.stderr
        assert done.stdout == ""


def test_config_check_accepts_the_data_directory_of_a_node_that_runs_and_says_so(start_node):
    node = start_node()
    done = martlet_process.run("config", "check", "--data-dir", node.data_dir)
    assert done.returncode == 0, done.stderr
    assert f"warning: the data directory {node.data_dir} is in use" in done.stdout
    assert str(node.process.pid) in done.stdout


@pytest.mark.parametrize("source", ["toml", "environment", "command line", "mosquitto.conf", "imported"])
def test_paths_that_are_not_whole_begin_at_the_working_directory(tmp_path, source):
    here, elsewhere = tmp_path / "here", tmp_path / "elsewhere"
    here.mkdir()
    elsewhere.mkdir()
    done = martlet_process.run("passwd", "--weak", "-c", "-b", str(here / "passwd"), "alice", "secret")
    assert done.returncode == 0, done.stderr
    variables, arguments = {}, ["--data-dir", str(tmp_path / "data")]
    toml, conf = here / "martlet.toml", here / "mosquitto.conf"
    conf.write_text("password_file passwd\n")
    if source == "toml":
        toml.write_text('[auth]\npassword_file = "passwd"\n')
    elif source == "imported":
        told = martlet_process.run("import", "mosquitto", str(conf), "--out", str(toml))
        # It is written, and told that from here no node would start with it.
        assert told.returncode == 3 and "cannot read passwd" in told.stdout, told
    elif source == "environment":
        variables["MARTLET_AUTH__PASSWORD_FILE"] = "passwd"
    elif source == "command line":
        arguments += ["--set", "auth.password_file=passwd"]
    arguments += ["--mosquitto-conf", str(conf)] if source == "mosquitto.conf" else []
    arguments += ["--config", str(toml)] if toml.exists() else []

    def check(directory):
        return subprocess.run([martlet_process.binary(), "config", "check", *arguments], cwd=directory, text=True,
                              env={**martlet_process.environment(), **variables}, capture_output=True, timeout=DEADLINE_SECS)

    assert check(here).returncode == 0, check(here).stderr
    said = check(elsewhere)
    assert said.returncode != 0
    assert "cannot read passwd" in said.stderr and f"it begins at the working directory, {elsewhere}" in said.stderr


def test_config_check_refuses_and_names_what_is_wrong(tmp_path):
    file = tmp_path / "martlet.toml"
    for text, word in (
        ("[limits]\nin_flight = -1\n", "in_flight"),
        # A misspelt table is named as it is written, and a wrong value is shown.
        ("[limts]\npacket_bytes = 5\n", "unknown key `[limts]`; did you mean `[limits]`?"),
        ("[limits]\npacket_bytes = -5\n", "`limits.packet_bytes` is -5,"),
        ('[limits]\npacket_bytes = "x"\n', '`limits.packet_bytes` is "x",'),
        ("[limits]\nno_such_limit = 1\n", "no_such_limit"),
        ("[limits\n", "martlet.toml"),
        ('[mqtt]\nqueue_full = "explode"\n', "queue_full"),
        ('[[listeners]]\nurl = "gopher://x"\n', "gopher"),
    ):
        file.write_text(text)
        done = martlet_process.run("config", "check", "--config", str(file))
        assert done.returncode != 0, text
        assert word in done.stderr, done.stderr
        assert done.stdout == ""
        served = martlet_process.run(
            "serve", "--config", str(file), "--data-dir", str(tmp_path / "data")
        )
        assert served.returncode != 0, text
        assert word in served.stderr


def test_an_unknown_setting_on_the_command_line_is_refused():
    for setting, word in (("limits.nothing=1", "limits.nothing"), ("limits.in_flight", "KEY=VALUE")):
        done = martlet_process.run("config", "check", "--set", setting)
        assert done.returncode != 0
        assert word in done.stderr


def test_a_data_directory_may_have_a_long_path(start_node, tmp_path):
    """Longer than the path of a socket may be; commands reach the node by one all the same."""
    data_dir = tmp_path / ("d" * 120)
    node = start_node(data_dir=data_dir)
    done = martlet_process.run("status", "--data-dir", str(data_dir))
    assert done.returncode == 0, done.stderr
    node.terminate()
    assert node.wait() == 0
    assert not (data_dir / "admin.sock").exists()
    assert "no node answers" in martlet_process.run("status", "--data-dir", str(data_dir)).stderr
