//! `cutover-syscalls [--daemon agent|coordinator] [--window deployment|restart] [--at N] [--every K]`: kills each
//! daemon after each of its calls in a deployment, and prints what came of it.

use std::{
    io::{self, Write as _},
    process::ExitCode,
    time::Instant,
};

use anyhow::{Context as _, Result, bail};
use cutover_tests::{
    live::{Dice, Which},
    syscalls::{Outcome, Point, Table, Walk, Window, can_trace},
};

const USAGE: &str = "usage: cutover-syscalls [--daemon agent|coordinator] [--window deployment|restart] [--at N] [--every K]";

/// What to walk through.
struct Args {
    daemons: Vec<Which>,
    in_deployment: bool,
    in_restart: bool,
    /// Only this call.
    at: Option<usize>,
    /// Each call, or each K-th.
    every: usize,
}

fn main() -> ExitCode {
    match walk() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            say(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn walk() -> Result<bool> {
    let args = Args::parse(std::env::args().skip(1))?;
    if let Err(why) = can_trace() {
        bail!("{why}");
    }
    let begun = Instant::now();
    let mut dice = Dice::from_environment();
    let mut table = Table::default();
    let mut walk = Walk::default();
    for daemon in args.daemons.iter().copied() {
        let undisturbed = walk.record_deployment(daemon);
        tell(&undisturbed);
        let calls = undisturbed.calls.len();
        if args.in_deployment {
            let point = |after| Point { daemon, window: Window::Deployment, after };
            table.expect(point(0), &undisturbed.calls);
            for after in args.points(calls) {
                kill(&mut walk, &mut table, point(after), calls);
            }
        }
        if args.in_restart {
            let of_start = walk.record_start(daemon);
            let point = |killed_after, after| {
                let window = Window::Restart { killed_after };
                Point { daemon, window, after }
            };
            table.expect(point(0, 0), &of_start);
            for after in args.points(of_start.len()) {
                let killed_after = 1 + usize::try_from(dice.below(u64::try_from(calls)?))?;
                kill(&mut walk, &mut table, point(killed_after, after), of_start.len());
            }
        }
    }
    write!(io::stdout(), "\n{table}{:.0?}\n", begun.elapsed())?;
    Ok(table.is_clean())
}

fn kill(walk: &mut Walk, table: &mut Table, point: Point, calls: usize) {
    let outcome = walk.kill_at(point);
    table.note(&outcome);
    let last = outcome.killed_after.as_deref().unwrap_or("not reached");
    let last: String = last.chars().take(110).collect();
    let (took, gap) = (outcome.took, outcome.gap.as_millis());
    say(&format!("{point} (of {calls}), {took:.1?}, gap {gap} ms: {last}"));
    tell(&outcome);
}

fn tell(outcome: &Outcome) {
    for broken in &outcome.broken {
        say(&format!("BROKEN {}: {}", broken.promise.id(), broken.what));
    }
    if !outcome.story.is_empty() {
        say(&outcome.story);
    }
}

impl Args {
    fn parse(mut args: impl Iterator<Item = String>) -> Result<Self> {
        let daemons = vec![Which::Agent(0), Which::Coordinator];
        let mut parsed =
            Self { daemons, in_deployment: true, in_restart: true, at: None, every: 1 };
        while let Some(arg) = args.next() {
            let value = args.next().with_context(|| format!("{arg} has no value\n{USAGE}"))?;
            match (arg.as_str(), value.as_str()) {
                ("--daemon", "agent") => parsed.daemons = vec![Which::Agent(0)],
                ("--daemon", "coordinator") => parsed.daemons = vec![Which::Coordinator],
                ("--window", "deployment") => parsed.in_restart = false,
                ("--window", "restart") => parsed.in_deployment = false,
                ("--at", number) => parsed.at = Some(number.parse()?),
                ("--every", number) => parsed.every = number.parse::<usize>()?.max(1),
                _ => bail!("{arg} {value} is not understood\n{USAGE}"),
            }
        }
        Ok(parsed)
    }

    fn points(&self, calls: usize) -> Vec<usize> {
        match self.at {
            Some(at) => vec![at],
            None => (1..=calls).step_by(self.every).collect(),
        }
    }
}

fn say(line: &str) {
    // Nobody is left to tell when stderr is closed.
    drop(writeln!(io::stderr(), "{line}"));
}
