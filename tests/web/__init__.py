"""Tests of app.web."""
