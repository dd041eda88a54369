//! What the element's other files ask of it.

use gst::subclass::prelude::*;

use super::{SeqCst, lock};
use crate::{codec::Codec, session::Session, transcode::Conversation};

impl crate::webrtcegress::WebrtcEgress {
    pub(in crate::webrtcegress) fn check_ending(&self) {
        self.imp().check_ending();
    }

    /// A session that messages can go to: those of data pads, if it has channels, and those of programs.
    pub(in crate::webrtcegress) fn has_session(&self, id: &str, session: &Session) {
        if session.has_data() {
            self.imp().data.add(session.clone());
        }
        if let Some(messages) = self.imp().messages() {
            messages.add(id, session.clone());
        }
    }

    /// Whether there is something to say by data channels.
    pub(in crate::webrtcegress) fn has_data_pads(&self) -> bool {
        !self.imp().data.is_empty()
    }

    /// A new stream after the end of the last one.
    pub(in crate::webrtcegress) fn starts_again(&self) {
        self.imp().eos_posted.store(false, SeqCst);
    }

    /// Whether what will come on a track may be of this codec, as far as is known.
    pub(in crate::webrtcegress) fn may_get(&self, index: usize, codec: Codec) -> bool {
        let inputs = lock(&self.imp().inputs).clone();
        inputs.iter().find(|input| input.index() == Some(index)).is_none_or(|input| input.may_get(codec))
    }

    /// How raw media is encoded as `codec`.
    pub(in crate::webrtcegress) fn conversation(&self, codec: Codec) -> Conversation {
        let settings = lock(&self.imp().settings);
        Conversation {
            encoder: settings.encoder.clone(),
            codec,
            video_bitrate: settings.video_bitrate,
            audio_bitrate: settings.audio_bitrate,
        }
    }
}
