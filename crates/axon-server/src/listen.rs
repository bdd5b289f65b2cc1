//! The connections: so many at once, none of them for longer than its client does something.

mod patient;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::Instant;

use self::patient::Patient;
use crate::config::Limits;

/// How long answers that are on their way may take to be sent when the server ends.
const FLUSH: Duration = Duration::from_secs(5);

/// How long nothing is accepted after the process could take no connection, mostly for want of file
/// descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// How often it is told that no connection can be accepted, as long as that lasts.
const TOLD_EVERY: Duration = Duration::from_secs(60);

/// The connections of a server.
pub(crate) struct Connections {
    router: Router,
    limits: Limits,
    places: Arc<Semaphore>,
    ending: watch::Sender<bool>,
}

impl Connections {
    pub(crate) fn new(router: Router, limits: &Limits) -> Self {
        let places = Arc::new(Semaphore::new(limits.connections));
        Self { router, limits: *limits, places, ending: watch::Sender::new(false) }
    }

    /// Accepts connections, as long as the listener is good for it. Beyond their limit clients wait
    /// in the listener's own line.
    pub(crate) async fn accept(&self, listener: TcpListener) -> io::Error {
        let mut told: Option<Instant> = None;
        loop {
            let Ok(place) = self.places.clone().acquire_owned().await else {
                return io::Error::other("nothing is accepted any more");
            };
            match listener.accept().await {
                Ok((stream, _)) => self.serve(stream, place),
                Err(error) if is_of_client(&error) => {}
                Err(error) if is_of_listener(&error) => return error,
                Err(error) => {
                    if told.is_none_or(|told| told.elapsed() >= TOLD_EVERY) {
                        tracing::warn!(%error, "connections cannot be accepted");
                        told = Some(Instant::now());
                    }
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    fn serve(&self, stream: TcpStream, place: OwnedSemaphorePermit) {
        // Events are small, and each is sent as it comes. A socket that refuses is slower.
        let _slower = stream.set_nodelay(true);
        let stream = TokioIo::new(Patient::new(stream, self.limits.write_timeout));
        let router = TowerToHyperService::new(self.router.clone());
        let service = service_fn(move |request: hyper::Request<Incoming>| {
            hyper::service::Service::call(&router, request.map(Body::new))
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.limits.head_timeout)
            .max_buf_size(self.limits.head_bytes)
            .serve_connection(stream, service);
        let mut ending = self.ending.subscribe();
        tokio::spawn(async move {
            let _place = place;
            let mut connection = Box::pin(connection);
            // A sender that is gone means the end, too.
            let ends = async { drop(ending.wait_for(|ending| *ending).await) };
            let served = tokio::select! {
                served = connection.as_mut() => served,
                () = ends => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            };
            if let Err(error) = served {
                tracing::debug!(%error, "a connection broke off");
            }
        });
    }

    /// Lets what is being answered be sent, and returns when every connection is closed, or the time
    /// for that is over.
    pub(crate) async fn finish(self) {
        self.ending.send_replace(true);
        let all = u32::try_from(self.limits.connections).unwrap_or(u32::MAX);
        let closed = self.places.acquire_many(all);
        let _in_time = tokio::time::timeout(FLUSH, closed).await;
    }
}

/// Returns whether a client has gone before it was accepted.
fn is_of_client(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
    )
}

/// Returns whether the listener itself is of no use any more.
fn is_of_listener(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::NotConnected)
}
