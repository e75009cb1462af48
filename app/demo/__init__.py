"""The demo: the real service between stand-ins for Port and Slack."""
