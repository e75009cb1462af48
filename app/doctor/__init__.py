"""Checks each step from Port to Slack."""
