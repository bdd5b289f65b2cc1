//! The same agent behind FastAPI and uvicorn.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context;
use axon_runtime::Host;
use reqwest::Client;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::process::{Child, Command};
use tokio::time::Instant;

use crate::shared::repository;

const PATIENCE: Duration = Duration::from_secs(60);

/// uvicorn with its workers. It is killed with them when it is dropped.
#[derive(Debug)]
pub(crate) struct Uvicorn {
    pub(crate) address: String,
    pub(crate) pid: u32,
    child: Child,
}

impl Uvicorn {
    /// Starts it with so many workers, and waits until all are there.
    pub(crate) async fn start(python: &Path, host: &Host, workers: usize) -> anyhow::Result<Self> {
        let benches = repository().join("tests/benches");
        // Its workers share one socket, so its parent has to be told a port that is free.
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut command = Command::new(python);
        command.args(["-m", "uvicorn", "fastapi_app:app", "--no-access-log", "--log-level"]);
        command.args(["critical", "--workers", &workers.to_string(), "--port", &port.to_string()]);
        command.arg("--app-dir").arg(benches.join("serve"));
        let child = command
            .env_clear()
            .envs(&host.variables)
            .env("AXON_BENCH_FOLDER", &benches)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .current_dir(&host.directory)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let pid = child.id().context("uvicorn ended at once")?;
        let uvicorn = Self { address: format!("127.0.0.1:{port}"), pid, child };
        let client = Client::builder().no_proxy().build()?;
        let began = Instant::now();
        loop {
            anyhow::ensure!(began.elapsed() < PATIENCE, "uvicorn did not come up");
            let ready = client.get(format!("http://{}/readyz", uvicorn.address)).send().await;
            if ready.is_ok_and(|ready| ready.status() == 200) && uvicorn.workers()?.len() == workers
            {
                return Ok(uvicorn);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Returns the processes of its workers.
    pub(crate) fn workers(&self) -> anyhow::Result<Vec<u32>> {
        let children = format!("/proc/{0}/task/{0}/children", self.pid);
        let children = std::fs::read_to_string(children)?;
        let pids = children.split_whitespace().filter_map(|pid| pid.parse().ok());
        // The other child looks after what they share.
        Ok(pids.filter(|pid: &u32| is_worker(*pid)).collect())
    }

    pub(crate) async fn end(mut self) -> anyhow::Result<()> {
        kill_process(pid_of(self.pid)?, Signal::TERM)?;
        tokio::time::timeout(PATIENCE, self.child.wait()).await??;
        Ok(())
    }
}

impl Drop for Uvicorn {
    fn drop(&mut self) {
        if let (Some(_), Ok(group)) = (self.child.id(), pid_of(self.pid)) {
            let _gone = kill_process_group(group, Signal::KILL);
        }
    }
}

fn is_worker(pid: u32) -> bool {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let line = String::from_utf8_lossy(&line).into_owned();
    line.contains("spawn_main") || line.contains("forkserver")
}

pub(crate) fn pid_of(pid: u32) -> anyhow::Result<Pid> {
    i32::try_from(pid).ok().and_then(Pid::from_raw).context("no process id")
}
