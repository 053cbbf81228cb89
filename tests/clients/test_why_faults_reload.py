"""Configuration that is not in force, put to `martlet why`: a reload that failed, and settings that need a restart."""

import os

import martlet_process
from test_access import until
from test_why_faults_more import configured
from why_faults import Faults, reason_of

ACL = "user alice\ntopic read plant/#\n"


def replace(path, text):
    """The node never reads a file that is written in part."""
    new = path.with_name("new")
    new.write_text(text)
    os.replace(new, path)


def test_an_acl_file_has_a_line_that_is_not_valid(tmp_path):
    acl = tmp_path / "acl"
    acl.write_text(ACL)
    passwords = tmp_path / "passwd"
    assert martlet_process.run("passwd", "-b", "-c", str(passwords), "alice", "secret of alice").returncode == 0
    with Faults(settings=[f"auth.password_file={passwords}", f"auth.acl_file={acl}"]) as node:
        replace(acl, ACL + "topics read office/#\ntopic read office/#\n")
        node.node.wait_for_log("the settings before it remain in force")
        with node.client("alice", "secret of alice", client_id="al") as client:
            client.subscribe("office/#", 1)
            told = node.headline("reload-failed", "the last reload failed, and the settings before it remain in force", "al",
                                 "office/1")
            assert "topics" in told["sentence"] and str(acl) in told["sentence"], told
            assert told["also"][0]["cause"] == "not-permitted", told
        replace(acl, ACL + "topic read office/#\n")
        node.node.wait_for_log("reloaded")
        with node.client("alice", "secret of alice", client_id="al") as client:
            assert client.subscribe("office/#", 1) == [1]
        node.over("al", "office/1")


def test_a_password_file_has_a_line_that_is_not_valid(tmp_path):
    passwords = tmp_path / "passwd"
    passwords.write_text("")
    (tmp_path / "martlet.toml").write_text(f"""
[[listeners]]
url = "mqtt://127.0.0.1:0"
password_file = "{passwords}"
""")
    with Faults(listen=(), arguments=("-c", str(tmp_path / "martlet.toml"))) as node:
        passwords.write_text("dave:davepassword12\n")
        node.node.wait_for_log("the settings before it remain in force")
        assert reason_of(node.client("dave", "davepassword12", client_id="dave-app").start()).is_failure
        until(lambda: node.why("dave-app")["also"], "its refusal is told")
        told = node.headline("reload-failed", str(passwords), "dave-app")
        assert told["also"][0]["cause"] == "unknown-name", told
        assert "davepassword12" not in str(told), told


RULE = """
[[rules]]
name = "{name}"
topics = ["a/#"]
[[rules.actions]]
publish = {{ topic = "b" }}
"""


def test_a_rule_was_added_to_the_configuration_and_needs_a_restart(tmp_path):
    with configured(tmp_path, RULE.format(name="first")) as node:
        (tmp_path / "martlet.toml").write_text(RULE.format(name="first") + RULE.format(name="second"))
        node.run("reload", code=3)
        told = node.headline("nobody-known", "changed since the start, and not in force before a restart: [[rules]]", "second")
        assert told["remedy"].startswith("if the configuration has second, restart the node"), told
        node.restart()
        node.bash(node.headline("rule-unmatched", "the rule second", "second"))
