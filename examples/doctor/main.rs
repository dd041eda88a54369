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

use clap::Parser;
use finding::{Finding, Status};

/// Looks at a machine that is to run a bridge, and says what to do.
#[derive(Debug, Parser)]
struct Request {
    /// HOST:PORT that a server is to listen on
    #[arg(long)]
    listen: Option<String>,
    /// the UDP port for media
    #[arg(long)]
    udp_port: Option<u16>,
    /// certificate and key, PEM files
    #[arg(long, num_args = 2, value_names = ["CERTIFICATE", "KEY"])]
    tls: Option<Vec<String>>,
    /// stun://HOST:PORT
    #[arg(long)]
    stun: Option<String>,
    /// turn(s)://USER:PASSWORD@HOST:PORT?transport=udp|tcp; may be given several times
    #[arg(long)]
    turn: Vec<String>,
    /// findings as JSON
    #[arg(long)]
    json: bool,
}

fn main() -> std::process::ExitCode {
    let request = Request::parse();
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
    if let Some([certificate, key]) = request.tls.as_deref() {
        findings.push(checks::tls(certificate, key));
    }
    findings.extend(network::servers(request.stun.as_deref(), &request.turn));
    findings
}
