"""Runs users' jq safely."""
