"""The image's HEALTHCHECK: asks the listener's /healthz, at the host and port that its command line names."""

import sys
import urllib.request
from pathlib import Path

EVERYWHERE = {"0.0.0.0", "::", ""}  # noqa: S104 - nothing is bound here


def address(arguments: list[str]) -> str:
    """Return the URL of /healthz of a listener with this command line; the last of an option counts."""
    options = {"--host": "127.0.0.1", "--port": "8080"}
    for name, following in zip(arguments, [*arguments[1:], ""], strict=True):
        option, equals, value = name.partition("=")
        if option in options:
            options[option] = value if equals else following
    host = "127.0.0.1" if options["--host"] in EVERYWHERE else options["--host"]
    return f"http://{f'[{host}]' if ':' in host else host}:{options['--port']}/healthz"


if __name__ == "__main__":
    # The first process of the container is the listener, or an init with the listener's command line.
    process = sys.argv[1] if sys.argv[1:] else "1"
    command = Path(f"/proc/{process}/cmdline").read_bytes().decode().rstrip("\0").split("\0")
    # No proxy of the environment's: the listener is in this container.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    opener.open(address(command), timeout=4).close()
