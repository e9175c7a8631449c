//! Following a rollout to its end, across lost connections, until a timeout or Ctrl-C.

use std::time::Duration;

use cutover_runtime::{clock::wall, dice};
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};

use super::{
    Outcome,
    retry::{BACKOFF, LOST},
};
use crate::{
    args::rollout::WaitArgs,
    failure::{Failure, Kind},
    grpc::Coordinator,
    render::{
        console::Console,
        progress::{Drawing, changes, frame},
    },
    view::{Rollout, RolloutState},
};

/// How long a coordinator may be away before following ends, when no `--timeout` says it:
/// enough to move it to another machine by hand. The rollout waits for it as we do.
const AWAY_MAX: Duration = Duration::from_secs(10 * 60);

/// How often the view is redrawn when nothing changes, for the seconds in it.
const REDRAW_EVERY: Duration = Duration::from_secs(1);

/// How following a rollout ended.
#[derive(Debug)]
pub(super) enum Ending {
    /// Nothing goes on without a person.
    Over(Box<Rollout>),
    /// Ctrl-C.
    Interrupted,
}

/// What the follower of a rollout hears.
enum News {
    Changed(Box<Rollout>),
    Lost,
    Failed(Failure),
}

impl Ending {
    /// Returns what a script should know.
    pub(super) fn outcome(&self) -> Outcome {
        match self {
            Self::Interrupted => Outcome::Interrupted,
            Self::Over(rollout)
                if matches!(rollout.state, RolloutState::Succeeded | RolloutState::Staged) =>
            {
                Outcome::Done
            }
            Self::Over(rollout) if rollout.state == RolloutState::Refused => Outcome::Refused,
            Self::Over(_) => Outcome::RolloutFailed,
        }
    }
}

/// Follows the rollout of this id, and shows what happens on stderr.
///
/// # Errors
///
/// If it is not over in time, the coordinator stays away, or it does not know the rollout.
pub(super) async fn follow(
    coordinator: &Coordinator,
    console: Console,
    id: &str,
    wait: WaitArgs,
) -> Result<Ending, Failure> {
    let deadline = wait.timeout.map(|timeout| Instant::now() + timeout);
    let away_max = wait.timeout.unwrap_or(AWAY_MAX);
    let (tell, mut news) = mpsc::channel(16);
    // Ends with this function: a JoinSet aborts its tasks when it is dropped.
    let mut listening = JoinSet::new();
    listening.spawn(listen(coordinator.clone(), id.to_owned(), away_max, tell));

    let mut view = View::new(console);
    let mut ticks = interval(REDRAW_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            // The end of a rollout counts before a timeout of the same moment.
            biased;
            heard = news.recv() => match heard {
                Some(News::Changed(rollout)) => {
                    view.changed(&rollout);
                    if rollout.is_over() {
                        return Ok(Ending::Over(rollout));
                    }
                }
                Some(News::Lost) => view.lost(),
                Some(News::Failed(failure)) => return Err(failure.or_hint(again(id))),
                None => return Err(Failure::new(Kind::OurBug, "nobody listens any more")),
            },
            interrupted = tokio::signal::ctrl_c() => {
                interrupted.map_err(|error| Failure::of(Kind::OurBug, &error))?;
                if console.is_live() {
                    // The terminal has written ^C.
                    console.draw("\r\u{1b}[2K");
                }
                console.progress(&format!("the rollout goes on; {}", again(id)));
                return Ok(Ending::Interrupted);
            }
            () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {
                return Err(view.too_slow(wait.timeout.unwrap_or_default(), id));
            }
            _ = ticks.tick(), if console.is_live() => view.redraw(),
        }
    }
}

/// Returns how to follow a rollout again.
fn again(id: &str) -> String {
    format!("watch it again: cutover watch {id}")
}

/// Listens to a rollout until it is over or the coordinator stays away too long.
async fn listen(
    coordinator: Coordinator,
    id: String,
    away_max: Duration,
    tell: mpsc::Sender<News>,
) {
    let mut away = Away::default();
    loop {
        let failure = match listen_once(&coordinator, &id, &mut away, &tell).await {
            Ok(()) => None,
            Err(failure) if failure.kind() == Kind::NotReachable => Some(failure),
            Err(failure) => {
                let _heard = tell.send(News::Failed(failure)).await;
                return;
            }
        };
        let since = *away.since.get_or_insert_with(Instant::now);
        if since.elapsed() > away_max {
            let failure = failure.unwrap_or_else(|| {
                Failure::new(Kind::NotReachable, "the coordinator ends every connection")
            });
            let _heard = tell.send(News::Failed(failure)).await;
            return;
        }
        away.failures += 1;
        if away.failures == 1 && tell.send(News::Lost).await.is_err() {
            return;
        }
        tokio::time::sleep(BACKOFF.after(away.failures, dice::jitter())).await;
    }
}

/// For how long, and how many tries, the coordinator has not been there.
#[derive(Debug, Default)]
struct Away {
    since: Option<Instant>,
    failures: u32,
}

/// Listens until the stream ends, which it also does when the coordinator shuts down.
async fn listen_once(
    coordinator: &Coordinator,
    id: &str,
    away: &mut Away,
    tell: &mpsc::Sender<News>,
) -> Result<(), Failure> {
    let mut updates = coordinator.watch(id).await?;
    while let Some(rollout) = updates.next().await? {
        *away = Away::default();
        let is_over = rollout.is_over();
        if tell.send(News::Changed(Box::new(rollout))).await.is_err() || is_over {
            // Nobody listens any more: stay here until the task is aborted.
            std::future::pending::<()>().await;
        }
    }
    Ok(())
}

/// What is shown while a rollout is followed.
struct View {
    console: Console,
    drawing: Drawing,
    last: Option<Rollout>,
    is_lost: bool,
}

impl View {
    fn new(console: Console) -> Self {
        Self { console, drawing: Drawing::default(), last: None, is_lost: false }
    }

    fn changed(&mut self, rollout: &Rollout) {
        if std::mem::take(&mut self.is_lost) {
            self.say("the coordinator is back");
        }
        if !self.console.is_live() {
            for line in changes(self.last.as_ref(), rollout) {
                self.console.progress(&line);
            }
        }
        self.last = Some(rollout.clone());
        self.redraw();
    }

    fn lost(&mut self) {
        self.is_lost = true;
        self.say(LOST);
        self.redraw();
    }

    /// Prints a line that stays, above what is drawn.
    fn say(&mut self, line: &str) {
        self.console.draw(&self.drawing.erase());
        self.console.progress(line);
    }

    fn redraw(&mut self) {
        if let Some(rollout) = self.last.as_ref().filter(|_| self.console.is_live()) {
            let paint = self.console.progress_paint();
            let frame = frame(rollout, wall(), self.console.size(), paint);
            self.console.draw(&self.drawing.redraw(&frame));
        }
    }

    fn too_slow(&self, timeout: Duration, id: &str) -> Failure {
        let timeout = cutover_common::duration_text::print(timeout);
        if self.is_lost || self.last.is_none() {
            let error = format!("the coordinator did not come back within {timeout}");
            return Failure::new(Kind::NotReachable, error).with_hint(again(id));
        }
        let error = format!("the rollout was not over within {timeout}; it goes on");
        Failure::new(Kind::RolloutFailed, error).with_hint(again(id))
    }
}
