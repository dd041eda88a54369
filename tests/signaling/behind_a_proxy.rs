//! A bridge server behind a proxy: whose word is taken on who asks, and where its answers lead.

use std::{
    net::{SocketAddr, TcpListener, TcpStream},
    process::Command,
    time::{Duration, Instant},
};

use crate::auth_support::Bridge;
use crate::whip_support::{RUNTIME, Response, Served, config, exchange, offer};
use gstwebrtcbridge::signaling::{Access, EndpointConfig, TrustedProxies, mount};

const SDP: (&str, &str) = ("Content-Type", "application/sdp");

fn behind(proxies: &[&str]) -> Bridge {
    let trusted_proxies = TrustedProxies::parse(proxies.iter().copied()).unwrap();
    Bridge::new(Access { trusted_proxies, ..Access::default() })
}

#[test]
fn only_a_named_proxy_is_believed_who_the_client_is() {
    let client = ("X-Forwarded-For", "192.0.2.7");
    let remote = |proxies: &[&str], header: (&str, &str)| {
        let bridge = behind(proxies);
        assert_eq!(bridge.request("POST", "/whip/a", &[SDP, header], &offer(1)).status, 201);
        let offers = bridge.answerer.offers.lock().unwrap();
        offers.last().expect("an offer").1.ip().to_string()
    };
    assert_eq!(remote(&["127.0.0.0/8"], client), "192.0.2.7");
    assert_eq!(remote(&["127.0.0.1"], ("Forwarded", "for=\"[2001:db8::7]:1234\";proto=https")), "2001:db8::7");
    assert_eq!(remote(&["10.0.0.0/8"], client), "0.0.0.0", "no proxy of ours");
}

#[test]
fn what_this_machine_may_do_nobody_gets_through_a_proxy_on_it() {
    let status =
        |proxies: &[&str], headers: &[(&str, &str)]| behind(proxies).request("GET", "/metrics", headers, "").status;
    let handed_on = ("X-Forwarded-For", "192.0.2.7");
    assert_eq!(status(&[], &[]), 200, "a program of this machine");
    assert_ne!(status(&[], &[handed_on]), 200, "a proxy that was not named");
    for named in [
        ("Forwarded", "for=127.0.0.1"),
        ("Via", "1.1 proxy"),
        ("X-Real-IP", "127.0.0.1"),
        ("X-Forwarded-Host", "127.0.0.1"),
        ("X-Forwarded-Proto", "http"),
    ] {
        assert_ne!(status(&[], &[named]), 200, "{named:?}");
    }
    // Of one that is believed none of these but the first tells for whom it asks.
    for unsaid in [
        ("Via", "1.1 proxy"),
        ("X-Real-IP", "127.0.0.1"),
        ("X-Forwarded-Host", "127.0.0.1"),
        ("X-Forwarded-Proto", "http"),
        ("X-Forwarded-For", "unknown"),
        ("X-Forwarded-For", "unknown, 127.0.0.1"),
        ("Forwarded", "for=_hidden"),
    ] {
        assert_ne!(status(&["127.0.0.1"], &[unsaid]), 200, "{unsaid:?}");
    }
    assert_eq!(status(&["127.0.0.1"], &[("X-Forwarded-For", "127.0.0.1")]), 200, "for a program of this machine");
    assert_ne!(status(&["127.0.0.1"], &[handed_on]), 200, "one that was");
    assert_ne!(status(&["127.0.0.1"], &[]), 200, "one that does not say for whom it asks");
}

#[test]
fn each_client_behind_a_proxy_has_a_rate_of_its_own() {
    let bridge = behind(&["127.0.0.1"]);
    let post = |client: &str| bridge.request("POST", "/whip/a", &[SDP, ("X-Forwarded-For", client)], "no offer").status;
    let limited = (0..400).any(|_| post("192.0.2.7") == 429);
    assert!(limited, "400 at once are too many of one");
    assert_ne!(post("192.0.2.8"), 429, "and none of another's");
}

#[test]
fn answers_lead_back_through_the_path_that_the_proxy_serves() {
    let bridge = behind(&["127.0.0.1"]);
    let through = [SDP, ("X-Forwarded-For", "192.0.2.7"), ("X-Forwarded-Prefix", "/bridge/")];
    let location = bridge.request("POST", "/whip/a", &through, &offer(1)).location();
    assert!(location.starts_with("/bridge/whip/a/"), "{location}");
    let strangers = behind(&[]);
    let location = strangers.request("POST", "/whip/a", &through, &offer(1)).location();
    assert!(location.starts_with("/whip/a/"), "{location}");
}

#[test]
fn a_page_of_the_name_that_the_proxy_is_called_by_is_an_own_one() {
    let page = ("Origin", "https://live.example.net");
    let called = ("X-Forwarded-Host", "live.example.net");
    let client = ("X-Forwarded-For", "192.0.2.7");
    let token = Access { publish_token: Some("s3cret".into()), ..Access::default() };
    let trusted_proxies = TrustedProxies::parse(["127.0.0.1"]).unwrap();
    let bridge = Bridge::new(Access { trusted_proxies, ..token });
    let shown = ("Authorization", "Bearer s3cret");
    let response = bridge.request("POST", "/whip/a", &[SDP, page, called, client, shown], &offer(1));
    assert_eq!(response.status, 201);
    assert_eq!(response.header("access-control-allow-origin"), Some("https://live.example.net"));
}

/// An endpoint of one element.
fn element_behind(proxies: &[&str]) -> Served {
    let trusted_proxies = TrustedProxies::parse(proxies.iter().copied()).unwrap();
    Served::from_config(EndpointConfig { trusted_proxies, ..config("/whip/a", 0) })
}

fn last_client(served: &Served) -> String {
    served.answerer.offers.lock().unwrap().last().expect("an offer").1.ip().to_string()
}

#[test]
fn an_element_of_its_own_believes_the_proxies_that_it_names_and_no_others() {
    let through = [SDP, ("X-Forwarded-For", "192.0.2.7"), ("X-Forwarded-Prefix", "/studio")];
    let trusting = element_behind(&["127.0.0.1"]);
    let location = trusting.request("POST", "/whip/a", &through, &offer(1)).location();
    assert!(location.starts_with("/studio/whip/a/"), "{location}");
    assert_eq!(last_client(&trusting), "192.0.2.7");
    let strange = element_behind(&["10.0.0.0/8"]);
    let location = strange.request("POST", "/whip/a", &through, &offer(1)).location();
    assert!(location.starts_with("/whip/a/"), "{location}");
    assert_eq!(last_client(&strange), "0.0.0.0", "nobody of this machine");
}

#[test]
fn what_one_element_believes_holds_for_no_other_one_on_the_same_port() {
    let strict = element_behind(&[]);
    let trusted_proxies = TrustedProxies::parse(["127.0.0.1"]).unwrap();
    let beside = EndpointConfig { trusted_proxies, ..config("/whip/b", strict.addr().port()) };
    let _beside = mount(RUNTIME.handle(), beside, std::sync::Arc::new(strict.answerer.clone())).unwrap();
    let through = [SDP, ("X-Forwarded-For", "192.0.2.7")];
    for (path, client) in [("/whip/a", "0.0.0.0"), ("/whip/b", "192.0.2.7"), ("/whip/%61", "0.0.0.0")] {
        assert_eq!(strict.request("POST", path, &through, &offer(1)).status, 201, "{path}");
        assert_eq!(last_client(&strict), client, "{path}");
    }
}

/// A proxy with the configuration of docs/public-server.md; it ends with this.
struct Proxy {
    child: std::process::Child,
    address: SocketAddr,
    _folder: tempfile::TempDir,
}

/// The recipe of this kind, for this bridge.
fn recipe(kind: &str, bridge: &Bridge) -> String {
    let document = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/public-server.md")).unwrap();
    let begin = format!("```{kind}\n");
    let block = document.split(&begin).nth(1).and_then(|rest| rest.split("```").next()).expect("the recipe");
    block.replace("127.0.0.1:8080", &bridge.addr().to_string())
}

impl Proxy {
    fn caddy(bridge: &Bridge) -> Self {
        let address = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        // Without a certificate, which it would ask for on the internet.
        let site = recipe("caddy", bridge).replace("live.example.net", &format!("http://:{}", address.port()));
        let path = folder.path();
        std::fs::write(path.join("Caddyfile"), format!("{{\n admin off\n}}\n{site}")).unwrap();
        let child = Command::new("caddy")
            .args(["run", "--adapter", "caddyfile", "--config"])
            .arg(path.join("Caddyfile"))
            .env("HOME", path)
            .stderr(std::fs::File::create(path.join("log")).unwrap())
            .spawn()
            .expect("caddy runs (Debian package caddy)");
        Self { child, address, _folder: folder }.listening()
    }

    fn nginx(bridge: &Bridge) -> Self {
        let block = recipe("nginx", bridge);
        let (location, map) = block.split_once("map ").expect("both parts");
        let address = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().display();
        let configuration = format!(
            "daemon off; pid {path}/pid; error_log {path}/error; events {{}}\n\
             http {{ access_log off; client_body_temp_path {path}/body; proxy_temp_path {path}/proxy; \
             fastcgi_temp_path {path}/f; uwsgi_temp_path {path}/u; scgi_temp_path {path}/s;\n\
             map {map}\nserver {{ listen {address};\n{location}\n}} }}\n"
        );
        std::fs::write(folder.path().join("conf"), configuration).unwrap();
        let child = Command::new("nginx").arg("-c").arg(folder.path().join("conf")).spawn().expect("nginx runs");
        Self { child, address, _folder: folder }.listening()
    }

    fn listening(self) -> Self {
        let until = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(self.address).is_err() {
            assert!(Instant::now() < until, "the proxy does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        self
    }

    fn post(&self, path: &str, headers: &str) -> Response {
        let sdp = offer(1);
        Response::parse(&exchange(
            self.address,
            &format!(
                "POST {path} HTTP/1.1\r\nHost: live.example.net\r\nConnection: close\r\nContent-Type: application/sdp\r\n\
                 Content-Length: {}\r\n{headers}\r\n{sdp}",
                sdp.len()
            ),
        ))
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // Its workers end with it when it is asked to, and not when it is killed.
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}

#[test]
fn nginx_as_the_documentation_has_it_tells_the_client_and_the_path() {
    let bridge = Bridge::new(Access {
        trusted_proxies: TrustedProxies::parse(["127.0.0.1"]).unwrap(),
        publish_token: Some("s3cret".into()),
        ..Access::default()
    });
    let nginx = Proxy::nginx(&bridge);
    let forged = "Authorization: Bearer s3cret\r\nOrigin: https://live.example.net\r\nX-Forwarded-For: 192.0.2.66\r\n\
                  Forwarded: for=192.0.2.67\r\nX-Forwarded-Prefix: /elsewhere\r\nX-Forwarded-Host: evil.example\r\n";
    let response = nginx.post("/bridge/whip/a", forged);
    assert!(response.location().starts_with("/bridge/whip/a/"), "{}", response.location());
    let offers = bridge.answerer.offers.lock().unwrap();
    assert_eq!(offers.last().expect("an offer").1.ip().to_string(), "127.0.0.1", "who really asked");
}

#[test]
fn caddy_as_the_documentation_has_it_tells_the_client_and_the_name() {
    let bridge = Bridge::new(Access {
        trusted_proxies: TrustedProxies::parse(["127.0.0.1"]).unwrap(),
        publish_token: Some("s3cret".into()),
        ..Access::default()
    });
    let caddy = Proxy::caddy(&bridge);
    let forged = "Authorization: Bearer s3cret\r\nOrigin: https://live.example.net\r\nX-Forwarded-For: 192.0.2.66\r\n\
                  Forwarded: for=192.0.2.67\r\nX-Forwarded-Prefix: /elsewhere\r\nX-Forwarded-Host: evil.example\r\n";
    let response = caddy.post("/whip/a", forged);
    assert!(response.location().starts_with("/whip/a/"), "{} {}", response.status, response.body);
    assert_eq!(response.header("access-control-allow-origin"), Some("https://live.example.net"), "its own name");
    let offers = bridge.answerer.offers.lock().unwrap();
    assert_eq!(offers.last().expect("an offer").1.ip().to_string(), "127.0.0.1", "who really asked");
}
