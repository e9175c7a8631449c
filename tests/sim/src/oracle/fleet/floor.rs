//! A1: what is taken out leaves the floor, by the truth.

use super::{
    course::{Course, Member, Standing},
    ledger::Ledger,
    truth::Truth,
};
use crate::{
    oracle::Violation,
    world::{World, busy_permille},
};

/// What a floor is judged by.
#[derive(Clone, Copy)]
pub(super) struct Floor<'a> {
    pub(super) world: &'a World,
    pub(super) ledger: &'a Ledger,
    pub(super) truth: &'a Truth,
    pub(super) course: &'a Course,
}

/// Some hosts, of which so many must serve.
struct Kept {
    members: Vec<u16>,
    floor: usize,
    /// Which hosts they are, in words.
    of: String,
}

impl Floor<'_> {
    /// Judges that `hosts` are taken out, by what was known before.
    pub(super) fn judge(self, hosts: &[u16]) -> Result<(), Violation> {
        for Kept { members, floor, of } in self.kept() {
            let stay = members.iter().filter(|host| !hosts.contains(host));
            let left = stay.filter(|host| self.may_be_up(**host)).count();
            if left >= floor {
                continue;
            }
            let mut taken = hosts.iter().filter(|host| members.contains(host));
            if let Some(host) = taken.find(|host| self.costs_one(**host)) {
                let text = format!(
                    "rollout {} takes out host-{host}, which serves, of {hosts:?}, and leaves \
                     {left} {of} that may serve where {floor} must stay",
                    self.course.id
                );
                return Err(Violation::new("A1", text));
            }
        }
        Ok(())
    }

    /// Judges that the hosts which stay bear what those did that are taken out, as `max_load` demands:
    /// each gets its part of it, and has told how busy it is. `has_told` says who surely has.
    ///
    /// All that can be known counts for the coordinator: that who may serve does, and that who may have
    /// told nothing has nothing to do.
    pub(super) fn judge_load(
        self,
        hosts: &[u16],
        has_told: impl Fn(u16) -> bool,
    ) -> Result<(), Violation> {
        let application = self.course.application;
        let Some(max) = self.course.spec.max_load else { return Ok(()) };
        let spec = self.world.script.applications.get(usize::from(application));
        // Beside what serves, nothing is taken out before the new instance serves.
        let is_beside = spec.and_then(|spec| spec.gate).is_some_and(|gate| !gate.in_place);
        // Where requests are counted, they say what each has to do; here the cpus do.
        let is_counted = spec.is_some_and(|spec| spec.requests_per_s.is_some());
        if is_beside
            || is_counted
            || !hosts.iter().any(|host| has_told(*host) && self.costs_one(*host))
        {
            return Ok(());
        }
        let members = self.ledger.led_to(application);
        let serves = |host: u16| {
            has_told(host) && self.truth.surely_up(self.world, host, application).is_some()
        };
        let all: u32 = members.iter().filter(|it| serves(**it)).map(|it| busy_permille(*it)).sum();
        let stays = |host: &&u16| !hosts.contains(host) && self.may_be_up(**host);
        let left: u32 = members.iter().filter(stays).map(|it| busy_permille(*it)).sum();
        for host in members.iter().filter(stays).filter(|host| serves(**host)) {
            let will_be = busy_permille(*host) * all / left.max(1);
            if will_be > max.permille() {
                let text = format!(
                    "rollout {} takes out {hosts:?}, so that host-{host} is busy to {will_be} of a \
                     thousand, where {} is the most",
                    self.course.id,
                    max.permille()
                );
                return Err(Violation::new("A1", text));
            }
        }
        Ok(())
    }

    /// Judges that `host`, which the coordinator has long been in contact with, is drained: by the
    /// most that can be known the floor must bear that it counts as down.
    pub(super) fn judge_drain(self, host: u16, told: u64) -> Result<(), Violation> {
        let application = self.course.application;
        let goal = self.ledger.goals.get(&(host, application));
        let is_known = goal.is_some_and(|goal| {
            let process = self.truth.surely_up(self.world, host, application);
            let runs = process.map(|process| &process.version);
            goal.generation == told && goal.running() == runs
        });
        if !is_known || !self.may_be_up(host) {
            return Ok(());
        }
        let is_kept = |kept: &Kept| kept.members.contains(&host);
        for Kept { members, floor, of } in self.kept().into_iter().filter(is_kept) {
            let others = members.iter().filter(|other| **other != host);
            let left = others.filter(|other| self.may_be_up(**other)).count();
            if left < floor {
                let text = format!(
                    "host-{host}, which serves, is drained, and leaves {left} {of} that may serve \
                     where rollout {} must leave {floor}",
                    self.course.id
                );
                return Err(Violation::new("A1", text));
            }
        }
        Ok(())
    }

    /// Returns what must be kept: of all hosts that clients are led to, and of each zone of them.
    fn kept(self) -> Vec<Kept> {
        let count = |floor: u32| usize::try_from(floor).unwrap_or(usize::MAX);
        let spec = &self.course.spec;
        let members = self.ledger.led_to(self.course.application);
        let zones = spec.zone.iter().flat_map(|label| {
            spec.zone_floors.iter().map(|(zone, floor)| {
                let is_here = |host: &u16| self.ledger.label_of(*host, label) == zone;
                let members = members.iter().copied().filter(is_here).collect();
                Kept { members, floor: count(*floor), of: format!("of zone {zone:?}") }
            })
        });
        let mut kept: Vec<Kept> = zones.collect();
        kept.push(Kept { members, floor: count(spec.min_healthy), of: "in all".to_owned() });
        kept
    }

    /// Judges that clients are led to the hosts of a group, of which as many serve as must stay, or
    /// on the way back all that there are.
    pub(super) fn judge_switch(self, group: &str) -> Result<(), Violation> {
        let Some(groups) = self.course.groups() else { return Ok(()) };
        let application = self.course.application;
        let hosts: Vec<u16> = self.ledger.of_group(application, &groups.label, group).collect();
        let floor = usize::try_from(self.course.spec.min_healthy).unwrap_or(usize::MAX);
        let (serving, floor) = if group == groups.to {
            (self.course.count(Standing::Done), floor)
        } else {
            let serve = hosts.iter().filter(|host| self.may_be_up(**host)).count();
            (serve, floor.min(hosts.len()))
        };
        if serving >= floor.max(1) {
            return Ok(());
        }
        let text = format!(
            "rollout {} leads clients to {group}, where {serving} hosts may serve and {floor} must",
            self.course.id
        );
        Err(Violation::new("A1", text))
    }

    /// Returns whether a host could count as serving, by the most that can be known.
    fn may_be_up(self, host: u16) -> bool {
        let application = self.course.application;
        let holds_token = self.course.hosts.get(&host).is_some_and(Member::holds_token);
        if holds_token || self.ledger.is_drained(host) {
            return false;
        }
        let wanted = self.ledger.goals.get(&(host, application)).and_then(|goal| goal.running());
        let Some(wanted) = wanted else { return false };
        let accepted = self.truth.accepted(host, application);
        if accepted.is_none_or(|accepted| accepted.running.as_ref() != Some(wanted)) {
            return false;
        }
        self.truth.was_up(self.world, host, application, wanted)
    }

    /// Returns whether taking a host out surely takes an instance out that serves.
    fn costs_one(self, host: u16) -> bool {
        let application = self.course.application;
        // Clients are not led to it.
        if self.course.groups().is_some() && !self.ledger.led_to(application).contains(&host) {
            return false;
        }
        let Some(process) = self.truth.surely_up(self.world, host, application) else {
            return false;
        };
        // However well it answers: what its hooks say counts too.
        if self.truth.is_kept_back(self.world, host, application) {
            return false;
        }
        let goal = self.ledger.goals.get(&(host, application)).and_then(|goal| goal.running());
        let target = if self.course.goes_back() {
            match self.course.back_to(host) {
                // Before a first deploy nothing served: its way back has nothing to keep.
                None => return false,
                Some(version) => version,
            }
        } else {
            &self.course.to
        };
        if *target == process.version || goal == Some(target) {
            return false;
        }
        let Some(member) = self.course.hosts.get(&host) else { return true };
        match member.standing {
            Standing::Told { .. } | Standing::ToldBack { .. } => false,
            // It was taken out already, and has not come back as what it was told to be.
            Standing::Failed | Standing::Stuck if member.told > 0 => goal == Some(&process.version),
            Standing::Waits
            | Standing::Staging { .. }
            | Standing::Staged
            | Standing::Done
            | Standing::Failed
            | Standing::LeftOut
            | Standing::Back
            | Standing::Stuck
            | Standing::Out => true,
        }
    }
}
