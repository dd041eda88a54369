//! `{channel}`, `{session}` and `{started}` in the values of properties.

use std::{
    borrow::Cow,
    time::{SystemTime, UNIX_EPOCH},
};

/// What is filled in.
#[derive(Clone, Debug)]
pub(super) struct Names {
    pub(super) channel: String,
    /// It protects the session's URL: nothing for names that others see.
    pub(super) session: String,
    /// When the session was begun, in whole seconds of UNIX time.
    pub(super) started: u64,
}

/// A placeholder that means nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unknown(pub(super) String);

impl Names {
    /// Of a session that begins now.
    pub(super) fn new(channel: impl Into<String>, session: impl Into<String>) -> Self {
        let started = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        Self { channel: channel.into(), session: session.into(), started }
    }

    /// The text with its placeholders filled in; borrowed if it has none. Braces around anything but one small word are
    /// none: lists, JSON and the like are left as they are.
    pub(super) fn fill<'a>(&self, text: &'a str) -> Result<Cow<'a, str>, Unknown> {
        let mut filled = String::new();
        let mut rest = text;
        let mut any = false;
        while let Some((before, after)) = rest.split_once('{') {
            filled.push_str(before);
            match after.split_once('}').filter(|(name, _)| is_word(name)) {
                Some((name, behind)) => {
                    match name {
                        "channel" => filled.push_str(&self.channel),
                        "session" => filled.push_str(&self.session),
                        "started" => filled.push_str(&self.started.to_string()),
                        other => return Err(Unknown(other.to_owned())),
                    }
                    any = true;
                    rest = behind;
                }
                None => {
                    filled.push('{');
                    rest = after;
                }
            }
        }
        filled.push_str(rest);
        Ok(if any { Cow::Owned(filled) } else { Cow::Borrowed(text) })
    }
}

fn is_word(name: &str) -> bool {
    let rest = name.strip_prefix(|first: char| first.is_ascii_lowercase());
    rest.is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_lowercase() || matches!(byte, b'-' | b'_')))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(text: &str) -> Result<String, Unknown> {
        let names = Names { started: 1_790_000_000, ..Names::new("blue", "Ab1") };
        names.fill(text).map(Cow::into_owned)
    }

    #[test]
    fn placeholders_are_filled_in_wherever_they_stand() {
        assert_eq!(fill("rtmp://h/live/{channel}").unwrap(), "rtmp://h/live/blue");
        assert_eq!(fill("{channel}-{session}.mkv").unwrap(), "blue-Ab1.mkv");
        assert_eq!(fill("{channel}-{started}-%05d.ts").unwrap(), "blue-1790000000-%05d.ts");
        assert_eq!(fill("").unwrap(), "");
    }

    #[test]
    fn what_was_filled_in_is_not_looked_at_again() {
        let names = Names::new("{session}", "x");
        assert_eq!(names.fill("{channel}").unwrap(), "{session}");
    }

    #[test]
    fn braces_around_something_else_are_left_alone() {
        for text in ["{", "}", "{}", "{ channel }", "{\"a\":1}", "{I420,NV12}", "{I420}", "{{", "a{1}b"] {
            assert_eq!(fill(text).unwrap(), text);
        }
        assert_eq!(fill("{{channel}").unwrap(), "{blue");
    }

    #[test]
    fn an_unknown_one_is_named() {
        assert_eq!(fill("rtmp://h/{chanel}"), Err(Unknown("chanel".into())));
    }
}
