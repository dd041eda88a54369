//! What comes back from an effect is what the effect makes of what was sent.

use crate::common::{caller::Caller, example::Example};

const RED: [u8; 3] = [255, 0, 0];
const GREEN: [u8; 3] = [0, 255, 0];
const TONE: &str = "audiotestsrc is-live=true freq=440";
/// Red to the left, green to the right.
const PICTURE: &str = "videotestsrc is-live=true pattern=solid-color foreground-color=0xFFFF0000 \
     ! video/x-raw,width=160,height=240,framerate=30/1 ! mix.sink_0 \
     videotestsrc is-live=true pattern=solid-color foreground-color=0xFF00FF00 \
     ! video/x-raw,width=160,height=240,framerate=30/1 ! mix.sink_1 \
     compositor name=mix sink_1::xpos=160 ! video/x-raw,width=320,height=240";

fn started(name: &str, effect: &str) -> (Example, String) {
    let mut example = Example::start(name, &["--listen", "127.0.0.1:0", "--effect", effect]);
    let page = example.wait_for("page: ");
    (example, page)
}

#[test]
fn a_voice_comes_back_higher_and_pictures_as_they_were() {
    let (example, page) = started("audio_effect", "higher");
    let caller = Caller::start(&page, Some(TONE), Some(PICTURE));
    caller.wait_pitch(|pitch| (645.0..675.0).contains(&pitch));
    caller.wait_picture(|picture| picture.is_near(40, 120, RED));
    drop(caller);
    example.end();
}

#[test]
fn any_element_is_an_effect() {
    let (example, page) = started("audio_effect", "pitch pitch=0.5");
    let caller = Caller::start(&page, Some(TONE), None);
    caller.wait_pitch(|pitch| (210.0..230.0).contains(&pitch));
    drop(caller);
    example.end();
}

#[test]
fn a_mistake_in_an_effect_is_named() {
    let output =
        Example::command("audio_effect").args(["--listen", "127.0.0.1:0", "--effect", "nosuchelement"]).output();
    let output = output.expect("it runs");
    assert!(!output.status.success());
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(complaint.contains("nosuchelement"), "{complaint}");
}

#[test]
fn colours_become_their_opposites_and_sound_stays() {
    let (example, page) = started("video_effect", "negative");
    let caller = Caller::start(&page, Some(TONE), Some(PICTURE));
    // Red becomes cyan, green becomes magenta.
    caller.wait_picture(|picture| picture.is_near(40, 120, [0, 255, 255]) && picture.is_near(280, 120, [255, 0, 255]));
    caller.wait_pitch(|pitch| (435.0..445.0).contains(&pitch));
    drop(caller);
    example.end();
}

#[test]
fn left_and_right_change_places() {
    let (example, page) = started("video_effect", "mirror");
    let caller = Caller::start(&page, None, Some(PICTURE));
    caller.wait_picture(|picture| picture.is_near(40, 120, GREEN) && picture.is_near(280, 120, RED));
    drop(caller);
    example.end();
}

#[test]
fn colours_go() {
    let (example, page) = started("video_effect", "grey");
    let caller = Caller::start(&page, None, Some(PICTURE));
    let is_grey = |[red, green, blue]: [u8; 3]| red.abs_diff(green) < 20 && green.abs_diff(blue) < 20;
    caller.wait_picture(|picture| is_grey(picture.at(40, 120)) && is_grey(picture.at(280, 120)));
    drop(caller);
    example.end();
}
