//! What `rtmpbridgesink` sends, to RTMP servers that are not ours and that misbehave.

#[path = "../rtmp_support/fakes.rs"]
mod fakes;
#[path = "../rtmp_support/neighbour.rs"]
mod neighbour;
#[path = "../rtmp_support/receiver.rs"]
mod receiver;
#[path = "../rtmp_support/mod.rs"]
mod rtmp_support;
#[path = "../rtmp_support/stage.rs"]
mod stage;
#[path = "../rtmp_support/tls_front.rs"]
mod tls_front;

use rtmp_support::common;

mod backlog_is_bounded;
mod canvas;
mod destinations_are_isolated;
mod destinations_come_and_go;
mod encoders;
mod enhanced;
mod failures;
mod faults_are_told;
mod gaps;
mod hostile_servers;
mod presets;
mod rtmp_server_restarts;
mod rtmps;
mod streams;
mod time;
