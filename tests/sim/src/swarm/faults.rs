//! The menu of faults: which of them a run has, and how often.

use crate::{
    dice::Dice,
    script::{Application, Direction, Entry, Fault, KillPoint, What},
};

/// A kind of fault.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    KillAgent,
    PauseAgent,
    CutPower,
    Suspend,
    SetClock,
    KillInstance,
    CrashGate,
    HinderGate,
    FillDisk,
    FailDisk,
    SlowDisk,
    RefuseProcesses,
    FlipBit,
    CutLink,
    SlowLink,
    ResetLink,
    FlappingLink,
    Swizzle,
    KillCoordinator,
    PauseCoordinator,
    CutCoordinatorPower,
    SlowCoordinatorDisk,
    FailCoordinatorDisk,
    SetCoordinatorClock,
    Restore,
    Clone,
    LoseCoordinator,
}

/// Each kind, and in how many runs in a thousand it is on.
const KINDS: [(Kind, u32); 27] = [
    (Kind::KillAgent, 300),
    (Kind::PauseAgent, 100),
    (Kind::CutPower, 200),
    (Kind::Suspend, 80),
    (Kind::SetClock, 80),
    (Kind::KillInstance, 200),
    (Kind::CrashGate, 200),
    (Kind::HinderGate, 200),
    (Kind::FillDisk, 80),
    (Kind::FailDisk, 80),
    (Kind::SlowDisk, 80),
    (Kind::RefuseProcesses, 60),
    (Kind::FlipBit, 20),
    (Kind::CutLink, 300),
    (Kind::SlowLink, 150),
    (Kind::ResetLink, 150),
    (Kind::FlappingLink, 80),
    (Kind::Swizzle, 80),
    (Kind::KillCoordinator, 300),
    (Kind::PauseCoordinator, 100),
    (Kind::CutCoordinatorPower, 100),
    (Kind::SlowCoordinatorDisk, 80),
    (Kind::FailCoordinatorDisk, 60),
    (Kind::SetCoordinatorClock, 60),
    (Kind::Restore, 80),
    (Kind::Clone, 180),
    (Kind::LoseCoordinator, 20),
];

/// The kinds that a run has, each with how many of them to expect.
#[derive(Debug)]
pub(super) struct Menu(Vec<(Kind, u64)>);

impl Menu {
    pub(super) fn draw(dice: &mut Dice) -> Self {
        if dice.chance(100) {
            return Self(Vec::new());
        }
        let on: Vec<Kind> = KINDS
            .iter()
            .filter(|(_, permille)| dice.chance(*permille))
            .map(|(kind, _)| *kind)
            .collect();
        Self(on.into_iter().map(|kind| (kind, *dice.pick(&[1, 2, 4, 10]))).collect())
    }

    /// Returns what an ordinary bad day has.
    pub(super) fn few() -> Self {
        Self(vec![
            (Kind::KillAgent, 2),
            (Kind::CutLink, 1),
            (Kind::ResetLink, 1),
            (Kind::KillInstance, 1),
            (Kind::KillCoordinator, 1),
        ])
    }

    /// Draws when each of them happens, and to whom.
    pub(super) fn schedule(
        &self,
        dice: &mut Dice,
        hosts: u16,
        applications: &[Application],
        until_ms: u64,
    ) -> Vec<Entry> {
        let mut entries = Vec::new();
        // Mostly something runs already when the first thing goes wrong.
        let from_ms = if dice.chance(200) { 1_500 } else { 12_000 };
        for (kind, count) in &self.0 {
            for _ in 0..*count {
                let at_ms = dice.between(from_ms, until_ms.max(from_ms));
                let mut drawn = Drawn { dice, hosts, applications, at_ms, entries: &mut entries };
                drawn.draw(*kind);
            }
        }
        entries
    }
}

struct Drawn<'a> {
    dice: &'a mut Dice,
    hosts: u16,
    applications: &'a [Application],
    at_ms: u64,
    entries: &'a mut Vec<Entry>,
}

impl Drawn<'_> {
    fn push(&mut self, at_ms: u64, fault: Fault) {
        self.entries.push(Entry { at_ms, what: What::Fault(fault) });
    }

    fn host(&mut self) -> u16 {
        u16::try_from(self.dice.below(usize::from(self.hosts))).unwrap_or(0)
    }

    fn span(&mut self) -> u64 {
        *self.dice.pick(&[50, 1_000, 5_000, 12_000, 20_000, 60_000])
    }

    fn down(&mut self) -> u64 {
        *self.dice.pick(&[10, 500, 1_000, 10_000, 30_000])
    }

    fn direction(&mut self) -> Direction {
        *self.dice.pick(&[Direction::Both, Direction::Both, Direction::Up, Direction::Down])
    }

    fn point(&mut self) -> KillPoint {
        match self.dice.below(6) {
            0 | 1 => KillPoint::Now,
            2 => KillPoint::BeforeStore,
            3 => KillPoint::AfterStore,
            4 => KillPoint::AfterActions { count: number(self.dice.between(1, 3)) },
            _ => KillPoint::AtDisk { operation: number(self.dice.between(0, 5)) },
        }
    }

    fn draw(&mut self, kind: Kind) {
        let at_ms = self.at_ms;
        match kind {
            Kind::CutLink
            | Kind::SlowLink
            | Kind::ResetLink
            | Kind::FlappingLink
            | Kind::Swizzle => {
                self.draw_link(kind, at_ms);
            }
            Kind::KillCoordinator
            | Kind::PauseCoordinator
            | Kind::CutCoordinatorPower
            | Kind::SlowCoordinatorDisk
            | Kind::FailCoordinatorDisk
            | Kind::SetCoordinatorClock
            | Kind::Restore
            | Kind::Clone
            | Kind::LoseCoordinator => self.draw_coordinator(kind, at_ms),
            Kind::KillAgent
            | Kind::PauseAgent
            | Kind::CutPower
            | Kind::Suspend
            | Kind::SetClock
            | Kind::KillInstance
            | Kind::CrashGate
            | Kind::HinderGate
            | Kind::FillDisk
            | Kind::FailDisk
            | Kind::SlowDisk
            | Kind::RefuseProcesses
            | Kind::FlipBit => self.draw_host(kind, at_ms),
        }
    }

    fn draw_host(&mut self, kind: Kind, at_ms: u64) {
        let host = self.host();
        let fault = match kind {
            Kind::KillAgent => Fault::KillAgent { host, point: self.point(), down_ms: self.down() },
            Kind::PauseAgent => Fault::PauseAgent { host, for_ms: self.span() },
            Kind::CutPower => {
                // Often soon after a kill: what was read of the cache is not on the disk.
                if self.dice.chance(300) {
                    let point = self.point();
                    self.push(at_ms, Fault::KillAgent { host, point, down_ms: 100 });
                    let wait = self.dice.between(100, 3_000);
                    self.push(at_ms + wait, Fault::CutPower { host, down_ms: 3_000 });
                    return;
                }
                Fault::CutPower { host, down_ms: self.down() }
            }
            Kind::Suspend => Fault::Suspend { host, for_ms: self.span() },
            Kind::SetClock => {
                let years = 315_000_000_000_i64;
                let ahead_ms = *self.dice.pick(&[years, -years, 3_600_000, -3_600_000, 0]);
                Fault::SetClock { host, ahead_ms }
            }
            Kind::KillInstance => {
                let application =
                    u16::try_from(self.dice.below(self.applications.len())).unwrap_or(0);
                Fault::KillInstance { host, application }
            }
            Kind::CrashGate => {
                Fault::CrashGate { host, down_ms: self.down(), forgets: self.dice.chance(300) }
            }
            Kind::HinderGate => {
                let application =
                    u16::try_from(self.dice.below(self.applications.len())).unwrap_or(0);
                Fault::HinderGate { host, application, for_ms: self.span() }
            }
            Kind::FillDisk => Fault::FillDisk { host, for_ms: self.span() },
            Kind::FailDisk => {
                // Often soon before a power cut: what a failed sync lost is missed only then.
                if self.dice.chance(300) {
                    let wait = self.dice.between(100, 20_000);
                    self.push(at_ms + wait, Fault::CutPower { host, down_ms: 3_000 });
                }
                Fault::FailDisk { host, operation: number(self.dice.between(0, 6)) }
            }
            Kind::SlowDisk => {
                let sync_ms = *self.dice.pick(&[500, 5_000, 20_000]);
                Fault::SlowDisk { host, sync_ms, for_ms: self.span() }
            }
            Kind::RefuseProcesses => Fault::RefuseProcesses { host, for_ms: self.span() },
            _ => Fault::FlipBit { host, at_permille: number(self.dice.between(0, 999)) },
        };
        self.push(at_ms, fault);
    }

    fn draw_link(&mut self, kind: Kind, at_ms: u64) {
        let host = self.host();
        match kind {
            Kind::CutLink => {
                let direction = self.direction();
                let for_ms = self.span();
                let everybody = self.dice.chance(200);
                for host in 0..self.hosts {
                    if everybody && self.dice.chance(700) {
                        self.push(at_ms, Fault::CutLink { host, direction, for_ms });
                    }
                }
                self.push(at_ms, Fault::CutLink { host, direction, for_ms });
            }
            Kind::SlowLink => {
                let delay_ms = *self.dice.pick(&[50, 1_000, 6_000, 12_000]);
                let for_ms = self.span();
                self.push(at_ms, Fault::SlowLink { host, delay_ms, for_ms });
            }
            Kind::FlappingLink => {
                let direction = self.direction();
                for turn in 0..15 {
                    let at_ms = at_ms + turn * 4_000;
                    self.push(at_ms, Fault::CutLink { host, direction, for_ms: 2_000 });
                }
            }
            Kind::Swizzle => {
                // Links stop one by one and come back in another order.
                for host in 0..self.hosts {
                    let begin = at_ms + u64::from(host) * 500;
                    let for_ms = 20_000 + self.dice.between(0, 20_000);
                    let direction = Direction::Both;
                    self.push(begin, Fault::CutLink { host, direction, for_ms });
                }
            }
            _ => self.push(at_ms, Fault::ResetLink { host }),
        }
    }

    fn draw_coordinator(&mut self, kind: Kind, at_ms: u64) {
        let coordinator = 0;
        let fault = match kind {
            Kind::KillCoordinator => {
                let (point, down_ms) = (self.point(), self.down());
                Fault::KillCoordinator { coordinator, point, down_ms }
            }
            Kind::PauseCoordinator => Fault::PauseCoordinator { coordinator, for_ms: self.span() },
            Kind::CutCoordinatorPower => {
                Fault::CutCoordinatorPower { coordinator, down_ms: self.down() }
            }
            Kind::SlowCoordinatorDisk => {
                let sync_ms = *self.dice.pick(&[500, 5_000]);
                Fault::SlowCoordinatorDisk { coordinator, sync_ms, for_ms: self.span() }
            }
            Kind::FailCoordinatorDisk => {
                Fault::FailCoordinatorDisk { coordinator, down_ms: self.down() }
            }
            Kind::SetCoordinatorClock => {
                let years = 315_000_000_000_i64;
                let ahead_ms = *self.dice.pick(&[years, -years, 3_600_000, -3_600_000]);
                Fault::SetCoordinatorClock { coordinator, ahead_ms }
            }
            Kind::Restore => {
                let later = self.dice.between(1_000, 60_000);
                self.push(at_ms, Fault::Backup);
                let down_ms = self.down();
                self.push(at_ms + later, Fault::Restore { down_ms });
                return;
            }
            Kind::Clone => {
                self.draw_clone(at_ms);
                return;
            }
            _ => Fault::LoseCoordinator,
        };
        self.push(at_ms, fault);
    }

    fn draw_clone(&mut self, at_ms: u64) {
        self.push(at_ms, Fault::Clone);
        for host in 0..self.hosts {
            if self.dice.chance(600) {
                let wait = self.dice.between(100, 10_000);
                self.push(at_ms + wait, Fault::Route { host, coordinator: 1 });
            }
        }
        if self.dice.chance(300) {
            let wait = self.dice.between(100, 5_000);
            let down_ms = self.down();
            self.push(
                at_ms + wait,
                Fault::KillCoordinator { coordinator: 0, point: KillPoint::Now, down_ms },
            );
        }
        let wait = self.dice.between(12_000, 60_000);
        self.push(at_ms + wait, Fault::EndClone);
    }
}

fn number(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(0)
}
