"""Reconciles: compares Port's entities with their last known state, to find the changes that never came here.

Port promises no second try of a webhook. Webhooks make the listener fast; reconciling makes it right.

    run.py          one run: list the entities, compare them, take each difference in as a change
    difference.py   the comparison of one entity, and its difference as a change; pure
    schedule.py     when a run is due, and that only one process makes it
    health.py       whether reconciling is on, and what the last runs show
"""
