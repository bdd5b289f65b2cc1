//! The tables, and how an older store gets those of today.

use crate::fault::Fault;
use crate::link::Link;

/// One step from a version of the schema to the next, for either database.
struct Step {
    sqlite: &'static str,
    postgres: &'static str,
}

/// Every step so far. What was published is never changed: a new version is a new step.
const STEPS: [Step; 2] = [
    Step {
        sqlite: include_str!("../migrations/sqlite/0001_runs.sql"),
        postgres: include_str!("../migrations/postgres/0001_runs.sql"),
    },
    Step {
        sqlite: include_str!("../migrations/sqlite/0002_parents.sql"),
        postgres: include_str!("../migrations/postgres/0002_parents.sql"),
    },
];

/// The version of the schema that this code writes.
pub(crate) const KNOWN: i64 = STEPS.len() as i64;

/// Brings the tables to the version of this code, within a transaction that nobody else writes in.
pub(crate) async fn migrate(link: &mut Link) -> Result<(), Fault> {
    if link.is_postgres() {
        // Creating tables races with another process that opens the same database: one at a time.
        link.fetch("SELECT pg_advisory_xact_lock($1)", &[0x6178_6f6e.into()]).await?;
    }
    link.script("CREATE TABLE IF NOT EXISTS axon_schema (version BIGINT PRIMARY KEY)").await?;
    let found = version(link).await?;
    if found > KNOWN {
        return Err(Fault::Newer { found, known: KNOWN });
    }
    for (step, version) in STEPS.iter().zip(1_i64..).skip_while(|(_, version)| *version <= found) {
        link.script(if link.is_postgres() { step.postgres } else { step.sqlite }).await?;
        link.execute("INSERT INTO axon_schema (version) VALUES ($1)", &[version.into()]).await?;
    }
    Ok(())
}

/// Returns the version of the schema that is stored.
pub(crate) async fn version(link: &mut Link) -> Result<i64, Fault> {
    link.number("SELECT coalesce(max(version), 0) FROM axon_schema", &[]).await
}
