"""The tests."""

import os

from coverage import Coverage

if "PYTEST_XDIST_WORKER" in os.environ and (measuring := Coverage.current()):
    measuring.stop()  # a worker's imports would take twice as long; the controller measures them
