# shellcheck shell=bash
# Tells a test that failed from one that was not given the processors: the host of a virtual machine takes them away for most
# of a second at a time (`st` of vmstat), and whoever waits for a picture then waits in vain. What failed while that was so
# says nothing of the code, and is run again, once, alone and said aloud; what failed otherwise has failed. Sourced, never run.

# The shares of all processors, in percent, that the host took in some second of a test, or all the time: from here on one that
# fails is not judged. Some second like that is in every longer test: of those only the whole counts.
TAKEN_ONCE=40
SECONDS_OF_ONE=90
TAKEN_ALL_THE_TIME=10
# More than these have another reason.
AT_MOST=40

# watch_host LOG: a line "SECOND PERCENT" for each second, until it is killed.
watch_host() {
  local log=$1 ticks all steal all_before='' steal_before=0 tick
  while read -r _ ticks </proc/stat; do
    # user nice system idle iowait irq softirq steal; those of guests are in user and nice already.
    read -ra ticks <<<"$ticks"
    all=0 steal=${ticks[7]:-0}
    for tick in "${ticks[@]:0:8}"; do all=$((all + tick)); done
    if [[ -n $all_before && $all -gt $all_before ]]; then
      printf '%s %s\n' "$EPOCHSECONDS" $(((steal - steal_before) * 100 / (all - all_before))) >>"$log"
    fi
    all_before=$all steal_before=$steal
    sleep 1
  done
}

# judge_failures HOST_LOG <FAILED: of lines "PROGRAM TEST BEGIN END" (seconds of the epoch) prints "PROGRAM TEST" of each and
# says what the host took meanwhile. Fails where one had the processors, where there are too many, and where there is none.
judge_failures() {
  awk -v once="$TAKEN_ONCE" -v short="$SECONDS_OF_ONE" -v throughout="$TAKEN_ALL_THE_TIME" -v at_most="$AT_MOST" -v program="${PROGRAM:?}" '
    function say(text) { print program ": " text >"/dev/stderr" }
    FILENAME == ARGV[1] { second[++seconds] = $1; taken[seconds] = $2; next }
    {
      failed++
      worst = sum = count = 0
      # A sample tells of the second before it.
      for (i = 1; i <= seconds; i++)
        if (second[i] >= $3 && second[i] <= $4 + 1) {
          count++
          sum += taken[i]
          if (taken[i] > worst) worst = taken[i]
        }
      mean = count ? sum / count : 0
      robbed = mean >= throughout || (worst >= once && $4 - $3 <= short)
      if (!robbed) judged++
      say(sprintf("%s %s failed; %s: the host took %d %% of them, at worst %d %% of a second", $1, $2,
        robbed ? "it had not the processors" : "it had the processors", mean, worst))
      print $1, $2
    }
    END {
      if (failed > at_most) say(failed " tests failed: that is not the host")
      exit judged > 0 || failed > at_most || !failed
    }' "$1" -
}

# failed_of_junit JUNIT: lines "PROGRAM TEST BEGIN END" of the tests that failed, of what nextest writes.
failed_of_junit() {
  local program='' test='' timestamp='' time='' line
  while IFS= read -r line; do
    case $line in
      *'<testcase '*)
        program=$(attribute classname "$line") test=$(attribute name "$line")
        timestamp=$(attribute timestamp "$line") time=$(attribute time "$line")
        ;;
      *'<failure'* | *'<error'*)
        [[ -z $test ]] || printf '%s %s %s %s\n' "$program" "$test" "$(date -d "$timestamp" +%s)" \
          $(($(date -d "$timestamp" +%s) + ${time%%.*} + 1))
        test=''
        ;;
    esac
  done <"$1"
}

# attribute NAME ELEMENT: its value.
attribute() { sed -n "s/.* $1=\"\([^\"]*\)\".*/\1/p" <<<"$2"; }
