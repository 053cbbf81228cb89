"""Webhooks by /api/v1/webhooks: added, changed, shown and removed while the node runs."""

import json

from paho_client import Client
from test_connections import ask, options
from test_http_registry import call
from test_sinks import until
from test_tenants import make_teams
from test_webhooks import receiver  # noqa: F401 (a fixture)

WEBHOOK = "/api/v1/webhooks/crm"


def settings(receiver, **more):  # noqa: F811
    return {"url": receiver.url, "filters": ["plant/#"], **more}


def publish(node, *messages):
    with Client(node, "pump") as client:
        for topic, payload in messages:
            client.publish(topic, payload)


def test_a_webhook_is_added_changed_and_removed_while_the_node_runs(start_node, tmp_path, receiver):  # noqa: F811
    node = start_node(**options(tmp_path))
    call(node, "PUT", "/api/v1/secrets/crm-token", {"value": "known-token-0123456789"})
    headers = ["Authorization: Bearer ${secret:crm-token}"]
    status, added = ask(node, "PUT", WEBHOOK, settings(receiver, headers=headers, notes={"by": "me"}))
    assert status == 201 and (added["name"], added["team"], added["origin"]) == ("crm", None, "api"), added
    publish(node, ("plant/1", "one"))
    until(lambda: receiver.payloads() == ["one"], node.log)
    assert receiver.received[0][1]["authorization"] == "Bearer known-token-0123456789"
    # PUT replaces all settings; what waits stays.
    receiver.answer = lambda message: (503, {}, b"")
    publish(node, ("plant/1", "waits"))
    until(lambda: len(receiver.tried) >= 2, node.log)
    assert ask(node, "PUT", WEBHOOK, settings(receiver, filters=["other/#"]))[0] == 200
    receiver.answer = lambda message: (204, {}, b"")
    publish(node, ("plant/1", "no"), ("other/1", "two"))
    until(lambda: receiver.payloads() == ["one", "waits", "two"], lambda: f"{receiver.payloads()}\n{node.log()}")
    assert "authorization" not in receiver.received[-1][1]
    node.process.kill()
    node.wait()
    node = start_node(**options(tmp_path))
    status, shown = ask(node, "GET", WEBHOOK)
    assert status == 200 and shown["settings"]["filters"] == ["other/#"], shown
    assert [one["name"] for one in ask(node, "GET", "/api/v1/webhooks")[1]["items"]] == ["crm"]
    publish(node, ("other/1", "after the restart"))
    # The kill may bring the two before it once more.
    until(lambda: receiver.payloads()[-1] == "after the restart", node.log)
    assert ask(node, "DELETE", WEBHOOK)[0] == 204
    for path in (WEBHOOK, "/api/v1/integrations/webhook/crm"):
        assert ask(node, "GET", path)[0] == 404
    assert ask(node, "DELETE", WEBHOOK)[0] == 404

    def changes():
        actions = [one["action"] for one in ask(node, "GET", "/api/v1/audit")[1]["items"]]
        return sorted(one for one in actions if one.startswith("webhook."))

    until(lambda: changes() == ["webhook.add", "webhook.change", "webhook.remove"], lambda: changes())


def test_settings_that_are_none_are_refused(start_node, tmp_path, receiver):  # noqa: F811
    node = start_node(**options(tmp_path))
    for more, says in [({"url": "ftp://x/"}, "http"), ({"filters": ["a/#/b"]}, "a/#/b"), ({"filterz": ["a"]}, "filterz"),
                       ({"signing_key": "known-signing-key-0123456789"}, "secret"),
                       ({"headers": ["Authorization: Bearer known-token"]}, "secret"),
                       ({"url": "http://u:known-password@127.0.0.1:9/"}, "${secret:NAME}")]:
        status, told = ask(node, "PUT", WEBHOOK, settings(receiver, **more))
        assert status == 422 and says in json.dumps(told), (more, told)
        assert "known-" not in json.dumps(told) + node.log()
    assert ask(node, "GET", "/api/v1/webhooks")[1]["items"] == []


def test_a_team_has_webhooks_of_its_own_tenant(start_node, tmp_path, receiver):  # noqa: F811
    node = start_node(**options(tmp_path))
    teams = make_teams(node)
    north, south = teams["north"]["key"], teams["south"]["key"]
    added = call(node, "PUT", WEBHOOK, settings(receiver), key=north)
    assert added["team"] == teams["north"]["id"]
    call(node, "GET", WEBHOOK, key=south, expect=404)
    call(node, "DELETE", WEBHOOK, key=south, expect=404)
    call(node, "PUT", f"{WEBHOOK}2?team=south", settings(receiver), key=north, expect=403)
    for name in ("south", "north"):
        made = teams[name]["pump"]
        with Client(node, "pump").credentials(made["user_name"], made["secret"]) as client:
            client.publish("plant/1", name)
    until(lambda: receiver.payloads() == ["north"], lambda: f"{receiver.payloads()}\n{node.log()}")


def test_a_webhook_that_was_paused_and_is_added_again_is_not_paused(start_node, tmp_path, receiver):  # noqa: F811
    node = start_node(**options(tmp_path))
    assert ask(node, "PUT", WEBHOOK, settings(receiver))[0] == 201
    shown = "/api/v1/integrations/webhook/crm"
    assert ask(node, "POST", f"{shown}/pause")[0] < 300
    # A change leaves it paused.
    assert ask(node, "PUT", WEBHOOK, settings(receiver, notes={"by": "me"}))[0] == 200
    until(lambda: ask(node, "GET", shown)[1]["state"] == "paused", node.log)
    assert ask(node, "DELETE", WEBHOOK)[0] == 204
    assert ask(node, "PUT", WEBHOOK, settings(receiver))[0] == 201
    publish(node, ("plant/1", "one"))
    until(lambda: receiver.payloads() == ["one"], lambda: f"{ask(node, 'GET', shown)}\n{node.log()}")
