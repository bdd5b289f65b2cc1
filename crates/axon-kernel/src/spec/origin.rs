//! Where the parts of a definition stand in its file.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::error::Position;

/// Where each value of a file stands, by its JSON pointer.
///
/// It plays no part in what an agent is: two agents are equal wherever they were written.
#[derive(Clone, Debug, Default)]
pub(super) struct Origin(Arc<BTreeMap<String, Position>>);

impl FromIterator<(String, Position)> for Origin {
    fn from_iter<I: IntoIterator<Item = (String, Position)>>(places: I) -> Self {
        Self(Arc::new(places.into_iter().collect()))
    }
}

impl Origin {
    /// Returns the place of the value at `pointer`, or of the nearest value around it.
    pub(super) fn position(&self, pointer: &str) -> Option<Position> {
        let mut around = pointer;
        loop {
            match (self.0.get(around), around.rfind('/')) {
                (Some(place), _) => return Some(*place),
                (None, Some(slash)) => around = &around[..slash],
                (None, None) => return None,
            }
        }
    }
}

impl PartialEq for Origin {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

/// What a definition has at another place than its file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Moves {
    /// The lists whose items have another order: for each, by its pointer in the file, where its
    /// items stood there.
    pub(crate) lists: BTreeMap<String, Vec<usize>>,
    /// The key that stands for another one: in the file, and in the definition.
    pub(crate) renamed: Option<(&'static str, &'static str)>,
}

impl Moves {
    /// Returns where the value at `pointer` of the definition stands in the file.
    pub(super) fn in_file(&self, pointer: &str) -> String {
        match self.renamed {
            Some((file, definition)) if definition == pointer => file.to_owned(),
            Some(_) | None => self.moved(pointer, |order, index| order.get(index).copied(), true),
        }
    }

    /// Returns where the value at `pointer` of the file stands in the definition.
    pub(super) fn in_definition(&self, pointer: &str) -> String {
        let place = |order: &[usize], index| order.iter().position(|from| *from == index);
        match self.renamed {
            Some((file, definition)) if file == pointer => definition.to_owned(),
            Some(_) | None => self.moved(pointer, place, false),
        }
    }

    fn moved(
        &self,
        pointer: &str,
        place: impl Fn(&[usize], usize) -> Option<usize>,
        to_file: bool,
    ) -> String {
        if self.lists.is_empty() {
            return pointer.to_owned();
        }
        // The lists are known by their pointers in the file.
        let (mut file, mut moved) = (String::new(), String::new());
        for part in pointer.split('/').skip(1) {
            let order = self.lists.get(&file);
            let there = order.and_then(|order| place(order, part.parse().ok()?));
            let there = there.map_or_else(|| part.to_owned(), |index| index.to_string());
            file.push('/');
            file.push_str(if to_file { &there } else { part });
            moved.push('/');
            moved.push_str(&there);
        }
        moved
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_moved_is_found_on_either_side() {
        let lists = BTreeMap::from([
            ("/steps".to_owned(), vec![2, 0, 1]),
            ("/steps/2/steps".to_owned(), vec![1, 0]),
        ]);
        let moves = Moves { lists, renamed: Some(("/on_escalate", "/fallback")) };
        for (definition, file) in [
            ("", ""),
            ("/description", "/description"),
            ("/steps", "/steps"),
            ("/steps/0", "/steps/2"),
            ("/steps/0/steps/0/when", "/steps/2/steps/1/when"),
            ("/steps/1/steps/0", "/steps/0/steps/0"),
            ("/steps/2/after/0", "/steps/1/after/0"),
            ("/steps/9", "/steps/9"),
            ("/fallback", "/on_escalate"),
        ] {
            assert_eq!(moves.in_file(definition), file);
            assert_eq!(moves.in_definition(file), definition);
        }
    }
}
