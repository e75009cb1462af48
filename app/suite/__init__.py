"""Suites: tests of a rules file, as files, run by the real parts of the listener in virtual time."""
