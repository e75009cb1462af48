"""Tests of app.clicks."""
