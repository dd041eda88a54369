//! CORS (Fetch standard, section 3.3) for WHIP endpoints: any page may publish, as they are open or need a bearer token,
//! and cookies are never used.

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};

const HEADERS: [(HeaderName, HeaderValue); 5] = [
    (header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*")),
    (header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, HEAD, POST, PATCH, DELETE, OPTIONS")),
    (header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("authorization, content-type, if-match")),
    (
        header::ACCESS_CONTROL_EXPOSE_HEADERS,
        HeaderValue::from_static(
            "location, etag, link, accept-post, accept-patch, allow, retry-after, www-authenticate",
        ),
    ),
    // Two hours is the most that Chromium keeps a preflight.
    (header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("7200")),
];

/// Marks a response as readable by any page.
pub(crate) fn allow_any_origin(headers: &mut HeaderMap) {
    headers.extend(HEADERS.map(|(name, value)| (Some(name), value)));
}
