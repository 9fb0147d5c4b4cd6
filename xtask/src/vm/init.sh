#!/bin/busybox sh
# Owns the tests inside a guest. `expect` is on the kernel's command line, which makes it a
# variable here: multi, perf, refusal, or whole. The last line is the verdict.
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs tmp /tmp
passed=0
failed=0

# check NAME FILE COMMAND...: counts whether the command succeeds; the file is shown where not.
check() {
    name=$1 file=$2
    shift 2
    if "$@"; then
        passed=$((passed + 1))
        echo "ok      $name"
    else
        failed=$((failed + 1))
        echo "FAILED  $name"
        cut -c1-2000 "$file"
    fi
}

# await WORD FILE: until a line with the word is there, two minutes at most.
await() {
    for _ in $(seq 120); do
        grep -q "$1" "$2" && return 0
        sleep 1
    done
    return 1
}

is() { [ "$1" = "$2" ]; }

. /clock.sh

echo "kernel  $(uname -r), expected: $expect"
leaktrace doctor >/tmp/doctor 2>&1
doctor=$?

program=holder
[ "$expect" = whole ] && program=storm
mkfifo /tmp/go
$program </tmp/go >/tmp/holder &
holder=$!
exec 3>/tmp/go
: >/tmp/errors
leaktrace trace --min-age 0s --top 100 --format json --output /tmp/stream --pid $holder 2>/tmp/errors &
agent=$!

if [ "$expect" = refusal ]; then
    wait $agent
    code=$?
    check "doctor refuses" /tmp/doctor is $doctor 2
    check "doctor names the remedy" /tmp/doctor grep -q "^refused.*Linux 5.15 or later" /tmp/doctor
    check "trace refuses" /tmp/errors is $code 2
    check "trace names the remedy" /tmp/errors grep -q "remedy: Linux 5.15 or later" /tmp/errors
    check "in one line" /tmp/errors is "$(wc -l </tmp/errors)" 1
elif [ "$expect" = whole ]; then
    mount -t debugfs debug /sys/kernel/debug
    check "probes are preempted" /sys/kernel/debug/sched/preempt grep -q "(full)" /sys/kernel/debug/sched/preempt
    check "the probes load and attach" /tmp/errors await "^leaktrace: tracing 1 process" /tmp/errors
    echo >&3
    check "the program settles" /tmp/holder await settled /tmp/holder
    kill -INT $agent
    wait $agent
    grep '"type":"process"' /tmp/stream >/tmp/process
    grep '"function":"[a-z]*_descend"' /tmp/stream >/tmp/site
    check "every call seen" /tmp/process grep -q '"kind":"exact","sample_bytes":0,"lost":{}' /tmp/process
    # Each thread has a site for each of its 12 depths, with 250 blocks, and all its stacks are its own from end to end.
    check "sites" /tmp/site is "$(wc -l </tmp/site)" 48
    check "blocks" /tmp/site is "$(grep -c '"live_count":250,' /tmp/site)" 48
    check "no stack ends early" /tmp/site is "$(grep -c '"stack_truncated"' /tmp/site)" 0
    for thread in north east south west; do
        others=$(echo north east south west | sed "s/$thread//; s/^ *//; s/  *$//; s/  */\\|/g")
        grep "\"function\":\"${thread}_descend\"" /tmp/site >/tmp/$thread
        check "stacks of $thread" /tmp/$thread is "$(wc -l </tmp/$thread)" 12
        check "whole" /tmp/$thread is "$(grep -c "\"function\":\"${thread}_thread\"" /tmp/$thread)" 12
        check "not spliced" /tmp/$thread is "$(grep -c "\"function\":\"\($others\)_" /tmp/$thread)" 0
    done
else
    way="by perf events"
    [ "$expect" = multi ] && way="by uprobe_multi links"
    check "doctor allows" /tmp/doctor is $doctor 0
    check "doctor finds the way" /tmp/doctor grep -q "^ok *user probes *$way" /tmp/doctor
    check "the probes load and attach" /tmp/errors await "^leaktrace: tracing 1 process" /tmp/errors
    echo >&3
    check "the program settles" /tmp/holder await settled /tmp/holder
    kill -INT $agent
    wait $agent
    check "the trace ends well" /tmp/errors is $? 0
    grep '"type":"process"' /tmp/stream >/tmp/process
    grep '"type":"site"' /tmp/stream >/tmp/site
    check "to the object" /tmp/process grep -q '"live_count":2000,' /tmp/process
    check "to the byte" /tmp/process grep -q '"live_bytes":81000,' /tmp/process
    check "every call seen" /tmp/process grep -q '"kind":"exact","sample_bytes":0,"lost":{}' /tmp/process
    check "one site" /tmp/site is "$(wc -l </tmp/site)" 1
    check "named" /tmp/site grep -q '"function":"hold"' /tmp/site
    check "alive after the trace" /tmp/holder kill -0 $holder
    test_clock
fi
echo "verdict: $passed passed, $failed failed"
reboot -f
