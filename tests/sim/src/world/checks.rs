//! What is asked of canaries: by the metrics server, and by commands on their hosts.

use std::time::Duration;

use cutover_agent_core::{Input as AgentInput, Place};
use cutover_common::{
    CommandCheck, Release,
    check::{Answer, CanaryId},
};
use cutover_coordinator_core::{
    Input,
    input::{MetricAnswer, QueryId},
};

use super::{Happening, World};
use crate::script::{Application, CheckBehaviour};

/// What the metrics server answers where all is well, and where it is not: the limit is 1.
const WELL: f64 = 0.5;
pub(crate) const NOT_WELL: f64 = 9.0;

/// The longest that an answer takes which comes.
const ANSWERS_WITHIN_MS: u64 = 300;

impl World {
    /// Asks the metrics server. A query is the application's name, the release and its canary.
    pub(super) fn query(&mut self, number: u16, query: QueryId, text: &str, within: Duration) {
        let behaviour = self.metric_of(text);
        let site = self.site_mut(number);
        let epoch = site.epoch;
        let quick = Duration::from_millis(site.luck.between(1, ANSWERS_WITHIN_MS));
        let (wait, found) = match behaviour {
            CheckBehaviour::Passes => (quick, MetricAnswer::Number(WELL)),
            CheckBehaviour::Fails => (quick, MetricAnswer::Number(NOT_WELL)),
            CheckBehaviour::Blips => {
                let asked = site.process.as_mut().map_or(0, |process| {
                    process.blips += 1;
                    process.blips
                });
                (quick, MetricAnswer::Number(if asked == 1 { NOT_WELL } else { WELL }))
            }
            CheckBehaviour::Errs => (
                quick,
                match site.luck.below(3) {
                    0 => MetricAnswer::Nothing,
                    1 => MetricAnswer::Number(f64::NAN),
                    _ => MetricAnswer::Failed("it answered 503".to_owned()),
                },
            ),
            CheckBehaviour::Hangs => (within, MetricAnswer::Failed("no answer".to_owned())),
        };
        let found = Box::new(found);
        self.queue.push(self.now + wait, Happening::Measured { number, epoch, query, found });
    }

    /// The metrics server has answered.
    pub(super) fn measured(
        &mut self,
        number: u16,
        epoch: u32,
        query: QueryId,
        found: MetricAnswer,
    ) {
        if self.site(number).epoch == epoch {
            self.tell_site(number, Input::Queried { query, found });
        }
    }

    fn metric_of(&self, text: &str) -> CheckBehaviour {
        let mut words = text.split(' ');
        let (name, version) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
        let named = |application: &&Application| application.name == name;
        let application = self.script.applications.iter().find(named);
        let release = application
            .and_then(|it| it.releases.iter().find(|release| release.version == version));
        release.map_or(CheckBehaviour::Errs, |release| release.checks.metric)
    }

    /// Runs a command on a canary's host.
    pub(super) fn run_check(
        &mut self,
        number: u16,
        place: &Place,
        (canary, check): (CanaryId, CommandCheck),
        release: &Release,
    ) {
        let behaviour = self
            .spec_of(&release.name.application, &release.name.version)
            .map_or(CheckBehaviour::Errs, |spec| spec.checks.command);
        let quick = Duration::from_millis(20);
        let host = self.host_mut(number);
        let (wait, answer) = match behaviour {
            CheckBehaviour::Passes => (quick, Answer::Pass),
            CheckBehaviour::Fails => (quick, Answer::Fail),
            CheckBehaviour::Blips => {
                let asked = host.agent.as_mut().map_or(0, |agent| {
                    agent.blips += 1;
                    agent.blips
                });
                (quick, if asked == 1 { Answer::Fail } else { Answer::Pass })
            }
            CheckBehaviour::Errs => (quick, Answer::NotEnough),
            CheckBehaviour::Hangs => (check.within, Answer::NotEnough),
        };
        let application = place.application.clone();
        let detail = "it exited".to_owned();
        let input = AgentInput::Checked { application, canary, check, answer, detail };
        self.after(number, wait, input);
    }
}
