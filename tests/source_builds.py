"""One builder of stand-in trees: what the role qemu_source does, module by module."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from modules import call

if TYPE_CHECKING:
    from pathlib import Path

OWN = ["--target-list=x86_64-softmmu", "--disable-download"]


@dataclass
class Builder:
    """Builds into one state directory."""

    state: Path
    emulator: str = field(
        default_factory=lambda: f"qemu-system-{subprocess.check_output(['uname', '-m'], text=True).strip()}"
    )

    @property
    def builds(self) -> Path:
        return self.state / "builds"

    def patches(self, *texts: str) -> list[dict[str, str]]:
        """Bring patches to the host, as the role does."""
        found = []
        for number, text in enumerate(texts):
            digest = hashlib.sha256(text.encode()).hexdigest()
            path = self.state / "sources" / "patches" / digest
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            found.append({"name": f"{number}.patch", "sha256": digest})
        return found

    def key(
        self, *, check: bool = False, extra: Any = (), patches: Any = (), **source: Any
    ) -> dict[str, Any]:
        """Ask for the key of a build."""
        return call(
            "qemu_source_key",
            check=check,
            build="NEW",
            configure=OWN,
            extra=list(extra),
            patches=list(patches),
            targets=[self.emulator, "qemu-img"],
            parent=str(self.builds),
            sources=str(self.state / "sources"),
            **source,
        )

    def arguments(self, *, extra: Any = (), patches: Any = (), **source: Any) -> dict[str, Any]:
        """Return what the module that builds is given."""
        keyed = self.key(extra=extra, patches=patches, **source)
        assert "key" in keyed, keyed
        return {
            "build": "NEW",
            "key": keyed["key"],
            "parts": keyed["parts"],
            "source": keyed["source"],
            "repository": keyed["repository"] or None,
            "tarball": source.get("tarball"),
            "patches": list(patches),
            "configure": OWN,
            "tool_arguments": ["--meson=/nowhere/meson"],
            "extra": list(extra),
            "targets": [self.emulator, "qemu-img"],
            "parent": str(self.builds),
            "sources": str(self.state / "sources"),
            "nice": 0,
        }

    def make(self, **wanted: Any) -> dict[str, Any]:
        """Make a build; return the module's answer, with its directory."""
        incremental = wanted.pop("incremental", False)
        arguments = self.arguments(**wanted) | {"incremental": incremental}
        answer = call("qemu_source_build", **arguments)
        return answer | {"directory": self.builds / f"source-{arguments['key'][:16]}"}

    def finished(self) -> set[str]:
        """Return the names of what looks finished."""
        return {path.name for path in self.builds.glob("*") if not path.name.startswith(".")}

    def working(self) -> list[Path]:
        """Return the working directories."""
        return sorted(self.builds.glob(".making-*"))


def version(directory: Path) -> str:
    """Return what a stand-in's emulator says it is."""
    (emulator,) = directory.glob("bin/qemu-system-*")
    return subprocess.check_output([str(emulator), "--version"], text=True).split()[-1]


def missing_tools() -> list[str]:
    """Return what builds need and this machine lacks."""
    return [tool for tool in ("git", "cc", "ninja", "tar") if shutil.which(tool) is None]
