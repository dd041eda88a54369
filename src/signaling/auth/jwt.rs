//! JSON Web Tokens (RFC 7519): HS256 with `jwt-secret`, RS256 and ES256 with the keys of `jwks-uri`.
//!
//! An algorithm is only ever checked with keys that were made for it: what is public in a key set is never taken for a
//! shared secret, and a token without a signature is none. `exp` is required, `nbf` is respected. What the claims allow is
//! `claims`' business.

use std::sync::Arc;

use jsonwebtoken::{Algorithm, DecodingKey, Header, Validation, decode, decode_header, errors::ErrorKind};
use tracing::{trace, warn};

use super::{
    Role,
    claims::{Claims, Lacks},
    counters::AuthCounters,
    jwks::Jwks,
    signatures,
};
use crate::{
    channel::{ChannelId, Credential},
    signaling::client::{Fetcher, HttpUrl},
};

/// Clocks differ.
const LEEWAY_SECONDS: u64 = 30;

/// RFC 7518 section 3.2: a key as long as the hash, or it can be guessed from any token.
const SHORTEST_SECRET: usize = 32;

/// Who signs our tokens.
pub(crate) struct Jwt {
    secret: Option<DecodingKey>,
    jwks: Option<Jwks>,
}

/// What a token turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Finding {
    /// Nothing that was signed for us.
    Unknown,
    /// It allows this.
    Granted(Credential),
    /// It is genuine and allows something else.
    Lacks(Lacks),
    /// It was, or will be, good.
    OutOfTime,
}

impl Jwt {
    /// Takes tokens that were signed with `secret`; an empty one signs nothing.
    pub(crate) fn new(secret: Option<&str>) -> Self {
        signatures::install();
        if secret.is_some_and(|secret| secret.len() < SHORTEST_SECRET) {
            warn!("jwt-secret has less than {SHORTEST_SECRET} bytes: it can be guessed from any token");
        }
        let secret = secret.filter(|secret| !secret.is_empty());
        Self { secret: secret.map(|secret| DecodingKey::from_secret(secret.as_bytes())), jwks: None }
    }

    /// And those that a provider signed.
    pub(crate) fn with_provider(self, url: HttpUrl, fetcher: Fetcher, counters: Arc<AuthCounters>) -> Self {
        Self { jwks: Some(Jwks::new(url, fetcher, counters)), ..self }
    }

    /// Looks at a token.
    pub(crate) async fn examine(&self, token: &str, role: Role, channel: Option<&ChannelId>) -> Finding {
        let Some(Header { alg, kid, .. }) = header(token) else { return Finding::Unknown };
        match &self.jwks {
            Some(jwks) if is_providers(alg) => {
                let keys = jwks.keys(alg, kid.as_deref()).await;
                examine(token, alg, &keys, role, channel)
            }
            _ => self.examine_now(token, role, channel),
        }
    }

    /// Looks at a token with the keys that are there.
    pub(crate) fn examine_now(&self, token: &str, role: Role, channel: Option<&ChannelId>) -> Finding {
        let Some(Header { alg, kid, .. }) = header(token) else { return Finding::Unknown };
        match (alg, &self.secret, &self.jwks) {
            (Algorithm::HS256, Some(secret), _) => examine(token, alg, std::slice::from_ref(secret), role, channel),
            (alg, _, Some(jwks)) if is_providers(alg) => {
                examine(token, alg, &jwks.keys_now(alg, kid.as_deref()), role, channel)
            }
            _ => Finding::Unknown,
        }
    }
}

/// Whether tokens with this algorithm are signed with a provider's key.
fn is_providers(algorithm: Algorithm) -> bool {
    matches!(algorithm, Algorithm::RS256 | Algorithm::ES256)
}

/// The header of what may be a token of ours.
pub(crate) fn header(token: &str) -> Option<Header> {
    let header = decode_header(token).ok()?;
    // RFC 7515 section 4.1.11: what is critical has to be understood, and we understand nothing of the kind.
    header.crit.is_none().then_some(header)
}

/// Checks a token with keys that are for `algorithm`.
pub(crate) fn examine(
    token: &str,
    algorithm: Algorithm,
    keys: &[DecodingKey],
    role: Role,
    channel: Option<&ChannelId>,
) -> Finding {
    let mut validation = Validation::new(algorithm);
    validation.leeway = LEEWAY_SECONDS;
    validation.validate_nbf = true;
    // There is no setting that says who we are; role and channel are for nobody else.
    validation.validate_aud = false;
    for key in keys {
        match decode::<Claims>(token, key, &validation).map_err(|error| error.into_kind()) {
            Ok(data) => {
                let permitted = data.claims.permit(role, channel);
                return permitted.map_or_else(Finding::Lacks, |()| Finding::Granted(data.claims.credential(token)));
            }
            Err(ErrorKind::ExpiredSignature | ErrorKind::ImmatureSignature) => return Finding::OutOfTime,
            // Its text names what is missing or malformed, nothing of what the token says.
            Err(ErrorKind::MissingRequiredClaim(claim) | ErrorKind::InvalidClaimFormat(claim)) => {
                trace!(%claim, "a JWT lacks a claim");
            }
            Err(_) => {}
        }
    }
    Finding::Unknown
}
