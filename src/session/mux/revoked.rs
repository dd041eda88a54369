//! Sessions that are over tell their peers so: consent is revoked with 403 (RFC 7675 section 5.2), which RFC 9725 section
//! 4.2 asks for when a server ends a session. Without it a peer sends on for up to 30 s.

use std::{
    collections::{HashMap, VecDeque},
    sync::LazyLock,
    time::{Duration, Instant},
};

use rtc::{
    crypto::RTCCryptoProvider,
    stun::{
        error_code::{CODE_FORBIDDEN, ErrorCodeAttribute},
        fingerprint::FINGERPRINT,
        integrity::MessageIntegrity,
        message::{BINDING_ERROR, Message, Setter, TransactionId},
    },
};

use super::stun;

/// Peers ask at least every 6 s (RFC 7675 section 5.1), and consent that is not renewed is over after 30 s.
const REMEMBERED_FOR: Duration = Duration::from_secs(30);
/// Sessions that end within that time, with a restart or two each.
const MOST: usize = 512;

/// The credentials of sessions that ended lately.
#[derive(Default)]
pub(super) struct Revoked {
    passwords: HashMap<String, String>,
    order: VecDeque<(Instant, String)>,
}

impl Revoked {
    /// A session is over.
    pub(super) fn insert(&mut self, ufrag: String, password: String, now: Instant) {
        self.expire(now);
        if self.order.len() >= MOST {
            self.drop_oldest();
        }
        self.order.push_back((now + REMEMBERED_FOR, ufrag.clone()));
        self.passwords.insert(ufrag, password);
    }

    /// The answer to a request that is still made of a session that is over; `None` if it is none, or forged.
    pub(super) fn answer(&mut self, datagram: &[u8], now: Instant) -> Option<Vec<u8>> {
        if self.order.is_empty() {
            return None;
        }
        self.expire(now);
        let password = self.passwords.get(stun::local_ufrag(datagram)?)?;
        if !stun::integrity_holds(datagram, password) {
            return None;
        }
        let (_, transaction) = stun::kind(datagram)?;
        forbidden(transaction, password)
    }

    fn expire(&mut self, now: Instant) {
        while self.order.front().is_some_and(|(until, _)| *until <= now) {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        if let Some((_, ufrag)) = self.order.pop_front() {
            self.passwords.remove(&ufrag);
        }
    }
}

/// A binding error response 403, which the peer believes for its integrity.
fn forbidden(transaction: stun::Transaction, password: &str) -> Option<Vec<u8>> {
    static PROVIDER: LazyLock<Option<std::sync::Arc<dyn RTCCryptoProvider>>> =
        LazyLock::new(|| rtc::crypto::default_provider().ok());
    let provider = PROVIDER.as_ref()?;
    let reason = ErrorCodeAttribute { code: CODE_FORBIDDEN, reason: b"Forbidden".to_vec() };
    let integrity = MessageIntegrity::new_short_term_integrity_with_provider(password.to_owned(), provider.crypto());
    let attributes: [Box<dyn Setter>; 5] = [
        Box::new(BINDING_ERROR),
        Box::new(TransactionId(transaction)),
        Box::new(reason),
        Box::new(integrity),
        Box::new(FINGERPRINT),
    ];
    let mut message = Message::new();
    message.build(&attributes).ok()?;
    Some(message.raw)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rtc::stun::{message::BINDING_REQUEST, textattrs::Username};

    fn request(ufrag: &str, password: &str) -> Vec<u8> {
        let provider = rtc::crypto::default_provider().unwrap();
        let integrity =
            MessageIntegrity::new_short_term_integrity_with_provider(password.to_owned(), provider.crypto());
        let mut message = Message::new();
        message
            .build(&[
                Box::new(BINDING_REQUEST),
                Box::new(TransactionId::default()),
                Box::new(Username::new(rtc::stun::attributes::ATTR_USERNAME, format!("{ufrag}:peer"))),
                Box::new(integrity),
            ])
            .unwrap();
        message.raw
    }

    #[test]
    fn a_request_of_a_session_that_is_over_is_answered_403_with_integrity() {
        let (mut revoked, now) = (Revoked::default(), Instant::now());
        revoked.insert("ours".into(), "password".into(), now);
        let asked = request("ours", "password");
        let answer = revoked.answer(&asked, now).unwrap();
        assert_eq!((&answer[..2], &answer[8..20]), (&[0x01, 0x11][..], &asked[8..20]));
        assert!(stun::integrity_holds(&answer, "password"));
        assert!(answer.len() <= asked.len() + 24, "nobody is flooded by way of us: {}", answer.len());
    }

    #[test]
    fn forged_requests_and_those_of_others_get_nothing() {
        let (mut revoked, now) = (Revoked::default(), Instant::now());
        revoked.insert("ours".into(), "password".into(), now);
        assert_eq!(revoked.answer(&request("ours", "wrong"), now), None);
        assert_eq!(revoked.answer(&request("other", "password"), now), None);
        assert_eq!(revoked.answer(&[0x80; 40], now), None);
    }

    #[test]
    fn sessions_are_forgotten_after_30_s_and_never_more_than_512_are_kept() {
        let (mut revoked, now) = (Revoked::default(), Instant::now());
        for number in 0..10_000 {
            revoked.insert(format!("ours{number}"), "password".into(), now);
        }
        assert_eq!((revoked.order.len(), revoked.passwords.len()), (MOST, MOST));
        assert!(revoked.answer(&request("ours9999", "password"), now + Duration::from_secs(29)).is_some());
        assert!(revoked.answer(&request("ours9999", "password"), now + REMEMBERED_FOR).is_none());
        assert!(revoked.passwords.is_empty());
    }
}
