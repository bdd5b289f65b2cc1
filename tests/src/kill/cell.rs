//! One fault at one boundary of one kind of run.

use std::fmt;

use clap::ValueEnum;

/// What a run passes on its way, each with a moment before and a moment after.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Boundary {
    /// The run is recorded as taken on.
    Accepted,
    /// The first call of a tool is recorded.
    Intent,
    /// A tool acts on the world outside; of several calls, the second one.
    Effect,
    /// The first result of a tool is recorded.
    Result,
    /// What the model sees next is recorded; with tools, their results.
    Checkpoint,
    /// The model is asked with what was recorded; with tools, for the second time.
    Permit,
    /// The run is recorded as waiting for a person.
    Pause,
    /// The answer is recorded.
    Reply,
}

/// On which side of a boundary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum When {
    /// It is about to happen.
    Before,
    /// It has happened, and whoever made it happen does not know yet.
    After,
}

/// What repeating a call would do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Class {
    /// The run calls no tool.
    None,
    /// Reads only.
    Pure,
    /// Twice is as good as once.
    Idempotent,
    /// Twice does harm.
    Once,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Fault {
    /// The whole process aborts.
    Abort,
    /// The runner is killed.
    Runner,
    /// The launcher is killed, and its runners with it.
    Launcher,
    /// The disk is full for a while.
    Full,
    /// The disk fails to keep what was written, until the process is started again.
    Sync,
}

/// What kind of run it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Shape {
    /// The model answers in text.
    Text,
    /// Three calls at once, and then text.
    Batch,
    /// One call, and then an output with a schema.
    Structured,
    /// One call that another process approves, and then text.
    Approval,
}

/// One fault at one boundary of one kind of run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cell {
    /// The boundary.
    pub boundary: Boundary,
    /// The side of it.
    pub when: When,
    /// What repeating the calls would do.
    pub class: Class,
    /// What goes wrong.
    pub fault: Fault,
    /// The kind of run.
    pub shape: Shape,
}

/// Returns the name by which the command line knows a value.
pub(crate) fn label(value: impl ValueEnum) -> String {
    value.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}

impl Cell {
    /// Returns every cell that means something, row by row.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let mut cells = Vec::new();
        for &boundary in Boundary::value_variants() {
            for &when in When::value_variants() {
                for &class in Class::value_variants() {
                    for &fault in Fault::value_variants() {
                        for &shape in Shape::value_variants() {
                            cells.push(Self { boundary, when, class, fault, shape });
                        }
                    }
                }
            }
        }
        cells.retain(|cell| cell.means_something());
        cells
    }

    /// Returns whether such a run reaches such a boundary.
    #[must_use]
    pub fn means_something(&self) -> bool {
        let of_tools = matches!(self.boundary, Boundary::Intent | Boundary::Effect)
            || self.boundary == Boundary::Result;
        let fits = (self.shape == Shape::Text) == (self.class == Class::None);
        fits && !(of_tools && self.class == Class::None)
            && (self.boundary != Boundary::Pause || self.shape == Shape::Approval)
    }

    /// Returns how many tools the run calls.
    #[must_use]
    pub fn calls(&self) -> usize {
        match self.shape {
            Shape::Text => 0,
            Shape::Batch => 3,
            Shape::Structured | Shape::Approval => 1,
        }
    }

    /// Returns the tool that the run calls.
    #[must_use]
    pub fn tool(&self) -> String {
        let class = label(self.class);
        if self.shape == Shape::Approval { format!("guarded_{class}") } else { class }
    }

    /// Returns the agent that the run is of.
    #[must_use]
    pub fn agent(&self) -> &'static str {
        if self.shape == Shape::Structured { "structured" } else { "plain" }
    }

    /// Returns whether the fault ends the process that drives the run.
    #[must_use]
    pub fn ends_process(&self) -> bool {
        matches!(self.fault, Fault::Abort | Fault::Sync)
    }

    /// Returns whether nobody can know whether a call took effect: the one reason for which a run
    /// may wait for a person. A batch has other calls under way when the first result is recorded.
    #[must_use]
    pub fn may_be_ambiguous(&self) -> bool {
        let in_between = match (self.boundary, self.when) {
            (Boundary::Intent, When::After)
            | (Boundary::Effect, _)
            | (Boundary::Result, When::Before) => true,
            // The intent is recorded although who called is dead, or a failed sync leaves that open.
            (Boundary::Intent, When::Before) => {
                self.fault != Fault::Abort || self.shape == Shape::Batch
            }
            (Boundary::Result, When::After) => self.shape == Shape::Batch,
            (
                Boundary::Accepted
                | Boundary::Checkpoint
                | Boundary::Permit
                | Boundary::Pause
                | Boundary::Reply,
                _,
            ) => false,
        };
        in_between && self.class == Class::Once && self.fault != Fault::Full
    }

    /// Returns whether the run may be refused: nobody was told that it is accepted.
    #[must_use]
    pub fn may_be_refused(&self) -> bool {
        let first = self.boundary == Boundary::Accepted && self.when == When::Before;
        first && matches!(self.fault, Fault::Abort | Fault::Full | Fault::Sync)
    }

    /// Returns how many requests the model may have been asked twice: the one under way.
    #[must_use]
    pub fn may_pay_twice(&self) -> usize {
        usize::from(self.fault != Fault::Full)
    }

    /// Returns the row of the table that it stands in.
    #[must_use]
    pub fn row(&self) -> (Boundary, When, Class) {
        (self.boundary, self.when, self.class)
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { boundary, when, class, fault, shape } = *self;
        let (boundary, when, class) = (label(boundary), label(when), label(class));
        write!(f, "{when} {boundary}, {class}, {}, {}", label(fault), label(shape))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_without_tools_reaches_no_boundary_of_tools() {
        let cells = Cell::all();
        assert!(cells.iter().all(|cell| cell.shape != Shape::Text || cell.class == Class::None));
        let text = cells.iter().filter(|cell| cell.shape == Shape::Text).count();
        // Accepted, checkpoint, permit and reply, on both sides, with five faults.
        assert_eq!(text, 4 * 2 * 5);
    }

    #[test]
    fn only_what_may_not_be_repeated_may_be_ambiguous() {
        for cell in Cell::all() {
            assert!(!cell.may_be_ambiguous() || cell.class == Class::Once, "{cell}");
        }
    }
}
