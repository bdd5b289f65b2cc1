use std::collections::{BTreeMap, HashMap};

use super::child::{Child, State};
use super::{ChildId, Incarnation};

/// The position of a child: in the order in which they were added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank(pub(super) u64);

/// The children in their order, found by id too. No step of it is linear in their number.
#[derive(Clone, Debug, Default)]
pub(super) struct Table {
    children: BTreeMap<Rank, Child>,
    ranks: HashMap<ChildId, Rank>,
    next: u64,
    live: usize,
}

impl Table {
    /// Adds a child at the end. Its id must be new.
    pub(super) fn push(&mut self, child: Child) -> Rank {
        let rank = Rank(self.next);
        self.next += 1;
        self.ranks.insert(child.id.clone(), rank);
        self.children.insert(rank, child);
        rank
    }

    pub(super) fn rank(&self, id: &ChildId) -> Option<Rank> {
        self.ranks.get(id).copied()
    }

    /// Returns the child whose live incarnation this is: a late event finds none.
    pub(super) fn live(&self, id: &ChildId, incarnation: Incarnation) -> Option<Rank> {
        let rank = self.rank(id)?;
        let child = self.get(rank)?;
        (child.is_live() && child.incarnation == Some(incarnation)).then_some(rank)
    }

    pub(super) fn get(&self, rank: Rank) -> Option<&Child> {
        self.children.get(&rank)
    }

    /// Changes everything but the state: see [`Table::set`].
    pub(super) fn change(&mut self, rank: Rank, change: impl FnOnce(&mut Child)) {
        if let Some(child) = self.children.get_mut(&rank) {
            change(child);
        }
    }

    /// Changes the state.
    pub(super) fn set(&mut self, rank: Rank, state: State) {
        if let Some(child) = self.children.get_mut(&rank) {
            self.live -= usize::from(child.is_live());
            child.state = state;
            self.live += usize::from(child.is_live());
        }
    }

    pub(super) fn remove(&mut self, rank: Rank) -> Option<Child> {
        let child = self.children.remove(&rank)?;
        self.live -= usize::from(child.is_live());
        self.ranks.remove(&child.id);
        Some(child)
    }

    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = (Rank, &Child)> {
        self.children.iter().map(|(&rank, child)| (rank, child))
    }

    /// Returns the children from `first` on.
    pub(super) fn from(&self, first: Rank) -> impl DoubleEndedIterator<Item = (Rank, &Child)> {
        self.children.range(first..).map(|(&rank, child)| (rank, child))
    }

    /// Returns the last child before `end`.
    pub(super) fn before(&self, end: Rank) -> Option<(Rank, &Child)> {
        self.children.range(..end).next_back().map(|(&rank, child)| (rank, child))
    }

    /// Returns the rank that the next child will get.
    pub(super) fn end(&self) -> Rank {
        Rank(self.next)
    }

    pub(super) fn any_live(&self) -> bool {
        self.live > 0
    }
}
