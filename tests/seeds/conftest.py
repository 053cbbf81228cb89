"""The tests of the documents use what the tests with clients have."""

import pathlib
import sys

TESTS = pathlib.Path(__file__).parent.parent
sys.path[:0] = [str(TESTS), str(TESTS / "clients")]
