"""Reading /metrics."""

from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import Service

TOKEN = "an-admin-token-4711"


@dataclass(frozen=True)
class Numbers:
    """What /metrics said.

    Attributes:
        text: As it came.
        families: The metrics' names, a counter's with ``_total``.
    """

    text: str
    families: frozenset[str]
    _samples: dict[tuple[str, frozenset[tuple[str, str]]], float]

    def __call__(self, name: str, **labels: str) -> float:
        """Return a sample; 0 if it is not there. ``port_listener_`` is put before its name."""
        return self._samples.get((f"port_listener_{name}", frozenset(labels.items())), 0)


async def scrape(service: Service) -> Numbers:
    """Collect the metrics as Prometheus does."""
    answer = await service.client.get("/metrics", headers={"Authorization": f"Bearer {TOKEN}"})
    assert answer.status_code == 200
    families = list(text_string_to_metric_families(answer.text))
    names = frozenset(f"{one.name}_total" if one.type == "counter" else one.name for one in families)
    samples = [sample for one in families for sample in one.samples]
    return Numbers(
        answer.text, names, {(one.name, frozenset(one.labels.items())): one.value for one in samples}
    )
