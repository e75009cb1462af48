"""Puts the parts together: the one folder that knows which class does what, and that reads settings."""
