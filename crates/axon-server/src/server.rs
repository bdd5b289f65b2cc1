//! The server: a router for whoever has a listener of their own, or all of it.

use std::io;
use std::sync::Arc;

use axon_kernel::secret::Secret;
use axon_runtime::{AgentDefinition, FolderError, Runtime};
use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{get, post};
use tokio::net::TcpListener;

use crate::config::{ConfigError, Limits, ServerConfig};
use crate::guard::{cors, guard, with_headers};
use crate::page::Page;
use crate::shared::{FindDefinition, Phase, RenderMetrics, Shared};
use crate::trace::spanned;
use crate::{agents, ask, decide, document, listen, openai, probes, problem, runs, watch};

/// Answers HTTP for a [`Runtime`].
///
/// ```no_run
/// # async fn example(runtime: axon_runtime::Runtime) -> Result<(), Box<dyn std::error::Error>> {
/// use axon_server::Server;
///
/// let server = Server::builder(runtime).build()?;
/// // Beside routes of your own, with a listener of your own:
/// let app: axum::Router = axum::Router::new().nest("/agents", server.router());
/// // Or all of it, until it is told to end:
/// let listener = tokio::net::TcpListener::bind("127.0.0.1:8700").await?;
/// server.serve(listener, std::future::pending()).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Server {
    shared: Arc<Shared>,
}

/// Prepares a [`Server`].
#[must_use = "a server is made with `build`"]
pub struct ServerBuilder {
    runtime: Runtime,
    config: ServerConfig,
    metrics: Option<RenderMetrics>,
    definitions: Option<FindDefinition>,
    page: Option<Page>,
}

impl ServerBuilder {
    /// Takes this configuration in place of what was said so far.
    pub fn config(mut self, config: ServerConfig) -> Self {
        self.config = config;
        self
    }

    /// Lets in whoever sends this token, and nobody else.
    pub fn token(mut self, token: impl Into<Secret>) -> Self {
        self.config.token = Some(token.into());
        self
    }

    /// Lets whoever sends this token read, and change nothing.
    pub fn read_only_token(mut self, token: impl Into<Secret>) -> Self {
        self.config.read_only_token = Some(token.into());
        self
    }

    /// Lets the server be reached by this name, beside those of the loopback.
    pub fn allowed_host(mut self, host: impl Into<String>) -> Self {
        self.config.allowed_hosts.push(host.into());
        self
    }

    /// Lets the scripts of pages of this origin ask.
    pub fn allowed_origin(mut self, origin: impl Into<String>) -> Self {
        self.config.allowed_origins.push(origin.into());
        self
    }

    /// Takes these limits in place of the default ones.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.config.limits = limits;
        self
    }

    /// Answers `/metrics` with what `render` writes; without it there is no such page.
    pub fn metrics(mut self, render: impl Fn() -> String + Send + Sync + 'static) -> Self {
        self.metrics = Some(Arc::new(render));
        self
    }

    /// Lets `POST /v1/agents` start agents by their names alone, as `find` defines them: those of a
    /// folder that were stopped, or that were added to it.
    pub fn definitions(
        mut self,
        find: impl Fn(&str) -> Result<AgentDefinition, FolderError> + Send + Sync + 'static,
    ) -> Self {
        self.definitions = Some(Arc::new(find));
        self
    }

    /// Serves this page at `/`, beside the routes.
    pub fn page(mut self, page: Page) -> Self {
        self.page = Some(page);
        self
    }

    /// Makes the server.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if the configuration cannot hold.
    pub fn build(self) -> Result<Server, ConfigError> {
        let settings = self.config.validate()?;
        let Self { runtime, metrics, definitions, page, .. } = self;
        let shared = Shared::new(runtime, settings, metrics, definitions, page);
        Ok(Server { shared: Arc::new(shared) })
    }
}

impl std::fmt::Debug for ServerBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerBuilder").field("config", &self.config).finish_non_exhaustive()
    }
}

/// How a server ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// How many runs had to be stopped, because they did not finish in time. In a store that
    /// outlasts the process they stay open, for whoever opens it next.
    pub stopped: usize,
}

impl Server {
    /// Prepares a server for `runtime`. By default it lets everybody in who reaches it by a name of
    /// the loopback.
    pub fn builder(runtime: Runtime) -> ServerBuilder {
        let config = ServerConfig::default();
        ServerBuilder { runtime, config, metrics: None, definitions: None, page: None }
    }

    /// Returns the routes, with their guards, to be mounted in a service. The limits of connections
    /// are the business of its own listener then, and [`Server::end`] ends what is served.
    #[must_use = "a router does nothing until it is served"]
    pub fn router(&self) -> Router {
        let shared = self.shared.clone();
        let spanned = |route| from_fn_with_state((shared.clone(), route), spanned);
        let (asked, chat) = ("/v1/agents/{name}/runs", "/v1/chat/completions");
        Router::new()
            .route("/healthz", get(probes::healthz))
            .route("/readyz", get(probes::readyz))
            .route("/metrics", get(probes::metrics))
            .route("/openapi.json", get(document::show))
            .route("/v1/agents", get(agents::list).post(agents::start))
            .route("/v1/agents/{name}", get(agents::show).delete(agents::stop))
            .route("/v1/agents/{name}/restart", post(agents::restart))
            .route("/v1/agents/{name}/drain", post(agents::drain))
            .route(asked, post(ask::ask).layer(spanned(asked)))
            .route("/v1/runs", get(runs::list))
            .route("/v1/runs/{id}", get(runs::show).delete(runs::cancel))
            .route("/v1/runs/{id}/events", get(runs::events))
            .route("/v1/runs/{id}/messages", post(runs::tell))
            .route("/v1/runs/{id}/approvals", post(decide::approve))
            .route("/v1/runs/{id}/resolve", post(decide::resolve))
            .route("/v1/runs/{id}/resume", post(decide::resume))
            .route("/v1/tree", get(watch::tree))
            .route("/v1/events", get(watch::events))
            .route("/v1/tickets", post(watch::ticket))
            .route("/v1/conversations/{id}", get(watch::conversation))
            .route("/v1/models", get(openai::models))
            .route("/v1/models/{name}", get(openai::model))
            .route(chat, post(openai::complete).layer(spanned(chat)))
            .fallback(problem::no_route)
            .method_not_allowed_fallback(problem::no_method)
            .layer(from_fn_with_state(shared.clone(), guard))
            // Outside: a browser asks whether it may ask without any token, and shows refusals to
            // the pages that may.
            .layer(cors(&shared.settings.allowed_origins))
            .layer(from_fn(with_headers))
            .with_state(shared)
    }

    /// Takes no new runs from now on: `/readyz` says so, and whoever asks is refused. Runs under way
    /// go on.
    pub fn drain(&self) {
        self.shared.enter(Phase::Draining);
    }

    /// Ends what is served, wherever the router is mounted: takes no new runs, lets those under way
    /// finish, at most for [`Limits::drain`], answers who waits, ends the runtime, and then the
    /// streams. A service with a listener of its own closes that when this is done:
    ///
    /// ```no_run
    /// # async fn example(
    /// #     server: axon_server::Server, listener: tokio::net::TcpListener, signal: impl Future + Send + 'static,
    /// # ) -> std::io::Result<()> {
    /// let app: axum::Router = axum::Router::new().nest("/agents", server.router());
    /// let ending = async move {
    ///     signal.await;
    ///     server.end().await;
    /// };
    /// axum::serve(listener, app).with_graceful_shutdown(ending).await
    /// # }
    /// ```
    pub async fn end(&self) -> Ended {
        self.drain();
        let stopped = self.shared.runtime.drain(self.shared.settings.limits.drain).await;
        self.shared.enter(Phase::Closing);
        Ended { stopped }
    }

    /// Serves at `listener` until `shutdown` resolves. Then it takes no new runs, lets those under
    /// way finish, at most for [`Limits::drain`], answers who waits, and ends the runtime.
    ///
    /// # Errors
    ///
    /// [`io::Error`] if the listener fails.
    pub async fn serve(
        self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()> + Send,
    ) -> io::Result<Ended> {
        let connections = listen::Connections::new(self.router(), &self.shared.settings.limits);
        let accepting = connections.accept(listener);
        let ending = async {
            shutdown.await;
            self.end().await
        };
        let ended = tokio::select! {
            failed = accepting => return Err(failed),
            ended = ending => ended,
        };
        connections.finish().await;
        Ok(ended)
    }
}
