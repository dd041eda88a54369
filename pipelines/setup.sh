# shellcheck shell=bash
# Set-up shared by pipelines/run, tests/run, tests/long and .ci/run: Debian packages and the Rust toolchain.
# Sourced, never run; the caller sets PROGRAM, the name that stands before messages. Leaves what to build and what to run to its callers.
# shellcheck disable=SC2034 # the package lists are for the callers

# What a checkout needs, as "package|why".
BUILD_PACKAGES=(
  "build-essential|the C linker and headers that Rust needs"
  "pkg-config|finds the GStreamer libraries"
  "libgstreamer1.0-dev|GStreamer core to build against"
  "libgstreamer-plugins-base1.0-dev|GStreamer app, audio, video, rtp libraries to build against"
)
PIPELINE_PACKAGES=(
  "gstreamer1.0-tools|gst-launch-1.0 runs the pipelines"
  "gstreamer1.0-plugins-base|app, audio and video conversion, Opus"
  "gstreamer1.0-plugins-good|RTP depayloaders, VP8 and VP9"
  "gstreamer1.0-plugins-bad|H.264 and AAC parsers, voaacenc"
  "gstreamer1.0-plugins-ugly|x264enc, the software H.264 encoder"
  "gstreamer1.0-libav|H.264 decoder, and an AAC encoder in reserve"
)
TEST_PACKAGES=(
  "libgstreamer-plugins-bad1.0-dev|the tests' own WebRTC publisher is built against it"
  "gstreamer1.0-nice|ICE for the tests' own WebRTC publisher"
  "nginx-light|the RTMP server that the tests push to"
  "libnginx-mod-rtmp|its RTMP module"
  "caddy|the other HTTP proxy whose recipe is tried"
  "systemd|looks at the unit file"
  "meson|installs the plugin into a folder"
  "ninja-build|meson's backend"
  "ffmpeg|ffprobe and ffmpeg inspect recordings"
  "chromium|the browser that the tests publish from"
  "chromium-driver|drives it"
  "firefox-esr|the other browser that the tests publish from"
  "coturn|the TURN server that the tests relay through"
  "iproute2|makes the networks that the tests of NAT need"
  "nftables|makes the NATs between them"
  "procps|sends signals to single processes"
  "faketime|sets the clock of single processes"
  "gdb|shows where all threads are when nothing moves"
  "espeak-ng|speaks to the transcriber example"
  "gstreamer1.0-pocketsphinx|the recogniser that listens there"
  "pocketsphinx-en-us|its English model"
  "python3-prometheus-client|reads what /metrics says"
  "python3-aiortc|a WebRTC peer that is neither ours nor a browser"
)
CI_PACKAGES=(
  "shellcheck|checks the shell scripts"
)

# The oldest rustc that gstreamer-rs 0.25 builds with.
RUST_MINIMUM=1.92

say() { printf '== %s\n' "$*" >&2; }
warn() { printf '%s: warning: %s\n' "$PROGRAM" "$*" >&2; }
die() {
  printf '%s: %s\n' "$PROGRAM" "$*" >&2
  exit 1
}

# Runs a command as root.
as_root() {
  if [[ $EUID -eq 0 ]]; then
    "$@"
  elif command -v sudo >/dev/null; then
    sudo "$@"
  else
    die "this needs root, and there is no sudo. As root, run: $*"
  fi
}

package_installed() {
  [[ $(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null) == installed ]]
}

# need_packages "name|why" …: installs those that are missing, after saying which and why.
need_packages() {
  local entry missing=()
  if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
    warn "not a Debian system: packages are not checked. What is needed, by Debian's names:"
    for entry in "$@"; do warn "  ${entry%%|*}: ${entry#*|}"; done
    return 0
  fi
  for entry in "$@"; do
    package_installed "${entry%%|*}" || missing+=("$entry")
  done
  ((${#missing[@]})) || return 0
  say "These packages are missing and will be installed with apt-get:"
  for entry in "${missing[@]}"; do printf '     %-34s %s\n' "${entry%%|*}" "${entry#*|}" >&2; done
  as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq </dev/null >&2 ||
    warn "apt-get update failed; trying with the lists that are here"
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]%%|*}" \
    </dev/null >&2 || die "apt-get could not install: ${missing[*]%%|*}"
}

# Checks that cargo and a new enough rustc are there; else prints the line that gets them.
need_rust() {
  local have fix
  if ! command -v cargo >/dev/null && [[ -x ${CARGO_HOME:-$HOME/.cargo}/bin/cargo ]]; then
    PATH=${CARGO_HOME:-$HOME/.cargo}/bin:$PATH
  fi
  if command -v rustup >/dev/null; then
    fix="rustup update stable && rustup default stable"
  else
    fix="curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y && . \"\$HOME/.cargo/env\""
    command -v curl >/dev/null || fix="apt-get install -y curl ca-certificates && $fix"
  fi
  if ! command -v cargo >/dev/null || ! command -v rustc >/dev/null; then
    die "no Rust toolchain found. This gets one:
  $fix"
  fi
  have=$(rustc --version | awk '{ print $2 }')
  if [[ $(printf '%s\n%s\n' "$RUST_MINIMUM" "${have%%-*}" | sort -V | head -n 1) != "$RUST_MINIMUM" ]]; then
    die "rustc $have is older than the $RUST_MINIMUM that gstreamer-rs needs. This gets a newer one:
  $fix"
  fi
}
