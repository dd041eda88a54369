//! A machine that gets another address while it plays tells the server, as candidates do (RFC 8838).
//!
//! Runs in a network of its own, where adding an address needs no privilege and disturbs nobody.
#![allow(clippy::print_stderr)] // why nothing was tested, where that is so

use std::process::Command;

use crate::common::{
    SOON,
    peer::Script,
    player::Player,
    wait_until,
    whep_server::{Behaviour, WhepServer},
};

const INSIDE: &str = "WEBRTCBRIDGE_OWN_NETWORK";

fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status().expect("ip (iproute2)");
    assert!(status.success(), "ip {arguments}");
}

fn in_a_network_of_its_own(test: &str) {
    let own = ["--user", "--map-root-user", "--net"];
    if !Command::new("unshare").args(own).arg("true").status().is_ok_and(|status| status.success()) {
        eprintln!("not tested: this machine lets nobody have a network of his own (unshare --user --net)");
        return;
    }
    let exe = std::env::current_exe().expect("this test");
    let mut inside = Command::new("unshare");
    inside.args(own).arg(exe).args([test, "--exact", "--nocapture"]).env(INSIDE, "1");
    let output = inside.output().expect("unshare");
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

#[test]
fn an_address_that_comes_into_being_is_told_as_a_candidate() {
    if std::env::var_os(INSIDE).is_none() {
        return in_a_network_of_its_own("new_address::an_address_that_comes_into_being_is_told_as_a_candidate");
    }
    ip("link set lo up");
    ip("addr add 192.0.2.1/32 dev lo"); // there is one already
    // Not webrtcbin, which finds no network here worth its while; and it does not trickle.
    let (scripted, refuses_fragments) = (Some(Script::default()), Some(405));
    let server = WhepServer::start_with(Behaviour { scripted, refuses_fragments, ..Behaviour::default() });
    let player = Player::start(&server.url(), "");
    player.wait_frames(30);
    assert!(server.patches().is_empty(), "the offer has named all there are");
    ip("addr add 192.0.2.7/32 dev lo");
    let patch = wait_until("a PATCH", SOON, || server.patches().pop());
    assert!(patch.body.contains(" 192.0.2.7 ") && !patch.body.contains(" 192.0.2.1 "), "{}", patch.body);
    assert_eq!(patch.if_match.as_deref(), Some("*"), "this server has no entity tags");
    player.wait_frames(30);
    ip("addr add 192.0.2.8/32 dev lo");
    player.wait_frames(500); // longer than until the addresses are looked at next
    assert_eq!((server.patches().len(), server.offers()), (1, 1), "a server that does not trickle is left alone");
}
