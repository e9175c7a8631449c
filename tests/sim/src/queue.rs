//! The queue: what is to happen, by virtual time, ties broken by luck.

use std::{cmp::Reverse, collections::BinaryHeap};

use crate::{dice::Dice, moment::Moment};

/// Things to happen, the next one first.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    heap: BinaryHeap<Reverse<Entry<T>>>,
    /// What makes two things of one moment come in either order, from seed to seed.
    luck: Dice,
    count: u64,
}

#[derive(Debug)]
struct Entry<T> {
    key: (Moment, u32, u64),
    what: T,
}

impl<T> PartialEq for Entry<T> {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl<T> Eq for Entry<T> {}

impl<T> PartialOrd for Entry<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Entry<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key.cmp(&other.key)
    }
}

impl<T> Queue<T> {
    pub(crate) fn new(seed: u64) -> Self {
        Self { heap: BinaryHeap::new(), luck: Dice::new(seed, "ties"), count: 0 }
    }

    /// Adds something that happens at `at`.
    pub(crate) fn push(&mut self, at: Moment, what: T) {
        let tie = u32::try_from(self.luck.between(0, u64::from(u32::MAX))).unwrap_or_default();
        self.count += 1;
        self.heap.push(Reverse(Entry { key: (at, tie, self.count), what }));
    }

    /// Takes the next thing, if it is not after `end`.
    pub(crate) fn pop(&mut self, end: Moment) -> Option<(Moment, T)> {
        if self.heap.peek()?.0.key.0 > end {
            return None;
        }
        self.heap.pop().map(|Reverse(entry)| (entry.key.0, entry.what))
    }

    /// Returns how many things are waiting.
    pub(crate) fn len(&self) -> usize {
        self.heap.len()
    }
}
