//! Measures durable commits a second of the event store: `store_bench DIRECTORY SECONDS`.
//!
//! Prints one line of JSON: for one writer and for 64 at once, each of which appends an event of
//! 256 bytes, waits until it is on the disk, and begins again. The directory must exist; the stores are
//! made in it and removed.

use std::{
    fs,
    io::Write as _,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use cutover_coordinator::store::{SledStore, StoreThread};
use serde_json::{Value, json};

/// What etcd's own `benchmark put` uses by default.
const EVENT_BYTES: usize = 256;

fn main() -> Result<()> {
    let mut arguments = std::env::args_os().skip(1);
    let usage = "usage: store_bench DIRECTORY SECONDS";
    let directory = arguments.next().context(usage)?;
    let seconds = arguments.next().and_then(|text| text.to_str()?.parse().ok()).context(usage)?;
    let mut rows = Vec::new();
    for writers in [1, 64] {
        rows.push(measure(Path::new(&directory), Duration::from_secs_f64(seconds), writers)?);
    }
    let line = json!({ "benchmark": "store", "event_bytes": EVENT_BYTES, "rows": rows });
    writeln!(std::io::stdout(), "{line}")?;
    Ok(())
}

/// Lets `writers` append for `duration`, in a store of their own.
fn measure(directory: &Path, duration: Duration, writers: usize) -> Result<Value> {
    let path = directory.join(format!("store-bench-{}-{writers}", std::process::id()));
    let store = SledStore::create(&path)?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let measured = runtime.block_on(async {
        let (thread, handle) = StoreThread::start(Box::new(store))?;
        let begin = Instant::now();
        let tasks: Vec<_> = (0..writers)
            .map(|_| {
                let handle = handle.clone();
                tokio::spawn(async move {
                    let mut latencies = Vec::new();
                    while begin.elapsed() < duration {
                        let asked = Instant::now();
                        handle.append(vec![vec![7; EVENT_BYTES]]).await?;
                        latencies.push(asked.elapsed());
                    }
                    anyhow::Ok(latencies)
                })
            })
            .collect();
        let mut latencies = Vec::new();
        for task in tasks {
            latencies.extend(task.await??);
        }
        let elapsed = begin.elapsed();
        thread.stop().await;
        anyhow::Ok((elapsed, latencies))
    });
    fs::remove_dir_all(&path)?;
    let (elapsed, mut latencies) = measured?;
    latencies.sort_unstable();
    let at = |permille: usize| {
        latencies.get(latencies.len() * permille / 1000).map(|latency| latency.as_secs_f64() * 1e3)
    };
    let count = u32::try_from(latencies.len())?;
    Ok(json!({
        "writers": writers,
        "commits": count,
        "seconds": elapsed.as_secs_f64(),
        "commits_per_second": f64::from(count) / elapsed.as_secs_f64(),
        "p50_ms": at(500),
        "p99_ms": at(990),
    }))
}
