//! Spoken words come back as text over the data channel.

use std::{path::Path, process::Command};

use crate::common::{caller::Caller, example::Example};

/// A minute in which these are said again and again, with pauses; as elements that play it.
fn speech(folder: &Path, phrases: &[&str]) -> String {
    let mut inputs = Vec::new();
    for (number, phrase) in phrases.iter().enumerate() {
        let path = folder.join(format!("{number}.wav"));
        let spoken = Command::new("espeak-ng").args(["-v", "en-us", "-s", "130", "-w"]).arg(&path).arg(phrase).status();
        assert!(spoken.expect("espeak-ng").success());
        inputs.push(path);
    }
    let path = folder.join("speech.wav");
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "error"]);
    for input in &inputs {
        command.arg("-i").arg(input);
    }
    let paused: String = (0..inputs.len()).map(|n| format!("[{n}]aresample=16000,apad=pad_dur=2[p{n}];")).collect();
    let joined: String = (0..inputs.len()).map(|n| format!("[p{n}]")).collect();
    let filter = format!("{paused}{joined}concat=n={}:v=0:a=1,aloop=loop=-1:size=2000000,atrim=end=60", inputs.len());
    let made = command.arg("-filter_complex").arg(filter).arg(&path).status();
    assert!(made.expect("ffmpeg").success());
    format!("filesrc location={} ! wavparse ! clocksync", path.display())
}

#[test]
fn commands_that_are_spoken_come_back_as_text() {
    let folder = tempfile::tempdir().expect("a folder");
    let grammar = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/transcriber/commands.fsg");
    let arguments = ["--listen", "127.0.0.1:0", "--recogniser", "pocketsphinx", "--grammar", grammar];
    let mut example = Example::start("transcriber", &arguments);
    let page = example.wait_for("page: ");
    let speech = speech(folder.path(), &["open the door", "close the window"]);
    let caller = Caller::start(&page, Some(&speech), None);
    caller.wait_text(|text| text == "open the door");
    caller.wait_text(|text| text == "close the window");
    drop(caller);
    example.end();
}

#[test]
fn without_a_recogniser_it_tells_when_it_was_loud() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut example = Example::start("transcriber", &["--listen", "127.0.0.1:0"]);
    let page = example.wait_for("page: ");
    let caller = Caller::start(&page, Some(&speech(folder.path(), &["open the door"])), None);
    let texts = caller.wait_text(|text| text.starts_with("[loud for "));
    assert!(texts.iter().all(|text| text.starts_with("[loud for ") && text.ends_with(" s]")), "{texts:?}");
    drop(caller);
    example.end();
}
