//! The messages and services of Cutover, generated from `proto/cutover/v1/`.
//!
//! Only `cutover-common`'s `wire` and the gRPC borders of the programs name these types.

/// Version 1 of the protocol.
#[allow(
    clippy::all,
    clippy::allow_attributes_without_reason,
    clippy::too_many_lines,
    unused_qualifications,
    reason = "generated code; which of these it needs depends on the features"
)]
pub mod v1 {
    include!(concat!(env!("OUT_DIR"), "/cutover.v1.rs"));
}

/// Messages that hold secrets say nothing of them.
mod unprintable {
    use std::fmt;

    use crate::v1;

    impl fmt::Debug for v1::Secret {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.debug_struct("Secret").field("id", &self.id).finish_non_exhaustive()
        }
    }

    impl fmt::Debug for v1::ConfigureEnvironmentRequest {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            let mut shown = f.debug_struct("ConfigureEnvironmentRequest");
            shown.field("environment", &self.environment).finish_non_exhaustive()
        }
    }
}
