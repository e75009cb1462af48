"""Tests of app.port.setup."""
