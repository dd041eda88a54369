//! Offers and answers over HTTP: one axum server per HOST:PORT, shared by the process's elements.
//!
//! This module speaks HTTP and knows nothing of peer connections: whoever mounts an endpoint hands in an
//! [`OfferAnswerer`], which turns an SDP offer into an answer and a [`SignaledSession`].
//!
//! ```text
//!   uri ──▶ EndpointConfig ──▶ mount ──▶ server     bind, TLS, accept; one per HOST:PORT
//!                                          │ router
//!                          page ◀──────────┴──────▶ whip ──▶ auth, sdp ──▶ table ──▶ OfferAnswerer
//!                                                    │ errors: problem, on every answer: cors
//! ```

mod answerer;
mod auth;
pub mod client;
mod connection;
mod cors;
mod mount;
mod page;
mod problem;
mod sdp;
mod server;
mod table;
mod tls;
mod uri;
mod whip;

pub use answerer::{Answer, AnswerError, Offer, OfferAnswerer, SessionId, SessionLease, SignaledSession, abbreviate};
pub use mount::{EndpointConfig, Mount, MountError, mount};
pub use tls::TlsFiles;
pub use uri::{EndpointUri, ListenAddress, Scheme, UriError};
