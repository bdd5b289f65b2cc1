//! A person at the terminal is asked about the calls that a run waits with.

use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::time::Duration;

use axon_kernel::event::Resolution;
use axon_kernel::json::{RawJson, excerpt};
use axon_kernel::spec::AgentName;
use axon_kernel::store::Store;
use axon_kernel::time::Timestamp;
use axon_kernel::wire::{DeferredKind, DeferredRequest};
use axon_runtime::RunRecords;

use crate::decide::result;
use crate::report::{Report, wanted_there};
use crate::runs::{now, until};
use crate::session::Session;
use crate::show::readable;
use crate::terminal::{self, BOLD, DIM, YELLOW, printable, styled};
use crate::underway::{NotTaken, UnderWay};

/// How much of a call's arguments and of what its tool says is shown, in bytes.
const SHOWN_BYTES: usize = 4000;

/// How often it is looked whether the time to decide is over.
const LOOK: Duration = Duration::from_secs(1);

/// The questions to a person about one pause.
pub(crate) struct Interview<'a> {
    records: RunRecords,
    session: &'a mut Session,
}

/// What came of one question.
enum Said {
    /// This is decided.
    Decided(Resolution),
    /// It is to be decided later, by whomever.
    Later,
    /// The time to decide is over.
    TooLate,
}

/// What a person can choose about a call that wants an approval.
#[derive(Debug, PartialEq)]
enum Choice {
    Yes,
    No(Option<String>),
    Always,
    Edit(Option<String>),
    Later,
}

impl Choice {
    /// Reads what was typed: a word or its first letter, and what belongs to it.
    fn of(line: &str) -> Option<Self> {
        let (word, rest) = line.trim().split_once(' ').unwrap_or((line.trim(), ""));
        let rest = Some(rest.trim().to_owned()).filter(|rest| !rest.is_empty());
        let choice = match word.to_ascii_lowercase().as_str() {
            "y" | "yes" => Self::Yes,
            "n" | "no" => return Some(Self::No(rest)),
            "a" | "always" => Self::Always,
            "e" | "edit" => return Some(Self::Edit(rest)),
            "l" | "later" => Self::Later,
            _ => return None,
        };
        // Consent is no word in a sentence.
        rest.is_none().then_some(choice)
    }
}

impl<'a> Interview<'a> {
    pub(crate) fn new(store: Arc<dyn Store>, session: &'a mut Session) -> Self {
        Self { records: RunRecords::new(store), session }
    }

    /// Returns whether somebody can be asked here.
    pub(crate) fn can_be_held() -> bool {
        io::stdin().is_terminal() && io::stderr().is_terminal()
    }

    /// Asks about one call after the other, and returns whether the run goes on here; else it stays
    /// paused. Every decision is recorded before the next one is asked for.
    pub(crate) async fn hold(mut self, run: &mut UnderWay) -> Result<bool, Report> {
        loop {
            let replay = self.records.replay(run.id()).await?;
            let is_over = !replay.expired(now()).is_empty();
            let Some(request) = replay.open_requests().into_iter().next().filter(|_| !is_over)
            else {
                run.resume().await?;
                return Ok(true);
            };
            let expires = replay.expires();
            introduce(&replay.agent, &request);
            if let Some(expiry) = expires {
                terminal::say(&styled(DIM, &format!("  {}", until(expiry, now()))));
            }
            let at = expires.map(|expiry| expiry.at);
            let resolution = match self.ask(&request, at).await {
                Said::Decided(resolution) => resolution,
                Said::Later => return Ok(false),
                Said::TooLate => {
                    terminal::say(&styled(YELLOW, "the time to decide is over"));
                    continue;
                }
            };
            let by = self.session.user();
            match run.resolve(&request.tool_call_id, resolution, &by).await {
                Ok(left) if left.is_empty() => return Ok(true),
                Ok(_) => {}
                Err(NotTaken::Otherwise(report)) => report.show(self.session.verbose),
                Err(NotTaken::AtAll(report)) => return Err(report),
            }
        }
    }

    async fn ask(&mut self, request: &DeferredRequest, until: Option<Timestamp>) -> Said {
        self.session.lines.forget();
        match request.asked().kind {
            DeferredKind::Approval => self.ask_consent(until).await,
            DeferredKind::Question | DeferredKind::External => {
                match self.line("answer (empty: decide later): ", until).await {
                    Ok(line) if line.is_empty() => Said::Later,
                    Ok(line) => Said::Decided(Resolution::Answer { result: result(line) }),
                    Err(said) => said,
                }
            }
        }
    }

    async fn ask_consent(&mut self, until: Option<Timestamp>) -> Said {
        loop {
            let question = "yes, no, always in this run, edit, later? [y/n/a/e/l] ";
            let line = match self.line(question, until).await {
                Ok(line) => line,
                Err(said) => return said,
            };
            let said = match Choice::of(&line) {
                Some(Choice::Yes) => Ok(Resolution::approve()),
                Some(Choice::Always) => Ok(Resolution::Approve { args: None, always: true }),
                Some(Choice::Later) => Err(Said::Later),
                Some(Choice::No(Some(message))) => Ok(Resolution::Deny { message: Some(message) }),
                Some(Choice::No(None)) => self.refusal(until).await,
                Some(Choice::Edit(given)) => match self.edited(given, until).await {
                    Ok(Some(args)) => Ok(Resolution::Approve { args: Some(args), always: false }),
                    Ok(None) => continue,
                    Err(said) => Err(said),
                },
                None => continue,
            };
            return said.map_or_else(|said| said, Said::Decided);
        }
    }

    async fn refusal(&mut self, until: Option<Timestamp>) -> Result<Resolution, Said> {
        let line = self.line("why not? The model is told (empty: nothing): ", until).await?;
        Ok(Resolution::Deny { message: Some(line).filter(|line| !line.is_empty()) })
    }

    /// Returns other arguments; none if there are to be none after all.
    async fn edited(
        &mut self,
        given: Option<String>,
        until: Option<Timestamp>,
    ) -> Result<Option<RawJson>, Said> {
        let mut given = given;
        loop {
            let line = match given.take() {
                Some(line) => line,
                None => self.line("arguments as JSON, on one line: ", until).await?,
            };
            if line.is_empty() {
                return Ok(None);
            }
            match RawJson::parse(&line) {
                Ok(args) => return Ok(Some(args)),
                Err(error) => terminal::say(&styled(YELLOW, &format!("that is no JSON: {error}"))),
            }
        }
    }

    /// Returns what is typed, unless the person leaves or it is too late.
    async fn line(&mut self, question: &str, until: Option<Timestamp>) -> Result<String, Said> {
        terminal::say_part(&styled(BOLD, question));
        let Session { lines, signals, .. } = &mut *self.session;
        let line = tokio::select! {
            line = lines.next() => line,
            _signal = signals.next() => {
                signals.dealt_with();
                None
            }
            () = over(until) => {
                terminal::close_line();
                return Err(Said::TooLate);
            }
        };
        // What was typed ended the line of the question.
        terminal::line_was_ended(line.is_some());
        terminal::close_line();
        line.map(|line| line.trim().to_owned()).ok_or(Said::Later)
    }
}

/// Waits until this moment has passed; for ever if there is none.
async fn over(at: Option<Timestamp>) {
    let Some(at) = at else { return std::future::pending().await };
    loop {
        let left = at.since(now());
        if left.is_zero() {
            return;
        }
        tokio::time::sleep(left.min(LOOK)).await;
    }
}

/// Says who wants to call what with which arguments.
fn introduce(agent: &AgentName, request: &DeferredRequest) {
    if let Some(question) = request.asked().question() {
        let by =
            request.handed().map_or_else(|| agent.to_string(), |handed| handed.agent.to_string());
        terminal::say(&styled(BOLD, &printable(&format!("agent `{by}` asks:"))));
        return terminal::say(&format!("  {}", printable(&question).replace('\n', "\n  ")));
    }
    if let Some(handed) = request.handed() {
        return terminal::say(&styled(BOLD, &printable(&wanted_there(&handed))));
    }
    let DeferredRequest { name: tool, args, kind, metadata, .. } = request;
    let what = match kind {
        DeferredKind::Approval => "wants to call",
        DeferredKind::Question => "asks with",
        DeferredKind::External => "waits for the result of",
    };
    terminal::say(&styled(BOLD, &printable(&format!("agent `{agent}` {what} `{tool}`"))));
    let indented =
        |json: &RawJson| printable(&excerpt(&readable(json), SHOWN_BYTES)).replace('\n', "\n  ");
    terminal::say(&format!("  {}", indented(args)));
    if let Some(metadata) = metadata {
        terminal::say(&format!("  the tool says: {}", indented(metadata)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_is_a_word_or_its_first_letter_and_consent_stands_alone() {
        assert_eq!(Choice::of(" Y\n"), Some(Choice::Yes));
        assert_eq!(Choice::of("always"), Some(Choice::Always));
        assert_eq!(Choice::of("l"), Some(Choice::Later));
        let why = Some("without a receipt".to_owned());
        assert_eq!(Choice::of("no without a receipt"), Some(Choice::No(why)));
        assert_eq!(Choice::of("e {\"a\":1}"), Some(Choice::Edit(Some("{\"a\":1}".to_owned()))));
        for unclear in ["", "ja", "yes but less", "a lot", "ye"] {
            assert_eq!(Choice::of(unclear), None, "{unclear}");
        }
    }
}
