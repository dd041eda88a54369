//! Single quotes around a property's value, as a description inside double quotes has them. The parser of GStreamer knows no
//! others than double ones, and takes single ones for a part of the value. Pure.

/// The description with its values' single quotes made double: `a='b c'` becomes `a="b c"`. What stands in double quotes
/// already, and quotes within a value, are as they were.
pub(super) fn doubled(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = value_in_single_quotes(rest) {
        let (before, quoted) = rest.split_at(at);
        let Some(length) = closing(&quoted[1..], '\'') else { break };
        out.push_str(before);
        out.push('"');
        push_escaped(&mut out, &quoted[1..=length]);
        out.push('"');
        rest = &quoted[length + 2..];
    }
    out.push_str(rest);
    out
}

/// Where the first such value begins: behind a `=`, perhaps apart from it, that stands in no other value. Within a value that does not
/// begin with a quote, quotes mean nothing.
fn value_in_single_quotes(text: &str) -> Option<usize> {
    let mut from = 0;
    loop {
        let at = from + text[from..].find('=')? + 1;
        let value = at + text[at..].find(|c: char| !c.is_whitespace())?;
        from = match text[value..].chars().next()? {
            '\'' if closing(&text[value + 1..], '\'').is_some() => return Some(value),
            quote @ ('"' | '\'') => value + closing(&text[value + 1..], quote)? + 2,
            _ => value + text[value..].find(char::is_whitespace)?,
        };
    }
}

/// How long a value is up to the quote that ends it: white space or nothing follows.
fn closing(value: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    for (at, c) in value.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote && value[at + 1..].chars().next().is_none_or(char::is_whitespace) => return Some(at),
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
            "",
            "=",
            "='",
        ] {
            assert_eq!(doubled(text), text);
        }
    }
}
