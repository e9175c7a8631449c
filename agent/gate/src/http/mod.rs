//! Requests: from a client's connection to an instance and back.

mod body;
mod exchange;
mod head;
mod pass;
mod refuse;
mod serve;

pub(crate) use self::{
    body::Upload,
    serve::{closed, serve},
};
