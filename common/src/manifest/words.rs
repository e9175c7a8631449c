//! Every key of `cutover.toml`: what is known, what is planned, and where a wrong one belongs.

use crate::{HookKind, JudgeSetting, nearest::nearest};

/// The keys of one table.
#[derive(Debug)]
pub(super) struct Words {
    /// The table as people name it: "[run]". Empty for the top of the file.
    pub(super) table: &'static str,
    pub(super) known: &'static [&'static str],
    /// Words of the design that this version does not do, each with what to do instead.
    pub(super) later: &'static [(&'static str, &'static str)],
}

/// The problem of a word that is planned and not done.
pub(super) const NOT_SUPPORTED: &str = "not supported by this version of cutover";

const REMOVE: &str = "remove it";
const PUSH: &str = "remove it, build outside and push with `cutover release push`";

pub(super) const TOP: Words = Words {
    table: "",
    known: &[
        "application",
        "run",
        "service",
        "health",
        "hooks",
        "checks",
        "compatibility",
        "deploy",
    ],
    later: &[("source", PUSH), ("build", PUSH)],
};

pub(super) const APPLICATION: Words =
    Words { table: "[application]", known: &["name"], later: &[] };

pub(super) const RUN: Words = Words {
    table: "[run]",
    known: &["command", "env", "stop_signal", "stop_within", "shared"],
    later: &[],
};

pub(super) const SERVICE: Words = Words {
    table: "[service]",
    known: &[
        "port",
        "protocol",
        "swap",
        "drain",
        "drain_long_lived",
        "keep_warm",
        "tls",
        "sticky",
        "proxy_protocol",
        "trusted_peers",
        "limits",
    ],
    later: &[],
};

pub(super) const TLS: Words =
    Words { table: "[service.tls]", known: &["certificate", "key"], later: &[] };

pub(super) const STICKY: Words =
    Words { table: "[service.sticky]", known: &["cookie", "header"], later: &[] };

pub(super) const LIMITS: Words = Words {
    table: "[service.limits]",
    known: &[
        "head",
        "body",
        "head_within",
        "stall_within",
        "idle_within",
        "answer_within",
        "connections",
    ],
    later: &[],
};

pub(super) const HEALTH: Words = Words {
    table: "[health]",
    known: &[
        "http",
        "tcp",
        "command",
        "port",
        "every",
        "timeout",
        "passes",
        "failures",
        "start_within",
    ],
    later: &[("grpc", "write http, tcp or command")],
};

pub(super) const HOOKS: Words = Words {
    table: "[hooks]",
    known: &["install", "before_start", "after_start", "smoke", "before_stop", "after_stop"],
    later: &[],
};

const fn hook(table: &'static str) -> Words {
    Words { table, known: &["command", "within"], later: &[] }
}

static INSTALL: Words = hook("[hooks.install]");
static BEFORE_START: Words =
    Words { table: "[hooks.before_start]", known: &["command", "within", "once"], later: &[] };
static AFTER_START: Words = hook("[hooks.after_start]");
static SMOKE: Words = hook("[hooks.smoke]");
static BEFORE_STOP: Words = hook("[hooks.before_stop]");
static AFTER_STOP: Words = hook("[hooks.after_stop]");

/// Returns the keys of one hook.
pub(super) const fn hook_words(kind: HookKind) -> &'static Words {
    match kind {
        HookKind::Install => &INSTALL,
        HookKind::BeforeStart => &BEFORE_START,
        HookKind::AfterStart => &AFTER_START,
        HookKind::Smoke => &SMOKE,
        HookKind::BeforeStop => &BEFORE_STOP,
        HookKind::AfterStop => &AFTER_STOP,
    }
}

pub(super) const CHECK: Words = Words {
    table: "[[checks]]",
    known: &[
        "name",
        "prometheus",
        "source",
        "fail_above",
        "fail_below",
        "command",
        "every",
        "within",
        "failures",
    ],
    later: &[],
};

pub(super) const COMPATIBILITY: Words =
    Words { table: "[compatibility]", known: &["beside"], later: &[] };

pub(super) const DEPLOY: Words = Words {
    table: "[[deploy]]",
    known: &[
        "environment",
        "strategy",
        "batch",
        "canary",
        "cutover",
        "hold",
        "keep",
        "approve",
        "groups",
        "sliding",
        "pause_after",
        "zone",
        "zone_soak",
        "min_healthy",
        "zone_min_healthy",
        "max_load",
        "max_failed",
        "max_unreachable",
        "unreachable",
        "healthy_for",
        "healthy_within",
        "progress_within",
        "soak",
        "bake",
        "auto_rollback",
    ],
    later: &[("approval", REMOVE)],
};

pub(super) const CANARY: Words = Words {
    table: "deploy.canary",
    known: &["hosts", "steps", "promote", "unsure", "judge", "checks", "header", "cookie"],
    later: &[],
};

pub(super) const CANARY_STEP: Words =
    Words { table: "deploy.canary.steps", known: &["weight", "hold"], later: &[] };

pub(super) const JUDGE: Words =
    Words { table: "deploy.canary.judge", known: &JudgeSetting::KEYS, later: &[] };

/// All tables, with the path that stands before their keys.
pub(super) static ALL: [(&str, &Words); 21] = [
    ("", &TOP),
    ("application.", &APPLICATION),
    ("run.", &RUN),
    ("service.", &SERVICE),
    ("service.tls.", &TLS),
    ("service.sticky.", &STICKY),
    ("service.limits.", &LIMITS),
    ("health.", &HEALTH),
    ("hooks.", &HOOKS),
    ("hooks.install.", &INSTALL),
    ("hooks.before_start.", &BEFORE_START),
    ("hooks.after_start.", &AFTER_START),
    ("hooks.smoke.", &SMOKE),
    ("hooks.before_stop.", &BEFORE_STOP),
    ("hooks.after_stop.", &AFTER_STOP),
    ("checks.", &CHECK),
    ("compatibility.", &COMPATIBILITY),
    ("deploy.", &DEPLOY),
    ("deploy.canary.", &CANARY),
    ("deploy.canary.steps.", &CANARY_STEP),
    ("deploy.canary.judge.", &JUDGE),
];

/// What people coming from other tools type, and what it is called here; by how their table begins.
const HABITS: &[(&str, &str, &str)] = &[
    ("[application]", "version", "remove it, the version is given by `cutover release push`"),
    ("[run]", "cmd", "write \"command\""),
    ("[run]", "args", "write them into \"command\", one string each"),
    ("[run]", "environment", "write \"env\""),
    ("[run]", "stop_timeout", "write \"stop_within\""),
    ("[service.tls]", "cert", "write \"certificate\""),
    ("[service.tls]", "chain", "write \"certificate\""),
    ("[service.limits]", "idle", "write \"idle_within\""),
    ("[service.limits]", "stall", "write \"stall_within\""),
    ("[service.limits]", "timeout", "write \"answer_within\""),
    ("[service.limits]", "max_connections", "write \"connections\""),
    ("[health]", "path", "write \"http\""),
    ("[health]", "url", "write http = \"/path\""),
    ("[health]", "interval", "write \"every\""),
    ("[health]", "start_period", "write \"start_within\""),
    ("[health]", "retries", "write \"failures\""),
    ("[run]", "linked_dirs", "write \"shared\""),
    ("[hooks]", "pre_stop", "write \"before_stop\""),
    ("[hooks]", "post_stop", "write \"after_stop\""),
    ("[hooks]", "pre_start", "write \"before_start\""),
    ("[hooks]", "post_start", "write \"after_start\""),
    ("[hooks]", "validate", "write \"smoke\""),
    ("[hooks.", "timeout", "write \"within\""),
    (
        "[hooks.",
        "once",
        "remove it, or do this in before_start: that alone runs on one host for all, the other hooks \
         are about the host that they run on",
    ),
    ("[[checks]]", "query", "write \"prometheus\""),
    ("[[checks]]", "url", "write source = \"main\": the coordinator's administrator names servers"),
    (
        "[[checks]]",
        "address",
        "write source = \"main\": the coordinator's administrator names servers",
    ),
    ("[[checks]]", "interval", "write \"every\""),
    ("[[checks]]", "timeout", "write \"within\""),
    ("[[checks]]", "threshold", "write \"fail_above\" or \"fail_below\""),
    ("[[checks]]", "failure_limit", "write \"failures\""),
    ("[[deploy]]", "env", "write \"environment\""),
    ("[[deploy]]", "window", "write batch = 2 and sliding = true"),
    ("[[deploy]]", "serial", "write \"batch\""),
    ("[[deploy]]", "max_parallel", "write \"batch\""),
];

/// What a key of a table is.
#[derive(Debug)]
pub(super) enum Standing {
    Known,
    /// Planned; says what to do instead.
    Later(&'static str),
    /// Says what to write instead.
    Unknown(String),
}

impl Words {
    /// Judges `key`.
    pub(super) fn judge(&self, key: &str) -> Standing {
        if self.known.contains(&key) {
            return Standing::Known;
        }
        if let Some((_, instead)) = self.later.iter().find(|(later, _)| *later == key) {
            return Standing::Later(instead);
        }
        Standing::Unknown(self.instead_of(key))
    }

    fn instead_of(&self, key: &str) -> String {
        let is_habit =
            |habit: &&(&str, &str, &str)| self.table.starts_with(habit.0) && habit.1 == key;
        if let Some((_, _, instead)) = HABITS.iter().find(is_habit) {
            return (*instead).to_owned();
        }
        if let Some(table) = table_of(key) {
            return format!("move it to {table}");
        }
        if let Some(name) = nearest(key, self.known.iter().copied()) {
            return format!("write {name:?}");
        }
        format!("valid names: {}", self.known.join(", "))
    }
}

/// Returns the one table that knows `key`, if there is one.
fn table_of(key: &str) -> Option<&'static str> {
    let knows = |words: &&Words| !words.table.is_empty() && words.known.contains(&key);
    let mut tables = ALL.iter().map(|(_, words)| *words).filter(knows);
    match (tables.next(), tables.next()) {
        (Some(words), None) => Some(words.table),
        _ => None,
    }
}
