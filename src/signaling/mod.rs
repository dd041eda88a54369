//! Offers and answers over HTTP: one axum server per HOST:PORT, shared by the process's elements.
//!
//! This module speaks HTTP and knows nothing of peer connections: whoever mounts an endpoint hands in an
//! [`OfferAnswerer`], which turns an SDP offer into an answer and a [`SignaledSession`].

mod answerer;

pub use answerer::{Answer, AnswerError, Offer, OfferAnswerer, SessionId, SessionLease, SignaledSession};
