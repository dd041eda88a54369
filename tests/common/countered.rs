//! A viewer whose offer is of no use, and who gets one of the server's in its place (draft-ietf-wish-whep-03 section 4.3.2).

use super::http;

/// A server's counter-offer.
pub struct Countered {
    /// The URL of the session that waits for an answer.
    pub session: String,
    pub offer: String,
}

impl Countered {
    /// Offers this to the endpoint, which must counter it.
    pub fn post(endpoint: &str, offer: &str) -> Self {
        let mut reply = http().post(endpoint).header("Content-Type", "application/sdp").send(offer).expect("POST");
        let header = |name: &str| reply.headers().get(name).expect(name).to_str().expect("text").to_owned();
        let (status, kind) = (reply.status().as_u16(), header("content-type"));
        assert_eq!(status, 406, "{}", reply.body_mut().read_to_string().unwrap_or_default());
        assert!(kind.starts_with("application/sdp; valid-until="), "{kind}");
        let session = url::Url::parse(endpoint).and_then(|url| url.join(&header("location"))).expect("a URL").into();
        let offer = reply.body_mut().read_to_string().expect("an offer");
        assert!(offer.contains("a=sendonly") && !offer.contains("a=recvonly"), "{offer}");
        Self { session, offer }
    }

    /// Answers it; returns the status.
    pub fn answer(&self, sdp: &str) -> u16 {
        let patch = http().patch(&self.session).header("Content-Type", "application/sdp");
        patch.send(sdp).expect("PATCH").status().as_u16()
    }

    /// Ends the session; returns the status.
    pub fn delete(&self) -> u16 {
        http().delete(&self.session).call().expect("DELETE").status().as_u16()
    }

    /// The number that a codec has in the offer, such as `H264/90000`.
    pub fn payload_type(&self, codec: &str) -> u8 {
        let mut lines = self.offer.lines().filter_map(|line| line.strip_prefix("a=rtpmap:"));
        let line = lines.find(|line| line.contains(codec)).unwrap_or_else(|| panic!("no {codec}: {}", self.offer));
        line.split_once(' ').expect("a number").0.parse().expect("a payload type")
    }
}
