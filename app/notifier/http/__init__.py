"""Jobs at an HTTP address: an alert is one request."""
