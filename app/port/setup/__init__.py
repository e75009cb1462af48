"""Sets Port up: blueprint, entity, automations, and the way in for development."""
