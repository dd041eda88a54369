//! Public keys of an identity provider (RFC 7517), read from `jwks-uri` and kept.
//!
//! They are read again when they are ten minutes old, and when a token names a key that is not among them, as after a
//! rotation; but never more than once in ten seconds, so that made-up key ids are no way to make us ask. While the
//! provider cannot be reached the keys that are there go on being good, for a day.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use jsonwebtoken::{
    Algorithm, AlgorithmFamily, DecodingKey,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse},
};
use serde::Deserialize;
use tokio::{sync::Mutex as AsyncMutex, time::timeout};
use tracing::{debug, warn};

use super::counters::{AuthCounters, Outcome};
use crate::signaling::client::{Fetcher, HttpUrl};

const FRESH: Duration = Duration::from_secs(600);
const BETWEEN_READS: Duration = Duration::from_secs(10);
const LONGEST_USE: Duration = Duration::from_secs(24 * 3600);
/// A client waits for it, OBS for 8 s in all.
const TIMEOUT: Duration = Duration::from_secs(4);
/// Providers publish two to ten.
const MOST_KEYS: usize = 64;
/// Keys that a token without a key id is tried with: each costs a signature's check.
const MOST_TRIES: usize = 4;

/// The keys of one provider.
pub(crate) struct Jwks {
    url: HttpUrl,
    fetcher: Fetcher,
    counters: Arc<AuthCounters>,
    /// Lock order: `reading`, then this.
    ring: Mutex<KeyRing>,
    reading: AsyncMutex<()>,
}

impl Jwks {
    pub(crate) fn new(url: HttpUrl, fetcher: Fetcher, counters: Arc<AuthCounters>) -> Self {
        Self { url, fetcher, counters, ring: Mutex::default(), reading: AsyncMutex::default() }
    }

    /// The keys that a token may be signed with.
    pub(crate) async fn keys(&self, algorithm: Algorithm, id: Option<&str>) -> Vec<DecodingKey> {
        let look = || {
            let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            (ring.find(algorithm, id, now), ring.is_due(algorithm, id, now))
        };
        let (found, due) = look();
        if !due {
            return found;
        }
        // One reads; who has a key meanwhile goes on, who has none waits for what comes.
        let turn = match self.reading.try_lock() {
            Ok(turn) => turn,
            Err(_) if !found.is_empty() => return found,
            Err(_) => self.reading.lock().await,
        };
        if look().1 {
            self.read().await;
        }
        drop(turn);
        look().0
    }

    /// Those of them that are there.
    pub(crate) fn keys_now(&self, algorithm: Algorithm, id: Option<&str>) -> Vec<DecodingKey> {
        self.lock().find(algorithm, id, Instant::now())
    }

    async fn read(&self) {
        self.lock().tried(Instant::now());
        let body = match timeout(TIMEOUT, Box::pin(self.fetcher.get(&self.url))).await {
            Ok(body) => body,
            Err(_) => Err(format!("no answer within {} s", TIMEOUT.as_secs())),
        };
        match body.and_then(|body| keys(&body)) {
            Ok(keys) => {
                debug!(url = %self.url, keys = keys.len(), "key set read");
                self.lock().fill(keys, Instant::now());
            }
            Err(why) => {
                self.counters.count(Outcome::Unanswered);
                warn!(url = %self.url, %why, "jwks-uri cannot be read");
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, KeyRing> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One key of a set.
#[derive(Clone)]
pub(crate) struct PublicKey {
    id: Option<String>,
    key: DecodingKey,
}

impl PublicKey {
    /// `None` if it is for nothing that we do.
    fn new(jwk: &Jwk) -> Option<Self> {
        let family = match &jwk.algorithm {
            AlgorithmParameters::RSA(_) => KeyAlgorithm::RS256,
            AlgorithmParameters::EllipticCurve(curve) if curve.curve == EllipticCurve::P256 => KeyAlgorithm::ES256,
            _ => return None, // a secret in a public set above all
        };
        let named = jwk.common.key_algorithm.is_none_or(|named| named == family);
        let signs = jwk.common.public_key_use.as_ref().is_none_or(|used| *used == PublicKeyUse::Signature);
        let key = DecodingKey::from_jwk(jwk).ok()?;
        (named && signs).then(|| Self { id: jwk.common.key_id.clone(), key })
    }

    fn fits(&self, algorithm: Algorithm, id: Option<&str>) -> bool {
        let family = match algorithm {
            Algorithm::RS256 => AlgorithmFamily::Rsa,
            Algorithm::ES256 => AlgorithmFamily::Ec,
            _ => return false,
        };
        self.key.family() == family && id.is_none_or(|id| self.id.as_deref() == Some(id))
    }
}

/// Reads a key set. Keys that are for something else are no error: providers have those too.
pub(crate) fn keys(body: &[u8]) -> Result<Vec<PublicKey>, String> {
    #[derive(Deserialize)]
    struct Set {
        keys: Vec<serde_json::Value>,
    }
    let set: Set = serde_json::from_slice(body).map_err(|error| format!("it is no key set: {error}"))?;
    let known = set.keys.into_iter().take(MOST_KEYS).filter_map(|key| serde_json::from_value(key).ok());
    let keys: Vec<_> = known.filter_map(|jwk| PublicKey::new(&jwk)).collect();
    match keys.is_empty() {
        true => Err("there is no key for RS256 or ES256 in it".into()),
        false => Ok(keys),
    }
}

/// The keys that are known, and when to read them again.
#[derive(Default)]
pub(crate) struct KeyRing {
    keys: Vec<PublicKey>,
    filled: Option<Instant>,
    tried: Option<Instant>,
}

impl KeyRing {
    fn tried(&mut self, now: Instant) {
        self.tried = Some(now);
    }

    pub(crate) fn fill(&mut self, keys: Vec<PublicKey>, now: Instant) {
        (self.keys, self.filled) = (keys, Some(now));
    }

    pub(crate) fn find(&mut self, algorithm: Algorithm, id: Option<&str>, now: Instant) -> Vec<DecodingKey> {
        if self.filled.is_some_and(|filled| now.saturating_duration_since(filled) > LONGEST_USE) {
            self.keys.clear();
        }
        let fitting = self.keys.iter().filter(|key| key.fits(algorithm, id));
        fitting.take(MOST_TRIES).map(|key| key.key.clone()).collect()
    }

    fn is_due(&self, algorithm: Algorithm, id: Option<&str>, now: Instant) -> bool {
        let since = |at: Option<Instant>| at.map_or(Duration::MAX, |at| now.saturating_duration_since(at));
        let wanted = since(self.filled) > FRESH || !self.keys.iter().any(|key| key.fits(algorithm, id));
        wanted && since(self.tried) >= BETWEEN_READS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SET: &[u8] = br#"{"keys":[
        {"kty":"RSA","kid":"r","use":"sig","alg":"RS256","n":"sXchDaQebHnPiGvyDOAT4saGEUetSyo9MKLOoWFsueri23bOdgWp4Dy1WlUzewbgBHod5pcM9H95GQRV3JDXboIRROSBigeC5yjU1hGzHHyXss8UDprecbAYxknTcQkhslANGRUZmdTOQ5qTRsLAt6BTYuyvVRdhS8exSZEy_c4gs_7svlJJQ4H9_NxsiIoLwAEk7-Q3UXERGYw_75IDrGA84-lA_-Ct4eTlXHBIY2EaV7t7LjJaynVJCpkv4LKjTTAumiGUIuQhrNhZLuF_RJLqHpM2kgWFLU7-VTdL1VbC2tejvcI2BlMkEpk1BzBZI0KQB0GaDWFLN-aEAw3vRw","e":"AQAB"},
        {"kty":"EC","kid":"e","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"},
        {"kty":"RSA","kid":"enc","use":"enc","alg":"RSA-OAEP","n":"AQAB","e":"AQAB"},
        {"kty":"EC","kid":"p384","crv":"P-384","x":"AQAB","y":"AQAB"},
        {"kty":"oct","kid":"secret","k":"AQAB"},
        {"kty":"quantum"}, 7]}"#;

    #[test]
    fn a_set_gives_the_keys_that_are_for_us() {
        let mut ring = KeyRing::default();
        let now = Instant::now();
        ring.fill(keys(SET).unwrap(), now);
        assert_eq!(ring.keys.len(), 2);
        let mut found = |algorithm, id| ring.find(algorithm, id, now).len();
        assert_eq!((found(Algorithm::RS256, Some("r")), found(Algorithm::ES256, Some("e"))), (1, 1));
        assert_eq!((found(Algorithm::RS256, None), found(Algorithm::ES256, None)), (1, 1));
        assert_eq!((found(Algorithm::RS256, Some("e")), found(Algorithm::RS256, Some("x"))), (0, 0));
        assert_eq!((found(Algorithm::HS256, Some("secret")), found(Algorithm::HS256, None)), (0, 0));
        assert_eq!(found(Algorithm::RS512, Some("r")), 0);
    }

    #[test]
    fn what_is_no_set_of_keys_for_us_is_said() {
        let error = |body: &[u8]| keys(body).err().unwrap();
        assert!(error(b"<html>").contains("no key set"));
        assert!(error(br#"{"keys":[{"kty":"oct","k":"AQAB"}]}"#).contains("no key for RS256"));
    }

    #[test]
    fn it_is_read_when_old_or_when_a_key_is_missing_but_not_often() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut ring = KeyRing::default();
        assert!(ring.is_due(Algorithm::RS256, Some("r"), start));
        ring.tried(start);
        assert!(!ring.is_due(Algorithm::RS256, Some("r"), after(9)), "it was just tried");
        assert!(ring.is_due(Algorithm::RS256, Some("r"), after(10)));
        ring.tried(after(10));
        ring.fill(keys(SET).unwrap(), after(10));
        assert!(!ring.is_due(Algorithm::RS256, Some("r"), after(600)));
        assert!(!ring.is_due(Algorithm::RS256, Some("new"), after(19)), "made-up ids do not make us ask");
        assert!(ring.is_due(Algorithm::RS256, Some("new"), after(20)));
        assert!(ring.is_due(Algorithm::RS256, Some("r"), after(611)));
        assert_eq!(ring.find(Algorithm::RS256, Some("r"), after(24 * 3600)).len(), 1, "the provider is away");
        assert_eq!(ring.find(Algorithm::RS256, Some("r"), after(24 * 3600 + 11)).len(), 0, "for too long");
    }
}
