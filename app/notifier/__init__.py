"""One module a kind of destination: what a message looks like there, and how it is sent."""
