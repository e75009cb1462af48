#!/usr/bin/env python3
"""Makes in Port what the listener needs: the same as ``python -m app bootstrap``. See its ``--help``."""

import sys
from pathlib import Path


def main() -> None:
    """Run the command with this script's arguments; outside the virtual environment say so, and end."""
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    try:
        from app import cli  # noqa: PLC0415 - it can be found only now, and its absence has an answer
    except ImportError as error:
        sys.exit(
            f"This needs the project's virtual environment ({error}): run .venv/bin/python"
            " scripts/bootstrap.py, or ./scripts/run first, which makes it."
        )
    sys.argv.insert(1, "bootstrap")
    cli.main()


if __name__ == "__main__":
    main()
