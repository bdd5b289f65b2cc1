//! Checksums, each over what it protects and the one before it.
//!
//! So a changed byte, a lost row and a row in the wrong place all break the chain there.

use sha2::{Digest, Sha256};

/// The checksum before the first link.
pub(crate) const START: i64 = 0;

/// What one record holds, beside its run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts<'a> {
    pub(crate) n: i64,
    pub(crate) seq: i64,
    pub(crate) attempt: i64,
    pub(crate) at: i64,
    pub(crate) body: &'a str,
}

/// Returns the checksum of a record of `run`, after one with the checksum `previous`.
pub(crate) fn of_record(previous: i64, run: &str, facts: &Facts<'_>) -> i64 {
    let mut digest = begin(previous, run);
    for number in [facts.n, facts.seq, facts.attempt, facts.at] {
        digest.update(number.to_be_bytes());
    }
    digest.update(facts.body);
    end(digest)
}

/// Returns the checksum of the message `n` of `conversation`, after one with the checksum
/// `previous`.
pub(crate) fn of_message(previous: i64, conversation: &str, n: i64, body: &str) -> i64 {
    let mut digest = begin(previous, conversation);
    digest.update(n.to_be_bytes());
    digest.update(body);
    end(digest)
}

fn begin(previous: i64, key: &str) -> Sha256 {
    let mut digest = Sha256::new();
    digest.update(previous.to_be_bytes());
    digest.update((key.len() as u64).to_be_bytes());
    digest.update(key);
    digest
}

// Damage is what it looks for, not forgery: eight bytes of the digest do.
fn end(digest: Sha256) -> i64 {
    let mut first = [0; 8];
    for (to, from) in first.iter_mut().zip(digest.finalize()) {
        *to = from;
    }
    i64::from_be_bytes(first)
}
