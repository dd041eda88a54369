//! An RTP packet as GStreamer's depayloaders take it.

use crate::session::RtpPacket;

/// Bytes in front of the payload of what [`to_buffer`] makes.
const HEADER: usize = 12;

/// The packet as bytes (RFC 3550 section 5.1) under this sequence number, without extensions and padding.
pub(super) fn to_buffer(packet: &RtpPacket, sequence_number: u16) -> Option<gst::Buffer> {
    let mut buffer = gst::Buffer::with_size(HEADER + packet.payload.len()).ok()?;
    let mut map = buffer.get_mut()?.map_writable().ok()?;
    let (header, payload) = map.split_at_mut(HEADER);
    header[0] = 2 << 6;
    header[1] = u8::from(packet.marker) << 7 | packet.payload_type & 0x7F;
    header[2..4].copy_from_slice(&sequence_number.to_be_bytes());
    header[4..8].copy_from_slice(&packet.timestamp.to_be_bytes());
    header[8..12].copy_from_slice(&packet.ssrc.to_be_bytes());
    payload.copy_from_slice(&packet.payload);
    drop(map);
    Some(buffer)
}

/// The RTP timestamp of what [`to_buffer`] has made.
pub(super) fn rtp_time(packet: &gst::BufferRef) -> Option<u32> {
    let mut bytes = [0; 4];
    packet.copy_to_slice(4, &mut bytes).ok()?;
    Some(u32::from_be_bytes(bytes))
}

/// Whether what [`to_buffer`] has made bears the marker.
pub(super) fn is_last(packet: &gst::BufferRef) -> bool {
    let mut byte = [0];
    packet.copy_to_slice(1, &mut byte).is_ok() && byte[0] & 0x80 != 0
}

/// What [`to_buffer`] has made carries.
pub(super) fn with_payload<T>(packet: &gst::BufferRef, read: impl FnOnce(&[u8]) -> T) -> Option<T> {
    packet.map_readable().ok()?.get(HEADER..).map(read)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn a_packet_is_written_as_rtp() {
        gst::init().unwrap();
        let packet = RtpPacket {
            dependencies: None,
            marker: true,
            payload_type: 102,
            sequence_number: 0x1234,
            timestamp: 0x5678_9ABC,
            ssrc: 0xDEAD_BEEF,
            payload: Bytes::from_static(&[1, 2, 3]),
            arrival: std::time::Instant::now(),
        };
        let buffer = to_buffer(&packet, packet.sequence_number).unwrap();
        let rtp = gst_rtp::RTPBuffer::from_buffer_readable(&buffer).unwrap();
        assert_eq!((rtp.is_marker(), rtp.payload_type(), rtp.seq()), (true, 102, 0x1234));
        assert_eq!((rtp.timestamp(), rtp.ssrc()), (0x5678_9ABC, 0xDEAD_BEEF));
        assert_eq!(rtp.payload().unwrap(), [1, 2, 3]);
        assert_eq!((rtp_time(&buffer), is_last(&buffer)), (Some(packet.timestamp), true));
        assert_eq!(with_payload(&buffer, <[u8]>::to_vec), Some(vec![1, 2, 3]));
    }
}
