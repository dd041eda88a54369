//! `auth-url`: another service is asked about each request that no token of ours explains.
//!
//! It gets a POST with JSON: `{"role": "publish", "channel": "live", "token": "…", "address": "192.0.2.1"}`, where role is
//! publish or view, and channel and token may be null. A status of 2xx lets in; every other one, and none within
//! four seconds, with what an application or a provider of keys has taken of them, does not. Redirections are not followed and nothing is remembered. About administrators it is not asked.

use std::{sync::Arc, time::Duration};

use serde_json::json;
use tokio::time::{Instant, timeout};
use tracing::{debug, warn};

use super::{
    Ask,
    counters::{AuthCounters, Outcome},
    turns::Turns,
};
use crate::signaling::client::{Fetcher, HttpUrl};

/// Half of what OBS gives a POST, as the offer is still to be answered. For all who are asked together, with waiting for a turn.
pub(super) const TIMEOUT: Duration = Duration::from_secs(4);

/// Questions at a time, so that a flood here is not one there; further ones wait for their turn.
const MOST_AT_ONCE: usize = 32;
/// Of one network, which is people behind one NAT or one proxy, or who floods: the rest is for others.
const MOST_OF_ONE: usize = 24;

/// The service.
pub(crate) struct Webhook {
    url: HttpUrl,
    fetcher: Fetcher,
    turns: Turns,
    counters: Arc<AuthCounters>,
}

/// What it said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    Yes,
    No,
    /// It could not be asked, or did not answer in time.
    Nothing,
}

impl Webhook {
    pub(crate) fn new(url: HttpUrl, fetcher: Fetcher, counters: Arc<AuthCounters>) -> Self {
        Self { url, fetcher, turns: Turns::new(MOST_AT_ONCE, MOST_OF_ONE), counters }
    }

    /// Asks about one request; waits for `within` at most.
    pub(crate) async fn ask(&self, ask: Ask<'_>, within: Duration) -> Said {
        let body = json!({
            "role": ask.role.as_str(),
            "channel": ask.channel.map(|channel| channel.as_str()),
            "token": ask.token,
            "address": ask.from.to_canonical().to_string(),
        });
        if within.is_zero() {
            self.counters.count(Outcome::Unanswered);
            warn!("auth-url is not asked: who was asked before took all the time that clients have");
            return Said::Nothing;
        }
        let began = Instant::now();
        let Ok(_turn) = timeout(within, self.turns.take(ask.from)).await else {
            self.counters.count(Outcome::Unanswered);
            warn!(from = %ask.from, "as many ask auth-url as may at once; one had no turn in time");
            return Said::Nothing;
        };
        let left = within.saturating_sub(began.elapsed());
        let asked = self.fetcher.post_json(&self.url, body.to_string());
        let why = match timeout(left, Box::pin(asked)).await {
            Ok(Ok(status)) if status.is_success() => return Said::Yes,
            Ok(Ok(status)) if status.is_client_error() => {
                debug!(url = %self.url, %status, "auth-url says no");
                return Said::No;
            }
            Ok(Ok(status)) => format!("it answers {status}"),
            Ok(Err(why)) => why,
            Err(_) => format!("no answer within {:.1} s", left.as_secs_f32()),
        };
        self.counters.count(Outcome::Unanswered);
        warn!(url = %self.url, %why, "auth-url cannot be asked");
        Said::Nothing
    }
}
