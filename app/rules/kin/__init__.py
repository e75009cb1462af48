"""What incidents have to do with those of other entities: one that explains another, groups."""
