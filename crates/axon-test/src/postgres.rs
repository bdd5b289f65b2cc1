//! A PostgreSQL server of a test's own: started by it, reached by a Unix socket only, and gone
//! with it, however it ends.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tokio::sync::oneshot;

/// How long a server may take to accept connections.
const START: Duration = Duration::from_secs(60);

/// The user of the database.
const USER: &str = "axon";

// The shell ends the server when its standard input ends: that is so when this process is gone.
const UNTIL_END_OF_INPUT: &str = r#""$@" & server=$!; read -r _; kill -QUIT $server; wait $server"#;

/// A server that runs. It keeps nothing on disk that outlasts it, and does not wait for the disk.
#[derive(Debug)]
pub struct Postgres {
    binaries: PathBuf,
    account: Option<Account>,
    server: Option<Server>,
    folder: TempDir,
}

#[derive(Debug)]
struct Server {
    shell: Child,
    input: Option<ChildStdin>,
}

/// Whom the server runs as where this process is root: the server refuses to be.
#[derive(Clone, Copy, Debug)]
struct Account {
    user: u32,
    group: u32,
}

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub enum PostgresError {
    /// It is not installed.
    #[error("PostgreSQL is not installed: on Debian it is the package `postgresql`")]
    Missing,
    /// This process is root, and there is nobody else to run the server as.
    #[error("neither a user `postgres` nor `nobody` is there to run PostgreSQL as")]
    Nobody,
    /// A program of its package failed.
    #[error("`{program}` failed: {output}")]
    Failed {
        /// The program.
        program: &'static str,
        /// The last it said.
        output: String,
    },
    /// It did not accept connections in time.
    #[error("PostgreSQL did not accept connections within {} s", START.as_secs())]
    Late,
    /// The operating system refused.
    #[error("PostgreSQL could not be started")]
    Io(#[from] std::io::Error),
}

impl Postgres {
    /// Starts a server.
    ///
    /// # Errors
    ///
    /// [`PostgresError`] says what was in the way.
    pub async fn start() -> Result<Self, PostgresError> {
        let binaries = binaries().ok_or(PostgresError::Missing)?;
        let folder = tempfile::Builder::new().prefix("pg").tempdir()?;
        let account = if rustix::process::geteuid().is_root() {
            let account = Account::find().ok_or(PostgresError::Nobody)?;
            chown(folder.path(), Some(account.user), Some(account.group))?;
            Some(account)
        } else {
            None
        };
        let mut postgres = Self { binaries, account, server: None, folder };
        postgres.create().await?;
        postgres.run().await?;
        Ok(postgres)
    }

    /// Starts a server where PostgreSQL is installed. Where it is not, that is said on stderr, and
    /// the test is to be left out, except in CI.
    ///
    /// # Errors
    ///
    /// [`PostgresError`] says what was in the way; with `CI=true` also that it is not installed.
    #[expect(clippy::print_stderr, reason = "a test that is left out says so")]
    pub async fn start_if_installed() -> Result<Option<Self>, PostgresError> {
        let in_ci = std::env::var_os("CI").is_some_and(|value| value == "true");
        match Self::start().await {
            Err(PostgresError::Missing) if !in_ci => {
                eprintln!("left out: {}", PostgresError::Missing);
                Ok(None)
            }
            started => started.map(Some),
        }
    }

    /// Returns the folder of its socket.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Creates an empty database, and returns its URL.
    ///
    /// # Errors
    ///
    /// [`PostgresError::Failed`] if there is one of that name.
    pub async fn create_database(&self, name: &str) -> Result<String, PostgresError> {
        let folder = self.folder.path().display();
        let mut command = Command::new(self.binaries.join("createdb"));
        command.args(["--username", USER, "--host", &folder.to_string(), "--", name]);
        finish("createdb", command).await?;
        Ok(format!("postgres:///{name}?host={folder}&user={USER}"))
    }

    /// Ends the server at once, as when its machine fails, and starts it again.
    ///
    /// # Errors
    ///
    /// [`PostgresError`] says what was in the way.
    pub async fn restart(&mut self) -> Result<(), PostgresError> {
        self.stop();
        self.run().await
    }

    /// Ends the server at once, as when its machine fails.
    pub fn stop(&mut self) {
        if let Some(mut server) = self.server.take() {
            drop(server.input.take());
            // It is killed by now, so this is short; and there is nothing to do about an error.
            let _ = server.shell.wait();
        }
    }

    async fn create(&self) -> Result<(), PostgresError> {
        let mut command = self.command("initdb");
        command.args(["--username", USER, "--auth", "trust", "--encoding", "UTF8"]);
        command.args(["--locale", "C", "--no-sync", "--pgdata"]).arg(self.data());
        finish("initdb", command).await
    }

    async fn run(&mut self) -> Result<(), PostgresError> {
        let folder = self.folder.path().display().to_string();
        let server = self.command("postgres");
        let mut command = Command::new("sh");
        command.args(["-c", UNTIL_END_OF_INPUT, "sh"]);
        command.arg(server.get_program()).args(server.get_args());
        command.arg("-D").arg(self.data()).args(["-k", &folder, "-h", ""]);
        for setting in ["fsync=off", "shared_buffers=16MB", "max_wal_size=64MB"] {
            command.args(["-c", setting]);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut shell = command.current_dir(&folder).spawn()?;
        let stderr = shell.stderr.take();
        let input = shell.stdin.take();
        self.server = Some(Server { shell, input });
        let Some(stderr) = stderr else { return Err(PostgresError::Late) };
        let (ready, accepts) = oneshot::channel();
        std::thread::spawn(move || follow(stderr, ready));
        match tokio::time::timeout(START, accepts).await {
            Ok(Ok(None)) => Ok(()),
            Ok(Ok(Some(output))) => Err(PostgresError::Failed { program: "postgres", output }),
            Ok(Err(_)) | Err(_) => Err(PostgresError::Late),
        }
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Returns `program`, to be run as who may run a server.
    fn command(&self, program: &'static str) -> Command {
        let program = self.binaries.join(program);
        let Some(account) = self.account else { return Command::new(program) };
        let mut command = Command::new("setpriv");
        command.arg(format!("--reuid={}", account.user)).arg(format!("--regid={}", account.group));
        command.arg("--clear-groups").arg("--").arg(program);
        command
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Account {
    fn find() -> Option<Self> {
        let users = std::fs::read_to_string("/etc/passwd").ok()?;
        ["postgres", "nobody"].iter().find_map(|name| {
            let mut fields = users
                .lines()
                .map(|line| line.split(':'))
                .find_map(|mut fields| (fields.next() == Some(name)).then_some(fields))?;
            let mut number = |skipped: usize| fields.nth(skipped)?.parse().ok();
            Some(Self { user: number(1)?, group: number(0)? })
        })
    }
}

/// Returns the folder of the server's programs: that of the `initdb` on the path, or else of the
/// newest version that Debian's packages installed.
fn binaries() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // It may be a link there, all by itself.
    let mut on_path = std::env::split_paths(&path).map(|folder| folder.join("initdb"));
    if let Some(found) = on_path.find_map(|program| program.canonicalize().ok()) {
        return found.parent().map(Path::to_owned);
    }
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?.flatten();
    let number = |folder: &Path| folder.file_name()?.to_str()?.parse::<u32>().ok();
    let newest = versions.map(|entry| entry.path()).max_by_key(|folder| number(folder))?;
    Some(newest.join("bin")).filter(|folder| folder.join("initdb").exists())
}

async fn finish(program: &'static str, command: Command) -> Result<(), PostgresError> {
    let mut command = tokio::process::Command::from(command);
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output().await?;
    if output.status.success() {
        return Ok(());
    }
    let output = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(PostgresError::Failed { program, output })
}

/// Reads what the server says until its end. Says once that it is ready, or what it said instead.
fn follow(stderr: impl Read, ready: oneshot::Sender<Option<String>>) {
    let mut ready = Some(ready);
    let mut said = String::new();
    for line in BufReader::new(stderr).lines().map_while(Result::ok) {
        if ready.is_none() {
            continue;
        }
        said.push_str(&line);
        said.push('\n');
        if line.contains("ready to accept connections")
            && let Some(ready) = ready.take()
        {
            // Whoever waited may have given up.
            let _ = ready.send(None);
        }
    }
    if let Some(ready) = ready {
        let _ = ready.send(Some(said));
    }
}
