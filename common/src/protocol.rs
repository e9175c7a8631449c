//! What both ends of a session agree on before they speak.

use std::time::Duration;

/// The version of the messages in `proto/`. A coordinator serves exactly this one; an agent of
/// another version is told so and keeps its applications running.
pub const PROTOCOL: u32 = 1;

/// How often an agent sends a heartbeat, and how often h2 pings an idle connection.
///
/// With [`SILENCE_MAX`] it makes a half-open connection noticed within 15 s: two beats may be
/// lost before the silence counts.
pub const HEARTBEAT_EVERY: Duration = Duration::from_secs(5);

/// How long a peer may be silent before the session counts as dead: three heartbeats.
pub const SILENCE_MAX: Duration = Duration::from_secs(15);

/// How long an agent waits at the most before it dials again, after connections that could not be
/// made or broke.
pub const REDIAL_WITHIN: Duration = Duration::from_secs(30);

/// How long an echoed nonce permits disruption (design §3, promise A5: an abort holds after at
/// most this long, also for an agent that was cut off).
pub const LEASE: Duration = Duration::from_secs(10);
