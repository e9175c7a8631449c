//! Ansible, doing to twenty directories what a rollout does to twenty hosts.

use std::{
    fmt::Write as _,
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use crate::live::run;

/// The port of the applications that Ansible starts, on the agents' own addresses.
pub(super) const PORT: u16 = 8090;

/// The playbook of a rollout, and that of a rollback: what it goes back to is on the disk.
const ROLLOUT: &str = "playbook.yml";
const ROLLBACK: &str = "rollback.yml";

/// How each play takes its hosts.
const PLAY: &str = r#"- hosts: all
  gather_facts: false
  serial: "{{ batch }}"
  any_errors_fatal: true
  tasks:
"#;

/// Brings a version to the disk, in Ansible's usual modules.
const BRING: &str = r#"    - ansible.builtin.file: { path: "{{ root }}/releases/{{ version }}", state: directory }
    - ansible.builtin.copy:
        src: "{{ archive }}"
        dest: "{{ root }}/{{ version }}.tar.gz"
    - ansible.builtin.unarchive:
        src: "{{ root }}/{{ version }}.tar.gz"
        dest: "{{ root }}/releases/{{ version }}"
        remote_src: true
"#;

/// Makes a version that is on the disk the one that runs. A stopped server is a zombie until its
/// reaper looks, so that its state is asked and not whether its pid is there.
const SWITCH: &str = r#"    - ansible.builtin.file:
        src: "{{ root }}/releases/{{ version }}"
        dest: "{{ root }}/current"
        state: link
    - ansible.builtin.shell: |
        if [ -f pid ]; then
          old=$(cat pid)
          kill "$old"
          while grep -q '^State:.[^Z]' "/proc/$old/status" 2>/dev/null; do sleep 0.02; done
        fi
        cd current
        setsid ./server --address {{ address }} --port {{ service_port }} \
          --version-file VERSION </dev/null >{{ root }}/log 2>&1 &
        echo $! >{{ root }}/pid
      args: { chdir: "{{ root }}" }
    - ansible.builtin.uri: { url: "http://{{ address }}:{{ service_port }}/", return_content: true }
      register: answer
      until: answer.content is defined and ('web ' + version + ' ') in answer.content
      retries: 100
      delay: 0.1
"#;

const CONFIG: &str = "[defaults]
forks = 20
host_key_checking = false
retry_files_enabled = false
localhost_warning = false

[connection]
pipelining = true
";

/// A control node with an inventory.
#[derive(Debug)]
pub(super) struct Ansible {
    program: PathBuf,
    folder: PathBuf,
}

impl Ansible {
    /// Returns Ansible as `tests/setup.sh bench` has installed it, beside what cargo builds.
    pub(super) fn find() -> Option<PathBuf> {
        let own = std::env::current_exe().ok()?;
        let target = own.parent()?.parent()?;
        let program = target.join("bench-venv/bin/ansible-playbook");
        program.is_file().then_some(program)
    }

    /// Writes the playbooks and an inventory of hosts at `addresses` into `folder`.
    pub(super) fn new(program: PathBuf, folder: PathBuf, addresses: &[IpAddr]) -> Result<Self> {
        fs::create_dir_all(&folder)?;
        fs::write(folder.join(ROLLOUT), [PLAY, BRING, SWITCH].concat())?;
        fs::write(folder.join(ROLLBACK), [PLAY, SWITCH].concat())?;
        fs::write(folder.join("ansible.cfg"), CONFIG)?;
        let python = program.with_file_name("python3");
        let mut inventory = String::new();
        for (index, address) in addresses.iter().enumerate() {
            let root = folder.join(format!("host-{}", index + 1));
            fs::create_dir_all(&root)?;
            writeln!(
                inventory,
                "host-{} ansible_connection=local ansible_python_interpreter={} root={} \
                 address={address} service_port={PORT}",
                index + 1,
                python.display(),
                root.display()
            )?;
        }
        fs::write(folder.join("inventory"), inventory)?;
        Ok(Self { program, folder })
    }

    /// Returns the version of ansible-core.
    pub(super) fn version(&self) -> Result<String> {
        let said = run(Command::new(&self.program).arg("--version")).done();
        let line = said.lines().next().context("ansible-playbook --version says something")?;
        let version = line.rsplit([' ', '[']).next().unwrap_or(line).trim_end_matches(']');
        Ok(format!("ansible-core {version}"))
    }

    /// Brings `archive` to all hosts, `batch` of them at a time.
    pub(super) fn play(&self, archive: &Path, version: &str, batch: &str) -> Result<()> {
        let archive = format!("archive={}", archive.display());
        self.run(ROLLOUT, version, &["-e", &archive, "-e", &format!("batch={batch}")])
    }

    /// Leads all hosts back to `version`, which they have had, `batch` of them at a time.
    pub(super) fn play_back(&self, version: &str, batch: &str) -> Result<()> {
        self.run(ROLLBACK, version, &["-e", &format!("batch={batch}")])
    }

    /// Plays once on one host, so that Python has compiled what it needs.
    pub(super) fn warm_up(&self, archive: &Path, version: &str) -> Result<()> {
        let archive = format!("archive={}", archive.display());
        self.run(ROLLOUT, version, &["-e", &archive, "-e", "batch=100%", "--limit", "host-1"])
    }

    fn run(&self, playbook: &str, version: &str, more: &[&str]) -> Result<()> {
        let ran = run(Command::new(&self.program)
            .current_dir(&self.folder)
            .env("ANSIBLE_CONFIG", self.folder.join("ansible.cfg"))
            .env("ANSIBLE_HOME", self.folder.join("home"))
            .env("LC_ALL", "C.UTF-8")
            .args(["-i", "inventory", playbook, "-e", &format!("version={version}")])
            .args(more));
        ensure!(ran.status == 0, "ansible-playbook failed: {}{}", ran.stdout, ran.stderr);
        Ok(())
    }
}
