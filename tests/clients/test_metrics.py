"""The Prometheus page: its form, what is on it, and that it counts."""

import re
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

from paho_client import Client
from programs import need
from test_operation import get


def page_of(node):
    """The metrics of a node that was asked for something before."""
    get(node, "/health/live")
    return get(node, "/metrics")


def test_requests_by_http_are_counted(start_node):
    node = start_node(http=True)
    for path in ["/health/live", "/health/live", "/nowhere"]:
        get(node, path)
    _, _, page = get(node, "/metrics")
    assert 'martlet_http_requests_total{method="GET",status="200"} 2\n' in page
    assert 'martlet_http_requests_total{method="GET",status="404"} 1\n' in page
    assert 'martlet_http_request_duration_seconds_count{method="GET"} 3\n' in page


def test_each_metric_has_a_meaning_on_its_page(start_node):
    page = (Path(__file__).parents[2] / "docs/metrics.md").read_text()
    _, _, metrics = page_of(start_node(http=True))
    kinds = re.findall(r"^# TYPE (\w+) (\w+)$", metrics, re.MULTILINE)
    names = {name for name, _ in kinds}
    of_shards = {name for name in names if name.startswith("martlet_shard_")}
    assert of_shards and {name.replace("shard_", "", 1) for name in of_shards} <= names
    rows = {f"| `{name}` | {kind} | " for name, kind in kinds if name not in of_shards}
    assert len(rows) > 40
    assert {row for row in rows if row not in page} == set()


def test_dashboard_and_alerts_name_metrics_that_there_are(start_node):
    _, _, page = page_of(start_node(http=True))
    known = set(re.findall(r"^# TYPE (\w+) \w+$", page, re.MULTILINE))
    assert {"process_open_fds", "process_max_fds", "process_cpu_seconds_total"} <= known
    for file in ["grafana/martlet.json", "prometheus/alerts.yml"]:
        text = (Path(__file__).parents[2] / "deploy" / file).read_text()
        named = set(re.findall(r"\bmartlet_\w+", text))
        assert len(named) > 8 and named <= known, named - known
        reasons = set(re.findall(r'reason!?="(\w+)"', text.replace("\\", "")))
        assert reasons <= set(re.findall(r'reason="(\w+)"', page))


def test_metrics_count_messages(start_node, name):
    node = start_node(http=True)
    with Client(node, name) as client:
        client.subscribe(name, 1)
        for i in range(3):
            client.publish(name, str(i))
            client.receive()
        status, headers, page = get(node, "/metrics")
    assert status == 200
    assert headers["Content-Type"].startswith("text/plain; version=0.0.4")
    values = dict(re.findall(r"^(martlet_\w+(?:\{[^}]*\})?) (\S+)$", page, re.M))
    assert values["martlet_publishes_received_total"] == "3"
    assert values["martlet_publishes_sent_total"] == "3"
    assert values["martlet_connections"] == "1"
    told = [int(value) for name, value in values.items() if name.startswith("martlet_delivery_latency_seconds_count")]
    assert sum(told) == 3, "each was sent at once"
    assert values['martlet_messages_dropped_total{reason="client_away"}'] == "0"


def test_the_accounts_balance(start_node, name):
    node = start_node(http=True, settings=["mqtt.sys_interval_secs=0"])
    with Client(node, name) as client:
        client.subscribe(name, 2)
        for i in range(51):
            client.publish(name, str(i), i % 3)
        for _ in range(51):
            client.receive()
    status, _, page = get(node, "/metrics")
    assert status == 200
    values = dict(re.findall(r"^martlet_(\w+) (\d+)$", page, re.M))
    drops = re.findall(r"^martlet_messages_dropped_total\{.*\} (\d+)$", page, re.M)
    assert len(drops) > 5
    assert int(values["matched_total"]) == 51
    ended = int(values["delivered_total"]) + int(values["expired_total"]) + sum(map(int, drops))
    assert ended + int(values["held"]) == 51


def test_the_page_of_metrics_is_in_the_form_that_is_asked_for(start_node):
    node = start_node(http=True)

    def page(accept):
        request = urllib.request.Request(f"{node.http_url}/metrics", headers={"Accept": accept} if accept else {})
        with urllib.request.urlopen(request) as answer:
            assert "Accept" in answer.headers["Vary"]
            return answer.headers["Content-Type"], answer.read().decode()

    kind, plain = page("text/plain")
    assert kind.startswith("text/plain; version=0.0.4") and "# EOF" not in plain and "# UNIT" not in plain
    kind, open_metrics = page("application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.5,*/*;q=0.1")
    assert kind.startswith("application/openmetrics-text; version=1.0.0") and open_metrics.endswith("# EOF\n")
    assert page(None)[0].startswith("text/plain") and page("*/*")[0].startswith("text/plain")
    samples = {re.match(r"\w+", line).group() for line in plain.splitlines() if line[0] != "#"}
    described = {line.split()[2]: line for line in plain.splitlines() if line.startswith("# HELP ")}
    types = {line.split()[2]: line.split()[3] for line in plain.splitlines() if line.startswith("# TYPE ")}
    for sample in samples:
        family = re.sub(r"_(bucket|sum|count)$", "", sample) if sample not in described else sample
        assert family in described and len(described[family].split(" ", 3)[3]) > 3, sample
        assert (types[family] == "counter") == sample.endswith("_total"), sample
    # The samples are the same in both.
    names = {re.match(r"\w+", line).group() for line in open_metrics.splitlines() if line[0] != "#"}
    assert {name for name in names ^ samples if "_http_" not in name} == set(), "requests are counted meanwhile"
    checked = subprocess.run([need("promtool", "prometheus"), "check", "metrics"], input=plain, capture_output=True, text=True)
    assert "no help text" not in checked.stderr + checked.stdout and checked.returncode in (0, 3), checked
