//! Chromium that may use nothing but a TURN server publishes to the bridge, and to one that may use nothing else either.

use crate::common::{
    SOON,
    browser::Browser,
    ingest::Ingest,
    turn::{PASSWORD, Turn, USER},
    wait_until,
};

/// Publishes from the page through the relay; returns the kind of each end of the path that was chosen.
fn publishes_by_relay(turn: &Turn, transport: &str, ingest: &Ingest) -> (String, String) {
    let browser = Browser::start();
    browser.open(&ingest.url().replace("/whip/live", "/?codec=vp8"));
    browser.wait_state("idle", SOON);
    browser.eval(&format!(
        "const Plain = RTCPeerConnection; window.RTCPeerConnection = function (configuration) {{ \
           const iceServers = [{{ urls: '{}', username: '{USER}', credential: '{PASSWORD}' }}]; \
           window.pc = new Plain({{ ...configuration, iceServers, iceTransportPolicy: 'relay' }}); return window.pc; }};",
        turn.uri(transport)
    ));
    browser.click("#start");
    browser.wait_state("live", SOON * 2);
    wait_until("frames", SOON, || (ingest.frames() > 60).then_some(()));
    let kinds = browser.eval_async(
        "const all = [...(await window.pc.getStats()).values()]; const by = (id) => all.find((one) => one.id === id); \
         const pair = by(all.find((one) => one.type === 'transport').selectedCandidatePairId); \
         return [by(pair.localCandidateId).candidateType, by(pair.remoteCandidateId).candidateType];",
    );
    let kind = |place: usize| kinds[place].as_str().expect("a kind").to_owned();
    (kind(0), kind(1))
}

#[test]
fn chromium_that_is_forced_to_relay_publishes() {
    for transport in ["udp", "tcp"] {
        let (turn, ingest) = (Turn::start(), Ingest::start(""));
        assert_eq!(publishes_by_relay(&turn, transport, &ingest).0, "relay", "over {transport}");
    }
}

#[test]
fn chromium_and_a_bridge_that_are_both_forced_to_relay_find_each_other() {
    let turn = Turn::start();
    let servers = format!("turn-servers=\"<(string)\\\"{}\\\">\"", turn.url("tcp"));
    let ingest = Ingest::start(&format!("ice-transport-policy=relay {servers}"));
    let (ours, theirs) = publishes_by_relay(&turn, "udp", &ingest);
    // Either may be known first by a check: peer-reflexive then, though it has nothing but relays to come from.
    for kind in [ours, theirs] {
        assert!(["relay", "prflx"].contains(&kind.as_str()), "{kind}");
    }
}
