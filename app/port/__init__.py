"""What Port sends, and what it offers."""
