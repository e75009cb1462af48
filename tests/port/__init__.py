"""Tests of app.port."""
