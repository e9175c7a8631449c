//! Real traffic through a real gate: clients, instances and sockets of this machine.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on shall say where")]

mod bodies;
mod drain;
mod edge;
mod encrypted;
mod gone;
mod handed;
mod hold;
mod instance;
mod lasting;
mod limits;
mod outsiders;
mod passed_on;
mod passed_on_tls;
mod process;
mod proxied;
mod requests;
mod support;
mod swap;
mod takeover;
mod uploads;
