"""Tests of app.observe."""
