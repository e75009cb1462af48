"""Tests of the comparison with Port."""
