"""``scripts/simulate``: the listener in a simulated world; docs/simulator.md explains it.

To add a kind of destination: a model of its receiver beside `pager.py`, a host for it in `run.py`, a
destination and a `send` in `nights.py`, its failures in `chance.py`. It notes what it hears as `world.Told`;
then most of the oracle holds for it. To add a kind of rule: write it in `nights.py`, let `port.py` make the
changes that it is about, each value once, and add to the oracle what README promises of it, as a method.
"""
