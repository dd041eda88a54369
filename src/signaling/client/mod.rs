//! The client side of WHEP (draft-ietf-wish-whep-03): offers to a server, and what follows on the session's URL.
//!
//! ```text
//!   uri ──▶ ServerUrl ──▶ WhepClient ──POST──▶ Negotiated ──▶ Resource ──PATCH, DELETE──▶
//!                              └──── http: TCP, TLS, one bounded request ────┘
//! ```
//!
//! `socket` is the client side of `/ws`: one peer among others in a channel.
//!
//! Beside it `fetch` makes the small requests that a server itself has to make, over the same HTTP.
//!
//! It speaks HTTP and knows nothing of peer connections. When to try again, and when to give up, is the caller's decision;
//! [`ClientError::verdict`] says what an error means for it.

mod caller;
mod error;
mod fetch;
mod http;
mod link;
mod resource;
mod retry_after;
pub mod socket;
mod target;
mod tls;
mod whep;
mod whip;

pub(super) use fetch::Fetcher;
#[cfg(any(test, fuzzing))]
pub(super) use link::ice_servers;
#[cfg(any(test, fuzzing))]
pub(super) use retry_after::retry_after;
pub use {
    error::{ClientError, Verdict},
    fetch::{HttpUrl, HttpUrlError},
    resource::Resource,
    target::{ServerUrl, ServerUrlError},
    whep::{ClientConfig, Negotiated, WhepClient},
    whip::{Accepted, WhipClient},
};
