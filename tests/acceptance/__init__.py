"""Tests that start, stop and kill real processes."""
