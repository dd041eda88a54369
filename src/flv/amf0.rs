//! The few AMF0 values that onMetaData (section E.4.4, SCRIPTDATAVALUE) and RTMP's commands need.

use bytes::{BufMut as _, BytesMut};

/// Writes a string value: type 2, length, bytes. What is longer than 16 bit can say is cut.
pub(crate) fn put_string(out: &mut BytesMut, value: &str) {
    out.put_u8(2);
    put_key(out, value);
}

/// Writes a number value: type 0, IEEE 754 double.
pub(crate) fn put_number(out: &mut BytesMut, value: f64) {
    out.put_u8(0);
    out.put_f64(value);
}

/// Writes a boolean value: type 1.
pub(crate) fn put_boolean(out: &mut BytesMut, value: bool) {
    out.put_u8(1);
    out.put_u8(u8::from(value));
}

/// Begins an ECMA array of about `len` entries: type 8. Entries are a key and a value each.
pub(crate) fn begin_array(out: &mut BytesMut, len: u32) {
    out.put_u8(8);
    out.put_u32(len);
}

/// Begins an object: type 3. Entries and end are those of an array.
pub(crate) fn begin_object(out: &mut BytesMut) {
    out.put_u8(3);
}

/// Begins a strict array of `len` values without names: type 10.
pub(crate) fn begin_strict_array(out: &mut BytesMut, len: u32) {
    out.put_u8(10);
    out.put_u32(len);
}

/// Writes null: type 5.
pub(crate) fn put_null(out: &mut BytesMut) {
    out.put_u8(5);
}

/// Writes an entry's name: length and bytes, without a type.
pub(crate) fn put_key(out: &mut BytesMut, key: &str) {
    let bytes = &key.as_bytes()[..key.len().min(usize::from(u16::MAX))];
    out.put_u16(bytes.len() as u16);
    out.extend_from_slice(bytes);
}

/// Ends an array: an empty name and the end marker (SCRIPTDATAOBJECTEND).
pub(crate) fn end_array(out: &mut BytesMut) {
    out.extend_from_slice(&[0, 0, 9]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_as_in_e_4_4() {
        let mut out = BytesMut::new();
        put_string(&mut out, "ab");
        put_number(&mut out, 1.0);
        put_boolean(&mut out, true);
        begin_array(&mut out, 1);
        put_key(&mut out, "k");
        end_array(&mut out);
        let expected = [2, 0, 2, b'a', b'b', 0, 0x3f, 0xf0, 0, 0, 0, 0, 0, 0, 1, 1, 8, 0, 0, 0, 1, 0, 1, b'k', 0, 0, 9];
        assert_eq!(out[..], expected);
    }
}
