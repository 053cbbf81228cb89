"""Text files as editors of Windows and PowerShell write them: with CRLF, a byte order mark, blanks at the ends of lines,
and in UTF-16. They are read, or the error says which encoding is expected, and none opens the node to others."""

import json
import pathlib
import re
import subprocess

import pytest

import martlet_process
from paho_client import Client
from server_process import free_port
from test_access import publish
from test_hook import hook  # noqa: F401
from test_jwt import Signer, let_in
from test_tls import Authority

REFERENCE = pathlib.Path(__file__).parents[2] / "docs" / "configuration.md"
MARK = b"\xef\xbb\xbf"
FORMS = {
    "CRLF": lambda text: text.replace(b"\n", b"\r\n"),
    "mark": lambda text: MARK + text,
    "CRLF and mark": lambda text: MARK + text.replace(b"\n", b"\r\n"),
    "blanks at the ends": lambda text: text.replace(b"\n", b" \n"),
    "empty lines at the end": lambda text: text + b"\n  \n\n",
    "no line break at the end": lambda text: text.rstrip(b"\n"),
}


def utf16(text):
    return text.decode().encode("utf-16")


@pytest.fixture(scope="module")
def passwords(tmp_path_factory):
    path = tmp_path_factory.mktemp("passwords") / "passwd"
    assert martlet_process.run("passwd", "--weak", "-c", "-b", str(path), "bob", "a-long-password").returncode == 0
    return path.read_bytes()


def written(place, passwords, forms):
    """The three files of Mosquitto, each in its form; the path of its configuration, and its port."""
    port = free_port()
    conf = f"listener {port} 127.0.0.1\nallow_anonymous false\npassword_file {place}/passwd\nacl_file {place}/acl\n"
    texts = {"conf": conf.encode(), "acl": b"user bob\ntopic readwrite home/#\n", "passwd": passwords}
    for name, text in texts.items():
        (place / name).write_bytes(forms.get(name, bytes)(text))
        (place / name).chmod(0o600)
    return place / "conf", port


@pytest.mark.parametrize("form", FORMS)
def test_files_of_mosquitto_are_read(start_node, tmp_path, passwords, form):
    conf, port = written(tmp_path, passwords, dict.fromkeys(["conf", "acl", "passwd"], FORMS[form]))
    node = start_node(arguments=["--mosquitto-conf", str(conf)], listen=())
    with Client(node, "x", port=port) as stranger:
        assert stranger.connack.is_failure
    with Client(node, "c", port=port).credentials("bob", "a-long-password") as client:
        assert not client.connack.is_failure, node.log()
        assert client.acknowledged("home/1") and not client.acknowledged("office/1")


@pytest.mark.parametrize("which", ["conf", "acl", "passwd"])
def test_a_file_of_mosquitto_in_utf16_is_refused_with_the_encoding_that_is_expected(tmp_path, passwords, which):
    conf, _ = written(tmp_path, passwords, {which: utf16})
    done = martlet_process.run("serve", "--mosquitto-conf", str(conf), "--http", "off", "--data-dir",
                               str(tmp_path / "data"))
    assert done.returncode == 1 and "UTF-8" in done.stderr and f"{tmp_path}/{which}" in done.stderr, done


def test_the_configuration_is_read_in_each_form(tmp_path):
    config = tmp_path / "martlet.toml"
    for form, change in FORMS.items():
        config.write_bytes(change(b"[limits]\nqueued_messages = 77\n"))
        done = martlet_process.run("config", "show", "-c", str(config), "--changed", "--json")
        assert done.returncode == 0 and [one["value"] for one in json.loads(done.stdout)["values"]] == [77], (form, done)
    config.write_bytes(utf16("[limits]\nqueued_messages = 77\n".encode()))
    done = martlet_process.run("config", "show", "-c", str(config))
    assert done.returncode == 1 and "UTF-8" in done.stderr, done


def test_a_byte_order_mark_is_skipped_in_every_file_and_answer(start_node, tmp_path, hook):  # noqa: F811
    def marked(path):
        path = pathlib.Path(path)
        path.write_bytes(MARK + path.read_bytes())
        return str(path)

    authority = Authority(tmp_path / "ca")
    certificate, key = authority.sign("server")
    client_certificate, client_key = authority.sign("client", usage="clientAuth")
    config = tmp_path / "martlet.toml"
    config.write_text(f"""
[tls]
certificate = '{marked(certificate)}'
key = '{marked(key)}'
client_ca = '{marked(authority.certificate)}'
client_certificates = 'required'
[auth]
hook_url = '{hook.url}'
""")
    marked(config)
    # An answer of Windows' own web server.
    hook.body = MARK + hook.body
    node = start_node(arguments=["-c", str(config)], listen=("mqtts://127.0.0.1:0", "mqtt://127.0.0.1:0"))
    assert publish(node, "t", "-u", "ann", "-P", "secret")[0] == 0, node.log()
    files = ["--cafile", authority.certificate, "--cert", marked(client_certificate), "--key", marked(client_key)]
    done = martlet_process.run("pub", "-h", "localhost", "-p", str(node.port("mqtts")), *files, "-u", "ann", "-P", "secret",
                               "-t", "t", "-m", "x", "-q", "1")
    assert done.returncode == 0, (done, node.log())
    for command in (["ca"], ["client", "a"], ["client", "b"], ["ls"], ["revoke", "a"]):
        done = martlet_process.run("cert", *command, "--dir", str(tmp_path / "own"))
        assert done.returncode == 0, done
        index = tmp_path / "own/issued.txt"
        if command == ["client", "a"]:
            marked(index)
    assert index.read_bytes().startswith(MARK) and " b " in index.read_text(), index.read_text()
    given = [martlet_process.binary(), "role", "add", "reader", "--stdin", "--data-dir", node.data_dir]
    added = subprocess.run(given, input="\ufefftopic read a/#\n", capture_output=True, text=True, timeout=60,
                           env=martlet_process.environment())
    assert added.returncode == 0, added

    signer = Signer(tmp_path, "HS256")
    node = start_node(settings=[f"auth.jwt_keys={marked(signer.file)}", "auth.jwt_algorithm=HS256"])
    assert let_in(node, signer.token()), node.log()


def test_every_key_with_several_values_takes_a_list(tmp_path):
    text = REFERENCE.read_text()
    keys = {}
    for section, table in re.findall(r"^## `\[(\w+)\]`\n(.*?)(?=^## |\Z)", text, re.S | re.M):
        for name, default in re.findall(r'^\| `(\w+)` \| `"(.*?)"` \| [^|]* \| Comma-separated', table, re.M):
            keys[section, name] = [part for part in default.split(",") if part]
    assert len(keys) > 10 and ("messages", "keep") in keys and ("topic_memory", "filters") in keys, keys

    def shown(form):
        config = tmp_path / "martlet.toml"
        # A dotted key needs no section before it.
        config.write_text("".join(f"{section}.{name} = {form(parts)}\n" for (section, name), parts in keys.items()))
        done = martlet_process.run("config", "show", "-c", str(config), "--json")
        assert done.returncode == 0, (done.stderr, config.read_text())
        # Blanks behind commas are none of the values.
        return {one["key"]: str(one["value"]).replace(", ", ",") for one in json.loads(done.stdout)["values"]}

    as_text = lambda: shown(lambda parts: json.dumps(",".join(parts)))
    assert shown(json.dumps) == as_text()
    keys = {("messages", "keep"): ["a/#", "b"], ("topic_memory", "filters"): ["a/#", "b/+"]}
    listed = shown(json.dumps)
    assert listed == as_text() and listed["messages.keep"] == "a/#,b", listed["messages.keep"]
