"""A server's certificate that nobody trusts."""

import ssl
from pathlib import Path


def self_signed(folder: Path) -> ssl.SSLContext:
    """Make the TLS of a server with a certificate that it has signed itself; a file goes into `folder`."""
    # For localhost, and run out: of use to nobody but the tests.
    lines = (
        "MIIBfjCCASOgAwIBAgIUU2+MhcL2z3yOMGJpJWCbqIUufiwwCgYIKoZIzj0EAwIwFDESMBAGA1UEAwwJbG9jYWxob3N0MB4XDTI2"
        "MTEyMzIxMTQzM1oXDTI2MTEyNDIxMTQzM1owFDESMBAGA1UEAwwJbG9jYWxob3N0MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE"
        "e7gAlGh8DxPbkNCtWNu38D/8UeSRt2jlzKbR0S1p8w0oUQkFKaqOislWgq6m9sSMDCkVNHJ0uJcB7HZozww17aNTMFEwHQYDVR0O"
        "BBYEFECWTDLRvvRqXVtDrBGWLaSMp8I4MB8GA1UdIwQYMBaAFECWTDLRvvRqXVtDrBGWLaSMp8I4MA8GA1UdEwEB/wQFMAMBAf8w"
        "CgYIKoZIzj0EAwIDSQAwRgIhAJ6gqF0xXdQO1h8ih807njs+JBVe3EwKrE9t95cVPpseAiEAl1R/0sK/XMJHUS8dP7ziM5yJGdv6"
        "KC1qFUavPZJC58Y="
    )
    key = (
        "MHcCAQEEIBdm7McakcTU0l7PYx252Si5W8YyGTPuuLwamEgDP28NoAoGCCqGSM49AwEHoUQDQgAEe7gAlGh8DxPbkNCtWNu38D/8"
        "UeSRt2jlzKbR0S1p8w0oUQkFKaqOislWgq6m9sSMDCkVNHJ0uJcB7HZozww17Q=="
    )
    file = folder / "server.pem"
    parts = (("CERTIFICATE", lines), ("EC PRIVATE KEY", key))
    file.write_text(
        "".join(f"-----BEGIN {name}-----\n{text}\n-----END {name}-----\n" for name, text in parts)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context
