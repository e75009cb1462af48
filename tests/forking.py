"""Processes forked from one that has imported the program: a start takes 10 ms instead of a second."""

import multiprocessing

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["tests.acceptance.dispatching", "tests.store.writers"])
