//! `cutover demo`: a whole fleet on this machine, as separate programs with real TLS, and three
//! rollouts under traffic.
//!
//! Everything is done with the commands that an operator types, and each is shown as it is run.
//! Nothing is left behind: not a process, not a file.

mod application;
mod stage;
mod summary;
mod traffic;

use std::time::Instant;

use application::Kind;
use stage::Stage;
use summary::{Act, Summary};
use traffic::Traffic;

use crate::{
    args::demo::DemoArgs,
    failure::{Failure, Kind as FailureKind},
    outcome::Outcome,
    render::console::Console,
};

/// Runs the demo until its end, or until Ctrl-C.
///
/// # Errors
///
/// When a program is missing or does not come up, or a rollout ends otherwise than it should.
pub(crate) async fn run(console: Console, args: DemoArgs) -> Result<Outcome, Failure> {
    let keep = args.keep;
    let mut stage = Stage::set(console, args.agents)?;
    let interrupted = async {
        // Without a handler Ctrl-C would end us with everything left behind.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    let played = tokio::select! {
        played = play(&mut stage, &args) => Some(played),
        () = interrupted => None,
    };
    match &played {
        Some(Ok(_)) if keep => {
            stage.tell_how_to_go_on();
            drop(tokio::signal::ctrl_c().await);
        }
        Some(_) => {}
        None => console.progress("interrupted; removing everything"),
    }
    let cleared = stage.clear().await;
    let Some(played) = played else {
        return cleared.map(|()| Outcome::Interrupted);
    };
    console.result(&played?.to_string())?;
    cleared.map(|()| Outcome::Done)
}

async fn play(stage: &mut Stage, args: &DemoArgs) -> Result<Summary, Failure> {
    stage.raise().await?;
    let mut acts = Vec::new();

    stage.headline("1. The first deploy: web 1.0.0 to all hosts at once");
    stage.push("1.0.0", Kind::Good)?;
    let first = ["deploy", "web@1.0.0", "--to", "demo", "--strategy", "all_at_once"];
    acts.push(deploy(stage, "1.0.0, first deploy", &first, Expect::Done).await?);

    stage.headline(&format!("2. Under traffic: web 2.0.0, {}", args.strategy.name()));
    stage.push("2.0.0", Kind::Good)?;
    let traffic = Traffic::start(stage.addresses());
    let second = ["deploy", "web@2.0.0", "--to", "demo", "--strategy", args.strategy.name()];
    acts.push(deploy(stage, "2.0.0, in batches", &second, Expect::Done).await?);

    stage.headline("3. Under traffic: web 3.0.0 never becomes healthy");
    stage.push("3.0.0", Kind::NeverHealthy)?;
    let third = ["deploy", "web@3.0.0", "--to", "demo", "--strategy", args.strategy.name()];
    acts.push(deploy(stage, "3.0.0, broken", &third, Expect::RolledBack).await?);

    let seen = traffic.stop().await;
    stage.headline("4. What does it say?");
    let why = stage.cutover(&["why", "web"]).await?;
    stage.cutover(&["status", "web"]).await?;
    let summary = Summary { acts, seen, why };
    summary.judged()
}

/// How a deploy must end for the demo to tell the truth.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Expect {
    Done,
    RolledBack,
}

async fn deploy(
    stage: &Stage,
    name: &'static str,
    command: &[&str],
    expect: Expect,
) -> Result<Act, Failure> {
    let began = Instant::now();
    let status = stage.cutover_status(command).await?;
    let expected = match expect {
        Expect::Done => 0,
        Expect::RolledBack => 1,
    };
    if status != expected {
        return Err(Failure::new(
            FailureKind::OurBug,
            format!(
                "the rollout of {name} ended with exit status {status}, and {expected} was expected"
            ),
        ));
    }
    let how = match expect {
        Expect::Done => "succeeded",
        Expect::RolledBack => "rolled back by itself",
    };
    Ok(Act { name, how, took: began.elapsed() })
}
