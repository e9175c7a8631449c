//! Services that are gone from the program, and what they have under way.

use std::sync::atomic::Ordering;

use crate::{
    instance::Instance,
    lasting::{echo, upgrade, upgrade_at},
    process::{Process, own_address},
    support::{Bench, upstream, wait_until},
    takeover::{program, wait_until_ended},
};
use hyper::{Request, StatusCode};

#[tokio::test]
async fn what_it_has_under_way_is_said_until_it_ends() {
    let blue = Instance::start("blue").await;
    let mut bench = Bench::start(&[("blue", &blue, 1_000)]);
    let mut lasting = upgrade(&bench).await;
    bench.wait_for("blue", |it| it.long_lived == 1).await;

    bench.end_service();

    echo(&mut lasting).await;
    let left = bench.upstream("blue").unwrap();
    assert_eq!((left.long_lived, left.is_empty, left.counts.requests), (1, false, 1));
    assert_eq!((bench.gate.connections(), bench.gate.state().services[0].connections), (1, 1));

    drop(lasting);
    wait_until("it is forgotten", || bench.gate.state().services.is_empty()).await;
    assert_eq!(bench.gate.connections(), 0);
}

#[tokio::test]
async fn its_requests_end_and_no_connection_to_its_instances_is_kept() {
    let blue = Instance::start("blue").await;
    let mut bench = Bench::start(&[("blue", &blue, 1_000)]);
    bench.get("/").await;
    let mut client = bench.client().await;
    let slow = tokio::spawn(async move {
        let answer = client.ask(Request::get("/slow"), bytes::Bytes::new()).await;
        answer.unwrap().status()
    });
    bench.wait_for("blue", |it| it.requests_in_flight == 1).await;

    bench.end_service();
    assert_eq!(bench.upstream("blue").unwrap().requests_in_flight, 1);
    blue.shared.slow.add_permits(1);

    assert_eq!(slow.await.unwrap(), StatusCode::OK);
    wait_until("none is kept", || blue.shared.connected.load(Ordering::SeqCst) == 0).await;
}

#[tokio::test]
async fn one_that_comes_back_has_what_it_had() {
    let blue = Instance::start("blue").await;
    let mut bench = Bench::start(&[("blue", &blue, 1_000)]);
    let mut lasting = upgrade(&bench).await;
    bench.wait_for("blue", |it| it.long_lived == 1).await;

    bench.end_service();
    bench.apply();
    wait_until("its port is free again", || {
        bench.gate.try_again();
        bench.trouble().0
    })
    .await;

    assert_eq!(bench.get("/").await.1, "blue");
    assert_eq!(bench.gate.state().services.len(), 1);
    let now = bench.upstream("blue").unwrap();
    assert_eq!((now.long_lived, now.counts.requests), (1, 2));
    echo(&mut lasting).await;
}

#[tokio::test]
async fn a_process_that_has_left_carries_it_to_its_end() {
    let blue = Instance::start("blue").await;
    let mut process = Process::start().await;
    let listen = own_address();
    let mut control = process.wait_until_ready().await;
    let with = [upstream("blue", blue.address, 1_000)];
    let mut program = program(1, listen, &with);
    control.apply(&program).await.unwrap();
    let mut lasting = upgrade_at(listen, "echo").await;

    let old = process.take_over().await;
    (program.revision, program.services) = (2, Vec::new());
    control.apply(&program).await.unwrap();

    let state = process.state().await;
    let left = &state.services[0].upstreams[0];
    assert_eq!((state.leaving, left.long_lived, left.is_empty), (1, 1, false));
    echo(&mut lasting).await;

    drop(lasting);
    wait_until_ended(old).await;
    process.wait_for("nothing is left", |it| it.services.is_empty()).await;
}
