//! The axon command line.
