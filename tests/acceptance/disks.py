"""A small disk of its own for a process, which can be made full."""

import shutil
import subprocess
from pathlib import Path

MOUNT = 'mount -t tmpfs -o size=1m tmpfs "$0" && exec "$@"'


def can_mount(folder: Path) -> bool:
    """Tell whether this machine lets us mount a file system in a namespace of our own."""
    unshare = shutil.which("unshare")
    return unshare is not None and not subprocess.call([unshare, "-rm", "sh", "-c", MOUNT, folder, "true"])
