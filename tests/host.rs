//! What `tests/host.sh` makes of tests that failed: whether they had the processors.

use std::{
    fs,
    io::Write,
    process::{Command, Stdio},
    time::{SystemTime, UNIX_EPOCH},
};

/// Of what nextest writes: one test of a second that fails, one that passes, and a unit test of a minute that fails.
const JUNIT: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<testsuites name="nextest-run" tests="3" failures="2">
    <testsuite name="bridge::ingest" tests="2" failures="1">
        <testcase name="late::a" classname="bridge::ingest" timestamp="2026-11-23T01:30:00.123+00:00" time="1.084">
            <failure message="late" type="test failure">thread panicked: &lt;failure</failure>
        </testcase>
        <testcase name="late::b" classname="bridge::ingest" timestamp="2026-11-23T01:30:00.123+00:00" time="5.084">
        </testcase>
    </testsuite>
    <testsuite name="bridge" tests="1" failures="1">
        <testcase name="late::c" classname="bridge" timestamp="2026-11-23T01:31:00.000+00:00" time="60.000">
            <failure type="test timeout"/>
        </testcase>
    </testsuite>
</testsuites>
"#;

/// 2026-11-23T01:30:00Z.
const BEGIN: u64 = 1_795_397_400;

/// Runs this line with the functions of the file; what it printed where it succeeded, else what it said.
fn run(line: &str, input: &str) -> Result<String, String> {
    let mut child = Command::new("bash")
        .args(["-euo", "pipefail", "-c", &format!("PROGRAM=this; . tests/host.sh; {line}")])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

/// What becomes of the two that failed where the host took `taken(second)` percent of each second from [`BEGIN`] on.
fn judged(taken: impl Fn(u64) -> u64) -> Result<String, String> {
    let folder = tempfile::tempdir().unwrap();
    let (junit, host) = (folder.path().join("junit.xml"), folder.path().join("host"));
    fs::write(&junit, JUNIT).unwrap();
    let seconds: String = (0..180).map(|second| format!("{} {}\n", BEGIN + second, taken(second))).collect();
    fs::write(&host, seconds).unwrap();
    run(&format!("failed_of_junit {} | judge_failures {}", junit.display(), host.display()), "")
}

#[test]
fn whoever_had_the_processors_has_failed() {
    for said in [judged(|_| 0), judged(|_| 9), judged(|second| if second == 30 { 100 } else { 0 })] {
        let said = said.unwrap_err();
        assert!(said.contains("late::a failed; it had the processors"), "{said}");
        assert!(!said.contains("late::b"), "{said}");
    }
}

#[test]
fn one_that_had_them_is_enough() {
    let said = judged(|second| if second == 1 { 80 } else { 0 }).unwrap_err();
    assert!(said.contains("late::a failed; it had not the processors"), "{said}");
    assert!(said.contains("late::c failed; it had the processors"), "{said}");
}

#[test]
fn whoever_had_not_is_run_again() {
    let again = "bridge::ingest late::a\nbridge late::c\n";
    assert_eq!(judged(|_| 12).unwrap(), again, "a bit all the time");
    assert_eq!(judged(|second| if second % 60 == 1 { 50 } else { 0 }).unwrap(), again, "half of one second");
}

#[test]
fn one_bad_second_is_no_excuse_for_a_test_of_minutes() {
    let host = tempfile::NamedTempFile::new().unwrap();
    let seconds: String =
        (0..300).map(|second| format!("{} {}\n", BEGIN + second, if second == 9 { 100 } else { 5 })).collect();
    fs::write(&host, seconds).unwrap();
    let judged = |length| {
        run(
            &format!("judge_failures {}", host.path().display()),
            &format!("bridge soak::a {BEGIN} {}\n", BEGIN + length),
        )
    };
    assert_eq!(judged(60).unwrap(), "bridge soak::a\n");
    assert!(judged(299).unwrap_err().contains("it had the processors"));
}

#[test]
fn more_than_forty_have_another_reason() {
    let host = tempfile::NamedTempFile::new().unwrap();
    fs::write(&host, format!("{BEGIN} 90\n")).unwrap();
    let failed =
        |count: u64| (0..count).map(|test| format!("bridge test::{test} {BEGIN} {}\n", BEGIN + 1)).collect::<String>();
    let judge = format!("judge_failures {}", host.path().display());
    assert_eq!(run(&judge, &failed(40)).unwrap().lines().count(), 40);
    assert!(run(&judge, &failed(41)).unwrap_err().contains("41 tests failed: that is not the host"));
    assert_eq!(run(&judge, "").unwrap_err(), "", "nobody failed, and yet the run did");
}

#[test]
fn the_host_is_watched_each_second() {
    let log = tempfile::NamedTempFile::new().unwrap();
    let began = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    // Ends with the second line, however long that takes.
    let line = format!(
        "watch_host {0} & while (($(wc -l <{0}) < 2)); do sleep 0.1; done; kill $!; cat {0}",
        log.path().display()
    );
    let said = run(&line, "").unwrap();
    for line in said.lines() {
        let (second, taken) = line.split_once(' ').expect("SECOND PERCENT");
        assert!(second.parse::<u64>().unwrap() >= began && taken.parse::<u64>().unwrap() <= 100, "{line}");
    }
}
