"""What others have written is shown at a terminal so that it controls nothing and turns no direction of writing, as
text and as JSON, from the node and from its files."""

import json
import os
import pty
import re
import select
import subprocess
import unicodedata

import pytest

import martlet_process
from paho_client import Client
from test_access import until
from test_http_api import KEYS
from test_rules import call

DEADLINE_SECS = 60
# It names itself, clears the screen (in two ways), and turns what follows.
ODD = "odd\x1b]0;owned\x07\x1b[2J\x9b2J\x7f\u202e\u2066end"
# Where control characters are refused.
TURNED = "odd\u202e\u2066end"
RULES = f"""
[topic_memory]
filters = "#"

[telemetry]
enabled = true

[[telemetry.rules]]
topic = "d/{{device}}/telemetry"

[[rules]]
name = "hot"
topics = ["plant/+/temperature"]
alarm = {{ severity = "major", message = "{{{{ topic }}}}: {TURNED}", threshold = {{ above = 80, clear = 75 }} }}

[[rules]]
name = "odd"
topics = ["r/+"]
when = {json.dumps(f"payload == '{TURNED}'")}
actions = [{{ publish = {{ topic = "never" }} }}]

[events]
archive_kinds = "connected,disconnected,published,refused"
"""
COMMANDS = """
rule show hot; rule show odd; rule ls; alarm ls; retained ls; client ls; topic ls; events --archive --since 1h; logs
logs --level info; device show d1; device ls; group ls; telemetry query d1 --from 2026-01-01T00:00:00Z
telemetry rejected; audit; why TURNED; retained get r/TURNED; topic history r/TURNED
acl explain - publish r/TURNED; config show
"""
OWN_COLOURS = re.compile(r"\x1b\[(?:31|32|36|2|0)m")


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    place = tmp_path_factory.mktemp("terminals")
    (place / "martlet.toml").write_text(RULES)
    options = {"data_dir": place / "data", "http": True, "variables": KEYS,
               "arguments": ["-c", str(place / "martlet.toml")],
               "settings": ["http.rate=0", "mqtt.allow_anonymous=true"]}
    with martlet_process.Node(**options) as node:
        call(node, "POST", "/devices", {"id": "d1", "description": TURNED}, 201)
        call(node, "POST", "/groups", {"name": "g1", "description": TURNED}, 201)
        with Client(node, TURNED) as client:
            client.publish(f"r/{TURNED}", ODD, 1, retain=True)
            assert client.subscribe(f"r/{TURNED}") == [0]
            client.publish(f"plant/{TURNED}/temperature", "90", 1)
            client.publish("d/d1/telemetry", json.dumps({"text": ODD}), 1)
            client.publish("d/d1/telemetry", ODD, 1)
            until(lambda: call(node, "GET", "/alarms")["items"], "there is an alarm")
            until(lambda: call(node, "GET", "/telemetry/rejected")["items"], "there is a rejected payload")
            stored = "/devices/d1/telemetry?from=2026-01-01T00:00:00Z"
            until(lambda: call(node, "GET", stored)["items"], "there is a value")
            yield node


def at_terminal(*command):
    """What the program prints at a terminal, on both of its outputs."""
    terminal, its = pty.openpty()
    shown = b""
    program = subprocess.Popen([martlet_process.binary(), *command], stdin=subprocess.DEVNULL, stdout=its, stderr=its,
                               env={**martlet_process.environment(), "TERM": "xterm"})
    os.close(its)
    try:
        while select.select([terminal], [], [], DEADLINE_SECS)[0]:
            try:
                more = os.read(terminal, 65536)
            except OSError:
                break
            if not more:
                break
            shown += more
        program.wait(timeout=DEADLINE_SECS)
    finally:
        program.kill()
        os.close(terminal)
    return shown.decode()


def controls(text):
    """What a terminal would obey, but for ends of lines and the program's own colours."""
    plain = OWN_COLOURS.sub("", text).replace("\r\n", "\n")
    return {letter for letter in plain if unicodedata.category(letter) in ("Cc", "Cf") and letter not in "\n\t"}


@pytest.mark.parametrize("more", [(), ("--json",)], ids=["text", "json"])
def test_nothing_that_others_wrote_controls_the_terminal(node, more):
    wrong, odd = [], 0
    for command in COMMANDS.replace("\n", ";").split(";"):
        words = command.replace("TURNED", TURNED).split()
        if words:
            shown = at_terminal(*words, *more, "--data-dir", node.data_dir)
            odd += "202e" in shown or "u001b" in shown or "1b" in shown
            if controls(shown) or "panicked" in shown:
                wrong.append((command, controls(shown), shown[:500]))
    assert not wrong, wrong
    # Most of them have shown something odd.
    assert odd > 5, odd


def test_nothing_that_others_wrote_controls_the_terminal_of_the_log(node):
    assert "202e" in node.log() and not controls(node.log())
