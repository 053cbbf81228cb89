"""Scripts of the repository: they find what Cargo has built wherever it puts that, and say what they need."""

import ast
import os
import pathlib
import subprocess
import sys

import pytest

import martlet_process

ROOT = martlet_process.ROOT
BENCHES = sorted(path for path in (ROOT / "bench").iterdir()
                 if path.is_file() and path.read_text().startswith("#!/usr/bin/env python3"))


def without(*names):
    return {name: value for name, value in os.environ.items() if name not in names}


def test_the_program_is_looked_for_where_cargo_puts_it(tmp_path):
    program = tmp_path / "debug/martlet"
    program.parent.mkdir()
    program.write_text("")
    environment = {**without("MARTLET_BIN"), "CARGO_TARGET_DIR": str(tmp_path)}
    found = subprocess.run([sys.executable, "-c", "import martlet_process; print(martlet_process.binary())"],
                           cwd=ROOT / "tests", env=environment, capture_output=True, text=True)
    assert found.stdout.strip() == str(program), found.stderr
    script = "import('./martlet.js').then((all) => all.startNode()).catch((error) => console.log(error.message))"
    program.unlink()
    found = subprocess.run(["node", "--input-type=module", "-e", script], cwd=ROOT / "tests/node", env=environment,
                           capture_output=True, text=True)
    assert found.stdout.startswith(f"{program} is not there"), found.stderr


def test_where_the_tests_are_called_from_does_not_matter(tmp_path):
    program = tmp_path / "other/debug/martlet"
    program.parent.mkdir(parents=True)
    program.symlink_to(martlet_process.binary())
    # Nothing but the name of the program is asked for.
    done = subprocess.run([ROOT / "tests/run", "clients/test_scripts.py", "-k", "is_there", "-q"], cwd=tmp_path,
                          env={**without("MARTLET_BIN"), "CARGO_TARGET_DIR": "other", "EXPECTED": str(program.resolve())},
                          capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif("EXPECTED" not in os.environ, reason="called by the test above")
def test_it_is_there():
    assert martlet_process.binary() == os.environ["EXPECTED"]


@pytest.mark.parametrize("script", BENCHES, ids=lambda path: path.name)
def test_benches_find_what_cargo_has_built(script):
    tree = ast.parse(script.read_text())
    words = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    fixed = [word for word in words if (word == "target" or "target/" in word) and word != ast.get_docstring(tree, False)]
    assert fixed == []
    done = subprocess.run([sys.executable, script, "--help"], env={**os.environ, "CARGO_TARGET_DIR": "/none"},
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_setup_names_everything_that_is_missing_at_once(tmp_path):
    """Somebody else than root, with an empty path."""
    (tmp_path / "bash").symlink_to("/bin/bash")
    for program in ("id", "sort", "env"):
        (tmp_path / program).symlink_to(pathlib.Path("/usr/bin", program))
    (tmp_path / "id").unlink()
    (tmp_path / "id").write_text("#!/bin/bash\necho 1000\n")
    (tmp_path / "id").chmod(0o755)
    done = subprocess.run(["/bin/bash", ROOT / "scripts/setup", "test"], env={"PATH": str(tmp_path)}, capture_output=True,
                          text=True)
    assert done.returncode == 1
    for name in ("build-essential", "curl", "git", "mosquitto-clients", "openssl", "python3", "strace", "Type: sudo apt-get",
                 "missing: Rust", "missing: Node.js 20 or newer (found: none)", "missing: npm"):
        assert name in done.stderr, done.stderr
