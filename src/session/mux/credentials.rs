//! The ICE credentials of a session's local side (RFC 8445 section 5.3), read from the description that names them.
//!
//! The stack makes them up: given fixed ones by its settings it would keep these over an ICE restart, which has to change
//! both (RFC 8839 section 4.4.1.1.1).

/// What the peer's requests are addressed and checked with.
#[derive(Clone, PartialEq, Eq)]
pub(in crate::session) struct IceCredentials {
    pub(super) ufrag: String,
    pub(super) password: String,
}

impl IceCredentials {
    /// The first of a local description; all its sections are bundled and have the same.
    pub(in crate::session) fn of_description(sdp: &str) -> Option<Self> {
        let value =
            |name: &str| sdp.lines().find_map(|line| line.strip_prefix(name)).map(|value| value.trim().to_owned());
        Some(Self { ufrag: value("a=ice-ufrag:")?, password: value("a=ice-pwd:")? })
    }

    /// The user fragment.
    pub(in crate::session) fn ufrag(&self) -> &str {
        &self.ufrag
    }

    /// The password; for the peer only.
    pub(in crate::session) fn password(&self) -> &str {
        &self.password
    }
}

impl std::fmt::Debug for IceCredentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "IceCredentials({})", self.ufrag) // never the password
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_are_needed_and_the_first_counts() {
        let sdp =
            "v=0\r\nm=audio 9 x 0\r\na=ice-ufrag:one\r\na=ice-pwd:secret\r\nm=video 9 x 96\r\na=ice-ufrag:two\r\n";
        let expected = IceCredentials { ufrag: "one".into(), password: "secret".into() };
        assert_eq!(IceCredentials::of_description(sdp), Some(expected));
        assert_eq!(IceCredentials::of_description("a=ice-ufrag:one\r\n"), None);
    }

    #[test]
    fn the_password_is_not_printed() {
        let credentials = IceCredentials { ufrag: "one".into(), password: "secret".into() };
        assert!(!format!("{credentials:?}").contains("secret"));
    }
}
