//! docs/troubleshooting.md quotes what is really said: each quotation is looked for in the sources.

use std::{fs, path::Path};

/// All of src/ as one text: string literals over several lines in one piece, and numbers, names and the like left as they are.
fn sources(folder: &Path, text: &mut String) {
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, text);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let source = fs::read_to_string(&path).expect("a source");
            // What tests say is not said to users.
            let source = source.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
            let mut continued = false;
            for line in source.lines() {
                text.push_str(if continued { line.trim_start() } else { line });
                continued = line.ends_with('\\');
                if continued {
                    text.pop();
                } else {
                    text.push('\n');
                }
            }
        }
    }
}

/// The quotations of the second columns, with the line that they are in.
fn quotations(document: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (number, line) in document.lines().enumerate().filter(|(_, line)| line.starts_with('|')) {
        let said = line.split('|').nth(2).unwrap_or_default();
        found.extend(said.split('`').skip(1).step_by(2).map(|quotation| (number + 1, quotation.to_owned())));
    }
    found
}

/// Those that are nowhere; in each the text around what changes is looked for.
fn unsaid(document: &str, sources: &str) -> Vec<(usize, String)> {
    let is_said = |text: &str| text.split('…').map(str::trim).all(|piece| sources.contains(piece));
    quotations(document).into_iter().filter(|(_, quotation)| !is_said(quotation)).collect()
}

#[test]
fn every_message_of_the_troubleshooting_table_is_one_that_is_said() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let document = fs::read_to_string(root.join("docs/troubleshooting.md")).expect("the document");
    let mut text = String::new();
    sources(&root.join("src"), &mut text);
    assert!(quotations(&document).len() >= 20, "the tables are read");
    assert_eq!(unsaid(&document, &text), [], "nobody says this");
    assert_eq!(unsaid("| x | `nobody … says this` | y |", &text).len(), 1, "and what is not said is found");
}

#[test]
fn each_row_says_what_helps() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let document = fs::read_to_string(root.join("docs/troubleshooting.md")).expect("the document");
    for line in document.lines().filter(|line| line.starts_with('|')) {
        let columns: Vec<&str> = line.split('|').map(str::trim).collect();
        assert_eq!(columns.len(), 5, "{line}");
        assert!(columns[1..4].iter().all(|column| !column.is_empty()), "{line}");
    }
}
