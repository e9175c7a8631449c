//! The whole file: from text to a [`Manifest`].

use serde::{Deserialize, Serialize};
use toml::de::DeTable;

use super::{
    checks::read_checks,
    compatibility::{VersionRange, read_compatibility},
    deploy::{DeploySpec, name, read_deploys},
    health::{ProbedService, read_health},
    hooks::read_hooks,
    mistake::{ManifestMistakes, Mistake},
    reader::{Reader, Section},
    run::read_run,
    service::read_service,
    syntax::SyntaxMap,
    words::{APPLICATION, TOP},
};
use crate::{ApplicationName, Check, CommandCheck, Hook, ProbeSpec, RunSpec, Service};

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
    /// What its canaries are asked.
    #[serde(default)]
    pub checks: Vec<Check>,
    /// Beside which versions this one can serve. None: any.
    #[serde(default)]
    pub beside: Option<VersionRange>,
    /// At most one for each environment.
    pub deploys: Vec<DeploySpec>,
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

    /// Returns the checks that agents run.
    pub fn command_checks(&self) -> Vec<CommandCheck> {
        self.checks.iter().filter_map(Check::command).collect()
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
    let probed = match (&service, top.item("service")) {
        (Some(service), _) => ProbedService::At { port: service.port, swap: service.swap },
        (None, Some(_)) => ProbedService::Unreadable,
        (None, None) => ProbedService::None,
    };
    let probe = read_health(top, probed, reader);
    let hooks = read_hooks(top, reader);
    let checks = read_checks(top, reader);
    let beside = read_compatibility(top, reader);
    let names =
        checks.as_ref().map(|checks| checks.iter().map(|check| check.name.clone()).collect());
    let deploys = read_deploys(top, names.as_ref(), reader);
    Some(Manifest {
        application: application?,
        run: run?,
        service,
        probe,
        hooks: hooks?,
        checks: checks?,
        beside,
        deploys: deploys?,
    })
}

fn read_application(top: &Section<'_>, reader: &mut Reader<'_>) -> Option<ApplicationName> {
    let item = top.required("application", "write [application] with name = \"web\"", reader)?;
    let section = Section::open(&item, &APPLICATION, reader)?;
    section.required("name", "write name = \"web\"", reader)?;
    section.read("name", reader, name)
}
