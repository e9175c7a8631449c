//! Requests: from a client's connection to an instance and back.

mod body;
mod exchange;
mod head;
mod pace;
mod pass;
mod refuse;
mod rest;
mod serve;
mod streams;
mod strict;

pub(crate) use self::{body::Upload, serve::serve};
