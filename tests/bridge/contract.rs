//! The elements' properties are those of the contract: names, defaults, and when each may change.

use crate::common::server::register;
use gst::{glib, prelude::*};

/// A line a property: element, name, its default as `gst-launch-1.0` has it, and how long it may be changed.
const CONTRACT: &str = include_str!("../data/properties.txt");

const READY: u32 = gst::ffi::GST_PARAM_MUTABLE_READY as u32;
const PLAYING: u32 = gst::ffi::GST_PARAM_MUTABLE_PLAYING as u32;

fn line(element: &gst::Element, property: &glib::ParamSpec) -> String {
    let flags = property.flags();
    let when = match flags.bits() {
        _ if !flags.contains(glib::ParamFlags::WRITABLE) => "read-only",
        bits if bits & PLAYING != 0 => "playing",
        bits if bits & READY != 0 => "ready",
        _ => "unsaid",
    };
    let default = match flags.contains(glib::ParamFlags::WRITABLE) {
        true => element.property_value(property.name()).serialize().map_or("NULL".to_owned(), |text| text.to_string()),
        false => property.value_type().name().to_owned(),
    };
    let name = element.factory().expect("a factory").name();
    format!("{name} {} {} {when}", property.name(), if default.is_empty() { "<>" } else { &default })
}

#[test]
fn every_property_has_the_name_the_default_and_the_time_of_the_contract() {
    register();
    let mut lines = Vec::new();
    for name in ["webrtcingest", "webrtcegress", "rtmpbridgesink", "webrtcbridgebin"] {
        let element = gst::ElementFactory::make(name).build().expect(name);
        let own = |property: &&glib::ParamSpec| property.owner_type() == element.type_();
        lines.extend(element.list_properties().iter().filter(own).map(|property| line(&element, property)));
    }
    lines.sort();
    let contract: Vec<&str> = CONTRACT.lines().collect();
    assert_eq!(lines, contract, "if it is meant: {}", lines.join("\n"));
}
