//! The AV1 depayloader, as an element. What it does is decided in `unit`; this is the shell.
//!
//! GStreamer's own `rtpav1depay` (of gst-plugins-rs, which Debian 12 does not have) is not used where there is one, either:
//! as of 0.15.4 one forged datagram makes it take 4 GB of memory, and another makes it panic, which ends the pipeline. It
//! also hands frames on packet by packet, before it can know whether they are whole. The element has no factory, since
//! nobody but this plugin's chains makes one.

#[cfg(test)]
pub(crate) mod fuzzing;
mod packets;
mod unit;

pub(super) use packets::payloads;

use gst::glib;

glib::wrapper! {
    /// RTP packets in, whole temporal units out.
    pub struct Av1Depayloader(ObjectSubclass<imp::Av1Depayloader>)
        @extends gst_rtp::RTPBaseDepayload, gst::Element, gst::Object;
}

/// A new one.
pub(super) fn depayloader() -> gst::Element {
    use gst::prelude::*;
    glib::Object::new::<Av1Depayloader>().upcast()
}

mod imp {
    use std::sync::{Mutex, PoisonError};

    use gst::{glib, prelude::*, subclass::prelude::*};
    use gst_rtp::{prelude::*, subclass::prelude::*};
    use once_cell::sync::Lazy;

    use super::unit::{Assembler, Outcome, Packet};
    use crate::{codec::Codec, rtp::caps};

    static CAT: Lazy<gst::DebugCategory> = Lazy::new(|| {
        gst::DebugCategory::new("webrtcbridgeav1depay", gst::DebugColorFlags::empty(), Some("AV1 RTP depayloader"))
    });

    #[derive(Default)]
    pub struct Av1Depayloader {
        state: Mutex<State>,
    }

    #[derive(Default)]
    struct State {
        assembler: Assembler,
        /// When the packet before came, for a unit that has no marker.
        last_pts: Option<gst::ClockTime>,
    }

    #[glib::object_subclass]
    impl ObjectSubclass for Av1Depayloader {
        const NAME: &'static str = "GstWebrtcBridgeAv1Depayloader";
        type Type = super::Av1Depayloader;
        type ParentType = gst_rtp::RTPBaseDepayload;
    }

    impl ObjectImpl for Av1Depayloader {}

    impl GstObjectImpl for Av1Depayloader {}

    impl ElementImpl for Av1Depayloader {
        fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
            static METADATA: Lazy<gst::subclass::ElementMetadata> = Lazy::new(|| {
                gst::subclass::ElementMetadata::new(
                    "AV1 RTP depayloader",
                    "Codec/Depayloader/Network/RTP",
                    "Whole temporal units from RTP packets",
                    env!("CARGO_PKG_NAME"),
                )
            });
            Some(&*METADATA)
        }

        fn pad_templates() -> &'static [gst::PadTemplate] {
            static TEMPLATES: Lazy<Vec<gst::PadTemplate>> = Lazy::new(|| {
                let sink = gst::Caps::builder("application/x-rtp")
                    .field("media", "video")
                    .field("encoding-name", Codec::Av1.name())
                    .field("clock-rate", Codec::Av1.clock_rate() as i32)
                    .build();
                [("sink", gst::PadDirection::Sink, sink), ("src", gst::PadDirection::Src, caps::media(Codec::Av1))]
                    .into_iter()
                    .filter_map(|(name, direction, caps)| {
                        gst::PadTemplate::new(name, direction, gst::PadPresence::Always, &caps).ok()
                    })
                    .collect()
            });
            TEMPLATES.as_ref()
        }

        fn change_state(&self, transition: gst::StateChange) -> Result<gst::StateChangeSuccess, gst::StateChangeError> {
            if transition == gst::StateChange::ReadyToPaused {
                *self.lock() = State::default();
            }
            self.parent_change_state(transition)
        }
    }

    impl RTPBaseDepayloadImpl for Av1Depayloader {
        fn set_caps(&self, _: &gst::Caps) -> Result<(), gst::LoggableError> {
            let accepted = self.obj().src_pad().push_event(gst::event::Caps::new(&caps::media(Codec::Av1)));
            if accepted { Ok(()) } else { Err(gst::loggable_error!(CAT, "downstream takes no AV1")) }
        }

        fn process_rtp_packet(
            &self,
            rtp: &gst_rtp::RTPBuffer<'_, gst_rtp::rtp_buffer::Readable>,
        ) -> Option<gst::Buffer> {
            let packet = Packet {
                sequence_number: rtp.seq(),
                timestamp: rtp.timestamp(),
                marker: rtp.is_marker(),
                payload: rtp.payload().unwrap_or_default(),
            };
            let mut state = self.lock();
            let ended = state.assembler.push(packet);
            let before = std::mem::replace(&mut state.last_pts, rtp.buffer().pts());
            drop(state);
            let mut latest = None;
            for outcome in ended {
                match outcome {
                    Outcome::Unit(unit) => {
                        let is_earlier = unit.timestamp != packet.timestamp;
                        let buffer = buffer(unit.data, unit.is_keyframe, before.filter(|_| is_earlier));
                        if let Some(earlier) = latest.replace(buffer) {
                            let _ = self.obj().push(earlier); // the next push reports what it meets
                        }
                    }
                    Outcome::Dropped(why) => {
                        gst::debug!(CAT, imp = self, "dropped a unit up to packet {}: {why}", packet.sequence_number);
                        let event = gst_video::UpstreamForceKeyUnitEvent::builder().all_headers(true).build();
                        self.obj().sink_pad().push_event(event);
                    }
                }
            }
            latest
        }
    }

    impl Av1Depayloader {
        fn lock(&self) -> std::sync::MutexGuard<'_, State> {
            self.state.lock().unwrap_or_else(PoisonError::into_inner)
        }
    }

    /// Without a time it gets that of the packet at hand.
    fn buffer(data: Vec<u8>, is_keyframe: bool, pts: Option<gst::ClockTime>) -> gst::Buffer {
        let mut buffer = gst::Buffer::from_mut_slice(data);
        if let Some(buffer) = buffer.get_mut() {
            buffer.set_pts(pts);
            buffer.set_flags(gst::BufferFlags::MARKER);
            if !is_keyframe {
                buffer.set_flags(gst::BufferFlags::DELTA_UNIT);
            }
        }
        buffer
    }
}
