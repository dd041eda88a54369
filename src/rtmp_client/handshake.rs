//! The simple handshake (section 5.2): what the server sends, and what is owed for it.

use bytes::{BufMut as _, BytesMut};

/// Length of C1, S1, C2 and S2.
const PACKET: usize = 1536;

/// The version that everybody speaks.
const VERSION: u8 = 3;

/// Where the handshake stands.
#[derive(Debug, Default)]
pub(super) struct Handshake {
    /// S0 and S1 as far as they have come.
    hello: Vec<u8>,
    /// How much of S2 has come; it echoes C1, and nobody checks.
    echo: usize,
}

/// The server speaks something else.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NotRtmp;

impl Handshake {
    /// Writes C0 and C1; `random` fills the latter.
    pub(super) fn begin(random: impl FnOnce(&mut [u8]), out: &mut BytesMut) {
        out.put_u8(VERSION);
        out.put_u64(0); // time and zero
        let at = out.len();
        out.put_bytes(0, PACKET - 8);
        random(&mut out[at..]);
    }

    /// Takes what has come off `bytes` and writes C2 when it is due; whether the handshake is done.
    pub(super) fn receive(&mut self, bytes: &mut &[u8], out: &mut BytesMut) -> Result<bool, NotRtmp> {
        let missing = 1 + PACKET - self.hello.len();
        if missing > 0 {
            let (now, rest) = bytes.split_at(missing.min(bytes.len()));
            *bytes = rest;
            self.hello.extend_from_slice(now);
            // Versions from 32 on are left to protocols that begin with text (section 5.2.2).
            if self.hello.first().is_some_and(|version| *version >= 32) {
                return Err(NotRtmp);
            }
            if now.len() < missing {
                return Ok(false);
            }
            out.extend_from_slice(&self.hello[1..]);
        }
        let (now, rest) = bytes.split_at((PACKET - self.echo).min(bytes.len()));
        *bytes = rest;
        self.echo += now.len();
        Ok(self.echo == PACKET)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_is_echoed_and_then_it_is_done_however_the_bytes_come() {
        let mut hello = BytesMut::new();
        Handshake::begin(|random| random.fill(7), &mut hello);
        assert_eq!((hello.len(), hello[0], hello[9]), (1 + PACKET, 3, 7));
        let mut server = vec![3];
        server.extend((0..2 * PACKET).map(|byte| byte as u8));
        server.push(99);
        for step in [1, 700, 1537, 5000] {
            let (mut handshake, mut out, mut rest) = (Handshake::default(), BytesMut::new(), &server[..]);
            let done = loop {
                let mut now = &rest[..step.min(rest.len())];
                let before = now.len();
                let done = handshake.receive(&mut now, &mut out);
                rest = &rest[before - now.len()..];
                if done != Ok(false) {
                    break done;
                }
            };
            assert_eq!((done, rest), (Ok(true), &[99][..]));
            assert_eq!(out, server[1..=PACKET]);
        }
    }

    #[test]
    fn web_server_is_told_from_an_rtmp_server() {
        let mut bytes = &b"HTTP/1.1 400 Bad Request\r\n"[..];
        assert_eq!(Handshake::default().receive(&mut bytes, &mut BytesMut::new()), Err(NotRtmp));
    }
}
