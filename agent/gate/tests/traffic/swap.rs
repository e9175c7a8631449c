//! Swaps: instances are replaced under load, and nobody notices.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use bytes::Bytes;
use hyper::StatusCode;
use tokio::task::JoinSet;

use crate::{
    instance::Instance,
    support::{Bench, Client, wait_until},
};

/// How many times the instance is replaced.
const SWAPS: usize = 40;

struct Load {
    ends: AtomicBool,
    answered: AtomicU64,
}

/// Asks until it is told to end, on one connection or on a new one for each request.
async fn ask(load: Arc<Load>, address: std::net::SocketAddr, keeps: bool) -> Result<(), String> {
    let mut client = Client::connect(address).await;
    let body = Bytes::from_static(&[7; 5_000]);
    while !load.ends.load(Ordering::SeqCst) {
        if !keeps {
            client = Client::connect(address).await;
        }
        let got = client.post("/length", body.clone()).await;
        if got != (StatusCode::OK, "5000".to_owned()) {
            return Err(format!("{got:?}"));
        }
        load.answered.fetch_add(1, Ordering::SeqCst);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_fails_while_instances_are_replaced_again_and_again() {
    let mut old = Instance::start("old").await;
    let mut bench = Bench::start(&[("slot-0", &old, 1_000)]);
    let load = Arc::new(Load { ends: AtomicBool::new(false), answered: AtomicU64::new(0) });
    let mut clients = JoinSet::new();
    for number in 0..8 {
        clients.spawn(ask(Arc::clone(&load), bench.address, number % 4 != 0));
    }

    wait_until("the first one serves", || old.got() > 0).await;
    for swap in 1..=SWAPS {
        let new = Instance::start("new").await;
        let (before, after) = (format!("slot-{}", swap - 1), format!("slot-{swap}"));
        bench.route(&[(&before, &old, 1_000), (&after, &new, 0)]);
        bench.route(&[(&before, &old, 0), (&after, &new, 1_000)]);
        bench.wait_until_empty(&before).await;
        // Nothing comes to it any more, so that it can go, with all its connections.
        old = new;
        wait_until("the new one serves", || old.got() > 0).await;
    }

    load.ends.store(true, Ordering::SeqCst);
    for ended in clients.join_all().await {
        assert_eq!(ended, Ok(()));
    }
    assert!(load.answered.load(Ordering::SeqCst) >= SWAPS as u64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_swap_without_waiting_for_empty_does_fail_requests() {
    // The control: so that the test above can fail. Posts are not done twice.
    let load = Arc::new(Load { ends: AtomicBool::new(false), answered: AtomicU64::new(0) });
    let mut old = Instance::start("old").await;
    let mut bench = Bench::start(&[("slot-0", &old, 1_000)]);
    let mut clients = JoinSet::new();
    for _ in 0..8 {
        clients.spawn(ask(Arc::clone(&load), bench.address, true));
    }

    let mut failed = None;
    for swap in 1.. {
        let new = Instance::start("new").await;
        let (before, after) = (format!("slot-{}", swap - 1), format!("slot-{swap}"));
        bench.route(&[(&before, &old, 1_000), (&after, &new, 0)]);
        bench.wait_for(&before, |it| it.requests_in_flight > 0).await;
        // Gone with all that is under way, before its traffic went elsewhere.
        old = new;
        bench.route(&[(&after, &old, 1_000)]);
        wait_until("the new one serves or a client saw it", || {
            old.got() > 0
                || clients.len() < 8
                || clients.try_join_next().is_some_and(|ended| {
                    failed = ended.ok().and_then(Result::err);
                    true
                })
        })
        .await;
        if failed.is_some() {
            break;
        }
        assert!(swap < 1_000, "no request failed although instances were killed");
    }

    load.ends.store(true, Ordering::SeqCst);
    let failed = failed.unwrap();
    assert!(failed.contains("502"), "{failed}");
}
