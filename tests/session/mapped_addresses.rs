//! Where a peer is told that it is seen, in answers to its checks: where it really is, whichever way it came. Browsers take
//! another address for a NAT's and make a candidate of it that leads nowhere.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use rtc::stun::{
    message::{Getter as _, Message},
    xoraddr::XorMappedAddress,
};

use crate::common::{
    SOON,
    ingest::Ingest,
    lossy::{Direction, LossyPath},
    peer::{Peer, Script},
    publisher::{Options, Publisher},
    turn::Turn,
    wait_until,
};

/// What a success response says; `None` for anything else.
fn mapped(datagram: &[u8]) -> Option<SocketAddr> {
    datagram.starts_with(&[0x01, 0x01]).then_some(())?;
    let mut message = Message { raw: datagram.to_vec(), ..Message::default() };
    message.decode().ok()?;
    let mut mapped = XorMappedAddress::default();
    mapped.get_from(&message).ok()?;
    Some(SocketAddr::new(mapped.ip, mapped.port))
}

/// A path, and what the publisher on it has been told.
fn listening() -> (LossyPath, Arc<Mutex<Vec<SocketAddr>>>) {
    let told = Arc::<Mutex<Vec<SocketAddr>>>::default();
    let hearing = told.clone();
    let path = LossyPath::new(move |direction, datagram| {
        if direction == Direction::ToPublisher {
            hearing.lock().expect("lock").extend(mapped(datagram));
        }
        false
    });
    (path, told)
}

#[test]
fn a_publisher_that_comes_by_a_relay_is_told_its_own_address_and_none_of_ours_inside() {
    let turn = Turn::start();
    let servers = format!("turn-servers=\"<(string)\\\"{}\\\">\" ice-transport-policy=relay", turn.url("udp"));
    let ingest = Ingest::start(&servers);
    let (path, told) = listening();
    let publisher = Publisher::start_with(&ingest.url(), Options { path: Some(path.clone()), ..Options::default() });
    wait_until("frames", SOON, || (ingest.frames() > 30).then_some(()));
    let told = told.lock().expect("lock").clone();
    assert!(!told.is_empty() && told.iter().all(|told| *told == path.back_address()), "{told:?}");
    publisher.assert_unharmed();
    publisher.delete();
    path.stop();
}

#[test]
fn a_publisher_that_has_moved_is_told_its_new_address() {
    let ingest = Ingest::start("");
    let (path, told) = listening();
    // Unlike libnice it goes on checking.
    let publisher = Peer::start(&ingest.url(), Script { path: Some(path.clone()), ..Script::default() });
    wait_until("frames", SOON, || (ingest.frames() > 30).then_some(()));
    let old = path.back_address();
    assert!(told.lock().expect("lock").iter().all(|told| *told == old));
    path.rebind();
    wait_until("the move", SOON, || (ingest.stats().get::<u64>("udp-rebinds") == Ok(1)).then_some(()));
    told.lock().expect("lock").clear();
    wait_until("an answer", SOON, || told.lock().expect("lock").first().copied());
    let told = told.lock().expect("lock").clone();
    assert!(told.iter().all(|told| *told == path.back_address()), "{told:?}, and not {}", path.back_address());
    publisher.delete();
    path.stop();
}
