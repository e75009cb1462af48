"""Jobs at an HTTP address."""
