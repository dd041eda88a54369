//! Counts what HTTP requests were answered with. Bounded: routes are those that there are, not those that were asked for.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    Extension,
    extract::{MatchedPath, Request},
    http::Method,
    middleware::Next,
    response::Response,
};
use serde::Serialize;
use utoipa::ToSchema;

/// One server's answers.
#[derive(Default)]
pub(crate) struct Requests {
    /// By route, method and status.
    answers: Mutex<BTreeMap<(String, &'static str, u16), u64>>,
}

/// How often one kind of request had one kind of answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Answers {
    /// The route, such as `/api/v1/channels/{id}`, or `other`.
    pub(crate) route: String,
    /// The method, or `OTHER`.
    pub(crate) method: &'static str,
    /// The HTTP status.
    pub(crate) status: u16,
    /// How many there were since the server started.
    pub(crate) count: u64,
}

impl Requests {
    fn count(&self, route: String, method: &'static str, status: u16) {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        *answers.entry((route, method, status)).or_default() += 1;
    }

    /// All counts, in order.
    pub(crate) fn all(&self) -> Vec<Answers> {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = |((route, method, status), count): (&(String, &'static str, u16), &u64)| Answers {
            route: route.clone(),
            method,
            status: *status,
            count: *count,
        };
        answers.iter().map(answer).collect()
    }
}

/// The middleware around everything.
pub(crate) async fn count(Extension(requests): Extension<Arc<Requests>>, request: Request, next: Next) -> Response {
    let route = route(request.extensions().get::<MatchedPath>(), request.uri().path());
    let method = method(request.method());
    let response = next.run(request).await;
    requests.count(route, method, response.status().as_u16());
    response
}

/// What a request was for. Media endpoints have paths of all kinds: they are told by their first segment.
fn route(matched: Option<&MatchedPath>, path: &str) -> String {
    match matched {
        Some(matched) => matched.as_str().to_owned(),
        None if path.starts_with("/whip/") => "/whip".into(),
        None => "other".into(),
    }
}

fn method(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        "OPTIONS" => "OPTIONS",
        _ => "OTHER",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_counted_by_route_method_and_status_and_whatever_is_asked_for_stays_few() {
        let requests = Requests::default();
        for number in 0..1000 {
            let method = method(&Method::from_bytes(format!("M{number}").as_bytes()).unwrap());
            requests.count(route(None, &format!("/{number}")), method, 404);
        }
        requests.count(route(None, "/whip/a/b"), method(&Method::DELETE), 200);
        let answer = |route: &str, method, status, count| Answers { route: route.into(), method, status, count };
        assert_eq!(requests.all(), [answer("/whip", "DELETE", 200, 1), answer("other", "OTHER", 404, 1000)]);
    }
}
