//! The rows of the list of faults, and where each is proved.

/// Where a row is proved.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Proof {
    /// Here, on the cores.
    Cores,
    /// With real programs, or in a test of the one part that it is about.
    Live,
    /// What it is about does not exist yet.
    Later,
}

impl Proof {
    /// Returns the word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Cores => "cores",
            Self::Live => "live",
            Self::Later => "not built",
        }
    }
}

/// One row.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    pub number: u8,
    pub name: &'static str,
    pub proof: Proof,
}

macro_rules! rows {
    ($($number:literal $proof:ident $name:literal,)+) => {
        &[$(Row { number: $number, name: $name, proof: Proof::$proof },)+]
    };
}

/// All rows, by number.
pub const ROWS: &[Row] = rows! {
    1 Cores "agent killed before its acceptance is durable",
    2 Cores "agent killed when its acceptance is durable and not told",
    3 Cores "agent killed during a fetch",
    4 Live "agent killed while it unpacks",
    5 Cores "agent killed during a hook",
    6 Cores "agent killed while it waits for permission",
    7 Cores "agent killed during a stop",
    8 Cores "agent killed between stop and start",
    9 Live "agent killed while a release gets its name",
    10 Cores "agent killed before a start is durable",
    11 Cores "agent killed during a start",
    12 Cores "agent killed while it watches health",
    13 Cores "agent killed before it told of settled health",
    14 Cores "agent killed before it removes what is not needed",
    15 Cores "agent killed on a way back",
    16 Cores "agent killed again and again",
    17 Cores "agent stopped for longer than its lease",
    18 Live "agent upgraded in a rollout",
    19 Live "journal of a newer agent",
    20 Cores "coordinator killed before a deploy is stored",
    21 Cores "coordinator killed during a rollout",
    22 Cores "coordinator killed between plan and first step",
    23 Cores "coordinator killed between token and goal",
    24 Cores "coordinator killed while hosts switch",
    25 Cores "coordinator killed in a soak or bake",
    26 Later "coordinator killed during a traffic flip",
    27 Later "coordinator killed between flip and drain",
    28 Cores "coordinator killed on a way back",
    29 Cores "coordinator killed again and again",
    30 Later "leader stopped while another is elected",
    31 Cores "two coordinators of one disk",
    32 Cores "coordinator restored from a backup",
    33 Cores "coordinator and store lost for ever",
    34 Cores "partition of both ways",
    35 Cores "partition of the way up",
    36 Cores "partition of the way down",
    37 Later "leader sees half of the agents",
    38 Cores "flapping link",
    39 Cores "half-open connection",
    40 Cores "messages repeated, reordered, late",
    41 Cores "a stop that waited for a fresh lease",
    42 Cores "links stop one by one",
    43 Cores "slow and lossy links",
    44 Later "black hole for large packets",
    45 Later "wrong names in DNS",
    46 Cores "connection reset by a middlebox",
    47 Live "a thousand agents come back at once",
    48 Later "etcd: quorum lost",
    49 Later "etcd: lease expires under its holder",
    50 Later "etcd: compaction past a watch",
    51 Later "etcd: no space, write applied",
    52 Later "etcd: request too large",
    53 Later "etcd: restored snapshot",
    54 Later "etcd: stale read",
    55 Cores "coordinator's store fails",
    56 Cores "agent's disk full before a stop",
    57 Cores "agent's disk full after a switch",
    58 Later "no inodes",
    59 Later "read-only disk",
    60 Cores "EIO once",
    61 Cores "slow disk",
    62 Cores "power cut",
    63 Cores "bit flip in a journal",
    64 Live "sled: snapshot cut short",
    65 Live "sled: panic at open",
    66 Later "coordinator out of file descriptors",
    67 Later "agent out of file descriptors",
    68 Cores "no room for processes",
    69 Cores "application killed for want of memory",
    70 Cores "agent killed for want of memory",
    71 Cores "coordinator killed for want of memory",
    72 Live "application forks and exits",
    73 Cores "application ignores its stop signal",
    74 Cores "application leaves a child behind",
    75 Live "old process answers for the new one",
    76 Cores "pid used again while the agent was away",
    77 Cores "host reboots in a deploy",
    78 Cores "wall clock of a host jumps",
    79 Cores "wall clock of a coordinator jumps",
    80 Later "clocks of two coordinators differ",
    81 Cores "host suspended and resumed",
    82 Later "leap second",
    83 Cores "damaged artifact",
    84 Live "artifact cut short or too long",
    85 Cores "artifact store hangs or breaks off",
    86 Cores "start from disk without the coordinator",
    87 Live "bytes changed on disk after they were verified",
    88 Cores "agent's certificate expires",
    89 Later "coordinator's certificate expires",
    90 Later "authority is rotated",
    91 Cores "removed agent has a session",
    92 Cores "second session of one agent",
    93 Live "two agents on one host",
    94 Live "versions of agent and coordinator differ",
    95 Later "coordinator downgraded with a newer store",
    96 Live "unknown field or word",
    97 Cores "hook hangs",
    98 Later "hook destroys the agent's state",
    99 Cores "health flaps",
    100 Cores "health is never heard of",
    101 Cores "first batch good, later one bad",
    102 Cores "a way back fails on a host",
    103 Cores "deploy during a way back",
    104 Cores "several applications of one host deploy at once",
    105 Cores "host added or removed in a rollout",
    106 Cores "abort",
    107 Later "storm of webhooks",
    108 Later "tag moved between build and deploy",
    109 Later "git server hangs",
    110 Later "build worker dies",
    111 Later "secret rotated in a rollout",
    112 Live "reader of an application's output dies",
    113 Later "coordinator's task panics",
    114 Later "deadlock",
    115 Later "bad configuration reloaded",
    116 Later "audit disk full",
    117 Later "old kernel",
    118 Later "denied by the security module",
    119 Later "systemd is away",
    120 Live "no test hooks in a release build",
};
