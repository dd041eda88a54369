//! Our allocation at a TURN server (RFC 8656), as requests and answers: pure, from datagrams to datagrams, with `now` as an
//! argument. How they travel is `link`'s business, who may write to us `peers`'.
//!
//! The client of the `rtc` crate is not used: it keeps what it knows of each peer for as long as it lives, which for a server
//! is for ever.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use rtc::{
    crypto::RTCCryptoProvider,
    stun::{
        attributes::{ATTR_NONCE, ATTR_REALM, ATTR_USERNAME},
        error_code::{
            CODE_ALLOC_MISMATCH, CODE_ALLOC_QUOTA_REACHED, CODE_FORBIDDEN, CODE_INSUFFICIENT_CAPACITY,
            CODE_STALE_NONCE, CODE_UNAUTHORIZED, CODE_WRONG_CREDENTIALS, ErrorCode, ErrorCodeAttribute,
        },
        integrity::MessageIntegrity,
        message::{
            CLASS_ERROR_RESPONSE, CLASS_INDICATION, CLASS_REQUEST, CLASS_SUCCESS_RESPONSE, Getter as _,
            METHOD_ALLOCATE, METHOD_CHANNEL_BIND, METHOD_CREATE_PERMISSION, METHOD_DATA, METHOD_REFRESH, METHOD_SEND,
            Message, MessageType, Method, Setter, TransactionId,
        },
        textattrs::TextAttribute,
    },
    turn::proto::{
        PROTO_UDP, channum::ChannelNumber, data::Data, lifetime::Lifetime, peeraddr::PeerAddress,
        relayaddr::RelayedAddress, reqtrans::RequestedTransport,
    },
};

use super::channels::Channels;

/// First pause before a request is made again where the transport may lose it; it doubles (RFC 8489 section 6.2.1).
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// 250 ms, 500 ms, 1, 2, 4 s: a server that has not answered by then is not there.
const TRIES: u32 = 5;
/// Where nothing is lost there is one try, and this long for its answer.
const PATIENCE: Duration = Duration::from_millis(7_750);
/// A request of the credentials is made anew so often when the server names another nonce.
const NONCES: u32 = 3;
/// What a server says it keeps an allocation for is taken as at least this (RFC 8656 section 3.2: 10 minutes).
const SHORTEST_LIFETIME: Duration = Duration::from_secs(60);

/// Who we are at the server.
#[derive(Clone)]
pub(super) struct Login {
    pub(super) username: String,
    pub(super) password: String,
}

/// What a datagram of the server, or the time, brings.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// Peers reach us there now.
    Allocated(SocketAddr),
    /// These may write to us.
    Permitted(Vec<Ipv4Addr>),
    /// The server does not let these.
    Refused(Vec<Ipv4Addr>),
    /// A peer has.
    Data { from: SocketAddr, datagram: Vec<u8> },
}

/// Why there is no allocation, or none any more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Failure {
    #[error("it does not answer")]
    Silent,
    #[error("it refuses the user name or the password")]
    Login,
    #[error("it has too many allocations of this user; end others, or raise its quota")]
    Quota,
    #[error("it has no relay port left")]
    Full,
    #[error("it has forgotten our allocation")]
    Gone,
    #[error("it asks for credentials in a way that is not RFC 8656's")]
    Challenge,
    #[error("it refused with error {0}")]
    Other(u16),
    #[error("the message could not be made: {0}")]
    Message(String),
}

#[derive(Clone, Debug)]
enum Request {
    Allocate,
    Refresh,
    Permit(Vec<Ipv4Addr>),
    Bind(u16, SocketAddr),
}

struct Pending {
    request: Request,
    transaction: TransactionId,
    raw: Vec<u8>,
    next: Instant,
    pause: Duration,
    tries: u32,
    /// Nonces that it was refused with.
    nonces: u32,
}

/// The challenge of the server, with what it makes of the password.
struct Challenge {
    realm: String,
    nonce: String,
}

/// One allocation.
pub(super) struct Allocation {
    login: Login,
    /// Whether the transport loses nothing.
    reliable: bool,
    provider: Arc<dyn RTCCryptoProvider>,
    challenge: Option<Challenge>,
    pending: Vec<Pending>,
    out: Vec<Vec<u8>>,
    /// When it is to be refreshed.
    refresh: Option<Instant>,
    channels: Channels,
}

impl Allocation {
    /// Begins to ask for one.
    pub(super) fn ask(login: Login, reliable: bool, now: Instant) -> Result<Self, Failure> {
        let provider = rtc::crypto::default_provider().map_err(|error| Failure::Message(error.to_string()))?;
        let (challenge, refresh, channels) = (None, None, Channels::default());
        let mut allocation =
            Self { login, reliable, provider, challenge, pending: Vec::new(), out: Vec::new(), refresh, channels };
        allocation.request(Request::Allocate, 0, now)?;
        Ok(allocation)
    }

    /// What is to be sent to the server.
    pub(super) fn take_out(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.out)
    }

    /// When [`Self::poll`] has something to do.
    pub(super) fn next(&self) -> Option<Instant> {
        self.pending.iter().map(|pending| pending.next).chain(self.refresh).min()
    }

    /// Makes requests again, and those that are due.
    pub(super) fn poll(&mut self, now: Instant) -> Result<(), Failure> {
        for pending in self.pending.iter_mut().filter(|pending| pending.next <= now) {
            if pending.tries >= if self.reliable { 1 } else { TRIES } {
                return Err(Failure::Silent);
            }
            pending.tries += 1;
            pending.pause *= 2;
            pending.next = now + pending.pause;
            self.out.push(pending.raw.clone());
        }
        if self.refresh.is_some_and(|at| at <= now) {
            self.refresh = None;
            self.request(Request::Refresh, 0, now)?;
        }
        Ok(())
    }

    /// Asks for these peers' permissions.
    pub(super) fn permit(&mut self, peers: Vec<Ipv4Addr>, now: Instant) -> Result<(), Failure> {
        self.request(Request::Permit(peers), 0, now)
    }

    /// Asks for channels to the peers that are worth it, and for longer ones.
    pub(super) fn bind(&mut self, now: Instant) -> Result<(), Failure> {
        for (number, peer) in self.channels.due(now) {
            self.request(Request::Bind(number, peer), 0, now)?;
        }
        Ok(())
    }

    /// A datagram for a peer, as the server takes it.
    pub(super) fn wrap(&mut self, to: SocketAddr, datagram: Vec<u8>, now: Instant) -> Result<Vec<u8>, Failure> {
        if let (Some(number), Ok(length)) = (self.channels.used(to, now), u16::try_from(datagram.len())) {
            return Ok([&number.to_be_bytes()[..], &length.to_be_bytes(), &datagram].concat());
        }
        let peer = PeerAddress { ip: to.ip(), port: to.port() };
        let kind = MessageType::new(METHOD_SEND, CLASS_INDICATION);
        build(&[Box::new(TransactionId::new()), Box::new(kind), Box::new(peer), Box::new(Data(datagram))])
    }

    /// The last word: the server may give the port to others.
    pub(super) fn release(&self) -> Option<Vec<u8>> {
        self.challenge.as_ref()?;
        let transaction = TransactionId::new();
        self.signed(transaction, METHOD_REFRESH, vec![Box::new(Lifetime(Duration::ZERO))]).ok()
    }

    /// Takes a datagram of the server; what is none of the expected ones says nothing.
    pub(super) fn take(&mut self, datagram: &[u8], now: Instant) -> Result<Option<Event>, Failure> {
        if let Some((number, data)) = channel_data(datagram) {
            let from = self.channels.peer(number);
            return Ok(from.map(|from| Event::Data { from, datagram: data.to_vec() }));
        }
        let mut message = Message::new();
        message.raw = datagram.to_vec();
        if message.decode().is_err() {
            return Ok(None);
        }
        if message.typ == MessageType::new(METHOD_DATA, CLASS_INDICATION) {
            let (mut from, mut data) = (PeerAddress::default(), Data::default());
            if from.get_from(&message).is_err() || data.get_from(&message).is_err() {
                return Ok(None);
            }
            return Ok(Some(Event::Data { from: SocketAddr::new(from.ip, from.port), datagram: data.0 }));
        }
        // Nobody but the server knows the transaction.
        let place = self.pending.iter().position(|pending| pending.transaction == message.transaction_id);
        let Some(place) = place else { return Ok(None) };
        if message.typ.class == CLASS_SUCCESS_RESPONSE {
            let pending = self.pending.swap_remove(place);
            return self.granted(pending.request, &message, now);
        }
        if message.typ.class != CLASS_ERROR_RESPONSE {
            return Ok(None);
        }
        let pending = self.pending.swap_remove(place);
        let mut error = ErrorCodeAttribute::default();
        let code = error.get_from(&message).map_or(ErrorCode(0), |()| error.code);
        self.refused(pending, code, &message, now)
    }

    fn granted(&mut self, request: Request, message: &Message, now: Instant) -> Result<Option<Event>, Failure> {
        if let Request::Allocate | Request::Refresh = request {
            let mut lifetime = Lifetime::default();
            let lifetime = lifetime.get_from(message).map_or(SHORTEST_LIFETIME, |()| lifetime.0);
            self.refresh = Some(now + lifetime.max(SHORTEST_LIFETIME) / 2);
        }
        match request {
            Request::Allocate => {
                let mut relayed = RelayedAddress::default();
                relayed.get_from(message).map_err(|error| Failure::Message(error.to_string()))?;
                Ok(Some(Event::Allocated(SocketAddr::new(relayed.ip, relayed.port))))
            }
            Request::Refresh => Ok(None),
            Request::Permit(peers) => Ok(Some(Event::Permitted(peers))),
            Request::Bind(number, _) => {
                self.channels.bound(number, now);
                Ok(None)
            }
        }
    }

    fn refused(
        &mut self,
        pending: Pending,
        code: ErrorCode,
        message: &Message,
        now: Instant,
    ) -> Result<Option<Event>, Failure> {
        let Pending { request, nonces, .. } = pending;
        let first = self.challenge.is_none();
        let allocates = matches!(request, Request::Allocate);
        match code {
            CODE_UNAUTHORIZED if first => {
                self.challenge = Some(challenge(message).ok_or(Failure::Challenge)?);
                self.request(request, nonces, now)?;
                Ok(None)
            }
            CODE_STALE_NONCE if nonces < NONCES => {
                self.challenge = Some(challenge(message).ok_or(Failure::Challenge)?);
                self.request(request, nonces + 1, now)?;
                Ok(None)
            }
            CODE_UNAUTHORIZED | CODE_WRONG_CREDENTIALS => Err(Failure::Login),
            CODE_ALLOC_MISMATCH => Err(Failure::Gone),
            CODE_ALLOC_QUOTA_REACHED if allocates => Err(Failure::Quota),
            CODE_INSUFFICIENT_CAPACITY if allocates => Err(Failure::Full),
            // One of them may be an address that the server never relays to: it is not known which.
            code => match request {
                Request::Permit(peers) if peers.len() > 1 && code == CODE_FORBIDDEN => {
                    for peer in peers {
                        self.request(Request::Permit(vec![peer]), 0, now)?;
                    }
                    Ok(None)
                }
                Request::Permit(peers) => Ok(Some(Event::Refused(peers))),
                // There are indications as before.
                Request::Bind(number, _) => {
                    self.channels.refused(number);
                    Ok(None)
                }
                Request::Allocate | Request::Refresh => Err(Failure::Other(code.0)),
            },
        }
    }

    fn request(&mut self, request: Request, nonces: u32, now: Instant) -> Result<(), Failure> {
        let transaction = TransactionId::new();
        let (method, attributes): (Method, Vec<Box<dyn Setter>>) = match &request {
            // However we reach the server: what it relays is UDP (RFC 8656 section 7.1).
            Request::Allocate => (METHOD_ALLOCATE, vec![Box::new(RequestedTransport { protocol: PROTO_UDP })]),
            Request::Refresh => (METHOD_REFRESH, Vec::new()),
            Request::Permit(peers) => {
                let address = |ip: &Ipv4Addr| Box::new(PeerAddress { ip: (*ip).into(), port: 0 }) as Box<dyn Setter>;
                (METHOD_CREATE_PERMISSION, peers.iter().map(address).collect())
            }
            Request::Bind(number, peer) => {
                let peer = PeerAddress { ip: peer.ip(), port: peer.port() };
                (METHOD_CHANNEL_BIND, vec![Box::new(ChannelNumber(*number)), Box::new(peer)])
            }
        };
        let raw = self.signed(transaction, method, attributes)?;
        let pause = if self.reliable { PATIENCE } else { FIRST_PAUSE };
        self.out.push(raw.clone());
        self.pending.push(Pending { request, transaction, raw, next: now + pause, pause, tries: 1, nonces });
        Ok(())
    }

    /// A request, with the credentials once the server has asked for them.
    fn signed(
        &self,
        transaction: TransactionId,
        method: Method,
        attributes: Vec<Box<dyn Setter>>,
    ) -> Result<Vec<u8>, Failure> {
        let mut setters: Vec<Box<dyn Setter + '_>> =
            vec![Box::new(transaction), Box::new(MessageType::new(method, CLASS_REQUEST))];
        for attribute in attributes {
            setters.push(attribute);
        }
        if let Some(Challenge { realm, nonce }) = &self.challenge {
            let Login { username, password } = self.login.clone();
            setters.push(Box::new(TextAttribute::new(ATTR_USERNAME, username.clone())));
            setters.push(Box::new(TextAttribute::new(ATTR_REALM, realm.clone())));
            setters.push(Box::new(TextAttribute::new(ATTR_NONCE, nonce.clone())));
            let crypto = self.provider.crypto();
            let integrity =
                MessageIntegrity::new_long_term_integrity_with_provider(username, realm.clone(), password, crypto);
            setters.push(Box::new(integrity.map_err(|error| Failure::Message(error.to_string()))?));
        }
        build(&setters)
    }
}

/// The number and the data of a ChannelData message (RFC 8656 section 12.4), without what it is padded with.
fn channel_data(datagram: &[u8]) -> Option<(u16, &[u8])> {
    let [n0 @ 0x40..=0x4F, n1, l0, l1, rest @ ..] = datagram else { return None };
    let data = rest.get(..usize::from(u16::from_be_bytes([*l0, *l1])))?;
    Some((u16::from_be_bytes([*n0, *n1]), data))
}

fn build(setters: &[Box<dyn Setter + '_>]) -> Result<Vec<u8>, Failure> {
    let mut message = Message::new();
    message.build(setters).map_err(|error| Failure::Message(error.to_string()))?;
    Ok(message.raw)
}

fn challenge(message: &Message) -> Option<Challenge> {
    let text = |attribute| TextAttribute::get_from_as(message, attribute).ok().map(|found| found.text);
    Some(Challenge { realm: text(ATTR_REALM)?, nonce: text(ATTR_NONCE)? })
}

#[cfg(test)]
mod tests;
