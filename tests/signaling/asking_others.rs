//! Whoever decides about tokens that we do not know: the service at `auth_url`, and the application.

use std::{
    sync::{Arc, Mutex, atomic::Ordering::SeqCst},
    thread,
    time::{Duration, Instant},
};

use crate::auth_support::{Bridge, SECRET, Says, Service, Signer, claims, hs256, now};
use async_trait::async_trait;
use gstwebrtcbridge::{
    channel::ChannelId,
    signaling::{Access, Authorizer, Role},
};
use serde_json::{Value, json};

fn asking(service: &Service) -> Access {
    Access { auth_url: Some(service.url().parse().unwrap()), ..Access::default() }
}

fn yes() -> Says {
    Says::Status(200, String::new())
}

#[test]
fn the_service_is_told_all_and_its_2xx_lets_in() {
    for status in [200, 204, 299] {
        let service = Service::new(Says::Status(status, "whatever".into()));
        let bridge = Bridge::new(asking(&service));
        assert_eq!(bridge.publish("live", Some("t0ken")).status, 201);
        let asked: Value = serde_json::from_str(&service.asked.lock().unwrap()[0]).unwrap();
        assert_eq!(asked, json!({"role": "publish", "channel": "live", "token": "t0ken", "address": "127.0.0.1"}));
    }
    let service = Service::new(yes());
    assert_eq!(Bridge::new(asking(&service)).publish("live", None).status, 201, "it may let in without a token");
    assert!(service.asked.lock().unwrap()[0].contains("\"token\":null"));
}

#[test]
fn every_other_answer_refuses_and_none_does_too() {
    let elsewhere = Service::new(yes());
    for says in [
        Says::Status(401, String::new()),
        Says::Status(403, String::new()),
        Says::Status(404, String::new()),
        Says::Status(500, String::new()),
        Says::Status(200, "x".repeat(300 * 1024)),
        Says::RedirectTo(elsewhere.url()),
        Says::Nothing,
    ] {
        let service = Service::new(says);
        let bridge = Bridge::new(asking(&service));
        assert_eq!(bridge.publish("live", Some("t0ken")).status, 401);
        assert!(bridge.answerer.offers.lock().unwrap().is_empty());
    }
    assert_eq!(elsewhere.count(), 0, "redirections are not followed");
    let nobody = Access { auth_url: Some("http://127.0.0.1:9/".parse().unwrap()), ..Access::default() };
    Bridge::new(nobody).publish("live", Some("t0ken")).is_problem(401, "could not be asked");
}

#[test]
fn it_is_asked_only_about_what_nothing_else_explains() {
    let service = Service::new(yes());
    let access = Access {
        publish_token: Some("publish".into()),
        admin_token: Some("admin".into()),
        jwt_secret: Some(SECRET.into()),
        ..asking(&service)
    };
    let bridge = Bridge::new(access).with_key("live", "the-key");
    for known in ["publish", "admin", "the-key", &hs256(&claims("publish", "live"))] {
        assert_eq!(bridge.publish("live", Some(known)).status, 201);
    }
    // Genuine, but for something else or too late.
    assert_eq!(bridge.publish("live", Some(&hs256(&claims("view", "*")))).status, 403);
    let late = json!({"role": "publish", "channel": "live", "exp": now() - 120});
    assert_eq!(bridge.publish("live", Some(&hs256(&late))).status, 401);
    assert_eq!(service.count(), 0);
    assert_eq!(bridge.publish("live", Some("unknown")).status, 201);
    assert_eq!(service.count(), 1);
}

#[test]
fn a_service_that_hangs_holds_up_nobody_who_is_known() {
    let service = Service::new(Says::Nothing);
    let bridge = Bridge::new(Access { publish_token: Some("publish".into()), ..asking(&service) });
    thread::scope(|scope| {
        for n in 0..64 {
            let bridge = &bridge;
            scope.spawn(move || bridge.publish_from([127, 0, 1, n], "live", Some("unknown")).status);
        }
        let deadline = Instant::now() + crate::whip_support::TIMEOUT;
        while service.count() < 32 {
            assert!(Instant::now() < deadline);
            thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(bridge.publish("live", Some("publish")).status, 201);
        assert_eq!(service.count(), 32, "the others still wait for their turn");
    });
}

/// What the application was asked.
type Asked = Arc<Mutex<Vec<(Role, Option<String>, Option<String>)>>>;

struct Application(Asked);

#[async_trait]
impl Authorizer for Application {
    async fn authorize(&self, role: Role, channel: Option<&ChannelId>, token: Option<&str>) -> bool {
        self.0.lock().unwrap().push((role, channel.map(ToString::to_string), token.map(str::to_owned)));
        token == Some("from the application")
    }
}

#[test]
fn the_application_decides_and_the_service_about_what_it_does_not_know() {
    let (asked, service) = (Asked::default(), Service::new(Says::Status(403, String::new())));
    let application = Some(Arc::new(Application(asked.clone())) as Arc<dyn Authorizer>);
    let alone = Bridge::new(Access { authorizer: application.clone(), ..Access::default() });
    assert_eq!(alone.publish("live", Some("from the application")).status, 201);
    assert_eq!(alone.publish("live", Some("another")).status, 401);
    assert_eq!(alone.publish("live", None).status, 401);
    let live = Some("live".to_owned());
    let from_application = Some("from the application".to_owned());
    assert_eq!(asked.lock().unwrap()[0], (Role::Publish, live.clone(), from_application));
    assert_eq!(asked.lock().unwrap()[2], (Role::Publish, live, None));

    let both = Bridge::new(Access { authorizer: application, ..asking(&service) });
    assert_eq!(both.publish("live", Some("from the application")).status, 201);
    assert_eq!(service.count(), 0);
    assert_eq!(both.publish("live", Some("another")).status, 401);
    assert_eq!(service.count(), 1);
}

#[test]
fn nobody_is_made_an_administrator_by_what_others_say() {
    let service = Service::new(yes());
    for admin_token in [None, Some("admin".to_owned())] {
        let is_set = admin_token.is_some();
        let bridge = Bridge::new(Access { admin_token, ..asking(&service) });
        // Without a token of its own it is this machine's alone, which a proxy's client is not.
        let from = [("Authorization", "Bearer whoever"), ("X-Forwarded-For", "203.0.113.7")];
        assert_eq!(bridge.request("GET", "/api/v1/status", &from, "").status, 401, "admin-token: {is_set}");
    }
    assert_eq!(service.count(), 0, "it is not even asked");
}

#[test]
fn a_provider_of_keys_and_a_service_that_both_hang_take_the_time_of_one() {
    let (provider, service) = (Service::new(Says::Nothing), Service::new(Says::Nothing));
    let access = Access { jwks_uri: Some(provider.url().parse().unwrap()), ..asking(&service) };
    let began = Instant::now();
    let token = Signer::ec().sign(None, &claims("publish", "live"));
    Bridge::new(access).publish("live", Some(&token)).is_problem(401, "could not be asked");
    assert!(began.elapsed() < Duration::from_secs(7), "{:?}", began.elapsed());
    assert_eq!((provider.count(), service.count()), (1, 0));
}

/// Takes its time to say yes.
struct Slow;

#[async_trait]
impl Authorizer for Slow {
    async fn authorize(&self, _: Role, _: Option<&ChannelId>, _: Option<&str>) -> bool {
        tokio::time::sleep(Duration::from_millis(3500)).await;
        true
    }
}

#[test]
fn whoever_is_decided_about_slowly_and_not_answered_hears_so_before_obs_has_gone() {
    let bridge = Bridge::new(Access { authorizer: Some(Arc::new(Slow)), ..Access::default() });
    bridge.answerer.hang.store(true, SeqCst);
    let began = Instant::now();
    bridge.publish("live", None).is_problem(503, "too long");
    // 8 s and a machine that stands still; what each may take adds up to more.
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}

/// Says nothing, ever.
struct Absent;

#[async_trait]
impl Authorizer for Absent {
    async fn authorize(&self, _: Role, _: Option<&ChannelId>, _: Option<&str>) -> bool {
        std::future::pending().await
    }
}

#[test]
fn an_application_that_does_not_answer_is_given_up() {
    let service = Service::new(yes());
    let access =
        Access { authorizer: Some(Arc::new(Absent)), publish_token: Some("publish".into()), ..asking(&service) };
    let bridge = Bridge::new(access);
    let began = Instant::now();
    bridge.publish("live", Some("t0ken")).is_problem(401, "could not be asked");
    assert!(began.elapsed() < Duration::from_secs(7), "{:?}", began.elapsed());
    assert_eq!(service.count(), 0, "the client has waited for long enough");
    assert_eq!(bridge.publish("live", Some("publish")).status, 201);
}
