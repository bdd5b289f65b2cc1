//! Flows, driven by hand.
