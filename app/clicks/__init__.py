"""Clicks in Slack: over a socket or by HTTP, who may do what, and what becomes of each."""
