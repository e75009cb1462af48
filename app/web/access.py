"""Who may see and do what is not for everybody."""

import hmac
from collections.abc import Mapping


def bears(headers: Mapping[str, str], token: str) -> bool:
    """Tell whether a request carries ``Authorization: Bearer`` with the token, in constant time.

    Args:
        headers: The request's headers; names in lower case.
        token: The admin token.
    """
    scheme, _, given = headers.get("authorization", "").partition(" ")
    return scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), token.encode())
