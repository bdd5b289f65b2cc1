//! A runner that somebody else has started: asked like one of ours, and never ended by this side.

use std::time::Duration;

use axon_kernel::failure::{Failure, FailureKind};
use axon_kernel::ids::Generation;
use axon_kernel::wire::{Health, PROTOCOL, ReadyRecord};
use secrecy::SecretString;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::address::{Address, AddressError};
use crate::client::{RequestError, RunnerClient, with_sources};
use crate::exit::{By, Exit, wait_for};

/// How often the runner is asked whether it is there, unless its heartbeat is short.
const ASK: Duration = Duration::from_secs(1);

/// How soon it is asked again when it was not.
const ASK_AGAIN: Duration = Duration::from_millis(200);

/// How many times in a row it is not there until it counts as gone.
const MISSED: u32 = 3;

/// Which runner to attach to.
#[derive(Clone, Debug)]
pub struct AttachPlan {
    /// Where it listens, as `http://host:port`.
    pub url: String,
    /// The bearer token that it wants.
    pub token: SecretString,
    /// How long it may show no sign of life.
    pub heartbeat: Duration,
}

/// Why a runner elsewhere was not attached to.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// Its address is none.
    #[error("cannot attach to a runner")]
    Address(#[from] AddressError),
    /// The client could not be set up.
    #[error("cannot set up the client of a runner elsewhere")]
    Client(#[source] reqwest::Error),
    /// Nobody answers there, or nobody who is well.
    #[error("the runner at {address} cannot be reached")]
    Unreachable {
        /// Where.
        address: Address,
        /// What happened instead.
        #[source]
        source: RequestError,
    },
    /// It did not answer in time.
    #[error("the runner at {address} did not answer within {} s", after.as_secs_f64())]
    Silent {
        /// Where.
        address: Address,
        /// How long was waited.
        after: Duration,
    },
    /// It is about to end.
    #[error("the runner at {address} drains and takes nothing new")]
    Draining {
        /// Where.
        address: Address,
    },
    /// It refuses the token.
    #[error("the runner at {address} refuses the token")]
    Token {
        /// Where.
        address: Address,
    },
    /// Something else than a runner answers.
    #[error("what answers at {address} is no runner")]
    Stranger {
        /// Where.
        address: Address,
        /// What it answered.
        #[source]
        source: RequestError,
    },
    /// It speaks another protocol.
    #[error("the runner at {address} speaks protocol {protocol}, not {PROTOCOL}")]
    Protocol {
        /// Where.
        address: Address,
        /// The protocol that it speaks.
        protocol: u32,
    },
}

impl AttachError {
    fn of_request(address: Address, error: RequestError) -> Self {
        match error {
            RequestError::Refused { status: 401 | 403, .. } => Self::Token { address },
            // A proxy answers like this for a runner that is being restarted.
            RequestError::Refused { status: 500.., .. }
            | RequestError::Garbage { status: 500.., .. }
            | RequestError::Link(_)
            | RequestError::Silent { .. }
            | RequestError::Gone => Self::Unreachable { address, source: error },
            RequestError::Refused { .. }
            | RequestError::Garbage { .. }
            | RequestError::Encode(_) => Self::Stranger { address, source: error },
        }
    }

    /// Returns the failure that a caller sees: whether it is worth while to try again, and what to
    /// do about it otherwise.
    pub(crate) fn failure(&self) -> Failure {
        let (kind, help) = match self {
            Self::Address(error) => (FailureKind::Config, Some(error.help())),
            Self::Token { .. } => (
                FailureKind::Config,
                Some(
                    "give the variable that `token_env` names the token that the runner was started with",
                ),
            ),
            Self::Stranger { .. } => {
                (FailureKind::Config, Some("correct `url`: it is what `axon runner` prints"))
            }
            Self::Protocol { .. } => {
                (FailureKind::Config, Some("run the same version of Axon at both ends"))
            }
            Self::Client(_)
            | Self::Unreachable { .. }
            | Self::Draining { .. }
            | Self::Silent { .. } => (FailureKind::RunnerDied, None),
        };
        let failure = Failure::new(kind, with_sources(self)).in_phase("start");
        match help {
            Some(help) => failure.with_help(help),
            None => failure,
        }
    }
}

/// A runner elsewhere that is asked, now and then, whether it is still there and still the same.
#[derive(Debug)]
pub(crate) struct Attached {
    gone: watch::Sender<Option<Exit>>,
    watching: JoinHandle<()>,
}

/// What tells one life of a runner from the next.
type Identity = (u32, Generation);

fn identity(health: &Health) -> Identity {
    (health.pid, health.generation)
}

impl Attached {
    /// Asks the runner who it is, and waits at most `within` for that.
    pub(crate) async fn connect(
        plan: &AttachPlan,
        within: Duration,
    ) -> Result<(Self, RunnerClient, ReadyRecord), AttachError> {
        let address = Address::parse(&plan.url)?;
        let client = RunnerClient::new(&address, plan.token.clone(), plan.heartbeat)
            .map_err(AttachError::Client)?;
        let health = match timeout(within, client.health()).await {
            Ok(Ok(health)) => health,
            Ok(Err(error)) => return Err(AttachError::of_request(address, error)),
            Err(_elapsed) => return Err(AttachError::Silent { address, after: within }),
        };
        if health.protocol != PROTOCOL {
            return Err(AttachError::Protocol { address, protocol: health.protocol });
        }
        if health.draining {
            return Err(AttachError::Draining { address });
        }
        let Health { protocol, generation, pid, .. } = health;
        let ready = ReadyRecord { protocol, generation, pid, versions: Default::default() };
        let (gone, every) = (watch::Sender::new(None), ASK.min(plan.heartbeat / 4));
        let look = Look { address, client: client.clone(), known: identity(&health), every };
        let tell = gone.clone();
        let watching = tokio::spawn(async move {
            let exit = look.until_gone().await;
            set(&tell, exit);
        });
        let client = client.until(gone.subscribe());
        Ok((Self { gone, watching }, client, ready))
    }

    /// Returns a future that resolves when the runner is not there any more, or was let go.
    pub(crate) fn exited(&self) -> impl Future<Output = Exit> + Send + use<> {
        let mut exit = self.gone.subscribe();
        async move { wait_for(&mut exit).await }
    }

    /// Returns its end, if that is known.
    pub(crate) fn ended(&self) -> Option<Exit> {
        self.gone.borrow().clone()
    }

    /// Lets go of the runner, which goes on without us.
    pub(crate) fn let_go(&self) {
        set(&self.gone, Exit::asked());
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        self.watching.abort();
    }
}

/// The first end is the one that counts.
fn set(gone: &watch::Sender<Option<Exit>>, exit: Exit) {
    gone.send_if_modified(|known| {
        let is_first = known.is_none();
        known.get_or_insert(exit);
        is_first
    });
}

struct Look {
    address: Address,
    client: RunnerClient,
    known: Identity,
    every: Duration,
}

impl Look {
    async fn until_gone(&self) -> Exit {
        let mut missed = 0;
        loop {
            sleep(if missed == 0 { self.every } else { ASK_AGAIN.min(self.every) }).await;
            match self.client.health().await {
                Ok(health) if identity(&health) == self.known => missed = 0,
                Ok(_) => return self.exit("was restarted".to_owned()),
                Err(RequestError::Refused { status: 401, .. }) => {
                    return self.exit("was restarted with another token".to_owned());
                }
                Err(error) => {
                    missed += 1;
                    if missed == MISSED {
                        let why = with_sources(&error);
                        return self.exit(format!("is not there any more: {why}"));
                    }
                }
            }
        }
    }

    fn exit(&self, what: String) -> Exit {
        let told = vec![format!("the runner at {} {what}", self.address)];
        Exit { code: None, signal: None, by: By::Elsewhere, last_words: told }
    }
}
