# Owns the tests of a clock that is set, and of a machine that sleeps, while the agent traces and watches, for `init.sh`, whose
# functions it uses: the calendar goes a day and some hours on, and back by twice as much, and then the guest is suspended
# to memory for half a minute. All that is told must go on as if nothing was.

# reports FILE: how many reports are in it so far.
reports() { grep -o '"report":[0-9]*' "$1" | sort -u | wc -l; }

# await_reports COUNT FILE: until so many more are there, two minutes at most.
await_reports() {
    wanted=$(($(reports "$2") + $1))
    for _ in $(seq 120); do
        [ "$(reports "$2")" -ge $wanted ] && return 0
        sleep 1
    done
    return 1
}

# await_both COUNT: so many more of the trace and of watching.
await_both() { await_reports "$1" /tmp/traced && await_reports "$1" /tmp/watched; }

# of PID FILE: a process's lines.
of() { grep '"type":"process"' "$2" | grep "\"pid\":$1,"; }

# dates FILE: when each line is of.
dates() { sed 's/.*"time":"\([^"]*\)".*/\1/' "$1"; }

# steady FILE: from one line to the next no time goes back, and none goes on by more than a minute.
steady() {
    dates "$1" >/tmp/times
    sort -c /tmp/times && awk -F '[T:Z]' '
        { now = $2 * 3600 + $3 * 60 + $4; step = (now - before + 86400) % 86400 }
        NR > 1 && step > 60 { exit 1 }
        { before = now }' /tmp/times
}

# ages FILE: of the oldest block of the one site in it, which is never younger than before, nor older than the guest.
ages() {
    sed 's/.*"oldest_age_seconds":\([0-9.]*\).*/\1/' "$1" | awk '
        $1 < before || $1 > 600 { exit 1 }
        { before = $1; count++ }
        END { exit count < 6 }'
}

# identified PID FILE: its lines have one start, and no report has two of them.
identified() {
    of "$1" "$2" >/tmp/lines
    [ "$(sed 's/.*"start_time":"\([^"]*\)".*/\1/' /tmp/lines | sort -u | wc -l)" = 1 ] &&
        [ -z "$(sed 's/.*"report":\([0-9]*\).*/\1/' /tmp/lines | sort | uniq -d)" ]
}

# rate FILE: the growth that the last line tells, in whole bytes a second.
rate() { tail -n1 "$1" | sed 's/.*"growth_bytes_per_second":\([0-9]*\).*/\1/'; }

set_clock() { date -s "@$(($(date +%s) + $1))" >/dev/null; }

# sleep_for SECONDS: suspends the guest to memory, until its clock that runs on a battery wakes it.
sleep_for() {
    echo "+$1" >/sys/class/rtc/rtc0/wakealarm && echo mem >/sys/power/state
    dmesg >/tmp/slept
    grep -q "PM: suspend exit" /tmp/slept
}

# last COUNT WHAT FILE: whether that is in each of so many last lines.
last() { [ "$(tail -n$1 "$3" | grep -c "$2")" = "$1" ]; }

test_clock() {
    mkfifo /tmp/start
    holder </tmp/start >/tmp/held &
    holder=$!
    exec 4>/tmp/start
    grower &
    grower=$!
    leaktrace trace --interval 3s --min-age 0s --format json --output /tmp/traced --pid $holder --pid $grower 2>/tmp/trace-errors &
    trace=$!
    check "the probes of two load and attach" /tmp/trace-errors await "^leaktrace: tracing 2 process" /tmp/trace-errors
    echo >&4
    leaktrace watch --interval 3s --look-every 1s --state /tmp/state >/tmp/watched 2>/tmp/watch-errors &
    watch=$!
    check "a leak is found" /tmp/traced await '"type":"site".*"verdict":"growing".*"function":"grow"' /tmp/traced
    check "and watched" /tmp/watch-errors await "pid $grower (grower) keeps growing" /tmp/watch-errors
    before=$(date +%s)
    set_clock 100000
    check "the clock is set on" /dev/null [ "$(date +%s)" -ge $((before + 100000)) ]
    check "reports go on" /tmp/trace-errors await_both 3
    set_clock -200000
    check "the clock is set back" /dev/null [ "$(date +%s)" -le $((before - 90000)) ]
    check "reports go on again" /tmp/trace-errors await_both 3
    before=$(cut -d. -f1 /proc/uptime)
    check "the guest sleeps" /tmp/slept sleep_for 30
    check "for long" /proc/uptime [ "$(cut -d. -f1 /proc/uptime)" -ge $((before + 30)) ]
    check "reports go on after that" /tmp/trace-errors await_both 3
    kill -INT $trace $watch
    wait $trace
    check "the trace ends well" /tmp/trace-errors is $? 0
    wait $watch
    check "watching ends well" /tmp/watch-errors is $? 0
    for stream in /tmp/traced /tmp/watched; do
        check "times go on: $stream" /tmp/times steady $stream
        for pid in $holder $grower; do
            check "one process, told once: $stream" /tmp/lines identified $pid $stream
        done
        of $grower $stream >/tmp/told
        check "it grows to the end: $stream" /tmp/told last 1 '"verdict":"growing"' /tmp/told
        check "as fast as before: $stream" /tmp/told [ "$(rate /tmp/told)" -gt 150000 -a "$(rate /tmp/told)" -lt 600000 ]
        check "it did not come back: $stream" /tmp/told is "$(grep -c 'started again' /tmp/told)" 0
    done
    of $holder /tmp/traced >/tmp/told
    check "to the object and the byte, each time" /tmp/told last 6 '"live_bytes":81000,"live_count":2000,' /tmp/told
    check "every call still seen" /tmp/told last 6 '"kind":"exact","sample_bytes":0,"lost":{}' /tmp/told
    grep '"type":"site"' /tmp/traced | grep '"function":"hold"' >/tmp/sites
    check "ages go on" /tmp/sites ages /tmp/sites
    leaktrace watch --interval 2s --look-every 1s --duration 3s --state /tmp/state >/tmp/rewatched 2>/tmp/watch-errors
    of $grower /tmp/rewatched | head -n1 >/tmp/told
    check "what was learnt still holds" /tmp/told last 1 '"verdict":"growing"' /tmp/told
    kill $grower $holder
}
