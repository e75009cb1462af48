"""Tests of app.jq."""
