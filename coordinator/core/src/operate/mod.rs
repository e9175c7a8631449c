//! What people and joining agents ask for, and what they are answered.

mod adopt;
mod again;
mod configure;
mod control;
pub(crate) mod converge;
mod deploy;
mod drain;
mod exclude;
mod freeze;
mod groups;
mod identity;
mod lock;
mod notice;
mod plan;
mod possible;
mod promote;
mod queue;

pub use self::{
    possible::{ROLLOUT_HOSTS_MAX, ZONES_MAX},
    queue::{Ahead, Found},
};

use std::sync::Arc;

use cutover_common::{EnvironmentName, Timestamp};

use crate::{
    action::{Action, Answer, Refusal, RefusalKind},
    coordinator::{Coordinator, Step},
    event::EventKind,
    input::{ReplyId, Request},
};

/// How many of each thing a coordinator takes: far above any fleet it is made for, and low
/// enough that a loop gone wild is stopped before memory is (A9).
const COUNT_MAX: usize = 100_000;

impl Coordinator {
    pub(crate) fn asked(
        &mut self,
        now: Timestamp,
        reply: ReplyId,
        by: &str,
        request: Request,
        step: &mut Step,
    ) {
        let answer = match request {
            Request::Join { token_hash, name, labels, enrolment, key_hash } => {
                let joining = identity::Joining { token_hash, name, labels, enrolment, key_hash };
                match self.join(now, joining, step) {
                    Ok((agent, enrolment)) => {
                        step.actions.push(Action::SignCertificate { reply, agent, enrolment });
                        return;
                    }
                    Err(refusal) => Err(refusal),
                }
            }
            Request::Renew { agent, enrolment } => match self.renew(&agent, enrolment) {
                Ok(()) => {
                    step.actions.push(Action::SignCertificate { reply, agent, enrolment });
                    return;
                }
                Err(refusal) => Err(refusal),
            },
            Request::CreateOperator { .. } if self.enrolments.operators.len() >= COUNT_MAX => {
                Err(full("operators"))
            }
            Request::CreateOperator { name, role, token_hash } => {
                self.record(now, step, EventKind::OperatorCreated { name, role, token_hash });
                Ok(Answer::Done)
            }
            Request::CreateJoinToken { token_hash, name, labels, expires } => {
                self.create_join_token(now, by, token_hash, name, labels, expires, step)
            }
            Request::LabelAgent { agent, set, unset } => {
                self.label_agent(now, by, &agent, set, &unset, step)
            }
            Request::RemoveAgent { agent } => self.remove_agent(now, by, &agent, step),
            Request::CreateEnvironment { name, select } => {
                self.create_environment(now, by, name, select, step)
            }
            Request::RegisterRelease { release, manifest } => {
                self.register_release(now, by, release, manifest, step)
            }
            Request::Deploy { request_id, rollout, order } => {
                self.deploy(now, by, request_id, rollout, &order, step)
            }
            Request::Control { rollout, verb, reason, new_rollout, if_busy } => {
                let call = new_rollout;
                let order = control::ControlOrder { verb, reason, call, if_busy };
                self.control(now, by, &rollout, order, step)
            }
            Request::Exclude { rollout, agents, how, reason, call } => {
                let order = exclude::ExcludeOrder { agents, how, reason, call };
                self.exclude(now, by, &rollout, order, step)
            }
            Request::DrainAgent { agent, reason, is_forced } => {
                self.drain_agent(now, by, &agent, (reason, is_forced), step)
            }
            Request::FreezeEnvironment { environment, window, reason } => {
                self.freeze(now, by, environment, (window, reason), step)
            }
            Request::ThawEnvironment { environment } => self.thaw(now, by, environment, step),
            Request::ConfigureEnvironment(order) => self.configure(now, by, order, step),
            Request::UndrainAgent { agent, reason } => {
                self.undrain_agent(now, by, &agent, reason, step)
            }
        };
        step.actions.push(Action::Changed);
        step.actions.push(Action::Answer { reply, answer });
    }

    fn create_environment(
        &mut self,
        now: Timestamp,
        by: &str,
        name: EnvironmentName,
        select: cutover_common::Labels,
        step: &mut Step,
    ) -> Result<Answer, Refusal> {
        identity::checked_labels(&select)?;
        if select.is_empty() {
            return Err(Refusal::new(
                RefusalKind::Invalid,
                format!("environment {name} selects no agents"),
                "name at least one label: --select env=production",
            ));
        }
        if let Some(there) = self.environments.get(&name) {
            if there.select != select {
                return Err(Refusal::new(
                    RefusalKind::Exists,
                    format!("environment {name} exists already, with other labels"),
                    "`cutover env show` tells them; choose another name",
                ));
            }
        } else {
            if self.environments.len() >= COUNT_MAX {
                return Err(full("environments"));
            }
            let by = by.to_owned();
            let kind = EventKind::EnvironmentCreated { name: name.clone(), select, by };
            self.record(now, step, kind);
        }
        Ok(Answer::EnvironmentCreated { agents: self.members(&name).len() })
    }

    fn register_release(
        &mut self,
        now: Timestamp,
        by: &str,
        release: Arc<cutover_common::Release>,
        manifest: String,
        step: &mut Step,
    ) -> Result<Answer, Refusal> {
        if let Some(there) = self.releases.get(&release.name) {
            if there.release.digest == release.digest {
                return Ok(Answer::Done);
            }
            return Err(Refusal::new(
                RefusalKind::Exists,
                format!(
                    "{} exists already with another content: {} there, {} here",
                    release.name,
                    there.release.digest.short(),
                    release.digest.short()
                ),
                "a release never changes; push this content as another version",
            ));
        }
        if self.releases.len() >= COUNT_MAX {
            return Err(full("releases"));
        }
        let by = by.to_owned();
        self.record(now, step, EventKind::ReleaseRegistered { release, manifest, by });
        Ok(Answer::Done)
    }
}

fn full(what: &str) -> Refusal {
    Refusal::new(
        RefusalKind::State,
        format!("there are {COUNT_MAX} {what}, which is the most"),
        "remove some first",
    )
}

impl Coordinator {
    /// Refuses an application of which there is no release, with the nearest name.
    ///
    /// # Errors
    ///
    /// If there is none.
    pub fn known_application(
        &self,
        application: &cutover_common::ApplicationName,
    ) -> Result<(), Refusal> {
        if self.versions(application).next().is_some() {
            return Ok(());
        }
        let known = self.releases.keys().map(|name| name.application.as_str());
        Err(Refusal::unknown("application", application.as_str(), known, "cutover release list"))
    }
}

#[cfg(test)]
mod tests;
