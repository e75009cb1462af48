"""A full disk: nothing is acknowledged that is not stored, and it goes on when there is room again."""

from pathlib import Path

import httpx
import pytest

from app.demo.stand_in_slack import StandInSlack
from tests.acceptance.disks import MOUNT, can_mount
from tests.acceptance.process import SERVE, listening, post_change
from tests.conftest import NO_TLS
from tests.told import entities
from tests.waiting import until

pytestmark = pytest.mark.acceptance


async def test_a_full_disk(tmp_path: Path, slack: StandInSlack) -> None:
    """503 and nothing acknowledged while the disk is full; then all goes on, and all acknowledged arrives."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if not can_mount(disk):
        pytest.skip("needs Linux that lets `unshare -rm` mount a tmpfs: the disk cannot be made full here")
    command = ["unshare", "-rm", "sh", "-c", MOUNT, str(disk), *SERVE]
    database = f"sqlite:///{disk}/listener.db"
    async with listening(tmp_path, slack.url, command=command, DATABASE_URL=database) as listener:
        assert listener.process is not None
        inside = Path(f"/proc/{listener.process.pid}/root{disk}")
        acknowledged: list[str] = []
        async with httpx.AsyncClient(base_url=listener.url, timeout=30, verify=NO_TLS) as client:

            async def post(entity: str) -> int:
                status = (await post_change(client, entity)).status_code
                if status == 202:
                    acknowledged.append(entity)
                return status

            assert await post("before") == 202
            ballast = inside / "ballast"
            with pytest.raises(OSError, match="No space left"), ballast.open("wb") as file:  # noqa: PT012
                while True:
                    file.write(b"x" * 512)
                    file.flush()
            statuses = [await post(f"full-{number}") for number in range(40)]
            assert 503 in statuses
            assert set(statuses) <= {202, 503}
            ready = await client.get("/readyz")
            assert ready.status_code == 503
            assert "full" in ready.json()["reasons"][0]
            ballast.unlink()

            async def ready_again() -> bool:
                return (await client.get("/readyz")).status_code == 200

            await until(ready_again)
            assert await post("after") == 202
            await until(lambda: len(entities(slack.messages)) >= len(acknowledged))
    assert sorted(entities(slack.messages)) == sorted(acknowledged)
