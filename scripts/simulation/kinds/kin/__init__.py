"""Entities that depend on one another, and what those are told who hear of them."""
