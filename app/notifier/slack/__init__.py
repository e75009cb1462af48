"""Slack, by an incoming webhook or a bot token."""
