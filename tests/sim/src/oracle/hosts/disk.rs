//! E2, E7: what is needed stays on disk, so that a way back needs nobody.

use cutover_agent_core::{Action, Agent, Event, Retained, Step};
use cutover_common::{ApplicationName, Sha256, SlotGoal};

use super::super::Violation;
use crate::world::Host;

/// How many releases stay on disk without being in use, as the design has it.
const KEPT: usize = 5;

/// What ran on one host, by application.
#[derive(Debug, Default)]
pub(super) struct Shelves(Vec<Shelf>);

#[derive(Debug)]
struct Shelf {
    application: ApplicationName,
    /// What was prepared or begun, the newest at the end; and whether it ever ran.
    recent: Vec<(Sha256, bool)>,
    /// The goal wants nothing of it: what is not in use may go.
    is_unwanted: bool,
}

impl Shelves {
    fn of(&mut self, application: &ApplicationName) -> &mut Shelf {
        let found = self.0.iter().position(|shelf| shelf.application == *application);
        let index = found.unwrap_or_else(|| {
            self.0.push(Shelf {
                application: application.clone(),
                recent: Vec::new(),
                is_unwanted: false,
            });
            self.0.len() - 1
        });
        &mut self.0[index]
    }

    fn touch(&mut self, application: &ApplicationName, digest: Sha256, runs: bool) {
        let shelf = self.of(application);
        if shelf.is_unwanted {
            return;
        }
        let known = shelf.recent.iter().position(|(held, _)| *held == digest);
        let ran = known.is_some_and(|index| shelf.recent.remove(index).1);
        shelf.recent.push((digest, ran || runs));
        if shelf.recent.len() > KEPT {
            shelf.recent.remove(0);
        }
    }

    /// Notes what was decided.
    pub(super) fn decided(&mut self, events: &[Event]) {
        for event in events {
            if let Event::Prepared { application, release, .. } = event {
                self.touch(application, release.digest, false);
            }
            if let Event::AssignmentAccepted(assignment) = event {
                let shelf = self.of(&assignment.application);
                shelf.is_unwanted =
                    assignment.slots.iter().all(|(_, goal)| *goal == SlotGoal::Absent);
                if shelf.is_unwanted {
                    shelf.recent.clear();
                }
            }
        }
    }

    /// Notes that a process has begun.
    pub(super) fn began(&mut self, application: &ApplicationName, digest: Sha256) {
        self.touch(application, digest, true);
    }

    /// E7: what ran here lately is not fetched again: it is still there.
    pub(super) fn fetches(
        &mut self,
        host: &Host,
        application: &ApplicationName,
        digest: Sha256,
    ) -> Result<(), Violation> {
        if !self.of(application).recent.contains(&(digest, true)) {
            return Ok(());
        }
        let what = format!("{} fetches a release of {application} that ran there", host.name);
        Err(Violation::new("E7", what))
    }
}

/// E7: nothing is removed that runs, whatever the agent believes.
pub(super) fn keeps_what_runs(host: &Host, retained: &Retained) -> Result<(), Violation> {
    for process in host.kernel.alive() {
        if goes(retained, &process.application, &process.digest) {
            let what = format!("{} {}, which runs", process.application, process.version);
            return Err(removes(host, &what));
        }
        if !retained.instances.contains(&(process.application.clone(), process.instance)) {
            let what = format!("the record of a {} that runs", process.application);
            return Err(removes(host, &what));
        }
    }
    Ok(())
}

/// E2, E7: nothing is to be removed that is wanted.
pub(super) fn keeps_what_is_wanted(
    host: &Host,
    core: &Agent,
    step: &Step,
) -> Result<(), Violation> {
    for action in &step.actions {
        let Action::Retain(retained) = action else { continue };
        for (name, application) in &core.remembered().applications {
            for (_, goal) in application.assignment.slots.iter() {
                if let Some(release) = goal.release()
                    && goes(retained, name, &release.digest)
                {
                    return Err(removes(host, &format!("{}, which is wanted", release.name)));
                }
                let secrets = goal.release().into_iter().flat_map(|it| it.config.secrets.iter());
                let mut lost = secrets.filter(|(_, id)| !retained.secrets.contains(id));
                if let Some((variable, _)) = lost.next() {
                    let what = format!("the value of {variable}, which {name} is to have");
                    return Err(removes(host, &what));
                }
            }
        }
    }
    Ok(())
}

fn goes(retained: &Retained, application: &ApplicationName, digest: &Sha256) -> bool {
    retained.releases.get(application).is_some_and(|kept| !kept.contains(digest))
}

fn removes(host: &Host, what: &str) -> Violation {
    Violation::new("E7", format!("{} removes {what}", host.name))
}
