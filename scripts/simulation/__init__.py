"""``scripts/simulate``: the listener in a simulated world; docs/simulator.md explains it."""
