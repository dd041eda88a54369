//! JWTs as a publisher shows them: signed by a secret, or by a provider whose keys change; and what attackers make of them.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use crate::auth_support::{Bridge, SECRET, Says, Service, Signer, claims, encode, hs256, hs256_with, now, token};
use crate::whip_support::TIMEOUT;
use gstwebrtcbridge::{channel::Credential, signaling::Access};
use serde_json::{Value, json};

fn with_secret() -> Bridge {
    Bridge::new(Access { jwt_secret: Some(SECRET.into()), ..Access::default() })
}

fn key_set(keys: &[Value]) -> Says {
    Says::Status(200, json!({ "keys": keys }).to_string())
}

fn with_provider(service: &Service) -> Access {
    Access { jwks_uri: Some(service.url().parse().unwrap()), ..Access::default() }
}

fn status(bridge: &Bridge, token: &str) -> u16 {
    bridge.publish("live", Some(token)).status
}

#[test]
fn what_was_not_signed_with_the_secret_is_refused() {
    let bridge = with_secret();
    let good = claims("publish", "live");
    let signed = hs256(&good);
    assert_eq!(status(&bridge, &signed), 201);
    let [header, body, signature] = signed.split('.').collect::<Vec<_>>()[..] else { panic!() };
    let more = encode(&claims("admin", "*"));
    let none = |alg: &str| token(&json!({"alg": alg, "typ": "JWT"}), &good, |_| Vec::new());
    for (what, attack) in [
        ("no signature", format!("{header}.{body}.")),
        ("two parts", format!("{header}.{body}")),
        ("four parts", format!("{signed}.x")),
        ("other claims", format!("{header}.{more}.{signature}")),
        ("half a signature", format!("{header}.{body}.{}", &signature[..signature.len() / 2])),
        ("alg none", none("none")),
        ("alg None", none("None")),
        ("alg empty", none("")),
        (
            "another secret",
            hs256_with(b"another secret of more than thirty-two bytes", &json!({"alg": "HS256"}), &good),
        ),
        ("an empty secret", hs256_with(b"", &json!({"alg": "HS256"}), &good)),
        ("another hash", hs256_with(SECRET.as_bytes(), &json!({"alg": "HS512"}), &good)),
        ("a header of lies", hs256_with(SECRET.as_bytes(), &json!({"alg": "RS256"}), &good)),
        (
            "a critical extension",
            hs256_with(SECRET.as_bytes(), &json!({"alg": "HS256", "crit": ["b64"], "b64": false}), &good),
        ),
        ("its own key", Signer::ec().sign(None, &good)),
        ("an embedded key", {
            let signer = Signer::ec();
            let header = json!({"alg": "ES256", "jwk": signer.jwk("x")});
            token(&header, &good, |signed| signer.signature(signed))
        }),
        ("dots", "..".to_owned()),
    ] {
        assert_eq!(status(&bridge, &attack), 401, "{what}");
    }
}

#[test]
fn a_token_is_good_from_nbf_to_exp_give_or_take_what_clocks_differ() {
    let bridge = with_secret();
    let timed = |more: Value| {
        let mut all = json!({"role": "publish", "channel": "live"});
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        status(&bridge, &hs256(&all))
    };
    assert_eq!(timed(json!({"exp": now() + 60, "nbf": now() - 60})), 201);
    assert_eq!(timed(json!({"exp": now() - 10, "nbf": now() + 10})), 201, "clocks differ");
    assert_eq!(timed(json!({"exp": now() - 120})), 401);
    assert_eq!(timed(json!({"exp": now() + 3600, "nbf": now() + 120})), 401);
    assert_eq!(timed(json!({})), 401, "for ever is too long");
    for odd in [json!("2999-01-01"), json!(-1), json!(null), json!([now() + 60]), json!(1e300)] {
        assert_eq!(timed(json!({"exp": odd})), 401, "exp {odd}");
    }
    assert_eq!(timed(json!({"exp": now() + 60, "nbf": "yesterday"})), 401);
    let late = bridge.publish("live", Some(&hs256(&json!({"exp": now() - 120, "role": "publish", "channel": "live"}))));
    late.is_problem(401, "expired");
}

#[test]
fn claims_of_other_shapes_give_no_right() {
    let bridge = with_secret();
    for odd in [
        json!({"role": "publish", "exp": now() + 60}),
        json!({"role": "publish", "channel": "LIVE", "exp": now() + 60}),
        json!({"role": "PUBLISH", "channel": "live", "exp": now() + 60}),
        json!({"role": "publish", "channel": "liv*", "exp": now() + 60}),
        json!({"channel": "live", "exp": now() + 60}),
    ] {
        assert_eq!(status(&bridge, &hs256(&odd)), 403, "{odd}");
    }
    for odd in [json!({"role": {"publish": true}, "channel": "*", "exp": now() + 60}), json!([1]), json!("x"), json!(1)]
    {
        assert_eq!(status(&bridge, &hs256(&odd)), 401, "{odd}");
    }
}

#[test]
fn one_subject_is_one_publisher_whatever_his_token() {
    let bridge = with_secret();
    for (sub, exp) in [("alice", 60), ("alice", 120), ("bob", 60)] {
        let claims = json!({"sub": sub, "role": "publish", "channel": "live", "exp": now() + exp});
        assert_eq!(status(&bridge, &hs256(&claims)), 201);
    }
    let shown = bridge.answerer.credentials.lock().unwrap().clone();
    assert!(shown[0].is_same_as(shown[1]) && !shown[0].is_same_as(shown[2]));
    assert_ne!(shown[0], Credential::of("alice"), "nor is somebody whose token reads like it");
}

#[test]
fn a_providers_keys_verify_both_algorithms() {
    let (rsa, ec) = (Signer::rsa(), Signer::ec());
    let service = Service::new(key_set(&[rsa.jwk("r"), ec.jwk("e")]));
    let bridge = Bridge::new(with_provider(&service));
    let good = claims("publish", "live");
    for (signer, kid) in [(&rsa, Some("r")), (&ec, Some("e")), (&rsa, None), (&ec, None)] {
        assert_eq!(status(&bridge, &signer.sign(kid, &good)), 201, "{} {kid:?}", signer.algorithm());
    }
    assert_eq!(service.count(), 1, "read once and kept");
    assert_eq!(status(&bridge, &rsa.sign(Some("e"), &good)), 401, "another's key id");
    assert_eq!(status(&bridge, &Signer::ec().sign(Some("e"), &good)), 401, "another's key");
    assert_eq!(status(&bridge, &ec.sign(Some("e"), &claims("view", "live"))), 403);
    assert_eq!(status(&bridge, &ec.sign(Some("e"), &claims("publish", "other"))), 403);
    assert_eq!(bridge.publish("live", None).status, 401);
}

#[test]
fn a_public_key_is_no_secret() {
    let rsa = Signer::rsa();
    let secret = json!({"kty": "oct", "kid": "s", "alg": "HS256", "k": encode(&json!("public"))});
    let service = Service::new(key_set(&[rsa.jwk("r"), secret]));
    let good = claims("publish", "live");
    for access in [with_provider(&service), Access { jwt_secret: Some(SECRET.into()), ..with_provider(&service) }] {
        let bridge = Bridge::new(access);
        assert_eq!(status(&bridge, &rsa.sign(Some("r"), &good)), 201);
        // All that an attacker can know of the key, as bytes and as text.
        let jwk = rsa.jwk("r");
        let modulus = jwk["n"].as_str().unwrap();
        let raw = base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, modulus).unwrap();
        for guess in [raw.as_slice(), modulus.as_bytes(), jwk.to_string().as_bytes(), b"\"public\"", b""] {
            for kid in ["r", "s"] {
                let attack = hs256_with(guess, &json!({"alg": "HS256", "kid": kid}), &good);
                assert_eq!(status(&bridge, &attack), 401);
            }
        }
        let unsigned = token(&json!({"alg": "none", "kid": "r"}), &good, |_| Vec::new());
        assert_eq!(status(&bridge, &unsigned), 401);
    }
}

#[test]
fn keys_may_rotate_and_made_up_ones_do_not_make_us_ask_again() {
    let (old, new) = (Signer::ec(), Signer::ec());
    let service = Service::new(key_set(&[old.jwk("old")]));
    let bridge = Bridge::new(with_provider(&service));
    let good = claims("publish", "live");
    assert_eq!(status(&bridge, &old.sign(Some("old"), &good)), 201);

    *service.says.lock().unwrap() = key_set(&[new.jwk("new")]);
    for n in 0..10 {
        assert_eq!(status(&bridge, &new.sign(Some(&format!("made-up-{n}")), &good)), 401);
    }
    assert_eq!(service.count(), 1, "it was just asked");
    // Ten seconds after the first time the next unknown key is looked for, and the old one goes.
    // Each attempt is somebody else's, because wrong tokens are slowed.
    let (deadline, new) = (Instant::now() + TIMEOUT, new.sign(Some("new"), &good));
    let mut strangers = (1..=254).flat_map(|c| (1..=254).map(move |d| [127, 1, c, d]));
    while bridge.publish_from(strangers.next().unwrap(), "live", Some(&new)).status != 201 {
        assert!(Instant::now() < deadline);
        sleep(Duration::from_millis(20));
    }
    assert_eq!(service.count(), 2);
    assert_eq!(status(&bridge, &old.sign(Some("old"), &good)), 401);
}

#[test]
fn a_provider_that_cannot_be_read_lets_nobody_in() {
    let ec = Signer::ec();
    for says in [
        Says::Status(500, String::new()),
        Says::Status(200, "<html>".into()),
        Says::Status(200, "x".repeat(300 * 1024)),
        key_set(&[]),
        Says::RedirectTo("http://127.0.0.1:9/".into()),
        Says::Nothing,
    ] {
        let bridge = Bridge::new(with_provider(&Service::new(says)));
        assert_eq!(status(&bridge, &ec.sign(Some("e"), &claims("publish", "live"))), 401);
    }
}
