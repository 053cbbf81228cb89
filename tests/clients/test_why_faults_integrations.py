"""Faults of integrations that are put to `martlet why`: the headline is the fault, and the command that
is printed ends it, or says whether it is over."""

import json
import subprocess

import pytest

import martlet_process

from paho_client import Client
from test_access import until
from test_webhooks import Receiver
from test_why_faults_more import configured
from why_faults import Faults

AUDIT, CRM = "file/audit", "webhook/crm"


@pytest.fixture
def node(tmp_path):
    """A node with a file sink whose directory is there, and a webhook."""
    receiver = Receiver()
    out = tmp_path / "out"
    out.mkdir()
    config = tmp_path / "martlet.toml"
    config.write_text(
        '[integrations]\nallow_private = ["127.0.0.0/8"]\n'
        f'[[sinks.file]]\nname = "audit"\nfilters = ["plant/#"]\npath = {json.dumps(str(out / "messages.json"))}\n'
        f'[[sinks.webhook]]\nname = "crm"\nfilters = ["crm/#"]\nurl = "{receiver.url}"\n')
    with Faults(arguments=("-c", str(config))) as faults:
        faults.out, faults.receiver = out, receiver
        for name in (AUDIT, CRM):
            until(lambda: faults.why(name)["cause"] == "nothing-wrong", "it is attached")
        yield faults
    receiver.close()


def publish(node, topic, client="pump-1"):
    with Client(node.node, client) as publisher:
        publisher.publish(topic, "x")


def test_a_sink_cannot_write(node):
    node.out.rmdir()
    node.out.write_text("")
    publish(node, "plant/1")
    for asked in ([AUDIT], ["pump-1"], ["pump-1", "plant/1"]):
        told = node.headline("integration-failing", "Not a directory", *asked)
        assert "file/audit" in told["sentence"]
    node.out.unlink()
    node.out.mkdir()
    assert "can reach its target" in node.bash(told)
    node.over(AUDIT)


def test_an_integration_is_paused(node):
    node.run("integration", "pause", AUDIT)
    publish(node, "plant/1")
    told = node.headline("integration-paused", "1 message waits for the integration file/audit, which is paused", AUDIT)
    node.carry_out(told)
    node.over(AUDIT)
    until((node.out / "messages.json").exists, "it is written")


def test_a_webhook_answers_with_an_error(node):
    node.receiver.answer = lambda message: (500, {}, b"no")
    publish(node, "crm/1")
    told = node.headline("integration-failing", "the target answered 500", CRM)
    node.receiver.answer = lambda message: (204, {}, b"")
    node.bash(told)
    node.over(CRM)


def test_a_webhook_refuses_a_message(node):
    node.receiver.answer = lambda message: (400, {}, b"no such plant")
    publish(node, "crm/1")
    told = node.headline("integration-failing", "refused 1 message: it is a dead letter; its reason: the target answered 400",
                         "pump-1", "crm/1")
    assert "integration dead-letter ls" in told["command"], told
    told = node.headline("integration-failing", "refused 1 message from it or about it: it is a dead letter; its reason: "
                         "the target answered 400", "pump-1")
    assert "webhook/crm" in told["sentence"], told
    with Client(node.node, "pump-2"):
        node.over("pump-2")
    # By its bare name too.
    for name in (CRM, "crm"):
        told = node.headline("integration-failing", "refused 1 message: it is a dead letter", name)
    assert told["name"] == "$integration/webhook/crm", told
    listed = node.bash(told)
    assert "crm/1" in listed, listed
    letters = json.loads(node.run("integration", "dead-letter", "ls", CRM, "--json"))["items"]
    node.run("integration", "dead-letter", "rm", CRM, str(letters[0]["id"]))
    with Client(node.node, "pump-1"):
        for name in (CRM, "crm", "pump-1"):
            node.over(name)
    assert "the integration webhook/crm delivers" in node.why("crm")["sentence"]
    # What has the name itself comes first.
    node.run("key", "add", "--scope", "viewer", "crm")
    assert "crm is an API key" in node.why("crm")["sentence"]


def test_several_integrations_have_the_name(tmp_path):
    hook = '[[sinks.webhook]]\nname = "crm"\nfilters = ["crm/#"]\nurl = "http://127.0.0.1:9/"\n'
    file = f'[[sinks.file]]\nname = "crm"\nfilters = ["crm/#"]\npath = {json.dumps(str(tmp_path / "crm.json"))}\n'
    with configured(tmp_path, '[integrations]\nallow_private = ["127.0.0.0/8"]\n' + hook + file) as node:
        told = node.headline("nobody-known", "crm is the name of 2 integrations: ", "crm")
        assert "file/crm" in told["sentence"] and "webhook/crm" in told["sentence"], told
        assert "file/crm" in node.bash(told)
        assert not node.why("file/crm")["wrong"]


@pytest.mark.parametrize(("host", "said"), [("localhost", "127.0.0.1 and ::1 are private"),
                                            ("crm.example", "10.0.0.7 is a private")])
def test_a_sink_that_may_not_connect_is_named_before_a_message_comes(tmp_path, resolving, host, said):
    hook = f'[[sinks.webhook]]\nname = "crm"\nfilters = ["crm/#"]\nurl = "http://{host}:9/x"\n'
    variables = resolving("crm.example", "10.0.0.7")
    with configured(tmp_path, hook, variables=variables) as node:
        until(lambda: said in node.why(CRM)["sentence"], "it is named")
        assert node.why(CRM)["cause"] == "integration-failing", node.why(CRM)
        warnings = json.loads(node.node.admin.ask("GET", "/api/v1/status")[1])["warnings"]
        assert any("webhook/crm" in one and said in one for one in warnings), warnings
        assert "retrying" in node.run("integration", "ls")
        # Not only until it was tried.
        assert said in node.run("integration", "test", CRM, code=1)
        assert said in node.why(CRM)["sentence"] and "an integration cannot deliver" in node.node.log()
    checked = subprocess.run([martlet_process.binary(), "config", "check", "-c", str(tmp_path / "martlet.toml")],
                             capture_output=True, text=True, timeout=60, cwd=tmp_path,
                             env={**martlet_process.environment(), **variables})
    assert checked.returncode == 0 and f"line 1: [[sinks.webhook]]: it will not connect: " in checked.stdout, checked
    assert said in checked.stdout, checked
