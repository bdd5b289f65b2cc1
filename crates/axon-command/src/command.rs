//! The entry: from the command line to the exit code.

use std::collections::BTreeMap;
use std::process::ExitCode;

use axon_runtime::{Host, Runtime, RuntimeBuilder};
use clap::Parser;

use crate::args::{Cli, GlobalArgs, Verb};
use crate::exit::Exit;
use crate::logging::Audience;
use crate::report::Report;
use crate::session::Session;
use crate::suggestion;
use crate::telemetry::Telemetry;
use crate::{
    agents, chat, completions, decide, doctor, env, graph, logging, new, run, runner, runs, schema,
    serve, stubs, terminal, tool, tree, validate,
};

/// Runs the stock command line, whose agents are folders.
///
/// ```no_run
/// fn main() -> std::process::ExitCode {
///     axon_command::main()
/// }
/// ```
#[must_use]
pub fn main() -> ExitCode {
    main_with(Runtime::builder())
}

/// Runs the command line of a service: the agents are those of `builder`, unless a folder is named
/// with `--agents` or `AXON_AGENTS`.
///
/// ```no_run
/// use axon_runtime::Runtime;
///
/// fn main() -> std::process::ExitCode {
///     axon_command::main_with(Runtime::builder().agents_dir("agents"))
/// }
/// ```
#[must_use]
pub fn main_with(builder: RuntimeBuilder) -> ExitCode {
    let _flush = terminal::Flush;
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help goes to stdout and ends with 0. If nobody reads it, there is nobody to tell.
            let _unread = error.print();
            return if error.use_stderr() { Exit::USAGE.into() } else { Exit::OK.into() };
        }
    };
    let verbose = cli.global.verbose > 0;
    let exit = execute(cli, builder).unwrap_or_else(|report| {
        report.show(verbose);
        report.exit()
    });
    exit.into()
}

fn execute(cli: Cli, builder: RuntimeBuilder) -> Result<Exit, Report> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Report::failed("threads cannot be started").because(error.to_string()))?;
    let ended = runtime.block_on(dispatch(cli, builder));
    // A thread that still waits for stdin must not keep the process.
    runtime.shutdown_background();
    ended
}

async fn dispatch(cli: Cli, builder: RuntimeBuilder) -> Result<Exit, Report> {
    let Cli { global, verb } = cli;
    if global.url.is_some() && !verb.asks_services() {
        return Err(Report::usage("this works here, and takes no --url")
            .todo("leave it out; AXON_URL does not matter for it"));
    }
    let (audience, telemetry) = (Audience::of(&verb), Telemetry::default());
    let session = |builder| {
        let mut session = session(&global, audience, builder)?;
        session.telemetry = telemetry.clone();
        Ok::<_, Report>(session)
    };
    let exit = Box::pin(follow(verb, builder, session)).await;
    telemetry.end().await;
    exit
}

async fn follow(
    verb: Verb,
    builder: RuntimeBuilder,
    session: impl FnOnce(RuntimeBuilder) -> Result<Session, Report>,
) -> Result<Exit, Report> {
    match verb {
        Verb::Completions(args) => completions::run(&args),
        Verb::Schema(args) => schema::run(&args),
        Verb::Run(args) => run::run(args, connected(session(builder)?)?).await,
        Verb::Chat(args) => chat::run(args, connected(session(builder)?)?).await,
        Verb::Serve(args) => serve::run(args, session(builder)?).await,
        Verb::Runs(args) => Box::pin(runs::run(args, connected(session(builder)?)?)).await,
        Verb::Approve(args) => decide::approve(args, connected(session(builder)?)?).await,
        Verb::Deny(args) => decide::deny(args, connected(session(builder)?)?).await,
        Verb::Answer(args) => decide::answer(args, connected(session(builder)?)?).await,
        Verb::Agents(args) => agents::run(args, connected(session(builder)?)?).await,
        Verb::Tree(args) => tree::run(args, session(builder)?).await,
        Verb::Validate(args) => validate::run(&args, &session(builder)?),
        Verb::Graph(args) => graph::run(&args, &session(builder)?),
        Verb::Tool(args) => tool::run(args, session(builder)?).await,
        Verb::Runner(args) => runner::run(args, session(builder)?).await,
        Verb::Doctor(args) => doctor::run(args, session(builder)?).await,
        Verb::Env(args) => env::run(args, session(builder)?).await,
        Verb::New(args) => new::run(args, session(builder)?).await,
        Verb::Stubs(args) => stubs::run(args, session(builder)?).await,
    }
}

/// Lets a session ask the service that was named, if one was.
fn connected(mut session: Session) -> Result<Session, Report> {
    session.connect()?;
    Ok(session)
}

fn session(
    global: &GlobalArgs,
    audience: Audience,
    builder: RuntimeBuilder,
) -> Result<Session, Report> {
    let host = Host { frozen: global.frozen, ..host()? };
    logging::start(global, audience, &host)?;
    suggestion::remember(global);
    Session::new(global, host, builder)
}

/// Says what is wrong with a `.env` file, and never what stands in it: that may be a key.
fn without_values(error: &dotenvy::Error, file: &std::path::Path) -> String {
    let dotenvy::Error::LineParse(wrong, _) = error else { return error.to_string() };
    let text = std::fs::read_to_string(file).unwrap_or_default();
    match text.lines().position(|line| line.contains(wrong.trim())) {
        Some(line) => format!("line {} is not NAME=value", line + 1),
        None => "a line is not NAME=value".to_owned(),
    }
}

/// Reads the surroundings: the process's own, and beside them `.env` of the working directory.
fn host() -> Result<Host, Report> {
    let process = Host::from_process().map_err(|error| {
        Report::new("environment", Exit::ENVIRONMENT, "there is no working directory")
            .because(error.to_string())
    })?;
    let file = process.directory.join(".env");
    if !file.is_file() {
        return Ok(process);
    }
    let wrong = |error: dotenvy::Error| {
        Report::config(format!("{} cannot be read", file.display()))
            .because(without_values(&error, &file))
            .todo("write one NAME=value per line; quote a value that has spaces")
    };
    let mut variables = BTreeMap::new();
    for variable in dotenvy::from_path_iter(&file).map_err(wrong)? {
        let (name, value) = variable.map_err(wrong)?;
        variables.insert(name, value);
    }
    // What is set already wins.
    variables.extend(process.variables);
    Ok(Host::new(process.directory, variables))
}
