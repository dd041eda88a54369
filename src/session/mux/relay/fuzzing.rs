//! What the fuzz target `relay` does with the messages of a TURN server. No other use.

use std::{
    collections::HashSet,
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use rtc::stun::{
    error_code::{ErrorCode, ErrorCodeAttribute},
    message::{CLASS_ERROR_RESPONSE, CLASS_SUCCESS_RESPONSE, Message, MessageType, Setter},
};

use super::allocation::{Allocation, Event, Login};

const PASSWORD: &[u8] = b"a password that is never sent";
/// Codes that mean something to a client.
const CODES: [u16; 8] = [401, 438, 437, 441, 486, 508, 403, 500];
/// Requests that may be under way: those for permissions are made one by one where the server refuses several.
const MOST_REQUESTS: usize = 64;

/// An allocation, and what it has asked the server.
struct Client {
    allocation: Allocation,
    now: Instant,
    asked: Vec<Message>,
    wanted: HashSet<Ipv4Addr>,
}

/// The first byte says how the server is reached. Then messages: what it is (three bits) and which of several, the length, the
/// bytes: a datagram, what stands in an answer, or what we want meanwhile.
pub(in crate::session) fn relay(input: &[u8]) {
    let Some((first, mut rest)) = input.split_first() else { return };
    let password = String::from_utf8_lossy(PASSWORD).into_owned();
    let (login, now) = (Login { username: "me".into(), password }, Instant::now());
    let Ok(allocation) = Allocation::ask(login, first & 1 != 0, now) else { panic!("it cannot be asked for") };
    let mut client = Client { allocation, now, asked: Vec::new(), wanted: HashSet::new() };
    while let Some((&[what, length], tail)) = rest.split_first_chunk() {
        let (body, tail) = tail.split_at(usize::from(length).min(tail.len()));
        rest = tail;
        if client.step(what & 7, usize::from(what >> 3), body).is_none() {
            return;
        }
    }
    let last = client.allocation.release();
    assert!(last.is_none_or(|last| !holds_password(&last)));
}

impl Client {
    /// `None` once the allocation has come to its end.
    fn step(&mut self, what: u8, which: usize, body: &[u8]) -> Option<()> {
        let now = self.now;
        match what {
            0 => self.take(body)?,
            1 | 2 => {
                let Some(request) = (!self.asked.is_empty()).then(|| self.asked.remove(which % self.asked.len()))
                else {
                    return Some(());
                };
                let answer = if what == 1 { granted(&request, body) } else { refused(&request, which, body) };
                if let Some(answer) = answer {
                    self.take(&answer)?;
                }
            }
            3 => {
                self.now += Duration::from_millis(200 << which.min(14));
                self.allocation.poll(self.now).ok()?;
                let next = self.allocation.next();
                assert!(next.is_none_or(|next| next > self.now), "it is never done");
            }
            4 => {
                let peer = SocketAddr::from(([192, 0, 2, 1], 1 + which as u16));
                for _ in 0..16 {
                    let wrapped = self.allocation.wrap(peer, body.to_vec(), now).ok()?;
                    assert!(body.is_empty() || wrapped.windows(body.len()).any(|window| window == body));
                }
                self.allocation.bind(now).ok()?;
            }
            _ => {
                let peers: Vec<Ipv4Addr> = body.iter().take(16).map(|host| Ipv4Addr::new(192, 0, 2, *host)).collect();
                if !peers.is_empty() && self.asked.len() < 16 {
                    self.wanted.extend(&peers);
                    self.allocation.permit(peers, now).ok()?;
                }
            }
        }
        for request in self.allocation.take_out() {
            assert!(!holds_password(&request));
            let mut message = Message { raw: request, ..Message::default() };
            assert!(message.decode().is_ok(), "it asks what is no request");
            self.asked.retain(|asked| asked.transaction_id != message.transaction_id);
            self.asked.push(message);
        }
        // What was not answered here is not asked for ever.
        let surplus = self.asked.len().saturating_sub(MOST_REQUESTS);
        self.asked.drain(..surplus);
        Some(())
    }

    fn take(&mut self, datagram: &[u8]) -> Option<()> {
        match self.allocation.take(datagram, self.now).ok()? {
            Some(Event::Permitted(peers) | Event::Refused(peers)) => {
                assert!(peers.iter().all(|peer| self.wanted.contains(peer)), "{peers:?} were not asked for");
            }
            Some(Event::Data { datagram: data, .. }) => {
                let comes = data.is_empty() || datagram.windows(data.len()).any(|window| window == data);
                assert!(comes, "data that did not come");
            }
            Some(Event::Allocated(_)) | None => {}
        }
        Some(())
    }
}

fn granted(request: &Message, attributes: &[u8]) -> Option<Vec<u8>> {
    let kind = MessageType::new(request.typ.method, CLASS_SUCCESS_RESPONSE);
    with_attributes(&[Box::new(request.transaction_id), Box::new(kind)], attributes)
}

fn refused(request: &Message, which: usize, attributes: &[u8]) -> Option<Vec<u8>> {
    let kind = MessageType::new(request.typ.method, CLASS_ERROR_RESPONSE);
    let code = ErrorCode(*CODES.get(which % CODES.len())?);
    let error = ErrorCodeAttribute { code, reason: b"because".to_vec() };
    with_attributes(&[Box::new(request.transaction_id), Box::new(kind), Box::new(error)], attributes)
}

/// A message of these, and whatever these bytes are behind them.
fn with_attributes(setters: &[Box<dyn Setter>], attributes: &[u8]) -> Option<Vec<u8>> {
    let mut message = Message::new();
    message.build(setters).ok()?;
    message.raw.extend(attributes.get(..attributes.len() / 4 * 4)?);
    let length = u16::try_from(message.raw.len() - 20).ok()?;
    message.raw.get_mut(2..4)?.copy_from_slice(&length.to_be_bytes());
    Some(message.raw)
}

fn holds_password(bytes: &[u8]) -> bool {
    bytes.windows(PASSWORD.len()).any(|window| window == PASSWORD)
}
