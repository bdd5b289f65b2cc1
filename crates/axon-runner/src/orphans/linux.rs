//! The sweep over `/proc`.

use std::collections::{BTreeSet, HashMap};
use std::ffi::{OsStr, OsString};
use std::path::Path;

use axon_kernel::json::excerpt;
use procfs::process::{Process, all_processes};
use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, geteuid, pidfd_open, pidfd_send_signal, test_kill_process,
};

use super::{COMMAND_BYTES, ORIGIN, PASSES, Swept};

type Environment = HashMap<OsString, OsString>;

/// A process that launched others, as their mark tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Origin {
    pid: i32,
    /// In ticks after the boot; no two processes with the same id have the same.
    start: u64,
    /// The namespace that `pid` belongs to.
    namespace: u64,
}

impl Origin {
    fn own() -> Option<Self> {
        let process = Process::myself().ok()?;
        let start = process.stat().ok()?.starttime;
        let pid = i32::try_from(std::process::id()).ok()?;
        Some(Self { pid, start, namespace: namespace()? })
    }

    fn parse(mark: &OsStr) -> Option<Self> {
        let mut parts = mark.to_str()?.split('.');
        let (pid, start, namespace) = (parts.next()?, parts.next()?, parts.next()?);
        let is_whole = parts.next().is_none();
        let origin = Self {
            pid: pid.parse().ok()?,
            start: start.parse().ok()?,
            namespace: namespace.parse().ok()?,
        };
        is_whole.then_some(origin)
    }

    /// Returns whether the process is surely gone, as far as this namespace can tell.
    fn is_gone(self, namespace: u64) -> bool {
        let Some(pid) = Pid::from_raw(self.pid).filter(|_| self.namespace == namespace) else {
            return false;
        };
        // One that may not be looked at is there all the same.
        if test_kill_process(pid) == Err(Errno::SRCH) {
            return true;
        }
        let stat = Process::new(self.pid).and_then(|process| process.stat());
        // A first thread that has ended while others go on looks dead and is not.
        stat.is_ok_and(|stat| {
            stat.starttime != self.start
                || (matches!(stat.state, 'Z' | 'X') && stat.num_threads <= 1)
        })
    }
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.pid, self.start, self.namespace)
    }
}

/// Returns the number of our namespace of process ids, from a link like `pid:[4026531836]`.
fn namespace() -> Option<u64> {
    let link = std::fs::read_link(Path::new("/proc/self/ns/pid")).ok()?;
    link.to_str()?.strip_prefix("pid:[")?.strip_suffix(']')?.parse().ok()
}

pub(super) fn origin() -> Option<String> {
    Some(Origin::own()?.to_string())
}

pub(super) fn sweep() -> Swept {
    sweep_those(&|_| true)
}

fn sweep_those(concerned: &dyn Fn(&Environment) -> bool) -> Swept {
    let (Some(namespace), Ok(own)) = (namespace(), Process::myself().and_then(|own| own.environ()))
    else {
        return Swept::default();
    };
    let origin = OsStr::new(ORIGIN);
    let own = own.get(origin);
    let swept = kill_all(&|environment: &Environment| {
        let mark = environment.get(origin).filter(|mark| Some(*mark) != own);
        let mark = mark.and_then(|mark| Origin::parse(mark));
        mark.is_some_and(|mark| mark.is_gone(namespace)) && concerned(environment)
    });
    let killed = swept.killed.len() as u64;
    if killed > 0 {
        metrics::counter!(axon_kernel::metric::RUNNER_LEAKS.name).increment(killed);
    }
    swept
}

pub(super) fn kill_marked(name: &str, value: &str) -> usize {
    let (name, value) = (OsStr::new(name), OsStr::new(value));
    kill_all(&|environment| environment.get(name).is_some_and(|found| found == value)).killed.len()
}

/// What became of a process that was found.
enum Fate {
    Killed,
    Spared(Errno),
    /// It ended by itself, and another one may have its id by now.
    Gone,
}

/// Kills every process of our user whose environment is `wanted`, until no new one is found.
fn kill_all(wanted: &dyn Fn(&Environment) -> bool) -> Swept {
    let (mut swept, mut seen) = (Swept::default(), BTreeSet::new());
    for _pass in 0..PASSES {
        let before = seen.len();
        for process in others() {
            let Ok(start) = process.stat().map(|stat| stat.starttime) else { continue };
            if !is_wanted(&process, wanted) || !seen.insert((process.pid(), start)) {
                continue;
            }
            let pid = process.pid().unsigned_abs();
            let command = excerpt(&process.cmdline().unwrap_or_default().join(" "), COMMAND_BYTES);
            match kill(&process, wanted) {
                Fate::Killed => {
                    tracing::warn!(pid, command, "killed what a dead process had left behind");
                    swept.killed.push(pid);
                }
                Fate::Spared(error) => {
                    tracing::error!(pid, command, %error, "what a dead process left behind cannot be killed");
                    swept.spared.push(pid);
                }
                Fate::Gone => {}
            }
        }
        if seen.len() == before {
            break;
        }
    }
    swept
}

/// Returns all processes of our user but this one.
fn others() -> impl Iterator<Item = Process> {
    let (user, own) = (geteuid().as_raw(), std::process::id());
    let all = all_processes().into_iter().flatten().flatten();
    all.filter(move |process| {
        process.pid().unsigned_abs() != own && process.uid().is_ok_and(|owner| owner == user)
    })
}

fn is_wanted(process: &Process, wanted: &dyn Fn(&Environment) -> bool) -> bool {
    process.environ().is_ok_and(|environment| wanted(&environment))
}

fn kill(process: &Process, wanted: &dyn Fn(&Environment) -> bool) -> Fate {
    let Some(pid) = Pid::from_raw(process.pid()) else { return Fate::Gone };
    let descriptor = match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(descriptor) => descriptor,
        Err(Errno::SRCH) => return Fate::Gone,
        Err(error) => return Fate::Spared(error),
    };
    // `process` reads through a folder that was opened before. While it can, the id was not given to
    // another process, so the descriptor means the same one.
    if !is_wanted(process, wanted) {
        return Fate::Gone;
    }
    match pidfd_send_signal(descriptor, Signal::KILL) {
        Ok(()) => Fate::Killed,
        Err(Errno::SRCH) => Fate::Gone,
        Err(error) => Fate::Spared(error),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::{CommandExt, ExitStatusExt};
    use std::process::{Child, Command};

    use super::*;
    use crate::orphans::{kill_marked, origin};

    /// Set in all that a test starts, so that it touches nothing else.
    const OF_TEST: &str = "AXON_TEST_PROCESS";

    fn sleeping(name: &str, value: &str) -> Child {
        let mut command = Command::new("sleep");
        command.env(OF_TEST, std::process::id().to_string()).process_group(0);
        command.arg("60").env(name, value).spawn().unwrap()
    }

    fn is_of_test(environment: &Environment) -> bool {
        let own = std::process::id().to_string();
        environment.get(OsStr::new(OF_TEST)).is_some_and(|found| *found == *own)
    }

    fn end(mut child: Child) {
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// The mark of a process that has ended and was waited for.
    fn mark_of_the_dead() -> String {
        let mut child = sleeping("AXON_ROLE", "dead");
        let stat = Process::new(i32::try_from(child.id()).unwrap()).unwrap().stat().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        Origin { pid: stat.pid, start: stat.starttime, namespace: namespace().unwrap() }.to_string()
    }

    #[test]
    fn the_mark_of_this_process_says_that_it_lives() {
        let own = Origin::parse(origin().unwrap().as_ref()).unwrap();
        assert_eq!(Some(own), Origin::own());
        let here = namespace().unwrap();
        assert!(!own.is_gone(here));
        assert!(Origin { start: own.start + 1, ..own }.is_gone(here), "its id was given again");
        assert!(!Origin { start: own.start + 1, ..own }.is_gone(here + 1), "it is of elsewhere");
    }

    #[test]
    fn what_is_no_mark_is_nobodys() {
        for text in ["", "1", "1.2", "1.2.3.4", "a.2.3", "-.1.1", "1.2.99999999999999999999"] {
            assert_eq!(Origin::parse(text.as_ref()), None, "{text}");
        }
    }

    #[test]
    fn a_child_that_was_not_waited_for_is_gone() {
        let mut child = sleeping("AXON_ROLE", "zombie");
        let stat = Process::new(i32::try_from(child.id()).unwrap()).unwrap().stat().unwrap();
        let here = namespace().unwrap();
        let mark = Origin { pid: stat.pid, start: stat.starttime, namespace: here };
        assert!(!mark.is_gone(here));
        child.kill().unwrap();
        while !mark.is_gone(here) {
            std::thread::yield_now();
        }
        child.wait().unwrap();
        assert!(mark.is_gone(here));
    }

    #[test]
    fn only_what_the_dead_have_left_is_swept() {
        let mut orphan = sleeping(ORIGIN, &mark_of_the_dead());
        let mut living = sleeping(ORIGIN, &origin().unwrap());
        let mut elsewhere = sleeping(ORIGIN, "1.1.1");
        let mut nonsense = sleeping(ORIGIN, "nonsense");
        let swept = sweep_those(&is_of_test);
        assert_eq!(swept.killed, [orphan.id()]);
        assert_eq!(orphan.wait().unwrap().signal(), Some(Signal::KILL.as_raw()));
        for child in [&mut living, &mut elsewhere, &mut nonsense] {
            assert_eq!(child.try_wait().unwrap(), None);
        }
        [living, elsewhere, nonsense].into_iter().for_each(end);
    }

    #[test]
    fn a_mark_finds_grandchildren_in_sessions_of_their_own() {
        let mark = format!("test-{}", std::process::id());
        let script = "setsid sh -c 'sleep 60 & sleep 60' & exec sleep 60";
        let mut child =
            Command::new("sh").args(["-c", script]).env("AXON_MARK", &mark).spawn().unwrap();
        let marked = || {
            let has = |environment: &Environment| {
                environment.get(OsStr::new("AXON_MARK")).is_some_and(|found| *found == *mark)
            };
            others().filter(|process| is_wanted(process, &has)).count()
        };
        while marked() < 4 {
            std::thread::yield_now();
        }
        let mut other = sleeping("AXON_MARK", "another");
        assert!(kill_marked("AXON_MARK", &mark) >= 4);
        child.wait().unwrap();
        while marked() > 0 {
            std::thread::yield_now();
        }
        assert_eq!(other.try_wait().unwrap(), None);
        end(other);
        assert_eq!(kill_marked("AXON_MARK", &mark), 0);
    }
}
