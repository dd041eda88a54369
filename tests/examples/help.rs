//! Each example says what it is, how it is called, and what of its arguments is wrong.

use crate::common::example::Example;

const EXAMPLES: [&str; 10] = [
    "answerer",
    "audio_effect",
    "doctor",
    "embed_bin",
    "embed_echo",
    "embed_ingest",
    "embed_server",
    "offerer",
    "transcriber",
    "video_effect",
];

fn said(name: &str, argument: &str) -> (bool, String) {
    let output = Example::command(name).arg(argument).output().unwrap_or_else(|error| panic!("{name}: {error}"));
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).expect("UTF-8"))
}

#[test]
fn each_example_explains_itself() {
    for name in EXAMPLES {
        let (ended_well, help) = said(name, "--help");
        assert!(ended_well && help.contains(&format!("Usage: {name}")) && help.contains("--help"), "{name}: {help}");
        let (ended_well, complaint) = said(name, "--no-such-thing");
        assert!(!ended_well && complaint.contains("--no-such-thing"), "{name}: {complaint}");
    }
}

#[test]
fn each_example_has_a_row_in_the_readme_and_a_test_here() {
    let readme = include_str!("../../examples/README.md");
    let folder = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/examples")).expect("examples");
    for entry in folder.map(|entry| entry.expect("an entry").path()).filter(|path| !path.join("Cargo.toml").exists()) {
        let name = entry.file_stem().expect("a name").to_str().expect("UTF-8");
        if name != "README" {
            assert!(EXAMPLES.contains(&name), "{name} is not tested here");
            assert!(readme.contains(&format!("| [`{name}`]")), "{name} has no row in examples/README.md");
        }
    }
}
