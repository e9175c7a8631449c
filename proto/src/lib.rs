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
