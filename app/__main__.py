"""``python -m app``."""

import gc

gc.disable()  # imports leave nothing to collect, and are looked through again and again: a fifth of the start

from app.cli import main  # noqa: E402

main()
