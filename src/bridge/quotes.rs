//! Single quotes around a property's value, as a description inside double quotes has them. The parser of GStreamer knows no
//! others than double ones, and takes single ones for a part of the value. Pure.

/// The description with its values' single quotes made double: `a='b c'` becomes `a="b c"`. What stands in double quotes
/// already, and quotes within a value, are as they were.
pub(super) fn doubled(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    // At the beginning of a word, of which those behind a "=" are values.
    let mut behind_equals = false;
    while let Some(c) = rest.chars().next() {
        if c.is_whitespace() {
            out.push(c);
            rest = &rest[c.len_utf8()..];
            continue;
        }
        if let Some(length) = single_quoted(rest).filter(|_| behind_equals) {
            out.push('"');
            push_escaped(&mut out, &rest[1..length - 1]);
            out.push('"');
            rest = &rest[length..];
            behind_equals = false;
            continue;
        }
        let length = match c {
            '"' => closing(&rest[1..], '"', |_| true).map_or(rest.len(), |length| length + 2),
            _ if behind_equals => word(rest, |_| false),
            _ => word(rest, |c| c == '='),
        };
        out.push_str(&rest[..length]);
        behind_equals = !behind_equals && c != '"' && rest[..length].ends_with('=');
        rest = &rest[length..];
    }
    out
}

/// How long a value in single quotes is that this begins with, with its quotes and with white space in front of it.
pub(super) fn single_quoted(text: &str) -> Option<usize> {
    let value = text.trim_start();
    let quoted = value.strip_prefix('\'')?;
    let ends = |after: &str| after.chars().next().is_none_or(char::is_whitespace);
    Some(text.len() - value.len() + closing(quoted, '\'', ends)? + 2)
}

/// How long a word is: up to white space, or up to and with what ends it.
fn word(text: &str, ends: impl Fn(char) -> bool) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c.is_whitespace() => return at,
            _ if ends(c) => return at + c.len_utf8(),
            _ => {}
        }
    }
    text.len()
}

/// How long a value is up to the quote that ends it, of which what follows tells.
fn closing(value: &str, quote: char, ends: impl Fn(&str) -> bool) -> Option<usize> {
    let mut escaped = false;
    for (at, c) in value.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote && ends(&value[at + 1..]) => return Some(at),
            _ => {}
        }
    }
    None
}

fn push_escaped(out: &mut String, value: &str) {
    let mut escaped = false;
    for c in value.chars() {
        if c == '"' && !escaped {
            out.push('\\');
        }
        escaped = c == '\\' && !escaped;
        out.push(c);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_in_single_quotes_is_one_in_double_quotes() {
        assert_eq!(doubled("a b='c d' e"), "a b=\"c d\" e");
        assert_eq!(doubled("a b= 'c d'"), "a b= \"c d\"");
        assert_eq!(doubled("a b='<H264>' c='' ! d"), "a b=\"<H264>\" c=\"\" ! d");
        assert_eq!(doubled("a b='x, y=(string)\"z w\"'"), "a b=\"x, y=(string)\\\"z w\\\"\"");
        assert_eq!(doubled("a b='it\\'s \\\"x\\\"'"), "a b=\"it\\'s \\\"x\\\"\"");
        assert_eq!(doubled("a b=it's c='d e'"), "a b=it's c=\"d e\"");
        assert_eq!(doubled("a b=\"c\"! d e='f g'"), "a b=\"c\"! d e=\"f g\"");
        assert_eq!(doubled("a b = 'it's c' d"), "a b = \"it's c\" d");
        assert_eq!(doubled("ä ö='ü ß' ! é"), "ä ö=\"ü ß\" ! é");
    }

    #[test]
    fn everything_else_stays_as_it_is() {
        for text in [
            "a b=\"c 'd'\" e",
            "a b=\"c='d'\"",
            "a b=it's c=d's",
            "a b=it's",
            "a b=\\'c d",
            "a b='c d",
            "'a' b",
            "a b=c'd e'",
            "a b='c'd",
            "x ! \"video/x-raw, name='a b' , format=I420\" ! y",
            "a b=c\\ d?t='x y' e=f",
            "a ! 'b c' ! d",
            "",
            "=",
            "='",
        ] {
            assert_eq!(doubled(text), text);
        }
    }
}
