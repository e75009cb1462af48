"""What each process of the listener does at its start, whatever it is for."""

import gc
import os
from contextlib import suppress
from pathlib import Path

from app.environment import environment
from app.errors import SettingsError
from app.network import Network
from app.observe import otel
from app.observe.logs import configure_logging
from app.observe.metrics import prepare_metrics
from app.receive.rules_source import secrets_of
from app.runtime.configured import load_usable, with_rules
from app.settings import Settings, load_settings

COLLECT_AFTER_OBJECTS = 10_000  # Python's own 700 would collect every few changes
CGROUPS = Path("/sys/fs/cgroup")


def start_up() -> Settings:
    """Read the configuration, and send the logs where it says.

    Raises:
        ListenerError: The process cannot start; the text says why and what to do.
    """
    try:
        settings = load_settings()
    except SettingsError as error:
        raise with_rules(error) from None
    rules, _ = load_usable(settings)
    hidden = settings.hidden + Network(environment()).hidden + otel.hidden(os.environ) + secrets_of(rules)
    configure_logging(settings.log_level, settings.log_format, hidden)
    prepare_metrics()
    return settings


def settle_memory() -> None:
    """Exempt what was made at the start from garbage collection, and collect less often.

    All modules and models would be traversed again and again, which took an eighth of the time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER_OBJECTS)


def cores() -> int:
    """Count the cores that this process may use; a container or a service may have a part of one.

    Source: https://docs.kernel.org/admin-guide/cgroup-v2.html (cpu.max)
    """
    number = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with suppress(OSError, ValueError):  # no Linux, or no limit
        own = Path("/proc/self/cgroup").read_text().rpartition("0::/")[2].strip()
        quota, period = (CGROUPS / own / "cpu.max").read_text().split()
        number = min(number, int(quota) // int(period))
    return number
