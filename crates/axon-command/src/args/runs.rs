//! What can be typed about runs that are on record.

use std::time::Duration;

use axon_kernel::event::Resolution;
use axon_kernel::json::RawJson;
use axon_kernel::run::RunState;
use axon_kernel::spec::AgentName;
use clap::{Args, Subcommand};

use super::timeout;

#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Examples:
  axon runs                                the newest runs, and what is to be done about them
  axon runs --state paused --json          the same as data, one line for each
  axon runs show 5f3a9c01d2e4              one run: its steps, its usage, what it waits for
  axon runs resume                         goes on with every run whose process has gone
  axon runs prune --older-than 7d          forgets what ended a week ago

A run may be named by the beginning or the end of its id, if no other run has the same; lists show
the end. Runs are kept in the store: --store, AXON_STORE, `[store] url` of axon.toml, else
.axon/axon.db beside the folder of agents."
)]
pub(crate) struct RunsArgs {
    #[command(subcommand)]
    pub(crate) verb: Option<RunsVerb>,
    #[command(flatten)]
    pub(crate) list: ListArgs,
}

/// Which runs are listed.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Only those of this agent.
    #[arg(long, value_name = "NAME")]
    pub(crate) agent: Option<AgentName>,
    /// Only those in this state: queued, running, paused, completed, failed, cancelled, rejected,
    /// or interrupted. Repeat it for more.
    #[arg(long, value_name = "STATE", value_parser = wanted)]
    pub(crate) state: Vec<Wanted>,
    /// Only the turns of this conversation.
    #[arg(long, value_name = "ID")]
    pub(crate) conversation: Option<String>,
    /// At most so many, from 1 to 1000.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) limit: u16,
    /// Print each run as a line of JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

impl ListArgs {
    /// Returns whether no certain runs are asked for.
    pub(crate) fn is_any(&self) -> bool {
        self.agent.is_none() && self.state.is_empty() && self.conversation.is_none()
    }
}

/// A state that is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// One of the record's.
    State(RunState),
    /// Under way, but its process has gone.
    Interrupted,
}

#[derive(Debug, Subcommand)]
pub(crate) enum RunsVerb {
    /// Show one run: what was asked, its steps, its usage, and how to go on with it.
    Show(RunArg),
    /// Print the recorded events of a run as lines of JSON, and follow it while it is driven.
    Events(EventsArgs),
    /// Cancel a run that nobody drives.
    Cancel(CancelArgs),
    /// Go on with runs that were interrupted, or that a person has decided about.
    Resume(ResumeArgs),
    /// Decide about a tool call that nobody knows to have taken effect or not.
    Resolve(ResolveArgs),
    /// Forget runs that ended, and conversations that nobody continues.
    Prune(PruneArgs),
    /// Print the whole record of a run, for `axon runs import`.
    Export(RunArg),
    /// Take in the record of a run from stdin.
    #[command(after_help = "\
Example:
  axon runs export 5f3a9c01d2e4 | axon --store other.db runs import

A run that is there already is refused. The messages of its conversation are not part of a record.")]
    Import,
}

/// The run that is meant.
#[derive(Debug, Args)]
pub(crate) struct RunArg {
    /// The run: its id, or a beginning or end that only it has.
    #[arg(value_name = "ID")]
    pub(crate) run: String,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  axon runs events 5f3a9c01d2e4 --after 12 | jq .event

A run that another process drives is followed until it ends or pauses. Text as it comes is not on
record: the final text is.")]
pub(crate) struct EventsArgs {
    #[command(flatten)]
    pub(crate) run: RunArg,
    /// Only the events behind this one: the `seq` of the last one that was seen.
    #[arg(long, value_name = "SEQ", default_value_t = 0)]
    pub(crate) after: u64,
}

#[derive(Debug, Args)]
pub(crate) struct CancelArgs {
    #[command(flatten)]
    pub(crate) run: RunArg,
    /// Why.
    #[arg(long, value_name = "TEXT", default_value = "cancelled by a person")]
    pub(crate) reason: String,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  axon runs resume                         every run that was interrupted, one after the other
  axon runs resume --all                   those that were decided with --later, too
  axon runs resume 5f3a9c01d2e4 --json     one run; its further events as lines of JSON

What is recorded as done is not done again. A run gets its agent's time anew, or --timeout. If the
agent is defined otherwise than when the run began, it is refused without --allow-changed.")]
pub(crate) struct ResumeArgs {
    #[command(flatten)]
    pub(crate) which: Which,
    /// Go on although the agent's definition has changed.
    #[arg(long)]
    pub(crate) allow_changed: bool,
    /// How long each of them may take from here on.
    #[arg(long, value_name = "TIME", value_parser = timeout)]
    pub(crate) timeout: Option<Duration>,
    /// Print every event as a line of JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Which runs go on.
#[derive(Debug, Args)]
pub(crate) struct Which {
    /// The runs; else every one that was interrupted.
    #[arg(value_name = "ID", conflicts_with = "all")]
    pub(crate) runs: Vec<String>,
    /// Also those that were paused and about which everything is decided.
    #[arg(long)]
    pub(crate) all: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  axon runs resolve 5f3a9c01d2e4 --skip '\"paid\"'      it did take effect, and returned this
  axon runs resolve 5f3a9c01d2e4 --retry               it did not: make it again
  axon runs resolve 5f3a9c01d2e4 --fail \"unclear\"      end the run

Look first whether the call took effect: `axon runs show ID` says what was called with what, and
under which idempotency key. Then the run goes on here, and its answer is shown.")]
pub(crate) struct ResolveArgs {
    #[command(flatten)]
    pub(crate) run: RunArg,
    /// The call; may be left out if the run waits for one only.
    #[arg(value_name = "CALL")]
    pub(crate) call: Option<String>,
    #[command(flatten)]
    pub(crate) verdict: Verdict,
    #[command(flatten)]
    pub(crate) then: Then,
}

/// What is decided about an ambiguous call.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Verdict {
    /// It did not take effect: it is made again.
    #[arg(long)]
    pub(crate) retry: bool,
    /// It took effect, and returned this, or else null: it is not made again.
    #[arg(long, value_name = "JSON", num_args = 0..=1, value_parser = crate::deps::json)]
    pub(crate) skip: Option<Option<RawJson>>,
    /// The run ends with a failure.
    #[arg(long, value_name = "MESSAGE", num_args = 0..=1)]
    pub(crate) fail: Option<Option<String>>,
}

impl Verdict {
    /// Returns the decision.
    pub(crate) fn into_resolution(self) -> Resolution {
        match (self.skip, self.fail) {
            (Some(result), _) => Resolution::Skip { result: result.unwrap_or_else(RawJson::null) },
            (None, Some(message)) => Resolution::Fail { message },
            (None, None) => Resolution::Retry,
        }
    }
}

/// What comes after a decision.
#[derive(Debug, Args)]
pub(crate) struct Then {
    /// Only record the decision; `axon runs resume ID` goes on.
    #[arg(long)]
    pub(crate) later: bool,
    /// Print every further event as a line of JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  axon approve 5f3a9c01d2e4
  axon approve 5f3a9c01d2e4 call_7 --args '{\"amount\": 10}'
  axon approve 5f3a9c01d2e4 call_7 --always        and every further call of its tool in this run

Once nothing is undecided any more, the run goes on here, and its answer is shown.")]
pub(crate) struct ApproveArgs {
    /// The run: its id, or a beginning or end that only it has.
    pub(crate) run: String,
    /// The call; may be left out if the run waits for one only.
    pub(crate) call: Option<String>,
    /// Arguments in place of those that the model gave.
    #[arg(long, value_name = "JSON", value_parser = crate::deps::json)]
    pub(crate) args: Option<RawJson>,
    /// Approve further calls of the same tool in this run, too.
    #[arg(long)]
    pub(crate) always: bool,
    #[command(flatten)]
    pub(crate) then: Then,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  axon deny 5f3a9c01d2e4 --message \"Not without a receipt.\"

The model is told, and goes on from there.")]
pub(crate) struct DenyArgs {
    /// The run: its id, or a beginning or end that only it has.
    pub(crate) run: String,
    /// The call; may be left out if the run waits for one only.
    pub(crate) call: Option<String>,
    /// What the model is told.
    #[arg(long, value_name = "TEXT")]
    pub(crate) message: Option<String>,
    #[command(flatten)]
    pub(crate) then: Then,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  axon answer 5f3a9c01d2e4 \"Yes, both of them.\"
  axon answer 5f3a9c01d2e4 '{\"seats\": 2}' --call call_7

The answer is taken as text, unless it is a JSON object or array.")]
pub(crate) struct AnswerArgs {
    /// The run: its id, or a beginning or end that only it has.
    pub(crate) run: String,
    /// The answer to its question, or the result of the call that is made elsewhere.
    pub(crate) text: String,
    /// The call; may be left out if the run waits for one only.
    #[arg(long, value_name = "CALL")]
    pub(crate) call: Option<String>,
    #[command(flatten)]
    pub(crate) then: Then,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  axon runs prune --older-than 7d --dry-run
  axon runs prune --keep 1000
  axon runs prune --older-than 90d --conversations

Without a bound, what is older than `[store] keep_runs` of axon.toml (30 days) is forgotten. Runs
that have not ended are never forgotten, nor the conversations that such a run is of.")]
pub(crate) struct PruneArgs {
    /// What ended longer ago than this.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub(crate) older_than: Option<Duration>,
    /// Ended runs beyond the newest so many.
    #[arg(long, value_name = "N")]
    pub(crate) keep: Option<u64>,
    /// Conversations, too, that nothing was added to for that long.
    #[arg(long)]
    pub(crate) conversations: bool,
    /// Only count the runs that would be forgotten.
    #[arg(long, conflicts_with = "conversations")]
    pub(crate) dry_run: bool,
}

/// A text that is no state of a run.
#[derive(Debug, PartialEq, thiserror::Error)]
#[error("it is one of: {}, interrupted", RunState::ALL.map(RunState::label).join(", "))]
pub(crate) struct NoState;

fn wanted(text: &str) -> Result<Wanted, NoState> {
    match text {
        "interrupted" => Ok(Wanted::Interrupted),
        label => RunState::from_label(label).map(Wanted::State).ok_or(NoState),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::{Cli, Verb};
    use super::*;

    fn runs(words: &[&str]) -> RunsArgs {
        let words = ["axon", "runs"].iter().chain(words);
        let Verb::Runs(args) = Cli::try_parse_from(words).unwrap().verb else {
            panic!("another verb");
        };
        args
    }

    fn verdict(words: &[&str]) -> Resolution {
        let words = [&["resolve", "r1"], words].concat();
        let Some(RunsVerb::Resolve(args)) = runs(&words).verb else { panic!("another verb") };
        args.verdict.into_resolution()
    }

    #[test]
    fn an_ambiguous_call_is_decided_in_one_of_three_ways() {
        assert_eq!(verdict(&["--retry"]), Resolution::Retry);
        assert_eq!(verdict(&["--skip"]), Resolution::Skip { result: RawJson::null() });
        let paid = RawJson::parse("\"paid\"").unwrap();
        assert_eq!(verdict(&["c1", "--skip", "\"paid\""]), Resolution::Skip { result: paid });
        assert_eq!(verdict(&["--fail"]), Resolution::Fail { message: None });
        assert!(Cli::try_parse_from(["axon", "runs", "resolve", "r1"]).is_err());
        let both = ["axon", "runs", "resolve", "r1", "--retry", "--fail"];
        assert!(Cli::try_parse_from(both).is_err());
    }

    #[test]
    fn a_list_is_asked_for_by_states_and_interrupted_is_one() {
        let args = runs(&["--state", "interrupted", "--state", "paused"]);
        assert!(args.verb.is_none());
        assert_eq!(args.list.state, [Wanted::Interrupted, Wanted::State(RunState::Paused)]);
        assert_eq!(wanted("done"), Err(NoState));
    }
}
