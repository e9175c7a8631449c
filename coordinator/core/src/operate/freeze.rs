//! Freeze and thaw: when nothing new is deployed to an environment.

use std::time::Duration;

use cutover_common::{EnvironmentName, FreezeWindow, Timestamp, planted};

use super::deploy::refuse;
use crate::{
    action::{Answer, Refusal, RefusalKind},
    coordinator::{Coordinator, Freeze, Step},
    event::EventKind,
    input::DeployOrder,
};

/// How many freezes an environment has at a time (A9).
const FREEZES_MAX: usize = 32;

impl Coordinator {
    pub(super) fn freeze(
        &mut self,
        now: Timestamp,
        by: &str,
        environment: EnvironmentName,
        (window, reason): (FreezeWindow, String),
        step: &mut Step,
    ) -> Result<Answer, Refusal> {
        self.known_environment(&environment)?;
        let window = match window {
            // From now on, if nothing else was said.
            FreezeWindow::Once { from, until } => FreezeWindow::Once { from: from.max(now), until },
            FreezeWindow::Weekly(_) => window,
        };
        if let FreezeWindow::Once { from, until: Some(until) } = window
            && until <= from
        {
            return Err(Refusal::new(
                RefusalKind::Invalid,
                "the freeze would end before it begins",
                "give a later --until",
            ));
        }
        let freezes = self.freezes(&environment);
        let is_there = |freeze: &Freeze| freeze.window == window && freeze.reason == reason;
        if freezes.iter().any(is_there) {
            return Ok(Answer::Done);
        }
        if freezes.iter().filter(|freeze| !freeze.window.is_over(now)).count() >= FREEZES_MAX {
            return Err(refuse(
                format!("environment {environment} has {FREEZES_MAX} freezes, which is the most"),
                format!("lift them: cutover env thaw {environment}"),
            ));
        }
        let by = by.to_owned();
        self.record(now, step, EventKind::EnvironmentFrozen { environment, window, by, reason });
        Ok(Answer::Done)
    }

    /// Lifts all freezes of an environment.
    pub(super) fn thaw(
        &mut self,
        now: Timestamp,
        by: &str,
        environment: EnvironmentName,
        step: &mut Step,
    ) -> Result<Answer, Refusal> {
        self.known_environment(&environment)?;
        if self.environments.get(&environment).is_some_and(|it| !it.freezes.is_empty()) {
            let by = by.to_owned();
            self.record(now, step, EventKind::EnvironmentThawed { environment, by });
        }
        Ok(Answer::Done)
    }

    /// Returns whether nothing new is to be deployed to an environment at `now`.
    pub(super) fn is_frozen(&self, now: Timestamp, environment: &EnvironmentName) -> bool {
        self.freezes(environment).iter().any(|freeze| freeze.window.left(now).is_some())
    }

    /// Refuses a deploy to an environment that is frozen, unless it says why it comes all the same.
    pub(super) fn not_frozen(&self, now: Timestamp, order: &DeployOrder) -> Result<(), Refusal> {
        let environment = &order.environment;
        let longest = self
            .freezes(environment)
            .iter()
            .filter_map(|freeze| Some((freeze.window.left(now)?, freeze)))
            // Without an end is longest.
            .max_by_key(|(left, _)| left.unwrap_or(Duration::MAX));
        let Some((left, Freeze { by, reason, .. })) = longest else { return Ok(()) };
        if planted!(FreezeIgnored: true; !order.despite_freeze.is_empty()) {
            return Ok(());
        }
        let lasts = left.map_or_else(
            || format!("until it is thawed (cutover env thaw {environment})"),
            |left| format!("for another {}", roughly(left)),
        );
        let why = if reason.is_empty() { String::new() } else { format!(": {reason}") };
        Err(refuse(
            format!("environment {environment} is frozen {lasts}, by {by}{why}"),
            "wait, or deploy all the same and say why: --despite-freeze REASON",
        ))
    }
}

/// Prints a duration as people speak of it, rounded up.
fn roughly(duration: Duration) -> String {
    let minutes = duration.as_secs().div_ceil(60);
    match minutes {
        0..=120 => format!("{minutes} min"),
        121..=2_880 => format!("{} h", minutes.div_ceil(60)),
        _ => format!("{} days", minutes.div_ceil(24 * 60)),
    }
}
