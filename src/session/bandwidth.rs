//! The most that a peer shall send, told in the answer: `b=` lines (RFC 8866 section 5.8, RFC 3890).

/// Limits the video sections of an answer to `bits_per_second`; 0 leaves them alone.
pub(super) fn limit(answer: &str, bits_per_second: u32) -> String {
    if bits_per_second == 0 {
        return answer.to_owned();
    }
    // Browsers obey either; AS is in kbit/s and counts packet headers, so it is rounded up.
    let lines = format!("b=AS:{}\r\nb=TIAS:{bits_per_second}\r\n", bits_per_second.div_ceil(1000));
    let mut out = String::with_capacity(answer.len() + lines.len());
    let mut is_video = false;
    for line in answer.lines() {
        out.push_str(line);
        out.push_str("\r\n");
        if line.starts_with("m=") {
            is_video = line.starts_with("m=video ");
        }
        // The order of lines is fixed: bandwidth follows the connection (RFC 8866 section 5).
        if is_video && line.starts_with("c=") {
            out.push_str(&lines);
            is_video = false;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &str = "v=0\r\nc=IN IP4 0.0.0.0\r\nm=audio 9 x 0\r\nc=IN IP4 0.0.0.0\r\na=mid:0\r\n\
        m=video 9 x 96\r\nc=IN IP4 0.0.0.0\r\na=mid:1\r\n";

    #[test]
    fn video_is_limited_and_nothing_else_is_changed() {
        let limited = limit(ANSWER, 1_500_500);
        let lines = "b=AS:1501\r\nb=TIAS:1500500\r\n";
        assert!(limited.contains(&format!("m=video 9 x 96\r\nc=IN IP4 0.0.0.0\r\n{lines}a=mid:1")), "{limited}");
        assert_eq!(limited.replace(lines, ""), ANSWER);
    }

    #[test]
    fn no_limit_is_no_line() {
        assert_eq!(limit(ANSWER, 0), ANSWER);
    }
}
