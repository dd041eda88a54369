//! What strange elements say of their failures, without what may be secret in it. Pure.

/// The text with each address cut behind its host: what follows may hold a stream key.
pub(super) fn without_addresses(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        out.push_str(before);
        let end = after.find(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '<' | '>')).unwrap_or(after.len());
        let (address, behind) = after.split_at(end);
        let authority = address.split(['/', '?', '#']).next().unwrap_or_default();
        let host = authority.rsplit('@').next().unwrap_or_default();
        out.push_str(host);
        if host.len() < address.len() {
            out.push_str("/…");
        }
        rest = behind;
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_ends_behind_its_host() {
        assert_eq!(without_addresses("no way to rtmp://h:1/live/s3cret now"), "no way to rtmp://h:1/… now");
        assert_eq!(without_addresses("\"rtmps://me:s3cret@h/x?s3cret\" and x://y"), "\"rtmps://h/…\" and x://y");
        assert_eq!(without_addresses("srt://h?streamid=s3cret"), "srt://h/…");
        assert_eq!(without_addresses("nothing"), "nothing");
        assert_eq!(without_addresses("://"), "://");
    }
}
