"""Tests of app.deliver."""
