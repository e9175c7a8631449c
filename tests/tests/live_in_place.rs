//! Hosts that hold one instance at a time: while one is out, its gate passes requests on, whatever
//! clients begin with.

use std::{collections::BTreeSet, fs, net::SocketAddr, os::unix::fs::PermissionsExt as _, thread};

use cutover_tests::live::{
    Clients, Cluster, Opening, PAGES, PROXY_HEADER, Sample, Trust, ask_once,
};
use rcgen::{CertificateParams, KeyPair};

const PORT: u16 = 8080;

/// More lines of a release's `cutover.toml`.
#[derive(Clone, Default)]
struct Lines {
    service: String,
    toml: String,
}

impl Lines {
    fn push(&self, cluster: &Cluster, version: &str) {
        let service = format!("swap = \"in_place\"\n{}", self.service);
        let sample = Sample { service: &service, toml: &self.toml, ..Sample::good(version) };
        cluster.push(&sample.write(cluster.folder(), &cluster.programs().sample), version);
    }

    /// Has every host show one certificate, which is for the first. Returns whom clients trust.
    fn with_certificate(&mut self, cluster: &Cluster) -> Trust {
        let name = cluster.agents()[0].address;
        let key = KeyPair::generate().expect("a key can be made");
        let params = CertificateParams::new(vec![name.to_string()]).expect("an address is a name");
        let certificate = params.self_signed(&key).expect("a key signs").pem();
        let [shown, secret] = ["web.pem", "web.key"].map(|file| cluster.folder().join(file));
        fs::write(&shown, &certificate).expect("the disk takes a file");
        fs::write(&secret, key.serialize_pem()).expect("the disk takes a file");
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).expect("it is ours");
        self.toml += &format!("[service.tls]\ncertificate = {shown:?}\nkey = {secret:?}\n");
        Trust::of(&certificate, name)
    }

    /// Has every host ask for PROXY headers, from where the tests' clients come and from `hosts`.
    fn with_headers(&mut self, hosts: &[SocketAddr]) {
        let hosts: String = hosts.iter().map(|host| format!(", \"{}\"", host.ip())).collect();
        self.service += &format!("proxy_protocol = true\ntrusted_peers = [\"127.0.0.1\"{hosts}]\n");
    }
}

fn deploy(cluster: &Cluster, release: &str) {
    let quick = ["--healthy-for", "300ms", "--healthy-within", "60s", "--batch", "1"];
    let mut args = vec!["deploy", release, "--to", "test"];
    args.extend(quick);
    cluster.cutover(&args).done();
}

/// What a deploy says of what clients notice.
fn plan(cluster: &Cluster, release: &str) -> String {
    cluster.cutover(&["deploy", release, "--to", "test", "--batch", "1", "--plan"]).done()
}

const PASSED_ON: &str = "each host passes its requests on to the others";

/// Replaces what runs three times while clients ask every host.
fn assert_nobody_notices(cluster: &Cluster, lines: &Lines, opening: &Opening) {
    lines.push(cluster, "1");
    lines.push(cluster, "2");
    deploy(cluster, "web@1");
    let said = plan(cluster, "web@2");
    assert!(said.contains(PASSED_ON), "{said}");

    let clients = Clients::ask_with(&cluster.hosts(PORT), &PAGES, opening);
    for (old, new) in [("1", "2"), ("2", "1"), ("1", "2")] {
        deploy(cluster, &format!("web@{new}"));
        let heard = clients.heard();
        heard.all_is_well();
        // Of two hosts the other one has moved, or has not. Of more some have, and each is asked.
        if cluster.agents().len() == 2 {
            heard.moved(old, new);
        }
        clients.heard().all_is_well().only(new);
    }
}

#[test]
fn no_request_fails_while_hosts_are_replaced_in_place_one_by_one() {
    assert_nobody_notices(&Cluster::start(2), &Lines::default(), &Opening::default());
}

#[test]
fn no_request_fails_where_the_service_has_a_certificate() {
    let cluster = Cluster::start(2);
    let mut lines = Lines::default();
    let tls = Some(lines.with_certificate(&cluster));

    assert_nobody_notices(&cluster, &lines, &Opening { tls, ..Opening::default() });
}

#[test]
fn no_request_fails_where_proxy_headers_are_asked_for_and_every_host_is_trusted() {
    let cluster = Cluster::start(3);
    let mut lines = Lines::default();
    lines.with_headers(&cluster.hosts(PORT));

    let header = &PROXY_HEADER;
    assert_nobody_notices(&cluster, &lines, &Opening { header, ..Opening::default() });

    // A release that trusts one host less says that it cannot be so.
    let mut fewer = Lines::default();
    fewer.with_headers(&cluster.hosts(PORT)[1..]);
    fewer.push(&cluster, "3");
    let said = plan(&cluster, "web@3");
    let lacks = format!("lacks web-1 ({})", cluster.agents()[0].address);
    assert!(!said.contains(PASSED_ON) && said.contains(&lacks), "{said}");
}

#[test]
fn no_connection_of_plain_tcp_fails_where_there_are_both() {
    let cluster = Cluster::start(2);
    let mut lines = Lines { service: "protocol = \"tcp\"\n".to_owned(), toml: String::new() };
    lines.with_headers(&cluster.hosts(PORT));
    let tls = Some(lines.with_certificate(&cluster));
    let opening = Opening { header: &PROXY_HEADER, tls };
    lines.push(&cluster, "1");
    lines.push(&cluster, "2");
    deploy(&cluster, "web@1");
    let said = plan(&cluster, "web@2");
    assert!(said.contains(PASSED_ON), "{said}");

    // One connection each: who keeps one has it until the drain's limit.
    let ask_all = || {
        let hosts = cluster.hosts(PORT).into_iter();
        let version = |host| {
            let answer = ask_once(host, &opening, "GET /");
            let page = answer.unwrap_or_else(|failure| panic!("{host}: {failure:?}"));
            page.split_whitespace().nth(1).map(ToOwned::to_owned)
        };
        hosts.map(|host| version(host).expect("an answer says its version")).collect()
    };
    for (old, new) in [("1", "2"), ("2", "1")] {
        let mut heard: BTreeSet<String> = ask_all();
        thread::scope(|scope| {
            let deploys = scope.spawn(|| deploy(&cluster, &format!("web@{new}")));
            while !deploys.is_finished() {
                heard.extend(ask_all());
            }
        });
        let last = ask_all();
        assert_eq!(last, BTreeSet::from([new.to_owned()]));
        heard.extend(last);
        assert_eq!(heard, BTreeSet::from([old, new].map(ToOwned::to_owned)));
    }
}
