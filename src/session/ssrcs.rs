//! Bounds how many streams a peer may begin: the stack keeps state for each SSRC, even before it can tell a forged one.

use std::collections::HashSet;

/// Some layers with their retransmissions, on some tracks, and many a restart of the sender in one session.
const MOST_SSRCS: usize = 128;

/// The SSRCs of one session.
#[derive(Debug, Default)]
pub(super) struct Ssrcs {
    known: HashSet<u32>,
}

impl Ssrcs {
    /// Whether a datagram may go on: anything but RTP of one SSRC too many.
    pub(super) fn admit(&mut self, datagram: &[u8]) -> bool {
        let Some(ssrc) = ssrc(datagram) else { return true };
        if self.known.contains(&ssrc) {
            return true;
        }
        self.known.len() < MOST_SSRCS && self.known.insert(ssrc)
    }
}

/// The SSRC of an RTP packet, told from RTCP by its type (RFC 5761 section 4) and from all else by its first byte (RFC
/// 7983 section 7).
fn ssrc(datagram: &[u8]) -> Option<u32> {
    match datagram {
        [128..=191, kind, _, _, _, _, _, _, a, b, c, d, ..] if !matches!(kind & 0x7F, 64..=95) => {
            Some(u32::from_be_bytes([*a, *b, *c, *d]))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(kind: u8, ssrc: u32) -> Vec<u8> {
        [&[0x80, kind, 0, 1, 0, 0, 0, 2][..], &ssrc.to_be_bytes()].concat()
    }

    #[test]
    fn streams_that_were_there_go_on_and_too_many_new_ones_do_not() {
        let mut ssrcs = Ssrcs::default();
        assert!((0..MOST_SSRCS as u32).all(|ssrc| ssrcs.admit(&packet(96, ssrc))));
        assert!((5000..9000).all(|ssrc| !ssrcs.admit(&packet(0x80 | 111, ssrc))));
        assert!((0..MOST_SSRCS as u32).all(|ssrc| ssrcs.admit(&packet(0x80 | 102, ssrc))));
        assert_eq!(ssrcs.known.len(), MOST_SSRCS);
    }

    #[test]
    fn rtcp_stun_dtls_and_fragments_pass() {
        let mut ssrcs = Ssrcs::default();
        assert!((0..1000).all(|ssrc| ssrcs.admit(&packet(200 + (ssrc % 8) as u8, ssrc))));
        assert!(ssrcs.admit(&[]) && ssrcs.admit(&[0x80, 96]) && ssrcs.admit(&[22; 100]) && ssrcs.admit(&[0; 20]));
        assert_eq!(ssrcs.known.len(), 0);
    }
}
