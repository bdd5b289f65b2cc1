"""Reads just enough Rust to know which paths a source file mentions."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

_HIDDEN = re.compile(
    r"""
    //[^\n]*                                # line comment, doc comment
    | /\*(?:[^*]|\*(?!/))*\*/               # block comment
    | \bb?c?r(?P<hashes>\#+)".*?"(?P=hashes)# raw string
    | \bb?c?r"[^"]*"                        # raw string without hashes
    | b?c?"(?:[^"\\]|\\.)*"                 # string
    | b?'(?:[^'\\\n]|\\[^\n]{1,9})'         # character, and no lifetime
    """,
    re.VERBOSE | re.DOTALL,
)
_USE = re.compile(r"\buse\s+([^;]+);")
_PATH = re.compile(r"(?<![\w:])(?:::)?((?:r\#)?[A-Za-z_]\w*(?:\s*::\s*(?:r\#)?[A-Za-z_]\w*)+)")


@dataclass(frozen=True)
class Mention:
    """A path such as `std::fs::File`, in full, and the line where it stands."""

    path: str
    line: int


def paths(source: str) -> Iterator[Mention]:
    """Yields the paths in the code, those of `use` with their braces spread out.

    A name that a `use` brought in and shortened is not traced: its `use` is found instead.
    """
    code = _HIDDEN.sub(lambda match: "\n" * match[0].count("\n"), source)
    for use in _USE.finditer(code):
        line = code.count("\n", 0, use.start(1)) + 1
        for path in _spread(re.sub(r"\s+as\s+\w+", "", use[1])):
            yield Mention(path, line)
    rest = _USE.sub(lambda use: "\n" * use[0].count("\n"), code)
    for match in _PATH.finditer(rest):
        line = rest.count("\n", 0, match.start()) + 1
        yield Mention(re.sub(r"\s|r#", "", match[1]), line)


def _spread(tree: str) -> Iterator[str]:
    """Yields the paths of one `use` tree: `a::{b, c::{self, d}}` is a::b, a::c and a::c::d."""
    tree = re.sub(r"\s|r#", "", tree).removeprefix("::")
    prefix, brace, inside = tree.partition("{")
    if not brace:
        yield tree.removesuffix("::self").removesuffix("::*")
        return
    depth, branch = 0, ""
    for character in inside.removesuffix("}") + ",":
        depth += (character == "{") - (character == "}")
        if character == "," and depth == 0:
            if branch:
                yield from _spread(prefix + branch)
            branch = ""
        else:
            branch += character
