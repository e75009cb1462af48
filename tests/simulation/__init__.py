"""The simulator, which runs in processes of its own."""
