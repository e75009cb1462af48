"""The commands about rules."""

from app.cli.rules.commands import rules

__all__ = ["rules"]
