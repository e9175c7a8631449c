//! Once: E10. A `once` hook runs on one host of an environment, once; where that is not known to have
//! gone well, again only when a person asks; and nobody starts the release before it has passed.
//!
//! The books are of what the hosts really do: which hooks began, and how each of them ended.

use std::collections::BTreeMap;

use cutover_agent_core::{HookEnd, HookId, Input};
use cutover_common::{Release, ReleaseRef};
use cutover_coordinator_core::{IfBusy, Request, Verb};

use super::{Effect, Seen, Violation};
use crate::world::{CallId, World};

/// One run of a hook.
#[derive(Debug)]
struct Run {
    host: u16,
    hook: HookId,
    has_failed: bool,
}

/// The hook of one release, in the one environment of its application.
#[derive(Debug, Default)]
struct Book {
    last: Option<Run>,
    /// It has passed on some host.
    has_passed: bool,
    /// Since the last run began, a person has asked to retry, or left hosts out.
    is_permitted: bool,
    /// Since then, a person has asked for a deploy.
    is_deployed: bool,
}

/// See above.
#[derive(Debug, Default)]
pub(super) struct OnceOracle {
    books: BTreeMap<ReleaseRef, Book>,
    /// There are two logs, or one that has lost its end: what one coordinator remembers another may
    /// not.
    is_forked: bool,
    /// A deploy was queued: it may come after a run that failed later.
    is_queued: bool,
}

/// What it has done is done with every config.
fn pushed(release: &Release) -> ReleaseRef {
    let ReleaseRef { application, version } = &release.name;
    ReleaseRef { application: application.clone(), version: version.pushed() }
}

impl OnceOracle {
    fn book(&self, release: &Release) -> Option<&Book> {
        self.books.get(&pushed(release))
    }

    pub(super) fn see(&mut self, world: &World, seen: &Seen<'_>) -> Result<(), Violation> {
        match seen {
            Seen::Restored => self.is_forked = true,
            Seen::SiteStarted { number } if *number > 0 => self.is_forked = true,
            Seen::Asked { id } => self.asked(world, *id),
            Seen::AgentTakes { input: Input::HookEnded { hook, end }, .. } => {
                self.ended(*hook, end);
            }
            Seen::Effect { number, effect: Effect::Hook { hook, release, .. } } => {
                let is_once = release.once_hook().is_some_and(|once| once.kind == hook.kind);
                if is_once {
                    return self.runs(world, *number, *hook, release);
                }
            }
            Seen::Effect { number, effect: Effect::Start { release, .. } } => {
                let has_once = release.once_hook().is_some();
                if has_once && !self.book(release).is_some_and(|book| book.has_passed) {
                    let host = &world.host(*number).name;
                    let what =
                        format!("{host} starts {} before its once hook passed", release.name);
                    return Err(Violation::new("E10", what));
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn asked(&mut self, world: &World, id: CallId) {
        let Some(call) = world.operators.calls.get(&id) else { return };
        let is_permission = match &call.request {
            Request::Control { verb: Verb::Retry, .. } | Request::Exclude { .. } => true,
            Request::Deploy { order, .. } => {
                self.is_queued |= order.if_busy == IfBusy::Queue;
                false
            }
            _ => return,
        };
        // Whichever application it names: what is asked is done to its newest rollout.
        for book in self.books.values_mut() {
            book.is_permitted |= is_permission;
            book.is_deployed = true;
        }
    }

    fn ended(&mut self, hook: HookId, end: &HookEnd) {
        for book in self.books.values_mut() {
            let Some(run) = book.last.as_mut().filter(|run| run.hook == hook) else { continue };
            book.has_passed |= *end == HookEnd::Passed;
            run.has_failed |= matches!(end, HookEnd::Failed { .. });
        }
    }

    fn runs(
        &mut self,
        world: &World,
        number: u16,
        hook: HookId,
        release: &Release,
    ) -> Result<(), Violation> {
        let book = self.books.entry(pushed(release)).or_default();
        let run = Run { host: number, hook, has_failed: false };
        let earlier = book.last.replace(run);
        let is_permitted = std::mem::take(&mut book.is_permitted);
        let is_deployed = std::mem::take(&mut book.is_deployed);
        let Some(earlier) = earlier.filter(|_| !self.is_forked) else { return Ok(()) };
        let comes_again = is_deployed || self.is_queued;
        if is_permitted || earlier.has_failed && comes_again {
            return Ok(());
        }
        let what = format!(
            "the once hook of {} runs on {} after {}, and nobody asked for that",
            release.name,
            world.host(number).name,
            world.host(earlier.host).name,
        );
        Err(Violation::new("E10", what))
    }
}
