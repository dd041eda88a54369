//! Request bodies: of the right type, bounded in size and in time.

use std::time::Duration;

use axum::{
    body::{Body, HttpBody as _},
    extract::Request,
    http::{HeaderMap, header},
};
use http_body_util::BodyExt as _;
use tokio::time::timeout;

use super::problem::Refusal;

/// Browsers' offers have 5 to 10 KiB.
const MAX_BODY: usize = 64 * 1024;

/// What a client may take for its body.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// Lets a request pass whose Content-Type is this one, whatever its parameters.
pub(crate) fn must_be(media_type: &'static str, headers: &HeaderMap) -> Result<(), Refusal> {
    let value = headers.get(header::CONTENT_TYPE).map(|v| String::from_utf8_lossy(v.as_bytes())).unwrap_or_default();
    let essence = value.split(';').next().unwrap_or_default().trim();
    let came = match essence.eq_ignore_ascii_case(media_type) {
        true => return Ok(()),
        false if essence.is_empty() => "missing".into(),
        false => format!("{essence:?}"),
    };
    Err(Refusal::ContentType { must: media_type, came })
}

/// Reads a body.
pub(crate) async fn read(request: Request) -> Result<Vec<u8>, Refusal> {
    timeout(BODY_TIMEOUT, read_all(request.into_body()))
        .await
        .unwrap_or(Err(Refusal::Slow { seconds: BODY_TIMEOUT.as_secs() }))
}

/// Reads past the limit, up to another one, and throws that away: closing on a client that is still writing makes it see
/// a reset instead of the refusal.
async fn read_all(mut body: Body) -> Result<Vec<u8>, Refusal> {
    const MAX_DISCARDED: u64 = 1024 * 1024;
    if body.size_hint().lower() > MAX_DISCARDED {
        return Err(Refusal::TooLarge { max: MAX_BODY });
    }
    let mut kept = Vec::new();
    let mut total = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Refusal::Body(error.to_string()))?;
        let Some(data) = frame.data_ref() else { continue };
        total += data.len() as u64;
        if total <= MAX_BODY as u64 {
            kept.extend_from_slice(data);
        } else if total > MAX_DISCARDED {
            break;
        }
    }
    match total <= MAX_BODY as u64 {
        true => Ok(kept),
        false => Err(Refusal::TooLarge { max: MAX_BODY }),
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn content_type_is_told_by_its_essence() {
        let check = |value: Option<&'static str>| {
            let headers = value.map(|v| (header::CONTENT_TYPE, HeaderValue::from_static(v)));
            must_be("application/sdp", &headers.into_iter().collect())
        };
        assert!(check(Some("application/sdp")).is_ok());
        assert!(check(Some("Application/SDP; charset=utf-8")).is_ok());
        assert!(check(Some("application/sdpx")).is_err());
        assert!(check(None).is_err());
    }
}
