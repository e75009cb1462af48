"""Tests of app.notifier."""
