//! AV1 in RTP, as senders do it (AOM, "RTP Payload Format For AV1"): Debian 12 has no payloader for it.

/// The payloads of one temporal unit in the low-overhead format, none longer than `mtu`.
pub fn payloads(unit: &[u8], mtu: usize) -> Vec<Vec<u8>> {
    let obus = obus(unit);
    let starts_sequence = obus.iter().any(|obu| obu[0] >> 3 & 15 == 1);
    let mut payloads = Vec::new();
    for obu in &obus {
        let parts: Vec<&[u8]> = obu.chunks(mtu - 1).collect();
        for (index, part) in parts.iter().enumerate() {
            let mut header = 1 << 4; // one element
            header |= u8::from(index > 0) << 7;
            header |= u8::from(index + 1 < parts.len()) << 6;
            header |= u8::from(payloads.is_empty() && starts_sequence) << 3;
            payloads.push([&[header], *part].concat());
        }
    }
    payloads
}

/// The OBUs of a temporal unit without their size fields, temporal delimiters left out.
fn obus(mut unit: &[u8]) -> Vec<Vec<u8>> {
    let mut obus = Vec::new();
    while let Some(&header) = unit.first() {
        assert!(header & 2 != 0, "an OBU without a size field");
        let header_length = 1 + usize::from(header >> 2 & 1);
        let (mut size, mut length) = (0, header_length);
        for shift in (0..).step_by(7) {
            let byte = unit[length];
            length += 1;
            size |= usize::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
        let mut obu = vec![header & !2];
        obu.extend_from_slice(&unit[1..header_length]);
        obu.extend_from_slice(&unit[length..length + size]);
        if header >> 3 & 15 != 2 {
            obus.push(obu);
        }
        unit = &unit[length + size..];
    }
    obus
}
