//! Operators: they ask, wait, and ask again when no answer comes, as the command line does.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use cutover_common::{
    AgentName, FreezeWindow, Labels, SecretId, Sha256, Timestamp, VariableName, edge::EDGE_LABEL,
};
use cutover_coordinator_core::{
    Answer, ConfigOrder, DeployOrder, IfBusy, Input, LeaveOut, Refusal, Request, Sealed, Setting,
    Verb, WithConfig,
    input::ReplyId,
    rollout::{Options, PlanStep, State},
};
use uuid::Uuid;

use super::{Happening, World};
use crate::{
    moment::Moment,
    oracle::Seen,
    script::{Call, DESPITE_FREEZE, GROUP_LABEL, Mode, QUEUES, SUPERSEDES},
    story,
    trace::Who,
};

/// How long agents can join with a token: shorter than a run.
const TOKEN_LASTS: Duration = Duration::from_secs(30);

/// Names one call of an operator, with all its tries.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct CallId(pub u32);

/// One call.
#[derive(Clone, Debug)]
pub struct OperatorCall {
    pub request: Request,
    pub coordinator: u16,
    pub asked: Moment,
    pub tries: u32,
    pub answer: Option<(Moment, Result<Answer, Refusal>)>,
    /// The host that waits for a certificate, and the serial of the one it has.
    pub certificate_for: Option<(u16, u32)>,
}

impl OperatorCall {
    /// Returns whether an answer is still waited for.
    pub const fn is_open(&self) -> bool {
        self.answer.is_none() && self.tries < TRIES_MAX
    }
}

/// All calls of a run.
#[derive(Debug, Default)]
pub struct Operators {
    pub calls: BTreeMap<CallId, OperatorCall>,
    next: u32,
    /// How often they sent on what waited for them.
    patience: u32,
}

/// How long an answer is waited for, before the call is made again.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// How often a call is made: long enough for a coordinator's restart.
const TRIES_MAX: u32 = 12;

/// How often operators send on what waits for them, once everything is well and at rest.
const PATIENCE: u32 = 4;

/// From an operator's terminal to the coordinator.
const WAY: Duration = Duration::from_millis(2);

impl World {
    /// An operator does something.
    pub(super) fn call(&mut self, call: &Call) {
        let now = self.now;
        match call {
            Call::Deploy { application, release, options } => {
                let (request_id, rollout) = (self.luck.uuid(), self.luck.uuid());
                let Some(order) = self.order(*application, *release, options) else { return };
                self.ask(Request::Deploy { request_id, rollout, order }, None);
            }
            Call::Pause { application } => self.control(*application, Verb::Pause),
            Call::Resume { application } => self.control(*application, Verb::Resume),
            Call::Abort { application } => self.control(*application, Verb::Abort),
            Call::Retry { application } => self.control(*application, Verb::Retry),
            Call::Rollback { application } => self.control(*application, Verb::Rollback),
            Call::Promote { application, full } => {
                self.control(*application, Verb::Promote { full: *full });
            }
            Call::Restart { application, options } => self.restart(*application, options),
            Call::Exclude { host, application, is_skip } => {
                self.leave_out(*host, *application, *is_skip);
            }
            Call::Freeze { application } => self.freeze(*application, true),
            Call::Thaw { application } => self.freeze(*application, false),
            Call::Configure { application, level, is_secret } => {
                self.configure(*application, *level, *is_secret);
            }
            Call::AbortQueued { application } => self.abort_queued(*application),
            Call::Drain { host, is_forced } => {
                let agent = self.host(*host).name.clone();
                let (reason, is_forced) = (String::new(), *is_forced);
                self.ask(Request::DrainAgent { agent, reason, is_forced }, None);
            }
            Call::Undrain { host } => {
                let agent = self.host(*host).name.clone();
                self.ask(Request::UndrainAgent { agent, reason: String::new() }, None);
            }
            Call::Unlabel { host, application } => {
                self.unlabel(*host, self.label_of(*application));
            }
            Call::Label { host, application } => {
                let label = self.label_of(*application);
                self.label(*host, label.map(|label| (label, "yes".to_owned())));
            }
            Call::Edge { host, application } => {
                let environment = self.label_of(*application);
                self.label(*host, environment.map(|it| (EDGE_LABEL.to_owned(), it)));
            }
            Call::Unedge { host } => self.unlabel(*host, Some(EDGE_LABEL.to_owned())),
            Call::Group { host, group } => {
                let label = (GROUP_LABEL.to_owned(), group.word().to_owned());
                self.label(*host, Some(label));
            }
            Call::Remove { host } => {
                let agent = self.host(*host).name.clone();
                self.ask(Request::RemoveAgent { agent }, None);
            }
            Call::Join { host, token_age_ms } => {
                let token_hash = Sha256::of(self.luck.uuid().as_bytes());
                let expires = self.site(0).wall.at(now) + TOKEN_LASTS;
                self.ask(self.join_token(*host, token_hash, expires), None);
                let at = now + Duration::from_millis(*token_age_ms + 100);
                self.queue.push(at, Happening::Joins { host: *host, token_hash });
            }
            Call::ShowUsedToken { host } => {
                let Some(token_hash) = self.used_token(*host) else { return };
                let enrolment = self.luck.uuid();
                let request = self.join(*host, token_hash, enrolment);
                self.ask(request, None);
            }
        }
    }

    fn label(&mut self, host: u16, label: Option<(String, String)>) {
        let Some(label) = label else { return };
        let (agent, set) = (self.host(host).name.clone(), Labels::from([label]));
        self.ask(Request::LabelAgent { agent, set, unset: Vec::new() }, None);
    }

    fn unlabel(&mut self, host: u16, label: Option<String>) {
        let Some(label) = label else { return };
        let (agent, unset) = (self.host(host).name.clone(), vec![label]);
        self.ask(Request::LabelAgent { agent, set: Labels::new(), unset }, None);
    }

    /// Returns the token with which a host has joined.
    fn used_token(&self, host: u16) -> Option<Sha256> {
        self.operators.calls.values().rev().find_map(|call| match (&call.request, &call.answer) {
            (Request::Join { token_hash, .. }, Some((_, Ok(_))))
                if call.certificate_for.is_some_and(|(of, _)| of == host) =>
            {
                Some(*token_hash)
            }
            _ => None,
        })
    }

    pub(super) fn join_token(&self, host: u16, token_hash: Sha256, expires: Timestamp) -> Request {
        Request::CreateJoinToken {
            token_hash,
            name: Some(self.host(host).name.clone()),
            labels: self.labels_of(host),
            expires,
        }
    }

    /// A host shows a token.
    pub(super) fn joins(&mut self, host: u16, token_hash: Sha256) {
        let enrolment = self.luck.uuid();
        let serial = self.host(host).certificate.serial;
        let request = self.join(host, token_hash, enrolment);
        self.ask(request, Some((host, serial)));
    }

    pub(super) fn join(&self, host: u16, token_hash: Sha256, enrolment: Uuid) -> Request {
        Request::Join {
            token_hash,
            name: self.host(host).name.clone(),
            labels: Labels::new(),
            enrolment,
            key_hash: Sha256::of(enrolment.as_bytes()),
        }
    }

    fn order(
        &self,
        application: u16,
        release: u16,
        options: &[(String, String)],
    ) -> Option<DeployOrder> {
        let spec = self.script.applications.get(usize::from(application))?;
        let release = spec.releases.get(usize::from(release))?;
        let says = |word: &str| options.iter().any(|(name, _)| name == word);
        Some(DeployOrder {
            application: spec.name.parse().ok()?,
            version: release.version.parse().ok()?,
            environment: spec.name.parse().ok()?,
            with: WithConfig::Newest,
            options: options_of(options),
            if_busy: if says(SUPERSEDES) {
                IfBusy::Supersede
            } else if says(QUEUES) {
                IfBusy::Queue
            } else {
                IfBusy::Refuse
            },
            despite_freeze: if says(DESPITE_FREEZE) {
                "it burns".to_owned()
            } else {
                String::new()
            },
        })
    }

    fn leave_out(&mut self, host: u16, application: u16, is_skip: bool) {
        let Some(spec) = self.script.applications.get(usize::from(application)) else { return };
        let (rollout, agents) = (spec.name.clone(), vec![self.host(host).name.clone()]);
        let call = self.luck.uuid();
        let how = if is_skip { LeaveOut::Skip } else { LeaveOut::Exclude };
        let reason = String::new();
        self.ask(Request::Exclude { rollout, agents, how, reason, call }, None);
    }

    /// Sets a variable in the environment of an application, or unsets it.
    fn configure(&mut self, application: u16, level: Option<u32>, is_secret: bool) {
        let Some(spec) = self.script.applications.get(usize::from(application)) else { return };
        let Ok(environment) = spec.name.parse() else { return };
        let Ok(name) = "LEVEL".parse::<VariableName>() else { return };
        let set = level.map(|level| {
            let setting = if is_secret {
                // Who sets a secret names it anew; its value is nothing that a core looks into.
                let sealed = Sealed(level.to_be_bytes().into());
                Setting::Secret { id: SecretId(self.luck.uuid()), sealed }
            } else {
                Setting::Plain(level.to_string())
            };
            (name.clone(), setting)
        });
        let order = ConfigOrder {
            environment,
            application: None,
            unset: if set.is_none() { [name].into() } else { BTreeSet::new() },
            set: set.into_iter().collect(),
        };
        self.ask(Request::ConfigureEnvironment(order), None);
    }

    /// Freezes the environment of an application, or thaws it.
    fn freeze(&mut self, application: u16, is_on: bool) {
        let Some(spec) = self.script.applications.get(usize::from(application)) else { return };
        let Ok(environment) = spec.name.parse() else { return };
        let window = FreezeWindow::Once { from: Timestamp::default(), until: None };
        let request = if is_on {
            Request::FreezeEnvironment { environment, window, reason: String::new() }
        } else {
            Request::ThawEnvironment { environment }
        };
        self.ask(request, None);
    }

    /// Takes out of its queue what was asked for last.
    fn abort_queued(&mut self, application: u16) {
        let Some(spec) = self.script.applications.get(usize::from(application)) else { return };
        let core = self.site(0).process.as_ref().map(|process| &process.core);
        let last = core.and_then(|core| {
            let mut all = core.queue().waiting();
            all.rfind(|queued| queued.order.application.as_str() == spec.name)
        });
        let Some(last) = last.map(|queued| queued.id.to_string()) else { return };
        self.control_by_name(last, Verb::Abort);
    }

    fn control(&mut self, application: u16, verb: Verb) {
        let Some(spec) = self.script.applications.get(usize::from(application)) else { return };
        self.control_by_name(spec.name.clone(), verb);
    }

    fn control_by_name(&mut self, rollout: String, verb: Verb) {
        let new_rollout = self.luck.uuid();
        let (reason, if_busy) = (String::new(), IfBusy::Refuse);
        self.ask(Request::Control { rollout, verb, reason, new_rollout, if_busy }, None);
    }

    fn restart(&mut self, application: u16, options: &[(String, String)]) {
        let (request_id, rollout) = (self.luck.uuid(), self.luck.uuid());
        let Some(spec) = self.script.applications.get(usize::from(application)) else { return };
        // As `cutover status` shows it.
        let core = self.site(0).process.as_ref().map(|process| &process.core);
        let runs = core.and_then(|core| {
            let mut environments = core.environments();
            let (_, _, mut stable) = environments.find(|it| it.0.as_str() == spec.name)?;
            stable.find(|it| it.0.as_str() == spec.name).map(|it| it.1.clone())
        });
        let Some(runs) = runs else { return };
        let number = spec.releases.iter().position(|it| it.version == runs.as_pushed());
        let Some(release) = number.and_then(|it| u16::try_from(it).ok()) else { return };
        let restart = [("strategy".to_owned(), "restart".to_owned())];
        let options = [&restart, options].concat();
        let Some(order) = self.order(application, release, &options) else { return };
        self.ask(Request::Deploy { request_id, rollout, order }, None);
    }

    fn label_of(&self, application: u16) -> Option<String> {
        self.script.applications.get(usize::from(application)).map(|it| it.name.clone())
    }

    /// Everything that is to be well has come to rest: operators send on what waits for them. False:
    /// nothing does, or they have seen enough.
    pub(super) fn be_patient(&mut self) -> bool {
        let Mode::Liveness { heals_ms, .. } = self.script.mode else { return false };
        // What they send on may take all of the time that is left.
        let patient_until = heals_ms + self.script.ends_ms.saturating_sub(heals_ms) / 4;
        let Some(process) = &self.site(0).process else { return false };
        // Each that was queued may be held in its turn.
        let queued = u32::try_from(process.core.queue().all().count()).unwrap_or(u32::MAX);
        if self.operators.patience >= PATIENCE * (1 + queued) || self.now.ms() > patient_until {
            return false;
        }
        let waiting: Vec<(String, Verb)> = process
            .core
            .active()
            .filter_map(|rollout| {
                let verb = match rollout.state {
                    State::Paused { .. } => Verb::Resume,
                    State::Held { .. } => Verb::Retry,
                    State::Advancing { .. }
                        if matches!(rollout.step(), Some((_, PlanStep::Approve))) =>
                    {
                        Verb::Promote { full: false }
                    }
                    State::Advancing { .. }
                    | State::Baking { .. }
                    | State::RollingBack { .. }
                    | State::Ended { .. } => return None,
                };
                Some((rollout.application.as_str().to_owned(), verb))
            })
            .collect();
        self.operators.patience += 1;
        for (rollout, verb) in &waiting {
            let new_rollout = self.luck.uuid();
            let (rollout, verb, reason) = (rollout.clone(), *verb, "all is well".to_owned());
            let if_busy = IfBusy::Refuse;
            self.ask(Request::Control { rollout, verb, reason, new_rollout, if_busy }, None);
        }
        !waiting.is_empty()
    }

    /// Makes a call, to the coordinator that operators know.
    pub(super) fn ask(&mut self, request: Request, certificate_for: Option<(u16, u32)>) -> CallId {
        self.operators.next += 1;
        let id = CallId(self.operators.next);
        let coordinator = 0;
        self.trace.tell(self.now, Who::Operator, || format!("asks: {}", story::request(&request)));
        let call = OperatorCall {
            request,
            coordinator,
            asked: self.now,
            tries: 0,
            answer: None,
            certificate_for,
        };
        self.operators.calls.insert(id, call);
        self.try_call(id);
        id
    }

    /// Makes a call once more, unless it was answered.
    pub(super) fn try_call(&mut self, id: CallId) {
        let Some(call) = self.operators.calls.get_mut(&id) else { return };
        if call.answer.is_some() || call.tries >= TRIES_MAX {
            return;
        }
        call.tries += 1;
        self.queue.push(self.now + WAY, Happening::CallArrives { id });
        self.queue.push(self.now + ANSWER_WITHIN, Happening::CallIsLate { id });
    }

    /// A call is at the coordinator.
    pub(super) fn call_arrives(&mut self, id: CallId) {
        let Some(call) = self.operators.calls.get(&id) else { return };
        let (number, request) = (call.coordinator, call.request.clone());
        let Some(process) = &mut self.site_mut(number).process else { return };
        let reply = process.reply();
        process.replies.insert(reply, id);
        let by = "olive".to_owned();
        self.see(&Seen::Asked { id });
        self.tell_site(number, Input::Asked { reply, by, request });
    }

    /// A coordinator answers.
    pub(super) fn answer(&mut self, number: u16, reply: ReplyId, answer: Result<Answer, Refusal>) {
        let Some(process) = &mut self.site_mut(number).process else { return };
        let Some(id) = process.replies.remove(&reply) else { return };
        self.queue.push(self.now + WAY, Happening::AnswerArrives { id, answer: Box::new(answer) });
    }

    /// An answer is at the operator.
    pub(super) fn answer_arrives(&mut self, id: CallId, answer: Result<Answer, Refusal>) {
        let now = self.now;
        let Some(call) = self.operators.calls.get_mut(&id) else { return };
        if call.answer.is_some() {
            return;
        }
        call.answer = Some((now, answer));
        let call = call.clone();
        self.trace.tell(now, Who::Operator, || match &call.answer {
            Some((_, Ok(answer))) => format!("hears: {}", story::answer(answer)),
            Some((_, Err(refusal))) => format!("is refused: {refusal}"),
            None => String::new(),
        });
        self.see(&Seen::Answered { id, call: &call });
    }

    /// A coordinator has signed a certificate.
    pub(super) fn signed(
        &mut self,
        number: u16,
        reply: ReplyId,
        agent: &AgentName,
        enrolment: Uuid,
    ) {
        let Some(process) = &mut self.site_mut(number).process else { return };
        let Some(id) = process.replies.remove(&reply) else { return };
        let way = self.now + WAY;
        self.trace.tell(self.now, Who::Coordinator(number), || {
            format!("signs a certificate for {agent}")
        });
        let answer = Box::new(Ok(Answer::Done));
        self.queue.push(way, Happening::AnswerArrives { id, answer });
        let Some((host, serial)) = self.operators.calls.get(&id).and_then(|it| it.certificate_for)
        else {
            return;
        };
        self.queue.push(way, Happening::CertificateArrives { host, after: serial, enrolment });
    }
}

/// Returns options of pairs of a name and a value.
pub(crate) fn options_of(pairs: &[(String, String)]) -> Options {
    // A script of a later version may say more; the plan that the run prints shows what was used.
    let known = |(name, value): &(String, String)| Some((name.parse().ok()?, value.clone()));
    pairs.iter().filter_map(known).collect()
}
