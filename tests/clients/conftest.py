"""What the black-box tests share: nodes to talk to and the tools they need."""

import pathlib
import subprocess
import sys
import tempfile

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import martlet_process  # noqa: E402
import postgres_process  # noqa: E402

# Both transports, with statistics often enough to be waited for.
SETTINGS = ["mqtt.sys_interval_secs=1", "log.level=warn"]
LISTEN = ("mqtt://127.0.0.1:0", "ws://127.0.0.1:0/mqtt")


@pytest.fixture(scope="session")
def node():
    """A node that tests share; they keep apart by topics and Client Identifiers of their own."""
    with martlet_process.Node(settings=SETTINGS, listen=LISTEN, http=True) as shared:
        yield shared
        assert shared.process.poll() is None, f"the node ended:\n{shared.log()}"


@pytest.fixture
def start_node():
    """Starts nodes of a test's own: start_node(settings=[...], listen=[...]). They are killed at its end."""
    started = []

    def start(**options):
        one = martlet_process.Node(**options)
        started.append(one)
        return one

    yield start
    for one in started:
        one.kill()


@pytest.fixture
def short_path():
    """A directory for a socket, whose path must not be long, wherever temporary files lie."""
    with tempfile.TemporaryDirectory(prefix="martlet-", dir="/tmp") as path:
        yield pathlib.Path(path)


@pytest.fixture
def resolving(tmp_path):
    """Variables of a node for which a name has these addresses in turn: resolving(NAME, "ADDRESS ADDRESS")."""
    def variables(name, addresses):
        library = tmp_path / "resolve.so"
        source = pathlib.Path(__file__).with_name("resolve.c")
        subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
        return {"LD_PRELOAD": str(library), "RESOLVE_NAME": name, "RESOLVE_ADDRESSES": addresses}

    return variables


@pytest.fixture(scope="session")
def postgres():
    """A server of PostgreSQL that tests share, each with a database of its own."""
    server = postgres_process.Server()
    yield server
    server.close()


@pytest.fixture(params=["sqlite", "postgres"])
def variables(request):
    """What a node is told by its environment: an API key, and where its tables are."""
    from test_http_api import KEYS

    if request.param == "sqlite":
        return dict(KEYS)
    return {**KEYS, "MARTLET_REGISTRY__URL": request.getfixturevalue("postgres").new_database()}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    """What `martlet why` advised in a test that has passed was tried in it, see why_faults.py."""
    faults = sys.modules.get("why_faults")
    if faults:
        faults.Commands.begin()
    outcome = yield
    if faults:
        faults.Commands.check()
    return outcome


@pytest.fixture
def name(request):
    """A name that no other test uses, for topics and Client Identifiers."""
    return "".join(c if c.isalnum() else "-" for c in request.node.name)[:60]
