//! An RTMP publisher: one connection to one server, from the TCP handshake to the goodbye.
//!
//! What is said is decided without I/O (`session` with `handshake`, `reader`, `commands`, `auth`; section numbers are those
//! of "Adobe's Real Time Messaging Protocol", 1.0); `outbox` holds what waits for the socket, `link` moves it, `dial` makes
//! the socket and `tls` judges certificates. Media is never copied: chunk headers go between pieces of shared tags, in
//! vectored writes. It is handed to the socket on the thread that brings it; a task is woken only for what the socket did
//! not take at once, and for what the server says. Nothing is retried, and no time is kept: `rtmp` does that.

mod amf0;
mod auth;
mod commands;
mod connection;
mod dial;
mod error;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod handshake;
mod link;
mod outbox;
mod reader;
mod session;
mod tls;
mod writer;

pub use connection::{Connection, Sender, Target, open};
pub use error::Error;
pub use outbox::MOST_BYTES;
