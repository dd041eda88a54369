//! When a server wants to be asked again (RFC 9110 section 10.2.3): pure, the time is an argument.

use std::time::{Duration, SystemTime};

use hyper::{HeaderMap, header};

/// A server that asks for hours is asked again all the same: nobody would notice that it is back.
const LONGEST: Duration = Duration::from_secs(120);

/// The server's wish, in seconds or as a date. A date is taken by the server's own clock where the reply has it: ours may
/// differ by more than the wish.
pub(in crate::signaling) fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = |name| headers.get(name)?.to_str().ok().map(str::trim);
    let date = |text| httpdate::parse_http_date(text).ok();
    let wish = text(header::RETRY_AFTER)?;
    let wait = match wish.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let now = text(header::DATE).and_then(date).unwrap_or(now);
            // One that has passed means now.
            date(wish)?.duration_since(now).unwrap_or_default()
        }
    };
    Some(wait.min(LONGEST))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(value: &str, date: Option<&str>, now: &str) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        headers.insert(header::RETRY_AFTER, value.parse().unwrap());
        if let Some(date) = date {
            headers.insert(header::DATE, date.parse().unwrap());
        }
        retry_after(&headers, httpdate::parse_http_date(now).unwrap())
    }

    const NOON: &str = "Sun, 06 Nov 1994 12:00:00 GMT";

    #[test]
    fn seconds_are_read_and_not_too_many() {
        assert_eq!(wish("7", None, NOON), Some(Duration::from_secs(7)));
        assert_eq!(wish("99999999999", None, NOON), Some(LONGEST));
        for nothing in ["-1", "soon", "", "Fri, 99 Dec 1999 23:59:59 GMT"] {
            assert_eq!(wish(nothing, None, NOON), None, "{nothing}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), SystemTime::now()), None);
    }

    #[test]
    fn a_date_is_read_in_each_of_the_three_forms() {
        for date in ["Sun, 06 Nov 1994 12:00:37 GMT", "Sunday, 06-Nov-94 12:00:37 GMT", "Sun Nov  6 12:00:37 1994"] {
            assert_eq!(wish(date, None, NOON), Some(Duration::from_secs(37)), "{date}");
        }
        assert_eq!(wish("Sun, 06 Nov 1994 11:00:00 GMT", None, NOON), Some(Duration::ZERO), "it has passed");
        assert_eq!(wish("Tue, 08 Nov 1994 12:00:00 GMT", None, NOON), Some(LONGEST));
    }

    #[test]
    fn a_date_is_taken_by_the_servers_own_clock() {
        let ours = "Sun, 06 Nov 1994 09:00:00 GMT";
        assert_eq!(wish("Sun, 06 Nov 1994 12:00:05 GMT", Some(NOON), ours), Some(Duration::from_secs(5)));
    }
}
