//! What the programs of Cutover share and its cores may not touch: time, luck, TLS, logs, files.

pub mod archive;
pub mod clock;
pub mod descendants;
pub mod dial;
pub mod dice;
pub mod shutdown;
pub mod telemetry;
pub mod tls;
