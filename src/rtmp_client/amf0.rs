//! AMF0 values that a server sends ("Action Message Format -- AMF 0"). What is written is in `flv::amf0`.

/// Deeper nesting than any server has use for.
const DEEPEST: usize = 8;

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Number(f64),
    String(String),
    Object(Vec<(String, Value)>),
    /// Booleans, dates, null and everything else that nobody looks at.
    Other,
}

/// What cannot be read as AMF0.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed;

impl Value {
    pub(super) fn as_number(&self) -> Option<f64> {
        match self {
            Self::Number(number) => Some(*number),
            _ => None,
        }
    }

    pub(super) fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// A string field of an object.
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        match self {
            Self::Object(fields) => fields.iter().find(|(key, _)| key == name)?.1.as_str(),
            _ => None,
        }
    }
}

/// All values of a message. They take at most some 60 times the room of the message, whose length is bounded.
pub(super) fn read_all(mut bytes: &[u8]) -> Result<Vec<Value>, Malformed> {
    let mut values = Vec::new();
    while !bytes.is_empty() {
        values.push(value(&mut bytes, 0)?);
    }
    Ok(values)
}

fn value(bytes: &mut &[u8], depth: usize) -> Result<Value, Malformed> {
    if depth > DEEPEST {
        return Err(Malformed);
    }
    Ok(match take::<1>(bytes)? {
        [0] => Value::Number(f64::from_be_bytes(take(bytes)?)),
        [1] => {
            take::<1>(bytes)?;
            Value::Other
        }
        [2] => Value::String(string(bytes)?),
        [3] => Value::Object(fields(bytes, depth)?),
        [5 | 6 | 13] => Value::Other, // null, undefined, unsupported
        [7] => {
            take::<2>(bytes)?; // a reference
            Value::Other
        }
        [8] => {
            take::<4>(bytes)?; // about how many; the end is marked
            Value::Object(fields(bytes, depth)?)
        }
        [10] => {
            for _ in 0..u32::from_be_bytes(take(bytes)?) {
                value(bytes, depth + 1)?; // ends with the bytes at the latest
            }
            Value::Other
        }
        [11] => {
            take::<10>(bytes)?; // a date and its zone
            Value::Other
        }
        [12 | 15] => {
            let length = u32::from_be_bytes(take(bytes)?);
            Value::String(text(bytes, length as usize)?)
        }
        [16] => {
            string(bytes)?; // the class
            Value::Object(fields(bytes, depth)?)
        }
        _ => return Err(Malformed),
    })
}

fn fields(bytes: &mut &[u8], depth: usize) -> Result<Vec<(String, Value)>, Malformed> {
    let mut fields = Vec::new();
    loop {
        let key = string(bytes)?;
        if key.is_empty() && bytes.first() == Some(&9) {
            take::<1>(bytes)?;
            return Ok(fields);
        }
        fields.push((key, value(bytes, depth + 1)?));
    }
}

fn string(bytes: &mut &[u8]) -> Result<String, Malformed> {
    let length = u16::from_be_bytes(take(bytes)?);
    text(bytes, usize::from(length))
}

fn text(bytes: &mut &[u8], length: usize) -> Result<String, Malformed> {
    let (text, rest) = bytes.split_at_checked(length).ok_or(Malformed)?;
    *bytes = rest;
    Ok(String::from_utf8_lossy(text).into_owned())
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N], Malformed> {
    let (taken, rest) = bytes.split_first_chunk().ok_or(Malformed)?;
    *bytes = rest;
    Ok(*taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_servers_are_read() {
        let mut bytes = b"\x02\x00\x07_result\x00\x3f\xf0\0\0\0\0\0\0\x05".to_vec();
        bytes.extend(b"\x03\x00\x04code\x02\x00\x02ok\x00\x01n\x08\0\0\0\x01\x00\x01b\x01\x01\0\0\x09\0\0\x09");
        let values = read_all(&bytes).unwrap_or_default();
        assert_eq!(values[0].as_str(), Some("_result"));
        assert_eq!(values[1].as_number(), Some(1.0));
        assert_eq!(values[3].field("code"), Some("ok"));
    }

    #[test]
    fn every_cut_and_every_depth_is_an_error_and_no_panic() {
        let whole = b"\x03\x00\x04code\x0a\0\0\0\x02\x05\x05\0\0\x09";
        assert!(read_all(whole).is_ok());
        for length in 1..whole.len() {
            assert_eq!(read_all(&whole[..length]), Err(Malformed), "{length}");
        }
        assert_eq!(read_all(&[10, 0, 0, 0, 1].repeat(100)), Err(Malformed));
        assert_eq!(read_all(&[10, 255, 255, 255, 255, 5]), Err(Malformed));
    }
}
