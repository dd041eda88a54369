//! An endpoint that has an application behind it: its own token lets in, and about everybody else the application decides.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::time::timeout;
use tracing::warn;

use super::{
    Ask, Authorizer, Denied, Door, Gate, Role,
    counters::{AuthCounters, Outcome},
    token::RequiredToken,
    webhook::{Said, TIMEOUT},
};
use crate::{
    channel::{ChannelId, Credential},
    signaling::problem::Refusal,
};

/// Asks the application, and waits for `within` at most.
pub(super) async fn ask(authorizer: &dyn Authorizer, ask: Ask<'_>, within: Duration, counters: &AuthCounters) -> Said {
    match timeout(within, authorizer.authorize(ask.role, ask.channel, ask.token)).await {
        Ok(true) => Said::Yes,
        Ok(false) => Said::No,
        Err(_) => {
            counters.count(Outcome::Unanswered);
            warn!("the application does not say within {:.1} s who may do what", within.as_secs_f32());
            Said::Nothing
        }
    }
}

/// The gate of one endpoint.
pub(crate) struct ApplicationGate {
    token: Option<RequiredToken>,
    authorizer: Arc<dyn Authorizer>,
    /// What the application knows the endpoint by.
    channel: Option<ChannelId>,
    counters: Arc<AuthCounters>,
}

impl ApplicationGate {
    pub(crate) fn new(
        token: Option<&str>,
        authorizer: Arc<dyn Authorizer>,
        channel: Option<ChannelId>,
        counters: Arc<AuthCounters>,
    ) -> Self {
        Self { token: token.map(RequiredToken::new), authorizer, channel, counters }
    }

    fn known(&self, token: Option<&str>) -> Option<Credential> {
        let token = token?;
        self.token.as_ref()?.is(token).then(|| Credential::of(token))
    }
}

#[async_trait]
impl Gate for ApplicationGate {
    async fn admit(&self, asked: Ask<'_>) -> Result<Credential, Refusal> {
        if let Some(credential) = self.known(asked.token) {
            return Ok(credential);
        }
        let asked = Ask { channel: self.channel.as_ref(), ..asked };
        Err(Refusal::Unauthorized(match (ask(&*self.authorizer, asked, TIMEOUT, &self.counters).await, asked.token) {
            (Said::Yes, token) => return Ok(token.map_or(Credential::Anonymous, Credential::of)),
            (Said::Nothing, _) => Denied::Unanswered,
            (Said::No, Some(_)) => Denied::Wrong,
            (Said::No, None) => Denied::Missing,
        }))
    }

    async fn recognise(&self, ask: Ask<'_>) -> Option<Credential> {
        self.known(ask.token)
    }

    fn needs_token(&self, _: Role) -> bool {
        true
    }

    fn door(&self, _: Role) -> Door {
        Door::Asked
    }
}
