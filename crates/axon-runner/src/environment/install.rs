//! The commands that fill the managed environment.

use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::base::{Base, find_uv};
use super::child::{self, How};
use super::managed::BuildError;

const CREATE_DEADLINE: Duration = Duration::from_secs(3 * 60);
const INSTALL_DEADLINE: Duration = Duration::from_secs(10 * 60);

/// How many lines of an installer's output an error shows.
const TAIL_LINES: usize = 20;

/// The lock's name inside the environment.
const LOCK_NAME: &str = "requirements.lock";

/// Variables by which a user's pip, uv or active environment would send packages elsewhere. The
/// rest, such as index, proxy and certificate settings, is passed on.
const REMOVED: [&str; 11] = [
    "PIP_NO_DEPS",
    "PIP_PREFIX",
    "PIP_PYTHON",
    "PIP_ROOT",
    "PIP_TARGET",
    "PIP_USER",
    "UV_NO_VERIFY_HASHES",
    "UV_PYTHON",
    "UV_SYSTEM_PYTHON",
    "VIRTUAL_ENV",
    "__PYVENV_LAUNCHER__",
];

/// What installs the packages of a managed environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Installer {
    /// uv, from PATH: about a second.
    Uv,
    /// The environment's own pip: about 20 seconds.
    Pip,
}

impl fmt::Display for Installer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Uv => "uv",
            Self::Pip => "pip",
        })
    }
}

/// An [`Installer`] that is there.
#[derive(Debug)]
pub(super) enum Tool {
    Uv(PathBuf),
    Pip,
}

impl Tool {
    /// uv when it is on PATH, else the pip that `base` puts into environments.
    pub(super) fn find(path_var: Option<&OsStr>, base: &Base) -> Result<Self, BuildError> {
        match find_uv(path_var) {
            Some(uv) => Ok(Self::Uv(uv)),
            None if base.has_venv => Ok(Self::Pip),
            None => Err(BuildError::NoVenv {
                python: base.executable.clone(),
                fix: no_venv_fix(&os_release(), &base.version),
            }),
        }
    }

    pub(super) fn installer(&self) -> Installer {
        match self {
            Self::Uv(_) => Installer::Uv,
            Self::Pip => Installer::Pip,
        }
    }

    /// Makes an environment in `root`, an empty folder, with nothing in it but pip if that is the
    /// tool.
    pub(super) fn create(&self, base: &Base, root: &Path) -> Result<(), BuildError> {
        match self {
            Self::Uv(uv) => {
                let mut command = Command::new(uv);
                command.args(["venv", "--python"]).arg(&base.executable).arg(root);
                run(&mut command, root, CREATE_DEADLINE)
            }
            Self::Pip => {
                let mut command = Command::new(&base.executable);
                command.args(["-I", "-m", "venv", "--without-pip"]).arg(root);
                run(&mut command, root, CREATE_DEADLINE)?;
                // A step of its own, since venv does not show why it failed.
                let mut command = Command::new(root.join("bin/python"));
                command.args(["-I", "-m", "ensurepip", "--default-pip"]);
                run(&mut command, root, CREATE_DEADLINE)
            }
        }
    }

    /// Installs what `lock` pins into the environment in `root`, every file checked by its hash.
    pub(super) fn install(&self, lock: &[u8], root: &Path) -> Result<(), BuildError> {
        let lock_path = root.join(LOCK_NAME);
        fs::write(&lock_path, lock)
            .map_err(|source| BuildError::Cache { path: lock_path.clone(), source })?;
        let python = root.join("bin/python");
        let mut command = match self {
            Self::Uv(uv) => {
                let mut command = Command::new(uv);
                command.args(["pip", "install", "--compile-bytecode", "--python"]).arg(&python);
                command
            }
            Self::Pip => {
                let mut command = Command::new(&python);
                command.args(["-I", "-m", "pip", "install", "--no-input", "--no-user"]);
                command.args(["--disable-pip-version-check", "--progress-bar=off", "--compile"]);
                command
            }
        };
        // A lock names everything. Resolved again, an extra of something pinned would not count as pinned
        // once its index has a newer version.
        command.args(["--no-deps", "--require-hashes", "-r"]).arg(&lock_path);
        run(&mut command, root, INSTALL_DEADLINE)
    }
}

/// Runs one step in `root`: settings of the project that the caller stands in do not apply.
fn run(command: &mut Command, root: &Path, deadline: Duration) -> Result<(), BuildError> {
    for name in REMOVED {
        command.env_remove(name);
    }
    // The environment is made from what is there, or not at all: no Python is downloaded.
    command.env("UV_PYTHON_DOWNLOADS", "never").env("NO_COLOR", "1").current_dir(root);
    let program = PathBuf::from(command.get_program());
    let ended = match child::run(command, deadline) {
        Ok(ended) => ended,
        Err(source) => return Err(BuildError::Start { program, source }),
    };
    let output = ended.tail(TAIL_LINES);
    match ended.how {
        How::Exited(status) if status.success() => Ok(()),
        How::Exited(status) => Err(BuildError::Failed { command: words(command), status, output }),
        How::Expired => {
            Err(BuildError::Expired { command: words(command), after: deadline, output })
        }
    }
}

/// A command as an error shows it.
fn words(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or_default();
    let arguments = command.get_args().take_while(|argument| *argument != "-r");
    let words: Vec<_> =
        [program].into_iter().chain(arguments).map(OsStr::to_string_lossy).collect();
    words.join(" ")
}

fn os_release() -> String {
    let read = |path| -> io::Result<String> { fs::read_to_string(path) };
    read("/etc/os-release").or_else(|_| read("/usr/lib/os-release")).unwrap_or_default()
}

/// The command that gives a Python of `version` what it lacks to make environments.
fn no_venv_fix(os_release: &str, version: &str) -> String {
    let minor: Vec<&str> = version.split('.').take(2).collect();
    let debian = os_release
        .lines()
        .filter_map(|line| line.strip_prefix("ID=").or_else(|| line.strip_prefix("ID_LIKE=")))
        .flat_map(|value| value.trim_matches('"').split(' '))
        .any(|id| id == "debian" || id == "ubuntu");
    if debian {
        format!("apt install python{}-venv", minor.join("."))
    } else {
        "pip install uv".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_venv_module_is_mended_as_the_operating_system_does_it() {
        let mint = "NAME=\"Linux Mint\"\nID=linuxmint\nID_LIKE=\"ubuntu debian\"\n";
        assert_eq!(no_venv_fix(mint, "3.12.3"), "apt install python3.12-venv");
        assert_eq!(no_venv_fix("ID=debian\n", "3.11.2"), "apt install python3.11-venv");
        assert_eq!(no_venv_fix("ID=fedora\nVARIANT_ID=debian\n", "3.13.0"), "pip install uv");
        assert_eq!(no_venv_fix("", "3.13.0"), "pip install uv");
    }
}
