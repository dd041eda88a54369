//! The thread that keeps the show up while input is missing: makes the picture, and hands over what stands in when it is
//! due. It runs only where `missing-track` or `gap-grace` ask for it.

use std::{
    sync::{Arc, mpsc},
    time::Duration,
};

use gst::prelude::*;

use super::{
    RtmpBridgeSink,
    imp::CAT,
    show::PICTURE_STEP,
    stage::{Stage, Subject},
};
use crate::{
    flv::VideoCodec,
    transcode::{Canvas, Picture, Shape, Still, StillError},
};

/// Two AAC frames are 43 ms.
const TICK: Duration = Duration::from_millis(40);
/// Pictures in a group at most: two seconds, as platforms want it.
const MOST_IN_GROUP: i64 = 2_000_000_000 / PICTURE_STEP;
/// The size of a picture that nothing says the size of.
const SIZE: (u32, u32) = (1280, 720);

/// What the pictures are to be like.
#[derive(Clone, Debug)]
pub(super) struct Slate {
    /// Instead of the last picture, or of black.
    pub(super) picture: Option<Picture>,
    /// What video is fitted to, so that it goes on in the size of the still once it comes.
    pub(super) canvas: Canvas,
    /// What video is sent as.
    pub(super) codec: VideoCodec,
    pub(super) keyframe_interval: Duration,
    pub(super) bitrate: u32,
}

/// The thread's handle. It ends when this is dropped; nothing waits for it.
pub(super) struct Keeper(#[allow(dead_code, reason = "dropping it tells the thread")] mpsc::Sender<()>);

impl Keeper {
    pub(super) fn start(element: &RtmpBridgeSink, stage: Arc<Stage>, slate: Slate) -> std::io::Result<Self> {
        let (handle, gone) = mpsc::channel();
        let weak = element.downgrade();
        std::thread::Builder::new().name("rtmpbridge:keep".into()).spawn(move || {
            while gone.recv_timeout(TICK) == Err(mpsc::RecvTimeoutError::Timeout) {
                let Some(element) = weak.upgrade() else { return };
                // Time stands still in PAUSED.
                if element.current_state() != gst::State::Playing {
                    continue;
                }
                if let Some(subject) = stage.needs_picture(element.now()) {
                    let still = slate.make(&subject).inspect_err(|error| {
                        gst::element_warning!(
                            element,
                            gst::StreamError::Encode,
                            ("no picture can stand in for missing video: {error}")
                        );
                    });
                    // It may have taken so long that the element has stopped.
                    if gone.try_recv() == Err(mpsc::TryRecvError::Disconnected) {
                        return;
                    }
                    stage.set_picture(still.ok(), element.now());
                }
                element.stand_in(&stage);
            }
        })?;
        Ok(Self(handle))
    }
}

impl Slate {
    fn make(&self, subject: &Subject) -> Result<Still, StillError> {
        // A still in another codec would end the stream for most players.
        if self.codec != VideoCodec::H264 {
            return Err(StillError::OtherCodec(self.codec.name()));
        }
        let step = PICTURE_STEP.unsigned_abs();
        let interval = i64::try_from(self.keyframe_interval.as_nanos()).unwrap_or(i64::MAX);
        let group = u32::try_from((interval / PICTURE_STEP).clamp(1, MOST_IN_GROUP)).unwrap_or(1);
        let shape = |width, height| Shape {
            width,
            height,
            step: gst::ClockTime::from_nseconds(step),
            group,
            bitrate: self.bitrate,
        };
        match (subject, &self.picture) {
            (Subject::Last { info, .. }, Some(slate)) => slate.encode(&shape(info.width, info.height)),
            (Subject::Last { configuration, info, group }, None) => last(configuration, group)
                .or_else(|error| {
                    gst::info!(CAT, "black stands in, because the last picture cannot be had: {error}");
                    Picture::black(info.width, info.height)
                })?
                .encode(&shape(info.width, info.height)),
            (Subject::Nothing, Some(slate)) => {
                let (width, height) = self.canvas.size_for(slate.size());
                slate.encode(&shape(width, height))
            }
            (Subject::Nothing, None) => {
                let (width, height) = self.canvas.size_for(SIZE);
                Picture::black(width, height)?.encode(&shape(width, height))
            }
        }
    }
}

/// The last picture, or, where loss has made that impossible, the keyframe before it.
fn last(configuration: &[u8], group: &[bytes::Bytes]) -> Result<Picture, StillError> {
    Picture::last_of(configuration, group.iter()).or_else(|_| Picture::last_of(configuration, group.iter().take(1)))
}
