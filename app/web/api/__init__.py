"""The API under /api/v1: what the page shows and does, for programs."""
