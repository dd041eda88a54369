//! Opus' identification header (RFC 7845, section 5.1), the decoder configuration of its enhanced tags.

use bytes::{BufMut as _, Bytes, BytesMut};

/// The header for mono or stereo, the mapping family without a table.
pub fn opus_head(channels: u8, sample_rate: u32) -> Bytes {
    let mut head = BytesMut::with_capacity(19);
    head.put_slice(b"OpusHead");
    head.put_u8(1); // version
    head.put_u8(channels);
    // Pre-skip: in a live stream nobody knows how much the encoder put in front, and nothing of it is there any more.
    head.put_u16_le(0);
    head.put_u32_le(sample_rate);
    head.put_i16_le(0); // output gain
    head.put_u8(0); // mapping family
    head.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_is_as_in_rfc_7845() {
        assert_eq!(opus_head(2, 48_000)[..], *b"OpusHead\x01\x02\0\0\x80\xbb\0\0\0\0\0");
    }
}
