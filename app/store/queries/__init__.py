"""Every operation of the store, each statement written once."""
