"""The durable store: what was accepted, what is to be delivered, and what came of it.

`store.py` is what everything else uses. `queries/` has each operation once, written against `transaction.py`;
`sqlite/` and `postgres/` hold what only that database has.
"""
