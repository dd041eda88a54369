//! What a JWT says that its bearer may do.
//!
//! `role` is `publish`, `view` or `admin`, or an array of them; an admin may do everything. `channel` is a channel's id or
//! `*` for all, or an array of them. `roles` and `channels` are other names for the same. Who wants something that is about
//! no channel in particular needs `*`, but for viewing: the list of channels is anybody's who may view one. `sub`, if
//! there is one, says who it is: two tokens with the same one are of the same publisher.

use serde::Deserialize;

use super::Role;
use crate::channel::{ChannelId, Credential};

/// The claims that matter here.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Claims {
    sub: Option<String>,
    iss: Option<String>,
    #[serde(alias = "roles")]
    role: OneOrMore,
    #[serde(alias = "channels")]
    channel: OneOrMore,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

impl Default for OneOrMore {
    fn default() -> Self {
        Self::More(Vec::new())
    }
}

impl OneOrMore {
    fn has(&self, wanted: &str) -> bool {
        match self {
            Self::One(one) => one == wanted,
            Self::More(more) => more.iter().any(|one| one == wanted),
        }
    }
}

/// What a genuine token does not allow. The text is for its bearer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Lacks {
    #[error("the token is genuine, but not for this: it does not have the role {}", .0.as_str())]
    Role(Role),
    #[error("the token is genuine, but not for this channel")]
    Channel,
    #[error("the token is genuine, but only for some channels, and this is about all")]
    AllChannels,
}

impl Claims {
    /// Whether the bearer may do this.
    pub(crate) fn permit(&self, role: Role, channel: Option<&ChannelId>) -> Result<(), Lacks> {
        if !self.role.has(role.as_str()) && !self.role.has(Role::Admin.as_str()) {
            return Err(Lacks::Role(role));
        }
        match channel {
            _ if self.channel.has("*") => Ok(()),
            Some(channel) if self.channel.has(channel.as_str()) => Ok(()),
            Some(_) => Err(Lacks::Channel),
            None if role == Role::View => Ok(()),
            None => Err(Lacks::AllChannels),
        }
    }

    /// Who the bearer is: its subject, or else the very token.
    pub(crate) fn credential(&self, token: &str) -> Credential {
        match self.sub.as_deref().filter(|sub| !sub.is_empty()) {
            // No bearer token has a zero in it: a subject is never the same person as a token that reads like it.
            Some(sub) => Credential::of(&format!("sub\0{}\0{sub}", self.iss.as_deref().unwrap_or_default())),
            None => Credential::of(token),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn claims(value: Value) -> Claims {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn role_and_channel_must_both_fit() {
        let live: ChannelId = "live".parse().unwrap();
        let permit = |value: Value, role| claims(value).permit(role, Some(&live));
        for fits in [
            json!({"role": "publish", "channel": "live"}),
            json!({"roles": ["view", "publish"], "channels": ["other", "live"]}),
            json!({"role": "publish", "channel": "*"}),
            json!({"role": ["admin"], "channel": ["*"]}),
        ] {
            assert_eq!(permit(fits.clone(), Role::Publish), Ok(()), "{fits}");
        }
        assert_eq!(permit(json!({"role": "view", "channel": "live"}), Role::Publish), Err(Lacks::Role(Role::Publish)));
        assert_eq!(permit(json!({"role": "publish", "channel": "*"}), Role::Admin), Err(Lacks::Role(Role::Admin)));
        assert_eq!(permit(json!({"channel": "*"}), Role::View), Err(Lacks::Role(Role::View)));
        assert_eq!(permit(json!({"role": "view", "channel": "lives"}), Role::View), Err(Lacks::Channel));
        assert_eq!(permit(json!({"role": "admin"}), Role::View), Err(Lacks::Channel));
        assert_eq!(
            permit(json!({"role": "publisher", "channel": "live"}), Role::Publish),
            Err(Lacks::Role(Role::Publish))
        );
    }

    #[test]
    fn what_is_about_no_channel_needs_all_but_for_the_list() {
        let one = claims(json!({"role": ["admin"], "channel": "live"}));
        assert_eq!(one.permit(Role::View, None), Ok(()));
        assert_eq!(one.permit(Role::Publish, None), Err(Lacks::AllChannels));
        assert_eq!(one.permit(Role::Admin, None), Err(Lacks::AllChannels));
        assert_eq!(claims(json!({"role": "admin", "channel": "*"})).permit(Role::Admin, None), Ok(()));
    }

    #[test]
    fn a_subject_is_one_person_whatever_his_token() {
        let alice = claims(json!({"sub": "alice"}));
        assert!(alice.credential("a.b.c").is_same_as(alice.credential("d.e.f")));
        assert!(!alice.credential("a.b.c").is_same_as(claims(json!({"sub": "bob"})).credential("a.b.c")));
        assert!(!alice.credential("a").is_same_as(claims(json!({"sub": "alice", "iss": "x"})).credential("a")));
        assert!(!alice.credential("alice").is_same_as(Credential::of("alice")));
        assert!(claims(json!({"sub": ""})).credential("a.b.c").is_same_as(Credential::of("a.b.c")));
    }
}
