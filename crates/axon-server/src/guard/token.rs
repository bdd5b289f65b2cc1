//! The tokens, of which only digests are kept, and their comparison in constant time.

use axon_kernel::secret::Secret;
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::config::ConfigError;

/// The shortest token that is taken: nobody guesses it over a network.
pub(crate) const MIN_TOKEN_BYTES: usize = 16;

/// A token, as its digest. Digests are of one length, so that their comparison tells nothing.
#[derive(Clone)]
pub(crate) struct Token([u8; 32]);

impl Token {
    /// Takes a token that can neither be guessed nor broken by a header.
    pub(crate) fn of(secret: &Secret) -> Result<Self, ConfigError> {
        let text = secret.expose();
        if text.len() < MIN_TOKEN_BYTES || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(ConfigError::Token);
        }
        Ok(Self::digest(text))
    }

    pub(crate) fn digest(text: &str) -> Self {
        Self(Sha256::digest(text).into())
    }

    pub(crate) fn is(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }

    /// Returns the digest, for a table of them.
    pub(super) fn into_key(self) -> [u8; 32] {
        self.0
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token")
    }
}

/// Returns the token that a request carries.
pub(super) fn bearer(headers: &HeaderMap) -> Option<Token> {
    let given = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = given.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| Token::digest(token.trim()))
}
