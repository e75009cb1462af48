"""What the listener's own answers mean, for whoever sent a change."""

MEANINGS = {
    401: "the listener has another PORT_CLIENT_SECRET than the sender, or the clocks differ",
    403: "the listener's ALLOWED_SOURCES does not name the sender's address, which its log has",
    404: "there is no listener at this address; its path is /api/slack",
    413: "the body is larger than the listener's MAX_BODY_BYTES",
    422: "the listener cannot read it as a change",
    503: "the listener cannot store it now; its log says why",
}

SOURCE_REFUSED = "this address may not send changes"
"""What the listener says with 403: by this its answer is told from a proxy's."""
