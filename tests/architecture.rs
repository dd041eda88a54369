//! Keeps the import table of docs/architecture.md true: reads every file of src/ and says which line breaks which rule.
//!
//! Looks at text, not at types: `use crate::…` and `crate::…` anywhere in the code, and the names of foreign crates
//! in paths. Comments do not count.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Our modules that a module may import from, beside itself, and the foreign crates that it may not name.
struct Rule {
    module: &'static str,
    ours: &'static [&'static str],
    never: &'static [&'static str],
}

const GST: &[&str] = &["gst", "gst_app", "gst_audio", "gst_base", "gst_rtp", "gst_video", "glib"];

const RULES: &[Rule] = &[
    Rule { module: "codec", ours: &[], never: &["tokio", "GST", "axum", "webrtc", "rtc"] },
    Rule { module: "backoff", ours: &["codec"], never: &["tokio", "GST", "axum", "webrtc", "rtc"] },
    Rule { module: "flv", ours: &["codec"], never: &["tokio", "GST", "axum", "webrtc", "rtc"] },
    Rule { module: "channel", ours: &["codec"], never: &["GST", "axum", "webrtc", "rtc"] },
    Rule { module: "reachable", ours: &[], never: &["tokio", "GST", "axum", "webrtc", "rtc"] },
    Rule { module: "session", ours: &["codec", "backoff", "reachable"], never: &["GST", "axum"] },
    Rule { module: "forward", ours: &["codec", "backoff", "session"], never: &["GST", "axum"] },
    Rule { module: "signaling", ours: &["channel", "page", "reachable"], never: &["GST", "webrtc", "rtc"] },
    Rule { module: "rtp", ours: &["codec", "backoff", "flv", "session"], never: &["axum", "webrtc", "rtc"] },
    Rule { module: "transcode", ours: &["codec", "backoff", "flv"], never: &["axum", "webrtc", "rtc"] },
    Rule { module: "rtmp_client", ours: &["flv"], never: &["GST", "axum", "webrtc", "rtc"] },
    Rule {
        module: "rtmp",
        ours: &["codec", "backoff", "flv", "rtmp_client", "runtime"],
        never: &["axum", "webrtc", "rtc"],
    },
    Rule {
        module: "bridge",
        ours: &["codec", "backoff", "channel", "session", "forward", "signaling", "rtp", "runtime"],
        never: &["axum", "webrtc", "rtc"],
    },
    Rule { module: "runtime", ours: &[], never: &["axum", "webrtc", "rtc"] },
    Rule { module: "webrtcingest", ours: BELOW_ELEMENTS, never: &[] },
    Rule { module: "webrtcegress", ours: BELOW_ELEMENTS, never: &[] },
    Rule { module: "rtmpbridgesink", ours: BELOW_ELEMENTS, never: &[] },
    Rule { module: "webrtcbridgebin", ours: BELOW_ELEMENTS, never: &[] },
];

const BELOW_ELEMENTS: &[&str] = &[
    "codec",
    "backoff",
    "flv",
    "channel",
    "session",
    "forward",
    "signaling",
    "rtp",
    "transcode",
    "rtmp",
    "bridge",
    "runtime",
];

/// Composition: they name modules only to list or register them.
const TOP: &[&str] = &["lib", "plugin", "fuzzing"];

/// Longest file, tests at its end not counted: beyond this one does two jobs.
const MAX_LINES: usize = 600;

#[test]
fn every_file_keeps_to_its_place() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut broken = Vec::new();
    for path in rust_files(&src) {
        let name = path.strip_prefix(&src).expect("below src").to_string_lossy().into_owned();
        broken.extend(check(&name, &fs::read_to_string(&path).expect("source")));
    }
    assert!(broken.is_empty(), "\n{}\n", broken.join("\n"));
}

#[test]
fn offences_are_found() {
    let offends = |file: &str, text: &str| check(file, &format!("//! Doc.\n{text}\n"));
    assert_eq!(offends("session/mod.rs", "use crate::signaling::Offer;").len(), 1);
    assert_eq!(offends("session/mod.rs", "fn f() { crate::rtp::g() }").len(), 1);
    assert_eq!(offends("session/mod.rs", "use crate::{codec::Codec, rtmp::Destination};").len(), 1);
    assert_eq!(offends("session/mod.rs", "use crate::{\n    codec::{A, B},\n    rtmp,\n};").len(), 1);
    assert_eq!(offends("session/mod.rs", "use gst::prelude::*;").len(), 1);
    assert_eq!(offends("codec/h264.rs", "async fn f() { tokio::spawn(g()); }").len(), 1);
    assert_eq!(offends("signaling/whip.rs", "use webrtc::peer_connection::X;").len(), 1);
    assert_eq!(offends("rtmp/push.rs", "use axum;").len(), 1);
    assert_eq!(offends("webrtcingest/imp.rs", "use crate::rtmpbridgesink::imp::Sink;").len(), 1);
    assert_eq!(offends("somewhere/mod.rs", "").len(), 1, "a module without a rule");
    assert_eq!(offends("rtp/utils.rs", "").len(), 1);
    assert_eq!(check("rtp/mod.rs", "use std::fmt;\n").len(), 1, "no //! at the top");
    assert_eq!(offends("rtp/mod.rs", &"fn f() {}\n".repeat(700)).len(), 1);
}

#[test]
fn what_is_allowed_is_let_through() {
    let passes = |file: &str, text: &str| {
        let broken = check(file, &format!("//! Doc.\n{text}\n"));
        assert!(broken.is_empty(), "{broken:?}");
    };
    passes("session/mod.rs", "use crate::codec::Codec;\nuse crate::session::events::Event;\nuse webrtc::api;");
    passes("session/mod.rs", "// crate::rtp takes it from here\nlet x = \"gst::\"; let webrtc_gst = 1;");
    passes("session/mod.rs", "/// See [`crate::rtp`].\nfn f() {}");
    passes("rtp/mod.rs", "use crate::{codec, session::{Packet, PacketSink}};\nuse gst::prelude::*;");
    passes("signaling/mod.rs", "pub(crate) fn f() {}\nuse axum::Router;\nfn g(m: http::webrtc) {}");
    passes("webrtcingest/imp.rs", "use crate::{rtp::Bin, session, signaling::Server};");
    passes("rtp/mod.rs", &format!("#[cfg(test)]\nmod tests {{\n{}}}", "fn f() {}\n".repeat(700)));
    passes("lib.rs", "pub use crate::rtp;");
}

/// The rules that a file breaks, each as a line for the developer.
fn check(file: &str, text: &str) -> Vec<String> {
    let mut broken = Vec::new();
    if !text.starts_with("//!") {
        broken.push(format!("src/{file}: does not open with //! and what it does"));
    }
    if file.ends_with("utils.rs") {
        broken.push(format!("src/{file}: name it after what it does"));
    }
    let body: Vec<&str> = text.lines().collect();
    let length = body.iter().position(|l| l.starts_with("#[cfg(test)]")).unwrap_or(body.len());
    if length > MAX_LINES {
        broken.push(format!("src/{file}: {length} lines without tests; split it (at most {MAX_LINES})"));
    }

    let module = file.split('/').next().unwrap_or(file).trim_end_matches(".rs");
    if TOP.contains(&module) {
        return broken;
    }
    let Some(rule) = RULES.iter().find(|r| r.module == module) else {
        broken.push(format!("src/{file}: module {module} has no rule in tests/architecture.rs"));
        return broken;
    };
    let code = without_comments_and_strings(text);
    for (line, import) in our_imports(&code) {
        // crate::Thing, crate::macro!: what lib.rs itself offers.
        if import != module && !rule.ours.contains(&import.as_str()) {
            broken.push(format!("src/{file}:{line}: {module} may not import crate::{import}"));
        }
    }
    for name in rule.never.iter().flat_map(|n| if *n == "GST" { GST.to_vec() } else { vec![*n] }) {
        if let Some(line) = names_crate(&code, name) {
            broken.push(format!("src/{file}:{line}: {module} may not know {name}"));
        }
    }
    broken
}

/// The modules of ours that code names, with the line.
fn our_imports(code: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        if code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let line = code[..at].matches('\n').count() + 1;
        let rest = &code[at + "crate::".len()..];
        if let Some(group) = rest.strip_prefix('{') {
            for item in top_level_items(group) {
                found.push((line, identifier(item.trim_start())));
            }
        } else {
            found.push((line, identifier(rest)));
        }
    }
    found.retain(|(_, name)| !name.is_empty());
    found
}

/// The parts of `a::{b, c}, d}…` up to the closing brace, split at its own commas.
fn top_level_items(group: &str) -> Vec<&str> {
    let (mut depth, mut start, mut items) = (0, 0, Vec::new());
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                items.push(&group[start..at]);
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                items.push(&group[start..at]);
                start = at + 1;
            }
            _ => (),
        }
    }
    items
}

fn identifier(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

/// The first line on which a foreign crate is named: at the head of a path, or in `use name;` / `use name as`.
fn names_crate(code: &str, name: &str) -> Option<usize> {
    code.match_indices(name).find_map(|(at, _)| {
        let (before, after) = (&code[..at], &code[at + name.len()..]);
        let inside = before.ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':' || c == '.');
        let leading = before.ends_with("::") && !before.trim_end_matches(':').ends_with(|c: char| !c.is_whitespace());
        let used = before.trim_end().ends_with("use") && after.starts_with([';', ' ']);
        ((!inside || leading) && (after.starts_with("::") || used)).then(|| before.matches('\n').count() + 1)
    })
}

/// The code alone, line breaks kept.
fn without_comments_and_strings(text: &str) -> String {
    text.lines()
        .map(|line| {
            let mut kept = String::new();
            let (mut quoted, mut escaped) = (false, false);
            let mut rest = line.chars().peekable();
            while let Some(c) = rest.next() {
                match c {
                    _ if escaped => escaped = false,
                    '\\' if quoted => escaped = true,
                    // '"' is a character, no string.
                    '"' if !(kept.ends_with('\'') && rest.peek() == Some(&'\'')) => quoted = !quoted,
                    '/' if !quoted && rest.peek() == Some(&'/') => break,
                    _ if !quoted => kept.push(c),
                    _ => (),
                }
            }
            kept.push('\n');
            kept
        })
        .collect()
}

fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).expect("folder") {
        let path = entry.expect("entry").path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}
