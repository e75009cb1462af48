"""From a request to a stored change: verify, parse, match, decide, store."""
