//! `webrtcegress` in the test's own process, viewers of it, and the pictures that they get.

use std::collections::BTreeMap;

use gst::prelude::*;

use super::{
    SOON,
    flv::hash_slices,
    viewer::{Stream, Viewer, Wants},
    wait_until, whip,
};

/// A pipeline with a `webrtcegress name=out` that serves viewers.
pub struct Egress {
    pub pipeline: gst::Pipeline,
    pub element: gst::Element,
}

impl Egress {
    /// `sources` stand in front, and link to `out.video_0` and so on.
    pub fn start(properties: &str, sources: &str) -> Self {
        Self::start_at("whep://127.0.0.1:0/whep/live", properties, sources)
    }

    pub fn start_at(uri: &str, properties: &str, sources: &str) -> Self {
        gst::init().expect("GStreamer");
        gstwebrtcbridge::plugin_register_static().expect("the plugin");
        let pipeline = Self::parse(&format!("webrtcegress name=out uri={uri} {properties} {sources}"));
        let element = pipeline.by_name("out").expect("the element");
        Self { pipeline, element }
    }

    /// A pipeline that plays.
    pub fn parse(description: &str) -> gst::Pipeline {
        let pipeline = match gst::parse::launch(description).expect("a pipeline").downcast::<gst::Pipeline>() {
            Ok(pipeline) => pipeline,
            Err(alone) => {
                let pipeline = gst::Pipeline::new();
                pipeline.add(&alone).expect("one element");
                pipeline
            }
        };
        pipeline.set_state(gst::State::Playing).expect("playing");
        pipeline
    }

    pub fn url(&self) -> String {
        wait_until("the URL", SOON, || self.stats().get::<String>("url").ok())
    }

    pub fn stats(&self) -> gst::Structure {
        self.element.property("stats")
    }

    /// The `webrtcegress-track` of a pad.
    pub fn track(&self, pad: &str) -> gst::Structure {
        let tracks = self.stats().get::<gst::Array>("tracks").expect("tracks");
        let mut tracks = tracks.iter().map(|track| track.get::<gst::Structure>().expect("a structure"));
        tracks.find(|track| track.get::<&str>("pad") == Ok(pad)).expect("a pad by this name")
    }

    /// The nick of `connection-state`.
    pub fn state(&self) -> String {
        let value = self.element.property_value("connection-state");
        gst::glib::EnumValue::from_value(&value).expect("an enum").1.nick().to_owned()
    }

    /// A viewer that has got its answer.
    pub fn view(&self, wants: Wants) -> (Viewer, whip::Resource) {
        self.try_view(wants, None).expect("an answer")
    }

    pub fn try_view(&self, wants: Wants, token: Option<&str>) -> Result<(Viewer, whip::Resource), whip::Refused> {
        let viewer = Viewer::new(wants);
        let (resource, answer) = whip::post(&self.url(), token, viewer.offer())?;
        viewer.answered(&answer);
        Ok((viewer, resource))
    }

    /// The first error on the bus, if there is one.
    pub fn error(&self) -> Option<String> {
        let message = self.pipeline.bus()?.pop_filtered(&[gst::MessageType::Error])?;
        match message.view() {
            gst::MessageView::Error(error) => Some(error.error().to_string()),
            _ => None,
        }
    }

    pub fn saw_eos(&self) -> bool {
        self.pipeline.bus().expect("a bus").pop_filtered(&[gst::MessageType::Eos]).is_some()
    }
}

impl Drop for Egress {
    fn drop(&mut self) {
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

/// The hashes of the slices of each whole H.264 picture, in order (RFC 6184).
pub fn pictures(stream: &Stream) -> Vec<u64> {
    units(stream).iter().map(|nals| hash_slices(&nals.iter().map(Vec::as_slice).collect::<Vec<_>>())).collect()
}

/// The units of each H.264 picture.
pub fn units(stream: &Stream) -> Vec<Vec<Vec<u8>>> {
    let mut by_time: BTreeMap<i64, Vec<Vec<u8>>> = BTreeMap::new();
    let mut order: Vec<(u32, i64)> = Vec::new();
    for (number, packet) in stream.packets.iter().filter(|(_, packet)| packet.payload.len() > 2) {
        if order.last().is_none_or(|(timestamp, _)| *timestamp != packet.timestamp) {
            order.push((packet.timestamp, *number));
        }
        let nals = by_time.entry(order.last().expect("a picture").1).or_default();
        let payload = &packet.payload;
        match payload[0] & 31 {
            24 => {
                let mut rest = &payload[1..];
                while rest.len() > 2 {
                    let length = usize::from(u16::from_be_bytes([rest[0], rest[1]]));
                    nals.push(rest[2..2 + length].to_vec());
                    rest = &rest[2 + length..];
                }
            }
            28 if payload[1] & 0x80 != 0 => {
                let mut nal = vec![payload[0] & 0xE0 | payload[1] & 31];
                nal.extend_from_slice(&payload[2..]);
                nals.push(nal);
            }
            28 => nals.last_mut().expect("the beginning of a unit").extend_from_slice(&payload[2..]),
            _ => nals.push(payload.to_vec()),
        }
    }
    by_time.into_values().collect()
}
