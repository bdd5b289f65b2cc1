"""Every check finds what it is there to find, and lets the rest pass."""

# ruff: noqa: PT009, PT027 -- these run before pytest is installed

import contextlib
import io
import subprocess
import tempfile
import unittest
from pathlib import Path
from typing import Any

import arrows
import lengths
import licences
import repository
import rust
import texts

PATH = Path("some/file.py")


class Lengths(unittest.TestCase):
    def test_file_may_have_600_lines_and_no_more(self) -> None:
        self.assertEqual(list(lengths.findings(PATH, "x = 1\n" * 600)), [])
        self.assertEqual(len(list(lengths.findings(PATH, "x = 1\n" * 601))), 1)
        self.assertEqual(len(list(lengths.findings(Path("lib.rs"), "//\n" * 601))), 1)

    def test_function_may_have_60_lines_and_no_more(self) -> None:
        for head in ["def f():\n", "async def f():\n", "class C:\n def f(self):\n"]:
            fits = head + "  x = 1\n" * 59
            self.assertEqual(list(lengths.findings(PATH, fits)), [], head)
            too_long = list(lengths.findings(PATH, fits + "  x = 1\n"))
            self.assertEqual(len(too_long), 1, head)
            self.assertIn("f has 61 lines", too_long[0])


class Texts(unittest.TestCase):
    def found(self, line: str, name: str = "notes.md") -> list[str]:
        return list(texts.findings(Path(name), f"first\n{line}\n", Path("/srv/clone")))

    def test_path_of_one_machine_is_found(self) -> None:
        home, users = "/" + "home/", "/" + "Users/"
        for line in [
            f"see {home}jane/notes",
            f'"{users}jane/x"',
            "cd /" + "root/.cargo",
            "/" + "work/main/x",
            "C:" + r"\Users\jane",
            "/srv/" + "clone/x",
        ]:
            self.assertEqual(len(self.found(line)), 1, line)
            self.assertTrue(self.found(line)[0].startswith("notes.md:2: path"), line)

    def test_path_that_every_machine_may_have_passes(self) -> None:
        for line in [
            "/tmp/axon.sock", "a/" + "work/b", "$HOME/" + "work/b", f"{'/'}home/me/shop",
            "/usr/bin/env", "https://example.com/" + "root/x", "GET /v1/workers/",
        ]:  # fmt: skip
            self.assertEqual(self.found(line), [], line)

    def test_marker_needs_an_issue(self) -> None:
        for word in ["TO" + "DO", "FIX" + "ME", "X" * 3]:
            self.assertEqual(len(self.found(f"// {word}: later")), 1, word)
            self.assertEqual(self.found(f"// {word}(#12): later"), [], word)
        self.assertEqual(self.found("todo = 'deny'"), [])

    def test_private_registry_is_found_in_a_lock_and_in_settings(self) -> None:
        mirror = "https://mirror.corp.example/simple"
        lines = {
            "Cargo.lock": f'source = "registry+{mirror}"',
            "requirements.lock": f"a @ {mirror}/a-1-py3-none-any.whl",
            "setup.sh": "pip install --index-" + f"url {mirror} x",
            "pip.conf": "index-" + f"url = {mirror}",
            "Dockerfile": "ENV UV_" + f"INDEX={mirror}",
        }
        for name, line in lines.items():
            self.assertEqual(len(self.found(line, name)), 1, name)
            self.assertIn("mirror.corp.example", self.found(line, name)[0])

    def test_public_registry_passes(self) -> None:
        source = 'source = "registry+https://github.com/rust-lang/crates.io-index"'
        self.assertEqual(self.found(source, "Cargo.lock"), [])
        self.assertEqual(self.found("see https://docs.example/x"), [])


class Licences(unittest.TestCase):
    def test_expression_is_accepted_when_it_leaves_a_choice_that_we_accept(self) -> None:
        for expression in [
            "MIT", "MIT OR GPL-3.0", "GPL-3.0 OR (MIT AND ISC)", "MIT/Apache-2.0",
            "Apache-2.0 WITH LLVM-exception", "(MIT OR Apache-2.0) AND Unicode-3.0",
            "Apache-2.0 WITH LLVM-exception OR GPL-2.0",
        ]:  # fmt: skip
            self.assertTrue(licences.is_accepted(expression), expression)

    def test_expression_is_refused_when_it_does_not(self) -> None:
        for expression in [
            "GPL-3.0", "MIT AND GPL-3.0", "(MIT OR Apache-2.0) AND GPL-3.0", "", "MIT OR", "(MIT",
            "MIT GPL-3.0", "Apache-2.0 WITH GPL-exception", "GPL-3.0 OR LGPL-2.1",
        ]:  # fmt: skip
            self.assertFalse(licences.is_accepted(expression), expression)

    def test_package_needs_an_accepted_licence_and_the_public_registry(self) -> None:
        def package(**changes: Any) -> dict[str, Any]:
            good = {"id": "a", "name": "a", "version": "1.0.0", "license": "MIT"}
            return {**good, "source": licences.PUBLIC_SOURCE, **changes}

        def found(**changes: Any) -> list[str]:
            metadata = {"workspace_members": ["ours"], "packages": [package(**changes)]}
            return list(licences.findings(metadata))

        self.assertEqual(found(), [])
        self.assertEqual(found(id="ours", source=None), [])
        refused: list[dict[str, str | None]] = [
            {"license": None},
            {"license": "GPL-3.0"},
            {"source": None},
            {"source": "git+https://github.com/a/a"},
        ]
        for changes in refused:
            self.assertEqual(len(found(**changes)), 1, changes)


class Rust(unittest.TestCase):
    def paths(self, source: str) -> list[str]:
        return [mention.path for mention in rust.paths(source)]

    def test_use_trees_are_spread_out(self) -> None:
        self.assertEqual(
            self.paths("use std::{fs, io::{self, Read as R}, net::*};\nuse ::serde;"),
            ["std::fs", "std::io", "std::io::Read", "std::net", "serde"],
        )

    def test_paths_in_code_are_found_with_their_line(self) -> None:
        mentions = list(rust.paths("use a::b;\n\nfn f() {\n    std::fs::read(x) ; }"))
        self.assertEqual(mentions[1], rust.Mention("std::fs::read", 4))

    def test_comments_and_strings_are_not_code(self) -> None:
        for hidden in [
            "// std::fs", "/// [`std::fs`]", "/* std::\nfs std::fs */",
            'let a = "std::fs \\" std::fs";', 'let a = b"std::fs";',
            'let a = r#"std::fs "x" std::fs"#;', "//! std::fs",
        ]:  # fmt: skip
            self.assertEqual(self.paths(hidden), [], hidden)

    def test_code_after_quotes_and_lifetimes_is_still_read(self) -> None:
        for before in ["'\"'", "'\\''", "&'a str", '"//"', 'r"\\"', "b'\"'", "'\\u{1F600}'"]:
            self.assertIn("std::fs::read", self.paths(f"f({before}); std::fs::read();"), before)


class Arrows(unittest.TestCase):
    def crate(self, name: str, *dependencies: str, kind: str | None = None) -> dict[str, Any]:
        return {"name": name, "dependencies": [{"name": d, "kind": kind} for d in dependencies]}

    def crate_findings(self, *names: str, links: str = "", kind: str | None = None) -> list[str]:
        crate = self.crate(*names, kind=kind)
        row = arrows.ROWS[names[0]]
        return list(arrows.crate_findings(crate, row, set(links.split())))

    def test_arrow_that_points_the_wrong_way_is_found(self) -> None:
        self.assertEqual(len(self.crate_findings("axon-kernel", "axon-runner")), 1)
        self.assertEqual(len(self.crate_findings("axon-runner", "axon-runtime")), 1)
        self.assertEqual(len(self.crate_findings("axon-server", "ractor")), 1)
        self.assertEqual(self.crate_findings("axon-runtime", "axon-kernel", "axon-runner"), [])
        self.assertEqual(self.crate_findings("axon-kernel", "axon-test", kind="dev"), [])

    def test_banned_crate_is_found_however_deep(self) -> None:
        self.assertEqual(len(self.crate_findings("axon-kernel", links="serde tokio")), 1)
        self.assertEqual(len(self.crate_findings("axon-runner", links="ractor")), 1)
        self.assertEqual(len(self.crate_findings("axon-runtime", links="axum tokio")), 1)
        self.assertEqual(self.crate_findings("axon-server", links="ractor axum"), [])

    def test_banned_path_is_found_in_the_source(self) -> None:
        def found(crate: str, source: str) -> list[str]:
            return list(arrows.source_findings(PATH, source, arrows.ROWS[crate]))

        for source in [
            "use std::fs;",
            "use std::{collections::HashMap, net::TcpStream};",
            "fn f() { std::process::exit(1) }",
            "use std::time::{Duration, Instant};",
        ]:
            self.assertEqual(len(found("axon-kernel", source)), 1, source)
        self.assertEqual(found("axon-kernel", "use std::time::Duration; // std::fs"), [])
        self.assertEqual(len(found("axon-runtime", "use tokio::process::Command;")), 1)
        self.assertEqual(found("axon-runtime", "use std::fs;"), [])

    def test_crate_without_a_row_is_found(self) -> None:
        manifest = "/srv/clone/crates/axon-new/Cargo.toml"
        package = {**self.crate("axon-new"), "id": "new", "manifest_path": manifest}
        metadata = {"workspace_members": ["new"], "packages": [package]}
        found = list(arrows.findings(metadata, Path("/srv/clone")))
        self.assertEqual(len(found), 1)
        self.assertIn("axon-new has no row", found[0])


class Repository(unittest.TestCase):
    def test_files_are_those_that_git_would_take(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            subprocess.run(["git", "init", "-q", folder], check=True)
            for name in ["tracked.py", "new.py", "ignored.py", "note.md", "gone.py"]:
                (root / name).write_text("x")
            (root / ".gitignore").write_text("ignored.py\n")
            subprocess.run(["git", "-C", folder, "add", "tracked.py", "gone.py"], check=True)
            (root / "gone.py").unlink()
            found = [str(path) for path in repository.files(root, ".py")]
            self.assertEqual(found, ["new.py", "tracked.py"])
            self.assertIn("note.md", [str(path) for path in repository.files(root)])

    def test_binary_file_has_no_text(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "x")
            path.write_bytes(b"a\0b")
            self.assertIsNone(repository.text(path))

    def test_report_fails_when_there_is_a_finding(self) -> None:
        for findings, code in [([], 0), (["x"], 1)]:
            out = io.StringIO()
            with (
                contextlib.redirect_stdout(out),
                contextlib.redirect_stderr(io.StringIO()),
                self.assertRaises(SystemExit) as end,
            ):
                repository.report("check", "1 file", findings)
            self.assertEqual(end.exception.code, code)
            self.assertIn(f"{len(findings)} findings", out.getvalue())


if __name__ == "__main__":
    unittest.main()
