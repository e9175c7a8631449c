//! A rollout that has not begun, as it is shown.

use cutover_common::{AgentName, DeploySetting, Timestamp};
use uuid::Uuid;

use super::why::spoken;
use crate::{
    coordinator::Coordinator,
    event::Dequeued,
    operate::{Ahead, Found},
    queue::Queued,
    rollout::story::names,
};

/// See above.
#[derive(Clone, Debug)]
pub struct QueuedView<'a> {
    pub queued: &'a Queued,
    pub state: &'static str,
    /// Two sentences at the most.
    pub why: String,
    /// Commands to type.
    pub next: Vec<String>,
    /// What was typed of how; empty if nothing was.
    pub strategy: &'a str,
    /// The rollout right before it; none if none is, or if it will not begin.
    pub waits_for: Option<Uuid>,
    /// How many in the queue are before it.
    pub ahead: usize,
    pub ended: Option<Timestamp>,
}

impl Coordinator {
    /// Returns `queued` as it is shown at `now`.
    pub fn view_queued<'a>(&'a self, queued: &'a Queued, now: Timestamp) -> QueuedView<'a> {
        let ahead = self.ahead_of(queued);
        let commands = |verbs: &[&str]| {
            verbs.iter().map(|verb| format!("cutover {verb} {}", queued.id)).collect()
        };
        let strategy = queued.order.options.get(DeploySetting::Strategy);
        let Some(left) = &queued.left else {
            return QueuedView {
                queued,
                state: "queued",
                why: self.why_queued(queued, &ahead, now),
                next: commands(&["watch", "abort"]),
                strategy,
                waits_for: ahead.rollout.map(Found::id),
                ahead: ahead.count,
                ended: None,
            };
        };
        let (state, why, next) = match &left.how {
            Dequeued::Refused { why } => {
                let why = format!("Refused when its turn came: {why}.");
                ("refused", why, commands(&["retry"]))
            }
            Dequeued::Aborted { by, reason } => {
                let because =
                    if reason.is_empty() { String::new() } else { format!(" ({reason})") };
                let why = format!("Aborted: taken out of the queue by {by}{because}.");
                ("aborted", why, commands(&["retry"]))
            }
            Dequeued::Superseded { by, rollout } => {
                let why = format!("Aborted: {by} put rollout {rollout} in its place.");
                ("aborted", why, Vec::new())
            }
        };
        let ended = Some(left.at);
        QueuedView { queued, state, why, next, strategy, waits_for: None, ahead: 0, ended }
    }

    fn why_queued(&self, queued: &Queued, ahead: &Ahead<'_>, now: Timestamp) -> String {
        let since = spoken(now.since(queued.since));
        let what = match ahead.rollout {
            Some(Found::Rollout(rollout)) => {
                let state = self.view(rollout, now).state.replace('_', " ");
                let place = if rollout.environment == queued.order.environment {
                    String::new()
                } else {
                    format!(" in {}", rollout.environment)
                };
                format!("rollout {} to {}{place} to end ({state})", rollout.id, rollout.to)
            }
            Some(Found::Queued(before)) => format!(
                "rollout {} to {}, which is queued before it, to begin and end",
                before.id, before.order.version
            ),
            None => {
                let unheard: Vec<AgentName> = self.unheard(&queued.order).collect();
                format!("word of {}", names(&unheard))
            }
        };
        format!(
            "Waiting for {what}, for {since} by now. Then it is planned on the fleet of that moment, \
             and begins."
        )
    }
}
