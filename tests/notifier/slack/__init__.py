"""Tests of app.notifier.slack."""
