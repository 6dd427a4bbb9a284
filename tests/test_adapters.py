"""What an engine packs is unpacked as a folder of files, and as nothing else."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any, cast

import pytest

from tunedesk.errors import ProviderError
from tunedesk.jobs.adapters import export_adapter
from tunedesk.providers.base import Provider


class Packing:
    """An engine that packs what it is told."""

    def __init__(self, *members: tarfile.TarInfo) -> None:
        self.members = members

    async def ask_engine(self, path: str, body: dict[str, Any]) -> dict[str, str]:
        return {"id": "file-1"}

    async def download(self, file: str, target: Path, **_: Any) -> int:
        with tarfile.open(target, "w") as tar:
            for member in self.members:
                member.size = 5 if member.isfile() else 0
                tar.addfile(member, io.BytesIO(b"hello") if member.isfile() else None)
        return target.stat().st_size

    async def delete_file(self, file: str) -> None:
        """Forget the archive."""


def member(name: str, kind: bytes = tarfile.REGTYPE, leads_to: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, leads_to
    return info


async def export(output: Path, *members: tarfile.TarInfo) -> None:
    await export_adapter(cast("Provider", Packing(*members)), "ft:x", "peft", output)


async def test_files_and_folders_are_written(tmp_path: Path) -> None:
    output = tmp_path / "out"
    await export(output, member("a.json"), member("deep", tarfile.DIRTYPE), member("deep/b.bin"))
    assert (output / "a.json").read_bytes() == (output / "deep" / "b.bin").read_bytes() == b"hello"


@pytest.mark.parametrize(
    "bad",
    [
        member("../outside"),
        member("/tmp/tunedesk-outside"),
        member("link", tarfile.SYMTYPE, "/etc/passwd"),
        member("hard", tarfile.LNKTYPE, "a.json"),
        member("pipe", tarfile.FIFOTYPE),
    ],
)
async def test_what_leads_elsewhere_is_refused_and_nothing_is_written(
    tmp_path: Path, bad: tarfile.TarInfo
) -> None:
    with pytest.raises(ProviderError, match="no file of a model"):
        await export(tmp_path / "out", member("a.json"), bad)
    assert list(tmp_path.iterdir()) == []
    assert not Path("/tmp/tunedesk-outside").exists()
