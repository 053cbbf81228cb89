"""Rules and alarms that are put to `martlet why`: alarms that are not raised or published, and what a rule has made of the
last message on a topic."""

import json

from paho_client import Client
from test_access import until
from test_why_faults_more import configured

HOT = """
[[rules]]
name = "hot"
topics = ["t/#"]
[rules.alarm]
threshold = { above = 80, clear = 75 }
"""

SINK = """
[[sinks.file]]
name = "al"
filters = ["iotflow/system/alarms"]
path = "PATH"
"""


def test_an_alarm_is_published_though_no_more_messages_may_be_retained(tmp_path):
    lines = tmp_path / "alarms.ndjson"
    with configured(tmp_path, HOT + SINK.replace("PATH", str(lines)), settings=["limits.retained_messages=2"]) as node, \
            Client(node.node, "gauge") as gauge:
        for number in range(2):
            gauge.publish(f"r/{number}", "1", retain=True, qos=1)
        gauge.publish("t/1", "99")
        until(lambda: lines.exists() and "hot: 99 is above 80" in lines.read_text(), "the alarm is published")
        warnings = node.run("status")
        assert "without the Retain flag: limits.retained_messages" in warnings, warnings


VIBRATION = """
[[rules]]
name = "vibration"
topics = ["line/#"]
[rules.alarm]
for_secs = 300
threshold = { above = 10 }
"""


def test_the_condition_of_an_alarm_is_not_true_for_long_enough(tmp_path):
    with configured(tmp_path, VIBRATION) as node, Client(node.node, "gauge") as gauge:
        gauge.publish("line/m4/vib", "20")
        told = node.headline("alarm-silent", "the alarm of the rule vibration, about line/m4/vib, is not raised yet", "vibration")
        assert "it must be true for 300 s (for_secs)" in told["sentence"], told
        node.bash(told)
        gauge.publish("line/m4/vib", "3")
        told = node.headline("alarm-silent", "about line/m4/vib, was not raised: its condition was true for", "vibration",
                             "line/m4/vib")
        assert "and then false; it must be true for 300 s (for_secs)" in told["sentence"], told
        node.bash(told)


OVERHEAT = """
[[rules]]
name = "overheat"
topics = ["line/+/temp"]
[rules.alarm]
threshold = { above = 80, value = "payload.temp" }
inhibited_by = ["stopped"]
[[rules]]
name = "stopped"
topics = ["line/+/state"]
[rules.alarm]
condition = { raise_when = "payload == 'off'" }
"""


def test_a_value_of_an_alarm_is_missing_in_the_message_that_is_asked_about(tmp_path):
    with configured(tmp_path, OVERHEAT) as node, Client(node.node, "gauge") as gauge:
        gauge.publish("line/m3/temp", '{"temperature": 99}')
        told = node.headline("rule-unmatched", "lacks the field temp, which the rule overheat names; the payload has temperature",
                             "overheat", "line/m3/temp")
        node.bash(told)
        gauge.publish("line/m2/temp", '{"temp": 99}')
        until(lambda: "m2" in node.run("alarm", "ls"), "the alarm of m2 is raised")
        # It is still the answer about that topic.
        node.headline("rule-unmatched", "lacks the field temp", "overheat", "line/m3/temp")
        gauge.publish("line/m3/temp", '{"temp": 20}')
        node.over("overheat", "line/m3/temp")


DOORBELL = """
[[rules]]
name = "doorbell"
topics = ["door/+/state"]
when = "payload.state == 'Open'"
[[rules.actions]]
command = { device = "d5", command = "ring" }
"""


def test_the_condition_of_a_rule_is_false_for_the_topic_that_is_asked_about(tmp_path):
    with configured(tmp_path, DOORBELL) as node, Client(node.node, "gauge") as gauge:
        gauge.publish("door/other/state", '{"state": "Open"}')
        node.headline("rule-failing", "there is no device d5", "doorbell")
        gauge.publish("door/pump-1/state", '{"state": "open", "token": "hidden"}')
        told = node.headline("rule-unmatched", "the condition of the rule doorbell was false for the last message on "
                             "door/pump-1/state", "doorbell", "door/pump-1/state")
        assert "state is \"open\"; the condition is payload.state == 'Open'" in told["sentence"], told
        assert "hidden" not in json.dumps(told), told
        node.bash(told)
