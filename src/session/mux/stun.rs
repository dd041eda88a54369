//! The little of STUN (RFC 8489) that routing needs: whose request is it, and does its integrity hold.

use std::{net::SocketAddr, sync::LazyLock};

use rtc::{
    crypto::RTCCryptoProvider,
    stun::{
        fingerprint::FINGERPRINT,
        integrity::MessageIntegrity,
        message::{BINDING_SUCCESS, Message, Setter},
        xoraddr::XorMappedAddress,
    },
};

pub(super) use super::checks::Transaction;

const HEADER: usize = 20;
const MAGIC_COOKIE: [u8; 4] = [0x21, 0x12, 0xA4, 0x42];
const USERNAME: u16 = 0x0006;
const MESSAGE_INTEGRITY: u16 = 0x0008;
const USE_CANDIDATE: u16 = 0x0025;

/// A STUN message about a binding, as far as its header says so (RFC 8489 section 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Request,
    /// A success or an error.
    Response,
}

/// What kind of STUN message a datagram is, and its transaction ID. `None` for anything else.
pub(super) fn kind(datagram: &[u8]) -> Option<(Kind, Transaction)> {
    let (header, _) = datagram.split_at_checked(HEADER)?;
    let kind = match header.get(..2)? {
        [0x00, 0x01] => Kind::Request,
        [0x01, 0x01 | 0x11] => Kind::Response,
        _ => return None,
    };
    let transaction = header.get(8..).and_then(|id| id.try_into().ok())?;
    (header.get(4..8)? == MAGIC_COOKIE).then_some((kind, transaction))
}

/// Our user fragment in a binding request: what stands before the colon of its USERNAME. `None` for anything else.
pub(super) fn local_ufrag(datagram: &[u8]) -> Option<&str> {
    let (Kind::Request, _) = kind(datagram)? else { return None };
    std::str::from_utf8(attribute(datagram, USERNAME)?).ok()?.split(':').next()
}

/// Whether a request nominates its pair (RFC 8445 section 7.1.2).
pub(super) fn nominates(datagram: &[u8]) -> bool {
    attribute(datagram, USE_CANDIDATE).is_some()
}

/// An attribute that the integrity vouches for: what is behind it anybody can have added, and says nothing (RFC 8489
/// section 14.5).
fn attribute(datagram: &[u8], wanted: u16) -> Option<&[u8]> {
    let mut rest = datagram.get(HEADER..)?;
    while let [t0, t1, l0, l1, tail @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*l0, *l1]));
        let value = tail.get(..length)?;
        match u16::from_be_bytes([*t0, *t1]) {
            typ if typ == wanted => return Some(value),
            MESSAGE_INTEGRITY => return None,
            _ => {}
        }
        rest = tail.get(length.next_multiple_of(4)..)?;
    }
    None
}

static PROVIDER: LazyLock<Option<std::sync::Arc<dyn RTCCryptoProvider>>> =
    LazyLock::new(|| rtc::crypto::default_provider().ok());

/// The same answer to a check with another address in it; `None` for what is no answer that was made with this password.
pub(super) fn with_mapped_address(response: &[u8], mapped: SocketAddr, password: &str) -> Option<Vec<u8>> {
    let (Kind::Response, _) = kind(response)? else { return None };
    if !integrity_holds(response, password) {
        return None;
    }
    let mut old = Message { raw: response.to_vec(), ..Default::default() };
    old.decode().ok().filter(|()| old.typ == BINDING_SUCCESS)?;
    let password = password.to_owned();
    let integrity = MessageIntegrity::new_short_term_integrity_with_provider(password, PROVIDER.as_ref()?.crypto());
    let setters: [Box<dyn Setter + '_>; 5] = [
        Box::new(old.transaction_id),
        Box::new(BINDING_SUCCESS),
        Box::new(XorMappedAddress { ip: mapped.ip(), port: mapped.port() }),
        Box::new(integrity),
        Box::new(FINGERPRINT),
    ];
    let mut message = Message::new();
    message.build(&setters).ok()?;
    Some(message.raw)
}

/// Whether the MESSAGE-INTEGRITY of a request was made with our password (RFC 8489 section 14.5).
pub(super) fn integrity_holds(datagram: &[u8], password: &str) -> bool {
    let Some(provider) = PROVIDER.as_ref() else { return false };
    let mut message = Message { raw: datagram.to_vec(), ..Default::default() };
    message.decode().is_ok() && MessageIntegrity::check(&mut message, password.as_bytes(), provider.crypto()).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(username: &str) -> Vec<u8> {
        let mut attributes = Vec::new();
        attributes.extend_from_slice(&USERNAME.to_be_bytes());
        attributes.extend_from_slice(&(username.len() as u16).to_be_bytes());
        attributes.extend_from_slice(username.as_bytes());
        attributes.resize(attributes.len().next_multiple_of(4), 0);
        let mut datagram = vec![0, 1];
        datagram.extend_from_slice(&(attributes.len() as u16).to_be_bytes());
        datagram.extend_from_slice(&MAGIC_COOKIE);
        datagram.extend_from_slice(&[7; 12]);
        datagram.extend_from_slice(&attributes);
        datagram
    }

    #[test]
    fn the_part_before_the_colon_is_ours() {
        assert_eq!(local_ufrag(&request("ours:theirs")), Some("ours"));
    }

    #[test]
    fn truncated_and_foreign_datagrams_name_nobody() {
        let whole = request("ours:theirs");
        for length in 0..whole.len() - 4 {
            assert_eq!(local_ufrag(&whole[..length]), None, "of {length} bytes");
        }
        assert_eq!(local_ufrag(&[0x80; 64]), None);
    }

    #[test]
    fn a_request_without_integrity_is_not_believed() {
        assert!(!integrity_holds(&request("ours:theirs"), "password"));
    }

    #[test]
    fn requests_and_responses_are_told_apart() {
        let mut datagram = request("ours:theirs");
        assert_eq!(kind(&datagram), Some((Kind::Request, [7; 12])));
        for class in [0x01, 0x11] {
            datagram[..2].copy_from_slice(&[0x01, class]);
            assert_eq!(kind(&datagram), Some((Kind::Response, [7; 12])));
        }
        assert_eq!(local_ufrag(&datagram), None, "a response names nobody");
        datagram[..2].copy_from_slice(&[0x00, 0x11]);
        assert_eq!(kind(&datagram), None, "an indication");
        assert_eq!(kind(&[0; 64]), None, "no cookie");
    }

    #[test]
    fn an_answer_gets_another_address_and_an_integrity_that_holds() {
        use rtc::stun::message::Getter as _;
        let answer = with_mapped_address_of(([240, 0, 0, 1], 9).into(), "ours");
        let seen: SocketAddr = ([192, 0, 2, 1], 5000).into();
        let told = with_mapped_address(&answer, seen, "ours").unwrap();
        let mut message = Message { raw: told.clone(), ..Default::default() };
        message.decode().unwrap();
        let mut mapped = XorMappedAddress::default();
        mapped.get_from(&message).unwrap();
        assert_eq!(SocketAddr::new(mapped.ip, mapped.port), seen);
        assert!(integrity_holds(&told, "ours") && kind(&told) == kind(&answer));
        assert!(FINGERPRINT.check(&message).is_ok());
        let v6: SocketAddr = "[2001:db8::1]:7".parse().unwrap();
        assert!(with_mapped_address(&told, v6, "ours").is_some());
        assert_eq!(with_mapped_address(&answer, seen, "theirs"), None, "not ours");
        assert_eq!(with_mapped_address(&request("ours:theirs"), seen, "ours"), None, "no answer");
    }

    /// An answer of the stack.
    fn with_mapped_address_of(mapped: SocketAddr, password: &str) -> Vec<u8> {
        let provider = rtc::crypto::default_provider().unwrap();
        let password = password.to_owned();
        let integrity = MessageIntegrity::new_short_term_integrity_with_provider(password, provider.crypto());
        let setters: [Box<dyn Setter>; 5] = [
            Box::new(rtc::stun::message::TransactionId([7; 12])),
            Box::new(BINDING_SUCCESS),
            Box::new(XorMappedAddress { ip: mapped.ip(), port: mapped.port() }),
            Box::new(integrity),
            Box::new(FINGERPRINT),
        ];
        let mut message = Message::new();
        message.build(&setters).unwrap();
        message.raw
    }

    #[test]
    fn what_stands_behind_the_integrity_says_nothing() {
        let mut datagram = request("ours:theirs");
        datagram.extend_from_slice(&[0x00, 0x08, 0, 20]);
        datagram.extend_from_slice(&[1; 20]);
        datagram.extend_from_slice(&[0x00, 0x25, 0, 0]);
        assert!(!nominates(&datagram), "anybody could have added it to a check that was seen");
        assert_eq!(local_ufrag(&datagram), Some("ours"));
        let (header, username) = datagram.split_at(HEADER);
        let (username, integrity) = username.split_at(16);
        assert_eq!(local_ufrag(&[header, integrity, username].concat()), None);
    }

    #[test]
    fn a_nomination_is_an_attribute_without_a_value() {
        let mut datagram = request("ours:theirs");
        assert!(!nominates(&datagram));
        datagram.extend_from_slice(&[0x00, 0x25, 0, 0]);
        assert!(nominates(&datagram));
    }
}
