//! `axon runner`: an agent's runner, for services on other machines.

use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axon_runtime::{AgentDefinition, Door, HostedRunner};

use crate::args::RunnerArgs;
use crate::exit::Exit;
use crate::report::Report;
use crate::session::{Session, say_progress};
use crate::terminal;

/// The shortest token that is taken: nobody guesses it over a network.
const TOKEN_BYTES: usize = 16;

/// How long attempts may take to end when the runner is stopped.
const GRACE: Duration = Duration::from_secs(10);

/// Starts the runner, says where it is, and ends with it, or it when it is told to.
pub(crate) async fn run(args: RunnerArgs, mut session: Session) -> Result<Exit, Report> {
    let agent = session.load(&args.agent)?;
    let token = token(&args, &agent, &session)?;
    let cannot = |error: std::io::Error| {
        Report::new("environment", Exit::ENVIRONMENT, format!("cannot listen at {}", args.listen))
            .because(error.to_string())
            .todo("choose another port with --listen; port 0 takes any")
    };
    if !args.listen.ip().is_loopback() {
        terminal::say(
            "other machines can reach this runner, and the token, prompts and answers pass in the \
             clear: leave that to a tunnel (ssh -L, WireGuard) and listen at 127.0.0.1",
        );
    }
    let listener = TcpListener::bind(args.listen).map_err(cannot)?;
    let address = listener.local_addr().map_err(cannot)?;
    let door = Door { listener, token: token.into() };
    let started = HostedRunner::start(agent, session.host.clone(), (door, Arc::new(say_progress)));
    let runner = tokio::select! {
        started = Box::pin(started) => started?,
        signal = session.signals.next() => return Err(Report::cancelled(signal)),
    };
    let (model, pid) = (runner.model().0.to_owned(), runner.pid());
    terminal::answer(&format!("http://{address} runs `{}` with {model} (pid {pid})", args.agent))?;
    tokio::select! {
        exit = runner.exited() => {
            runner.stop(Duration::ZERO).await;
            Err(Report::failed("the runner ended").because(exit.to_string()))
        }
        signal = session.signals.next() => {
            terminal::say(&format!("{}: stopping the runner", signal.reason()));
            runner.stop(GRACE).await;
            Ok(signal.exit())
        }
    }
}

/// Reads the token that each request has to carry.
fn token(args: &RunnerArgs, agent: &AgentDefinition, session: &Session) -> Result<String, Report> {
    let own = agent.spec.runner.token_env.as_ref().map(ToString::to_string);
    let token = match (&args.token_file, &args.token_env) {
        (Some(file), _) => read(file)?,
        (None, Some(name)) => variable(name, session)?,
        (None, None) if !args.listen.ip().is_loopback() => {
            let what = format!("{} can be reached from other machines", args.listen);
            return Err(
                Report::usage(what).todo("give a token: --token-env NAME or --token-file FILE")
            );
        }
        (None, None) => match own {
            Some(name) => variable(&name, session)?,
            None => {
                return Err(Report::usage("a runner that others ask needs a token")
                    .todo("give one: --token-env NAME or --token-file FILE"));
            }
        },
    };
    if token.len() < TOKEN_BYTES || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Report::usage(format!(
            "the token has to have {TOKEN_BYTES} characters or more, letters, digits and signs only"
        ))
        .todo("openssl rand -hex 32"));
    }
    Ok(token)
}

fn variable(name: &str, session: &Session) -> Result<String, Report> {
    session.host.variable(name).ok_or_else(|| {
        Report::usage(format!("`{name}`, which is to hold the token, is not set"))
            .todo(format!("export {name}=$(openssl rand -hex 32)"))
    })
}

fn read(file: &Path) -> Result<String, Report> {
    let text = std::fs::read_to_string(file).map_err(|error| {
        Report::usage(format!("cannot read the token from {}", file.display()))
            .because(error.to_string())
    })?;
    Ok(text.trim_end().to_owned())
}
