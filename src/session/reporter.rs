//! Whose reports RTCP is: the SSRC that the stack keeps state for, which the first packet of a datagram names.

use rtc::rtcp::{
    Packet,
    extended_report::ExtendedReport,
    payload_feedbacks::{
        full_intra_request::FullIntraRequest, picture_loss_indication::PictureLossIndication,
        receiver_estimated_maximum_bitrate::ReceiverEstimatedMaximumBitrate,
    },
    receiver_report::ReceiverReport,
    sender_report::SenderReport,
    source_description::SourceDescription,
    transport_feedbacks::{transport_layer_cc::TransportLayerCc, transport_layer_nack::TransportLayerNack},
};

/// The SSRC of a datagram of these packets; `None` for packets that we do not know.
pub(super) fn reporter(packets: &[Box<dyn Packet>]) -> Option<u32> {
    let first = packets.first()?.as_any();
    let is = first.downcast_ref::<ReceiverReport>().map(|packet| packet.ssrc);
    is.or_else(|| Some(first.downcast_ref::<SenderReport>()?.ssrc))
        .or_else(|| Some(first.downcast_ref::<TransportLayerCc>()?.sender_ssrc))
        .or_else(|| Some(first.downcast_ref::<TransportLayerNack>()?.sender_ssrc))
        .or_else(|| Some(first.downcast_ref::<PictureLossIndication>()?.sender_ssrc))
        .or_else(|| Some(first.downcast_ref::<FullIntraRequest>()?.sender_ssrc))
        .or_else(|| Some(first.downcast_ref::<ReceiverEstimatedMaximumBitrate>()?.sender_ssrc))
        .or_else(|| Some(first.downcast_ref::<ExtendedReport>()?.sender_ssrc))
        .or_else(|| Some(first.downcast_ref::<SourceDescription>()?.chunks.first()?.source))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the stack reads it: the four bytes behind the header of the first packet (RFC 3711 section 3.4).
    #[test]
    fn it_is_the_ssrc_that_stands_in_the_datagram() {
        let packets: Vec<Box<dyn Packet>> = vec![
            Box::new(ReceiverReport { ssrc: 11, ..Default::default() }),
            Box::new(SenderReport { ssrc: 12, ..Default::default() }),
            Box::new(TransportLayerNack { sender_ssrc: 13, media_ssrc: 1, nacks: vec![Default::default()] }),
            Box::new(PictureLossIndication { sender_ssrc: 14, media_ssrc: 1 }),
            Box::new(FullIntraRequest { sender_ssrc: 15, media_ssrc: 1, fir: vec![Default::default()] }),
            Box::new(ReceiverEstimatedMaximumBitrate { sender_ssrc: 16, bitrate: 1000.0, ssrcs: vec![1] }),
        ];
        for (packet, ssrc) in packets.into_iter().zip(11_u32..) {
            let bytes = packet.marshal().unwrap();
            assert_eq!(bytes[4..8], ssrc.to_be_bytes());
            assert_eq!(reporter(&[packet]), Some(ssrc));
        }
        assert_eq!(reporter(&[]), None);
    }
}
