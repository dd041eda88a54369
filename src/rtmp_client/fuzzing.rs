//! What the fuzz target does with the bytes of a server.

use bytes::BytesMut;

use super::{
    connection::Target,
    session::{Proof, Session},
};

/// Bytes that a server sends, in pieces whose length the first byte says.
pub(crate) fn server(input: &[u8]) {
    let Some((step, bytes)) = input.split_first() else { return };
    let target = Target {
        tls: false,
        tls_validation_flags: 0,
        host: "h".into(),
        port: 1935,
        application: "app".into(),
        stream: "key".into(),
        credentials: Some(("user".into(), "password".into())),
        codecs: vec![*b"hvc1"],
        written: Default::default(),
    };
    let mut out = BytesMut::new();
    let mut session = Session::new(target, Proof { query: None, attempts: usize::from(step % 2) }, 1, |_| {}, &mut out);
    // The handshake has nothing to find out, and would need 3 kB of every input.
    let hello = [3; 1 + 2 * 1536];
    assert!(session.receive(&hello, &mut out).is_ok());
    out.clear();
    for piece in bytes.chunks(usize::from(*step).max(1)) {
        if session.receive(piece, &mut out).is_err() {
            break;
        }
    }
    // An answer is no longer than what asks for it, but for those that there is one of.
    assert!(out.len() <= 2048 + 20 * input.len(), "{} bytes are answered with {}", input.len(), out.len());
    session.end(&mut out);
}
