//! Runs simulations.
fn main() {
    let from: u64 = std::env::args().nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
    let count: u64 = std::env::args().nth(2).and_then(|s| s.parse().ok()).unwrap_or(1);
    let told = std::env::args().nth(3).is_some();
    let mut h = 0;
    let mut ms = 0;
    let mut inputs = 0;
    let begin = std::time::Instant::now();
    for seed in from..from + count {
        let script = if std::env::var_os("STANDARD").is_some() { cutover_sim::swarm::standard(seed) } else { cutover_sim::swarm::draw(seed) };
        ms += script.ends_ms;
        let mut world = cutover_sim::world::World::new(script, told);
        world.run();
        for line in world.trace.lines() {
            println!("{:>10} {:<12} {}", line.at, line.who, line.text);
        }
        h ^= world.trace.hash();
        inputs += world.counts.inputs;
        if let Some(v) = &world.violation {
            println!("seed {seed}: {v}");
        }
    }
    println!(
        "{h:x} {count} seeds {} virtual s, {inputs} inputs in {:?}",
        ms / 1000,
        begin.elapsed()
    );
}
