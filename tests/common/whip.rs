//! What every publisher says to a WHIP endpoint: an offer, and goodbye.

use super::http;

/// The endpoint's answer when it was not 201.
#[derive(Debug)]
pub struct Refused {
    pub status: u16,
    pub body: String,
}

/// A session that the endpoint has made.
#[derive(Clone, Debug, Default)]
pub struct Resource {
    pub url: String,
    token: Option<String>,
}

/// Posts an offer; the session and the answer.
pub fn post(url: &str, token: Option<&str>, offer: &str) -> Result<(Resource, String), Refused> {
    let mut request = http().post(url).header("Content-Type", "application/sdp");
    if let Some(token) = token {
        request = request.header("Authorization", format!("Bearer {token}"));
    }
    let mut response = request.send(offer).expect("POST of the offer");
    let status = response.status().as_u16();
    let location = response.headers().get("location").map(|l| l.to_str().expect("Location").to_owned());
    let body = response.body_mut().read_to_string().expect("body");
    if status != 201 {
        return Err(Refused { status, body });
    }
    let session = url::Url::parse(url).and_then(|u| u.join(&location.expect("201 with a Location"))).expect("URL");
    Ok((Resource { url: session.into(), token: token.map(str::to_owned) }, body))
}

impl Resource {
    /// Sends a fragment for whatever ICE session there is; the status and what came back.
    pub fn patch(&self, fragment: &str) -> (u16, String) {
        let mut request = http().patch(&self.url).header("Content-Type", "application/trickle-ice-sdpfrag");
        request = request.header("If-Match", "*");
        if let Some(token) = &self.token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        let mut response = request.send(fragment).expect("PATCH");
        (response.status().as_u16(), response.body_mut().read_to_string().expect("body"))
    }

    /// Ends the session as WHIP wants it.
    pub fn delete(&self) {
        assert!(self.delete_if_there(), "DELETE: 404");
    }

    /// The same for a session that may be over; whether it was not.
    pub fn delete_if_there(&self) -> bool {
        let mut request = http().delete(&self.url);
        if let Some(token) = &self.token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        let status = request.call().expect("DELETE").status();
        assert!(status.is_success() || status.as_u16() == 404, "DELETE: {status}");
        status.is_success()
    }
}
