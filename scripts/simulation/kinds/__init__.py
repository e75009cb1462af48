"""The table of kinds: what there is in the simulated world, and what disturbs it."""

from collections.abc import Mapping

from scripts.simulation.chance import FAULTS, Chance
from scripts.simulation.kinds.acknowledgements import Acknowledgements
from scripts.simulation.kinds.catalog import Catalog
from scripts.simulation.kinds.channels import Channels
from scripts.simulation.kinds.kin.graph import Graph
from scripts.simulation.kinds.kind import Kind
from scripts.simulation.kinds.machine import Machine
from scripts.simulation.kinds.office import Office
from scripts.simulation.kinds.operator import Operator
from scripts.simulation.kinds.pager import Pager
from scripts.simulation.kinds.pages import Pages
from scripts.simulation.kinds.processes import Processes
from scripts.simulation.kinds.rates import Rates
from scripts.simulation.kinds.rules_file import RulesFile
from scripts.simulation.kinds.sockets import Sockets
from scripts.simulation.kinds.webhooks import Webhooks

KINDS: tuple[type[Kind], ...] = (
    Channels,
    Pager,
    Webhooks,
    RulesFile,
    Machine,
    Processes,
    Operator,
    Sockets,
    Acknowledgements,
    Pages,
    Office,
    Graph,
    Rates,
    Catalog,
)
"""All kinds, in the order in which they disturb."""
NAMES = tuple(kind.name for kind in KINDS if kind.name)
ALL_FAULTS: Mapping[str, float] = FAULTS | {
    fault: rate for kind in KINDS for fault, rate in kind.faults.items()
}
SHARE = 0.4
"""In how many worlds a kind is that is not part of each."""


def drawn(chance: Chance) -> frozenset[str]:
    """Draw the kinds that are in a world: few at a time, so that nights stay quick, and each pair meets."""
    return frozenset(name for name in NAMES if chance.stream(f"kind {name}").random() < SHARE)
