//! What `webrtcingest` makes of a publisher: pads, timestamps, keyframes, layers, and how a session ends.

#[path = "../common/mod.rs"]
mod common;

mod application_decides;
mod audio_and_video_in_sync;
mod broken_pictures;
mod h265_arrives_as_h264;
mod keyframes;
mod lossy_network;
mod lost_peer_returns;
mod obs_publishes;
mod one_track_is_enough;
mod opus;
mod packet_loss;
mod passthrough_is_bit_exact;
mod publishers_come_and_go;
mod session_lifetime;
mod simulcast;
mod stalls_and_floods;
mod timestamps_at_the_pads;
