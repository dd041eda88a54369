//! The signal `authorize`: the application says who may publish.

use std::{
    sync::{Arc, Condvar, Mutex},
    time::{Duration, Instant},
};

use crate::common::{
    SOON,
    publisher::{Options, Publisher, Refused},
    wait_until, whip,
};
use gst::prelude::*;

/// What the application was asked: channel and token.
type Asked = Arc<Mutex<Vec<(Option<String>, Option<String>)>>>;

struct Server {
    pipeline: gst::Pipeline,
    element: gst::Element,
    asked: Asked,
}

impl Server {
    /// One that lets in who shows one of these tokens; a handler for each.
    fn new(properties: &str, tokens: &[&'static str]) -> Self {
        Self::with(properties, tokens.iter().map(|&token| move |shown: Option<&str>| shown == Some(token)))
    }

    fn with<F: Fn(Option<&str>) -> bool + Send + Sync + 'static>(
        properties: &str,
        handlers: impl Iterator<Item = F>,
    ) -> Self {
        gst::init().expect("GStreamer");
        gstwebrtcbridge::plugin_register_static().expect("the plugin");
        let description = format!(
            "webrtcingest name=in uri=whip://127.0.0.1:0/whip/live {properties} \
             in.video_0 ! fakesink async=false in.audio_0 ! fakesink async=false"
        );
        let pipeline = gst::parse::launch(&description).expect("a pipeline").downcast::<gst::Pipeline>().expect("one");
        let element = pipeline.by_name("in").expect("the element");
        let asked = Asked::default();
        for may in handlers {
            let asked = asked.clone();
            element.connect("authorize", false, move |values| {
                let (channel, token) = (values[1].get().expect("text"), values[2].get().expect("text"));
                asked.lock().expect("lock").push((channel, token));
                let token: Option<&str> = values[2].get().expect("text");
                Some(may(token).to_value())
            });
        }
        pipeline.set_state(gst::State::Playing).expect("playing");
        Self { pipeline, element, asked }
    }

    fn url(&self) -> String {
        wait_until("the URL", SOON, || self.element.property::<gst::Structure>("stats").get::<String>("url").ok())
    }

    fn publish(&self, token: Option<&str>) -> Result<Publisher, Refused> {
        Publisher::offer(&self.url(), Options { token: token.map(str::to_owned), ..Options::default() })
    }

    fn refused(&self, token: Option<&str>) -> Refused {
        self.publish(token).err().expect("a refusal")
    }

    fn asked(&self) -> Vec<Option<String>> {
        let asked = self.asked.lock().expect("lock");
        assert!(asked.iter().all(|(channel, _)| channel.as_deref() == Some("live")), "{asked:?}");
        asked.iter().map(|(_, token)| token.clone()).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

fn texts(tokens: &[&str]) -> Vec<Option<String>> {
    tokens.iter().map(|token| (!token.is_empty()).then(|| (*token).to_owned())).collect()
}

#[test]
fn the_application_lets_in_whom_it_likes() {
    let server = Server::new("", &["right"]);
    assert_eq!(server.refused(None).status, 401);
    assert_eq!(server.refused(Some("wrong")).status, 401);
    let publisher = server.publish(Some("right")).unwrap_or_else(|refused| panic!("{}", refused.body));
    publisher.wait_connected(SOON);
    assert_eq!(server.asked(), texts(&["", "wrong", "right"]));
    publisher.delete();
    assert_eq!(server.asked(), texts(&["", "wrong", "right", "right"]), "about the end of the session as well");
}

#[test]
fn who_shows_the_elements_own_token_needs_no_asking() {
    let server = Server::new("auth-token=s3cret", &["right"]);
    assert_eq!(server.refused(Some("wrong")).status, 401);
    server.publish(Some("s3cret")).unwrap_or_else(|refused| panic!("{}", refused.body)).delete();
    assert_eq!(server.asked(), texts(&["wrong"]));
    server.publish(Some("right")).unwrap_or_else(|refused| panic!("{}", refused.body)).delete();
}

#[test]
fn of_several_handlers_the_first_yes_counts() {
    let server = Server::new("", &["first", "second"]);
    let last = server.publish(Some("second")).unwrap_or_else(|refused| panic!("{}", refused.body));
    last.delete();
    assert_eq!(server.asked(), texts(&["second"; 4]), "both are asked, about the offer and the end");
    server.publish(Some("first")).unwrap_or_else(|refused| panic!("{}", refused.body)).delete();
    assert_eq!(server.asked()[4..], texts(&["first"; 2]), "the second is not asked any more");
    assert_eq!(server.refused(Some("third")).status, 401);
}

#[test]
fn only_who_shows_the_same_takes_over_at_once() {
    let server = Server::new("", &["one", "two"]);
    let first = server.publish(Some("one")).unwrap_or_else(|refused| panic!("{}", refused.body));
    first.wait_connected(SOON);
    assert_eq!(server.refused(Some("two")).status, 409);
    let again = server.publish(Some("one")).unwrap_or_else(|refused| panic!("{}", refused.body));
    again.wait_connected(SOON);
    drop(first);
    again.delete();
}

#[test]
fn an_application_that_does_not_answer_holds_up_nobody_else() {
    let answers = Arc::new((Mutex::new(false), Condvar::new()));
    let waits = answers.clone();
    let slow = move |_: Option<&str>| {
        let (may_go, changed) = &*waits;
        drop(changed.wait_while(may_go.lock().expect("unharmed"), |may_go| !*may_go));
        true
    };
    let server = Server::with("auth-token=s3cret", std::iter::once(slow));
    let url = server.url();
    let (_, offer) = Publisher::describe(Options::default());
    let asking = std::thread::spawn(move || {
        let began = Instant::now();
        (whip::post(&url, Some("unknown"), &offer).expect_err("a refusal"), began.elapsed())
    });
    wait_until("the application to be asked", SOON, || (server.asked().len() == 1).then_some(()));
    let publisher = server.publish(Some("s3cret")).unwrap_or_else(|refused| panic!("{}", refused.body));
    assert!(!asking.is_finished(), "the other one still waits");
    publisher.delete();
    let (refused, took) = asking.join().expect("no panic");
    assert_eq!(refused.status, 401, "{}", refused.body);
    assert!(refused.body.contains("could not be asked"), "{}", refused.body);
    assert!(took >= Duration::from_secs(4), "{took:?}");
    let (may_go, changed) = &*answers;
    *may_go.lock().expect("unharmed") = true;
    changed.notify_all();
}
