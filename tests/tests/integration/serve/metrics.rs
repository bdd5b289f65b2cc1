//! What `/metrics` says: the values after a scenario, what Prometheus makes of them, and what no
//! attack on the labels can do.

mod attacks;
mod observability;
mod prometheus;
mod scenario;
mod scrape;
