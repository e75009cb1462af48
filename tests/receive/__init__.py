"""Tests of app.receive."""
