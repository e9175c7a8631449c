//! The gate beside nginx and HAProxy: in turns, in front of the same server.

use std::{
    fs,
    net::SocketAddr,
    path::PathBuf,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use tokio::{runtime::Runtime, task::JoinSet};

use super::{
    client::Connection,
    gate::Gate,
    histogram::Histogram,
    instance::Instance,
    load::LETTERS,
    own_address,
    peer::Peer,
    websocket::{Frame, Socket},
};
use crate::{
    bench::{
        Sizes,
        figures::{Report, Samples, Section},
        proc,
    },
    live::program_on_path,
};

const SMALL_BYTES: usize = 128;
const LARGE_BYTES: usize = 1024 * 1024;

/// Clients of small answers, of large ones, and of WebSockets.
const SMALL_CLIENTS: usize = 32;
const LARGE_CLIENTS: usize = 8;
const SOCKETS: usize = 32;

/// What a WebSocket's message has.
const MESSAGE: &[u8] = &[b'm'; 64];

/// How many connections are opened before the next ones are.
const OPENED_AT_ONCE: usize = 64;

/// After the last of many connections, until memory is looked at.
const SETTLE: Duration = Duration::from_secs(2);

/// What wrk says at its end, one line that begins with a word of its own.
const SAY: &str = r#"
done = function(summary, latency)
  local e = summary.errors
  io.write(string.format("FIGURES %d %d %d %f %d\n", summary.requests, summary.duration,
    summary.bytes, latency:percentile(99), e.connect + e.read + e.write + e.status + e.timeout))
end
"#;

/// One of the three, in front of the same server.
enum Proxy {
    Gate(Box<Gate>),
    Peer(&'static str, Peer),
}

/// What one side did in one round.
#[derive(Clone, Copy, Debug)]
struct Done {
    per_second: f64,
    p99_ms: f64,
    /// Of all its processes.
    cpu_seconds: f64,
    count: f64,
    bytes: f64,
}

/// One side, round by round.
#[derive(Debug, Default)]
struct Side {
    per_second: Samples,
    p99_ms: Samples,
    /// For one request, in microseconds, or for one GB, in seconds.
    cpu: Samples,
}

/// Chooses one kind of what was measured.
type Of = fn(&Side) -> &Samples;

/// What is asked of each side.
#[derive(Clone, Copy)]
enum Work<'a> {
    Wrk { path: &'a str, clients: usize },
    Echo,
}

impl Proxy {
    /// Starts those that are installed, the gate first.
    async fn all(upstream: SocketAddr) -> Result<Vec<Self>> {
        let mut gate = Gate::start().await?;
        gate.follow(&[("blue", upstream, 1_000, None)]).await?;
        super::listens("the gate", gate.listen).await?;
        let mut all = vec![Self::Gate(Box::new(gate))];
        all.extend(Peer::haproxy(upstream).await?.map(|it| Self::Peer("haproxy", it)));
        all.extend(Peer::nginx(upstream).await?.map(|it| Self::Peer("nginx", it)));
        Ok(all)
    }

    const fn name(&self) -> &'static str {
        match self {
            Self::Gate(_) => "gate",
            Self::Peer(name, _) => name,
        }
    }

    const fn listen(&self) -> SocketAddr {
        match self {
            Self::Gate(gate) => gate.listen,
            Self::Peer(_, peer) => peer.listen,
        }
    }

    fn pid(&self) -> u32 {
        match self {
            Self::Gate(gate) => gate.pid(),
            Self::Peer(_, peer) => peer.pid(),
        }
    }
}

/// Measures small answers, large ones, WebSockets, and idle connections.
pub(in crate::bench) fn measure(
    sizes: &Sizes,
    runtime: &Runtime,
    report: &mut Report,
    progress: &mut impl FnMut(&str),
) -> Result<()> {
    let files = [("small", vec![b's'; SMALL_BYTES]), ("large", vec![b'l'; LARGE_BYTES])];
    let Some((server, _root)) = runtime.block_on(Peer::files(&files))? else {
        progress("nginx is not installed: the gate stands beside nobody");
        return Ok(());
    };
    let mut section = Section::new(format!(
        "10. The gate beside Debian's nginx and HAProxy: {} rounds of {:?} each",
        sizes.rounds, sizes.slice
    ));
    let echo = runtime.block_on(async { Instance::start(own_address()?, LETTERS[0]).await })?;
    let of_files = runtime.block_on(Proxy::all(server.listen))?;
    for (title, path, clients, per) in [
        ("small, keep-alive", "small", SMALL_CLIENTS, Per::Request),
        ("1 MiB, keep-alive", "large", LARGE_CLIENTS, Per::Gigabyte),
    ] {
        progress(&format!("the gate and its peers: {title}"));
        compare(&mut section, title, per, sizes, &of_files, |proxy, slice| {
            runtime.block_on(work(proxy, Work::Wrk { path, clients }, slice))
        })?;
    }
    drop(of_files);
    progress("the gate and its peers: WebSocket echo");
    let of_echo = runtime.block_on(Proxy::all(echo.address))?;
    compare(&mut section, "WebSocket echo", Per::Request, sizes, &of_echo, |proxy, slice| {
        runtime.block_on(work(proxy, Work::Echo, slice))
    })?;
    drop(of_echo);
    progress(&format!("the gate and its peers: {} idle connections", sizes.connections));
    runtime.block_on(idle(&mut section, sizes.connections, echo.address))?;
    section.note(format!(
        "wrk -t1 with {SMALL_CLIENTS} and {LARGE_CLIENTS} connections; {SOCKETS} WebSockets with \
         {} B messages; two threads, workers or cores for each side; one nginx serves the files",
        MESSAGE.len()
    ));
    report.add(section);
    Ok(())
}

/// What the cpu is divided by.
#[derive(Clone, Copy)]
enum Per {
    Request,
    Gigabyte,
}

/// Has all do the same in turns, and tells what each did, as a multiple of its neighbours.
fn compare(
    section: &mut Section,
    title: &str,
    per: Per,
    sizes: &Sizes,
    proxies: &[Proxy],
    work: impl Fn(&Proxy, Duration) -> Result<Done>,
) -> Result<()> {
    let mut sides: Vec<Side> = proxies.iter().map(|_| Side::default()).collect();
    for proxy in proxies {
        work(proxy, Duration::from_secs(1)).with_context(|| proxy.name().to_owned())?;
    }
    for round in 0..sizes.rounds {
        // Whoever comes first does so in turns, too.
        for step in 0..proxies.len() {
            let at = (step + round) % proxies.len();
            let done = work(&proxies[at], sizes.slice)
                .with_context(|| format!("{title} by {}", proxies[at].name()))?;
            sides[at].per_second.push(done.per_second);
            sides[at].p99_ms.push(done.p99_ms);
            sides[at].cpu.push(match per {
                Per::Request => done.cpu_seconds / done.count * 1e6,
                Per::Gigabyte => done.cpu_seconds / (done.bytes / 1e9),
            });
        }
    }
    let unit = match per {
        Per::Request => "us",
        Per::Gigabyte => "s per GB",
    };
    let figures: [(&str, &'static str, Of); 3] = [
        (title, "per s", |it| &it.per_second),
        ("  cpu", unit, |it| &it.cpu),
        ("  p99", "ms", |it| &it.p99_ms),
    ];
    for (proxy, side) in proxies.iter().zip(&sides) {
        let name = proxy.name();
        for (figure, unit, of) in figures {
            let beside = if name == "gate" {
                of(side).range()
            } else {
                let multiples = of(side).multiples_in(of(&sides[0]));
                format!("gate / {name} {:.2} ({})", multiples.median(), multiples.range())
            };
            section.figure(format!("{figure}: {name}"), of(side).median(), unit, beside);
        }
    }
    Ok(())
}

async fn work(proxy: &Proxy, work: Work<'_>, slice: Duration) -> Result<Done> {
    let before = proc::tree_cpu_seconds(proxy.pid())?;
    let mut done = match work {
        Work::Wrk { path, clients } => {
            wrk(&format!("http://{}/{path}", proxy.listen()), clients, slice).await?
        }
        Work::Echo => echo(proxy.listen(), slice).await?,
    };
    done.cpu_seconds = proc::tree_cpu_seconds(proxy.pid())? - before;
    Ok(done)
}

async fn wrk(url: &str, clients: usize, slice: Duration) -> Result<Done> {
    let program = program_on_path("wrk").context("no wrk; tests/setup.sh bench installs it")?;
    let script: PathBuf = std::env::temp_dir().join(format!("wrk-{}.lua", std::process::id()));
    fs::write(&script, SAY)?;
    let mut command = Command::new(program);
    command
        .args(["-t1", &format!("-c{clients}"), &format!("-d{}s", slice.as_secs())])
        .arg("-s")
        .arg(&script)
        .arg(url)
        .stdin(Stdio::null());
    let output = tokio::task::spawn_blocking(move || command.output()).await??;
    fs::remove_file(&script)?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().find_map(|line| line.strip_prefix("FIGURES "));
    let numbers: Vec<f64> =
        line.unwrap_or_default().split(' ').flat_map(str::parse::<f64>).collect();
    let [count, us, bytes, p99, errors] = numbers[..] else {
        anyhow::bail!("wrk says something else: {text}");
    };
    ensure!(errors == 0.0 && count > 0.0, "{errors} of {count} requests failed: {text}");
    let per_second = count / (us / 1e6);
    Ok(Done { per_second, p99_ms: p99 / 1e3, cpu_seconds: f64::NAN, count, bytes })
}

async fn echo(address: SocketAddr, slice: Duration) -> Result<Done> {
    let (ends, count) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
    let times = Arc::new(Histogram::new());
    let mut tasks = JoinSet::new();
    let begun = Instant::now();
    for _ in 0..SOCKETS {
        let (ends, count, times) = (Arc::clone(&ends), Arc::clone(&count), Arc::clone(&times));
        tasks.spawn(async move {
            let (mut socket, _) = Socket::connect(address).await?;
            while !ends.load(Ordering::Relaxed) {
                let begun = Instant::now();
                socket.say(MESSAGE).await?;
                let back = socket.receive().await?;
                ensure!(back == Frame::Text(MESSAGE.to_vec()), "another message came back");
                times.add(begun.elapsed());
                count.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        });
    }
    tokio::time::sleep(slice).await;
    ends.store(true, Ordering::Relaxed);
    for ended in tasks.join_all().await {
        ended?;
    }
    let count = count.load(Ordering::Relaxed) as f64;
    Ok(Done {
        per_second: count / begun.elapsed().as_secs_f64(),
        p99_ms: times.at(9_900),
        cpu_seconds: f64::NAN,
        count,
        bytes: count * MESSAGE.len() as f64,
    })
}

/// Has each hold many connections that have asked once and ask no more.
async fn idle(section: &mut Section, connections: usize, upstream: SocketAddr) -> Result<()> {
    for proxy in Proxy::all(upstream).await? {
        let before = proc::tree_resident(proxy.pid())?;
        let mut held = Vec::with_capacity(connections);
        while held.len() < connections {
            let mut opened = JoinSet::new();
            for _ in 0..OPENED_AT_ONCE.min(connections - held.len()) {
                let address = proxy.listen();
                opened.spawn(async move {
                    let mut connection = Connection::open(address).await?;
                    connection.ask(b"GET / HTTP/1.1\r\nhost: bench\r\n\r\n").await?;
                    Ok(connection)
                });
            }
            for connection in opened.join_all().await {
                let connection = connection.map_err(|failure: super::client::Failure| {
                    anyhow::anyhow!("{}: {failure:?} at {}", proxy.name(), held.len())
                })?;
                held.push(connection);
            }
        }
        tokio::time::sleep(SETTLE).await;
        let with = proc::tree_resident(proxy.pid())?;
        drop(held);
        section.figure(
            format!("{connections} idle connections: {}", proxy.name()),
            with,
            "MiB",
            format!(
                "{before:.1} without; {:.1} KiB for each",
                (with - before) * 1024.0 / connections as f64
            ),
        );
    }
    Ok(())
}
