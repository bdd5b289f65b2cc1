//! `axon stubs`: the types of the one language for the other.

mod python;
mod rust;

use std::io::Read as _;
use std::path::Path;

use axon_kernel::spec::PythonTarget;
use axon_runner::environment;
use axon_runner::schema_of_type;
use axon_runtime::AgentDefinition;
use serde_json::Value;

use crate::args::{PythonStubsArgs, StubsArgs, StubsVerb};
use crate::exit::Exit;
use crate::report::Report;
use crate::session::{Session, say_progress};
use crate::terminal;

pub(crate) async fn run(args: StubsArgs, mut session: Session) -> Result<Exit, Report> {
    let (text, output) = match args.verb {
        StubsVerb::Python(PythonStubsArgs { agent, output }) => {
            (python::module(&agents(agent.as_deref(), &session)?)?, output)
        }
        StubsVerb::Rust(args) => {
            let (schema, from) = match (&args.model, &args.schema) {
                (Some(model), _) => (of_model(model, &mut session).await?, model.clone()),
                (None, Some(path)) => (of_file(path)?, path.display().to_string()),
                (None, None) => return Err(Report::usage("give --model or --schema")),
            };
            (rust::types(&schema, &from, args.name.as_deref())?, args.output)
        }
    };
    match output {
        None => terminal::answer(text.trim_end())?,
        Some(path) => std::fs::write(&path, text).map_err(|error| {
            Report::failed(format!("{} cannot be written", path.display()))
                .because(error.to_string())
        })?,
    }
    Ok(Exit::OK)
}

fn agents(named: Option<&str>, session: &Session) -> Result<Vec<AgentDefinition>, Report> {
    match named {
        Some(name) => Ok(vec![session.load(name)?]),
        None => session.names_or_complain()?.iter().map(|name| session.load(name)).collect(),
    }
}

/// Asks Python for the schema of one of its types.
async fn of_model(model: &str, session: &mut Session) -> Result<Value, Report> {
    let target = PythonTarget::try_from(model)?;
    let search = session.host.search(None);
    let path = session.python_path();
    let variables = session.host.variables.clone();
    let work = tokio::task::spawn_blocking(move || -> Result<Value, Report> {
        let python = environment::sync(&search, &say_progress)?.choice.python;
        Ok(schema_of_type(&python, &target, &path, &variables)?)
    });
    tokio::select! {
        done = work => done.map_err(|error| Report::failed(error.to_string()))?,
        signal = session.signals.next() => Err(Report::cancelled(signal)),
    }
}

/// Reads a schema from a file; `-` is stdin.
fn of_file(path: &Path) -> Result<Value, Report> {
    let name = path.display();
    let read = if path.as_os_str() == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        std::fs::read_to_string(path)
    };
    let text = read.map_err(|error| {
        Report::usage(format!("{name} cannot be read")).because(error.to_string())
    })?;
    serde_json::from_str(&text)
        .map_err(|error| Report::config(format!("{name} is no JSON")).because(error.to_string()))
}
