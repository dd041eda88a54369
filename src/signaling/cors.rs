//! CORS (Fetch standard, section 3.3): tells a browser that a page may read an answer. Which pages may is `origin`'s
//! decision; cookies are never used.

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};

const HEADERS: [(HeaderName, HeaderValue); 4] = [
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

/// Says what pages may do here, and marks a response as readable by those of an origin. Without one nobody has asked.
pub(crate) fn describe(headers: &mut HeaderMap, origin: Option<HeaderValue>) {
    headers.extend(HEADERS.map(|(name, value)| (Some(name), value)));
    headers.extend(origin.map(|origin| (header::ACCESS_CONTROL_ALLOW_ORIGIN, origin)));
    vary(headers);
}

/// Tells caches that another origin gets another response.
pub(crate) fn vary(headers: &mut HeaderMap) {
    headers.append(header::VARY, HeaderValue::from_static("origin"));
}
