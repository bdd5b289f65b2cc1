//! Runners that misbehave.
