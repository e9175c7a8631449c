//! Walk: from call to call, on one fleet for a while and then on a fresh one.

use std::collections::BTreeSet;

use super::deployment::{Fleet, Outcome, Point, Window};
use crate::live::{Dice, Which};

/// How many deployments one fleet sees: what piles up is seen after some, and nothing found in the
/// fortieth should take forty to repeat.
const DEPLOYMENTS_PER_FLEET: usize = 40;

/// Deploys again and again.
#[derive(Debug, Default)]
pub struct Walk {
    fleet: Option<Fleet>,
}

impl Walk {
    /// Lets a deployment happen that nobody disturbs; its outcome says which calls `daemon` made.
    pub fn record_deployment(&mut self, daemon: Which) -> Outcome {
        self.kill_at(Point { daemon, window: Window::Deployment, after: usize::MAX })
    }

    /// Returns the kinds of the calls that `daemon` makes until it has started.
    pub fn record_start(&mut self, daemon: Which) -> Vec<String> {
        self.fleet().calls_of_start(daemon)
    }

    /// Kills at one point of one deployment.
    pub fn kill_at(&mut self, point: Point) -> Outcome {
        let outcome = self.fleet().deploy(point);
        if !outcome.broken.is_empty() {
            // What is broken would be found again by each later deployment.
            self.fleet = None;
        }
        outcome
    }

    fn fleet(&mut self) -> &mut Fleet {
        if self.fleet.as_ref().is_some_and(|fleet| fleet.deployments() >= DEPLOYMENTS_PER_FLEET) {
            // Ended before the next one begins: both would have the same addresses.
            self.fleet = None;
        }
        self.fleet.get_or_insert_with(Fleet::start)
    }
}

/// Returns `count` places in a record of calls, from 1 on, each of another kind as long as there are
/// kinds: a rename is one of two hundred calls, and worth more than the hundredth write.
///
/// # Panics
///
/// When the record is empty.
pub fn sample(kinds: &[String], count: usize, dice: &mut Dice) -> Vec<usize> {
    let mut below = |limit: usize| {
        let number = dice.below(u64::try_from(limit).expect("a length is a number"));
        usize::try_from(number).expect("it is below a length")
    };
    let mut left: Vec<&String> = Vec::new();
    let mut places = Vec::new();
    while places.len() < count {
        if left.is_empty() {
            left = kinds.iter().collect::<BTreeSet<_>>().into_iter().collect();
        }
        let kind = left.swap_remove(below(left.len()));
        let of_kind: Vec<usize> =
            (1..).zip(kinds).filter(|(_, it)| *it == kind).map(|(place, _)| place).collect();
        places.push(of_kind[below(of_kind.len())]);
    }
    places
}
