//! What the fuzz target `location` does with an input; the same file serves the tests. No other use.

use super::location::{Location, redact};

/// A destination, as a user or an API writes it: what is shown of it has no secret of it.
pub(crate) fn location(text: &str) {
    let shown = redact(text);
    let location = match Location::parse(text) {
        Ok(location) => location,
        Err(why) => {
            assert_eq!(shown, "***", "{why}");
            return;
        }
    };
    assert!(location.port > 0 && !location.host.is_empty() && !location.stream.is_empty());
    // Whatever the secrets are, the same is shown: what is left of one by chance (a key like the host) is none.
    let credentials = location.credentials.as_ref().map(|_| ("somebody".to_owned(), "else".to_owned()));
    let other = Location { stream: "another".to_owned(), credentials, ..location.clone() };
    assert_eq!(shown, other.to_string());
    let key = location.stream.split('?').next().unwrap_or_default();
    // A short one is part of anything, and asterisks are what stands for secrets.
    if key.len() > 8 && !key.contains('*') {
        assert!(!location.sanitise(&format!("refused: {key}!")).contains(key));
    }
    let again = Location::parse(&shown).expect("what is shown is a location, with another key");
    assert_eq!((again.tls, &again.host, again.port), (location.tls, &location.host, location.port), "{shown}");
}
