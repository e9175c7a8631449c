//! Prints the tables of docs/judge.md: `cargo run -p cutover-judge --example judge_table`.

#![allow(clippy::print_stdout, reason = "it is there to print")]

#[path = "../tests/measure/mod.rs"]
mod measure;

use measure::tables;

fn main() {
    println!("{}", tables::false_alarm_table(&tables::error_false_alarms()));
    println!("{}", tables::delay_table(&tables::error_delays()));
    println!("{}", tables::false_alarm_table(&tables::latency_false_alarms()));
    println!("{}", tables::delay_table(&tables::latency_delays()));
    println!("{}", tables::false_alarm_table(&tables::instance_false_alarms()));
    println!("{}", tables::delay_table(&tables::instance_delays()));
    println!("{}", tables::small_effect_table(&tables::small_effects()));
    let rows = tables::broken_false_alarms();
    println!("{}", tables::alarm_table(&rows, tables::BROKEN_HOURS));
    let rows = tables::instance_broken_false_alarms();
    println!("{}", tables::alarm_table(&rows, tables::BROKEN_HOURS));
}
