//! `axon chat`: talk with an agent, line by line.

use std::io::{self, IsTerminal};
use std::ops::ControlFlow;

use axon_kernel::ids::ConversationId;
use axon_kernel::run::RunState;
use axon_kernel::spec::AgentName;
use axon_kernel::store::{RunQuery, RunSummary, Store, StoreError};
use axon_runtime::Runtime;

use crate::args::ChatArgs;
use crate::ask::{self, Asked};
use crate::exit::Exit;
use crate::follow::follow;
use crate::interview::Interview;
use crate::report::Report;
use crate::runs::{Resumption, Terms, held, interrupted};
use crate::service::Service;
use crate::session::Session;
use crate::show::Show;
use crate::suggestion::{here, quoted};
use crate::terminal::{self, BOLD, DIM, printable, styled};

/// Talks with an agent until the user leaves.
pub(crate) async fn run(args: ChatArgs, mut session: Session) -> Result<Exit, Report> {
    if let Some(service) = session.service().cloned() {
        return Box::pin(run_there(args, service, session)).await;
    }
    let mut definition = session.find(&args.target)?;
    args.ask.override_in(&mut definition.spec)?;
    let spec = &definition.spec;
    ask::check(&args.deps, &spec.name, spec.deps.schema.as_ref())?;
    let store = session.store().await?;
    let found = conversation(&args, &definition.spec.name, store.as_ref()).await?;
    // A turn that waits for a person keeps the conversation until that person has decided.
    let open = held(&found.id, store.as_ref()).await?;
    if let Some(paused) = open.as_ref().filter(|run| run.state == RunState::Paused) {
        return Err(Report::conversation_held(&found.id, paused));
    }
    let (runtime, agent) = session.start(definition).await?;
    let ended = async {
        if let Some(run) = &open {
            Box::pin(finish(run, &runtime, &mut session)).await?;
        } else if let Some(interrupted) = interrupted(store.as_ref()).await {
            terminal::say(&styled(DIM, &interrupted));
        }
        let deps = ask::deps(&args.deps, &agent).await?;
        talk(&args, &found, Asked::Here { agent, deps }, &mut session).await
    };
    let ended = ended.await;
    runtime.shutdown().await;
    say_how_to_go_on(&args, &found, store.as_ref()).await;
    ended
}

/// Talks with an agent of a service.
async fn run_there(args: ChatArgs, service: Service, mut session: Session) -> Result<Exit, Report> {
    let store = session.store().await?;
    let finding = async |_: &mut Session| {
        let asked = Asked::there(service, &args.target, (&args.deps, &args.ask)).await?;
        let found = conversation(&args, asked.name(), store.as_ref()).await?;
        match held(&found.id, store.as_ref()).await? {
            Some(open) => Err(Report::conversation_held(&found.id, &open)),
            None => Ok((asked, found)),
        }
    };
    let (asked, found) = session.unless_signalled(finding).await??;
    let ended = talk(&args, &found, asked, &mut session).await;
    say_how_to_go_on(&args, &found, store.as_ref()).await;
    ended
}

async fn say_how_to_go_on(args: &ChatArgs, found: &Found, store: &dyn Store) {
    let is_kept = store.is_durable() && store.history(&found.id).await.is_ok_and(|h| !h.is_empty());
    if is_kept {
        let again = again(args, &found.id);
        terminal::say(&styled(DIM, &format!("go on with it: {}", here(&again))));
    }
}

/// A conversation that is talked in.
struct Found {
    id: ConversationId,
    /// Whether something was said in it before.
    goes_on: bool,
}

/// Returns the conversation that is meant: the one that is named, the newest one, or a new one.
async fn conversation(
    args: &ChatArgs,
    agent: &AgentName,
    store: &dyn Store,
) -> Result<Found, Report> {
    if let Some(id) = &args.conversation {
        let id = ConversationId::new(id);
        let goes_on = !store.history(&id).await?.is_empty();
        return Ok(Found { id, goes_on });
    }
    if args.newest {
        if let Some(id) = newest(agent, store).await? {
            return Ok(Found { id, goes_on: true });
        }
        terminal::say(&format!("`{agent}` has no conversation to go on with: this is a new one"));
    }
    Ok(Found { id: ConversationId::new(uuid::Uuid::now_v7().to_string()), goes_on: false })
}

/// Returns the conversation that the newest turn with `agent` is of.
async fn newest(
    agent: &AgentName,
    store: &dyn Store,
) -> Result<Option<ConversationId>, StoreError> {
    let mut query = RunQuery { agent: Some(agent.clone()), ..RunQuery::default() };
    loop {
        let page = store.runs(&query).await?;
        let Some(last) = page.last() else { return Ok(None) };
        query.after = Some(last.run_id.clone());
        if let Some(id) = page.into_iter().find_map(|run| run.conversation_id) {
            return Ok(Some(id));
        }
    }
}

/// Goes on with the turn that was interrupted, and shows its answer.
async fn finish(run: &RunSummary, runtime: &Runtime, session: &mut Session) -> Result<(), Report> {
    terminal::say(&styled(DIM, "the last turn was interrupted, and goes on:"));
    let mut show = Show::talk();
    let mut resumption = Resumption::in_runtime(session.store().await?, runtime.clone());
    let ended = Box::pin(resumption.one(run, Terms::default(), (session, &mut show))).await;
    ended.map(drop)
}

/// One conversation.
struct Chat<'a> {
    args: &'a ChatArgs,
    asked: Asked,
    conversation: ConversationId,
}

async fn talk(
    args: &ChatArgs,
    found: &Found,
    asked: Asked,
    session: &mut Session,
) -> Result<Exit, Report> {
    let chat = Chat { args, asked, conversation: found.id.clone() };
    if found.goes_on {
        let said = printable(&format!("conversation {} goes on", found.id));
        terminal::say(&styled(DIM, &said));
    }
    let is_terminal = io::stdin().is_terminal();
    if is_terminal {
        let hint = format!("{}: /quit or Ctrl-D leaves, Ctrl-C cancels", chat.asked.name());
        terminal::say(&styled(DIM, &hint));
    }
    loop {
        session.signals.dealt_with();
        if is_terminal {
            terminal::say_part(&styled(BOLD, "> "));
        }
        let line = tokio::select! {
            line = session.lines.next() => line,
            signal = session.signals.next() => {
                terminal::close_line();
                return Ok(signal.exit());
            }
        };
        // What was typed ended the line of the prompt.
        terminal::line_was_ended(is_terminal && line.is_some());
        match line.as_deref().map(str::trim) {
            None | Some("/quit" | "/exit") => {
                terminal::close_line();
                return Ok(Exit::OK);
            }
            Some("") => {}
            Some(prompt) => {
                if let ControlFlow::Break(exit) = chat.turn(prompt, session).await {
                    return Ok(exit);
                }
            }
        }
    }
}

impl Chat<'_> {
    /// Makes one turn. A turn that fails is told, and the chat goes on.
    async fn turn(&self, prompt: &str, session: &mut Session) -> ControlFlow<Exit> {
        let mut show = Show::talk();
        let ended = async {
            let what = (prompt, Some(&self.conversation));
            let mut run = self.asked.start(&self.args.ask, what, &mut session.signals).await?;
            follow(&mut run, &mut show, session).await
        };
        let ended = ended.await;
        let Err(report) = ended else { return ControlFlow::Continue(()) };
        show.failed(&report);
        if report.ends_the_process() {
            return ControlFlow::Break(report.exit());
        }
        report.show(session.verbose);
        if Interview::can_be_held() && report.exit() == Exit::of_undecided(false) {
            // The conversation takes no turn before somebody has decided.
            return ControlFlow::Break(report.exit());
        }
        ControlFlow::Continue(())
    }
}

/// Returns the command that goes on with the conversation.
fn again(args: &ChatArgs, conversation: &ConversationId) -> String {
    let mut command =
        format!("axon chat {} --conversation {}", args.target, quoted(conversation.as_str()));
    for (key, value) in &args.deps.dep {
        command = format!("{command} --dep {}", quoted(&format!("{key}={value}")));
    }
    if let Some(deps) = &args.deps.deps {
        command = format!("{command} --deps {}", quoted(deps.get()));
    }
    command
}
