//! Looks at a machine that is to run a bridge, and says what to do: GStreamer's plugins, encoders, ports, TLS files, STUN
//! and TURN servers.
//!
//! ```sh
//! cargo run --example doctor -- --listen 0.0.0.0:8443 --udp-port 5000 --tls cert.pem key.pem \
//!     --stun stun://stun.example.net:3478 --turn 'turns://user:password@turn.example.net:443?transport=tcp' [--json]
//! ```
//!
//! Without arguments it looks at what needs none. It ends with 1 if something is wrong that nothing works without.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod checks;
mod finding;
mod network;

use finding::{Finding, Status};

/// What is to be looked at.
#[derive(Debug, Default)]
struct Request {
    listen: Option<String>,
    udp_port: Option<u16>,
    tls: Option<(String, String)>,
    stun: Option<String>,
    turn: Vec<String>,
    json: bool,
}

impl Request {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut request = Self::default();
        while let Some(option) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| format!("{option} needs a value"));
            match option.as_str() {
                "--listen" => request.listen = Some(value()?),
                "--udp-port" => {
                    let port = value()?;
                    request.udp_port = Some(port.parse().map_err(|_| format!("--udp-port: \"{port}\" is no port"))?);
                }
                "--tls" => request.tls = Some((value()?, value()?)),
                "--stun" => request.stun = Some(value()?),
                "--turn" => request.turn.push(value()?),
                "--json" => request.json = true,
                other => return Err(format!("\"{other}\" is not known; see the head of examples/doctor/main.rs")),
            }
        }
        Ok(request)
    }
}

fn main() -> std::process::ExitCode {
    let request = match Request::parse(std::env::args().skip(1)) {
        Ok(request) => request,
        Err(error) => {
            eprintln!("doctor: {error}");
            return 2.into();
        }
    };
    let findings = look(&request);
    if request.json {
        println!("{}", finding::json(&findings));
    } else {
        findings.iter().for_each(|finding| println!("{finding}"));
    }
    u8::from(findings.iter().any(|finding| finding.status == Status::Problem)).into()
}

fn look(request: &Request) -> Vec<Finding> {
    if let Err(error) = gst::init() {
        return vec![Finding::problem("gstreamer", error.to_string(), "install libgstreamer1.0-0")];
    }
    let mut findings = checks::plugins();
    findings.extend(checks::encoders());
    findings.extend(network::ports(request.listen.as_deref(), request.udp_port));
    findings.push(network::buffers());
    findings.extend(request.tls.as_ref().map(|(certificate, key)| checks::tls(certificate, key)));
    findings.extend(network::servers(request.stun.as_deref(), &request.turn));
    findings
}
