//! Tests of whole runs: that they can be repeated, what they find, and how they are told.

mod determinism;
mod kept;
mod program;
mod seeds;
mod text;
