//! Who may do what on a bridge server: a token for each role, and each channel's own key.

use std::{fmt, sync::Arc};

use async_trait::async_trait;

use super::{Ask, Denied, Gate, Role, token::RequiredToken};
use crate::{
    channel::{Credential, KeyFit, Registry},
    signaling::problem::Refusal,
};

/// What to ask for. Without a token for a role everybody has it, but for what has a key of its own.
#[derive(Clone, Default)]
pub struct Access {
    /// For publishing.
    pub publish_token: Option<String>,
    /// For watching.
    pub view_token: Option<String>,
    /// For everything.
    pub admin_token: Option<String>,
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |token: &Option<String>| token.as_ref().map(|_| "***");
        f.debug_struct("Access")
            .field("publish_token", &shown(&self.publish_token))
            .field("view_token", &shown(&self.view_token))
            .field("admin_token", &shown(&self.admin_token))
            .finish()
    }
}

impl Access {
    pub(crate) fn gate(self, registry: Arc<dyn Registry>) -> Arc<dyn Gate> {
        let token = |token: Option<String>| token.as_deref().map(RequiredToken::new);
        Arc::new(AccessGate {
            publish: token(self.publish_token),
            view: token(self.view_token),
            admin: token(self.admin_token),
            registry,
        })
    }
}

struct AccessGate {
    publish: Option<RequiredToken>,
    view: Option<RequiredToken>,
    admin: Option<RequiredToken>,
    registry: Arc<dyn Registry>,
}

impl AccessGate {
    fn required(&self, role: Role) -> Option<&RequiredToken> {
        match role {
            Role::Publish => self.publish.as_ref(),
            Role::View => self.view.as_ref(),
            Role::Admin => self.admin.as_ref(),
        }
    }
}

#[async_trait]
impl Gate for AccessGate {
    async fn admit(&self, ask: Ask<'_>) -> Result<Credential, Refusal> {
        let Ask { role, channel, token, from } = ask;
        let is = |required: Option<&RequiredToken>| token.is_some_and(|token| required.is_some_and(|r| r.is(token)));
        if is(self.required(role)) || is(self.admin.as_ref()) {
            return Ok(token.map_or(Credential::Anonymous, Credential::of));
        }
        let key = match (role, channel) {
            (Role::Publish, Some(channel)) => self.registry.key_fits(channel, token).await,
            _ => KeyFit::NoKey,
        };
        let is_open = match role {
            // Without a token these are for this machine alone.
            Role::Admin => self.admin.is_none() && from.to_canonical().is_loopback(),
            _ => self.required(role).is_none() && key == KeyFit::NoKey,
        };
        match token {
            Some(token) if key == KeyFit::Right => Ok(Credential::of(token)),
            _ if is_open => Ok(Credential::Anonymous),
            Some(_) => Err(Refusal::Unauthorized(Denied::Wrong)),
            None => Err(Refusal::Unauthorized(Denied::Missing)),
        }
    }

    fn needs_token(&self, role: Role) -> bool {
        self.required(role).is_some()
    }
}
