"""What the listener speaks of: nouns without I/O, clock or framework."""
