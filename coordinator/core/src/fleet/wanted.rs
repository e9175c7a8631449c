//! Wanted: what a goal asks for, and what it becomes when a host moves.

use cutover_common::{Allow, Permille, Route, RouteMode, Slot, Slots, Version};

use super::GoalSlot;

/// What the slots of an application on a host should hold, and where its gate leads.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Wanted {
    pub slots: Slots<GoalSlot>,
    /// None: all that is new goes to the one slot that is to run.
    pub route: Option<Route>,
}

impl Wanted {
    /// Returns the version that clients are to get, but for a share, and where it is.
    pub fn leads(&self) -> Option<(Slot, &Version)> {
        let running = |slot: Slot| match self.slots.of(slot) {
            GoalSlot::Running(version) => Some((slot, version)),
            GoalSlot::Absent | GoalSlot::Prepared(_) => None,
        };
        match &self.route {
            Some(route) => running(route.to),
            None => Slot::ALL.into_iter().find_map(running),
        }
    }

    /// Returns the version that is to run beside the one that clients get, and where it is.
    pub fn beside(&self) -> Option<(Slot, &Version)> {
        let slot = self.route.as_ref()?.to.other();
        match self.slots.of(slot) {
            GoalSlot::Running(version) => Some((slot, version)),
            GoalSlot::Absent | GoalSlot::Prepared(_) => None,
        }
    }

    /// Returns the slot that holds `version`; of two the one that clients get, as after a restart.
    pub(crate) fn slot_of(&self, version: &Version) -> Option<Slot> {
        let leads = self.leads().filter(|(_, held)| *held == version).map(|(slot, _)| slot);
        let holds = || self.slots.iter().find(|(_, held)| held.version() == Some(version));
        leads.or_else(|| holds().map(|(slot, _)| slot))
    }

    /// Returns this with `version` on disk, and what clients get left as it is.
    pub(crate) fn prepared(&self, version: &Version) -> Self {
        if self.slot_of(version).is_some() {
            return self.clone();
        }
        let free = self.leads().map_or(Slot::Blue, |(slot, _)| slot.other());
        let mut slots = self.slots.clone();
        *slots.of_mut(free) = GoalSlot::Prepared(version.clone());
        Self { slots, route: None }
    }

    /// Returns this with `version` running, and what ran before kept on disk beside it (E7).
    pub(crate) fn running(&self, version: &Version) -> Self {
        let prepared = self.prepared(version);
        let slot = prepared.slot_of(version).unwrap_or(Slot::Blue);
        prepared.running_in(slot, version)
    }

    /// Returns this with `version` running in `slot`, and what else runs kept on disk (E7).
    pub(crate) fn running_in(&self, slot: Slot, version: &Version) -> Self {
        let slots = self.slots.map(|place, held| match held {
            _ if place == slot => GoalSlot::Running(version.clone()),
            GoalSlot::Absent => GoalSlot::Absent,
            GoalSlot::Prepared(held) | GoalSlot::Running(held) => GoalSlot::Prepared(held.clone()),
        });
        Self { slots, route: None }
    }

    /// Returns this with nothing running and `version` gone: the way back of a first deploy.
    pub(crate) fn without(&self, version: &Version) -> Self {
        let slots = self.slots.map(|_, slot| match slot.version() {
            Some(held) if held != version => GoalSlot::Prepared(held.clone()),
            Some(_) | None => GoalSlot::Absent,
        });
        Self { slots, route: None }
    }

    /// Returns this with nothing running, and all of it kept on disk (E7).
    pub(crate) fn stopped(&self) -> Self {
        let slots = self.slots.map(|_, held| match held {
            GoalSlot::Absent => GoalSlot::Absent,
            GoalSlot::Prepared(held) | GoalSlot::Running(held) => GoalSlot::Prepared(held.clone()),
        });
        Self { slots, route: None }
    }

    /// Returns this with `version` running beside what clients get, of which it gets `share`. Where
    /// clients get nothing, or that very version, it runs alone.
    pub(crate) fn staged(&self, version: &Version, share: Permille, allow: Option<&Allow>) -> Self {
        let prepared = self.prepared(version);
        let Some((leads, held)) = prepared.leads().filter(|(_, held)| *held != version) else {
            return self.running(version);
        };
        let mut slots = prepared.slots.clone();
        *slots.of_mut(leads) = GoalSlot::Running(held.clone());
        *slots.of_mut(leads.other()) = GoalSlot::Running(version.clone());
        let route = Route { to: leads, share, allow: allow.cloned(), mode: RouteMode::Open };
        Self { slots, route: Some(route) }
    }

    /// Returns this with what is new going on, or held.
    pub(crate) fn in_mode(&self, mode: RouteMode) -> Self {
        let route = self.route.clone().map(|route| Route { mode, ..route });
        Self { slots: self.slots.clone(), route }
    }

    /// Returns this with clients led to what ran beside, and what they got running beside it.
    pub(crate) fn flipped(&self) -> Self {
        let flipped = self.route.clone().map(|route| Route {
            to: route.to.other(),
            share: Permille::NONE,
            allow: None,
            mode: RouteMode::Open,
        });
        Self { slots: self.slots.clone(), route: flipped }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> Version {
        text.parse().unwrap()
    }

    fn runs(wanted: &Wanted) -> Option<&Version> {
        wanted.leads().map(|(_, version)| version)
    }

    #[test]
    fn a_replaced_release_stays_on_disk_and_the_one_before_makes_room() {
        let (v1, v2, v3) = (version("1"), version("2"), version("3"));

        let first = Wanted::default().running(&v1);
        let prepared = first.prepared(&v2);
        let second = prepared.running(&v2);
        let back = second.running(&v1);
        let third = second.running(&v3);

        assert_eq!(runs(&first), Some(&v1));
        assert_eq!(runs(&prepared), Some(&v1));
        assert_eq!(runs(&second), Some(&v2));
        assert!(second.slots.iter().any(|(_, slot)| *slot == GoalSlot::Prepared(v1.clone())));
        assert_eq!(runs(&back), Some(&v1));
        assert_eq!(runs(&third), Some(&v3));
        assert!(third.slots.iter().any(|(_, slot)| *slot == GoalSlot::Prepared(v2.clone())));
    }

    #[test]
    fn the_way_back_of_a_first_deploy_is_nothing() {
        let v1 = version("1");

        assert_eq!(Wanted::default().running(&v1).without(&v1), Wanted::default());
    }

    #[test]
    fn what_is_staged_runs_beside_and_a_flip_back_is_where_it_began() {
        let (v1, v2) = (version("1"), version("2"));

        let staged = Wanted::default().running(&v1).staged(&v2, Permille::NONE, None);

        assert_eq!(staged.leads(), Some((Slot::Blue, &v1)));
        assert_eq!(staged.beside(), Some((Slot::Green, &v2)));
        assert_eq!(staged.staged(&v2, Permille::NONE, None), staged, "once more is the same");
        let flipped = staged.flipped();
        assert_eq!(flipped.leads(), Some((Slot::Green, &v2)));
        assert_eq!(flipped.beside(), Some((Slot::Blue, &v1)));
        assert_eq!(flipped.flipped(), staged);
        assert_eq!(flipped.running(&v2).beside(), None);
    }

    #[test]
    fn where_nothing_serves_there_is_nothing_to_be_beside() {
        let v1 = version("1");

        let staged = Wanted::default().staged(&v1, Permille::NONE, None);

        assert_eq!(staged, Wanted::default().running(&v1));
    }

    #[test]
    fn another_release_takes_the_place_of_what_was_staged() {
        let (v1, v2, v3) = (version("1"), version("2"), version("3"));
        let staged = Wanted::default().running(&v1).staged(&v2, Permille::NONE, None);

        let prepared = staged.prepared(&v3);

        assert_eq!(prepared.leads(), Some((Slot::Blue, &v1)));
        assert_eq!(prepared.route, None);
        assert_eq!(*prepared.slots.of(Slot::Green), GoalSlot::Prepared(v3));
    }
}
