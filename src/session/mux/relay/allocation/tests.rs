//! A server of a few lines answers what an allocation asks: how it comes to be, is kept, and fails.

use rtc::stun::attributes::ATTR_USERNAME;

use super::*;

/// What a server says to requests.
struct Server {
    realm: &'static str,
    nonce: &'static str,
    password: &'static str,
}

const SERVER: Server = Server { realm: "example.net", nonce: "first", password: "secret" };

fn login() -> Login {
    Login { username: "me".into(), password: "secret".into() }
}

fn decoded(raw: &[u8]) -> Message {
    let mut message = Message::new();
    message.raw = raw.to_vec();
    message.decode().unwrap();
    message
}

impl Server {
    fn error(&self, request: &Message, code: ErrorCode) -> Vec<u8> {
        build(&[
            Box::new(request.transaction_id),
            Box::new(MessageType::new(request.typ.method, CLASS_ERROR_RESPONSE)),
            Box::new(ErrorCodeAttribute { code, reason: b"because".to_vec() }),
            Box::new(TextAttribute::new(ATTR_REALM, self.realm.into())),
            Box::new(TextAttribute::new(ATTR_NONCE, self.nonce.into())),
        ])
        .unwrap()
    }

    fn success(request: &Message) -> Vec<u8> {
        let relayed = RelayedAddress { ip: [203, 0, 113, 9].into(), port: 50_000 };
        build(&[
            Box::new(request.transaction_id),
            Box::new(MessageType::new(request.typ.method, CLASS_SUCCESS_RESPONSE)),
            Box::new(relayed),
            Box::new(Lifetime(Duration::from_secs(600))),
        ])
        .unwrap()
    }

    /// Its answer to a request as RFC 8489 section 9.2.4 has it.
    fn answer(&self, raw: &[u8]) -> Vec<u8> {
        let mut request = decoded(raw);
        let Ok(nonce) = TextAttribute::get_from_as(&request, ATTR_NONCE) else {
            return self.error(&request, CODE_UNAUTHORIZED);
        };
        let username = TextAttribute::get_from_as(&request, ATTR_USERNAME).unwrap().text;
        let provider = rtc::crypto::default_provider().unwrap();
        let (realm, password) = (self.realm.to_owned(), self.password.to_owned());
        let key = MessageIntegrity::long_term_integrity_key(username, realm, password, provider.crypto()).unwrap();
        if MessageIntegrity::check(&mut request, &key, provider.crypto()).is_err() {
            return self.error(&request, CODE_UNAUTHORIZED);
        }
        match nonce.text == self.nonce {
            true => Self::success(&request),
            false => self.error(&request, CODE_STALE_NONCE),
        }
    }
}

/// Lets the server answer until nobody has anything to say.
fn talk(allocation: &mut Allocation, server: &Server, now: Instant) -> Result<Vec<Event>, Failure> {
    let mut events = Vec::new();
    loop {
        let out = allocation.take_out();
        if out.is_empty() {
            return Ok(events);
        }
        for request in out {
            events.extend(allocation.take(&server.answer(&request), now)?);
        }
    }
}

fn allocated(now: Instant) -> Allocation {
    let mut allocation = Allocation::ask(login(), false, now).unwrap();
    let events = talk(&mut allocation, &SERVER, now).unwrap();
    assert_eq!(events, [Event::Allocated("203.0.113.9:50000".parse().unwrap())]);
    allocation
}

#[test]
fn an_allocation_is_made_with_the_credentials_that_the_server_asks_for() {
    allocated(Instant::now());
}

#[test]
fn a_wrong_password_is_told_and_never_shown() {
    let now = Instant::now();
    let mut allocation = Allocation::ask(login(), false, now).unwrap();
    let failure = talk(&mut allocation, &Server { password: "another", ..SERVER }, now).unwrap_err();
    assert_eq!(failure, Failure::Login);
    assert!(failure.to_string().contains("password") && !failure.to_string().contains("secret"));
}

#[test]
fn a_server_that_says_nothing_is_asked_some_times_and_given_up() {
    let mut now = Instant::now();
    let mut allocation = Allocation::ask(login(), false, now).unwrap();
    let (start, mut requests) = (now, 0);
    let failure = loop {
        requests += allocation.take_out().len();
        now = allocation.next().unwrap();
        if let Err(failure) = allocation.poll(now) {
            break failure;
        }
    };
    assert_eq!((failure, requests), (Failure::Silent, 5));
    assert_eq!(now - start, Duration::from_millis(7_750));
}

#[test]
fn it_is_refreshed_in_time_also_when_the_nonce_has_changed() {
    let start = Instant::now();
    let mut allocation = allocated(start);
    let due = start + Duration::from_secs(300);
    assert_eq!(allocation.next(), Some(due));
    allocation.poll(due).unwrap();
    let events = talk(&mut allocation, &Server { nonce: "second", ..SERVER }, due).unwrap();
    assert_eq!(events, []);
    assert_eq!(allocation.next(), Some(due + Duration::from_secs(300)));
    let mut always = 0;
    allocation.poll(due + Duration::from_secs(300)).unwrap();
    let failure = loop {
        let request = decoded(&allocation.take_out().remove(0));
        always += 1;
        if let Err(failure) = allocation.take(&SERVER.error(&request, CODE_STALE_NONCE), due) {
            break failure;
        }
    };
    assert_eq!((failure, always), (Failure::Other(438), 4), "a server that is never content");
}

#[test]
fn peers_are_permitted_and_one_that_is_not_harms_no_other() {
    let now = Instant::now();
    let mut allocation = allocated(now);
    let peers = vec![Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(10, 0, 0, 1)];
    allocation.permit(peers.clone(), now).unwrap();
    let request = decoded(&allocation.take_out().remove(0));
    assert_eq!(allocation.take(&SERVER.error(&request, CODE_FORBIDDEN), now), Ok(None));
    let out = allocation.take_out();
    assert_eq!(out.len(), 2);
    let refused = allocation.take(&SERVER.error(&decoded(&out[1]), CODE_FORBIDDEN), now).unwrap();
    assert_eq!(refused, Some(Event::Refused(vec![peers[1]])));
    assert_eq!(allocation.take(&SERVER.answer(&out[0]), now), Ok(Some(Event::Permitted(vec![peers[0]]))));
}

#[test]
fn datagrams_go_both_ways_in_indications() {
    let now = Instant::now();
    let mut allocation = allocated(now);
    let peer: SocketAddr = "192.0.2.1:5000".parse().unwrap();
    let wrapped = decoded(&allocation.wrap(peer, b"to the peer".to_vec(), now).unwrap());
    assert_eq!(wrapped.typ, MessageType::new(METHOD_SEND, CLASS_INDICATION));
    let indication = build(&[
        Box::new(TransactionId::new()),
        Box::new(MessageType::new(METHOD_DATA, CLASS_INDICATION)),
        Box::new(PeerAddress { ip: peer.ip(), port: peer.port() }),
        Box::new(Data(b"from the peer".to_vec())),
    ]);
    let event = allocation.take(&indication.unwrap(), now).unwrap();
    assert_eq!(event, Some(Event::Data { from: peer, datagram: b"from the peer".to_vec() }));
}

#[test]
fn strangers_and_rubbish_change_nothing() {
    let now = Instant::now();
    let mut allocation = Allocation::ask(login(), false, now).unwrap();
    let request = allocation.take_out().remove(0);
    let mut foreign = decoded(&request);
    foreign.transaction_id = TransactionId::new();
    assert_eq!(allocation.take(&Server::success(&foreign), now), Ok(None));
    let answer = SERVER.answer(&request);
    for length in 0..answer.len() {
        let _ = allocation.take(&answer[..length], now);
    }
    let mut allocation = Allocation::ask(login(), false, now).unwrap();
    assert_eq!(talk(&mut allocation, &SERVER, now).map(|events| events.len()), Ok(1));
}

/// An allocation with a channel to this peer, and the channel's number.
fn bound(peer: SocketAddr, now: Instant) -> (Allocation, u16) {
    let mut allocation = allocated(now);
    for _ in 0..100 {
        allocation.wrap(peer, vec![0; 1200], now).unwrap();
    }
    allocation.bind(now).unwrap();
    let request = allocation.take_out().remove(0);
    let mut number = ChannelNumber::default();
    number.get_from(&decoded(&request)).unwrap();
    assert_eq!(decoded(&request).typ, MessageType::new(METHOD_CHANNEL_BIND, CLASS_REQUEST));
    assert_eq!(allocation.take(&SERVER.answer(&request), now), Ok(None));
    (allocation, number.0)
}

#[test]
fn a_channel_takes_the_place_of_indications_and_saves_32_bytes_of_each_datagram() {
    let (now, peer) = (Instant::now(), "192.0.2.1:5000".parse().unwrap());
    let packet = || vec![7; 1200];
    let by_indication = allocated(now).wrap(peer, packet(), now).unwrap().len();
    let (mut allocation, number) = bound(peer, now);
    let by_channel = allocation.wrap(peer, packet(), now).unwrap();
    assert_eq!((by_indication, by_channel.len()), (1236, 1204));
    assert_eq!(by_channel[..4], [&number.to_be_bytes()[..], &1200_u16.to_be_bytes()].concat());
    // The other way, padded as over TCP.
    let padded = [&number.to_be_bytes()[..], &[0, 5], b"media", &[0; 3]].concat();
    let event = allocation.take(&padded, now).unwrap();
    assert_eq!(event, Some(Event::Data { from: peer, datagram: b"media".to_vec() }));
    let of_nobody = [&(number + 1).to_be_bytes()[..], &[0, 5], b"media"].concat();
    assert_eq!(allocation.take(&of_nobody, now), Ok(None));
    assert_eq!(allocation.take(&padded[..7], now), Ok(None), "it is cut short");
}

#[test]
fn a_server_that_has_no_channels_goes_on_with_indications() {
    let (now, peer) = (Instant::now(), "192.0.2.1:5000".parse().unwrap());
    for code in [ErrorCode(400), CODE_INSUFFICIENT_CAPACITY, CODE_ALLOC_QUOTA_REACHED, CODE_FORBIDDEN] {
        let mut allocation = allocated(now);
        for _ in 0..100 {
            allocation.wrap(peer, vec![0; 1200], now).unwrap();
        }
        allocation.bind(now).unwrap();
        let request = decoded(&allocation.take_out().remove(0));
        assert_eq!(allocation.take(&SERVER.error(&request, code), now), Ok(None), "{}", code.0);
        assert_eq!(allocation.wrap(peer, vec![0; 1200], now).unwrap().len(), 1236);
        allocation.bind(now + Duration::from_secs(10)).unwrap();
        assert!(allocation.take_out().is_empty(), "and is not asked again");
    }
}
