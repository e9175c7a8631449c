//! The controls: other ways to replace an instance, under the same load. If they fail nothing
//! either, the load cannot see failures.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use tempfile::TempDir;

use super::{
    instance::Instance,
    listens,
    load::{Clients, LETTERS, Load, Seen},
    own_address,
    peer::Peer,
    swaps::Stage,
};
use crate::{
    bench::figures::{Report, Section},
    live::program_on_path,
};

/// How often each of them replaces it.
const TIMES: usize = 5;

/// What is answered between two times.
const BETWEEN: u64 = 5_000;

/// How long one command of pm2 may take.
const PM2_WITHIN: Duration = Duration::from_secs(60);

/// What pm2 runs: the same answers, from a cluster of two processes.
const APPLICATION: &str = r#"
const fs = require("fs"), http = require("http");
const letter = fs.readFileSync(process.env.LETTER_FILE, "utf8").trim();
const server = http.createServer((request, response) => {
  let bytes = 0;
  request.on("data", (piece) => { bytes += piece.length; });
  request.on("end", () => {
    const body = request.method === "POST" ? letter + bytes : letter.repeat(32);
    response.writeHead(200, { "content-length": Buffer.byteLength(body) });
    response.end(body);
  });
});
server.listen(Number(process.env.LISTEN_PORT), process.env.LISTEN_IP, () => process.send("ready"));
process.on("SIGINT", () => server.close(() => process.exit(0)));
"#;

pub(super) async fn measure(report: &mut Report, progress: &mut impl FnMut(&str)) -> Result<()> {
    let mut section = Section::new(format!("9. Controls: the same clients, {TIMES} times each"));
    progress("control: an instance is restarted behind nginx");
    let mut failed = 0;
    if let Some(seen) = naive().await? {
        failed += seen.failed();
        tell(&mut section, "naive restart behind nginx", &seen);
    } else {
        section.note("nginx is not installed: nothing was restarted or reloaded behind it");
    }
    progress("control: nginx is reloaded to another instance");
    if let Some((seen, overlap)) = reload().await? {
        tell(&mut section, "nginx reload to another instance", &seen);
        section.figure("  both versions answer for", overlap, "ms", "one reload");
    }
    progress("control: pm2 reloads its cluster");
    match Pm2::start().await? {
        Some(pm2) => {
            let (seen, overlap) = pm2.measure().await?;
            failed += seen.failed();
            tell(&mut section, "pm2 reload", &seen);
            section.figure("  both versions answer for", overlap, "ms", "one reload");
        }
        None => section.note("pm2 is not installed: tests/setup.sh bench"),
    }
    progress("the gate, as the controls");
    let (seen, overlap) = gate().await?;
    tell(&mut section, "the gate", &seen);
    section.figure("  both versions answer for", overlap, "ms", "one swap; negative: none");
    report.add(section);
    ensure!(failed > 0, "no control failed a request: the load cannot see failures");
    ensure!(seen.failed() == 0, "the gate failed requests: {}", seen.why());
    Ok(())
}

fn tell(section: &mut Section, name: &str, seen: &Seen) {
    section.figure(
        format!("{name}: failed"),
        seen.failed() as f64,
        "",
        format!("of {}: {}", seen.answered() + seen.failed(), seen.why()),
    );
}

/// Ends the instance and starts it again, as a service manager's restart does.
async fn naive() -> Result<Option<Arc<Seen>>> {
    let mut instance = Instance::start(own_address()?, LETTERS[0]).await?;
    let Some(nginx) = Peer::nginx(instance.address).await? else { return Ok(None) };
    let load = Load::start(nginx.listen, Clients::MANY, 1, false);
    for _ in 0..TIMES {
        load.goes_on(BETWEEN).await?;
        instance.restart().await?;
    }
    load.goes_on(BETWEEN).await?;
    Ok(Some(load.end().await))
}

/// Swaps by nginx's configuration and its reload, once for how long both answer.
async fn reload() -> Result<Option<(Arc<Seen>, f64)>> {
    let instances = [
        Instance::start(own_address()?, LETTERS[0]).await?,
        Instance::start(own_address()?, LETTERS[1]).await?,
    ];
    let Some(nginx) = Peer::nginx(instances[0].address).await? else { return Ok(None) };
    let once = Load::start(nginx.listen, Clients::MANY, 1, false);
    once.goes_on(BETWEEN).await?;
    nginx.reload_nginx(instances[1].address)?;
    once.goes_on(BETWEEN).await?;
    let overlap = once.end().await.overlap_ms();
    let load = Load::start(nginx.listen, Clients::MANY, 1, false);
    for time in 0..TIMES {
        load.goes_on(BETWEEN).await?;
        nginx.reload_nginx(instances[time % 2].address)?;
    }
    load.goes_on(BETWEEN).await?;
    Ok(Some((load.end().await, overlap)))
}

/// One swap behind the gate.
async fn gate() -> Result<(Arc<Seen>, f64)> {
    let mut stage = Stage::set([30_000, 30_000]).await?;
    let load = Load::start(stage.gate.listen, Clients::MANY, 1, false);
    load.goes_on(BETWEEN).await?;
    stage.switch().await?;
    load.goes_on(BETWEEN).await?;
    let seen = load.end().await;
    let overlap = seen.overlap_ms();
    Ok((seen, overlap))
}

/// pm2 with its daemon in a directory of its own. Ended when it is dropped.
struct Pm2 {
    program: PathBuf,
    listen: SocketAddr,
    dir: TempDir,
}

impl Pm2 {
    /// Starts it; none when it or node is not installed.
    async fn start() -> Result<Option<Self>> {
        let program = Path::new("target/bench-pm2/node_modules/.bin/pm2");
        if !program.is_file() || program_on_path("node").is_none() {
            return Ok(None);
        }
        let pm2 = Self {
            program: program.canonicalize()?,
            listen: own_address()?,
            dir: tempfile::tempdir()?,
        };
        fs::write(pm2.dir.path().join("application.js"), APPLICATION)?;
        pm2.write_letter(0)?;
        pm2.run(&["start", "application.js", "-i", "2", "--name", "bench", "--wait-ready"])?;
        listens("pm2's application", pm2.listen).await?;
        Ok(Some(pm2))
    }

    /// Reloads it once for how long both answer, and some more times for what fails.
    async fn measure(&self) -> Result<(Arc<Seen>, f64)> {
        let once = Load::start(self.listen, Clients::MANY, 1, false);
        once.goes_on(BETWEEN).await?;
        self.reload(1)?;
        once.goes_on(BETWEEN).await?;
        let overlap = once.end().await.overlap_ms();
        let load = Load::start(self.listen, Clients::MANY, 1, false);
        for time in 0..TIMES {
            load.goes_on(BETWEEN).await?;
            self.reload(time % 2)?;
        }
        load.goes_on(BETWEEN).await?;
        Ok((load.end().await, overlap))
    }

    fn reload(&self, which: usize) -> Result<()> {
        self.write_letter(which)?;
        self.run(&["reload", "bench"])
    }

    fn write_letter(&self, which: usize) -> Result<()> {
        Ok(fs::write(self.dir.path().join("letter"), [LETTERS[which]])?)
    }

    /// Runs one command to its end.
    fn run(&self, args: &[&str]) -> Result<()> {
        let mut child = Command::new(&self.program)
            .args(args)
            .current_dir(self.dir.path())
            .env("PM2_HOME", self.dir.path().join("pm2"))
            .env("PM2_DISABLE_VERSION_CHECK", "true")
            .env("LETTER_FILE", self.dir.path().join("letter"))
            .env("LISTEN_IP", self.listen.ip().to_string())
            .env("LISTEN_PORT", self.listen.port().to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("pm2 can be started")?;
        let begun = Instant::now();
        loop {
            if let Some(status) = child.try_wait()? {
                ensure!(status.success(), "pm2 {} failed: {status}", args.join(" "));
                return Ok(());
            }
            if begun.elapsed() > PM2_WITHIN {
                child.kill()?;
                child.wait()?;
                bail!("pm2 {} takes longer than {PM2_WITHIN:?}", args.join(" "));
            }
            std::thread::sleep(super::LOOK_EVERY);
        }
    }
}

impl Drop for Pm2 {
    fn drop(&mut self) {
        // Its daemon and its processes; what this misses ends with the bench.
        drop(self.run(&["kill"]));
    }
}
