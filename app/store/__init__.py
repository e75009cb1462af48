"""The durable outbox: what was accepted, what is to be told, and what came of it."""
