//! Hand-offs: one agent goes on where another one was.
