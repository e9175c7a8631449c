//! Simulations: one at a time, each on a thread of its own, so that the loop goes on meanwhile.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use cutover_coordinator_core::{
    ROLLOUT_HOSTS_MAX, Refusal,
    simulate::{Faults, SimulateOrder, Simulated, Simulation},
};
use cutover_proto::v1 as pb;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    time::sleep,
};
use tonic::{Code, Status};

use super::{
    operator::deploy_order,
    show,
    status::{invalid, refused, with_hint},
};
use crate::engine::EngineHandle;

/// For how long one goes on: a thousand hosts one by one took 11 s on a busy machine of two cores
/// (2026-11-28), five thousand in four batches 13 s. It ends with the moment that is under way then,
/// and says how far it came.
const GOES_ON_FOR: Duration = Duration::from_secs(30);

/// How long the start of an instance can be assumed to take: nobody waits for longer.
const STARTS_IN_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Lets one simulation run at a time: each takes a processor, and the fleet is served first.
#[derive(Clone, Debug)]
pub struct Simulator {
    turn: Arc<Semaphore>,
}

impl Default for Simulator {
    fn default() -> Self {
        Self { turn: Arc::new(Semaphore::new(1)) }
    }
}

impl Simulator {
    pub(super) async fn simulate(
        &self,
        engine: &EngineHandle,
        by: String,
        request: pb::SimulateRequest,
    ) -> Result<pb::SimulateResponse, Status> {
        let asked = simulate_order(request)?;
        let turn = self.turn.clone().try_acquire_owned().map_err(|_| {
            with_hint(
                Code::ResourceExhausted,
                "another simulation is under way",
                "type the same again in a moment",
            )
        })?;
        let simulation = engine
            .look(move |core, now| core.simulation(&by, asked, now))
            .await?
            .map_err(|refusal| refused(&refusal))?;
        let simulated = run(simulation, turn).await?.map_err(|refusal| refused(&refusal))?;
        Ok(show::simulated(simulated))
    }
}

/// Runs `simulation` for as long as somebody waits for it, and not for too long.
async fn run(
    simulation: Simulation,
    turn: OwnedSemaphorePermit,
) -> Result<Result<Simulated, Refusal>, Status> {
    let (answer, mut answered) = oneshot::channel();
    let is_late = Arc::new(AtomicBool::new(false));
    let ends = is_late.clone();
    // Not one of the runtime's: a panic there ends the process, and nothing of this is real.
    let thread = thread::Builder::new().name("simulation".to_owned()).spawn(move || {
        let _turn = turn;
        let is_wanted = || !answer.is_closed() && !ends.load(Ordering::Relaxed);
        let simulated = simulation.run(is_wanted);
        // Fails only when whoever asked has gone away.
        drop(answer.send(simulated));
    });
    if let Err(error) = thread {
        return Err(with_hint(
            Code::Unavailable,
            &format!("no thread can be started for a simulation: {error}"),
            "try again in a moment",
        ));
    }
    let done = tokio::select! {
        done = &mut answered => done,
        () = sleep(GOES_ON_FOR) => {
            is_late.store(true, Ordering::Relaxed);
            answered.await
        }
    };
    done.map_err(|_| Status::internal("the simulation broke off"))
}

fn simulate_order(request: pb::SimulateRequest) -> Result<SimulateOrder, Status> {
    let pb::SimulateRequest { deploy, fail, lose, promote, starts_in_ms } = request;
    let deploy = deploy.ok_or_else(|| invalid("field `deploy` is missing"))?;
    if fail.len().max(lose.len()) > ROLLOUT_HOSTS_MAX {
        return Err(invalid(format!("more than {ROLLOUT_HOSTS_MAX} faults are named")));
    }
    let starts_in = Duration::from_millis(starts_in_ms);
    if starts_in > STARTS_IN_MAX {
        return Err(invalid("field `starts_in_ms` is more than a day"));
    }
    let (_, order) = deploy_order(deploy)?;
    Ok(SimulateOrder { order, faults: Faults { fail, lose }, promotes: promote, starts_in })
}

#[cfg(test)]
mod tests {
    use cutover_coordinator_core::{Coordinator, Request};

    use super::*;
    use crate::engine::testing::House;

    fn request() -> pb::SimulateRequest {
        let deploy = pb::DeployRequest {
            application: "web".to_owned(),
            version: "1".to_owned(),
            environment: "prod".to_owned(),
            ..pb::DeployRequest::default()
        };
        pb::SimulateRequest { deploy: Some(deploy), ..pb::SimulateRequest::default() }
    }

    async fn ask(house: &House, simulator: &Simulator, request: pb::SimulateRequest) -> Status {
        simulator.simulate(&house.engine, "ann".to_owned(), request).await.unwrap_err()
    }

    #[tokio::test]
    async fn what_the_core_refuses_is_refused_and_the_turn_is_free_again() {
        let (house, simulator) = (House::new(), Simulator::default());

        for _ in 0..2 {
            let status = ask(&house, &simulator, request()).await;
            assert_eq!(status.code(), Code::NotFound);
            assert_eq!(status.message(), "there is no environment \"prod\"");
        }
    }

    #[tokio::test]
    async fn a_second_one_at_a_time_is_refused_with_what_to_do() {
        let (house, simulator) = (House::new(), Simulator::default());
        let _turn = simulator.turn.clone().try_acquire_owned().unwrap();

        let status = ask(&house, &simulator, request()).await;

        assert_eq!(status.code(), Code::ResourceExhausted);
        assert_eq!(status.message(), "another simulation is under way");
        let hint = status.metadata().get("cutover-hint").unwrap();
        assert_eq!(hint, "type the same again in a moment");
    }

    #[tokio::test]
    async fn a_message_without_sense_is_refused() {
        let (house, simulator) = (House::new(), Simulator::default());
        let many = vec![String::new(); ROLLOUT_HOSTS_MAX + 1];
        for (wrong, says) in [
            (pb::SimulateRequest::default(), "field `deploy` is missing"),
            (pb::SimulateRequest { fail: many.clone(), ..request() }, "more than 5000 faults"),
            (pb::SimulateRequest { lose: many, ..request() }, "more than 5000 faults"),
            (pb::SimulateRequest { starts_in_ms: u64::MAX, ..request() }, "more than a day"),
        ] {
            let status = ask(&house, &simulator, wrong).await;
            assert_eq!(status.code(), Code::InvalidArgument);
            assert!(status.message().contains(says), "{status:?}");
        }
    }

    #[tokio::test]
    async fn a_deploy_to_nobody_is_refused_on_the_way_and_nothing_is_stored() {
        let (house, simulator) = (House::new(), Simulator::default());
        let select = [("env".to_owned(), "prod".to_owned())].into();
        let name = "prod".parse().unwrap();
        let create = Request::CreateEnvironment { name, select };
        house.engine.ask("ann", create).await.unwrap().unwrap();
        let before = house.engine.look(|core, _| core.clone()).await.unwrap();

        let status = ask(&house, &simulator, request()).await;

        assert_eq!(status.message(), "there is no application \"web\"");
        let is_same = move |core: &Coordinator, _| core.remembers_the_same_as(&before);
        assert!(house.engine.look(is_same).await.unwrap());
    }
}
