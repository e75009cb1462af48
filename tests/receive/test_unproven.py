"""What all who have proven nothing may cost together."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime

import httpx
import pytest

from app.demo.run import signed_headers
from app.errors import TooBusy
from app.receive.unproven import BYTES_PER_SECOND, FREE_BYTES, MOST_BYTES, Unproven
from tests.conftest import NO_TLS, SECRET, Service

MIB = 1024 * 1024


async def flood(url: str, stack: AsyncExitStack) -> asyncio.StreamReader:
    """Send almost 4 MiB to the webhook and keep the rest, with headers that look right."""
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    stack.callback(writer.close)
    headers = signed_headers(b"something else", SECRET, datetime.now(UTC)) | {"content-length": str(4 * MIB)}
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    writer.write(f"POST /api/slack HTTP/1.1\r\nhost: x\r\n{head}\r\n".encode() + bytes(4 * MIB - 1))
    await writer.drain()
    return reader


async def test_a_flood_of_large_bodies(service: Service) -> None:
    """Large unsigned bodies are refused beyond a bound; a signed change beside them is taken."""
    async with AsyncExitStack() as stack:
        readers = [await flood(service.url, stack) for _ in range(MOST_BYTES // (4 * MIB) + 2)]
        assert (await service.change("Healthy", "Degraded")).status_code == 202
        waiting = {asyncio.create_task(reader.readline()) for reader in readers}
        done, late = await asyncio.wait(waiting, timeout=10, return_when=asyncio.FIRST_COMPLETED)
        assert all(b" 503 " in task.result() for task in done)
        assert len(done) in (1, 2, 3)
        for task in late:
            task.cancel()


async def test_the_largest_body_is_given_up() -> None:
    """Who sends most has to go; the room that it took is free at once."""
    unproven, more = Unproven(), asyncio.Event()

    async def large() -> AsyncIterator[bytes]:
        yield bytes(MOST_BYTES)
        await more.wait()
        yield b"rest"

    async def small() -> AsyncIterator[bytes]:
        yield b"{}"

    reading = asyncio.create_task(unproven.read(large()))
    await asyncio.sleep(0)
    assert await unproven.read(small()) == b"{}"
    more.set()
    with pytest.raises(TooBusy, match="more than 32 MiB"):
        await reading
    assert await unproven.read(small()) == b"{}"


async def test_a_body_as_large_as_the_setting_allows() -> None:
    """MAX_BODY_BYTES counts, though it is more than usual bodies take together."""

    async def large() -> AsyncIterator[bytes]:
        yield bytes(MOST_BYTES + 1)

    assert len(await Unproven(MOST_BYTES + 1).read(large())) == MOST_BYTES + 1


async def test_wrong_signatures_leave_time_for_others(service: Service) -> None:
    """A body that is encoded again for nothing is followed by a rest, which nobody else has to wait for."""
    body = b"[" + b'"\xc3\xa9",' * 40_000 + b"1]"
    headers = signed_headers(b"wrong", SECRET, datetime.now(UTC))
    async with httpx.AsyncClient(base_url=service.url, timeout=30, verify=NO_TLS) as client:
        wrong = [
            asyncio.create_task(client.post("/api/slack", content=body, headers=headers)) for _ in range(3)
        ]
        await asyncio.sleep(0)
        assert (await service.change("Healthy", "Degraded")).status_code == 202
        assert not all(task.done() for task in wrong)
        assert {answer.status_code for answer in await asyncio.gather(*wrong)} == {401}


async def test_a_refused_body_is_read(service: Service) -> None:
    """A refusal that needs no body waits for the body: a proxy that still sends it would answer 502."""
    host, port = service.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"POST /api/slack HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % MIB)
    writer.write(bytes(MIB))
    await writer.drain()
    assert b" 401 " in await reader.readline()
    writer.close()
    await writer.wait_closed()


@pytest.mark.parametrize(("size", "least_seconds"), [(FREE_BYTES, 0), (MIB, 4 * MIB / BYTES_PER_SECOND)])
async def test_large_bodies_take_turns(size: int, least_seconds: float) -> None:
    """Beyond their first bytes, bodies arrive together no faster than leaves time for others."""
    unproven = Unproven()

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(size // FREE_BYTES):
            yield bytes(FREE_BYTES)

    began = asyncio.get_running_loop().time()
    bodies = await asyncio.gather(*(unproven.read(chunks()) for _ in range(5)))
    assert {len(body) for body in bodies} == {size}
    assert asyncio.get_running_loop().time() - began >= least_seconds
