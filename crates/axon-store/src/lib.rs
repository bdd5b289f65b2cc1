//! The store of Axon: runs and conversations that outlast every process.
//!
//! [`open`] gives the kernel's [`Store`](axon_kernel::store::Store) on a SQLite file, which is the
//! default, or on PostgreSQL. Both hold the same tables and pass the same tests; several processes
//! may use one of either at the same time.
//!
//! One task writes. It takes whatever waits into one transaction, works out in memory what that
//! changes, and answers only when the database says that it is durable. Every record carries a
//! checksum over itself and the one before, so that damage is found and named where it is.
//!
//! Links to PostgreSQL are not encrypted: use a Unix socket, or a tunnel of your own.
//!
//! To read on: `draft` decides, `transaction` reads and writes rows, `writer` groups, `owners` says
//! who lives, `read` verifies.

mod bulk;
mod chain;
mod draft;
mod fault;
mod forget;
mod link;
mod open;
mod operation;
mod owners;
mod read;
mod readers;
mod report;
mod rows;
mod schema;
mod source;
mod store;
mod transaction;
mod url;
mod writer;

pub use open::{OpenOptions, open, open_to_read};
pub use url::{StoreUrl, UrlError};
