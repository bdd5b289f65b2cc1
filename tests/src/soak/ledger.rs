//! What a soak is judged by: what callers were told, what the store has, what the world has counted.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use axon_kernel::event::{RunEvent, Sequenced};
use axon_kernel::ids::{ConversationId, RunId};
use axon_kernel::run::RunState;
use axon_kernel::store::{RunQuery, RunSummary, Store};
use serde_json::Value;

use crate::kill::{Counts, World};

/// What came out of a soak.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// How many host programs were killed.
    pub hosts: u64,
    /// How many launchers.
    pub launchers: u64,
    /// How many runners.
    pub runners: u64,
    /// How many runs callers were told to be accepted.
    pub accepted: usize,
    /// How many were refused, by the reason.
    pub refused: BTreeMap<String, u64>,
    /// How many runs stand where at the end, by their state or by what they wait for.
    pub states: BTreeMap<String, u64>,
    /// How many calls of tools took effect.
    pub effects: usize,
    /// How many requests the model was asked again, because their answer was lost.
    pub paid_twice: usize,
    /// Runs that were accepted and are not there, or neither ended nor listed.
    pub lost: Vec<String>,
    /// What happened twice and must not.
    pub doubled: Vec<String>,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { hosts, launchers, runners, accepted, refused, states, .. } = self;
        writeln!(f, "killed: {hosts} hosts, {launchers} launchers, {runners} runners")?;
        writeln!(f, "runs: {accepted} accepted; refused {refused:?}; at the end {states:?}")?;
        let Self { effects, paid_twice, lost, doubled, .. } = self;
        writeln!(f, "{effects} effects; {paid_twice} requests were paid for twice")?;
        writeln!(f, "{} lost, {} doubled", lost.len(), doubled.len())?;
        for one in lost {
            writeln!(f, "lost: {one}")?;
        }
        for one in doubled {
            writeln!(f, "doubled: {one}")?;
        }
        Ok(())
    }
}

/// What a soak is judged by.
#[derive(Debug)]
pub(super) struct Ledger<'a> {
    pub(super) store: &'a Arc<dyn Store>,
    pub(super) world: &'a World,
    pub(super) accepted: &'a BTreeMap<String, RunId>,
    pub(super) conversations: Vec<ConversationId>,
}

/// Returns the name of a run in its prompt.
pub(super) fn name(prompt: &str) -> Option<String> {
    let prompt: Value = serde_json::from_str(prompt).ok()?;
    Some(prompt["cell"].as_str()?.to_owned())
}

/// Returns the runs that are under way.
pub(super) async fn under_way(store: &Arc<dyn Store>) -> anyhow::Result<Vec<RunSummary>> {
    let states = vec![RunState::Queued, RunState::Running];
    Ok(store.runs(&RunQuery { states, ..RunQuery::default() }).await?)
}

impl Ledger<'_> {
    pub(super) async fn count(&self, mut tally: Tally) -> anyhow::Result<Tally> {
        tally.accepted = self.accepted.len();
        let mut found = BTreeMap::<String, RunId>::new();
        for summary in self.all().await? {
            let records = self.store.records(&summary.run_id, 0).await?;
            let Some(name) = first_prompt(&records).as_deref().and_then(name) else { continue };
            let counts = self.world.counts(&name);
            doubled(&name, &records, &counts, &mut tally);
            stands(&name, &summary, &mut tally);
            if let Some(other) = found.insert(name.clone(), summary.run_id) {
                tally.doubled.push(format!("{name} is two runs, one of them {other}"));
            }
        }
        for (name, run) in self.accepted {
            if found.get(name) != Some(run) {
                tally.lost.push(format!("{name}, accepted as {run}"));
            }
        }
        self.histories(&mut tally).await?;
        Ok(tally)
    }

    async fn all(&self) -> anyhow::Result<Vec<RunSummary>> {
        let (mut all, mut query) = (Vec::new(), RunQuery::default());
        loop {
            let page = self.store.runs(&query).await?;
            let Some(last) = page.last() else { return Ok(all) };
            query.after = Some(last.run_id.clone());
            all.extend(page);
        }
    }

    /// No turn joins its conversation twice.
    async fn histories(&self, tally: &mut Tally) -> anyhow::Result<()> {
        for conversation in &self.conversations {
            let mut seen = BTreeSet::new();
            for message in self.store.history(conversation).await? {
                let message: Value = message.decode()?;
                let parts = message["parts"].as_array().map_or(&[][..], Vec::as_slice);
                let prompts = parts.iter().filter(|part| part["part_kind"] == "user-prompt");
                for name in prompts.filter_map(|part| name(part["content"].as_str()?)) {
                    if !seen.insert(name.clone()) {
                        tally.doubled.push(format!("{name} is in {conversation} twice"));
                    }
                }
            }
        }
        Ok(())
    }
}

fn stands(name: &str, summary: &RunSummary, tally: &mut Tally) {
    let state = match &summary.waits_for {
        Some(what) if summary.state == RunState::Paused => what.clone(),
        _ => summary.state.label().to_owned(),
    };
    if matches!(summary.state, RunState::Queued | RunState::Running) {
        tally.lost.push(format!("{name} is {state}: {summary:?}"));
    }
    *tally.states.entry(state).or_default() += 1;
}

fn doubled(name: &str, records: &[Sequenced], counts: &Counts, tally: &mut Tally) {
    let once = records.iter().any(|record| {
        matches!(&record.event, RunEvent::ToolCalled(called) if !called.effect.may_repeat())
    });
    for (call, keys) in &counts.calls {
        tally.effects += keys.len();
        if once && keys.len() > 1 {
            tally.doubled.push(format!("call {call} of {name}: {} times", keys.len()));
        }
        if keys.iter().collect::<BTreeSet<_>>().len() > 1 {
            tally.doubled.push(format!("call {call} of {name} has several keys: {keys:?}"));
        }
    }
    tally.paid_twice += counts.requests.values().map(|asked| asked.len() - 1).sum::<usize>();
    let ends = records.iter().filter(|record| record.event.is_terminal()).count();
    if ends > 1 {
        tally.doubled.push(format!("{name} has ended {ends} times"));
    }
}

fn first_prompt(records: &[Sequenced]) -> Option<String> {
    let RunEvent::Accepted(accepted) = &records.first()?.event else { return None };
    accepted.prompt.decode().ok()
}
