//! `axon run`: ask an agent once.

use std::io::{self, IsTerminal, Read};
use std::time::Duration;

use axon_kernel::event::millis;
use axon_kernel::ids::ConversationId;
use axon_kernel::json::MAX_PROMPT_BYTES;
use axon_kernel::store::{Forget, Store};
use axon_kernel::time::Timestamp;
use axon_runtime::{AgentHandle, RunBuilder};

use crate::args::RunArgs;
use crate::ask::{self, Asked};
use crate::exit::Exit;
use crate::follow::follow;
use crate::report::Report;
use crate::runs::{held, interrupted, now};
use crate::service::Service;
use crate::session::Session;
use crate::show::Show;
use crate::terminal::{self, BOLD, DIM, printable, styled};
use crate::underway::UnderWay;

/// How many old runs are forgotten after an answer.
const TIDIED: u64 = 100;

/// Asks an agent once.
pub(crate) async fn run(args: RunArgs, mut session: Session) -> Result<Exit, Report> {
    let mut show = if args.json { Show::lines() } else { Show::talk() };
    let ended = start(&args, &mut session, &mut show).await;
    if let Err(report) = &ended {
        show.failed(report);
    }
    ended
}

async fn start(args: &RunArgs, session: &mut Session, show: &mut Show) -> Result<Exit, Report> {
    if let Some(service) = session.service().cloned() {
        return Box::pin(start_there(args, service, session, show)).await;
    }
    let mut definition = session.find(&args.target)?;
    args.ask.override_in(&mut definition.spec)?;
    let spec = &definition.spec;
    ask::check(&args.deps, &spec.name, spec.deps.schema.as_ref())?;
    let prompt = prompt_of(args, session).await?;
    let store = session.store().await?;
    let conversation = args.conversation.as_ref().map(ConversationId::new);
    if let Some(conversation) = &conversation {
        check_conversation(conversation, store.as_ref()).await?;
    }
    let keep = session.settings()?.store.keep_runs;
    let (runtime, agent) = session.start(definition).await?;
    if !args.json
        && let Some(interrupted) = interrupted(store.as_ref()).await
    {
        terminal::say(&styled(DIM, &interrupted));
    }
    let ended = ask_once(args, (&prompt, conversation), &agent, session, show).await;
    tokio::join!(runtime.shutdown(), tidy(store.as_ref(), keep));
    ended
}

/// Asks an agent of a service once.
async fn start_there(
    args: &RunArgs,
    service: Service,
    session: &mut Session,
    show: &mut Show,
) -> Result<Exit, Report> {
    if args.show_prompt {
        return Err(Report::usage("a service does not tell what its models get")
            .todo("leave out --show-prompt, or run the agent here, without --url"));
    }
    let conversation = args.conversation.as_ref().map(ConversationId::new);
    let finding = async |session: &mut Session| {
        let asked = Asked::there(service, &args.target, (&args.deps, &args.ask)).await?;
        if let Some(conversation) = &conversation {
            check_conversation(conversation, session.store().await?.as_ref()).await?;
        }
        Ok::<_, Report>(asked)
    };
    let asked = session.unless_signalled(finding).await??;
    let prompt = prompt_of(args, session).await?;
    let what = (prompt.as_str(), conversation.as_ref());
    let mut run = asked.start(&args.ask, what, &mut session.signals).await?;
    follow(&mut run, show, session).await
}

async fn prompt_of(args: &RunArgs, session: &mut Session) -> Result<String, Report> {
    tokio::select! {
        prompt = prompt(args.prompt.clone()) => prompt,
        signal = session.signals.next() => Err(Report::cancelled(signal)),
    }
}

/// Refuses a turn of a conversation whose last one nobody drives, before anything is started.
async fn check_conversation(
    conversation: &ConversationId,
    store: &dyn Store,
) -> Result<(), Report> {
    let held = held(conversation, store).await?;
    held.map_or(Ok(()), |by| Err(Report::conversation_held(conversation, &by)))
}

/// Forgets a few of the runs that ended long ago, while the runners end anyway.
async fn tidy(store: &dyn Store, keep: Duration) {
    let before = Timestamp(now().0.saturating_sub(millis(keep)));
    let what = Forget { runs_before: Some(before), at_most: TIDIED, ..Forget::default() };
    if let Err(error) = store.forget(&what).await {
        tracing::debug!(%error, "old runs could not be forgotten");
    }
}

async fn ask_once(
    args: &RunArgs,
    (prompt, conversation): (&str, Option<ConversationId>),
    agent: &AgentHandle,
    session: &mut Session,
    show: &mut Show,
) -> Result<Exit, Report> {
    let deps = ask::deps(&args.deps, agent).await?;
    let mut run = args.ask.prepare(agent, prompt, deps.as_ref());
    if let Some(conversation) = conversation {
        run = run.conversation(conversation);
    }
    if args.show_prompt {
        show_prompt(&run, agent, prompt).await?;
    }
    let mut run = UnderWay::Here(Box::new(run.start().await?));
    follow(&mut run, show, session).await
}

/// Returns the prompt: the argument, or what stdin has.
async fn prompt(given: Option<String>) -> Result<String, Report> {
    match given {
        Some(prompt) if prompt != "-" => Ok(prompt),
        None if io::stdin().is_terminal() => {
            Err(Report::usage("there is no prompt")
                .todo("give it as an argument, or on stdin with -"))
        }
        Some(_) | None => {
            let read = tokio::task::spawn_blocking(read_stdin).await;
            read.map_err(|error| Report::failed(error.to_string()))?
        }
    }
}

fn read_stdin() -> Result<String, Report> {
    let mut bytes = Vec::new();
    // One byte more than is taken, so that the run is refused and not cut.
    let limit = MAX_PROMPT_BYTES as u64 + 1;
    io::stdin()
        .lock()
        .take(limit)
        .read_to_end(&mut bytes)
        .map_err(|error| Report::usage("stdin cannot be read").because(error.to_string()))?;
    if bytes.len() > MAX_PROMPT_BYTES {
        let what = format!("the prompt is longer than {MAX_PROMPT_BYTES} bytes");
        return Err(Report::usage(what).todo("shorten it, or let a tool read the long text"));
    }
    let text = String::from_utf8(bytes)
        .map_err(|error| Report::usage("the prompt is no UTF-8 text").because(error.to_string()))?;
    let text = text.trim_end_matches(['\n', '\r']);
    if text.is_empty() {
        return Err(
            Report::usage("the prompt is empty").todo("give it as an argument, or on stdin")
        );
    }
    Ok(text.to_owned())
}

/// Shows on stderr what the model gets.
async fn show_prompt(run: &RunBuilder, agent: &AgentHandle, prompt: &str) -> Result<(), Report> {
    if let Some(instructions) = run.instructions().await? {
        terminal::say(&styled(BOLD, "instructions"));
        terminal::say(&styled(DIM, &printable(instructions.trim())));
    }
    for target in &agent.spec().dynamic_instructions {
        terminal::say(&styled(DIM, &format!("(and what {target} says)")));
    }
    if let Some(module) = &agent.spec().runner.module {
        terminal::say(&styled(DIM, &format!("(and the instructions of {module})")));
    }
    terminal::say(&styled(BOLD, "prompt"));
    terminal::say(&styled(DIM, &printable(prompt)));
    Ok(())
}
