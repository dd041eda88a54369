//! STUN and TURN servers from `Link: <…>; rel="ice-server"` header fields (RFC 8288, RFC 9725 section 4.6). Pure.

use std::{iter::Peekable, str::CharIndices};

use crate::signaling::IceServer;

/// ICE servers that are kept of one reply; a server that names more is not served better.
const MOST: usize = 16;

/// The ICE servers of some Link header fields. What is malformed ends its own field, and harms no other.
pub(in crate::signaling) fn ice_servers<'a>(fields: impl Iterator<Item = &'a str>) -> Vec<IceServer> {
    let mut servers = Vec::new();
    for field in fields {
        let mut links = Links { text: field, chars: field.char_indices().peekable() };
        while let Some((target, parameters)) = links.next_link() {
            if servers.len() < MOST
                && let Some(server) = ice_server(target, parameters)
            {
                servers.push(server);
            }
        }
    }
    servers
}

type Parameters = Vec<(String, String)>;

fn ice_server(target: &str, parameters: Parameters) -> Option<IceServer> {
    let scheme = target.split(':').next()?.to_ascii_lowercase();
    // The first of each name counts (RFC 8288 section 3.3); rel is a list of words.
    let find = |name: &str| parameters.iter().find(|(n, _)| n == name).map(|(_, value)| value.clone());
    let is_ice = find("rel")?.split_ascii_whitespace().any(|rel| rel.eq_ignore_ascii_case("ice-server"));
    let known = matches!(scheme.as_str(), "stun" | "stuns" | "turn" | "turns");
    (is_ice && known).then(|| IceServer::named(target, find("username").zip(find("credential"))))
}

/// Reads one field: `<target>; name=value; name="value", <target> …` (RFC 8288 section 3, appendix B.2).
struct Links<'a> {
    text: &'a str,
    chars: Peekable<CharIndices<'a>>,
}

impl<'a> Links<'a> {
    fn next_link(&mut self) -> Option<(&'a str, Parameters)> {
        self.skip(|c| c == ',' || c.is_whitespace());
        self.take('<')?;
        let target = self.until(|c| c == '>');
        self.take('>')?;
        let mut parameters = Vec::new();
        loop {
            self.skip(char::is_whitespace);
            if self.take(';').is_none() {
                break;
            }
            self.skip(char::is_whitespace);
            let name = self.until(|c| matches!(c, '=' | ';' | ',') || c.is_whitespace()).to_ascii_lowercase();
            self.skip(char::is_whitespace);
            let value = if self.take('=').is_some() { self.value() } else { String::new() };
            if !name.is_empty() {
                parameters.push((name, value));
            }
        }
        // Rubbish up to the next link is not guessed at.
        self.until(|c| c == ',');
        Some((target, parameters))
    }

    /// A token, or a quoted string with its escapes undone.
    fn value(&mut self) -> String {
        self.skip(char::is_whitespace);
        if self.take('"').is_none() {
            return self.until(|c| matches!(c, ';' | ',') || c.is_whitespace()).to_owned();
        }
        let mut value = String::new();
        while let Some((_, c)) = self.chars.next() {
            match c {
                '"' => break,
                '\\' => value.extend(self.chars.next().map(|(_, escaped)| escaped)),
                _ => value.push(c),
            }
        }
        value
    }

    fn take(&mut self, wanted: char) -> Option<()> {
        self.chars.next_if(|(_, c)| *c == wanted).map(|_| ())
    }

    fn skip(&mut self, of: impl Fn(char) -> bool) {
        while self.chars.next_if(|(_, c)| of(*c)).is_some() {}
    }

    fn until(&mut self, end: impl Fn(char) -> bool) -> &'a str {
        let start = self.at();
        self.skip(|c| !end(c));
        let end = self.at();
        self.text.get(start..end).unwrap_or_default()
    }

    fn at(&mut self) -> usize {
        self.chars.peek().map_or(self.text.len(), |(at, _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn servers(fields: &[&str]) -> Vec<IceServer> {
        ice_servers(fields.iter().copied())
    }

    fn stun(url: &str) -> IceServer {
        IceServer::named(url, None)
    }

    #[test]
    fn several_servers_may_share_a_field_or_have_their_own() {
        let expected = vec![stun("stun:a:3478"), stun("stun:b"), stun("stuns:c")];
        assert_eq!(
            servers(&[
                "<stun:a:3478>; rel=\"ice-server\", <stun:b>;rel=ice-server",
                "<stuns:c> ; REL = \"x ice-server\""
            ]),
            expected
        );
    }

    #[test]
    fn quoted_values_may_hold_commas_semicolons_and_escaped_quotes() {
        let field = r#"<turn:t?transport=udp>; rel="ice-server"; username="a,b;c"; credential="p\"w\\d, <x>"; credential-type="password", <stun:s>; rel="ice-server""#;
        let login = ("a,b;c".to_owned(), r#"p"w\d, <x>"#.to_owned());
        let turn = IceServer::named("turn:t?transport=udp", Some(login));
        assert_eq!(servers(&[field]), [turn, stun("stun:s")]);
    }

    #[test]
    fn other_relations_and_schemes_are_left_alone() {
        assert_eq!(
            servers(&["<https://h/sse>; rel=\"urn:ietf:params:whep:ext:core:server-sent-events\"; events=\"a,b\""]),
            []
        );
        assert_eq!(servers(&["<https://h/>; rel=ice-server", "<stun:a>; rel=ice-servers", "<stun:a>"]), []);
    }

    #[test]
    fn what_is_malformed_harms_no_other_field() {
        for bad in
            ["", "<", "<stun:a", "stun:a; rel=ice-server", "<stun:a>; rel=\"ice-ser", "<stun:a>;;; =; rel", "<>,<,>;"]
        {
            assert_eq!(servers(&[bad, "<stun:s>;rel=ice-server"]), [stun("stun:s")], "{bad}");
        }
        assert_eq!(servers(&["<stun:ü>;x=\"ü;rel=ice-server"]), []);
    }

    #[test]
    fn many_servers_are_cut_short() {
        assert_eq!(servers(&["<stun:a>;rel=ice-server,".repeat(1000).as_str()]).len(), MOST);
    }
}
