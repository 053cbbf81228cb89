"""Files that the program writes by a name that it is given, in a directory where all may write: a link that another
user has left there is not followed, and neither is one on the way."""

import os
import resource
import subprocess

import pytest

import martlet_process
from server_process import free_port

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root leaves links of others")
DEADLINE_SECS = 60
NOBODY = 65_534
SERVE = "serve --http off --listen mqtt://127.0.0.1:0 --data-dir PLACE/data"
# What is written, in PLACE/open, and whether there is something already where the link points to.
WRITES = {
    "a new password file": ("passwd -c -b LINK ann 0123456789", False),
    "a password file": ("passwd -b LINK ann 0123456789", True),
    "a password file by `user`": ("user add ann --generate --file LINK", True),
    "a translated configuration": ("import mosquitto PLACE/mosquitto.conf --out LINK", False),
    "a backup": ("backup create LINK --data-dir PLACE/stopped", False),
    "the log": (f"{SERVE} --set log.file=LINK", True),
    "a new log": (f"{SERVE} --set log.file=LINK", False),
    "the log of mosquitto.conf": ("serve --http off --data-dir PLACE/data --mosquitto-conf PLACE/log.conf", True),
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("links")
    (place / "open").mkdir()
    (place / "open").chmod(0o1777)
    (place / "mosquitto.conf").write_text("listener 1883 127.0.0.1\n")
    with martlet_process.Node(data_dir=place / "stopped"):
        pass
    return place


@pytest.mark.parametrize("what, on_the_way", [(what, on_the_way) for what in WRITES for on_the_way in (False, True)])
def test_a_link_of_another_user_is_not_followed(place, what, on_the_way):
    command, is_there = WRITES[what]
    name = f"{what.replace(' ', '-').replace('`', '')}-{on_the_way}"
    target = place / name / "file"
    target.parent.mkdir()
    if is_there:
        target.write_text("")
    link = place / "open" / name
    link.symlink_to(target.parent if on_the_way else target)
    os.lchown(link, NOBODY, NOBODY)
    path = link / "file" if on_the_way else link
    (place / "log.conf").write_text(f"listener {free_port()} 127.0.0.1\nallow_anonymous true\nlog_dest file {path}\n")
    words = [word.replace("LINK", str(path)).replace("PLACE", str(place)) for word in command.split()]
    done = subprocess.run([martlet_process.binary(), *words], env=martlet_process.environment(), capture_output=True,
                          text=True, timeout=DEADLINE_SECS, input="")
    assert done.returncode == 1 and name in done.stderr, done
    assert (target.read_text() == "") if is_there else not target.exists(), done


def test_an_own_link_is_followed(place):
    target, link = place / "own", place / "open" / "own"
    target.write_text("")
    link.symlink_to(target)
    done = martlet_process.run("passwd", "-b", str(link), "ann", "0123456789")
    assert done.returncode == 0 and "ann:" in target.read_text(), done


DIRECTORIES = {
    "data": SERVE.replace("PLACE/data", "LINK"), "certificates": "cert ca --dir LINK", "init": "init LINK",
    "man": "man LINK", "agent": "agent --queue LINK --topic t"}


@pytest.mark.parametrize("what", DIRECTORIES)
def test_a_directory_that_is_a_link_to_nothing_is_named(place, what):
    link = place / "open" / f"nothing-{what}"
    link.symlink_to(place / "nothing")
    words = [word.replace("LINK", str(link)) for word in DIRECTORIES[what].split()]
    done = subprocess.run([martlet_process.binary(), *words], env=martlet_process.environment(), capture_output=True,
                          text=True, timeout=DEADLINE_SECS, stdin=subprocess.DEVNULL)
    says = f"{link} is a symbolic link to {place}/nothing, which does not exist"
    assert done.returncode == 1 and says in done.stderr, done


@pytest.mark.parametrize("what", DIRECTORIES)
def test_a_directory_that_another_user_has_linked_is_not_used(place, what):
    """Root would write, for example, the key of a certificate authority where another user wants it."""
    target, link = place / f"target-{what}", place / "open" / f"d-{what}"
    target.mkdir()
    link.symlink_to(target)
    os.lchown(link, NOBODY, NOBODY)
    words = [word.replace("LINK", str(link)) for word in DIRECTORIES[what].split()]
    done = subprocess.run([martlet_process.binary(), *words], env=martlet_process.environment(), capture_output=True,
                          text=True, timeout=DEADLINE_SECS, stdin=subprocess.DEVNULL)
    assert done.returncode == 1 and str(link) in done.stderr and list(target.iterdir()) == [], done


@pytest.mark.parametrize("words", [
    ["passwd", "-b", "/dev/zero", "ann", "0123456789"], ["cert", "show", "/dev/zero"],
    ["sub", "-p", "1", "-t", "a", "--cafile", "/dev/zero"]])
def test_no_file_is_read_without_end(words):
    few = lambda: resource.setrlimit(resource.RLIMIT_AS, (2_000_000_000, 2_000_000_000))
    done = subprocess.run([martlet_process.binary(), *words], capture_output=True, text=True, timeout=60,
                          preexec_fn=few, env=martlet_process.environment())
    assert 0 < done.returncode < 100 and "memory" not in done.stderr and "larger than" in done.stderr, done
