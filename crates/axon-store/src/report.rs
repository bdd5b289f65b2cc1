//! What a store says of itself, and the search for damage.

use axon_kernel::event::Sequenced;
use axon_kernel::ids::{ConversationId, RunId};
use axon_kernel::run::RunState;
use axon_kernel::store::StoreReport;

use crate::fault::Fault;
use crate::link::Link;
use crate::operation::{Opening, standing};
use crate::rows::{RunRow, signed, unsigned};
use crate::source::Source;
use crate::{owners, read, schema};

/// How many findings are told at most.
const FINDINGS: usize = 100;

/// How many runs or conversations are looked at between two questions for the next ones.
const PAGE: i64 = 256;

/// Says what the store holds; a thorough report verifies all of it.
pub(crate) async fn report(
    source: &Source,
    link: &mut Link,
    ours: i64,
    thorough: bool,
) -> Result<StoreReport, Fault> {
    let mut runs = Vec::new();
    let sql = "SELECT state, count(*) FROM axon_runs GROUP BY state ORDER BY state";
    for row in link.fetch(sql, &[]).await? {
        if let Some(state) = RunState::from_label(&row.text(0)?) {
            runs.push((state, unsigned(row.int(1)?)));
        }
    }
    runs.sort();
    let others = owners::living(source, link).await?.into_iter();
    let others = others.filter(|(epoch, _)| *epoch != ours).map(|(_, label)| label).collect();
    let conversations = link.number("SELECT count(*) FROM axon_conversations", &[]).await?;
    Ok(StoreReport {
        name: source.name(),
        durable: true,
        schema: schema::version(link).await?,
        runs,
        conversations: unsigned(conversations),
        bytes: bytes(source, link).await?,
        others,
        damage: if thorough { damage(link).await? } else { Vec::new() },
    })
}

async fn bytes(source: &Source, link: &mut Link) -> Result<Option<u64>, Fault> {
    match source {
        Source::Sqlite(file) => Ok(Some(file.bytes())),
        Source::Postgres(_) => {
            let sql = "SELECT coalesce(sum(pg_total_relation_size(oid)), 0)::int8 FROM pg_class \
                       WHERE relname LIKE 'axon\\_%' AND relkind = 'r' \
                       AND relnamespace = current_schema()::regnamespace";
            Ok(Some(unsigned(link.number(sql, &[]).await?)))
        }
    }
}

async fn damage(link: &mut Link) -> Result<Vec<String>, Fault> {
    let mut damage = Vec::new();
    if !link.is_postgres() {
        for row in link.fetch("PRAGMA integrity_check(100)", &[]).await? {
            let found = row.text(0)?;
            if found != "ok" {
                damage.push(format!("the database file: {found}"));
            }
        }
    }
    damage_of_runs(link, &mut damage).await?;
    damage_of_conversations(link, &mut damage).await?;
    for (what, sql) in [
        (
            "records belong to runs that are missing",
            "SELECT count(*) FROM axon_records WHERE run NOT IN (SELECT key FROM axon_runs)",
        ),
        (
            "messages belong to conversations that are missing",
            "SELECT count(*) FROM axon_messages \
             WHERE conversation NOT IN (SELECT key FROM axon_conversations)",
        ),
    ] {
        let orphans = link.number(sql, &[]).await?;
        if orphans > 0 {
            damage.push(format!("{orphans} {what}"));
        }
    }
    damage.truncate(FINDINGS);
    Ok(damage)
}

async fn damage_of_runs(link: &mut Link, damage: &mut Vec<String>) -> Result<(), Fault> {
    let mut last = i64::MIN;
    loop {
        let sql = "SELECT key, id FROM axon_runs WHERE key > $1 ORDER BY key LIMIT $2";
        let page = link.fetch(sql, &[last.into(), PAGE.into()]).await?;
        for row in &page {
            last = row.int(0)?;
            let run = RunId::new(row.text(1)?);
            match read::records(link, &run, 0).await {
                // A run that was forgotten meanwhile is no damage.
                Ok(None) => {}
                Ok(Some((row, events))) => damage.extend(contradiction(&row, &events)),
                Err(Fault::Damaged { place, detail }) => damage.push(format!("{place}: {detail}")),
                Err(fault) => return Err(fault),
            }
        }
        if page.is_empty() || damage.len() >= FINDINGS {
            return Ok(());
        }
    }
}

async fn damage_of_conversations(link: &mut Link, damage: &mut Vec<String>) -> Result<(), Fault> {
    let mut last = i64::MIN;
    loop {
        let sql = "SELECT key, id FROM axon_conversations WHERE key > $1 ORDER BY key LIMIT $2";
        let page = link.fetch(sql, &[last.into(), PAGE.into()]).await?;
        for row in &page {
            last = row.int(0)?;
            let conversation = ConversationId::new(row.text(1)?);
            match read::history(link, &conversation).await {
                Ok(_) => {}
                Err(Fault::Damaged { place, detail }) => damage.push(format!("{place}: {detail}")),
                Err(fault) => return Err(fault),
            }
        }
        if page.is_empty() || damage.len() >= FINDINGS {
            return Ok(());
        }
    }
}

/// Says in what the row of a run contradicts its record.
fn contradiction(row: &RunRow, events: &[Sequenced]) -> Option<String> {
    let opening = events.first().and_then(|first| Opening::of(&first.event));
    let Some((first, opening)) = events.first().zip(opening) else {
        return Some(format!("run `{}`: its record does not say what it is", row.id));
    };
    let (state, waits_for) = events.iter().rev().find_map(|event| standing(&event.event))?;
    let updated_at = events.iter().map(|event| signed(event.at.0)).max();
    let seq = events.last().map(|event| signed(event.seq));
    let what = [
        ("agent", opening.agent == row.agent),
        ("conversation", opening.conversation == row.conversation),
        ("parent", opening.parent == row.parent),
        ("state", state == row.state),
        ("pause", waits_for == row.waits_for.as_deref()),
        ("acceptance", signed(first.at.0) == row.accepted_at),
        ("last moment", updated_at == Some(row.updated_at)),
        ("last place", seq == Some(row.seq)),
    ];
    let (name, _) = what.into_iter().find(|(_, agrees)| !agrees)?;
    Some(format!("run `{}`: its {name} is not what its record says", row.id))
}
