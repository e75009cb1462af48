"""What the store keeps and does of incidents that have to do with those of other entities."""
