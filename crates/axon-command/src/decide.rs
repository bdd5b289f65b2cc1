//! `axon approve`, `deny`, `answer` and `runs resolve`: a person decides about a call that a run
//! waits with, and the run goes on here.

use axon_kernel::event::Resolution;
use axon_kernel::ids::ToolCallId;
use axon_kernel::json::RawJson;
use axon_kernel::run::{Replay, RunState};
use axon_kernel::store::RunSummary;
use axon_runtime::RunRecords;
use serde_json::Value;

use crate::args::{AnswerArgs, ApproveArgs, DenyArgs, ResolveArgs, Then};
use crate::exit::Exit;
use crate::follow::follow;
use crate::report::Report;
use crate::runs::{Resumption, Terms, Wants, find, out_of_pause, short, store_with, waiting};
use crate::service::{Afterwards, Said};
use crate::session::Session;
use crate::show::Show;
use crate::suggestion::{here, quoted};
use crate::terminal;
use crate::underway::UnderWay;

/// What is true of a decision, whatever comes after it.
const STANDS: &str = "the decision is recorded and stands";

/// A decision, as it was typed.
struct Decision {
    run: String,
    call: Option<String>,
    resolution: Resolution,
    /// What the call has to want, where that is left to us.
    wants: Wants,
}

pub(crate) async fn approve(args: ApproveArgs, session: Session) -> Result<Exit, Report> {
    let ApproveArgs { run, call, args, always, then } = args;
    let resolution = Resolution::Approve { args, always };
    decide(Decision { run, call, resolution, wants: Wants::Approval }, then, session).await
}

pub(crate) async fn deny(args: DenyArgs, session: Session) -> Result<Exit, Report> {
    let DenyArgs { run, call, message, then } = args;
    let resolution = Resolution::Deny { message };
    decide(Decision { run, call, resolution, wants: Wants::Approval }, then, session).await
}

pub(crate) async fn answer(args: AnswerArgs, session: Session) -> Result<Exit, Report> {
    let AnswerArgs { run, text, call, then } = args;
    if text.trim().is_empty() {
        return Err(Report::usage("the answer is empty").todo("say something, or `axon deny`"));
    }
    let resolution = Resolution::Answer { result: result(text) };
    decide(Decision { run, call, resolution, wants: Wants::Answer }, then, session).await
}

pub(crate) async fn resolve(args: ResolveArgs, session: Session) -> Result<Exit, Report> {
    let ResolveArgs { run, call, verdict, then } = args;
    let (run, resolution) = (run.run, verdict.into_resolution());
    decide(Decision { run, call, resolution, wants: Wants::Certainty }, then, session).await
}

/// Returns an answer as JSON: objects and arrays as they are, everything else as text.
pub(crate) fn result(text: String) -> RawJson {
    let structured = RawJson::parse(&text)
        .ok()
        .filter(|json| matches!(json.decode(), Ok(Value::Object(_) | Value::Array(_))));
    structured.unwrap_or_else(|| Value::String(text).into())
}

async fn decide(decision: Decision, then: Then, mut session: Session) -> Result<Exit, Report> {
    let named = format!("axon runs show {}", quoted(&decision.run));
    let giving = async |session: &mut Session| give(decision, then.later, session).await;
    let given = session.unless_signalled(giving).await;
    let called_off =
        |signal| Report::cancelled(signal).because("it may be decided all the same").todo(named);
    let Some((run, replay)) = given.map_err(called_off)?? else { return Ok(Exit::OK) };
    let mut show = if then.json { Show::lines() } else { Show::talk() };
    let ended = match session.service() {
        // It goes on there by now.
        Some(service) => {
            show.of(replay.accepted.terms.kind);
            let mut goes_on = UnderWay::again(service.clone(), &run.run_id, &replay);
            Box::pin(follow(&mut goes_on, &mut show, &mut session)).await
        }
        None => Box::pin(Resumption::of(&run, Terms::default(), &mut session, &mut show)).await,
    };
    if ended.is_err() {
        show.end();
    }
    // Whatever came after it: the decision stands.
    ended.map_err(|report| report.because(STANDS))
}

/// Has the decision recorded, and returns the run as it was before if it goes on now.
async fn give(
    decision: Decision,
    later: bool,
    session: &mut Session,
) -> Result<Option<(RunSummary, Replay)>, Report> {
    let store = store_with(&decision.run, session).await?;
    let run = find(store.as_ref(), &decision.run).await?;
    let records = RunRecords::new(store);
    let replay = records.replay(&run.run_id).await?;
    let call = call(&decision, &replay)?;
    let by = session.user();
    let left = match session.service() {
        Some(service) => {
            let afterwards = if later { Afterwards::Wait } else { Afterwards::Resume };
            let said = Said { by: &by, then: afterwards };
            let decided = (&call, &decision.resolution);
            let taken = service.decide(&run.run_id, decided, said).await?;
            if let Some(problem) = taken.refused {
                return Err(Report::from(problem).because(STANDS));
            }
            taken.undecided
        }
        None => records.resolve(&run.run_id, &call, decision.resolution, &by).await?,
    };
    let id = short(&run.run_id);
    if !left.is_empty() {
        let replay = records.replay(&run.run_id).await?;
        terminal::say(&format!("decided; run {id} still waits:"));
        for command in out_of_pause(&run.run_id, &replay) {
            terminal::say(&format!("  {}", here(&command)));
        }
        return Ok(None);
    }
    if later {
        let command = format!("axon runs resume {id}");
        terminal::say(&format!("decided; the run goes on with: {}", here(&command)));
        return Ok(None);
    }
    Ok(Some((run, replay)))
}

/// Returns the call that is meant: the one that was named, or the only one of its kind.
fn call(decision: &Decision, replay: &Replay) -> Result<ToolCallId, Report> {
    if let Some(call) = &decision.call {
        return Ok(ToolCallId::new(call));
    }
    let fitting: Vec<_> =
        waiting(replay).into_iter().filter(|call| call.wants == decision.wants).collect();
    match fitting.as_slice() {
        [only] => Ok(only.call.clone()),
        [] if !replay.status.state().is_some_and(RunState::is_open) => {
            let how = &replay.status;
            Err(Report::new("run_ended", Exit::USAGE, format!("the run is {how}"))
                .todo(format!("axon runs show {}", decision.run)))
        }
        [] => {
            let waits = match decision.wants {
                Wants::Approval => "waits for no approval",
                Wants::Answer => "waits for no answer",
                Wants::Certainty => "has no call that may have taken effect",
            };
            let decided = replay.resolutions.iter().map(|(call, resolution)| {
                format!("call {call} is decided already: {}", resolution.label())
            });
            let report = Report::new("invalid_decision", Exit::USAGE, format!("the run {waits}"));
            Err(decided
                .fold(report, Report::because)
                .todo(format!("axon runs show {}", decision.run)))
        }
        several => {
            let line =
                |call: &crate::runs::Waiting| format!("{}  {} {}", call.call, call.tool, call.args);
            let lines: Vec<String> = several.iter().map(line).collect();
            Err(Report::usage("the run waits with several calls")
                .because(lines.join("\n"))
                .todo("name one of them"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_text_unless_it_is_structured() {
        for text in ["yes", "42", "\"quoted\"", "{broken"] {
            assert_eq!(result(text.to_owned()).decode::<Value>().unwrap(), text);
        }
        assert_eq!(result("{\"seats\": 2}".to_owned()).get(), "{\"seats\": 2}");
    }
}
