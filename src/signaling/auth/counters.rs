//! How often the gate let in and refused, for whoever watches.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use serde::Serialize;
use utoipa::ToSchema;

/// Counts since the start.
#[derive(Debug, Default)]
pub(crate) struct AuthCounters {
    admitted: AtomicU64,
    missing: AtomicU64,
    wrong: AtomicU64,
    expired: AtomicU64,
    undecided: AtomicU64,
    forbidden: AtomicU64,
    slowed: AtomicU64,
    unanswered: AtomicU64,
}

/// What they stand at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct AuthCounts {
    /// Let in.
    pub(crate) admitted: u64,
    /// Refused for lack of a token.
    pub(crate) missing: u64,
    /// Refused for a token that is not right.
    pub(crate) wrong: u64,
    /// Refused for a token that was right once, or is not yet.
    pub(crate) expired: u64,
    /// Refused because who decides about the token did not answer.
    pub(crate) undecided: u64,
    /// Refused although the token is genuine: it is for something else.
    pub(crate) forbidden: u64,
    /// Refused unheard, after too many wrong tokens from the same address.
    pub(crate) slowed: u64,
    /// Questions to `auth-url` and to the application, and requests for key sets, that came to nothing.
    pub(crate) unanswered: u64,
}

/// What happened to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Admitted,
    Missing,
    Wrong,
    Expired,
    Undecided,
    Forbidden,
    Slowed,
    /// Beside the outcome of the request itself.
    Unanswered,
}

impl AuthCounters {
    pub(crate) fn count(&self, outcome: Outcome) {
        let counter = match outcome {
            Outcome::Admitted => &self.admitted,
            Outcome::Missing => &self.missing,
            Outcome::Wrong => &self.wrong,
            Outcome::Expired => &self.expired,
            Outcome::Undecided => &self.undecided,
            Outcome::Forbidden => &self.forbidden,
            Outcome::Slowed => &self.slowed,
            Outcome::Unanswered => &self.unanswered,
        };
        counter.fetch_add(1, Relaxed);
    }

    pub(crate) fn read(&self) -> AuthCounts {
        AuthCounts {
            admitted: self.admitted.load(Relaxed),
            missing: self.missing.load(Relaxed),
            wrong: self.wrong.load(Relaxed),
            expired: self.expired.load(Relaxed),
            undecided: self.undecided.load(Relaxed),
            forbidden: self.forbidden.load(Relaxed),
            slowed: self.slowed.load(Relaxed),
            unanswered: self.unanswered.load(Relaxed),
        }
    }
}
