"""``scripts/simulate``: the listener in a simulated world, whose faults come from a seed. See docs/simulator.md."""
