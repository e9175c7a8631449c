//! The table of traffic decisions: where it is, what runs, what is wanted, and the permission.

use std::{sync::Arc, time::Duration};

use cutover_common::{
    Assignment, Fence, InstanceEvidence, InstanceId, Limits, Protocol, ReleaseRef, RunSpec,
    Service, Sha256, SlotGoal, StopSignal, Swap, Timers,
};
use uuid::Uuid;

use super::*;
use crate::{
    TrafficState,
    remembered::{Application, SlotState},
};

fn release(version: &str, swap: Swap) -> Arc<Release> {
    Arc::new(Release {
        name: ReleaseRef { application: "web".parse().unwrap(), version: version.parse().unwrap() },
        digest: Sha256::of(version.as_bytes()),
        size_bytes: 1,
        archive_digest: Sha256::of(version.as_bytes()),
        archive_size_bytes: 1,
        run: RunSpec {
            command: vec!["./server".to_owned()],
            env: std::collections::BTreeMap::new(),
            stop_signal: StopSignal::Term,
            stop_within: Duration::from_secs(30),
            shared: Vec::new(),
        },
        probe: None,
        hooks: Vec::new(),
        checks: Vec::new(),
        config: cutover_common::Config::default(),
        service: Some(Service {
            port: 80,
            protocol: Protocol::Http,
            swap,
            drain: Duration::from_secs(30),
            drain_long_lived: Duration::from_secs(600),
            keep_warm: Duration::ZERO,
            tls: None,
            sticky: None,
            proxy_protocol: false,
            trusted_peers: Vec::new(),
            limits: Limits::default(),
        }),
    })
}

fn instance(release: &Arc<Release>) -> Instance {
    let id = InstanceId(Uuid::nil());
    let evidence =
        InstanceEvidence { instance: id, boot_id: "b".to_owned(), pid: 1, start_ticks: 1 };
    let life = Life::Running { evidence };
    Instance { id, release: release.clone(), life, port: Some(20_000), restarts: 0 }
}

/// Release 1 runs in blue and has the traffic; release 2 is wanted in green, and is there or not.
fn decide_for(swap: Swap, green: Option<Health>, is_prepared: bool, lease: bool) -> String {
    let (one, two) = (release("1", swap), release("2", swap));
    let mut application = Application::new(Assignment {
        application: "web".parse().unwrap(),
        fence: Fence::default(),
        slots: Slots {
            blue: SlotGoal::Prepared(one.clone()),
            green: SlotGoal::Running(two.clone()),
        },
        timers: Timers { healthy_for: Duration::ZERO, healthy_within: Duration::ZERO },
        rollout: String::new(),
        peers: Vec::new(),
        route: None,
        once: Vec::new(),
    });
    application.slots.blue = SlotState {
        prepared: Some(one.clone()),
        instance: Some(instance(&one)),
        hooks: Vec::new(),
    };
    application.slots.green = SlotState {
        prepared: is_prepared.then(|| two.clone()),
        instance: green.map(|_| instance(&two)),
        hooks: Vec::new(),
    };
    application.traffic = TrafficState { to: Some(Slot::Blue), ..TrafficState::default() };
    let decision = decide(TrafficView {
        application: &application,
        health: Slots { blue: Health::Settled, green: green.unwrap_or_default() },
        serves_well: Slots { blue: true, green: green.is_some_and(Health::is_passing) },
        hold_is_over: false,
        permission: if lease { Permission::Fresh } else { Permission::NoLease },
    });
    match decision {
        TrafficDecision::Shift(Some(slot), aside) if aside.is_nothing() => slot.to_string(),
        TrafficDecision::Shift(None, aside) if aside.is_nothing() => "out".to_owned(),
        TrafficDecision::Wait(_) => "lease".to_owned(),
        TrafficDecision::Rest => "-".to_owned(),
        TrafficDecision::Shift(..)
        | TrafficDecision::Hold(_)
        | TrafficDecision::Arm(_)
        | TrafficDecision::Release => panic!("no route asks for it"),
    }
}

#[test]
fn beside_the_traffic_moves_when_the_new_one_has_settled_and_in_place_before_it_is_started() {
    use Swap::{Beside, InPlace};
    let table: &[(Swap, Option<Health>, bool, &str, &str)] = &[
        (Beside, None, false, "-", "-"),
        (Beside, None, true, "-", "-"),
        (Beside, Some(Health::Unknown), true, "-", "-"),
        (Beside, Some(Health::Passing), true, "-", "-"),
        (Beside, Some(Health::Failing), true, "-", "-"),
        (Beside, Some(Health::Settled), true, "green", "lease"),
        (InPlace, None, false, "-", "-"),
        (InPlace, None, true, "out", "lease"),
    ];
    for (swap, green, is_prepared, with_lease, without) in table {
        let decided = |lease| decide_for(*swap, *green, *is_prepared, lease);
        assert_eq!(decided(true), *with_lease, "{swap:?} {green:?} {is_prepared} with a lease");
        assert_eq!(decided(false), *without, "{swap:?} {green:?} {is_prepared} without");
    }
}
