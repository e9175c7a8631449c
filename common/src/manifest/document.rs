//! The whole file: from text to a [`Manifest`].

use serde::{Deserialize, Serialize};
use toml::de::DeTable;

use super::{
    deploy::{DeploySpec, name, read_deploys},
    health::{PORTS, ServicePort, read_health},
    hooks::read_hooks,
    mistake::{ManifestMistakes, Mistake},
    problem::Problem,
    reader::{Item, Reader, Section},
    run::read_run,
    syntax::SyntaxMap,
    words::{APPLICATION, SERVICE, TOP},
};
use crate::{ApplicationName, Hook, ProbeSpec, RunSpec, nearest::nearest, pace::echo};

/// Everything that a `cutover.toml` says, checked.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
pub struct Manifest {
    pub application: ApplicationName,
    pub run: RunSpec,
    /// None: the application has no public port.
    pub service: Option<Service>,
    /// None: an instance counts as healthy while its process is alive.
    pub probe: Option<ProbeSpec>,
    pub hooks: Vec<Hook>,
    /// At most one for each environment.
    pub deploys: Vec<DeploySpec>,
}

/// The application's public side.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Deserialize, Serialize)]
pub struct Service {
    pub port: u16,
    pub protocol: Protocol,
}

/// What clients speak to the service.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    #[default]
    Http,
    Tcp,
}

impl Protocol {
    /// Both, in the order to list.
    pub const ALL: [Self; 2] = [Self::Http, Self::Tcp];

    /// Returns the name, as in `cutover.toml`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Tcp => "tcp",
        }
    }
}

impl Manifest {
    /// The largest file, in bytes (promises.md §4 row 16).
    pub const BYTES_MAX: usize = 256 * 1024;

    /// Parses the text of a `cutover.toml`.
    ///
    /// # Errors
    ///
    /// Returns all mistakes at once, each with its line and what to write instead.
    pub fn parse(text: &str) -> Result<Self, ManifestMistakes> {
        if text.len() > Self::BYTES_MAX {
            return Err(ManifestMistakes::new(too_large(text), Vec::new(), 0));
        }
        let (table, errors) = DeTable::parse_recoverable(text);
        let mut reader = Reader::new(text, SyntaxMap::new(text, table.get_ref(), &errors));
        let top = Section::top(table.get_ref(), &TOP, text, &mut reader);
        let manifest = read_manifest(&top, &mut reader);
        reader.finish(manifest)
    }

    /// Returns what the file says about deploys to `environment`.
    pub fn deploy_to(&self, environment: &crate::EnvironmentName) -> Option<&DeploySpec> {
        self.deploys.iter().find(|deploy| deploy.environment == *environment)
    }
}

fn too_large(text: &str) -> Mistake {
    Mistake {
        line: 1,
        column: 1,
        path: "cutover.toml".to_owned(),
        problem: format!("is {} bytes long", text.len()),
        instead: format!("write at most {} (256 KiB)", Manifest::BYTES_MAX),
    }
}

fn read_manifest(top: &Section<'_>, reader: &mut Reader<'_>) -> Option<Manifest> {
    // Each is read before any gives up, so that all mistakes are found.
    let application = read_application(top, reader);
    let run = read_run(top, reader);
    let service = read_service(top, reader);
    let service_port = match (&service, top.item("service")) {
        (Some(service), _) => ServicePort::Port(service.port),
        (None, Some(_)) => ServicePort::Unreadable,
        (None, None) => ServicePort::NoService,
    };
    let probe = read_health(top, service_port, reader);
    let hooks = read_hooks(top, reader);
    let deploys = read_deploys(top, reader);
    Some(Manifest {
        application: application?,
        run: run?,
        service,
        probe,
        hooks: hooks?,
        deploys: deploys?,
    })
}

fn read_application(top: &Section<'_>, reader: &mut Reader<'_>) -> Option<ApplicationName> {
    let item = top.required("application", "write [application] with name = \"web\"", reader)?;
    let section = Section::open(&item, &APPLICATION, reader)?;
    section.required("name", "write name = \"web\"", reader)?;
    section.read("name", reader, name)
}

fn read_service(top: &Section<'_>, reader: &mut Reader<'_>) -> Option<Service> {
    let item = top.item("service")?;
    let section = Section::open(&item, &SERVICE, reader)?;
    section.required("port", "write port = 8080", reader);
    let port = section.read("port", reader, |item| item.integer(&PORTS));
    let protocol = section.read("protocol", reader, protocol).unwrap_or_default();
    Some(Service { port: port?, protocol })
}

fn protocol(item: &Item<'_>) -> Result<Protocol, Problem> {
    let text = item.string("\"http\"")?;
    Protocol::ALL.into_iter().find(|protocol| protocol.name() == text).ok_or_else(|| {
        let instead = match nearest(&text.to_lowercase(), Protocol::ALL.map(Protocol::name)) {
            Some(name) => format!("write {name:?}"),
            None => "write \"http\" or \"tcp\"".to_owned(),
        };
        Problem::new(format!("{} is no protocol", echo(text)), instead)
    })
}
