//! Routers and pipelines that ask themselves, if through others.

use std::collections::{BTreeMap, BTreeSet};

use super::{Found, GraphError, System, who};
use crate::spec::{AgentName, AgentSpec, Kind};

impl System<'_> {
    /// Tells each circle with a router or a pipeline on it once, at the first of those.
    pub(super) fn check_circles(&self, found: &mut Found) {
        let flows = self.specs.values().filter(|spec| spec.kind() != Kind::Agent);
        let mut told: BTreeSet<BTreeSet<&AgentName>> = BTreeSet::new();
        let mut seen: BTreeSet<&AgentName> = BTreeSet::new();
        for spec in flows {
            if seen.contains(&spec.name) {
                continue;
            }
            let Some(circle) = self.way_back(spec) else { continue };
            seen.extend(&circle);
            if !told.insert(circle.iter().copied().collect()) {
                continue;
            }
            let next = circle.get(1).copied().unwrap_or(&spec.name);
            let names = circle.iter().chain([&&spec.name]).map(ToString::to_string).collect();
            found.add(spec, who::place_of(spec, next), GraphError::Circle { names });
        }
    }

    /// Returns the shortest way from `spec` back to it, without its end.
    fn way_back<'a>(&'a self, spec: &'a AgentSpec) -> Option<Vec<&'a AgentName>> {
        let mut came_from: BTreeMap<&AgentName, &AgentName> = BTreeMap::new();
        let mut front = vec![&spec.name];
        while !front.is_empty() {
            let mut next = Vec::new();
            for at in front {
                let asked = self.specs.get(at).map(|spec| who::named(spec)).unwrap_or_default();
                for (_, name) in asked {
                    if *name == spec.name {
                        return Some(way(&came_from, at));
                    }
                    if !came_from.contains_key(name) {
                        came_from.insert(name, at);
                        next.push(name);
                    }
                }
            }
            front = next;
        }
        None
    }
}

fn way<'a>(
    came_from: &BTreeMap<&'a AgentName, &'a AgentName>,
    to: &'a AgentName,
) -> Vec<&'a AgentName> {
    let mut way = vec![to];
    while let Some(before) = way.last().and_then(|at| came_from.get(at)) {
        way.push(before);
    }
    way.reverse();
    way
}
