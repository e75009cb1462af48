"""``python -m app``."""

from app.cli import main

main(program="python -m app")
