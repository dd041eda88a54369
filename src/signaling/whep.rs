//! WHEP (draft-ietf-wish-whep-03): POST an offer to watch. What happens to the session that it leads to is what happens to a
//! publisher's (`whip_session`); what only viewers have, an answer to our own offer and a choice of layers, is here too, and
//! their events are in `whep_events`.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use axum::{
    extract::Request,
    http::{HeaderValue, Method, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use serde::Deserialize;
use serde_json::Value;
use tokio::time::Instant;
use tracing::info;

use super::{
    answerer::{AnswerError, SessionLease, SignaledSession, abbreviate},
    body,
    connection::Peer,
    endpoint::Established,
    problem::Refusal,
    rules::{self, Terms},
    sdp,
    table::{EVENTS, Extension, LAYER, Place},
    viewing::{LayerLimits, Program, Viewing},
    whep_events,
    whip::{self, ACCEPT_POST, Accepted, SDP, authorize},
    whip_session::etag,
};
use crate::channel::{Credential, Visitor};

/// How long an offer of ours waits for its answer: what the draft says where nothing is said.
pub const COUNTER_OFFER: Duration = Duration::from_secs(30);

/// The names of the extensions (draft-ietf-wish-whep-03, core extensions).
const EVENTS_RELATION: &str = "urn:ietf:params:whep:ext:core:server-sent-events";
const LAYER_RELATION: &str = "urn:ietf:params:whep:ext:core:layer";

pub(crate) async fn on_endpoint(place: Place, peer: Peer, request: Request) -> Result<Response, Refusal> {
    const ALLOW: &str = "GET, HEAD, OPTIONS, POST";
    match *request.method() {
        // Never with a token: a browser's preflight cannot carry one.
        Method::OPTIONS => Ok((StatusCode::OK, [(header::ALLOW, ALLOW), (ACCEPT_POST, SDP)]).into_response()),
        Method::POST => {
            let began = Instant::now();
            let credential = authorize(&place, request.headers(), peer).await?;
            post(place, peer, (credential, whip::left_since(began)), request).await
        }
        // Players know an endpoint by its type (section 4.2); there is nothing in it.
        Method::GET | Method::HEAD => {
            authorize(&place, request.headers(), peer).await?;
            Ok((StatusCode::OK, [(header::CONTENT_TYPE, SDP)]).into_response())
        }
        _ => Err(Refusal::Method { allow: ALLOW }),
    }
}

async fn post(
    place: Place,
    peer: Peer,
    (credential, within): (Credential, Duration),
    request: Request,
) -> Result<Response, Refusal> {
    body::must_be(SDP, request.headers())?;
    let body = body::read(request).await?;
    let sdp = sdp::check(&body)?.to_owned();
    let seat = seat(&place).await?;
    let began = Instant::now();
    match whip::accept(&place, sdp.clone(), peer.0, credential, within, Terms::BothWays, seat).await {
        Ok(accepted) => created(&place, accepted, StatusCode::CREATED, HeaderValue::from_static(SDP)),
        Err(Refusal::Answer(AnswerError::Unacceptable(why))) if rules::check_viewers_offer(&sdp).is_ok() => {
            let seat = self::seat(&place).await?;
            match whip::counter(&place, sdp, peer.0, credential, within.saturating_sub(began.elapsed()), seat).await? {
                Some(accepted) => {
                    info!(endpoint = %place.path(), why, "an offer is countered with one of ours");
                    let until = httpdate::fmt_http_date(SystemTime::now() + COUNTER_OFFER);
                    let kind = HeaderValue::try_from(format!("{SDP}; valid-until=\"{until}\"")).map_err(internal)?;
                    created(&place, accepted, StatusCode::NOT_ACCEPTABLE, kind)
                }
                None => Err(AnswerError::Unacceptable(why).into()),
            }
        }
        Err(refusal) => Err(refusal),
    }
}

/// Takes a viewer's place and has it counted in its channel, for as long as the session's URL lasts.
async fn seat(place: &Place) -> Result<impl FnOnce(SessionLease) -> SessionLease + use<>, Refusal> {
    let seating = place.endpoint.seating.as_ref();
    let seat = seating.map(|seating| seating.seats.take()).transpose()?;
    let presence = match (seating.and_then(|seating| seating.registry.as_ref()), &place.channel) {
        (Some(registry), Some(channel)) => Some(registry.enter(channel, Visitor::Viewer).await?),
        _ => None,
    };
    Ok(move |lease| SessionLease::new(move || drop((lease, presence, seat))))
}

fn created(place: &Place, accepted: Accepted, status: StatusCode, kind: HeaderValue) -> Result<Response, Refusal> {
    let Accepted { id, sdp, session } = accepted;
    let location = format!("{}/{id}", place.path());
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::ETAG, etag(&*session)),
        (header::LOCATION, HeaderValue::try_from(&location).map_err(internal)?),
    ];
    let mut response = (status, headers, sdp).into_response();
    let mut link = |value: HeaderValue| response.headers_mut().append(header::LINK, value);
    for ice_server in &place.endpoint.links {
        link(ice_server.clone());
    }
    if session.viewing().is_some() {
        let events = whep_events::EVENTS;
        for value in [
            format!("<{location}/{EVENTS}>; rel=\"{EVENTS_RELATION}\"; events=\"{events}\""),
            format!("<{location}/{LAYER}>; rel=\"{LAYER_RELATION}\""),
        ] {
            link(HeaderValue::try_from(value).map_err(internal)?);
        }
    }
    Ok(response)
}

fn internal(error: impl ToString) -> Refusal {
    AnswerError::Internal(error.to_string()).into()
}

/// The answer to an offer of ours, as a PATCH of the session (section 4.3.2).
pub(crate) async fn take_answer(session: Arc<Established>, request: Request) -> Result<Response, Refusal> {
    let body = body::read(request).await?;
    let sdp = sdp::check(&body).map_err(Refusal::ViewersAnswer)?.to_owned();
    // In a task of its own: a viewer that goes away must not leave it half way.
    let taken = tokio::spawn(async move {
        let _turn = session.turn().await;
        viewing(&session)?.answered(&sdp).await.map_err(Refusal::from)
    });
    taken.await.map_err(internal)??;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Requests below a session's URL.
pub(crate) async fn on_extension(
    place: &Place,
    id: &str,
    extension: Extension,
    peer: Peer,
    request: Request,
) -> Result<Response, Refusal> {
    const ALLOW_POST: &str = "OPTIONS, POST";
    const ALLOW_STREAM: &str = "DELETE, GET, OPTIONS";
    const JSON: &str = "application/json";
    let method = request.method().clone();
    if method == Method::OPTIONS {
        return Ok(match extension {
            Extension::Stream(_) => (StatusCode::OK, [(header::ALLOW, ALLOW_STREAM)]).into_response(),
            _ => (StatusCode::OK, [(header::ALLOW, ALLOW_POST), (ACCEPT_POST, JSON)]).into_response(),
        });
    }
    authorize(place, request.headers(), peer).await?;
    let session = place.session(id).ok_or(Refusal::NoSession)?;
    match (extension, method) {
        (Extension::Layer, Method::POST) => {
            body::must_be(JSON, request.headers())?;
            let body = body::read(request).await?;
            choose(viewing(&session)?, &body)?;
            Ok(StatusCode::OK.into_response())
        }
        (Extension::Events, Method::POST) => {
            let body = match request.headers().contains_key(header::CONTENT_TYPE) {
                true => {
                    body::must_be(JSON, request.headers())?;
                    body::read(request).await?
                }
                false => Vec::new(),
            };
            let stream = session.streams.open(&body)?;
            let location = format!("{}/{id}/{EVENTS}/{stream}", place.path());
            Ok((StatusCode::CREATED, [(header::LOCATION, location)]).into_response())
        }
        (Extension::Stream(stream), Method::GET) => {
            let program = viewing(&session)?.program();
            whep_events::read(&session.streams, &stream, program, place, peer)
        }
        (Extension::Stream(stream), Method::DELETE) => {
            session.streams.delete(&stream)?;
            info!(endpoint = %place.path(), session = abbreviate(id), "event stream deleted by its viewer");
            Ok(StatusCode::OK.into_response())
        }
        (Extension::Stream(_), _) => Err(Refusal::Method { allow: ALLOW_STREAM }),
        _ => Err(Refusal::Method { allow: ALLOW_POST }),
    }
}

fn viewing(session: &Established) -> Result<&dyn Viewing, Refusal> {
    SignaledSession::viewing(session.inner()).ok_or(Refusal::NoSession)
}

/// A choice of layers as it is sent; what is unknown in it does not matter, so that later extensions may add to it.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Choice {
    media_id: Option<Value>,
    rid: Option<String>,
    spatial_layer_id: Option<usize>,
    temporal_layer_id: Option<u8>,
    max_spatial_layer_id: Option<usize>,
    max_temporal_layer_id: Option<u8>,
    max_width: Option<u16>,
    max_height: Option<u16>,
}

fn choose(viewing: &dyn Viewing, body: &[u8]) -> Result<(), Refusal> {
    let choice: Choice = serde_json::from_slice(body).map_err(|error| Refusal::Layer(error.to_string()))?;
    let limits = limits(&choice, &viewing.program().borrow()).map_err(Refusal::Layer)?;
    viewing.limit_layers(limits);
    Ok(())
}

/// A layer that is chosen is the most that a viewer gets: what its network does not carry would not arrive.
fn limits(choice: &Choice, program: &Program) -> Result<LayerLimits, String> {
    if let Some(media) = &choice.media_id {
        let section = media.as_u64().or_else(|| media.as_str()?.parse().ok());
        if section != u64::try_from(program.video_section).ok() {
            return Err(format!("mediaId: {media} has no layers; the video is {}", program.video_section));
        }
    }
    let rid = match choice.rid.as_deref() {
        None => None,
        Some(rid) => Some(rid.parse().map_err(|_| "rid: there is no such layer".to_owned())?),
    };
    let exact = rid.or(choice.spatial_layer_id);
    if exact.is_some_and(|layer| layer > 0 && layer >= program.layers.len()) {
        return Err("there is no such layer now".into());
    }
    Ok(LayerLimits {
        layer: [exact, choice.max_spatial_layer_id].into_iter().flatten().min(),
        temporal: [choice.temporal_layer_id, choice.max_temporal_layer_id].into_iter().flatten().min(),
        width: choice.max_width,
        height: choice.max_height,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signaling::VideoLayer;

    fn chosen(body: &str) -> Result<LayerLimits, String> {
        let layers = (0..3).map(|index| VideoLayer { index, ..VideoLayer::default() }).collect();
        let program = Program { layers, video_section: 1, ..Program::default() };
        let choice: Choice = serde_json::from_str(body).map_err(|error| error.to_string())?;
        limits(&choice, &program)
    }

    #[test]
    fn a_choice_is_the_most_that_a_viewer_gets() {
        let none = LayerLimits::default();
        assert_eq!(chosen(r#"{"mediaId":"1"}"#), Ok(none), "back to what the network carries");
        assert_eq!(chosen(r#"{"mediaId":1,"rid":"2"}"#), Ok(LayerLimits { layer: Some(2), ..none }));
        assert_eq!(
            chosen(r#"{"spatialLayerId":1,"maxSpatialLayerId":0,"temporalLayerId":1,"colour":"red"}"#),
            Ok(LayerLimits { layer: Some(0), temporal: Some(1), ..none })
        );
        assert_eq!(
            chosen(r#"{"maxWidth":640,"maxHeight":360,"maxSpatialLayerId":9}"#),
            Ok(LayerLimits { layer: Some(9), width: Some(640), height: Some(360), ..none })
        );
    }

    #[test]
    fn what_there_is_not_cannot_be_chosen() {
        for (body, why) in [
            (r#"{"mediaId":"0"}"#, "the video is 1"),
            (r#"{"rid":"hd"}"#, "rid"),
            (r#"{"rid":"3"}"#, "no such layer"),
            (r#"{"spatialLayerId":7}"#, "no such layer"),
            (r#"{"spatialLayerId":-1}"#, "invalid value"),
            ("[]x", "trailing"),
        ] {
            assert!(chosen(body).unwrap_err().contains(why), "{body}: {:?}", chosen(body));
        }
    }
}
