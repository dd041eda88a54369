//! A channel's id: what may stand in a path, a file name and a stream name without being encoded.

use std::{fmt, str::FromStr, sync::Arc};

/// Names a channel: `[A-Za-z0-9_-]{1,64}`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChannelId(Arc<str>);

/// A text that is no channel id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a channel id has 1 to 64 letters, digits, _ and -")]
pub struct BadChannelId;

impl ChannelId {
    /// A fresh one that nobody can guess: 72 bits of randomness in twelve letters and digits.
    pub fn random() -> Self {
        use rand::distr::{Alphanumeric, SampleString as _};
        Self(Alphanumeric.sample_string(&mut rand::rng(), 12).into())
    }

    /// As it stands in URLs.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ChannelId {
    type Err = BadChannelId;

    fn from_str(text: &str) -> Result<Self, BadChannelId> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        match (1..=64).contains(&text.len()) && text.bytes().all(fits) {
            true => Ok(Self(text.into())),
            false => Err(BadChannelId),
        }
    }
}

impl fmt::Display for ChannelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ChannelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_short_and_of_plain_characters() {
        for good in ["a", "Live-1_2", &"x".repeat(64)] {
            assert_eq!(good.parse::<ChannelId>().unwrap().as_str(), good);
        }
        for bad in ["", "a b", "a/b", "ä", "..", &"x".repeat(65)] {
            assert_eq!(bad.parse::<ChannelId>(), Err(BadChannelId), "{bad}");
        }
    }

    #[test]
    fn a_random_id_is_an_id() {
        let id = ChannelId::random();
        assert_eq!(id.as_str().parse::<ChannelId>().unwrap(), id);
        assert_ne!(id, ChannelId::random());
    }
}
