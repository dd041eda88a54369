//! What is around the machine: ports, the kernel's buffers, STUN and TURN servers.

use std::{
    net::{TcpListener, UdpSocket},
    sync::Arc,
    time::Duration,
};

use gstwebrtcbridge::{
    bridge::{IceTransportPolicy, reach_config},
    session::{Mux, Reach, ReachConfig, UdpPorts, local_addresses},
    signaling::IceServer,
};

use crate::finding::Finding;

/// A server that has not answered by then does not; it is given up before.
const PATIENCE: Duration = Duration::from_secs(15);
/// What the shared UDP port asks the kernel for.
const BUFFER: u64 = 8 << 20;

pub(crate) fn ports(listen: Option<&str>, udp_port: Option<u16>) -> Vec<Finding> {
    let addresses: Vec<String> = local_addresses().iter().map(ToString::to_string).collect();
    let mut findings = vec![match addresses.is_empty() {
        true => Finding::problem("addresses", "this machine has none", "bring a network interface up"),
        false => Finding::fine("addresses", format!("peers are told of {}", addresses.join(", "))),
    }];
    if let Some(listen) = listen {
        findings.push(match TcpListener::bind(listen) {
            Ok(_) => Finding::fine("HTTP port", format!("{listen} can be listened on")),
            Err(error) => Finding::problem(
                "HTTP port",
                format!("{listen} cannot be listened on: {error}"),
                "choose another one, or end what has it: ss -ltnp",
            ),
        });
    }
    if let Some(port) = udp_port {
        findings.push(match UdpSocket::bind(("0.0.0.0", port)) {
            Ok(_) => Finding::fine("UDP port", format!("{port} is free; the firewall has to let it in")),
            Err(error) => Finding::problem(
                "UDP port",
                format!("{port} cannot be used: {error}"),
                "choose another ice-udp-port, or end what has it: ss -lunp",
            ),
        });
    }
    findings
}

pub(crate) fn buffers() -> Finding {
    let path = "/proc/sys/net/core/rmem_max";
    let most = std::fs::read_to_string(path).ok().and_then(|text| text.trim().parse::<u64>().ok());
    match most {
        Some(most) if most < BUFFER => Finding::warning(
            "UDP buffers",
            format!("the kernel gives {} KiB at most: keyframes of many publishers at once may be lost", most >> 10),
            format!("sysctl -w net.core.rmem_max={BUFFER} net.core.wmem_max={BUFFER}, and the same in /etc/sysctl.d/"),
        ),
        Some(_) => Finding::fine("UDP buffers", "large enough"),
        None => Finding::fine("UDP buffers", "not known on this system"),
    }
}

/// Uses each server once, as a bridge would.
pub(crate) fn servers(stun: Option<&str>, turn: &[String]) -> Vec<Finding> {
    let stun = stun.map(|text| ("STUN server", text));
    let turn = turn.iter().map(|text| ("TURN server", text.as_str()));
    stun.into_iter().chain(turn).map(|(kind, text)| server(kind, text)).collect()
}

fn server(kind: &str, text: &str) -> Finding {
    let shown = format!("{kind} {}", IceServer::redacted(text));
    let read = IceServer::parse(text).map_err(|error| error.to_string());
    let config = read.and_then(|server| reach_config(&[server], false, IceTransportPolicy::All));
    let advice = "see docs/public-server.md; peers that cannot reach this machine directly need a TURN server";
    match config.and_then(used) {
        Ok(found) => Finding::fine(shown, found),
        Err(why) => Finding::problem(shown, why, advice),
    }
}

fn used(config: ReachConfig) -> Result<String, String> {
    let is_stun = config.stun.is_some();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let outcome = runtime.block_on(async {
        let mux = Arc::new(Mux::bind(UdpPorts::Any).map_err(|error| error.to_string())?);
        let reach = Reach::open(&mux, config, |_| ()).map_err(|error| error.to_string())?;
        let outcomes = tokio::time::timeout(PATIENCE, reach.outcomes()).await;
        outcomes.map_err(|_| "it does not answer".to_owned())?.pop().unwrap_or_else(|| Err("nothing was asked".into()))
    })?;
    Ok(match is_stun {
        true => format!("it sees this machine at {}", outcome.ip()),
        false => format!("it relays at {outcome}"),
    })
}
