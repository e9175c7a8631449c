//! The program `cutover-gate`: a gate with its files, its control socket and its signals.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io,
    net::{SocketAddr, TcpListener},
    num::NonZeroUsize,
    os::unix::{fs::OpenOptionsExt as _, net::UnixListener},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use cutover_common::{ApplicationName, ErrorChain};
use cutover_runtime::{
    shutdown::Shutdown,
    tls::files::{self, WriteFile},
};
use tokio::{
    sync::{Mutex, mpsc},
    time::{Instant, sleep, timeout},
};

use crate::{
    control::{Server, listen},
    duty::{Begin, Duty, Left, Post},
    gate::{Gate, Sockets, StartGate},
    handover::{self, Predecessors, TakeOver, Taken},
    keep, metrics,
    program::{InvalidProgram, Program},
    state::ServiceState,
    supervisor,
};

/// The control socket, in the gate's directory.
pub const SOCKET_FILE: &str = "gate.sock";

const LOCK_FILE: &str = "gate.lock";

/// How long requests may take to end when the gate is told to: what init systems grant, less a
/// little.
const END_WITHIN: Duration = Duration::from_secs(60);

/// How long everything may take to end when another process has taken over: what a WebSocket gets
/// when its instance is replaced.
const LEAVE_WITHIN: Duration = Duration::from_secs(600);

/// How long what lasts may take to end when it is told to, at [`LEAVE_WITHIN`].
const CUT_WITHIN: Duration = Duration::from_secs(10);

/// How often it is looked whether the last client is gone, or the process before. A process ends or
/// begins later by as much, and nobody waits for that.
const END_LOOK: Duration = Duration::from_millis(20);

/// How often a process that took over asks what is left of the one before, which announces nothing:
/// whoever wants to know asks.
const LEAVING_LOOK: Duration = Duration::from_millis(500);

/// How often it is tried to serve what cannot be served: a port comes free at any time, and a try is
/// a few calls to the kernel. A gate that lost its memory is right again as fast.
const TRY_EVERY: Duration = Duration::from_secs(1);

/// How long a process that has left waits for that question, so that its last counts are known.
const ASKED_WITHIN: Duration = Duration::from_secs(3);

/// How long a process that answers nothing may take until it is gone.
const GONE_WITHIN: Duration = Duration::from_secs(5);

/// What a gate is run with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The gate's directory. Made if it is not there.
    pub data: PathBuf,
    /// How many cores it uses.
    pub shards: NonZeroUsize,
    /// Whether it takes over from the gate that runs in the directory, if one does.
    pub takes_over: bool,
    /// Where Prometheus asks; nowhere, if not given.
    pub metrics: Option<SocketAddr>,
}

/// Why a gate does not run.
#[derive(Debug, thiserror::Error)]
pub enum RunGate {
    #[error("the gate's directory cannot be made")]
    Directory(#[from] WriteFile),
    #[error(
        "another gate runs in {}; end it, take over from it with --take-over, or choose another \
         --data", .0.display()
    )]
    Taken(PathBuf),
    #[error("the lock {} cannot be taken", path.display())]
    Lock {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Start(#[from] StartGate),
    #[error("nothing is taken over")]
    TakeOver(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("nothing is taken over: the program of the gate that runs cannot be followed")]
    Follow(#[from] InvalidProgram),
    #[error("nothing is taken over: {application} would be served no more, as {why}")]
    WouldNotServe { application: ApplicationName, why: String },
    #[error("nothing can listen on {listen} for the metrics; choose another --metrics")]
    Metrics {
        listen: SocketAddr,
        #[source]
        source: io::Error,
    },
    #[error("the gate cannot be told anything")]
    Socket(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl From<TakeOver> for RunGate {
    fn from(error: TakeOver) -> Self {
        Self::TakeOver(Box::new(error))
    }
}

/// Runs a gate until `shutdown` is requested or another process takes over, and then until its last
/// request has ended.
///
/// It follows the last program at once, as nobody may be there to tell it anew.
///
/// # Errors
///
/// When it cannot start. A kept program that cannot be followed is logged: the gate is there to be
/// told another.
pub async fn run(settings: Settings, shutdown: Shutdown) -> Result<(), RunGate> {
    files::create_private_dir(&settings.data)?;
    let (begin, Ears { control, metrics }) = match take_over(&settings).await? {
        Some(begin) => begin,
        None => begin_anew(&settings).await?,
    };
    let (duty, has_left) = Duty::begin(begin);
    let duty = Arc::new(Mutex::new(duty));
    let server = Server::new(control, Arc::clone(&duty));
    let server = server.map_err(|error| RunGate::Socket(Box::new(error)))?;
    let watch = tokio::spawn(watch_predecessors(Arc::clone(&duty)));
    let tries = tokio::spawn(try_again(Arc::clone(&duty)));
    tracing::info!(data = %settings.data.display(), shards = %settings.shards, "the gate is ready");
    supervisor::is_ready();
    serve((server, metrics), &duty, has_left, &shutdown).await;
    watch.abort();
    tries.abort();
    Ok(())
}

/// Where a process is asked. What it hands over stays open meanwhile.
struct Ears {
    control: UnixListener,
    metrics: Option<tokio::net::TcpListener>,
}

impl Ears {
    fn of(control: &UnixListener, metrics: Option<&TcpListener>) -> Result<Self, RunGate> {
        let open = || {
            let metrics = metrics.map(TcpListener::try_clone).transpose()?;
            let metrics = metrics.map(tokio::net::TcpListener::from_std).transpose()?;
            Ok(Self { control: control.try_clone()?, metrics })
        };
        open().map_err(|error: io::Error| RunGate::Socket(Box::new(error)))
    }
}

async fn serve(
    (server, metrics): (Server, Option<tokio::net::TcpListener>),
    duty: &Arc<Mutex<Duty>>,
    mut has_left: mpsc::Receiver<Left>,
    shutdown: &Shutdown,
) {
    let left = tokio::select! {
        () = server.run() => None,
        () = shutdown.requested() => None,
        left = has_left.recv() => left,
        () = supervisor::upgrades() => None,
        () = serve_metrics(metrics, duty) => None,
    };
    match left {
        Some(Left { server, path }) => {
            tokio::select! {
                () = server.run() => {}
                () = leave(duty, shutdown) => {}
            }
            drop(fs::remove_file(path));
        }
        None => end(duty).await,
    }
    tracing::info!(cut = duty.lock().await.gate().connections(), "the gate ends");
}

async fn serve_metrics(listener: Option<tokio::net::TcpListener>, duty: &Arc<Mutex<Duty>>) {
    match listener {
        Some(listener) => metrics::serve(listener, Arc::clone(duty)).await,
        None => std::future::pending().await,
    }
}

/// Ends what is under way, as nobody takes its place.
async fn end(duty: &Mutex<Duty>) {
    duty.lock().await.gate().close();
    is_over(duty, END_WITHIN).await;
}

/// Lets what is under way end, as another process has taken the place.
async fn leave(duty: &Mutex<Duty>, shutdown: &Shutdown) {
    tokio::select! {
        is_over = is_over(duty, LEAVE_WITHIN) => {
            if !is_over {
                let mut duty = duty.lock().await;
                duty.gate().end_what_lasts();
                duty.gate().close();
            }
        }
        () = shutdown.requested() => return end(duty).await,
    }
    is_over(duty, CUT_WITHIN).await;
    let (asked, mut told) = {
        let duty = duty.lock().await;
        (duty.asked(), duty.told())
    };
    // In vain if nobody wants to know.
    drop(timeout(ASKED_WITHIN, told.wait_for(|told| *told > asked)).await);
}

/// Waits until nobody is connected. Returns whether that is so.
///
/// Looked at again and again: each service counts its own, and an event would cost every connection
/// something for an end that comes once.
async fn is_over(duty: &Mutex<Duty>, within: Duration) -> bool {
    let until = Instant::now() + within;
    while duty.lock().await.gate().connections() > 0 {
        if Instant::now() >= until {
            return false;
        }
        sleep(END_LOOK).await;
    }
    true
}

/// Knows what the processes before this one have, also while nobody asks.
async fn watch_predecessors(duty: Arc<Mutex<Duty>>) {
    loop {
        {
            let mut duty = duty.lock().await;
            if !duty.has_predecessors() {
                return;
            }
            duty.ask_predecessors().await;
        }
        sleep(LEAVING_LOOK).await;
    }
}

/// Serves what could not be served as soon as it can.
async fn try_again(duty: Arc<Mutex<Duty>>) {
    loop {
        sleep(TRY_EVERY).await;
        duty.lock().await.gate().try_again();
    }
}

/// Takes over from the gate that runs, if there is one and this is wanted.
async fn take_over(settings: &Settings) -> Result<Option<(Begin, Ears)>, RunGate> {
    if !settings.takes_over {
        return Ok(None);
    }
    let failed = |error| RunGate::TakeOver(Box::new(error));
    let (data, path) = (settings.data.clone(), settings.data.join(SOCKET_FILE));
    let taken = tokio::task::spawn_blocking(move || handover::take(&data, &path));
    let taken = taken.await.map_err(failed)??;
    let Some(mut taken) = taken else { return Ok(None) };
    let revision = taken.program.as_ref().map(|it| it.revision);
    tracing::info!(revision, "taking over from the gate that runs");
    let mut gate = Gate::start(settings.shards)?;
    // Whoever it accepts before it is sure to serve is cut if it does not.
    gate.wait();
    follow_taken(&mut gate, &mut taken)?;
    let metrics = metrics_socket(settings, &mut taken.sockets)?;
    let ears = Ears::of(&taken.control, metrics.as_ref())?;
    let taken = tokio::task::spawn_blocking(move || taken.serving().map(|()| taken));
    let taken = taken.await.map_err(failed)??;
    gate.begin();
    let begin = Begin {
        gate,
        program: taken.program,
        predecessors: Predecessors::handed(&settings.data, taken.before),
        id: Some(taken.state.gate),
        post: Post { lock: taken.lock, control: taken.control, metrics },
        data: settings.data.clone(),
    };
    Ok(Some((begin, ears)))
}

/// Serves all that the old process does, or nothing.
fn follow_taken(gate: &mut Gate, taken: &mut Taken) -> Result<(), RunGate> {
    let Some(program) = &taken.program else { return Ok(()) };
    if !taken.as_they_were.is_empty() {
        let services = std::mem::take(&mut taken.as_they_were);
        gate.apply(&Program { revision: program.revision, services }, &mut taken.sockets)?;
    }
    gate.apply(program, &mut taken.sockets)?;
    // Whose socket is left has clients whom nobody would accept.
    let is_left = |it: &&ServiceState| taken.sockets.contains_key(&it.listen);
    let Some(left) = taken.state.services.iter().find(is_left) else { return Ok(()) };
    let application = left.application.clone();
    let why = gate.unserved(&application).unwrap_or("the program does not have it").to_owned();
    Err(RunGate::WouldNotServe { application, why })
}

/// Begins with what is on disk.
async fn begin_anew(settings: &Settings) -> Result<(Begin, Ears), RunGate> {
    let data = &settings.data;
    let until = Instant::now() + if settings.takes_over { GONE_WITHIN } else { Duration::ZERO };
    let lock = loop {
        match lock(data) {
            // Whoever held it is about to be gone: it did not answer. Tried again and again, as waiting
            // for a lock would hold a thread for as long as the lock is held.
            Err(RunGate::Taken(_)) if Instant::now() < until => sleep(END_LOOK).await,
            taken => break taken?,
        }
    };
    let mut gate = Gate::start(settings.shards)?;
    let program = follow_kept(&mut gate, data);
    let predecessors = Predecessors::found(data);
    let control = listen(&data.join(SOCKET_FILE));
    let control = control.map_err(|error| RunGate::Socket(Box::new(error)))?;
    let metrics = metrics_socket(settings, &mut Sockets::new())?;
    let ears = Ears::of(&control, metrics.as_ref())?;
    let post = Post { lock, control, metrics };
    let begin = Begin { data: data.clone(), gate, program, predecessors, post, id: None };
    Ok((begin, ears))
}

/// Returns the socket where Prometheus asks: the one of the process before, or a new one.
fn metrics_socket(
    settings: &Settings,
    sockets: &mut Sockets,
) -> Result<Option<TcpListener>, RunGate> {
    let Some(listen) = settings.metrics else { return Ok(None) };
    let socket = match sockets.remove(&listen) {
        Some(socket) => Ok(socket),
        None => TcpListener::bind(listen),
    };
    let socket = socket.and_then(|socket| socket.set_nonblocking(true).map(|()| socket));
    socket.map(Some).map_err(|source| RunGate::Metrics { listen, source })
}

fn follow_kept(gate: &mut Gate, data: &Path) -> Option<Program> {
    let program = match keep::read(data) {
        Ok(program) => program?,
        Err(error) => {
            tracing::error!(
                error = %ErrorChain(&error),
                "nothing is served before somebody says what"
            );
            return None;
        }
    };
    match gate.apply(&program, &mut Sockets::new()) {
        Ok(()) => {
            tracing::info!(revision = program.revision, "following the kept program");
            Some(program)
        }
        Err(error) => {
            tracing::error!(
                error = %ErrorChain(&error),
                "the kept program cannot be followed; nothing is served before somebody says what"
            );
            None
        }
    }
}

/// Takes the directory for this process, for as long as the file is open.
fn lock(data: &Path) -> Result<File, RunGate> {
    let path = data.join(LOCK_FILE);
    let opened =
        OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
    let file = opened.map_err(|source| RunGate::Lock { path: path.clone(), source })?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(RunGate::Taken(data.to_owned())),
        Err(TryLockError::Error(source)) => Err(RunGate::Lock { path, source }),
    }
}
