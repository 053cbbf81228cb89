"""martlet init: what it writes is closed to strangers, and the commands that it prints work."""

import json
import os
import re
import shlex
import shutil
import signal
import socket
import stat
import subprocess

import pytest

import martlet_process
from programs import need
from server_process import free_ports
from test_access import until
from test_registry import martlet

DEADLINE_SECS = 60


def options():
    tls, plain, web = map(str, free_ports(3))
    return ["--tls-port", tls, "--port", plain, "--websocket-port", web, "--http", "off"], plain


def test_the_printed_commands_start_it_and_show_that_it_works(tmp_path):
    more, plain = options()
    said = martlet("init", tmp_path / "a node", "--name", "broker.example", *more)
    lines = said.splitlines()
    start = lines[lines.index("Start it:") + 1].strip()
    prove = lines[lines.index("Test it in another terminal:") + 1].strip()
    add = lines[lines.index("Then add a device:") + 1].strip()

    def shell(command):
        return subprocess.run(["sh", "-c", command], capture_output=True, text=True, cwd=tmp_path,
                              env=martlet_process.environment(), timeout=DEADLINE_SECS)

    node = subprocess.Popen(["sh", "-c", f"exec {start}"], stdout=subprocess.PIPE, text=True, cwd="/",
                            env=martlet_process.environment())
    try:
        for line in node.stdout:
            if line.startswith("See how it is"):
                break
        done = shell(prove)
        assert done.returncode == 0 and "PUBACK" in done.stdout + done.stderr, done.stderr
        added = shell(add)
        assert added.returncode == 0, added.stderr
        tried = re.search(r"^Try it: (.*)$", added.stdout, re.MULTILINE).group(1)
        assert shell(tried).returncode == 0
        stranger = [need("mosquitto_pub", "mosquitto-clients"), "-h", "127.0.0.1", "-p", plain, "-t", "t",
                    "-m", "x"]
        assert subprocess.run(stranger, capture_output=True, timeout=DEADLINE_SECS).returncode != 0
    finally:
        node.send_signal(signal.SIGTERM)
        node.wait(DEADLINE_SECS)


def test_nothing_is_open_to_others_and_nothing_is_written_over(tmp_path):
    more, _ = options()
    told = json.loads(martlet("init", tmp_path / "node", "--json", *more))
    assert {"localhost", "127.0.0.1", "::1"} <= set(told["names"])
    for directory, _, files in os.walk(tmp_path / "node"):
        assert stat.S_IMODE(os.stat(directory).st_mode) == 0o700, directory
        for file in files:
            mode = stat.S_IMODE(os.stat(os.path.join(directory, file)).st_mode)
            assert mode == (0o644 if file.endswith(".crt") else 0o600), file
    text = (tmp_path / "node/martlet.toml").read_text()
    assert told["password"] not in text
    martlet("config", "check", "-c", told["config"])
    said = martlet("init", tmp_path / "node", *more, code=1)
    assert "already exists" in said and (tmp_path / "node/martlet.toml").read_text() == text


def test_a_directory_with_other_files_is_left_alone_unless_it_is_forced(tmp_path):
    more, _ = options()
    for directory in ("full", "empty", "disk"):
        (tmp_path / directory).mkdir()
    (tmp_path / "full/notes.txt").write_text("mine")
    (tmp_path / "disk/lost+found").mkdir()
    said = martlet("init", tmp_path / "full", *more, code=1)
    assert f"{tmp_path / 'full'} is not empty: init would add martlet.toml, certs and data" in said and "--force" in said
    assert os.listdir(tmp_path / "full") == ["notes.txt"]
    martlet("init", tmp_path / "full", "--force", *more)
    assert (tmp_path / "full/notes.txt").read_text() == "mine" and (tmp_path / "full/martlet.toml").is_file()
    assert "already exists" in martlet("init", tmp_path / "full", "--force", *more, code=1)
    martlet("init", tmp_path / "empty", *more)
    martlet("init", tmp_path / "disk", *more)


def page(language, containing):
    """The block of docs/serve.md in that language that has the text in it."""
    text = (martlet_process.ROOT / "docs/serve.md").read_text()
    return next(block for block in re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL) if containing in block)


def test_the_unit_of_the_page_is_one(tmp_path):
    unit = tmp_path / "martlet.service"
    # The program is elsewhere on the machine that tests it.
    unit.write_text(re.sub(r"/usr/local/bin/martlet", martlet_process.binary(),
                           page("ini", "ExecStart=")))
    done = subprocess.run([need("systemd-analyze", "systemd"), "verify", "--man=no", str(unit)], capture_output=True,
                          text=True, timeout=60)
    assert "martlet.service" not in done.stdout + done.stderr, done.stdout + done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="needs another user than that of the tests")
def test_what_the_page_sets_up_by_another_user_runs_as_that_user(tmp_path):
    """Its commands, as nobody in another place; the caller's working directory is not theirs."""
    home = tmp_path / "home"
    for above in [tmp_path, *tmp_path.parents]:
        if above.stat().st_mode & 0o001 == 0:
            above.chmod(above.stat().st_mode | 0o011)
    program = tmp_path / "martlet"
    shutil.copy(martlet_process.binary(), program)
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    install, init, add = [line for line in page("sh", "useradd").splitlines() if re.match("install -d|runuser", line)]
    more, _ = options()

    def theirs(line):
        words = shlex.split(line.replace("/var/lib/martlet", str(home)))
        words = ["nobody" if word == "martlet" and before in ("-u", "-o") else word
                 for before, word in zip(["", *words], words)]
        words = ["nogroup" if before == "-g" else word for before, word in zip(["", *words], words)]
        return [str(program) if word == "martlet" else word for word in words]

    def run(words):
        done = subprocess.run(words, capture_output=True, text=True, cwd=closed, timeout=DEADLINE_SECS,
                              env=martlet_process.environment())
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run(theirs(install))
    told = json.loads(run([*theirs(init), "--json", *more]))
    # `martlet` alone is the user elsewhere on the line, the program here.
    start = re.search("ExecStart=(.*)", page("ini", "ExecStart=")).group(1).replace("/usr/local/bin/", "")
    start = start.replace("/var/lib/martlet", str(home)).split()
    node = subprocess.Popen(["runuser", "-u", "nobody", "--", str(program), *start[1:]], stdout=subprocess.PIPE,
                            text=True, cwd=closed, env=martlet_process.environment())
    try:
        assert any(line.startswith("See how it is") for line in node.stdout)
        assert os.stat(home / "data").st_uid == os.stat(home).st_uid != 0
        run(["sh", "-c", told["commands"][1]])
        assert "Applied to the running node." in run(theirs(add))
    finally:
        node.send_signal(signal.SIGTERM)
        node.wait(DEADLINE_SECS)


@pytest.mark.parametrize("option, value, why", [
    ("--http", "0.0.0.0:99999", "expected HOST:PORT"),
    ("--http", "127.0.0.1:8883", "port 8883 is named twice"),
    ("--port", "8883", "port 8883 is named twice"),
    ("--name", "bad name", "expected a name of a host"),
    ("--name", "", "expected a name of a host"),
    ("--name", "a..example", "expected a name of a host"),
])
def test_what_would_not_start_is_not_written(tmp_path, option, value, why):
    directory = tmp_path / "node"
    assert why in martlet("init", directory, option, value, code=1)
    assert not directory.exists()


def test_a_certificate_may_be_for_addresses_and_wildcards(tmp_path):
    said = martlet("init", tmp_path / "node", "--name", "10.1.2.3", "--name", "*.devices.example", "--name", "fe80::1")
    assert "10.1.2.3, *.devices.example, fe80::1" in said


def test_a_certificate_that_is_revoked_is_refused_by_the_node_that_init_sets_up(tmp_path, start_node):
    more, _ = options()
    martlet("init", tmp_path / "node", *more)
    certs, config = tmp_path / "node/certs", tmp_path / "node/martlet.toml"
    for name in ("device-7", "device-8"):
        martlet("cert", "client", name, "--dir", certs)
    text = config.read_text()
    assert f'client_crl = "{certs}/crl.pem"' in text and not (certs / "crl.pem").exists()
    # With what is written, only one word has to be changed.
    config.write_text(text.replace('client_certificates = "off"', 'client_certificates = "required"'))
    node = start_node(arguments=["-c", str(config)], listen=("mqtts://127.0.0.1:0",), http=None,
                      data_dir=tmp_path / "node/data")

    def is_let_in(name):
        """By its certificate: CONNECT is answered, if only with a refusal for want of a password."""
        done = martlet_process.run("pub", "--cafile", str(certs / "ca.crt"), "--cert", str(certs / f"{name}.crt"), "--key",
                                   str(certs / f"{name}.key"), "-p", str(node.port("mqtts")), "-h", "localhost", "-t", "t",
                                   "-m", "x", "-d")
        return "CONNACK" in done.stdout + done.stderr

    assert is_let_in("device-7"), "an authority that has revoked nothing has no list yet"
    said = martlet("cert", "revoke", "device-7", "--dir", certs)
    assert "reads this list" in said, said
    until(lambda: not is_let_in("device-7"), "it is refused")
    assert is_let_in("device-8")
    # A list that was lost is not an empty one.
    node.terminate()
    assert node.wait() == 0
    (certs / "crl.pem").unlink()
    done = martlet_process.run("config", "check", "-c", str(config))
    assert done.returncode == 1 and "crl.pem" in done.stderr, done


def test_who_revokes_is_told_if_the_node_does_not_read_the_list(tmp_path, start_node):
    martlet("cert", "ca", "--dir", tmp_path / "certs")
    martlet("cert", "server", "localhost", "--dir", tmp_path / "certs")
    for name in ("a", "b", "c"):
        martlet("cert", "client", name, "--dir", tmp_path / "certs")
    certs = tmp_path / "certs"
    settings = [f"tls.certificate={certs}/server.crt", f"tls.key={certs}/server.key", f"tls.client_ca={certs}/ca.crt"]
    asking = [*settings, "tls.client_certificates=required"]
    node = start_node(settings=asking, listen=("mqtts://127.0.0.1:0",))
    revoke = lambda name, *more: martlet("cert", "revoke", name, "--dir", certs, *more)
    said = revoke("a", "--data-dir", node.data_dir)
    assert "does not read this list" in said and f'tls.client_crl = "{certs}/crl.pem"' in said, said
    node = start_node(settings=[*settings, "tls.client_certificates=off"], listen=("mqtts://127.0.0.1:0",))
    assert "requests no client certificates" in revoke("b", "--data-dir", node.data_dir)
    said = json.loads(revoke("c", "--data-dir", str(tmp_path / "nobody"), "--json"))
    assert said["is_read_by_node"] is not True


@pytest.mark.parametrize("url", [
    "mqtt://127.0.0.81", "mqtt://[::1]", "mqtt://0.0.0.0", "mqtt://[::]", "mqtts://127.0.0.81", "mqtts://0.0.0.0",
    "mqtts://localhost", "ws://127.0.0.81/mqtt", "ws://127.0.0.81/other", "wss://127.0.0.81/mqtt", "unix://",
])
def test_the_lines_to_try_lead_to_the_listener_wherever_it_is(short_path, tmp_path, url):
    """Those of serve, and of device add; from another directory, with a certificate that is for that address alone."""
    scheme, rest = url.split("://")
    host, slash, path = rest.partition("/")
    listen = f"unix://{short_path}/socket" if scheme == "unix" else f"{scheme}://{host}:{free_ports(1)[0]}{slash}{path}"
    settings = []
    if scheme.endswith("s") and scheme != "ws":
        martlet("cert", "ca", "--dir", tmp_path / "c")
        martlet("cert", "server", "127.0.0.1" if host == "0.0.0.0" else host, "--dir", tmp_path / "c")
        certificate = next(path for path in (tmp_path / "c").glob("*.crt") if path.name != "ca.crt").relative_to(tmp_path)
        settings = ["--set", f"tls.certificate={certificate}", "--set", f"tls.key={certificate.with_suffix('.key')}"]
    command = [martlet_process.binary(), "serve", "--data-dir", "data", "--http", "off", "--listen", listen,
               "--allow-anonymous", *settings]
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()

    def typed(line):
        return subprocess.run(["sh", "-c", line], capture_output=True, text=True, cwd=elsewhere,
                              env=martlet_process.environment(), timeout=DEADLINE_SECS)

    node = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=tmp_path, env=martlet_process.environment())
    try:
        said = []
        for line in node.stdout:
            said.append(line.strip())
            if line.startswith("See how it is"):
                break
        line = next(line for line in said if " pub" in line)
        done = typed(line)
        assert done.returncode == 0, (line, done.stderr)
        if scheme not in ("mqtts", "wss"):
            # The node's own configuration is on its command line, and device add does not know its certificate.
            added = martlet("device", "add", "d1", "--data-dir", tmp_path / "data")
            line = re.search(r"^Try it: (.*)$", added, re.MULTILINE).group(1)
            done = typed(line)
            assert done.returncode == 0, (line, done.stderr)
    finally:
        node.send_signal(signal.SIGTERM)
        node.wait(DEADLINE_SECS)


def test_the_lines_of_a_clients_certificate_work_as_they_are_printed(tmp_path):
    more, _ = options()
    martlet("init", tmp_path / "a node", *more)
    said = martlet("cert", "client", "dev-7", "--dir", tmp_path / "a node" / "certs")
    add, start, publish = (line.strip() for line in said.partition("next: ")[2].strip().splitlines())

    def shell(command):
        return subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd="/",
                              env=martlet_process.environment(), timeout=DEADLINE_SECS)

    added = shell(add)
    assert added.returncode == 0, added.stderr
    node = subprocess.Popen(["bash", "-c", f"exec {start}"], stdout=subprocess.PIPE, text=True, cwd="/",
                            env=martlet_process.environment())
    try:
        for line in node.stdout:
            if line.startswith("See how it is"):
                break
        done = shell(publish + " -V 5 -d")
        assert done.returncode == 0 and "PUBACK" in done.stdout + done.stderr, (publish, done.stderr)
        # What is done already is not said again.
        config = tmp_path / "a node" / "martlet.toml"
        text = config.read_text().replace('client_certificates = "off"', 'client_certificates = "optional"')
        config.write_text(text.replace("# certificate_user_name", "certificate_user_name"))
        again = martlet("cert", "client", "dev-8", "--dir", tmp_path / "a node" / "certs").partition("next: ")[2]
        lines = again.strip().splitlines()
        assert len(lines) == 2 and " device add " in lines[0] and lines[0].endswith(" dev-8") and " pub " in lines[1], again
    finally:
        node.send_signal(signal.SIGTERM)
        node.wait(DEADLINE_SECS)
