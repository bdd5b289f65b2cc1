//! A listener of their own for the metrics, where scrapers reach them and callers do not.

use std::io;
use std::sync::Arc;

use axum::Router;
use axum::middleware::from_fn;
use axum::routing::get;
use tokio::net::TcpListener;

use crate::config::Limits;
use crate::guard::with_headers;
use crate::listen::Connections;
use crate::shared::RenderMetrics;
use crate::{probes, problem};

/// Answers `/metrics` at `listener`, and nothing else, with what `render` writes, as long as the
/// listener is good for it. The [`Server`](crate::Server) beside it is made without
/// [`ServerBuilder::metrics`](crate::ServerBuilder::metrics).
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let render = axon_server::install_recorder()?;
/// let listener = tokio::net::TcpListener::bind("127.0.0.1:9100").await?;
/// tokio::spawn(axon_server::serve_metrics(listener, render));
/// # Ok(())
/// # }
/// ```
pub async fn serve_metrics(
    listener: TcpListener,
    render: impl Fn() -> String + Send + Sync + 'static,
) -> io::Error {
    let render: RenderMetrics = Arc::new(render);
    let written = move || {
        let render = render.clone();
        async move { probes::written(&render) }
    };
    let router = Router::new()
        .route("/metrics", get(written))
        .fallback(problem::no_route)
        .method_not_allowed_fallback(problem::no_method)
        .layer(from_fn(with_headers));
    Connections::new(router, &Limits::default()).accept(listener).await
}
