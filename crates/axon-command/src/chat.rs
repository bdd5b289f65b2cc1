//! `axon chat`: talk with an agent, line by line.

use std::io::{self, BufRead, IsTerminal, Read};
use std::ops::ControlFlow;

use axon_kernel::ids::ConversationId;
use axon_kernel::json::{MAX_PROMPT_BYTES, RawJson};
use axon_runtime::AgentHandle;
use tokio::sync::mpsc;

use crate::args::ChatArgs;
use crate::ask;
use crate::exit::Exit;
use crate::follow::follow;
use crate::report::Report;
use crate::session::Session;
use crate::show::Show;
use crate::terminal::{self, BOLD, DIM, styled};

/// Talks with an agent until the user leaves.
pub(crate) async fn run(args: ChatArgs, mut session: Session) -> Result<Exit, Report> {
    let mut definition = session.find(&args.target)?;
    args.ask.override_in(&mut definition.spec);
    ask::check(&args.deps, &definition.spec)?;
    let (runtime, agent) = session.start(definition).await?;
    let ended = talk(&args, &agent, &mut session).await;
    runtime.shutdown().await;
    ended
}

/// One conversation.
struct Chat<'a> {
    args: &'a ChatArgs,
    agent: &'a AgentHandle,
    conversation: ConversationId,
    deps: Option<RawJson>,
}

async fn talk(args: &ChatArgs, agent: &AgentHandle, session: &mut Session) -> Result<Exit, Report> {
    let conversation = ConversationId::new(uuid::Uuid::now_v7().to_string());
    let deps = ask::deps(&args.deps, agent).await?;
    let chat = Chat { args, agent, conversation, deps };
    let is_terminal = io::stdin().is_terminal();
    if is_terminal {
        let hint = format!("{}: /quit or Ctrl-D leaves, Ctrl-C cancels", agent.name());
        terminal::say(&styled(DIM, &hint));
    }
    let mut lines = lines();
    loop {
        session.signals.dealt_with();
        if is_terminal {
            terminal::say_part(&styled(BOLD, "> "));
        }
        let line = tokio::select! {
            line = lines.recv() => line,
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
        let run = self.args.ask.prepare(self.agent, prompt, self.deps.as_ref());
        let mut show = Show::talk();
        let ended = match run.conversation(self.conversation.clone()).start().await {
            Ok(mut run) => follow(&mut run, &mut show, &mut session.signals).await,
            Err(refusal) => Err(refusal.into()),
        };
        let Err(report) = ended else { return ControlFlow::Continue(()) };
        show.failed(&report);
        if report.ends_the_process() {
            return ControlFlow::Break(report.exit());
        }
        report.show(session.verbose);
        ControlFlow::Continue(())
    }
}

/// Reads stdin on a thread of its own, so that a signal never waits for a line.
fn lines() -> mpsc::Receiver<String> {
    // One line ahead of the turn is as much as there is use for.
    let (tell, lines) = mpsc::channel(1);
    std::thread::spawn(move || {
        let mut stdin = io::stdin().lock();
        while let Ok(Some(line)) = next_line(&mut stdin) {
            if tell.blocking_send(line).is_err() {
                return;
            }
        }
    });
    lines
}

/// Reads one line. One that is longer than any prompt is cut just beyond that, and refused.
fn next_line(input: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    let limit = MAX_PROMPT_BYTES as u64 + 1;
    let read = input.by_ref().take(limit).read_until(b'\n', &mut line)?;
    if line.len() > MAX_PROMPT_BYTES && !line.ends_with(b"\n") {
        input.skip_until(b'\n')?;
    }
    Ok((read > 0).then(|| String::from_utf8_lossy(&line).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_to_the_end_and_long_ones_are_cut() {
        let long = "x".repeat(MAX_PROMPT_BYTES + 10);
        let text = format!("a\n{long}\nb");
        let mut input = text.as_bytes();
        assert_eq!(next_line(&mut input).unwrap().unwrap(), "a\n");
        assert_eq!(next_line(&mut input).unwrap().unwrap().len(), MAX_PROMPT_BYTES + 1);
        assert_eq!(next_line(&mut input).unwrap().unwrap(), "b");
        assert_eq!(next_line(&mut input).unwrap(), None);
    }
}
