"""The page, its API, and what an orchestrator asks."""
