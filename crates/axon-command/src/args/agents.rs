//! What can be typed about the agents that there are, and how they are.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::timeout;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  axon agents                                          those of the folder
  axon agents show bank_support --toml
  axon --url http://127.0.0.1:8700 agents              those of a service, and how they are
  axon agents restart bank_support                     in the service at :8700, or at --url
  axon agents start haiku --file haiku.toml            defines it there, until its process ends

`list` and `show` read the folder, unless a service is named with --url or AXON_URL. The others ask
that service, or the one at http://127.0.0.1:8700.")]
pub(crate) struct AgentsArgs {
    #[command(subcommand)]
    pub(crate) verb: Option<AgentsVerb>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum AgentsVerb {
    /// List the agents: name, model, description.
    List,
    /// Show an agent's definition.
    Show {
        /// The agent.
        name: String,
        /// As the agent.toml that gives it again, schemas in line.
        #[arg(long)]
        toml: bool,
    },
    /// Start an agent in the service: one of its folder, or one that a file here defines.
    #[command(after_help = "\
Without --file, the service reads the definition from its own folder: an agent that was stopped, or
that was added since. With --file, the definition is sent, and lasts until the service ends. It may
use what the service has, and brings no code, program, file or variable of its own.")]
    Start {
        /// The agent.
        name: String,
        /// The agent.toml to send.
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// Let an agent's runs finish, and take it out of the service.
    Stop(DrainArgs),
    /// Replace an agent's runners; one that was drained or parked takes runs again.
    Restart {
        /// The agent.
        name: String,
    },
    /// Let an agent's runs finish, and take no new ones until it is restarted.
    Drain(DrainArgs),
}

/// An agent whose runs are to finish.
#[derive(Debug, Args)]
pub(crate) struct DrainArgs {
    /// The agent.
    pub(crate) name: String,
    /// How long its runs may take to finish; then they are cancelled.
    #[arg(long, value_name = "TIME", value_parser = timeout, default_value = "30s")]
    pub(crate) deadline: Duration,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  axon tree                      which agents are up, parked or restarting, and why
  axon tree --watch              the same as it changes, until Ctrl-C
  axon tree --json | jq .root    the same as data
  axon tree --here               starts the folder's agents, shows the tree, and ends them again

It asks the service at --url or AXON_URL, else the one at http://127.0.0.1:8700.")]
pub(crate) struct TreeArgs {
    /// Print the tree as one line of JSON.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) seen: TreeSeen,
}

/// Which tree is seen, and for how long.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct TreeSeen {
    /// Show it as it changes: in place at a terminal, else again and again.
    #[arg(long)]
    pub(crate) watch: bool,
    /// Start the agents of the folder in this process, and ask no service.
    #[arg(long, conflicts_with_all = ["watch", "url"])]
    pub(crate) here: bool,
}
