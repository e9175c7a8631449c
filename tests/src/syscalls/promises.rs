//! The promises that are checked after a daemon was killed and the deployment ended, each by its
//! id in docs/promises.md. What is broken is told in words; nothing here panics for it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use super::answers::{Answer, Stretch};
use crate::live::{AgentHandle, Cluster};

/// How long what is tidied up in the background may take after a rollout's end: an old instance's
/// folder, a staging folder, a shim.
const TIDY_WITHIN: Duration = Duration::from_secs(10);

/// How often it is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The promises that are checked, with their ids.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Promise {
    /// The rollout ends by itself, succeeded, and every host runs the release.
    A6Ends,
    /// At most one rollout for one request, however often it is sent.
    F1OneRollout,
    /// What was acknowledged is there after the restart.
    D1Acknowledged,
    /// One start for one instance.
    E1OneStart,
    /// A release is on disk whole or not at all, and nothing half is left.
    E2Whole,
    /// Only our own replacement takes the application down, once, one host at a time.
    A1OneAtATime,
    /// What runs goes on, as the same process, until it is replaced.
    A2GoesOn,
    /// On each host one application under one shim.
    A8OneProcess,
    /// No process or file is left beside those of a deployment that nobody killed.
    A9NothingLeft,
}

impl Promise {
    pub const ALL: [Self; 9] = [
        Self::A6Ends,
        Self::F1OneRollout,
        Self::D1Acknowledged,
        Self::E1OneStart,
        Self::E2Whole,
        Self::A1OneAtATime,
        Self::A2GoesOn,
        Self::A8OneProcess,
        Self::A9NothingLeft,
    ];

    /// Returns its id in docs/promises.md.
    pub const fn id(self) -> &'static str {
        match self {
            Self::A6Ends => "A6",
            Self::F1OneRollout => "F1",
            Self::D1Acknowledged => "D1",
            Self::E1OneStart => "E1",
            Self::E2Whole => "E2",
            Self::A1OneAtATime => "A1",
            Self::A2GoesOn => "A2",
            Self::A8OneProcess => "A8",
            Self::A9NothingLeft => "A9",
        }
    }
}

/// A promise that was broken.
#[derive(Clone, Debug)]
pub struct Broken {
    pub promise: Promise,
    pub what: String,
}

/// Collects what is broken.
#[derive(Debug, Default)]
pub(super) struct Verdict(pub(super) Vec<Broken>);

impl Verdict {
    pub(super) fn demand(&mut self, promise: Promise, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.0.push(Broken { promise, what: what() });
        }
    }

    /// Demands what may take a moment.
    fn demand_soon(&mut self, promise: Promise, mut wrong: impl FnMut() -> Option<String>) {
        let deadline = Instant::now() + TIDY_WITHIN;
        while let Some(what) = wrong() {
            if Instant::now() >= deadline {
                self.0
                    .push(Broken { promise, what: format!("still after {TIDY_WITHIN:?}: {what}") });
                return;
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }
}

/// A1, A2: each host answered as `old`, then perhaps nobody for once, then as `new`.
pub(super) fn answered(verdict: &mut Verdict, hosts: &[Vec<Stretch>], old: &str, new: &str) {
    let mut gaps = Vec::new();
    for (index, seen) in hosts.iter().enumerate() {
        let told = || seen.iter().map(ToString::to_string).collect::<Vec<_>>().join(", then ");
        let who = |stretch: &Stretch| match &stretch.answer {
            Answer::From { version, .. } => Some(version.clone()),
            Answer::Refused | Answer::Unclear => None,
        };
        let order: Vec<Option<String>> = seen.iter().map(who).collect();
        let (old, new) = (Some(old.to_owned()), Some(new.to_owned()));
        let is_right = order == [old.clone(), new.clone()] || order == [old, None, new];
        verdict
            .demand(Promise::A2GoesOn, is_right, || format!("host {index} answered: {}", told()));
        gaps.extend(seen.iter().filter(|it| it.answer == Answer::Refused).map(|it| (index, it)));
    }
    for (at, (host, gap)) in gaps.iter().enumerate() {
        let beside = gaps[at + 1..]
            .iter()
            .find(|(other, it)| other != host && it.from < gap.until && gap.from < it.until);
        verdict.demand(Promise::A1OneAtATime, beside.is_none(), || {
            format!("two hosts answered nobody at the same time: {gap} and {beside:?}")
        });
    }
}

/// The longest time that a host answered nobody.
pub(super) fn longest_gap(hosts: &[Vec<Stretch>]) -> Duration {
    let gaps = hosts.iter().flatten().filter(|stretch| stretch.answer == Answer::Refused);
    gaps.map(|gap| gap.until.duration_since(gap.from)).max().unwrap_or_default()
}

/// E1: the application of `version` was started once on each host.
pub(super) fn started_once(verdict: &mut Verdict, agent: &AgentHandle, version: &str) {
    let mut starts = 0;
    for log in paths_in(&agent.data.join("logs").join("web")) {
        let text = fs::read_to_string(log).unwrap_or_default();
        let own = format!("web {version} pid ");
        let is_start = |line: &&str| line.starts_with(&own) && line.contains(" listens on ");
        starts += text.lines().filter(is_start).count();
    }
    verdict.demand(Promise::E1OneStart, starts == 1, || {
        format!("{} started {version} {starts} times", agent.name)
    });
}

/// E2: each release folder is what was pushed under the version that it names.
pub(super) fn releases_are_whole(verdict: &mut Verdict, agent: &AgentHandle, pushed: &Path) {
    releases_in(verdict, &agent.data.join("releases").join("web"), pushed);
}

fn releases_in(verdict: &mut Verdict, releases: &Path, pushed: &Path) {
    for release in paths_in(releases) {
        let version = fs::read_to_string(release.join("VERSION")).unwrap_or_default();
        let original = pushed.join(&version);
        let names = |dir: &Path| -> BTreeSet<_> {
            paths_in(dir).iter().filter_map(|it| it.file_name().map(ToOwned::to_owned)).collect()
        };
        let is_whole = !version.is_empty()
            && names(&release) == names(&original)
            && names(&original).iter().all(|name| {
                fs::read(release.join(name)).ok() == fs::read(original.join(name)).ok()
            });
        verdict.demand(Promise::E2Whole, is_whole, || {
            format!("{} is not the release {version:?} that was pushed", release.display())
        });
    }
}

/// A8, A9: the processes are the coordinator, the agents with their gates, and one application
/// under one shim for each host.
pub(super) fn processes(verdict: &mut Verdict, cluster: &Cluster) {
    verdict.demand_soon(Promise::A8OneProcess, || {
        let all = command_lines();
        cluster.agents().iter().find_map(|agent| {
            let (address, dir) = (agent.address.to_string(), agent.data.display().to_string());
            let of = |what: &str, own: &str| {
                all.values().filter(|it| it.contains(what) && it.contains(own)).count()
            };
            let (applications, shims) =
                (of("./server --address ", &address), of(" shim --dir ", &dir));
            ((applications, shims) != (1, 1))
                .then(|| format!("{}: {applications} applications under {shims} shims", agent.name))
        })
    });
    let expected = 1 + 4 * cluster.agents().len();
    verdict.demand_soon(Promise::A9NothingLeft, || {
        let ours = cutover_runtime::descendants::all();
        let all = command_lines();
        (ours.len() != expected).then(|| {
            let told = ours.iter().map(|pid| all.get(&pid.as_raw_nonzero().get()));
            format!("{} processes, not {expected}: {:?}", ours.len(), told.collect::<Vec<_>>())
        })
    });
}

/// A9: the files of the daemons are those that were there `before`, but for ids and numbers of
/// releases. Staging folders, half archives and temporary files are not among those.
pub(super) fn files(verdict: &mut Verdict, cluster: &Cluster, before: &BTreeMap<String, usize>) {
    verdict.demand_soon(Promise::A9NothingLeft, || {
        let now = shape(cluster);
        let differs = |(path, count): (&String, &usize)| {
            (before.get(path) != Some(count)).then(|| format!("{count} of {path}"))
        };
        let more: Vec<String> = now.iter().filter_map(differs).collect();
        let gone: Vec<&String> = before.keys().filter(|path| !now.contains_key(*path)).collect();
        (!more.is_empty() || !gone.is_empty()).then(|| format!("files: {more:?}, gone: {gone:?}"))
    });
}

/// Returns the paths of everything that daemons keep, with ids taken out, and how often each is there.
pub(super) fn shape(cluster: &Cluster) -> BTreeMap<String, usize> {
    let agents = cluster.agents().iter().map(|agent| agent.data.clone());
    let mut look: Vec<PathBuf> = agents.chain([cluster.coordinator_data()]).collect();
    let mut found = BTreeMap::new();
    while let Some(path) = look.pop() {
        let relative = path.strip_prefix(cluster.folder()).unwrap_or(&path);
        let mut words: Vec<String> = Vec::new();
        for part in relative {
            let part = part.to_string_lossy();
            let is_id =
                part.len() >= 32 && part.bytes().all(|it| it.is_ascii_hexdigit() || it == b'-');
            words.push(if is_id { "ID".to_owned() } else { part.into_owned() });
        }
        let name = words.join("/");
        // What is within a release is compared byte by byte, what is within sled is its own, and a
        // record that was not finished goes with its instance's folder, which is counted.
        let elsewhere = ["releases/web/", "store/sled/", "archives/sha256/ID"];
        let is_record = name.contains("instances/web/ID/") && name.contains(".tmp-");
        let is_counted = !is_record && !elsewhere.iter().any(|part| name.contains(part));
        if is_counted {
            *found.entry(name).or_default() += 1;
        }
        look.extend(paths_in(&path));
    }
    found
}

fn command_lines() -> BTreeMap<i32, String> {
    let pids = paths_in(Path::new("/proc"));
    let line = |path: PathBuf| {
        let pid = path.file_name()?.to_str()?.parse().ok()?;
        let bytes = fs::read(path.join("cmdline")).ok()?;
        Some((pid, String::from_utf8_lossy(&bytes).replace('\0', " ")))
    };
    pids.into_iter().filter_map(line).collect()
}

fn paths_in(dir: &Path) -> Vec<PathBuf> {
    let is_link = fs::symlink_metadata(dir).is_ok_and(|it| it.is_symlink());
    let entries = if is_link { None } else { fs::read_dir(dir).ok() };
    entries.into_iter().flatten().flatten().map(|it| it.path()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Stretches of a tenth of a second each, from `begin` tenths on: a version, or "-" for nobody.
    fn seen(begin: u32, answers: &[&str]) -> Vec<Stretch> {
        let start = Instant::now();
        let at = |tenths: u32| start + Duration::from_millis(100) * tenths;
        let stretch = |(index, answer): (u32, &&str)| Stretch {
            answer: match *answer {
                "-" => Answer::Refused,
                version => Answer::From { version: version.to_owned(), pid: "7".to_owned() },
            },
            from: at(begin + index),
            until: at(begin + index + 1),
        };
        (0..).zip(answers).map(stretch).collect()
    }

    fn broken(hosts: &[Vec<Stretch>]) -> Vec<Promise> {
        let mut verdict = Verdict::default();
        answered(&mut verdict, hosts, "1", "2");
        verdict.0.iter().map(|broken| broken.promise).collect()
    }

    #[test]
    fn a_replacement_in_place_keeps_every_promise() {
        assert_eq!(broken(&[seen(0, &["1", "-", "2"]), seen(3, &["1", "-", "2"])]), []);
        assert_eq!(broken(&[seen(0, &["1", "2"])]), []);
    }

    #[test]
    fn an_outage_that_replaces_nothing_is_found() {
        assert_eq!(broken(&[seen(0, &["1", "-", "1", "-", "2"])]), [Promise::A2GoesOn]);
        assert_eq!(broken(&[seen(0, &["1", "-", "2", "-"])]), [Promise::A2GoesOn]);
        assert_eq!(broken(&[seen(0, &["1", "-", "1"])]), [Promise::A2GoesOn]);
        assert_eq!(broken(&[seen(0, &["1"])]), [Promise::A2GoesOn]);
    }

    #[test]
    fn two_hosts_that_are_down_at_once_are_found() {
        let hosts = [seen(0, &["1", "-", "2"]), seen(0, &["1", "-", "2"])];
        assert_eq!(broken(&hosts), [Promise::A1OneAtATime]);
    }

    #[test]
    fn a_release_that_is_not_what_was_pushed_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let (pushed, data) = (folder.path().join("releases"), folder.path().join("web-1"));
        let unpacked = data.join("releases/web/ab12");
        for dir in [&pushed.join("7"), &unpacked] {
            fs::create_dir_all(dir).unwrap();
            fs::write(dir.join("VERSION"), "7").unwrap();
            fs::write(dir.join("server"), "a program").unwrap();
        }
        let of = |data: &Path| {
            let mut verdict = Verdict::default();
            releases_in(&mut verdict, &data.join("releases/web"), &pushed);
            verdict.0.len()
        };
        assert_eq!(of(&data), 0);

        fs::write(unpacked.join("server"), "a prog").unwrap();
        assert_eq!(of(&data), 1);
        fs::remove_file(unpacked.join("server")).unwrap();
        assert_eq!(of(&data), 1);
    }
}
