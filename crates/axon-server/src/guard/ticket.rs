//! Stream tickets: what a browser's `EventSource`, which cannot send a header, has for a token.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::http::Uri;
use tokio::time::Instant;
use uuid::Uuid;

use super::Token;

/// How long a ticket can be used: as long as a page needs to open the stream.
pub(crate) const TICKET_LIFE: Duration = Duration::from_secs(30);

/// How many tickets are out at once. Beyond it the oldest ones are void: each is a few bytes, and
/// whoever gets so many does not use them.
const MAX_TICKETS: usize = 1024;

/// The tickets that are out, by their digests. Each opens one stream, once.
#[derive(Debug, Default)]
pub(crate) struct Tickets(Mutex<HashMap<[u8; 32], Instant>>);

impl Tickets {
    /// Issues a ticket.
    pub(crate) fn issue(&self) -> String {
        // 244 random bits, and letters and digits only, for an address.
        let ticket = format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
        let mut out = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        out.retain(|_, expires| *expires > now);
        if out.len() >= MAX_TICKETS
            && let Some(oldest) = out.iter().min_by_key(|(_, expires)| **expires)
        {
            let oldest = *oldest.0;
            out.remove(&oldest);
        }
        out.insert(Token::digest(&ticket).into_key(), now + TICKET_LIFE);
        ticket
    }

    /// Uses a ticket up, and returns whether it was good.
    pub(super) fn redeem(&self, ticket: &str) -> bool {
        let mut out = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let expires = out.remove(&Token::digest(ticket).into_key());
        expires.is_some_and(|expires| expires > Instant::now())
    }
}

/// Returns the ticket that an address carries.
pub(super) fn of(uri: &Uri) -> Option<&str> {
    uri.query()?.split('&').find_map(|pair| pair.strip_prefix("ticket="))
}

/// Returns whether tickets open `path`: streams only.
pub(super) fn opens(path: &str) -> bool {
    let is_of_run = path.starts_with("/v1/runs/") && path.ends_with("/events");
    path == "/v1/events" || is_of_run
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_ticket_is_good_once_and_for_a_short_time() {
        let tickets = Tickets::default();
        let ticket = tickets.issue();
        assert!(tickets.redeem(&ticket));
        assert!(!tickets.redeem(&ticket));
        let late = tickets.issue();
        tokio::time::advance(TICKET_LIFE).await;
        assert!(!tickets.redeem(&late));
        assert!(!tickets.redeem("made up"));
    }

    #[test]
    fn the_oldest_tickets_make_room() {
        let tickets = Tickets::default();
        let all: Vec<String> = (0..MAX_TICKETS + 10).map(|_| tickets.issue()).collect();
        assert!(tickets.redeem(all.last().unwrap()));
        assert_eq!(tickets.0.lock().unwrap().len(), MAX_TICKETS - 1);
    }

    #[test]
    fn tickets_open_streams_only() {
        assert!(opens("/v1/events") && opens("/v1/runs/r/events"));
        assert!(!opens("/v1/runs/r") && !opens("/v1/runs") && !opens("/v1/agents/events"));
        assert_eq!(of(&"/v1/events?a=1&ticket=t".parse().unwrap()), Some("t"));
    }
}
