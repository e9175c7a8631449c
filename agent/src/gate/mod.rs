//! The agent's side of the gate: tells it programs, passes on what it says, and starts it where
//! nobody else does.
//!
//! The gate is a process of its own, so that nothing that happens to the agent touches traffic.

mod child;
mod translate;

use std::{net::IpAddr, path::PathBuf, time::Duration};

use cutover_agent_core::{GateProgram, GateState, Input};
use cutover_common::ErrorChain;
use cutover_gate::{State, control::Client, daemon::SOCKET_FILE};
use tokio::{
    sync::{mpsc, watch},
    time::sleep,
};

use self::child::GateProgramFile;
pub use self::{
    child::StartGate,
    translate::{count_hosts, counts},
};

/// The gate's folder in the agent's data directory.
pub const GATE_DIR: &str = "gate";

/// How often the gate is looked at. One that has lost its memory is told anew right after, and is
/// to be right again within a second.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// The same while something there is to end: each look may be what a swap waits for.
const LOOK_SOON: Duration = Duration::from_millis(20);

/// How many programs may wait. The core asks for one at a time.
const ORDERS_MAX: usize = 4;

/// Who starts the gate.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Keeper {
    /// The agent does, and the gate outlives it.
    Agent,
    /// The init system does.
    Init,
}

/// What the link is made of.
#[derive(Clone, Debug)]
pub struct GateSettings {
    pub keeper: Keeper,
    /// The agent's data directory.
    pub data: PathBuf,
    /// The address that services listen on.
    pub address: IpAddr,
}

/// Where programs for the gate go.
#[derive(Clone, Debug)]
pub struct Orders(mpsc::Sender<Order>);

#[derive(Debug)]
struct Order {
    revision: u64,
    program: GateProgram,
}

impl Orders {
    /// Has the gate follow a program. The answer comes as an input.
    pub fn tell(&self, revision: u64, program: GateProgram) {
        // Full only if the core asks for more than one at a time, which it does not.
        if let Err(error) = self.0.try_send(Order { revision, program }) {
            tracing::error!(%error, "a program for the gate is dropped");
        }
    }
}

/// Begins to keep the link. `states` is what the gate said last, with its counters.
pub fn keep(
    settings: GateSettings,
    inbox: mpsc::Sender<Input>,
    states: watch::Sender<Option<State>>,
) -> Orders {
    let (orders, received) = mpsc::channel(ORDERS_MAX);
    let link = Link { settings, inbox, states, client: None, program: None, told: None };
    tokio::spawn(link.run(received));
    Orders(orders)
}

struct Link {
    settings: GateSettings,
    inbox: mpsc::Sender<Input>,
    states: watch::Sender<Option<State>>,
    client: Option<Client>,
    /// The last program that the gate took.
    program: Option<GateProgram>,
    /// What the core was told of last. None: nothing, or that the gate is lost.
    told: Option<GateState>,
}

impl Link {
    async fn run(mut self, mut orders: mpsc::Receiver<Order>) {
        loop {
            let look = self.look_after();
            let input = tokio::select! {
                order = orders.recv() => match order {
                    Some(order) => Some(self.follow(order).await),
                    None => return,
                },
                () = sleep(look) => self.look().await,
            };
            if let Some(input) = input
                && self.inbox.send(input).await.is_err()
            {
                return;
            }
        }
    }

    /// How long until the next look. A gate that the core counts on not being there is left alone.
    fn look_after(&self) -> Duration {
        match (&self.told, &self.program) {
            (None, _) => Duration::MAX,
            (Some(state), Some(program)) if translate::is_leaving(program, state) => LOOK_SOON,
            (Some(_), _) => LOOK_EVERY,
        }
    }

    async fn follow(&mut self, Order { revision, program }: Order) -> Input {
        let result = self.apply(revision, &program).await;
        self.told = result.as_ref().ok().cloned();
        self.program = Some(program);
        Input::GateAnswered { revision, result }
    }

    async fn apply(&mut self, revision: u64, program: &GateProgram) -> Result<GateState, String> {
        let program = translate::program(revision, program, self.settings.address);
        let client = self.client().await?;
        let said = match client.apply(&program).await {
            // Another process of the gate would go on by the program before it.
            Ok(applied) if !applied.is_kept && translate::holds(&program) => {
                return Err("the gate holds requests, and could not write that down; see its log \
                            and the room on its disk"
                    .to_owned());
            }
            Ok(_) => client.state().await,
            Err(error) => Err(error),
        };
        match said {
            Ok(state) => Ok(self.note(state)),
            Err(error) => {
                self.client = None;
                Err(ErrorChain(&error).to_string())
            }
        }
    }

    /// Returns what there is to tell of the gate, if it is another thing than before.
    async fn look(&mut self) -> Option<Input> {
        let said = match &mut self.client {
            Some(client) => client.state().await.map_err(|error| ErrorChain(&error).to_string()),
            None => Err("the gate is gone".to_owned()),
        };
        match said {
            Ok(state) => {
                let state = self.note(state);
                if self.told.as_ref() == Some(&state) {
                    return None;
                }
                self.told = Some(state.clone());
                Some(Input::GateSaid { state })
            }
            Err(detail) => {
                tracing::warn!("the gate cannot be reached: {detail}");
                (self.client, self.told) = (None, None);
                Some(Input::GateLost { detail })
            }
        }
    }

    fn note(&self, state: State) -> GateState {
        let said = translate::state(&state);
        self.states.send_replace(Some(state));
        said
    }

    /// Returns the connection to the gate, which is started where that is the agent's affair.
    async fn client(&mut self) -> Result<&mut Client, String> {
        let client = match self.client.take() {
            Some(client) => client,
            None => self.connect().await?,
        };
        Ok(self.client.insert(client))
    }

    async fn connect(&self) -> Result<Client, String> {
        let GateSettings { keeper, data, .. } = &self.settings;
        let gate = data.join(GATE_DIR);
        let socket = gate.join(SOCKET_FILE);
        match (Client::connect(&socket).await, keeper) {
            (Ok(client), _) => Ok(client),
            (Err(error), Keeper::Init) => Err(ErrorChain(&error).to_string()),
            (Err(_), Keeper::Agent) => {
                let started = GateProgramFile::find().and_then(|program| program.start(&gate));
                let started = started.map_err(|error| ErrorChain(&error).to_string())?;
                started.connect(&socket).await.map_err(|error| ErrorChain(&error).to_string())
            }
        }
    }
}
