//! The example program that looks at a machine: what it finds, and what it advises.

use std::{net::TcpListener, process::Output};

use serde_json::Value;

use crate::common::{
    example::Example,
    turn::{Turn, USER},
};

fn doctor(arguments: &[&str]) -> Output {
    Example::command("doctor").args(arguments).output().expect("it runs")
}

fn findings(arguments: &[&str]) -> (Vec<Value>, bool) {
    let output = doctor(&[arguments, &["--json"]].concat());
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    let all: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}{errors}"));
    (all["findings"].as_array().expect("findings").clone(), output.status.success())
}

/// The one about this, by the beginning of its name.
fn about<'a>(findings: &'a [Value], what: &str) -> &'a Value {
    let found = findings.iter().find(|one| one["what"].as_str().is_some_and(|name| name.starts_with(what)));
    found.unwrap_or_else(|| panic!("nothing about {what}: {findings:#?}"))
}

#[test]
fn a_machine_that_the_tests_run_on_is_well() {
    let (findings, is_well) = findings(&[]);
    assert!(is_well, "{findings:#?}");
    for what in ["gstreamer1.0-plugins-good", "gstreamer1.0-plugins-bad", "encoder x264enc", "addresses"] {
        assert_eq!(about(&findings, what)["status"], "fine", "{findings:#?}");
    }
}

#[test]
fn what_is_wrong_is_named_with_what_to_do_and_without_passwords() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let listen = taken.local_addr().expect("its address").to_string();
    let turn = Turn::start();
    let (right, wrong) = (turn.url("tcp"), turn.url_for(USER, "wr0ng-s3cr3t", "udp"));
    let stun = turn.stun_url();
    let arguments = [
        "--listen",
        &listen,
        "--tls",
        "/nonexistent/c",
        "/nonexistent/k",
        "--stun",
        &stun,
        "--turn",
        &right,
        "--turn",
        &wrong,
    ];
    let (findings, is_well) = findings(&arguments);
    assert!(!is_well);
    assert_eq!(about(&findings, "HTTP port")["status"], "problem");
    assert!(about(&findings, "HTTP port")["advice"].as_str().is_some_and(|advice| advice.contains("ss -ltnp")));
    assert!(about(&findings, "TLS")["found"].as_str().is_some_and(|found| found.starts_with("/nonexistent/c")));
    assert!(about(&findings, "STUN server")["found"].as_str().is_some_and(|found| found.contains("sees this machine")));
    let of_turn: Vec<&Value> =
        findings.iter().filter(|one| one["what"].as_str().is_some_and(|what| what.starts_with("TURN"))).collect();
    assert_eq!((&of_turn[0]["status"], &of_turn[1]["status"]), (&"fine".into(), &"problem".into()), "{of_turn:#?}");
    assert!(of_turn[1]["found"].as_str().is_some_and(|found| found.contains("refuses the user name")), "{of_turn:#?}");
    assert!(!format!("{findings:?}").contains("wr0ng-s3cr3t"));
}

#[test]
fn for_people_it_writes_lines() {
    let output = doctor(&[]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.lines().any(|line| line.starts_with("fine     gstreamer1.0-plugins-base")), "{text}");
    let bad = doctor(&["--nonsense"]);
    assert_eq!(bad.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&bad.stderr).contains("--nonsense"));
}
