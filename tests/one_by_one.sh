# shellcheck shell=bash
# For tests/run and tests/long where cargo-nextest is missing: each test in a process of its own, as nextest does it, because
# tests count what their process holds. Sourced, never run; needs pipelines/setup.sh.

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

# run_one LIMIT RESULTS PROGRAM EXECUTABLE TEST [OPTION …]: one test, at most for LIMIT; its output only where it fails.
run_one() {
  local limit=$1 results=$2 name="$3 $5" executable=$4 test=$5 log result=PASS began=$SECONDS
  shift 5
  log=$(mktemp)
  timeout "$limit" "$executable" --exact "$test" "$@" >"$log" 2>&1 </dev/null || result=FAIL
  [[ $result == FAIL ]] || ! grep -q ' 1 ignored' "$log" || result=SKIP
  [[ $result == SKIP ]] || printf '%s [%4d s] %s\n' "$result" $((SECONDS - began)) "$name"
  [[ $result != FAIL ]] || cat "$log"
  printf '%s %s\n' "$result" "$name" >>"$results"
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

# sum_up RESULTS: how many of which kind, and whether all is well.
sum_up() {
  awk '{ count[$1]++ } $1 == "FAIL" { print }
    END { printf "Summary: %d tests passed, %d failed, %d skipped\n", count["PASS"], count["FAIL"], count["SKIP"]
      exit count["FAIL"] > 0 || count["PASS"] == 0 }' "$1"
}
