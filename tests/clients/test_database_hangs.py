"""A database that takes connections and answers nothing."""

import concurrent.futures
import json
import time
import urllib.error
import urllib.request

import pytest

import postgres_process
from test_http_api import KEY, KEYS, ask
from test_http_registry import call
from test_sinks import until

CALLERS = 6


@pytest.mark.long
def test_a_database_that_answers_nothing_keeps_callers_waiting_once(start_node):
    """Not each of them for as long as the one before."""
    server = postgres_process.Server()
    try:
        variables = {**KEYS, "MARTLET_REGISTRY__URL": server.new_database()}
        node = start_node(http=True, variables=variables, settings=["http.rate=0"])
        call(node, "POST", "/api/v1/devices", {"id": "pump"})
        server.hang()

        def send(number):
            began = time.monotonic()
            headers = {"X-API-Key": KEY, "Content-Type": "application/json"}
            body = json.dumps({"command": f"c{number}"}).encode()
            path = "/api/v1/devices/pump/commands"
            with pytest.raises(urllib.error.HTTPError) as refused:
                urllib.request.urlopen(urllib.request.Request(node.http_url + path, body, headers), timeout=120)
            assert refused.value.code == 503 and b"cannot be used now" in refused.value.read()
            return time.monotonic() - began

        with concurrent.futures.ThreadPoolExecutor(CALLERS) as pool:
            waited = list(pool.map(send, range(CALLERS)))
        # 5 s for the connection that is there, and 10 s for another one.
        assert max(waited) < 20, waited
        server.go_on()
        until(lambda: ask(node, "/api/v1/devices", headers={"X-API-Key": KEY})[0] == 200, node.log)
        call(node, "POST", "/api/v1/devices/pump/commands", {"command": "open"})
    finally:
        server.go_on()
        server.close()
