//! A WHEP client whose way to the server breaks, or who is stopped while it calls: it restarts ICE where the server can,
//! calls anew where it cannot, and leaves no session behind.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::SeqCst},
};

use crate::common::{
    SOON,
    lossy::LossyPath,
    peer::Script,
    player::Player,
    wait_until,
    whep_server::{Behaviour, WhepServer},
};

/// A server behind a network that can be switched off, with a player of it.
struct Connected {
    server: WhepServer,
    player: Player,
    path: LossyPath,
    down: Arc<AtomicBool>,
}

impl Connected {
    fn start(refuses_fragments: Option<u16>) -> Self {
        let down = Arc::new(AtomicBool::new(false));
        let loses = down.clone();
        let path = LossyPath::new(move |_, _| loses.load(SeqCst));
        let scripted = Some(Script { path: Some(path.clone()), ..Script::default() });
        let server = WhepServer::start_with(Behaviour { scripted, refuses_fragments, ..Behaviour::default() });
        let player = Player::start(&server.url(), "");
        player.wait_frames(30);
        Self { server, player, path, down }
    }

    fn count(&self, field: &str) -> u64 {
        self.player.stats().get(field).expect("a count")
    }
}

#[test]
fn a_way_that_breaks_and_comes_back_from_another_port_costs_no_session_but_an_ice_restart() {
    let Connected { server, player, path, down } = &Connected::start(None);
    down.store(true, SeqCst);
    wait_until("a restart", SOON, || (!server.patches().is_empty()).then_some(()));
    path.rebind(); // the server knows nothing of this port, and would not follow to it
    down.store(false, SeqCst);
    player.wait_frames(60);
    let patch = &server.patches()[0];
    assert_eq!(patch.if_match.as_deref(), Some("*"));
    assert!(patch.body.contains("a=candidate:"), "{}", patch.body);
    assert_eq!((server.offers(), server.sessions(), server.deleted()), (1, 1, 0), "the same session");
    let stats = player.stats();
    assert_eq!((stats.get::<u64>("sessions"), stats.get::<u64>("ice-restarts")), (Ok(1), Ok(1)));
    player.stop();
    assert_eq!(server.deleted(), 1);
}

#[test]
fn a_second_break_is_restarted_as_the_first() {
    let connected = Connected::start(None);
    let Connected { server, player, path, down } = &connected;
    for restarts in 1..=2 {
        down.store(true, SeqCst);
        wait_until("a restart", SOON, || (server.patches().len() == restarts).then_some(()));
        path.rebind();
        down.store(false, SeqCst);
        player.wait_frames(60);
    }
    assert_eq!((server.offers(), connected.count("ice-restarts")), (1, 2));
}

#[test]
fn a_server_that_cannot_restart_is_called_anew() {
    let connected = Connected::start(Some(405));
    let Connected { server, player, path, down } = &connected;
    down.store(true, SeqCst);
    wait_until("a restart", SOON, || (!server.patches().is_empty()).then_some(()));
    path.rebind();
    wait_until("another offer", SOON, || (server.offers() == 2).then_some(()));
    down.store(false, SeqCst);
    player.wait_frames(60);
    assert_eq!((server.patches().len(), connected.count("ice-restarts")), (1, 0), "it is not asked again");
    wait_until("one session", SOON, || (server.sessions() == 1).then_some(()));
}

#[test]
fn a_server_that_has_forgotten_the_session_is_called_anew_at_once() {
    let connected = Connected::start(Some(404));
    connected.down.store(true, SeqCst);
    let reason = connected.player.wait_state("retrying");
    assert!(reason.contains("no such session"), "{reason}");
    wait_until("another offer", SOON, || (connected.server.offers() == 2).then_some(()));
}

#[test]
fn a_client_that_is_stopped_while_it_calls_ends_the_session_that_the_server_makes_of_it() {
    let behaviour = Behaviour { holds: Arc::new(AtomicBool::new(true)), ..Behaviour::default() };
    let holds = behaviour.holds.clone();
    let server = WhepServer::start_with(behaviour);
    let player = Player::start(&server.url(), "");
    wait_until("an offer", SOON, || (server.offers() == 1).then_some(()));
    player.stop();
    assert_eq!(server.deleted(), 0, "there is nothing to end yet");
    holds.store(false, SeqCst);
    wait_until("DELETE", SOON, || (server.deleted() == 1).then_some(()));
    assert_eq!(server.sessions(), 0);
}
