"""Logins that are remembered (auth.remember_secs), and forgetting one of them, by HTTP and by command."""

import json

import pytest

import martlet_process
from test_hook import HookServer, let_in, node_of
from test_http_registry import call, in_a_file


@pytest.fixture
def hook():
    server = HookServer()
    yield server
    server.close()


@in_a_file
def test_one_remembered_login_is_forgotten(start_node, hook, variables):
    node = node_of(start_node, hook, "http.rate=0", http=True, variables=variables)
    assert let_in(node) and let_in(node, client="c2") and len(hook.asked) == 2
    hook.status = 401
    assert let_in(node), "it is remembered"
    forget = lambda query, **options: call(node, "DELETE", f"/api/v1/auth/remembered?{query}", **options)
    assert forget("user_name=key&client_id=other") == {"forgotten": 0}
    assert forget("user_name=key&client_id=c1") == {"forgotten": 1}
    assert not let_in(node) and let_in(node, client="c2")
    for query in ("", "user_name=key", "client_id=c1", "user_name=key&client_id=c1&more=1"):
        forget(query, expect=400)
    viewer = call(node, "POST", "/api/v1/keys", {"name": "v", "scopes": ["viewer"]})["key"]
    forget("user_name=key&client_id=c2", key=viewer, expect=403)
    assert let_in(node, client="c2")
    assert "/api/v1/auth/remembered" in json.dumps(call(node, "GET", "/api/v1/audit"))


@in_a_file
def test_a_command_forgets_one_login(start_node, hook, variables):
    node = node_of(start_node, hook, http=True, variables=variables)
    forget = lambda *words: martlet_process.run("client", "forget", "--data-dir", node.data_dir, *words)
    assert let_in(node) and let_in(node, client="c2")
    hook.status = 401
    told = forget("c1", "--user", "key")
    assert (told.returncode, told.stdout) == (0, "c1: its login as key is forgotten; the next one is checked again\n"), told
    assert not let_in(node) and let_in(node, client="c2")
    told = forget("--json", "c2", "--user", "key")
    assert json.loads(told.stdout) == {"forgotten": 1} and not let_in(node, client="c2")
    told = forget("c2")
    assert told.returncode == 1 and "no login of the user c2 with the Client Identifier c2 is remembered" in told.stderr


@in_a_file
def test_who_sees_one_team_forgets_its_own_alone(start_node, hook, variables):
    node = node_of(start_node, hook, "http.rate=0", http=True, variables=variables)
    call(node, "POST", "/api/v1/teams", {"name": "apart", "owns_tenant": True})
    device = call(node, "POST", "/api/v1/devices", {"id": "c1", "team": "apart"})
    key = call(node, "POST", "/api/v1/keys", {"name": "k", "scopes": ["administrator"], "team": "apart"})["key"]
    assert let_in(node) and let_in(node, "c1@apart", device["secret"])
    forget = lambda query, **options: call(node, "DELETE", f"/api/v1/auth/remembered?{query}", **options)["forgotten"]
    assert forget("user_name=key&client_id=c1", key=key) == 0
    assert forget("user_name=c1&client_id=c1", key=key) == 1
    assert forget("user_name=key&client_id=c1") == 1
