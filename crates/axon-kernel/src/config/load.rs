//! From the text of an `axon.toml` to settings that keep every rule.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use serde_json::Value;

use super::Config;
use crate::spec::file::editor_schema;
use crate::spec::load::{Variables, open};
use crate::spec::source::dotted;
use crate::spec::unknown::nearest;
use crate::spec::{AgentName, FileText, GroupName, Position, Problem, Rule, SpecError};

/// The names of the supervisors that every runtime has.
const PARTS: [&str; 3] = ["root", "runs", "agents"];

/// Where the agents of the groups were named.
///
/// It plays no part in what the settings are: two are equal wherever they were written.
#[derive(Clone, Debug)]
pub(super) struct Origin {
    path: String,
    /// By JSON pointer.
    agents: BTreeMap<String, Position>,
}

impl Default for Origin {
    fn default() -> Self {
        Self { path: "axon.toml".to_owned(), agents: BTreeMap::new() }
    }
}

impl PartialEq for Origin {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Config {
    /// Reads settings from the text of an `axon.toml`.
    ///
    /// `variables` gives the values for `${NAME}` in any text value.
    ///
    /// # Errors
    ///
    /// [`SpecError`] with every problem that one reading can tell, each with its place.
    pub fn from_toml(file: FileText<'_>, variables: Variables<'_>) -> Result<Self, SpecError> {
        let failed = |problems| SpecError { path: file.path.to_owned(), problems };
        let (mut source, config) =
            open::<Self>(file.text, file_schema(), variables).map_err(failed)?;
        source.add_broken(config.as_ref().map_or(Ok(()), Self::check));
        let origin = config.as_ref().map(|config| Origin {
            path: file.path.to_owned(),
            agents: config
                .named()
                .map(|(pointer, _)| (pointer.clone(), source.position(&pointer)))
                .collect(),
        });
        match (config, origin, source.into_problems()) {
            (Some(config), Some(origin), problems) if problems.is_empty() => {
                Ok(Self { origin, ..config })
            }
            (_, _, problems) => Err(failed(problems)),
        }
    }

    /// Returns the JSON Schema of the file, in which a variable may stand for any text.
    #[must_use]
    pub fn schema() -> Value {
        editor_schema::<Self>()
    }

    /// Checks that every agent that is named is one of `names`, and that no group is called like
    /// one, or like a part of the supervision tree.
    ///
    /// # Errors
    ///
    /// [`SpecError`] with every agent that does not exist, where it was named, and every group whose
    /// name is taken.
    pub fn check_agents<'n>(
        &self,
        names: impl IntoIterator<Item = &'n str>,
    ) -> Result<(), SpecError> {
        let names: BTreeSet<&str> = names.into_iter().collect();
        let missing = self.named().filter(|(_, name)| !names.contains(name.as_str()));
        let taken =
            |group: &&GroupName| names.contains(group.as_str()) || PARTS.contains(&group.as_str());
        let taken = self.groups.keys().filter(taken).map(|group| Problem {
            position: None,
            key: format!("groups.{group}"),
            what: Rule::GroupName { group: group.clone() }.into(),
        });
        let problems: Vec<Problem> = missing
            .map(|(pointer, name)| {
                let nearest = nearest(name.as_str(), names.iter().copied()).map(str::to_owned);
                let position = self.origin.agents.get(&pointer).copied();
                Problem {
                    position,
                    key: dotted(&pointer),
                    what: Rule::NoAgent { name: name.clone(), nearest }.into(),
                }
            })
            .chain(taken)
            .collect();
        if problems.is_empty() {
            return Ok(());
        }
        Err(SpecError { path: self.origin.path.clone(), problems })
    }

    /// Returns every agent that is named, with its place as a JSON pointer.
    fn named(&self) -> impl Iterator<Item = (String, &AgentName)> {
        self.groups.iter().flat_map(|(group, members)| {
            let at = move |index| format!("/groups/{group}/agents/{index}");
            members.agents.iter().enumerate().map(move |(index, agent)| (at(index), agent))
        })
    }
}

fn file_schema() -> &'static Value {
    static SCHEMA: OnceLock<Value> = OnceLock::new();
    SCHEMA.get_or_init(Config::schema)
}
