//! OTP's `supervisor.erl`, as small as it can be told: no messages, each call done at once.

use std::time::Duration;

use super::driver::{Luck, Step, WITHIN};
use crate::supervision::{Call, ChildId, Ending, ExitReason, Refusal, Restart, Strategy};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pid {
    Undefined,
    Running,
    Restarting,
}

#[derive(Clone, Debug)]
struct Child {
    id: ChildId,
    restart: Restart,
    pid: Pid,
}

#[derive(Clone, Debug)]
pub(super) struct Model {
    strategy: Strategy,
    max_restarts: usize,
    children: Vec<Child>,
    restarts: Vec<Duration>,
    pub(super) now: Duration,
    pub(super) luck: Luck,
    pub(super) steps: Vec<Step>,
    pub(super) ended: bool,
}

impl Model {
    pub(super) fn new(strategy: Strategy, max_restarts: u32, luck: Luck) -> Self {
        Self {
            strategy,
            max_restarts: max_restarts as usize,
            children: Vec::new(),
            restarts: Vec::new(),
            now: Duration::ZERO,
            luck,
            steps: Vec::new(),
            ended: false,
        }
    }

    pub(super) fn children(&self) -> Vec<(ChildId, bool)> {
        self.children.iter().map(|child| (child.id.clone(), child.pid == Pid::Running)).collect()
    }

    pub(super) fn running(&self) -> Vec<ChildId> {
        let running = |child: &&Child| child.pid == Pid::Running;
        self.children.iter().filter(running).map(|child| child.id.clone()).collect()
    }

    pub(super) fn init(&mut self, specs: Vec<(ChildId, Restart)>) {
        let new = |(id, restart)| Child { id, restart, pid: Pid::Undefined };
        self.children = specs.into_iter().map(new).collect();
        match self.start_children(0) {
            None => self.steps.push(Step::Begun),
            Some(failed) => {
                let id = self.children[failed].id.clone();
                self.terminate(ExitReason::StartFailed(id));
            }
        }
    }

    pub(super) fn exit(&mut self, id: &ChildId, ending: Ending) {
        let index = self.index(id).unwrap();
        let clean = matches!(ending, Ending::Normal | Ending::Shutdown);
        self.children[index].pid = Pid::Undefined;
        match self.children[index].restart {
            Restart::Temporary => drop(self.children.remove(index)),
            Restart::Transient if clean => {}
            Restart::Permanent | Restart::Transient => self.restart(index),
        }
    }

    pub(super) fn call(&mut self, call: Call) {
        let answer = match call {
            _ if self.ended => Err(Refusal::Stopped),
            Call::Start(id, terms) => self.start_child(id, terms.restart),
            Call::Terminate(id) => self.terminate_child(&id),
            Call::Restart(id) => self.restart_child(&id),
            Call::Delete(id) => self.delete_child(&id),
        };
        self.steps.push(Step::Answer(answer));
    }

    pub(super) fn stop(&mut self) {
        if !self.ended {
            self.terminate(ExitReason::Stopped);
        }
    }

    fn index(&self, id: &ChildId) -> Option<usize> {
        self.children.iter().position(|child| &child.id == id)
    }

    /// `do_start_child`
    fn start(&mut self, index: usize) -> bool {
        let id = self.children[index].id.clone();
        let fails = self.luck.next_start_fails();
        self.steps.push(if fails { Step::FailedStart(id) } else { Step::Start(id) });
        self.children[index].pid = if fails { Pid::Undefined } else { Pid::Running };
        !fails
    }

    /// `start_children`: returns the one that failed.
    fn start_children(&mut self, first: usize) -> Option<usize> {
        (first..self.children.len()).find(|&index| !self.start(index))
    }

    /// `terminate_children`
    fn terminate_children(&mut self, first: usize) {
        for index in (first..self.children.len()).rev() {
            if self.children[index].pid == Pid::Running {
                self.steps.push(Step::Stop(self.children[index].id.clone()));
            }
            self.children[index].pid = Pid::Undefined;
            if self.children[index].restart == Restart::Temporary {
                self.children.remove(index);
            }
        }
    }

    fn terminate(&mut self, reason: ExitReason) {
        self.terminate_children(0);
        self.steps.push(Step::Exit(reason));
        self.ended = true;
    }

    /// `restart/2`, with `try_again_restart` at once.
    fn restart(&mut self, index: usize) {
        let mut next = Some(index);
        while let Some(index) = next {
            self.restarts.push(self.now);
            let threshold = self.now.saturating_sub(WITHIN);
            self.restarts.retain(|&restart| restart >= threshold);
            if self.restarts.len() > self.max_restarts {
                let id = self.children[index].id.clone();
                return self.terminate(ExitReason::Exhausted(id));
            }
            next = match self.strategy {
                Strategy::OneForOne => (!self.start(index)).then_some(index),
                Strategy::RestForOne => self.restart_children(index),
                Strategy::OneForAll => self.restart_children(0),
                Strategy::Template => unreachable!("not in these histories"),
            };
            if let Some(failed) = next {
                self.children[failed].pid = Pid::Restarting;
            }
        }
    }

    /// `restart_multiple_children`
    fn restart_children(&mut self, first: usize) -> Option<usize> {
        self.terminate_children(first);
        self.start_children(first)
    }

    fn start_child(&mut self, id: ChildId, restart: Restart) -> Result<(), Refusal> {
        match self.index(&id).map(|index| self.children[index].pid) {
            Some(Pid::Running) => return Err(Refusal::AlreadyStarted),
            Some(Pid::Undefined | Pid::Restarting) => return Err(Refusal::AlreadyPresent),
            None => self.children.push(Child { id, restart, pid: Pid::Undefined }),
        }
        if self.start(self.children.len() - 1) {
            return Ok(());
        }
        self.children.pop();
        Err(Refusal::StartFailed)
    }

    fn terminate_child(&mut self, id: &ChildId) -> Result<(), Refusal> {
        let index = self.index(id).ok_or(Refusal::NotFound)?;
        if self.children[index].pid == Pid::Running {
            self.steps.push(Step::Stop(id.clone()));
        }
        self.children[index].pid = Pid::Undefined;
        if self.children[index].restart == Restart::Temporary {
            self.children.remove(index);
        }
        Ok(())
    }

    fn restart_child(&mut self, id: &ChildId) -> Result<(), Refusal> {
        let index = self.index(id).ok_or(Refusal::NotFound)?;
        match self.children[index].pid {
            Pid::Running => Err(Refusal::Running),
            Pid::Restarting => Err(Refusal::Restarting),
            Pid::Undefined => self.start(index).then_some(()).ok_or(Refusal::StartFailed),
        }
    }

    fn delete_child(&mut self, id: &ChildId) -> Result<(), Refusal> {
        let index = self.index(id).ok_or(Refusal::NotFound)?;
        match self.children[index].pid {
            Pid::Running => Err(Refusal::Running),
            Pid::Restarting => Err(Refusal::Restarting),
            Pid::Undefined => {
                self.children.remove(index);
                Ok(())
            }
        }
    }
}
