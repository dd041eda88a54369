//! What somebody at a shell meets: launch lines, `pipelines/run`, mistakes in settings, Ctrl-C; and the tests' own means.

#[path = "../common/mod.rs"]
mod common;

mod bad_settings_are_named;
mod doctor;
mod harness;
mod interrupt_ends_cleanly;
mod launch_lines;
mod packaging;
mod pipelines_run;
mod stream_keys_stay_secret;
mod troubleshooting_is_true;
