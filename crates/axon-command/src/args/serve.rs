//! What `axon serve` takes.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::timeout;

/// Serve the agents over HTTP.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  axon serve                                     every agent of the folder, for this machine
  axon serve mypackage.agents:support_agent      a pydantic_ai.Agent, without any file
  axon serve --offline                           with models that only play one
  axon serve --offline --page examples/chat      with a chat for a browser, at http://127.0.0.1:8700
  openssl rand -hex 32 > token && axon serve --listen 0.0.0.0:8700 --token-file token \\
      --allowed-host axon.example.com

  curl -s http://127.0.0.1:8700/v1/agents/bank_support/runs -H 'Content-Type: application/json' \\
      -d '{\"prompt\": \"What is my balance?\", \"deps\": {\"customer_id\": 123}}'

Runs are kept in the store, and those that an earlier process has left open go on. OpenAI's clients
use http://127.0.0.1:8700/v1. All routes: /openapi.json. There is no TLS: leave that to a reverse
proxy, and say with --allowed-host by which name it passes requests on.

What is not typed here, `[serve]` of agents/axon.toml says: listen, metrics_listen, token_file,
read_token_file, allowed_hosts, allowed_origins, drain.

SIGTERM and Ctrl-C end it: /readyz says so, new runs are refused, and those under way may finish. It
ends with 0 if all of them did, else with 143 or 130, and they go on with the next start. A second
signal ends it at once.")]
pub(crate) struct ServeArgs {
    /// Only this agent: a name in the folder of agents, or a pydantic_ai.Agent as MODULE:ATTR.
    #[arg(value_name = "AGENT|MODULE:ATTR")]
    pub(crate) target: Option<String>,
    /// Where to listen (127.0.0.1:8700); port 0 takes any. Beyond this machine only with a token.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) listen: Option<SocketAddr>,
    /// Let agents answer with a model that only plays one.
    #[arg(long)]
    pub(crate) offline: bool,
    /// The file that holds the token which every request has to carry; else AXON_TOKEN_FILE.
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// The file that holds a token with which one may only read; else AXON_READ_TOKEN_FILE.
    #[arg(long, value_name = "FILE")]
    pub(crate) read_token_file: Option<PathBuf>,
    /// A name by which the service is reached, beside those of the loopback. Repeat it for more.
    #[arg(long, value_name = "HOST[:PORT]")]
    pub(crate) allowed_host: Vec<String>,
    /// An origin whose pages may ask, such as https://console.example.com. Repeat it for more.
    #[arg(long, value_name = "ORIGIN")]
    pub(crate) allowed_origin: Vec<String>,
    /// A folder with a page to serve at `/`: it may ask the service, and anybody may load it.
    #[arg(long, value_name = "DIR")]
    pub(crate) page: Option<PathBuf>,
    /// Where to give the metrics, in place of `/metrics` of the service itself.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) metrics_listen: Option<SocketAddr>,
    /// How long runs under way may take to finish when the service is told to end (30s).
    #[arg(long, value_name = "TIME", value_parser = timeout)]
    pub(crate) drain: Option<Duration>,
}
