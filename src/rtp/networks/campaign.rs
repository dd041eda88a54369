//! Which seeds are run, and how: each in a process of its own. What the stack draws by chance to be fair (`select!`) goes on
//! within a thread from one run to the next, so that what came of a seed would depend on the seeds before it.
//!
//! `NETWORKS=seed` repeats a run and tells of it, `NETWORKS=from..until` makes many (`tests/long networks` has thousands). A run
//! of a quarter of a minute takes half a second.

use std::{
    fmt::Write,
    ops::Range,
    process::{Command, Stdio},
    time::Duration,
};

use super::{Scenario, Summary, run};

/// Of the usual tests.
const SEEDS: Range<u64> = 0..60;
/// The seed of a process that makes but one run.
const ONE: &str = "NETWORK";
/// The test that makes it, and what stands in front of what came of it.
const RUNS_ONE: &str = "rtp::networks::campaign::media_survives_a_first_quarter_of_networks";
const RESULT: &str = "what came of it: ";

type Outcome = Result<Summary, String>;

/// Runs seeds one after the other; the failures' report has the command that repeats each.
fn run_all(seeds: Range<u64>) {
    if seeds.is_empty() {
        return;
    }
    let (mut failed, mut report, mut runs) = (0, String::new(), Vec::new());
    let verbose = seeds.end - seeds.start == 1;
    for seed in seeds {
        let outcome = run_apart(seed, verbose);
        if verbose {
            tell(&format!("{:#?}\n{outcome:#?}\n", Scenario::new(seed)));
        }
        match outcome {
            Ok(summary) => runs.push(summary),
            Err(why) => {
                failed += 1;
                let _ = writeln!(report, "NETWORKS={seed} cargo test --workspace --lib rtp::networks: {why}");
            }
        }
    }
    let sum = |of: &dyn Fn(&Summary) -> u64| runs.iter().map(of).sum::<u64>();
    let mut times: Vec<Duration> = runs.iter().map(|run| run.connected_in).collect();
    times.sort();
    tell(&format!(
        "{} runs, {failed} failed: {} pictures sent, {} shown; {} sounds sent, {} heard; {} datagrams, {} of them lost; {} packets \
         lost for good; connected in {:?} (half), {:?} (all); {} keyframes asked for; {} moves; {} packets waited at most\n",
        runs.len() + failed,
        sum(&|run| run.pictures.0 as u64),
        sum(&|run| run.pictures.1 as u64),
        sum(&|run| run.sounds.0 as u64),
        sum(&|run| run.sounds.1 as u64),
        sum(&|run| run.datagrams),
        sum(&|run| run.datagrams_lost),
        sum(&|run| run.packets_lost),
        times.get(times.len() / 2).copied().unwrap_or_default(),
        times.last().copied().unwrap_or_default(),
        sum(&|run| run.keyframes_asked),
        sum(&|run| run.rebinds),
        runs.iter().map(|run| run.most_waiting).max().unwrap_or_default(),
    ));
    assert!(failed == 0, "\n{report}");
}

/// Runs a seed in a process of its own.
fn run_apart(seed: u64, verbose: bool) -> Outcome {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", RUNS_ONE, "--nocapture", "--test-threads", "1"]).env(ONE, seed.to_string());
    if verbose {
        command.stderr(Stdio::inherit());
    }
    let output = command.output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    let result = told.lines().find_map(|line| line.split_once(RESULT));
    match result {
        Some((_, outcome)) => serde_json::from_str(outcome).unwrap(),
        None => {
            let said = String::from_utf8_lossy(&output.stderr);
            Err(format!("{}: {}", output.status, said.lines().take(6).collect::<Vec<_>>().join(" / ")))
        }
    }
}

/// Past what the test harness takes for itself.
fn tell(text: &str) {
    std::io::Write::write_all(&mut std::io::stderr(), text.as_bytes()).unwrap();
}

/// What `NETWORKS` says, or the usual ones.
fn seeds() -> Range<u64> {
    let Ok(said) = std::env::var("NETWORKS") else { return SEEDS };
    let number = |text: &str| text.parse::<u64>().expect("NETWORKS is a seed, or a range of seeds like 0..1000");
    match said.split_once("..") {
        Some((from, until)) => number(from)..number(until),
        None => number(&said)..number(&said) + 1,
    }
}

/// A quarter of them: tests run side by side.
fn run_quarter(quarter: u64) {
    let Range { start, end } = seeds();
    let at = |quarter| start + end.saturating_sub(start) * quarter / 4;
    run_all(at(quarter)..at(quarter + 1));
}

#[test]
fn media_survives_a_first_quarter_of_networks() {
    match std::env::var(ONE) {
        Ok(seed) => {
            gst::init().unwrap();
            let outcome: Outcome = run(&Scenario::new(seed.parse().unwrap()));
            let result = format!("{RESULT}{}\n", serde_json::to_string(&outcome).unwrap());
            std::io::Write::write_all(&mut std::io::stdout(), result.as_bytes()).unwrap();
        }
        Err(_) => run_quarter(0),
    }
}

#[test]
fn media_survives_a_second_quarter_of_networks() {
    run_quarter(1);
}

#[test]
fn media_survives_a_third_quarter_of_networks() {
    run_quarter(2);
}

#[test]
fn media_survives_a_fourth_quarter_of_networks() {
    run_quarter(3);
}

/// Few of the usual networks lose single packets that are soon there again, and nothing else.
#[test]
fn what_a_near_network_loses_comes_again() {
    for seed in [186, 619] {
        assert_eq!(run_apart(seed, false).map(drop), Ok(()), "NETWORKS={seed}");
    }
}

#[test]
fn a_seed_means_the_same_each_time() {
    for seed in [1, 7, 1281, 1383] {
        let (first, second) = (run_apart(seed, false), run_apart(seed, false));
        assert_eq!(first, second, "NETWORKS={seed}");
        let trace = |outcome: &Outcome| outcome.as_ref().map(|summary| summary.trace).ok();
        assert_ne!(trace(&first), trace(&run_apart(seed + 1, false)), "the trace is of no use");
    }
}
