//! Pages and names, and which of them may use a server.

use super::*;

struct Place {
    allowed: &'static [&'static str],
    is_locked: bool,
    always_by_host: bool,
}

const SITE: Place = Place { allowed: &[], is_locked: false, always_by_host: true };
const ELEMENT: Place = Place { allowed: &[], is_locked: false, always_by_host: false };

impl Place {
    fn judge(&self, origin: Option<&str>, host: Option<&str>) -> Result<(), Refusal> {
        let allowed = AllowedOrigins::parse(self.allowed.iter().copied()).unwrap();
        let names = ["bridge.example".to_owned()].into();
        let (is_locked, always_by_host) = (self.is_locked, self.always_by_host);
        Rules { allowed: &allowed, names: &names, is_locked, always_by_host }.judge(&Visit { origin, host })
    }

    fn serves(&self, origin: &str, host: &str) -> bool {
        self.judge(Some(origin), Some(host)).is_ok()
    }
}

#[test]
fn own_pages_and_those_of_this_machine_are_served() {
    for place in [SITE, ELEMENT] {
        for (origin, host) in [
            ("http://192.0.2.1:8080", "192.0.2.1:8080"),
            ("http://127.0.0.1:8080", "127.0.0.1:8080"),
            ("http://[2001:db8::1]", "[2001:db8::1]"),
            ("http://bridge.example:8080", "bridge.example:8080"),
            ("https://Bridge.Example", "bridge.example"),
            ("https://bridge.example", "bridge.example:443"),
            ("http://localhost:3000", "127.0.0.1:8080"),
            ("http://app.localhost", "127.0.0.1:8080"),
            ("http://[::1]:3000", "192.0.2.1:8080"),
            ("https://127.0.0.1", "localhost:8080"),
        ] {
            assert!(place.serves(origin, host), "{origin} at {host}");
        }
    }
}

#[test]
fn other_pages_are_not() {
    for place in [SITE, ELEMENT] {
        for (origin, host) in [
            ("https://evil.example", "127.0.0.1:8080"),
            ("http://192.0.2.1:8081", "192.0.2.1:8080"),
            ("http://192.0.2.2:8080", "192.0.2.1:8080"),
            ("null", "127.0.0.1:8080"),
            ("", "127.0.0.1:8080"),
            ("file://", "127.0.0.1:8080"),
            ("http://localhost.evil.example", "127.0.0.1:8080"),
            ("http://evil.example/localhost", "127.0.0.1:8080"),
            ("http://localhost@evil.example", "127.0.0.1:8080"),
            ("http://evil.example#.localhost", "127.0.0.1:8080"),
            ("http://evil.example\\.localhost", "127.0.0.1:8080"),
            ("chrome-extension://abc", "127.0.0.1:8080"),
        ] {
            assert!(!place.serves(origin, host), "{origin} at {host}");
        }
    }
}

#[test]
fn a_name_that_was_made_to_point_here_is_not_the_server() {
    for place in [SITE, ELEMENT] {
        assert!(matches!(
            place.judge(Some("http://evil.example:8080"), Some("evil.example:8080")),
            Err(Refusal::ForeignHost { .. })
        ));
    }
    // A page may read what it thinks is its own without an Origin; from an element there is nothing to read.
    assert!(matches!(SITE.judge(None, Some("evil.example:8080")), Err(Refusal::ForeignHost { .. })));
    assert!(ELEMENT.judge(None, Some("evil.example:8080")).is_ok());
    assert!(SITE.judge(None, Some("127.0.0.1:8080")).is_ok());
    assert!(SITE.judge(None, Some("bridge.example.:8080")).is_ok());
    assert!(SITE.judge(None, None).is_ok(), "no browser");
    assert!(SITE.judge(None, Some("")).is_err() && SITE.judge(None, Some("a b")).is_err());
}

#[test]
fn this_machine_is_known_by_its_name() {
    for name in MACHINE.iter() {
        assert!(SITE.judge(None, Some(&format!("{name}:8080"))).is_ok(), "{name}");
    }
    assert!(!MACHINE.is_empty());
}

#[test]
fn listed_origins_are_served_and_their_names_are_ours() {
    let place = Place { allowed: &["https://app.example", "http://Other.example:8080/"], ..SITE };
    assert!(place.serves("https://app.example", "127.0.0.1:8080"));
    assert!(place.serves("http://other.example:8080", "127.0.0.1:8080"));
    assert!(place.serves("https://app.example", "app.example"));
    assert!(!place.serves("http://app.example", "127.0.0.1:8080"), "another scheme");
    assert!(!place.serves("https://app.example:8443", "127.0.0.1:8080"), "another port");
    assert!(place.judge(None, Some("app.example")).is_ok());
    assert!(Place { allowed: &["*"], ..SITE }.serves("null", "evil.example"));
}

#[test]
fn with_a_token_all_pages_are_served_unless_some_are_listed() {
    let locked = Place { is_locked: true, ..SITE };
    assert!(locked.serves("https://any.example", "evil.example") && locked.serves("null", "evil.example"));
    let listed = Place { allowed: &["https://app.example"], ..locked };
    assert!(listed.serves("https://app.example", "evil.example"));
    assert!(listed.serves("https://own.example", "own.example"), "its own page");
    assert!(!listed.serves("https://any.example", "own.example"));
    assert!(listed.judge(None, Some("own.example")).is_ok());
}

#[test]
fn what_is_no_origin_cannot_be_listed() {
    for bad in ["", "example.com", "https://", "https://a/b", "https://a?b", "https://me@a", "a b", "https://*.a b"] {
        assert_eq!(AllowedOrigins::parse([bad]), Err(BadOrigin(bad.to_owned())), "{bad}");
    }
}

#[test]
fn a_header_that_comes_twice_fits_nothing() {
    let two = |name: header::HeaderName| {
        [(name.clone(), HeaderValue::from_static("a")), (name, HeaderValue::from_static("b"))]
    };
    let headers = HeaderMap::from_iter(two(header::ORIGIN).into_iter().chain(two(header::HOST)));
    let visit = Visit::of(&headers);
    assert_eq!((visit.origin, visit.host), (Some(""), Some("")));
}
