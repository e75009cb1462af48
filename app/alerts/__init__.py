"""Pure decisions about changes: no I/O, no clock, no logging."""
