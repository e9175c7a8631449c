//! Performs actions: one arm each, no policy. Results come back as inputs.

mod checks;
mod hooks;
mod instances;
mod releases;
mod vitals;

use std::{net::IpAddr, path::PathBuf, sync::Arc};

use cutover_agent_core::{Action, Input, Place, Retained};
use cutover_common::{
    AgentName, HostLoad, InstanceId, Inventory,
    protocol::PROTOCOL,
    wire::{Heartbeat, Hello},
};
use cutover_gate::State;
use cutover_proto::v1::agent_message::Kind;
use tokio::sync::{Mutex, mpsc, watch};
use tonic::transport::Channel;
use tracing::Instrument as _;

use crate::{
    artifact::ReleaseDirs, engine::Perform, gate, host::LoadSampler, process::ProcessRuntime,
    secrets::Secrets, session::Outlet,
};

/// What performing needs of this host.
pub struct Host {
    pub agent: AgentName,
    pub data: PathBuf,
    /// The address that applications listen on.
    pub address: IpAddr,
    pub inventory: Inventory,
    pub boot_id: String,
    pub runtime: ProcessRuntime,
    pub releases: ReleaseDirs,
    pub secrets: Secrets,
    /// The connection to the coordinator, while there is one.
    pub channel: watch::Receiver<Option<Channel>>,
}

/// Performs the actions of one agent.
pub struct Performer {
    works: Arc<Works>,
    outlet: Outlet,
    gate: gate::Orders,
    /// What the gate said last.
    gate_states: watch::Receiver<Option<State>>,
    load: LoadSampler,
    last_load: HostLoad,
    vitals: vitals::Vitals,
}

/// What the tasks share that carry out one action each.
struct Works {
    host: Host,
    inbox: mpsc::Sender<Input>,
    retained: watch::Sender<Retained>,
    hooks: hooks::RunningHooks,
    /// Held while releases are removed. Who is about to rely on one passes through it once, so
    /// that a removal begun before it was wanted has ended.
    removing: Mutex<()>,
}

impl Performer {
    /// Makes a performer that answers into `inbox` and speaks through `outlet`.
    pub fn new(
        host: Host,
        load: LoadSampler,
        inbox: mpsc::Sender<Input>,
        outlet: Outlet,
        (gate, gate_states): (gate::Orders, watch::Receiver<Option<State>>),
    ) -> Self {
        let (retained, changes) = watch::channel(Retained::default());
        let hooks = hooks::RunningHooks::default();
        let vitals = vitals::Vitals::new(host.runtime.clone());
        let works = Works { host, inbox, retained, hooks, removing: Mutex::new(()) };
        let works = Arc::new(works);
        tokio::spawn(releases::keep_house(works.clone(), changes));
        let last_load = HostLoad::default();
        Self { works, outlet, gate, gate_states, load, last_load, vitals }
    }

    /// Runs work that ends with an answer to the core.
    fn answer<F>(&self, span: tracing::Span, work: impl FnOnce(Arc<Works>) -> F)
    where
        F: Future<Output = Input> + Send + 'static,
    {
        let work = work(self.works.clone());
        self.answer_if_any(span, |_| async move { Some(work.await) });
    }

    /// Runs work that ends with an answer to the core, unless somebody else answers.
    fn answer_if_any<F>(&self, span: tracing::Span, work: impl FnOnce(Arc<Works>) -> F)
    where
        F: Future<Output = Option<Input>> + Send + 'static,
    {
        let work = work(self.works.clone());
        let inbox = self.works.inbox.clone();
        let answered = async move {
            if let Some(input) = work.await {
                // Not received: the engine ended, and this process with it.
                drop(inbox.send(input).await);
            }
        };
        tokio::spawn(answered.instrument(span));
    }

    fn hello(&self, held: Vec<(cutover_common::ApplicationName, cutover_common::Fence)>) -> Hello {
        let host = &self.works.host;
        Hello {
            protocol: PROTOCOL,
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            inventory: host.inventory.clone(),
            held,
            boot_id: host.boot_id.clone(),
        }
    }

    fn sample_load(&mut self) -> HostLoad {
        match self.load.sample() {
            Ok(load) => self.last_load = load,
            // An earlier one is nearer to the truth than none.
            Err(error) => tracing::warn!(%error, "could not measure the host's load"),
        }
        self.last_load
    }

    fn span(&self, place: &Place, instance: Option<InstanceId>) -> tracing::Span {
        let span = tracing::info_span!(
            "work",
            agent = %self.works.host.agent,
            application = %place.application,
            slot = %place.slot,
            generation = place.fence.generation.0,
            rollout = %place.rollout,
            instance = tracing::field::Empty,
        );
        if let Some(instance) = instance {
            span.record("instance", tracing::field::display(instance.0));
        }
        span
    }
}

impl Perform for Performer {
    fn perform(&mut self, action: Action) {
        match action {
            Action::SendHello { session, held } => {
                self.outlet.send(session, Kind::Hello(self.hello(held).into()));
            }
            Action::SendHeartbeat { session, nonce, reports, mut edge, checks } => {
                let counts = gate::counts(&self.gate_states.borrow());
                if let Some(edge) = &mut edge {
                    gate::count_hosts(&self.gate_states.borrow(), edge);
                }
                let (load, vitals) = (self.sample_load(), self.vitals.take(&reports));
                let beat = Heartbeat { nonce, load, counts, vitals, reports, edge, checks };
                self.outlet.send(session, Kind::Heartbeat(beat.into()));
            }
            Action::SendReport { session, report } => {
                self.outlet.send(session, Kind::Report((*report).into()));
            }
            Action::EndSession { session, refusal } => self.outlet.refuse(session, refusal),
            Action::NoteRefusal { application, offered, refusal } => {
                tracing::warn!(
                    agent = %self.works.host.agent, %application, generation = offered.generation.0,
                    "assignment {offered} refused: {refusal}"
                );
            }
            Action::Prepare { place, release } => {
                self.answer(self.span(&place, None), |works| releases::prepare(works, release));
            }
            Action::Start { place, instance, release, port } => {
                let span = self.span(&place, Some(instance));
                self.answer(span, |works| instances::start(works, place, instance, release, port));
            }
            Action::Adopt { place, instance, .. } => {
                let span = self.span(&place, Some(instance));
                self.answer(span, |works| instances::adopt(works, place, instance));
            }
            Action::RunHook { place, hook, instance, release, port } => {
                let hook = (hook, self.works.hooks.begin(hook));
                self.answer(self.span(&place, instance), |works| {
                    hooks::run(works, place, hook, instance, release, port)
                });
            }
            Action::EndHook { place, hook } => {
                self.answer_if_any(self.span(&place, None), |works| hooks::end(works, hook));
            }
            Action::Stop { place, instance, release } => {
                let span = self.span(&place, Some(instance));
                self.answer(span, |works| instances::stop(works, place, instance, release));
            }
            Action::Probe { place, instance, release, port, probe } => {
                let span = self.span(&place, Some(instance));
                self.answer(span, |works| {
                    instances::probe(works, place, instance, release, port, probe)
                });
            }
            Action::RunCheck { place, canary, instance, release, port, check } => {
                let span = self.span(&place, Some(instance));
                self.answer(span, |works| {
                    checks::run(works, place, (canary, check), instance, release, port)
                });
            }
            Action::TellGate { revision, program } => self.gate.tell(revision, *program),
            Action::Retain(retained) => drop(self.works.retained.send_replace(retained)),
        }
    }
}
