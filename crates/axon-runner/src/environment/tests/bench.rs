//! A project, a cache and a PATH in a temporary folder.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::sync::Mutex;

use tempfile::TempDir;

use crate::environment::base::{Base, find_base, find_uv};
use crate::environment::{Progress, Ready, Search, SyncError, sync_with};

/// The Python of the machine that runs the tests.
static BASE: LazyLock<Base> = LazyLock::new(|| {
    find_base(std::env::var_os("PATH").as_deref()).expect("the tests need Python 3.11 or newer")
});

/// Writes a wheel of pydantic-ai-slim that holds next to nothing, and prints its hash.
const WHEEL: &str = r#"
import hashlib, sys, zipfile
folder, version = sys.argv[1:]
info = f"pydantic_ai_slim-{version}.dist-info"
files = {
    "pydantic_ai/__init__.py": "ANSWER = 42\n",
    f"{info}/METADATA": f"Metadata-Version: 2.1\nName: pydantic-ai-slim\nVersion: {version}\n",
    f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
}
record = "".join(f"{name},,\n" for name in [*files, f"{info}/RECORD"])
path = f"{folder}/pydantic_ai_slim-{version}-py3-none-any.whl"
with zipfile.ZipFile(path, "w") as wheel:
    for name, text in [*files.items(), (f"{info}/RECORD", record)]:
        wheel.writestr(name, text)
print(hashlib.sha256(open(path, "rb").read()).hexdigest())
"#;

/// Does what uv does with our two commands, by unpacking the wheels beside the lock's index.
const STAND_IN_UV: &str = r#"#!/bin/sh
case "$1" in
  --version) echo "uv 0.0.0" ;;
  venv) exec "$3" -I -m venv --without-pip "$4" ;;
  pip) exec "$5" -I - "$9" <<'PYTHON'
import glob, re, sys, sysconfig, zipfile
lock = open(sys.argv[1]).read()
for wheel in glob.glob(re.search(r"--find-links (\S+)", lock).group(1) + "/*.whl"):
    zipfile.ZipFile(wheel).extractall(sysconfig.get_path("purelib"))
PYTHON
esac
"#;

pub(super) struct Bench {
    root: TempDir,
    pub(super) search: Search,
    /// Every step of every [`sync`](Self::sync), in order.
    pub(super) steps: Mutex<Vec<Progress>>,
}

impl Bench {
    /// With the machine's Python on PATH, and nothing else.
    pub(super) fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let folder = |name: &str| {
            let path = root.path().join(name);
            fs::create_dir(&path).unwrap();
            path
        };
        let bin = folder("bin");
        symlink(&BASE.executable, bin.join("python3")).unwrap();
        folder("wheels");
        folder("sockets");
        let search = Search {
            project_dir: folder("project"),
            agent_dir: Some(folder("project/agent")),
            cache_dir: root.path().join("cache"),
            path_var: Some(bin.into_os_string()),
            ..Search::default()
        };
        Self { root, search, steps: Mutex::default() }
    }

    /// With a fast stand-in for uv on PATH as well.
    pub(super) fn with_stand_in_uv() -> Self {
        let bench = Self::new();
        bench.program("bin/uv", STAND_IN_UV);
        bench
    }

    /// With the machine's uv on PATH, or its stand-in on a machine without.
    pub(super) fn with_uv() -> Self {
        match find_uv(std::env::var_os("PATH").as_deref()) {
            None => Self::with_stand_in_uv(),
            Some(uv) => {
                let bench = Self::new();
                symlink(uv, bench.path("bin/uv")).unwrap();
                bench
            }
        }
    }

    pub(super) fn path(&self, relative: &str) -> PathBuf {
        self.root.path().join(relative)
    }

    /// An executable file. Another process writes it: while this one holds it open for writing, a
    /// test that starts a process at this moment would make it busy.
    pub(super) fn program(&self, relative: &str, text: &str) -> PathBuf {
        let path = self.path(relative);
        let script = r#"printf %s "$1" > "$0" && chmod 755 "$0""#;
        output(Command::new("/bin/sh").args(["-c", script]).arg(&path).arg(text));
        path
    }

    /// A virtual environment without pip, with `pydantic_ai` installed in that version.
    pub(super) fn venv(&self, relative: &str, pydantic_ai: Option<&str>) -> PathBuf {
        let root = self.path(relative);
        output(
            Command::new(&BASE.executable).args(["-I", "-m", "venv", "--without-pip"]).arg(&root),
        );
        if let Some(version) = pydantic_ai {
            let info = site_packages(&root).join(format!("pydantic_ai_slim-{version}.dist-info"));
            fs::create_dir(&info).unwrap();
            let text = format!("Name: pydantic-ai-slim\nVersion: {version}\n");
            fs::write(info.join("METADATA"), text).unwrap();
        }
        root.join("bin/python")
    }

    /// A lock that pins a tiny wheel called pydantic-ai-slim, found in this bench only.
    pub(super) fn lock(&self) -> Vec<u8> {
        let wheels = self.path("wheels");
        let mut command = Command::new(&BASE.executable);
        let hash = output(command.args(["-I", "-c", WHEEL]).arg(&wheels).arg("2.68.0"));
        format!(
            "--no-index\n--find-links {}\npydantic-ai-slim==2.68.0 \\\n    --hash=sha256:{}\n",
            wheels.display(),
            hash.trim()
        )
        .into_bytes()
    }

    pub(super) fn sync(&self, lock: &[u8]) -> Result<Ready, SyncError> {
        sync_with(&self.search, lock, &|step| self.steps.lock().unwrap().push(step))
    }

    pub(super) fn steps(&self) -> Vec<Progress> {
        std::mem::take(&mut self.steps.lock().unwrap())
    }

    /// The names in the cache's `envs`, hidden ones too.
    pub(super) fn envs(&self) -> Vec<OsString> {
        let entries = fs::read_dir(self.path("cache/envs")).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    }
}

pub(super) fn site_packages(venv: &Path) -> PathBuf {
    let libs = fs::read_dir(venv.join("lib")).unwrap();
    libs.map(|entry| entry.unwrap().path().join("site-packages"))
        .find(|path| path.is_dir())
        .expect("an environment has site-packages")
}

/// What the command printed; it has to succeed.
pub(super) fn output(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Everything below `folder`: kind and permissions, time of change, and content or target.
pub(super) fn snapshot(folder: &Path) -> BTreeMap<PathBuf, (u32, i64, i64, Vec<u8>)> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let metadata = path.symlink_metadata().unwrap();
        let content = if metadata.is_symlink() {
            path.read_link().unwrap().into_os_string().into_encoded_bytes()
        } else if metadata.is_dir() {
            found.extend(snapshot(&path));
            Vec::new()
        } else {
            fs::read(&path).unwrap()
        };
        found.insert(path, (metadata.mode(), metadata.mtime(), metadata.mtime_nsec(), content));
    }
    found
}
