//! A track: what was negotiated of one media section.

use rtc::rtp_transceiver::rtp_sender::{RTCPFeedback, RTCRtpCodec, RTCRtpCodecParameters};

use crate::codec::{Codec, MediaKind};

/// One media section that is used in one direction, with the one codec that the answer names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Track {
    /// Its place: of what comes, among the accepted tracks, which is what [`PacketSink`](super::PacketSink) is told; of what
    /// goes, among the tracks that we have to send.
    pub index: usize,
    /// The media identification tag (RFC 8843), if the offer has one.
    pub mid: Option<String>,
    /// The codec.
    pub codec: Codec,
    /// RTP payload type, as offered.
    pub payload_type: u8,
    /// Number of channels; 0 for video.
    pub channels: u16,
    /// The `a=fmtp` value, as offered.
    pub fmtp: String,
    /// Payload type of its retransmissions (RFC 4588), if offered.
    pub rtx: Option<u8>,
    /// Payload type of packets that repeat earlier ones (RFC 2198), if offered; audio only.
    pub red: Option<u8>,
    /// SSRCs that the offer announces for it.
    pub ssrcs: Vec<u32>,
    /// The `a=rtcp-fb` values that we make use of, as type and parameter (RFC 4585 section 4.2).
    pub feedback: Vec<(String, String)>,
}

impl Track {
    /// Audio or video.
    pub fn kind(&self) -> MediaKind {
        self.codec.kind()
    }

    /// What the media engine must know to answer with exactly this codec: the codec, its retransmissions, its redundancy.
    pub(super) fn codec_parameters(&self) -> Vec<RTCRtpCodecParameters> {
        let feedback = self
            .feedback
            .iter()
            .map(|(typ, parameter)| RTCPFeedback { typ: typ.clone(), parameter: parameter.clone() })
            .collect();
        let mut parameters = vec![RTCRtpCodecParameters {
            rtp_codec: RTCRtpCodec {
                mime_type: self.codec.mime_type(),
                clock_rate: self.codec.clock_rate(),
                channels: self.channels,
                sdp_fmtp_line: self.codec.answered_fmtp(&self.fmtp),
                rtcp_feedback: feedback,
            },
            payload_type: self.payload_type,
        }];
        if let Some(rtx) = self.rtx {
            parameters.push(RTCRtpCodecParameters {
                rtp_codec: RTCRtpCodec {
                    mime_type: format!("{}/rtx", self.kind()),
                    clock_rate: self.codec.clock_rate(),
                    channels: 0,
                    sdp_fmtp_line: format!("apt={}", self.payload_type),
                    rtcp_feedback: Vec::new(),
                },
                payload_type: rtx,
            });
        }
        if let Some(red) = self.red {
            // First: Chromium sends redundancy only where RED is what the answer prefers.
            let rtp_codec = RTCRtpCodec {
                mime_type: "audio/red".into(),
                clock_rate: self.codec.clock_rate(),
                channels: self.channels,
                sdp_fmtp_line: format!("{0}/{0}", self.payload_type),
                rtcp_feedback: Vec::new(),
            };
            parameters.insert(0, RTCRtpCodecParameters { rtp_codec, payload_type: red });
        }
        parameters
    }
}
