//! The command line parses what the contract names, and refuses the rest.

use std::time::Duration;

use clap::{CommandFactory as _, error::ErrorKind};

use super::{fleet::AgentsCommand, release::ReleaseCommand, values::*, *};

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(std::iter::once("cutover").chain(line.split_whitespace()))
}

fn deploy(line: &str) -> deploy::DeployArgs {
    let Command::Deploy(args) = parse(line).unwrap().command else {
        panic!("{line:?} is no deploy");
    };
    *args
}

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

/// Lines that scripts may rely on.
const KNOWN: &[&str] = &[
    "agents list",
    "agents list --output json",
    "agents show web-1",
    "agents token",
    "agents token --name web-1 --label zone=a --label tier=web",
    "agents label web-1 zone=b tier-",
    "agents drain web-1",
    "env freeze production --until 2026-12-27T08:00:00Z --reason holidays",
    "env freeze production --from 2026-12-24T00:00:00Z",
    "env thaw production",
    "env set production LOG=debug URL=http://a?b=c EMPTY= OLD-",
    "env set production LOG=debug --app web",
    "env secret production DB_PASSWORD",
    "env secret production DB_PASSWORD --app web --file ./password",
    "deploy web@1 --to production --despite-freeze login-is-down",
    "agents drain web-1 --reason disk",
    "agents drain web-1 --undo",
    "agents drain web-1 --force --reason smoke",
    "agents remove web-1",
    "env create production --select tier=web,zone=a",
    "env list",
    "env show production --output json",
    "release push . --version 1.4.0",
    "release push dist",
    "release list",
    "release list web",
    "deploy web@1.4.0 --to production",
    "deploy web@1.4.0 --to production --plan --output json",
    "deploy web@1.4.0 --to production --strategy rolling --batch 1,5,20% --min-healthy 75% \
     --max-failed 1 --max-unreachable 10% --healthy-for 10s --healthy-within 2m \
     --progress-within 10m --soak 1m --bake 10m --no-auto-rollback --no-watch --timeout 30m \
     --request-id 67e55044-10b1-426f-9247-bb680e5fe0c8",
    "deploy web@1.4.0 --to production --if-busy queue",
    "retry web --if-busy queue",
    "rollback web --if-busy supersede",
    "simulate web@1.4.0 --to production",
    "simulate web@1.4.0 --to production --fail web-3 --fail web-4 --lose zone-b --promote \
     --starts-in 20s --batch 2 --strategy rolling --if-busy supersede --output json",
    "status",
    "status web",
    "watch web --timeout 5m",
    "why 0193ab12-3456",
    "why web web-3",
    "why web --batch 2 --output json",
    "why 0193ab12-3456-7abc-8def-0123456789ab --output json",
    "history",
    "history web --to production --limit 100",
    "pause web",
    "resume web",
    "abort web --reason too-slow",
    "retry web",
    "rollback web --reason @/etc/passwd",
    "exclude web web-1",
    "exclude web web-1 web-2 --reason disk --output json \
     --request-id 67e55044-10b1-426f-9247-bb680e5fe0c8",
    "skip web web-1 --reason later",
    "abort web --stay",
    "version",
    "version --output json",
    "completions bash",
    "completions zsh",
    "completions fish",
    "--config /tmp/login.json status",
    "status --config /tmp/login.json",
];

#[test]
fn the_names_of_the_contract_parse() {
    let hash = "0".repeat(64);
    let login = format!("login https://c.example.com:7441 --token T --ca-hash sha256:{hash}");
    for line in KNOWN.iter().copied().chain([login.as_str()]) {
        if let Err(error) = parse(line) {
            panic!("{line}: {error}");
        }
    }
}

#[test]
fn wrong_use_exits_with_2_and_help_with_0() {
    for (line, kind) in [
        ("", ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand),
        ("deply web@1", ErrorKind::InvalidSubcommand),
        ("deploy web --to production", ErrorKind::ValueValidation),
        ("deploy web@1", ErrorKind::MissingRequiredArgument),
        ("deploy web@1 --to Production", ErrorKind::ValueValidation),
        ("deploy web@../../etc --to production", ErrorKind::ValueValidation),
        ("deploy web@1 --to production --timeout 5", ErrorKind::ValueValidation),
        ("deploy web@1 --to production --request-id 7", ErrorKind::ValueValidation),
        ("env create production", ErrorKind::MissingRequiredArgument),
        ("history --limit 0", ErrorKind::ValueValidation),
        ("completions powershell", ErrorKind::InvalidValue),
        ("promote", ErrorKind::MissingRequiredArgument),
        ("env freeze production --until tomorrow", ErrorKind::ValueValidation),
        ("env set production", ErrorKind::MissingRequiredArgument),
        ("env set production LOG", ErrorKind::ValueValidation),
        ("env set production PATH=/bin", ErrorKind::ValueValidation),
        ("env secret production LD_PRELOAD", ErrorKind::ValueValidation),
        ("env freeze production --weekly weekends", ErrorKind::ValueValidation),
        ("exclude web", ErrorKind::MissingRequiredArgument),
        ("skip web", ErrorKind::MissingRequiredArgument),
        ("pause web --stay", ErrorKind::UnknownArgument),
        ("exclude web Web-1", ErrorKind::ValueValidation),
        ("simulate web@1", ErrorKind::MissingRequiredArgument),
        ("simulate web@1 --to production --fail Web-1", ErrorKind::ValueValidation),
        ("simulate web@1 --to production --starts-in soon", ErrorKind::ValueValidation),
        ("simulate web@1 --to production --watch", ErrorKind::UnknownArgument),
    ] {
        let error = parse(line).unwrap_err();

        assert_eq!((error.kind(), error.exit_code()), (kind, 2), "{line}: {error}");
    }
    let help = parse("--help").unwrap_err();
    assert_eq!(help.exit_code(), 0);
    assert!(help.to_string().contains("70   a bug in Cutover"));
}

#[test]
fn an_empty_setting_is_not_taken_for_an_absent_one() {
    let line = ["cutover", "deploy", "web@1", "--to", "production", "--batch", ""];

    assert_eq!(Cli::try_parse_from(line).unwrap_err().kind(), ErrorKind::InvalidValue);
}

#[test]
fn a_deploy_is_watched_unless_it_is_said_otherwise() {
    let is_watched = |flags: &str| {
        deploy(&format!("deploy web@1 --to production {flags}")).following.is_watched()
    };

    assert!(is_watched(""));
    assert!(is_watched("--watch"));
    assert!(!is_watched("--no-watch"));
    assert!(is_watched("--no-watch --watch"));
    assert!(!is_watched("--watch --no-watch"));
}

#[test]
fn a_deploy_carries_what_was_typed() {
    let args = deploy("deploy web@1.4.0 --to production --batch 25% --timeout 90s");

    assert_eq!(args.release.0.to_string(), "web@1.4.0");
    assert_eq!(args.environment.as_str(), "production");
    assert_eq!(args.settings.batch.as_deref(), Some("25%"));
    assert_eq!(args.settings.strategy, None);
    assert_eq!(args.wait.timeout, Some(Duration::from_secs(90)));
    assert_eq!(args.output.output, OutputFormat::Text);
}

#[test]
fn a_releases_version_has_no_default() {
    let version = |line: &str| {
        let Command::Release(ReleaseCommand::Push { version, .. }) = parse(line).unwrap().command
        else {
            panic!("{line:?} is no push");
        };
        version
    };

    assert_eq!(version("release push ."), None);
    assert_eq!(version("release push . --version 1.0").unwrap().as_str(), "1.0");
}

// promises.md T7.4: an argument is never the name of something to read.
#[test]
fn a_file_is_never_read_in_place_of_an_argument() {
    let secret = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(secret.path(), "web@1").unwrap();
    let at = format!("@{}", secret.path().display());

    for line in [
        vec!["deploy", &at, "--to", "production"],
        vec!["deploy", "web@1", "--to", &at],
        vec!["why", &at],
        vec!["why", "-"],
        vec!["status", &at],
        vec!["agents", "show", &at],
        vec!["env", "create", "production", "--select", &at],
        vec![&at],
    ] {
        assert!(Cli::try_parse_from([vec!["cutover"], line.clone()].concat()).is_err(), "{line:?}");
    }
    let line = ["cutover", "abort", "web", "--reason", &at];
    let Command::Abort(args) = Cli::try_parse_from(line).unwrap().command else {
        panic!("{line:?} is no abort");
    };
    assert_eq!(args.control.reason, at);
}

#[test]
fn a_token_is_not_shown() {
    let hash = "0".repeat(64);
    let line = format!("login https://c:7441 --token t0p-secret --ca-hash sha256:{hash}");

    assert!(!format!("{:?}", parse(&line).unwrap()).contains("t0p-secret"));
    // Nor by an error about something else.
    let error = parse("login http://c --token t0p-secret --ca-hash sha256:0").unwrap_err();
    assert!(!error.to_string().contains("t0p-secret"), "{error}");
}

#[test]
fn an_address_of_a_coordinator_is_https_with_host_and_port_and_nothing_else() {
    for good in ["https://c:7441", "https://10.0.0.1:7441/", "https://[::1]:7441"] {
        assert!(good.parse::<CoordinatorUrl>().is_ok(), "{good}");
    }
    for bad in [
        "",
        "c:7441",
        "http://c:7441",
        "https://c",
        "https://:7441",
        "https://c:7441/path",
        "https://c:7441?x",
        "https://me@c:7441",
        "https://c:99999",
        "file:///etc/passwd",
    ] {
        assert_eq!(bad.parse::<CoordinatorUrl>(), Err(InvalidValue::Url), "{bad}");
    }
}

#[test]
fn labels_are_pairs_and_no_key_is_given_twice() {
    let selector: Selector = "tier=web,zone=a".parse().unwrap();
    assert_eq!(selector.0.len(), 2);
    for bad in ["", "tier", "tier=", "=web", "a=b,", "a=b,,c=d", "a=b c", "a=b=c"] {
        assert_eq!(bad.parse::<Selector>(), Err(InvalidValue::Label), "{bad:?}");
    }
    assert_eq!("a=b,a=c".parse::<Selector>(), Err(InvalidValue::LabelTwice("a".to_owned())));
    assert_eq!("zone-".parse(), Ok(LabelChange::Unset("zone".to_owned())));
    assert_eq!("zone".parse::<LabelChange>(), Err(InvalidValue::LabelChange));
    assert_eq!("-".parse::<LabelChange>(), Err(InvalidValue::LabelChange));
}

#[test]
fn a_rollout_is_named_by_id_beginning_or_application() {
    for good in ["web", "0193ab12", "0193ab12-", "0193ab12-3456-7abc-8def-0123456789ab"] {
        assert!(good.parse::<RolloutArg>().is_ok(), "{good}");
    }
    for bad in ["", "-", "../x", "web production", "WEB", "\u{1b}[2J"] {
        assert_eq!(bad.parse::<RolloutArg>(), Err(InvalidValue::Rollout), "{bad:?}");
    }
}

#[test]
fn agents_label_takes_changes_in_any_order() {
    let command = parse("agents label web-1 zone- tier=web").unwrap().command;
    let Command::Agents(AgentsCommand::Label { agent, changes }) = command else {
        panic!("it is no label");
    };
    assert_eq!(agent.as_str(), "web-1");
    assert_eq!(changes.iter().map(LabelChange::key).collect::<Vec<_>>(), ["zone", "tier"]);
}

#[test]
fn the_reference_names_every_command_and_flag() {
    let reference = include_str!("../../../../docs/cli.md");
    let mut waiting = vec![(String::new(), Cli::command())];
    while let Some((path, command)) = waiting.pop() {
        let name = format!("{path}{}", command.get_name());
        if !command.has_subcommands() {
            assert!(reference.contains(&name), "docs/cli.md does not know `{name}`");
        }
        for flag in command.get_arguments().filter_map(|argument| argument.get_long()) {
            let is_everywhere = matches!(flag, "help" | "version") && command.has_subcommands();
            assert!(
                is_everywhere || reference.contains(&format!("--{flag}")),
                "docs/cli.md does not know --{flag} of `{name}`"
            );
        }
        waiting.extend(command.get_subcommands().map(|sub| (format!("{name} "), sub.clone())));
    }
}
