"""Decides by rules: pure, without I/O, clock or logging."""
