//! User name and password, for servers that ask for them when the first attempt to connect is refused: the schemes of
//! Adobe's and of Limelight's servers, as FFmpeg, OBS and rtmp2sink speak them. Both end in a query behind the
//! application's name, on a new connection.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use md5::{Digest as _, Md5};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// Stays as it is in a query.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// What follows a refusal.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// It has nothing to do with this.
    Unrelated,
    /// Connect again with this query.
    Connect(String),
    /// It will not be; why.
    Refused(String),
}

/// Reads the description in an answer to connect, of which there were `attempts` before. `random` is for this once.
pub(super) fn next(
    description: &str,
    credentials: Option<&(String, String)>,
    application: &str,
    attempts: usize,
    random: u32,
) -> Next {
    let Some(scheme) = ["adobe", "llnw"].into_iter().find(|name| description.contains(&format!("authmod={name}")))
    else {
        return Next::Unrelated;
    };
    let Some((user, password)) = credentials else {
        return Next::Refused("the server asks for a user name and a password".into());
    };
    let query = description.split_once('?').map(|(_, query)| query.trim());
    let field = |name: &str| {
        let fields = query.unwrap_or_default().split('&');
        fields.filter_map(|pair| pair.split_once('=')).find(|(key, _)| *key == name).map_or("", |(_, value)| value)
    };
    let escaped = utf8_percent_encode(user, ESCAPED);
    match (query, attempts) {
        (None, 0) => Next::Connect(format!("authmod={scheme}&user={escaped}")),
        (Some(_), 1) if field("reason") == "needauth" => Next::Connect(match scheme {
            "adobe" => {
                let (salt, challenge, opaque) = (field("salt"), field("challenge"), field("opaque"));
                let ours = format!("{random:08x}");
                let salted = STANDARD.encode(Md5::digest(format!("{user}{salt}{password}")));
                let theirs = if opaque.is_empty() { challenge } else { opaque };
                let response = STANDARD.encode(Md5::digest(format!("{salted}{theirs}{ours}")));
                let tail = if opaque.is_empty() { String::new() } else { format!("&opaque={opaque}") };
                format!("authmod=adobe&user={escaped}&challenge={ours}&response={response}{tail}")
            }
            _ => {
                let (nonce, ours) = (field("nonce"), format!("{random:08x}"));
                let instance = if application.contains('/') { "" } else { "/_definst_" };
                let who = hex(&format!("{user}:live:{password}"));
                let what = hex(&format!("publish:/{application}{instance}"));
                let response = hex(&format!("{who}:{nonce}:00000001:{ours}:auth:{what}"));
                format!("authmod=llnw&user={escaped}&nonce={nonce}&cnonce={ours}&nc=00000001&response={response}")
            }
        }),
        _ => Next::Refused("the server does not take this user name and password".into()),
    }
}

fn hex(text: &str) -> String {
    Md5::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(description: &str, attempts: usize) -> Next {
        next(description, Some(&("bob".into(), "p@ss".into())), "app", attempts, 0x0012_3456)
    }

    #[test]
    fn first_refusal_leads_to_a_question() {
        let answer = ask("[ AccessManager.Reject ] : [ code=403 need auth; authmod=adobe ] : ", 0);
        assert_eq!(answer, Next::Connect("authmod=adobe&user=bob".into()));
        assert_eq!(ask("Connection rejected", 0), Next::Unrelated);
        let without = next("[ authmod=adobe ]", None, "app", 0, 0);
        assert!(matches!(without, Next::Refused(words) if words.contains("asks for a user name")));
    }

    /// The digests by Python's hashlib.
    #[test]
    fn challenges_are_answered() {
        let reject =
            "[ AccessManager.Reject ] : [ authmod=adobe ] : ?reason=needauth&user=bob&salt=SALT==&challenge=CHAL==";
        let Next::Connect(answer) = ask(reject, 1) else { panic!() };
        assert_eq!(answer, "authmod=adobe&user=bob&challenge=00123456&response=TCxesIWPAGgXgXNi1QwPVw==");
        let Next::Connect(answer) = ask(&format!("{reject}&opaque=OPAQ=="), 1) else { panic!() };
        assert_eq!(answer, "authmod=adobe&user=bob&challenge=00123456&response=VeIeYuhVyhjZp33gkP1ETA==&opaque=OPAQ==");
        let reject = "[ AccessManager.Reject ] : [ authmod=llnw ] : ?reason=needauth&user=bob&nonce=NONCE";
        let Next::Connect(answer) = ask(reject, 1) else { panic!() };
        assert_eq!(
            answer,
            "authmod=llnw&user=bob&nonce=NONCE&cnonce=00123456&nc=00000001&response=92efc1ecda1d4a038033282409186652"
        );
    }

    #[test]
    fn wrong_password_ends_it() {
        let wrong = "[ AccessManager.Reject ] : [ authmod=adobe ] : ?reason=authfailed&opaque=OPAQ";
        assert!(matches!(ask(wrong, 2), Next::Refused(_)));
        assert!(matches!(ask(wrong, 1), Next::Refused(_)));
        assert!(matches!(ask("[ code=403 need auth; authmod=adobe ]", 1), Next::Refused(_)));
    }
}
