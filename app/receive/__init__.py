"""From a request to a stored change."""
