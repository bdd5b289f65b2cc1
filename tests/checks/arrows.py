"""Checks which crate may use what: the arrows between ours, and what each must never reach.

The table is the architecture page's. A crate that has no row here is a finding.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cargo
import repository
import rust

KERNEL_FREE_OF = (
    "async-std", "axum", "hyper", "mio", "ractor", "reqwest", "rustix", "smol", "socket2", "tokio",
)  # fmt: skip
INPUT_OUTPUT = ("std::env", "std::fs", "std::net", "std::os", "std::process", "std::thread")
CLOCKS = ("std::time::Instant", "std::time::SystemTime")


@dataclass(frozen=True)
class Row:
    """What one crate may and may not use."""

    uses: tuple[str, ...] = ()
    """Our crates that it may depend on, tests aside."""
    never_links: tuple[str, ...] = ()
    """Crates that it must not reach, not even through others."""
    never_depends_on: tuple[str, ...] = ()
    """Crates that it must not name itself; what it uses may reach them."""
    never_writes: tuple[str, ...] = ()
    """Paths that its source must not mention."""


ROWS = {
    "axon-kernel": Row(never_links=KERNEL_FREE_OF, never_writes=INPUT_OUTPUT + CLOCKS),
    "axon-macros": Row(),
    "axon-runner": Row(
        uses=("axon-kernel",),
        never_links=("ractor", "axum"),
        never_writes=("axon_kernel::policy", "axon_kernel::Policy"),
    ),
    "axon-store": Row(uses=("axon-kernel",), never_links=("ractor", "axum")),
    "axon-otlp": Row(uses=("axon-kernel",), never_links=("ractor", "axum")),
    "axon-runtime": Row(
        uses=("axon-kernel", "axon-macros", "axon-runner", "axon-store"),
        never_links=("axum", "clap"),
        never_writes=("std::process", "tokio::process"),
    ),
    "axon-server": Row(
        uses=("axon-kernel", "axon-runtime"),
        never_depends_on=("ractor",),
        never_writes=("std::process", "tokio::process"),
    ),
    "axon-command": Row(
        uses=(
            "axon-kernel",
            "axon-otlp",
            "axon-runner",
            "axon-runtime",
            "axon-server",
            "axon-store",
        ),
        never_depends_on=("ractor",),
    ),
    "axon-test": Row(uses=("axon-kernel", "axon-runner", "axon-runtime"), never_links=("clap",)),
}
USE_ANYTHING = ("tests", "examples")
"""Folders whose packages stand outside the arrows: they are users of Axon."""


def crate_findings(package: dict[str, Any], row: Row, links: set[str]) -> Iterator[str]:
    """Yields the dependencies of one crate that its row does not allow."""
    name = package["name"]
    named = {d["name"] for d in package["dependencies"] if d["kind"] is None}
    for other in sorted(named & ROWS.keys() - set(row.uses)):
        yield f"{name} must not depend on {other}"
    for other in sorted(named & set(row.never_depends_on)):
        yield f"{name} must not depend on {other}"
    for other in sorted(links & set(row.never_links)):
        yield f"{name} must not reach {other}: cargo tree -p {name} -e normal -i {other}"


def source_findings(path: Path, source: str, row: Row) -> Iterator[str]:
    """Yields the paths that one source file mentions and its crate's row does not allow."""
    for mention in rust.paths(source):
        for banned in row.never_writes:
            if mention.path == banned or mention.path.startswith(f"{banned}::"):
                yield f"{path}:{mention.line}: {mention.path} does not belong into this crate"


def findings(metadata: dict[str, Any], root: Path) -> Iterator[str]:
    """Yields everything that points the wrong way in the workspace at `root`."""
    members = [p for p in metadata["packages"] if p["id"] in set(metadata["workspace_members"])]
    for package in members:
        name = package["name"]
        folder = Path(package["manifest_path"]).parent.relative_to(root)
        if folder.parts[0] in USE_ANYTHING:
            continue
        if name not in ROWS:
            yield f"{name} has no row in {Path(__file__).name}: say there what it may use"
            continue
        yield from crate_findings(package, ROWS[name], cargo.tree(name))
        for path in repository.files(root, ".rs"):
            if path.is_relative_to(folder / "src"):
                source = (root / path).read_text(encoding="utf-8")
                yield from source_findings(path, source, ROWS[name])


def main() -> None:
    metadata = cargo.metadata()
    members = len(metadata["workspace_members"])
    repository.report("arrows", f"{members} crates", findings(metadata, repository.ROOT))


if __name__ == "__main__":
    main()
