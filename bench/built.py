"""Where Cargo puts what it builds."""

import os
import pathlib

ROOT = pathlib.Path(__file__).resolve().parent.parent

# As Cargo has it: a path that is not whole begins at the working directory.
TARGET = pathlib.Path(os.path.abspath(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target"))
