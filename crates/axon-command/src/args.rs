//! What can be typed.

mod agents;
mod runs;
mod serve;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use axon_kernel::json::RawJson;
use axon_kernel::spec::ModelName;
use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

pub(crate) use agents::{AgentsArgs, AgentsVerb, DrainArgs, TreeArgs};
pub(crate) use runs::{
    AnswerArgs, ApproveArgs, CancelArgs, DenyArgs, EventsArgs, ListArgs, PruneArgs, ResolveArgs,
    ResumeArgs, RunArg, RunsArgs, RunsVerb, Then, Wanted, Which,
};
pub(crate) use serve::ServeArgs;

/// The longest time that a run can be given.
const MAX_TIMEOUT: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Runs agents that Rust supervises and pydantic-ai executes.
#[derive(Debug, Parser)]
#[command(
    name = "axon",
    version,
    arg_required_else_help = true,
    after_help = "\
Start here:
  axon new hello                                 writes agents/hello, which answers without a key
  axon run hello \"What day is it?\"               asks it
  axon doctor                                    says what is missing, and how to mend it
  axon serve --offline                           answers over HTTP, and to OpenAI's clients
  axon runs                                      what became of it, and of every run before

An agent is a folder: agents/NAME/agent.toml, with a Python package beside it. Answers go to
stdout, everything else to stderr. `.env` in the working directory is read.

With --url or AXON_URL, `run`, `chat`, `runs`, `approve`, `deny`, `answer`, `agents` and `tree` ask
that service and read nothing here. A run is told as it is here; `agents` also says how each one is
there. `tree` and the verbs that change agents always ask one: without either, the one at
http://127.0.0.1:8700.

Exit codes: 0 ok, 1 the run failed, 2 wrong usage, 3 wrong configuration, 4 something is missing on
this machine, 5 model provider or key, 6 the output broke its schema, 7 an approval is needed,
8 nobody knows whether a tool call took effect, 124 timeout, 130 and 143 interrupted."
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: GlobalArgs,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// What every verb takes.
#[derive(Clone, Debug, Args)]
pub(crate) struct GlobalArgs {
    /// The folder of agents; else AXON_AGENTS, else `agents`.
    #[arg(long, global = true, value_name = "DIR", help_heading = "Everywhere")]
    pub(crate) agents: Option<PathBuf>,
    /// Where runs and conversations are kept: a path, postgres://…, or `memory`; else AXON_STORE,
    /// else `[store] url` of axon.toml, else `.axon/axon.db` beside the folder of agents.
    #[arg(long, global = true, value_name = "URL", help_heading = "Everywhere")]
    pub(crate) store: Option<String>,
    /// The service to ask, such as http://127.0.0.1:8700; else AXON_URL.
    #[arg(
        long,
        global = true,
        value_name = "URL",
        conflicts_with = "store",
        help_heading = "Everywhere"
    )]
    pub(crate) url: Option<String>,
    /// The file that holds the token of that service; else AXON_TOKEN_FILE.
    #[arg(long, global = true, value_name = "FILE", help_heading = "Everywhere")]
    pub(crate) token_file: Option<PathBuf>,
    /// Take the Python environment as it is: build none, and download nothing.
    #[arg(long, global = true, help_heading = "Everywhere")]
    pub(crate) frozen: bool,
    /// Log more to stderr: -v what happens, -vv in detail; AXON_LOG says it by target.
    #[arg(short, long, global = true, action = ArgAction::Count, help_heading = "Everywhere")]
    pub(crate) verbose: u8,
    /// For whom the log is written.
    #[arg(
        long,
        global = true,
        value_enum,
        default_value = "human",
        value_name = "FORM",
        help_heading = "Everywhere"
    )]
    pub(crate) log: LogFormat,
}

/// For whom the log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// Lines of text.
    Human,
    /// Lines of JSON.
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Ask an agent once.
    Run(RunArgs),
    /// Talk with an agent, line by line.
    Chat(ChatArgs),
    /// Serve the agents over HTTP: runs, events, OpenAI's clients, probes and metrics.
    Serve(ServeArgs),
    /// List the runs on record and what is to be done about them; show, resume, prune them.
    Runs(RunsArgs),
    /// Approve a tool call that a paused run waits for, and go on.
    Approve(ApproveArgs),
    /// Refuse a tool call that a paused run waits for, and go on.
    Deny(DenyArgs),
    /// Answer what a paused run asks, and go on.
    Answer(AnswerArgs),
    /// List the agents, show one; start, stop, restart and drain those of a service.
    Agents(AgentsArgs),
    /// Show the supervision tree of a service.
    Tree(TreeArgs),
    /// Check the agents' definitions without starting anything.
    Validate(ValidateArgs),
    /// Draw who hands messages to whom.
    Graph(GraphArgs),
    /// Print a JSON Schema, for editors and for whoever reads events.
    Schema(SchemaArgs),
    /// Call a tool without a model.
    Tool(ToolArgs),
    /// Run an agent's runner for services on other machines.
    Runner(RunnerArgs),
    /// Say what this machine lacks, and how to mend it.
    Doctor(DoctorArgs),
    /// Prepare or show the Python environment.
    Env(EnvArgs),
    /// Write a new agent.
    New(NewArgs),
    /// Write the types of the one language for the other.
    Stubs(StubsArgs),
    /// Print the completions for a shell.
    Completions(CompletionsArgs),
}

impl Verb {
    /// Returns whether it can be asked of a service.
    pub(crate) fn asks_services(&self) -> bool {
        match self {
            Self::Run(_)
            | Self::Chat(_)
            | Self::Runs(_)
            | Self::Approve(_)
            | Self::Deny(_)
            | Self::Answer(_)
            | Self::Agents(_)
            | Self::Tree(_) => true,
            Self::Serve(_)
            | Self::Validate(_)
            | Self::Graph(_)
            | Self::Schema(_)
            | Self::Tool(_)
            | Self::Runner(_)
            | Self::Doctor(_)
            | Self::Env(_)
            | Self::New(_)
            | Self::Stubs(_)
            | Self::Completions(_) => false,
        }
    }
}

/// Ask an agent once.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  axon run bank_support \"What is my balance?\" --dep customer_id=123
  echo \"I just lost my card!\" | axon run bank_support - --deps '{\"customer_id\": 123}'
  axon run mypackage.agents:support_agent \"Hello\"       a pydantic_ai.Agent, without any file
  axon run bank_support \"Hello\" --dep customer_id=123 --json | jq .event
  axon run bank_support \"And now?\" --dep customer_id=123 --conversation c1
  axon run desk \"Refund order 7\" --approve refund
  axon --url http://127.0.0.1:8700 run bank_support \"Hello\" --dep customer_id=123

The run is on record before it begins: if its process is killed, `axon runs resume` goes on with it.
With --url it is a run of that service: Ctrl-C cancels it there, a link that breaks is taken up again
without a gap, and if this process is killed the run goes on.
A turn of a conversation continues what was said before, by whatever process.

If a tool call needs an approval or an answer, a person at the terminal is asked, and the run goes
on here. Otherwise, and with --json, the run is left paused, and the command exits with 7 and says
how to go on: `axon approve`, `deny` or `answer`, from any process.

The answer goes to stdout: text as text, structured output as JSON. With --json, stdout has one
event per line as `axon schema events` describes; the last one is the only terminal event:
completed, failed, cancelled or rejected. A request that never became a run is `rejected` (or
`cancelled`) with an empty run_id; a run that waits for a person ends with `paused`; a reader that
is too slow is told so by {\"event\":\"lagged\",\"missed\":N,\"text\":\"the answer so far\"}.")]
pub(crate) struct RunArgs {
    /// The agent: a name in the folder of agents, or a pydantic_ai.Agent as MODULE:ATTR.
    #[arg(value_name = "AGENT|MODULE:ATTR")]
    pub(crate) target: String,
    /// What to ask; `-`, or nothing where stdin is no terminal, reads stdin.
    pub(crate) prompt: Option<String>,
    #[command(flatten)]
    pub(crate) deps: DepsArgs,
    #[command(flatten)]
    pub(crate) ask: AskArgs,
    /// The conversation that this is a turn of.
    #[arg(long, value_name = "ID")]
    pub(crate) conversation: Option<String>,
    /// Print every event as a line of JSON.
    #[arg(long)]
    pub(crate) json: bool,
    /// Show the instructions and the prompt that the model gets.
    #[arg(long)]
    pub(crate) show_prompt: bool,
}

/// Talk with an agent, line by line.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  axon chat bank_support --dep customer_id=123
  axon chat bank_support --dep customer_id=123 --continue

Each line is a turn of one conversation, which another chat can go on with. Ctrl-C cancels the turn
under way and leaves at the prompt; /quit and Ctrl-D leave. A turn that fails does not count.")]
pub(crate) struct ChatArgs {
    /// The agent: a name in the folder of agents, or a pydantic_ai.Agent as MODULE:ATTR.
    #[arg(value_name = "AGENT|MODULE:ATTR")]
    pub(crate) target: String,
    #[command(flatten)]
    pub(crate) deps: DepsArgs,
    #[command(flatten)]
    pub(crate) ask: AskArgs,
    /// The conversation to go on with, or to begin; else a new one.
    #[arg(long, value_name = "ID", conflicts_with = "newest")]
    pub(crate) conversation: Option<String>,
    /// Go on with the agent's newest conversation.
    #[arg(long = "continue")]
    pub(crate) newest: bool,
}

/// What a caller gives to tools and prompts.
#[derive(Debug, Args)]
pub(crate) struct DepsArgs {
    /// One value for tools and prompts: JSON, or else text. Repeat it for more.
    #[arg(long, value_name = "KEY=VALUE", value_parser = crate::deps::pair)]
    pub(crate) dep: Vec<(String, String)>,
    /// All of them as JSON; --dep adds to it.
    #[arg(long, value_name = "JSON", value_parser = crate::deps::json)]
    pub(crate) deps: Option<RawJson>,
}

/// How an agent is asked.
#[derive(Debug, Args)]
pub(crate) struct AskArgs {
    /// Another model than the agent's own, such as openai:gpt-5.
    #[arg(long, value_name = "MODEL")]
    pub(crate) model: Option<ModelName>,
    /// How long an answer may take, such as 30s or 5m.
    #[arg(long, value_name = "TIME", value_parser = timeout)]
    pub(crate) timeout: Option<Duration>,
    /// Approve the calls of this tool without asking. Repeat it for more: each tool is named, so that
    /// nothing is approved that nobody has thought of.
    #[arg(long, value_name = "TOOL")]
    pub(crate) approve: Vec<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  axon validate && git push

Every problem comes with its file and line. Nothing is started, Python neither.")]
pub(crate) struct ValidateArgs {
    /// The agent to check; else all of them.
    pub(crate) agent: Option<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  axon schema agent > agent.schema.json      then, in agent.toml: #:schema ../../agent.schema.json
  axon schema config > axon.schema.json      then, in agents/axon.toml: #:schema ../axon.schema.json")]
pub(crate) struct SchemaArgs {
    /// Of what.
    #[arg(value_enum)]
    pub(crate) of: SchemaOf,
}

/// What there is a schema of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum SchemaOf {
    /// The file agent.toml.
    Agent,
    /// The file router.toml.
    Router,
    /// The file pipeline.toml.
    Pipeline,
    /// The file axon.toml, which lies beside the agents and holds for all of them.
    Config,
    /// The events of a run, as `axon run --json` prints them.
    Events,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  axon graph                                 as a tree, for a terminal
  axon graph --mermaid > graph.mmd           for documentation

Nothing is started. What is wrong with it, `axon validate` tells.")]
pub(crate) struct GraphArgs {
    /// Draw it in the language of Mermaid.
    #[arg(long)]
    pub(crate) mermaid: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ToolArgs {
    #[command(subcommand)]
    pub(crate) verb: ToolVerb,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ToolVerb {
    /// Call a Python tool that an agent registers, without a model.
    #[command(after_help = "\
Example:
  axon tool call bank_support.tools:customer_balance '{}' --dep customer_id=123")]
    Call(ToolCallArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ToolCallArgs {
    /// The Python function, as `python = …` of the tool names it.
    #[arg(value_name = "MODULE:FUNCTION")]
    pub(crate) target: String,
    /// The arguments, a JSON object.
    #[arg(value_name = "JSON", value_parser = crate::deps::json, default_value = "{}")]
    pub(crate) args: RawJson,
    /// The agent that registers it, where several do.
    #[arg(long, value_name = "NAME")]
    pub(crate) agent: Option<String>,
    /// How long it may take, such as 30s or 5m; else as long as its definition says.
    #[arg(long, value_name = "TIME", value_parser = timeout)]
    pub(crate) timeout: Option<Duration>,
    #[command(flatten)]
    pub(crate) deps: DepsArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  TOKEN=$(openssl rand -hex 32) axon runner bank_support --listen 127.0.0.1:8701 --token-env TOKEN

A service uses it when its agents/bank_support/agent.toml says, with the same token in TOKEN:
  [runner]
  url = \"http://127.0.0.1:8701\"
  token_env = \"TOKEN\"

Once it is ready, a line on stdout says where it listens. It ends when its process ends, and what
started it starts it again. The link is not encrypted: between machines, put it into a tunnel.")]
pub(crate) struct RunnerArgs {
    /// The agent.
    pub(crate) agent: String,
    /// Where to listen; port 0 takes any. Beyond this machine only with a token option.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8701")]
    pub(crate) listen: SocketAddr,
    /// The variable that holds the token; else the agent's own `token_env`.
    #[arg(long, value_name = "NAME", conflicts_with = "token_file")]
    pub(crate) token_env: Option<String>,
    /// The file that holds the token.
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  axon doctor --json | jq '.[] | select(.status != \"ok\")'

Ends with 4 if this machine lacks something, with 3 if a definition is broken.")]
pub(crate) struct DoctorArgs {
    /// The agent to look at; else all of them.
    pub(crate) agent: Option<String>,
    /// Read the whole store and verify every checksum.
    #[arg(long)]
    pub(crate) thorough: bool,
    /// Print an array of JSON objects: name, status, detail, fix.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  $(axon env path) -m pip list

The first that exists is taken: AXON_PYTHON, `.venv` of the project, and else an environment that
Axon builds in the user's cache and owns. An agent may have its own: [runner] python, or `.venv` in
its folder. Environments of yours are never changed.")]
pub(crate) struct EnvArgs {
    #[command(subcommand)]
    pub(crate) verb: EnvVerb,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Subcommand)]
pub(crate) enum EnvVerb {
    /// Build the environment if that is needed, and check it; with --frozen only check it.
    Sync,
    /// Print the Python that is used, and on stderr why this one.
    Path,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  axon new hello && axon run hello \"What day is it?\"
  axon new --from mypackage.agents:support_agent      describes a pydantic_ai.Agent of yours")]
pub(crate) struct NewArgs {
    /// The agent's name: a-z, 0-9 and _; with --from, the attribute's name is the default.
    #[arg(required_unless_present = "from")]
    pub(crate) name: Option<String>,
    /// Write the agent.toml of a pydantic_ai.Agent that Python code defines.
    #[arg(long, value_name = "MODULE:ATTR")]
    pub(crate) from: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct StubsArgs {
    #[command(subcommand)]
    pub(crate) verb: StubsVerb,
}

#[derive(Debug, Subcommand)]
pub(crate) enum StubsVerb {
    /// Write a Python module with a typed function for each Rust tool, for Python tools that ask it.
    #[command(after_help = "\
Example:
  axon stubs python bank_support -o agents/bank_support/rust_tools.py

Then, in a Python tool of the same agent: from .rust_tools import customer_balance")]
    Python(PythonStubsArgs),
    /// Write Rust types with serde and schemars from a Python type or a JSON Schema.
    #[command(after_help = "\
Examples:
  axon stubs rust --model bank_support.models:SupportOutput -o src/support_output.rs
  curl https://example.com/order.schema.json | axon stubs rust --schema - --name Order

Ranges and formats are in the schema of a type, and no type of their own.")]
    Rust(RustStubsArgs),
}

#[derive(Debug, Args)]
pub(crate) struct PythonStubsArgs {
    /// The agent; else all of them.
    pub(crate) agent: Option<String>,
    /// Where to write it; else to stdout.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("source").required(true).args(["model", "schema"]))]
pub(crate) struct RustStubsArgs {
    /// A pydantic model, a dataclass, a TypedDict, or what else pydantic takes for a type.
    #[arg(long, value_name = "MODULE:NAME")]
    pub(crate) model: Option<String>,
    /// A JSON Schema; `-` reads stdin.
    #[arg(long, value_name = "FILE")]
    pub(crate) schema: Option<PathBuf>,
    /// The name of the topmost type; else what the schema says.
    #[arg(long, value_name = "TYPE")]
    pub(crate) name: Option<String>,
    /// Where to write it; else to stdout.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  axon completions bash > ~/.local/share/bash-completion/completions/axon")]
pub(crate) struct CompletionsArgs {
    /// The shell.
    #[arg(value_enum)]
    pub(crate) shell: Shell,
}

/// A text that is no time to wait.
#[derive(Debug, PartialEq, thiserror::Error)]
enum TimeoutError {
    #[error("{0}; write a number with its unit, like 30s, 500ms or 1m 30s")]
    Syntax(#[from] humantime::DurationError),
    #[error("a run needs more than no time, and less than a year of it")]
    Range,
}

fn timeout(text: &str) -> Result<Duration, TimeoutError> {
    match humantime::parse_duration(text)? {
        Duration::ZERO => Err(TimeoutError::Range),
        long if long > MAX_TIMEOUT => Err(TimeoutError::Range),
        duration => Ok(duration),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_fits_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_timeout_is_a_time_and_more_than_none() {
        assert_eq!(timeout("1m 30s"), Ok(Duration::from_secs(90)));
        assert!(matches!(timeout("5"), Err(TimeoutError::Syntax(_))));
        assert_eq!(
            (timeout("0s"), timeout("2y")),
            (Err(TimeoutError::Range), Err(TimeoutError::Range))
        );
    }
}
