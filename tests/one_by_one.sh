# shellcheck shell=bash
# For tests/in_debian, and for tests/run and tests/long where cargo-nextest is missing: each test in a process of its own, as
# nextest does it, because tests count what their process holds. Sourced, never run; needs pipelines/setup.sh.

# list_tests "LIST OPTION …" [CARGO OPTION …]: builds, then prints "PROGRAM EXECUTABLE TEST" for each test.
list_tests() {
  local options=$1 built executable program
  shift
  built=$(cargo test --workspace --locked --no-run --color never "$@" 2>&1 </dev/null) || die "the tests do not build:
$built"
  sed -n 's/^ *Executable .*(\(.*\))$/\1/p' <<<"$built" | while read -r executable; do
    program=${executable##*/}
    # shellcheck disable=SC2086 # several options
    "$executable" --list --format terse $options </dev/null |
      sed -n "s|^\(.*\): test\$|${program%-*} $executable \1|p"
  done
}

# run_one LIMIT RESULTS PROGRAM EXECUTABLE TEST [OPTION …]: one test, at most for LIMIT; its output only where it fails. RESULTS gets
# "RESULT PROGRAM TEST BEGIN END", in seconds of the epoch.
run_one() {
  local limit=$1 results=$2 name="$3 $5" executable=$4 test=$5 log result=PASS began=$EPOCHSECONDS
  shift 5
  log=$(mktemp)
  timeout "$limit" "$executable" --exact "$test" "$@" >"$log" 2>&1 </dev/null || result=FAIL
  [[ $result == FAIL ]] || ! grep -q ' 1 ignored' "$log" || result=SKIP
  [[ $result == SKIP ]] || printf '%s [%4d s] %s\n' "$result" $((EPOCHSECONDS - began)) "$name"
  [[ $result != FAIL ]] || cat "$log"
  printf '%s %s %s %s\n' "$result" "$name" "$began" "$EPOCHSECONDS" >>"$results"
  rm -f -- "$log"
}
export -f run_one

# run_tests AT_ONCE LIMIT RESULTS [OPTION …] <LIST: RESULTS gets a line for each test.
run_tests() {
  local at_once=$1 limit=$2 results=$3 line
  shift 3
  # No blank at the end of a line: for xargs the next line would belong to it.
  while read -r line; do printf '%s\n' "$limit $results $line${*:+ $*}"; done |
    xargs -r -P "$at_once" -L 1 bash -c 'run_one "$@"' run_one
}

# run_by_weight CHOSEN RESULTS: the tests that the file CHOSEN lists, as many at once as two cores bear.
run_by_weight() {
  local chosen=$1 results=$2 two all soak soaking
  # What tests weigh is said in .config/nextest.toml: browsers come one at a time beside what is light, then those that need
  # more than a thread, then those that need all.
  two='^(rtmp .* (canvas|encoders|enhanced|gaps|destinations_are_isolated|faults_are_told|time)::|launch .* (launch_lines|pipelines_run::a_bridge)'
  two+='|session .* forwarding::fifty_viewers|bridge .* faults::'
  two+='|examples .* (effects|embedded::embed_echo|offerer_and_answerer)'
  two+='|ingest .* (audio_and_video_in_sync|h265_arrives_as_h264|lossy_network|passthrough_is_bit_exact|stalls_and_floods)::'
  two+='|peers .* (echoes|egress_serves|egress_pushes|others_watch|pushes_by_the_rules|two_elements|two_peers|viewers_talk)::)'
  all='^(bridge .* endurance::|rtmp .* backlog_is_bounded::)'
  # The soak is five minutes of all that there is, beside the light ones.
  soak='^bridge .* soak::'
  { grep -E "$soak" "$chosen" || true; } | run_tests 1 10m "$results" &
  soaking=$!
  { grep -E '^browsers ' "$chosen" || true; } | run_tests 1 3m "$results" &
  { grep -Ev "$two|$all|$soak|^browsers " "$chosen" || true; } | run_tests 3 3m "$results" || true
  wait "$!" || true
  { grep -E "$two" "$chosen" || true; } | run_tests 2 3m "$results" || true
  wait "$soaking" || true
  { grep -E "$all" "$chosen" || true; } | run_tests 1 3m "$results" || true
}

# sum_up RESULTS: how many of which kind, and whether all is well.
sum_up() {
  awk '{ count[$1]++ } $1 == "FAIL" { print $1, $2, $3 }
    END { printf "Summary: %d tests passed, %d failed, %d skipped\n", count["PASS"], count["FAIL"], count["SKIP"]
      exit count["FAIL"] > 0 || count["PASS"] == 0 }' "$1"
}
