"""A resolver that answers as a test says."""

import socket

from aiohttp.abc import AbstractResolver, ResolveResult


class StandInResolver(AbstractResolver):
    """Gives each look-up the next of its answers, and the last one for ever; keeps the names it was asked."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        self.asked.append(host)
        addresses = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return [
            ResolveResult(hostname=host, host=one, port=port, family=family, proto=0, flags=0)
            for one in addresses
        ]

    async def close(self) -> None: ...
