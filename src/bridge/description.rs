//! A `session` description: tried once, so that a mistake is told before anybody publishes, then built for each session.

use gst::{glib, prelude::*};

use super::{
    marker,
    peer::Peer,
    properties::{ignored_in_session, strings},
    quotes,
    words::without_addresses,
};

/// A pipeline description that has been tried.
#[derive(Clone, Debug)]
pub struct Description {
    text: String,
    warnings: Vec<String>,
    sends: bool,
    receives: bool,
}

/// What is wrong with a description. The text shows it without the values of its properties, which may be secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct DescriptionError(String);

impl Description {
    /// Tries a description.
    pub fn parse(text: &str) -> Result<Self, DescriptionError> {
        let root = launch(text)?;
        let peer = Peer::trial();
        fill_in(&root, &peer);
        if let Some(unknown) = peer.unknown_placeholder() {
            return Err(DescriptionError(marker::at_placeholder(text, &unknown.to_string(), &unknown.placeholder)));
        }
        if let Some(useless) = peer.useless_value() {
            let (what, at) = (useless.to_string(), [useless.property.as_str(), useless.element.as_str()]);
            return Err(DescriptionError(marker::at_property_of(text, &what, at)));
        }
        let (mut receivers, mut senders) = (Vec::new(), Vec::new());
        let mut warnings = Vec::new();
        for element in elements(&root).iter().filter(|element| takes_the_connection(element)) {
            let name = kind(element).unwrap_or_default();
            match name {
                "webrtcingest" => receivers.push(element.name()),
                _ => senders.push(element.name()),
            }
            for property in ignored_in_session(element) {
                warnings.push(format!("{property} of the {name} in the session is ignored: set it on the bin"));
            }
        }
        if let [first, second, ..] = receivers.as_slice() {
            return Err(DescriptionError(format!(
                "{first} and {second} both want the publisher's media; use one webrtcingest, and tee behind it"
            )));
        }
        if let [first, second, ..] = senders.as_slice() {
            return Err(DescriptionError(format!(
                "{first} and {second} both want to send to the publisher; use one webrtcegress, with a pad for each track"
            )));
        }
        Ok(Self { text: text.to_owned(), warnings, sends: !senders.is_empty(), receives: !receivers.is_empty() })
    }

    /// Whether it has something to send to its peer.
    pub(super) fn sends(&self) -> bool {
        self.sends
    }

    /// Whether anything in it takes the session's connection, with the data channels that there are.
    pub(super) fn takes_the_connection(&self) -> bool {
        self.sends || self.receives
    }

    /// A description as it may be shown: without the values of its properties.
    pub fn shown(text: &str) -> String {
        marker::masked(text)
    }

    /// What is set in it to no effect.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    pub(super) fn build(&self) -> Result<gst::Element, String> {
        launch(&self.text).map(Cast::upcast).map_err(|error| error.to_string())
    }
}

fn launch(text: &str) -> Result<gst::Bin, DescriptionError> {
    let flags = gst::ParseFlags::FATAL_ERRORS | gst::ParseFlags::PLACE_IN_BIN;
    let launched = gst::parse::launch_full(&quotes::doubled(text), None, flags);
    let element = launched.map_err(|error| DescriptionError(explain(text, &error)))?;
    element.downcast().or_else(|element: gst::Element| {
        let bin = gst::Bin::new();
        bin.add(&element).map(|()| bin).map_err(|error| DescriptionError(error.to_string()))
    })
}

/// The parser's words with a marker where they lead; without the values that it repeats.
fn explain(text: &str, error: &glib::Error) -> String {
    let names: Vec<&str> = error.message().split('"').skip(1).step_by(2).collect();
    let said = &without_addresses(error.message());
    match (error.kind::<gst::ParseError>(), names.as_slice()) {
        (Some(gst::ParseError::NoSuchElement), [element, ..]) => marker::at_element(text, said, element),
        (Some(gst::ParseError::NoSuchProperty), [property, ..]) => marker::at_property(text, said, property),
        (Some(gst::ParseError::CouldNotSetProperty), [property, element, ..]) => {
            let said = format!("property \"{property}\" of {element} does not take its value");
            marker::at_property(text, &said, property)
        }
        (Some(gst::ParseError::Link), _) => marker::at_one_of(text, said, said.split(' ')),
        (Some(gst::ParseError::Syntax), _) => marker::nowhere(text, "this is no pipeline description"),
        _ => marker::nowhere(text, said),
    }
}

/// Makes a session's connection known in a pipeline, and fills in the placeholders in its properties.
pub(super) fn fill_in(root: &gst::Bin, peer: &Peer) {
    // First: elements that hide secrets do it themselves, so that what they show has none left.
    root.set_context(&peer.context());
    for element in elements(root) {
        for property in element.list_properties().iter() {
            fill_in_property(&element, property, peer);
        }
    }
}

fn fill_in_property(element: &gst::Element, property: &glib::ParamSpec, peer: &Peer) {
    let needed = glib::ParamFlags::READWRITE;
    let name = property.name();
    if !property.flags().contains(needed) || property.flags().contains(glib::ParamFlags::CONSTRUCT_ONLY) {
        return;
    }
    if property.value_type() == glib::Type::STRING && name != "name" {
        let Some(text) = element.property::<Option<String>>(name).filter(|text| text.contains('{')) else { return };
        let filled = peer.fill(element, name, &text);
        if filled != text {
            element.set_property(name, filled);
        }
    } else if property.value_type() == gst::Array::static_type() {
        let array = element.property::<gst::Array>(name);
        let texts: Result<Vec<String>, String> = strings(name, &array).collect();
        let Ok(texts) = texts else { return };
        let filled: Vec<String> = texts.iter().map(|text| peer.fill(element, name, text)).collect();
        if filled != texts {
            element.set_property(name, gst::Array::new(filled));
        }
    }
}

/// All elements, those in bins too.
pub(super) fn elements(root: &gst::Bin) -> Vec<gst::Element> {
    let mut all: Vec<gst::Element> = root.iterate_recurse().into_iter().flatten().collect();
    all.push(root.clone().upcast());
    all
}

/// Which of our elements that sessions are made of it is, if any. By its type: GStreamer's way from an element to its
/// factory leads astray once a plugin has been registered twice (1.22).
pub(super) fn kind(element: &gst::Element) -> Option<&'static str> {
    match element.type_().name() {
        "GstWebrtcIngest" => Some("webrtcingest"),
        "GstWebrtcEgress" => Some("webrtcegress"),
        "GstRtmpBridgeSink" => Some("rtmpbridgesink"),
        _ => None,
    }
}

/// Ours without an address of their own.
fn takes_the_connection(element: &gst::Element) -> bool {
    matches!(kind(element), Some("webrtcingest" | "webrtcegress"))
        && element.property::<Option<String>>("uri").is_none()
}
