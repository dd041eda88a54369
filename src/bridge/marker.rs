//! Shows where in a pipeline description a mistake is, without the values of its properties, nor what stands in it as an
//! address, as a sink may be. Pure.

use super::quotes;

/// What is wrong, and under the description a mark at the element of this name.
pub(super) fn at_element(text: &str, what: &str, element: &str) -> String {
    shown(text, what, position(text, element))
}

fn position(text: &str, element: &str) -> Option<usize> {
    let starts = |at: usize| !text.get(..at).is_some_and(|before| before.ends_with(is_part_of_name));
    let ends = |at: usize| !text.get(at + element.len()..).is_some_and(|after| after.starts_with(is_part_of_name));
    let found = text.match_indices(element).map(|(at, _)| at).find(|at| starts(*at) && ends(*at));
    found.filter(|_| !element.is_empty())
}

/// The same at the property of this name.
pub(super) fn at_property(text: &str, what: &str, property: &str) -> String {
    shown(text, what, property_position(text, property))
}

/// The same at the property of that name, or where it is not set at the element, of which the parser has made up the name.
pub(super) fn at_property_of(text: &str, what: &str, [property, element]: [&str; 2]) -> String {
    match property_position(text, property) {
        None => at_one_of(text, what, std::iter::once(element)),
        at => shown(text, what, at),
    }
}

fn property_position(text: &str, property: &str) -> Option<usize> {
    let starts = |at: usize| !text.get(..at).is_some_and(|before| before.ends_with(is_part_of_name));
    let ends = |at: usize| text.get(at + property.len()..).is_some_and(|after| after.trim_start().starts_with('='));
    let found = text.match_indices(property).map(|(at, _)| at).find(|at| starts(*at) && ends(*at));
    found.filter(|_| !property.is_empty())
}

/// The same at a placeholder, which stands in a value.
pub(super) fn at_placeholder(text: &str, what: &str, placeholder: &str) -> String {
    shown(text, what, text.find(placeholder))
}

/// The same at the first of these elements, of which the parser tells the names that it has given them.
pub(super) fn at_one_of<'a>(text: &str, what: &str, mut names: impl Iterator<Item = &'a str>) -> String {
    let unnumbered = |name: &'a str| name.trim_end_matches(|c: char| c.is_ascii_digit());
    match names.find_map(|name| position(text, unnumbered(name))) {
        Some(at) => shown(text, what, Some(at)),
        None => nowhere(text, what),
    }
}

/// What is wrong, and the description.
pub(super) fn nowhere(text: &str, what: &str) -> String {
    shown(text, what, None)
}

fn is_part_of_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | ':' | '.')
}

/// The description in one line with `…` for each value, and for each address behind its scheme.
pub(super) fn masked(text: &str) -> String {
    masked_with_column(text, None).0
}

fn shown(text: &str, what: &str, at: Option<usize>) -> String {
    let (masked, column) = masked_with_column(text, at);
    match column {
        Some(column) => format!("{what}\n  {masked}\n  {:column$}^", ""),
        None => format!("{what}\n  {masked}"),
    }
}

/// The same, and the column that byte `at` has come to.
fn masked_with_column(text: &str, at: Option<usize>) -> (String, Option<usize>) {
    let mut line = String::new();
    let mut columns = 0;
    let mut column = None;
    let mut value: Option<Value> = None;
    let mut passed = 0;
    for (index, c) in text.char_indices() {
        if at == Some(index) {
            // Within a value it is that value's.
            column = Some(if value.is_some() { columns - 1 } else { columns });
        }
        if index < passed {
            continue;
        }
        if let Some(inside) = &mut value {
            if !inside.ends_at(c) {
                continue;
            }
            value = None;
        }
        line.push(if c.is_whitespace() { ' ' } else { c });
        columns += 1;
        let is_address = c == '/' && line.ends_with("://");
        if c == '=' || is_address {
            line.push('…');
            columns += 1;
            value = Some(if is_address { Value::address(&line) } else { Value::default() });
            // Quotes within single quotes are a part of the value: it ends where `quotes` has it.
            if let Some(length) = quotes::single_quoted(&text[index + 1..]).filter(|_| c == '=') {
                (passed, value) = (index + 1 + length, None);
            }
        }
    }
    (line, column)
}

/// A value that is being passed over: up to white space that is in no quotes.
#[derive(Default)]
struct Value {
    begun: bool,
    quote: Option<char>,
    escaped: bool,
}

impl Value {
    /// An address of which this is there. It has no white space in front of it, and may be in quotes.
    fn address(line: &str) -> Self {
        let scheme = line.trim_end_matches(['/', ':', '…']);
        let before = scheme.trim_end_matches(|c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'));
        let quote = before.chars().next_back().filter(|c| matches!(c, '"' | '\''));
        Self { begun: true, quote, escaped: false }
    }

    fn ends_at(&mut self, c: char) -> bool {
        if self.escaped {
            self.escaped = false;
        } else if c == '\\' {
            self.escaped = true;
        } else if self.quote == Some(c) {
            self.quote = None;
        } else if self.quote.is_none() && matches!(c, '"' | '\'') {
            self.quote = Some(c);
        } else if self.quote.is_none() && c.is_whitespace() {
            // A value may stand apart from its "=".
            return self.begun;
        }
        self.begun |= !c.is_whitespace();
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_stands_under_what_is_wrong() {
        let text = "webrtcingest : rtmpbridgesink  locaton=rtmp://h/live/s3cret sync=false";
        assert_eq!(
            at_property(text, "no property", "locaton"),
            "no property\n  webrtcingest : rtmpbridgesink  locaton=… sync=…\n                                 ^"
        );
        let text = "a location=\"x y\" ! rtmpbridgesnk";
        let expected = "no element\n  a location=… ! rtmpbridgesnk\n                 ^";
        assert_eq!(at_element(text, "no element", "rtmpbridgesnk"), expected);
    }

    #[test]
    fn no_value_is_shown_however_it_is_quoted() {
        for value in [
            "s3cret",
            "\"a s3cret\"",
            "'a s3cret'",
            "'it's my s3cret'",
            "'\\' s3cret'",
            "\"a \\\" s3cret\"",
            " s3cret",
            "\\ s3cret",
            "<\"s3cret\">",
        ] {
            let shown = nowhere(&format!("x location={value} ! y"), "bad");
            assert!(!shown.contains("s3cret") && shown.ends_with(" ! y"), "{shown}");
        }
        assert!(!nowhere("x location=\"s3cret", "bad").contains("s3cret"));
    }

    #[test]
    fn an_address_in_the_place_of_an_element_is_not_shown() {
        assert_eq!(masked("a ! flvmux ! rtmp://me:s3cret@h/live/s3cret"), "a ! flvmux ! rtmp://…");
        assert_eq!(masked("rtsp://h/s3cret?x=s3cret#s3cret ! b c=d"), "rtsp://… ! b c=…");
        assert_eq!(masked("a : b location=\"rtmp://h/s3cret\" c=d"), "a : b location=… c=…");
        assert!(!masked("a ! \"rtmp://h/s3cret s3cret\"").contains("s3cret"));
        assert_eq!(at_element("rtmp://h/k ! wrong", "w", "wrong"), "w\n  rtmp://… ! wrong\n             ^");
    }

    #[test]
    fn a_name_within_another_is_not_meant() {
        let shown = at_element("x264enc ! x264 ! y", "w", "x264");
        assert_eq!(shown, "w\n  x264enc ! x264 ! y\n            ^");
        assert_eq!(at_element("a", "w", "b"), "w\n  a");
        assert_eq!(at_element("a", "w", ""), "w\n  a");
    }

    #[test]
    fn a_placeholder_is_marked_at_its_value_and_a_link_at_its_first_end() {
        assert_eq!(at_placeholder("a b=c/{x} d", "w", "{x}"), "w\n  a b=… d\n      ^");
        let words = "could not link videotestsrc0 to audioconvert0";
        let marked = at_one_of("x ! videotestsrc ! audioconvert", words, words.split(' '));
        assert_eq!(marked, format!("{words}\n  x ! videotestsrc ! audioconvert\n      ^"));
    }
}
