"""Looks for what Port did not tell us: compares its entities with their last known state.

Port promises no second try of a webhook, so whoever only waits is blind to what never came. Events make it
fast; comparing makes it right.

    comparison.py   one run: list, compare, and let each difference be told
    telling.py      a difference goes through decide and store
    difference.py   what differs, as a change that can be stored
    schedule.py     when a run is due, and that one process makes it
"""
