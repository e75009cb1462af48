"""``scripts/simulate``: the listener in a simulated world; docs/simulator.md explains it.

To add a kind of thing, write it in `kinds`, and put it into the table there: it brings its faults, its
actions, its lines of the rules file, what Port says of entities, its hosts, and its part of the
oracle. It notes what its places hear as `world.Told`; then `History` knows of it.
"""
