//! What a signal that ended a process is called, and what it tells.

use std::borrow::Cow;

use rustix::process::Signal;

/// The signals that can end a process. Their numbers differ from system to system.
const NAMES: [(Signal, &str); 23] = [
    (Signal::HUP, "SIGHUP"),
    (Signal::INT, "SIGINT"),
    (Signal::QUIT, "SIGQUIT"),
    (Signal::ILL, "SIGILL"),
    (Signal::TRAP, "SIGTRAP"),
    (Signal::ABORT, "SIGABRT"),
    (Signal::BUS, "SIGBUS"),
    (Signal::FPE, "SIGFPE"),
    (Signal::KILL, "SIGKILL"),
    (Signal::USR1, "SIGUSR1"),
    (Signal::SEGV, "SIGSEGV"),
    (Signal::USR2, "SIGUSR2"),
    (Signal::PIPE, "SIGPIPE"),
    (Signal::ALARM, "SIGALRM"),
    (Signal::TERM, "SIGTERM"),
    (Signal::STOP, "SIGSTOP"),
    (Signal::TSTP, "SIGTSTP"),
    (Signal::XCPU, "SIGXCPU"),
    (Signal::XFSZ, "SIGXFSZ"),
    (Signal::VTALARM, "SIGVTALRM"),
    (Signal::PROF, "SIGPROF"),
    (Signal::IO, "SIGIO"),
    (Signal::SYS, "SIGSYS"),
];

/// Returns the name of a signal, such as `SIGSEGV`.
pub(crate) fn signal_name(signal: i32) -> Cow<'static, str> {
    let named = NAMES.iter().find(|(known, _)| known.as_raw() == signal);
    named.map_or_else(|| format!("signal {signal}").into(), |(_, name)| (*name).into())
}

/// Returns what it means that a process of ours ended by `signal`, although nobody here sent it.
pub(crate) fn signal_hint(signal: i32) -> Option<&'static str> {
    let is = |known: &[Signal]| known.iter().any(|known| known.as_raw() == signal);
    if is(&[Signal::KILL]) {
        Some("killed from outside, perhaps by the kernel for lack of memory")
    } else if is(&[Signal::SEGV, Signal::BUS, Signal::ILL, Signal::FPE]) {
        Some("a crash in native code: an extension module's, or the interpreter's own")
    } else if is(&[Signal::ABORT]) {
        Some("native code gave up: an assertion failed, or memory could not be had")
    } else if is(&[Signal::XCPU]) {
        Some("its CPU time is used up: see `cpu_time` in `[runner.limits]`")
    } else if is(&[Signal::XFSZ]) {
        Some("a file of its grew larger than the limit")
    } else if is(&[Signal::SYS]) {
        Some("it made a system call that a sandbox forbids")
    } else if is(&[Signal::TERM, Signal::INT, Signal::HUP, Signal::QUIT]) {
        Some("asked to end from outside")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_called_by_their_names() {
        assert_eq!(signal_name(9), "SIGKILL");
        assert_eq!(signal_name(11), "SIGSEGV");
        assert_eq!(signal_name(Signal::XCPU.as_raw()), "SIGXCPU");
        assert_eq!(signal_name(63), "signal 63");
    }

    #[test]
    fn a_signal_that_says_nothing_gets_no_hint() {
        assert!(signal_hint(9).unwrap().contains("memory"));
        assert!(signal_hint(Signal::XCPU.as_raw()).unwrap().contains("cpu_time"));
        assert_eq!(signal_hint(Signal::USR2.as_raw()), None);
    }
}
