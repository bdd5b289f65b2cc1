//! The text of a file as a tree that knows where each of its values stands.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::check::Broken;
use super::error::{Position, Problem, What};
use super::interpolate::interpolate;
use super::origin::{Moves, Origin};
use super::print::Written;

/// How many problems of one file are told at once.
const MAX_PROBLEMS: usize = 16;

/// A parsed file: the tree, where its values stand, and what is wrong so far.
pub(crate) struct Source<'t> {
    text: &'t str,
    tree: Spanned<DeValue<'t>>,
    /// The place of each value, by its JSON pointer.
    places: BTreeMap<String, Range<usize>>,
    /// What was written where a variable was filled in.
    written: Written,
    /// What the definition has in another order.
    pub(crate) moves: Moves,
    problems: Vec<Problem>,
}

impl<'t> Source<'t> {
    /// Parses `text`.
    pub(super) fn parse(text: &'t str) -> Result<Self, Vec<Problem>> {
        let (table, errors) = DeTable::parse_recoverable(text);
        if !errors.is_empty() {
            let problem = |error: &toml::de::Error| Problem {
                position: Some(Position::of(text, error.span().map_or(0, |span| span.start))),
                key: String::new(),
                what: What::Syntax { message: one_line(error.message()) },
            };
            return Err(errors.iter().take(MAX_PROBLEMS).map(problem).collect());
        }
        let span = table.span();
        let tree = Spanned::new(span, DeValue::Table(table.into_inner()));
        let (places, problems) = (BTreeMap::new(), Vec::new());
        let (written, moves) = (Written::default(), Moves::default());
        Ok(Self { text, tree, places, written, moves, problems })
    }

    /// Fills variables in, and takes out what cannot be used.
    pub(super) fn fill(&mut self, lookup: &dyn Fn(&str) -> Option<String>) {
        let mut visit = Fill {
            lookup,
            places: &mut self.places,
            written: &mut self.written,
            found: Vec::new(),
        };
        visit.value(&mut self.tree, "");
        for (pointer, span, what) in visit.found {
            self.drop_at(&span);
            self.add(span.start, &pointer, what);
        }
    }

    /// Returns the tree.
    pub(super) fn tree(&self) -> &Spanned<DeValue<'t>> {
        &self.tree
    }

    /// Reads the tree as a `T`, taking out what does not fit and going on, so that one reading
    /// tells all problems.
    pub(super) fn read<T: DeserializeOwned>(&mut self) -> Option<T> {
        for _ in 0..MAX_PROBLEMS {
            let tree = self.tree.clone();
            let value = toml::de::ValueDeserializer::from(tree);
            let error = match T::deserialize(value) {
                Ok(value) => return Some(value),
                Err(error) => error,
            };
            let span = error.span().unwrap_or(0..0);
            let pointer = self.pointer_of(&span);
            // What was taken out of a table is not also missing from it.
            if !self.has_problem_below(&pointer) {
                let message = self.written.hide(&pointer, &one_line(error.message()));
                let what = What::Value { message };
                self.add(span.start, &pointer, what);
            }
            if !self.drop_at(&span) {
                return None;
            }
        }
        None
    }

    /// Adds a problem with the value at `pointer`, or with the nearest value around it.
    pub(crate) fn add_at(&mut self, pointer: &str, what: impl Into<What>) {
        self.add(self.offset(pointer), pointer, what.into());
    }

    /// Adds the rules that the definition breaks.
    pub(crate) fn add_broken(&mut self, checked: Result<(), Vec<Broken>>) {
        for broken in checked.err().into_iter().flatten() {
            self.add_at(&self.moves.in_file(&broken.pointer), broken.rule);
        }
    }

    /// Returns `message` about the value at `pointer` without what a variable was filled in with,
    /// which may be secret.
    pub(crate) fn hide(&self, pointer: &str, message: &str) -> String {
        self.written.hide(pointer, message)
    }

    /// Returns what a definition keeps of its file: what was written where a variable was filled
    /// in, and where everything stands.
    pub(super) fn kept(&self) -> (Written, Origin) {
        let moved = |pointer: &String| self.moves.in_definition(pointer);
        let position = |place: &Range<usize>| Position::of(self.text, place.start);
        let places = self.places.iter().map(|(at, place)| (moved(at), position(place)));
        (self.written.moved(moved), places.collect())
    }

    /// Returns the place of the value at `pointer`, or of the nearest value around it.
    pub(crate) fn position(&self, pointer: &str) -> Position {
        Position::of(self.text, self.offset(pointer))
    }

    fn offset(&self, pointer: &str) -> usize {
        let mut around = pointer;
        loop {
            match (self.places.get(around), around.rfind('/')) {
                (Some(place), _) => return place.start,
                (None, Some(slash)) => around = &around[..slash],
                (None, None) => return 0,
            }
        }
    }

    /// Adds a problem at the byte `offset`.
    pub(super) fn add(&mut self, offset: usize, pointer: &str, what: What) {
        let position = Some(Position::of(self.text, offset));
        self.problems.push(Problem { position, key: dotted(pointer), what });
    }

    /// Takes the value at `span` out of the tree, and returns whether there was one.
    pub(super) fn drop_at(&mut self, span: &Range<usize>) -> bool {
        drop_at(self.tree.get_mut(), span)
    }

    /// Returns whether a problem stands in the way of checking the rest.
    pub(crate) fn is_broken(&self) -> bool {
        self.problems.iter().any(|problem| !matches!(problem.what, What::UnknownKey { .. }))
    }

    /// Returns the problems in the order of the file.
    pub(crate) fn into_problems(mut self) -> Vec<Problem> {
        self.problems.sort_by_key(|problem| problem.position);
        self.problems.truncate(MAX_PROBLEMS);
        self.problems
    }

    fn has_problem_below(&self, pointer: &str) -> bool {
        let key = dotted(pointer);
        let mut below = self.problems.iter().filter_map(|problem| problem.key.strip_prefix(&key));
        below.any(|rest| rest.starts_with(['.', '[']))
    }

    fn pointer_of(&self, span: &Range<usize>) -> String {
        let found = self.places.iter().filter(|(_, place)| *place == span);
        found
            .max_by_key(|(pointer, _)| pointer.len())
            .map(|(pointer, _)| pointer.clone())
            .unwrap_or_default()
    }
}

/// The walk that fills variables in.
struct Fill<'w> {
    lookup: &'w dyn Fn(&str) -> Option<String>,
    places: &'w mut BTreeMap<String, Range<usize>>,
    written: &'w mut Written,
    found: Vec<(String, Range<usize>, What)>,
}

impl Fill<'_> {
    fn value(&mut self, value: &mut Spanned<DeValue<'_>>, pointer: &str) {
        let span = value.span();
        self.places.insert(pointer.to_owned(), span.clone());
        let outcome = match value.get_mut() {
            DeValue::String(text) => self.text(text, pointer),
            DeValue::Float(float) if !finite(float.as_str()) => {
                Err(What::NotJson { found: "a number that is not finite" })
            }
            DeValue::Datetime(_) => Err(What::NotJson { found: "a date or time" }),
            DeValue::Array(items) => {
                for (index, item) in items.iter_mut().enumerate() {
                    self.value(item, &format!("{pointer}/{index}"));
                }
                Ok(())
            }
            DeValue::Table(table) => {
                for (key, item) in table.iter_mut() {
                    self.value(item, &child(pointer, key.get_ref()));
                }
                Ok(())
            }
            DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) => Ok(()),
        };
        if let Err(what) = outcome {
            self.found.push((pointer.to_owned(), span, what));
        }
    }

    fn text(&mut self, text: &mut Cow<'_, str>, pointer: &str) -> Result<(), What> {
        let Cow::Owned(filled) = interpolate(text, self.lookup)? else {
            return Ok(());
        };
        self.written.note(pointer, text, &filled);
        *text = Cow::Owned(filled);
        Ok(())
    }
}

/// Takes the value at `span`, or the one whose key is there, out of `tree`, and returns whether
/// there was one.
fn drop_at(tree: &mut DeValue<'_>, span: &Range<usize>) -> bool {
    // The innermost comes first: a list of tables begins where its first table does.
    match tree {
        DeValue::Array(items) => {
            if items.iter_mut().any(|item| drop_at(item.get_mut(), span)) {
                return true;
            }
            let before = items.len();
            *items = std::mem::replace(items, DeArray::new())
                .into_iter()
                .filter(|item| item.span() != *span)
                .collect();
            items.len() < before
        }
        DeValue::Table(table) => {
            if table.iter_mut().any(|(_, item)| drop_at(item.get_mut(), span)) {
                return true;
            }
            let before = table.len();
            *table = std::mem::take(table)
                .into_iter()
                .filter(|(key, item)| item.span() != *span && key.span() != *span)
                .collect();
            table.len() < before
        }
        DeValue::String(_)
        | DeValue::Integer(_)
        | DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_) => false,
    }
}

/// Returns the JSON pointer of `key` below `pointer`.
pub(crate) fn child(pointer: &str, key: &str) -> String {
    format!("{pointer}/{}", key.replace('~', "~0").replace('/', "~1"))
}

/// Returns a JSON pointer as people write it: `tools[0].timeout`.
pub(crate) fn dotted(pointer: &str) -> String {
    let mut dotted = String::new();
    for part in pointer.split('/').skip(1) {
        let part = part.replace("~1", "/").replace("~0", "~");
        if !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()) {
            dotted.push_str(&format!("[{part}]"));
        } else {
            if !dotted.is_empty() {
                dotted.push('.');
            }
            dotted.push_str(&part);
        }
    }
    dotted
}

fn finite(float: &str) -> bool {
    float.parse::<f64>().is_ok_and(f64::is_finite)
}

fn one_line(message: &str) -> String {
    message.split('\n').map(str::trim).collect::<Vec<_>>().join("; ")
}
