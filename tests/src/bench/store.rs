//! Durable commits a second: our event store and etcd, in alternating slices on one disk.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use cutover_coordinator::store::{SledStore, StoreHandle, StoreThread};
use tokio::runtime::Runtime;

use super::{
    Sizes,
    disk::Floor,
    etcd::Etcd,
    figures::{Samples, Section, ms},
    proc,
};
use crate::live::program_on_path;

/// What etcd's own `benchmark put` uses by default.
const EVENT_BYTES: usize = 256;

/// How many syncs are timed beside each slice of one writer.
const SYNCS: usize = 50;

/// How many write at once, in turn.
const WRITERS: [usize; 2] = [1, 64];

/// What one side did in one slice.
struct Slice {
    per_second: f64,
    latencies: Samples,
    /// Cpu microseconds for one commit.
    cpu: f64,
}

/// All slices of one number of writers.
#[derive(Default)]
struct Side {
    per_second: Samples,
    latencies: Samples,
    cpu: Samples,
}

impl Side {
    fn add(&mut self, slice: &Slice) {
        self.per_second.push(slice.per_second);
        self.latencies.extend(&slice.latencies);
        self.cpu.push(slice.cpu);
    }
}

/// Measures both, `sizes.pairs` slices each, with one writer and with many.
pub(super) fn measure(sizes: &Sizes, runtime: &Runtime) -> Result<Section> {
    let folder = tempfile::Builder::new().prefix("cutover-bench-").tempdir()?;
    let mut section = Section::new(format!(
        "5. Durable commits of {EVENT_BYTES} B, {} slices of {} s each",
        sizes.pairs,
        sizes.slice.as_secs()
    ));
    let store = SledStore::create(&folder.path().join("store"))?;
    let mut floor = Floor::new(folder.path())?;
    runtime.block_on(async {
        let (thread, store) = StoreThread::start(Box::new(store))?;
        let etcd = match program_on_path("etcd") {
            Some(program) => Some(Arc::new(Etcd::start(&program, folder.path()).await?)),
            None => {
                section.note("SKIPPED: etcd is not installed (Debian: etcd-server)");
                None
            }
        };
        for writers in WRITERS {
            compare(writers, sizes, &store, etcd.as_ref(), &mut floor, &mut section).await?;
        }
        drop(store);
        thread.stop().await;
        anyhow::Ok(())
    })?;
    section.note("ours is called in this process, as the coordinator calls it, and its cpu is the whole process's; etcd is called over gRPC, one connection a writer, and its cpu is the server's alone");
    Ok(section)
}

async fn compare(
    writers: usize,
    sizes: &Sizes,
    store: &StoreHandle,
    etcd: Option<&Arc<Etcd>>,
    floor: &mut Floor,
    section: &mut Section,
) -> Result<()> {
    let (mut ours, mut theirs) = (Side::default(), Side::default());
    let (mut ratios, mut syncs, mut of_floor) =
        (Samples::default(), Samples::default(), Samples::default());
    for _ in 0..sizes.pairs {
        let near: Samples = (0..SYNCS)
            .map(|_| floor.take().map(|it| ms(it.fdatasync)))
            .collect::<Result<_, _>>()?;
        let slice = our_slice(writers, sizes.slice, store).await?;
        of_floor.push(slice.latencies.median() / near.median());
        syncs.extend(&near);
        ours.add(&slice);
        if let Some(etcd) = etcd {
            let other = etcd_slice(writers, sizes.slice, etcd).await?;
            ratios.push(slice.per_second / other.per_second);
            theirs.add(&other);
        }
    }
    let word = if writers == 1 { "1 writer" } else { "64 writers" };
    let p99 = |side: &Side| format!("p99 {:.3}", side.latencies.at(990));
    section.figure(
        format!("Cutover, {word}"),
        ours.per_second.median(),
        "per s",
        ours.per_second.range(),
    );
    if etcd.is_some() {
        let range = theirs.per_second.range();
        section.figure(format!("etcd, {word}"), theirs.per_second.median(), "per s", range);
        let range = format!("{}; median of {} pairs; aim > 1", ratios.range(), ratios.len());
        section.figure("  Cutover / etcd", ratios.median(), "x", range);
    }
    section.figure(
        format!("Cutover, {word}, one commit p50"),
        ours.latencies.median(),
        "ms",
        p99(&ours),
    );
    if etcd.is_some() {
        section.figure(
            format!("etcd, {word}, one put p50"),
            theirs.latencies.median(),
            "ms",
            p99(&theirs),
        );
    }
    section.figure(format!("Cutover, {word}, cpu for a commit"), ours.cpu.median(), "us", "");
    if etcd.is_some() {
        section.figure(format!("etcd, {word}, cpu for a put"), theirs.cpu.median(), "us", "");
    }
    if writers == 1 {
        section.figure("fdatasync of a 200 B append, p50", syncs.median(), "ms", "");
        let range = format!("{}; aim <= 1.5", of_floor.range());
        section.figure("  one commit / fdatasync, p50", of_floor.median(), "x", range);
    }
    Ok(())
}

async fn our_slice(writers: usize, slice: Duration, store: &StoreHandle) -> Result<Slice> {
    let cpu = proc::own_cpu_seconds()?;
    let begun = Instant::now();
    let tasks: Vec<_> = (0..writers)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move {
                let mut latencies = Samples::default();
                while begun.elapsed() < slice {
                    let asked = Instant::now();
                    store.append(vec![vec![7; EVENT_BYTES]]).await?;
                    latencies.push(ms(asked.elapsed()));
                }
                anyhow::Ok(latencies)
            })
        })
        .collect();
    let latencies = all(tasks).await?;
    Ok(Slice::new(begun.elapsed(), latencies, proc::own_cpu_seconds()? - cpu))
}

async fn etcd_slice(writers: usize, slice: Duration, etcd: &Arc<Etcd>) -> Result<Slice> {
    /// Makes every key another one: an event log replaces nothing.
    static KEY: AtomicU64 = AtomicU64::new(0);

    let mut clients = Vec::new();
    for _ in 0..writers {
        clients.push(etcd.client().await?);
    }
    let cpu = proc::cpu_seconds(etcd.pid())?;
    let begun = Instant::now();
    let tasks: Vec<_> = clients
        .into_iter()
        .map(|mut client| {
            tokio::spawn(async move {
                let mut latencies = Samples::default();
                while begun.elapsed() < slice {
                    let key = KEY.fetch_add(1, Ordering::Relaxed).to_be_bytes().to_vec();
                    let asked = Instant::now();
                    client.put(key, vec![7; EVENT_BYTES]).await?;
                    latencies.push(ms(asked.elapsed()));
                }
                anyhow::Ok(latencies)
            })
        })
        .collect();
    let latencies = all(tasks).await?;
    Ok(Slice::new(begun.elapsed(), latencies, proc::cpu_seconds(etcd.pid())? - cpu))
}

async fn all(tasks: Vec<tokio::task::JoinHandle<Result<Samples>>>) -> Result<Samples> {
    let mut latencies = Samples::default();
    for task in tasks {
        latencies.extend(&task.await.context("a writer ended badly")??);
    }
    Ok(latencies)
}

impl Slice {
    fn new(took: Duration, latencies: Samples, cpu: f64) -> Self {
        let count = latencies.len() as f64;
        Self { per_second: count / took.as_secs_f64(), cpu: cpu * 1e6 / count, latencies }
    }
}
