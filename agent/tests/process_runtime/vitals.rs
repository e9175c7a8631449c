//! What is measured of instances: the memory of all their processes, and their error lines.

use std::time::Instant;

use cutover_common::{InstanceId, InstanceVitals, Slot};
use uuid::Uuid;

use crate::support::{LONG, Place, runs_no_more, stop_within};

const MIB: u64 = 1 << 20;

impl Place {
    async fn vitals(&self) -> Option<InstanceVitals> {
        let asked = vec![(self.application.clone(), Slot::Blue, self.instance)];
        self.runtime.vitals(asked).await.pop()
    }

    async fn until_vitals(&self, what: &str, wanted: impl Fn(&InstanceVitals) -> bool) {
        let deadline = Instant::now() + LONG;
        loop {
            let vitals = self.vitals().await;
            if vitals.as_ref().is_some_and(&wanted) {
                return;
            }
            assert!(Instant::now() < deadline, "waited in vain for {what}: {vitals:?}");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }
}

/// A child that keeps as much as `tail` has to keep, and waits for more.
fn keeps(mib: u64) -> String {
    format!("(head -c {0} /dev/zero; exec sleep 1000) | tail -c {0}", mib * MIB)
}

#[tokio::test]
async fn the_memory_of_children_and_of_orphans_is_the_instances() {
    let place = Place::new();
    let script = format!("{} & ({} &); exec sleep 1000", keeps(40), keeps(60));
    place.start(place.sh(&script)).await;

    let is_whole = |it: &InstanceVitals| it.memory_bytes.is_some_and(|bytes| bytes > 100 * MIB);
    place.until_vitals("both to be counted", is_whole).await;
    let bytes = place.vitals().await.unwrap().memory_bytes.unwrap();
    assert!(bytes < 200 * MIB, "{bytes}");

    place.stop(stop_within(LONG)).await;
    assert_eq!(place.vitals().await, None, "who has ended needs nothing");
}

#[tokio::test]
async fn error_lines_of_both_outputs_are_counted_and_another_agent_goes_on() {
    let place = Place::new();
    let go = place.root().join("go");
    let script = format!(
        "echo ERROR one; echo fine; echo level=error two >&2; echo no errors; \
         while ! test -e {}; do sleep 0.01; done; echo ERROR three; exec sleep 1000",
        go.display()
    );
    place.start(place.sh(&script)).await;
    place.until_vitals("two lines", |it| it.error_lines == Some(2)).await;

    let place = place.with_another_agent();
    assert_eq!(place.vitals().await.unwrap().error_lines, Some(2));
    std::fs::write(go, "").unwrap();
    place.until_vitals("three lines", |it| it.error_lines == Some(3)).await;

    let instance = InstanceId(Uuid::new_v4());
    let asked = vec![(place.application.clone(), Slot::Green, instance)];
    assert_eq!(place.runtime.vitals(asked).await, [], "nobody was started by this id");
    place.stop(stop_within(LONG)).await;
}

#[tokio::test]
async fn an_instance_whose_shim_was_killed_is_measured_still_and_its_lines_are_what_they_were() {
    let place = Place::new();
    place.start(place.sh(&format!("echo ERROR one; {}", keeps(40)))).await;
    place.until_vitals("one line", |it| it.error_lines == Some(1)).await;

    let shim = place.shim_pid();
    place.signal(shim, "KILL");
    runs_no_more(shim).await;

    let is_whole = |it: &InstanceVitals| it.memory_bytes.is_some_and(|bytes| bytes > 40 * MIB);
    place.until_vitals("its memory", is_whole).await;
    assert_eq!(place.vitals().await.unwrap().error_lines, Some(1));
    place.stop(stop_within(LONG)).await;
}
