//! What is agreed with the one that starts the gate: systemd, or whoever sends SIGHUP.

use std::{
    env,
    ffi::OsString,
    io,
    os::{
        linux::net::SocketAddrExt as _,
        unix::{
            ffi::OsStrExt as _,
            net::{SocketAddr, UnixDatagram},
        },
    },
    path::PathBuf,
};

use tokio::{
    process::Command,
    signal::unix::{SignalKind, signal},
};

/// Where systemd hears when a service of `Type=notify` is ready.
const NOTIFY_SOCKET: &str = "NOTIFY_SOCKET";

const TAKE_OVER: &str = "--take-over";

/// Says that this process serves, and that it is the one to look after: where it took over, another
/// one was.
pub(crate) fn is_ready() {
    let Some(socket) = env::var_os(NOTIFY_SOCKET) else { return };
    let text = format!("READY=1\nMAINPID={}\n", std::process::id());
    if let Err(error) = notify(&socket, &text) {
        tracing::warn!(%error, "the supervisor is not told that the gate is ready");
    }
}

fn notify(socket: &OsString, text: &str) -> io::Result<()> {
    let address = match socket.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        path => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(path))?,
    };
    UnixDatagram::unbound()?.send_to_addr(text.as_bytes(), &address).map(drop)
}

/// Starts the program that is on disk now whenever SIGHUP comes: it takes over. Never ends.
pub(crate) async fn upgrades() {
    let mut hangup = match signal(SignalKind::hangup()) {
        Ok(hangup) => hangup,
        Err(error) => {
            tracing::error!(%error, "SIGHUP will not upgrade the gate");
            return std::future::pending().await;
        }
    };
    while hangup.recv().await.is_some() {
        tracing::info!(signal = "SIGHUP", "starting the program that is on disk, to take over");
        match start() {
            Ok(mut child) => drop(tokio::spawn(async move {
                match child.wait().await {
                    Ok(ended) if !ended.success() => {
                        tracing::error!(%ended, "the process that was to take over has ended");
                    }
                    Ok(_) | Err(_) => {}
                }
            })),
            Err(error) => tracing::error!(%error, "the program on disk cannot be started"),
        }
    }
    std::future::pending::<()>().await;
}

fn start() -> io::Result<tokio::process::Child> {
    let mut arguments = env::args_os();
    let name = arguments.next().map(PathBuf::from);
    // The name by which it was started, as a new version has taken its place.
    let program = match name {
        Some(name) if name.components().count() > 1 => name,
        Some(_) | None => env::current_exe()?,
    };
    let mut arguments: Vec<OsString> = arguments.collect();
    if !arguments.iter().any(|it| it == TAKE_OVER) {
        arguments.push(TAKE_OVER.into());
    }
    Command::new(program).args(arguments).spawn()
}
